package platform

import (
	"crypto/sha256"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/names"
	"github.com/gatehouse-dev/gatehouse/policy/platform/constraint"
)

// A reporter reads the text of a policy or of builders.
type reporter struct {
	*document.Reporter
	cel *constraint.Compiler // made for the first constraint
}

func newReporter(file string) *reporter { return &reporter{Reporter: document.New(file)} }

// ParsePolicy parses and checks a policy. file is what diagnostics call it. The
// Policy is nil if there is an error among them.
func ParsePolicy(file string, data []byte) (*Policy, document.Diagnostics) {
	r := newReporter(file)
	p := r.policy(data)
	if !r.Erred() {
		r.lint(p)
	}
	diags := r.Diagnostics()
	if r.Erred() {
		return nil, diags
	}
	p.File, p.digest = file, sha256.Sum256(data)
	return p, diags
}

func (r *reporter) policy(data []byte) *Policy {
	p := &Policy{}
	root := r.Load(data, MaxPolicy)
	if root == nil {
		return p
	}
	f, ok := r.Fields(root, "platform policy", "name", "description", "etag", "updateTime", "gkePolicy")
	if !ok && len(f.Values) == 0 {
		return p
	}
	p.Name = r.Text(f, "name")
	p.Description = r.Text(f, "description")
	p.ETag = r.Text(f, "etag")
	p.UpdateTime = r.Text(f, "updateTime")
	if p.Name != "" && !isPolicyName(p.Name) {
		r.Warnf(f.Lines["name"], "name: %.200q is ignored, since it does not have the form projects/*/platforms/gke/policies/*", p.Name)
		p.Name = ""
	}
	n := f.Values["gkePolicy"]
	if n == nil {
		r.Errorf(root.Line, "gkePolicy is missing; every platform policy needs it")
		return p
	}
	r.gkePolicy(p, n)
	return p
}

// ReadPolicy reads and checks a gkePolicy that is a part of a text: a tree that
// [document.Reporter.Check] has found safe to walk. The Policy is nil if there is an
// error.
//
// The text is what its version is made from, and not read.
func ReadPolicy(d *document.Reporter, gkePolicy *yaml.Node, text []byte) *Policy {
	r, p := &reporter{Reporter: d}, &Policy{}
	r.gkePolicy(p, gkePolicy)
	if r.Erred() {
		return nil
	}
	r.lint(p)
	p.File, p.digest = r.File, sha256.Sum256(text)
	return p
}

func (r *reporter) gkePolicy(p *Policy, n *yaml.Node) {
	g, _ := r.Fields(n, "gkePolicy", "imageAllowlist", "checkSets")
	p.Allow = r.allowlist(g)
	for i, n := range r.List(g, "checkSets") {
		p.CheckSets = append(p.CheckSets, r.checkSet(n, i))
	}
	r.checkOrder(p.CheckSets)
}

func isPolicyName(name string) bool {
	parts := strings.Split(name, "/")
	return len(parts) == 6 && parts[0] == "projects" && names.IsSegment(parts[1]) && parts[2] == "platforms" && parts[3] == "gke" &&
		parts[4] == "policies" && names.IsSegment(parts[5])
}

// checkOrder checks that the most specific check set for a pod is the first.
func (r *reporter) checkOrder(sets []CheckSet) {
	rank := func(s policy.Scope) int {
		switch {
		case s.ServiceAccount != "":
			return 0
		case s.Namespace != "":
			return 1
		}
		return 2
	}
	lines := map[policy.Scope]int{}
	for i := range sets {
		s := &sets[i]
		switch first := lines[s.Scope]; {
		case first != 0:
			r.Errorf(s.Line, "check set %d has the same scope as the one at line %d, and would never be used", i, first)
		case i > 0 && rank(s.Scope) < rank(sets[i-1].Scope):
			r.Errorf(s.Line, "check set %d is more specific than the one before it; first come service accounts, then namespaces, and last the check set without a scope", i)
		}
		if lines[s.Scope] == 0 {
			lines[s.Scope] = s.Line
		}
	}
	if n := len(sets); n > 0 && lines[policy.Scope{}] == 0 {
		r.Errorf(sets[n-1].Line, "the last check set must be one without a scope, which is for every other pod")
	}
}

func (r *reporter) checkSet(n *yaml.Node, index int) CheckSet {
	s := CheckSet{Line: n.Line}
	f, ok := r.Fields(n, "checkSets", "displayName", "scope", "imageAllowlist", "checks")
	if !ok && len(f.Values) == 0 {
		return s
	}
	s.DisplayName = r.Text(f, "displayName")
	s.Scope = r.scope(f)
	s.Allow = r.allowlist(f)
	for _, n := range r.List(f, "checks") {
		if check, ok := r.check(n); ok {
			s.Checks = append(s.Checks, check)
		}
	}
	if isEmpty(f.Values["checks"]) {
		r.Warnf(n.Line, "check set %d has no checks, and so allows every image", index)
	}
	return s
}

func (r *reporter) scope(f document.Fields) policy.Scope {
	n := f.Values["scope"]
	if n == nil {
		return policy.Scope{}
	}
	g, _ := r.Fields(n, "scope", "kubernetesServiceAccount", "kubernetesNamespace")
	account, namespace := g.Values["kubernetesServiceAccount"], g.Values["kubernetesNamespace"]
	parse, field := names.AccountScope, "kubernetesServiceAccount"
	switch {
	case account != nil && namespace != nil:
		r.Errorf(n.Line, "scope: kubernetesServiceAccount and kubernetesNamespace exclude each other; a service account names its namespace")
		return policy.Scope{}
	case account == nil && namespace == nil:
		return policy.Scope{}
	case account == nil:
		parse, field = names.NamespaceScope, "kubernetesNamespace"
	}
	text, ok := r.Scalar(g.Values[field], field)
	if !ok {
		return policy.Scope{}
	}
	scope, err := parse(text)
	if err != nil {
		r.Errorf(g.Lines[field], "scope: %s %.200q: %v", field, text, err)
	}
	return scope
}

// allowlist reads the field imageAllowlist, which is an object with a list of
// patterns, and in some of Google's examples a list of objects with one each.
func (r *reporter) allowlist(f document.Fields) []AllowPattern {
	n := f.Values["imageAllowlist"]
	switch {
	case n == nil:
		return nil
	case n.Kind != yaml.SequenceNode:
		return r.allowPatterns(n)
	}
	r.Warnf(f.Lines["imageAllowlist"], "imageAllowlist is an object and not a list; write imageAllowlist: {allowPattern: [PATTERN, …]}")
	var list []AllowPattern
	for _, item := range n.Content {
		list = append(list, r.allowPatterns(item)...)
	}
	return list
}

func (r *reporter) allowPatterns(n *yaml.Node) []AllowPattern {
	f, ok := r.Fields(n, "imageAllowlist", "allowPattern")
	if !ok {
		return nil
	}
	if isEmpty(f.Values["allowPattern"]) {
		r.Errorf(n.Line, "imageAllowlist: allowPattern is missing; leave imageAllowlist out to exempt nothing")
	}
	var list []AllowPattern
	for _, t := range r.texts(f, "allowPattern") {
		pattern, err := image.ParsePlatformPattern(t.text)
		if err != nil {
			r.Errorf(t.line, "allowPattern: %v", err)
			continue
		}
		list = append(list, AllowPattern{Pattern: pattern, Line: t.line})
	}
	return list
}

// isEmpty reports whether a field is absent or holds a list of nothing.
func isEmpty(n *yaml.Node) bool {
	return n == nil || (n.Kind == yaml.SequenceNode && len(n.Content) == 0)
}

// A line is text and where it stands.
type line struct {
	text string
	line int
}

// texts reads a field that holds a list of texts. Text alone is taken for a list of
// one, with a warning, since Google's examples have it.
func (r *reporter) texts(f document.Fields, name string) []line {
	n := f.Values[name]
	if n == nil {
		return nil
	}
	nodes := []*yaml.Node{n}
	if n.Kind == yaml.ScalarNode {
		r.Warnf(n.Line, "%s is a list; write %s: [%.200q]", name, name, n.Value)
	} else {
		nodes = r.List(f, name)
	}
	var list []line
	for _, n := range nodes {
		if text, ok := r.Scalar(n, name); ok {
			list = append(list, line{text, n.Line})
		}
	}
	return list
}

// objects reads a field that holds at least one object.
func (r *reporter) objects(n *yaml.Node, what string, f document.Fields, name string) []*yaml.Node {
	switch list := f.Values[name]; {
	case list == nil:
		r.Errorf(n.Line, "%s: %s is missing", what, name)
	case list.Kind == yaml.MappingNode:
		r.Errorf(list.Line, `%s must be a list, and is an object; put "- " before its first field`, name)
	case isEmpty(list):
		r.Errorf(f.Lines[name], "%s: %s must name at least one", what, name)
	default:
		return r.List(f, name)
	}
	return nil
}

// truth reads a field that is true or false. ok is false when it is absent or
// wrong, and wrong ones are reported.
func (r *reporter) truth(f document.Fields, name string) (value, ok bool) {
	n := f.Values[name]
	if n == nil {
		return false, false
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
		r.Errorf(n.Line, "%s must be true or false, and is %s", name, document.KindOf(n))
		return false, false
	}
	return strings.EqualFold(n.Value, "true"), true
}

// projects reads a field that holds the names of projects, and returns their ids.
func (r *reporter) projects(f document.Fields, name string) []string {
	texts := r.texts(f, name)
	if len(texts) > maxProjects {
		r.Errorf(f.Lines[name], "%s: %d projects, more than the %d allowed", name, len(texts), maxProjects)
	}
	var list []string
	for _, t := range texts {
		if err := names.CheckProject(t.text); err != nil {
			r.Errorf(t.line, "%s: %v", name, err)
			continue
		}
		list = append(list, strings.TrimPrefix(t.text, "projects/"))
	}
	return list
}
