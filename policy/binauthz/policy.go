package binauthz

import (
	"crypto/sha256"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/names"
)

// A Policy is a valid policy of Binary Authorization, with the lines where its
// parts stand.
type Policy struct {
	// File is what the text was called when it was parsed.
	File string
	// Name is projects/P/policy or locations/L/policy, or "". The API ignores it
	// in what it is sent; set it before compiling when you know better.
	Name        string
	Description string
	// Global says whether the system policy is evaluated first.
	Global GlobalEvaluation
	// Exempt are the admissionWhitelistPatterns.
	Exempt []ExemptPattern
	// Specific are the rules of the one kind that is used, in the order of the text.
	Specific []SpecificRule
	Default  AdmissionRule
	// ETag and UpdateTime are what the server said when the policy was exported.
	ETag       string
	UpdateTime string

	digest [sha256.Size]byte // of the text
}

// GlobalEvaluation is a globalPolicyEvaluationMode. Its zero value means that
// nothing was written, which counts as Disable.
type GlobalEvaluation int

// The modes, with the numbers of the API.
const (
	GlobalUnspecified GlobalEvaluation = iota
	GlobalEnable
	GlobalDisable
)

// An ExemptPattern is one of the admissionWhitelistPatterns.
type ExemptPattern struct {
	Pattern image.Pattern
	Line    int
}

// An AdmissionRule says what is required of images.
type AdmissionRule struct {
	Evaluation policy.Evaluation
	DryRun     bool
	Attestors  []AttestorRef
	// OnUnavailable is Gatehouse's own field: what holds while evidence cannot be read.
	OnUnavailable policy.OnUnavailable
	Line          int
}

// An AttestorRef is one of a rule's requireAttestationsBy.
type AttestorRef struct {
	Name string // projects/P/attestors/A
	Line int
}

// A SpecificRule is the rule for one cluster, namespace, service account or
// Istio identity.
type SpecificRule struct {
	AdmissionRule
	// ID is what denials call it, such as "namespace admission rule for shop".
	ID    string
	Scope policy.Scope
}

// defaultRuleID is what Binary Authorization calls the default rule in denials.
const defaultRuleID = "default admission rule"

// A ruleKind is one of the four maps of specific rules.
type ruleKind struct {
	field string
	noun  string
	parse func(key string) (policy.Scope, error)
}

func ruleKinds() []ruleKind {
	return []ruleKind{
		{"clusterAdmissionRules", "cluster admission rule", names.ClusterScope},
		{"kubernetesNamespaceAdmissionRules", "namespace admission rule", names.NamespaceScope},
		{"kubernetesServiceAccountAdmissionRules", "service account admission rule", names.AccountScope},
		{"istioServiceIdentityAdmissionRules", "istio service identity admission rule", names.IstioScope},
	}
}

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

// ReadPolicy reads and checks a policy that is a part of a text: a tree that
// [document.Reporter.Check] has found safe to walk. Attestor checks the names of
// attestors in it. The Policy is nil if there is an error.
//
// The text is what its version is made from, and not read.
func ReadPolicy(d *document.Reporter, root *yaml.Node, text []byte, attestor func(name string) error) *Policy {
	r := &reporter{Reporter: d, attestor: attestor}
	p := r.read(root)
	if r.Erred() {
		return nil
	}
	r.lint(p)
	p.File, p.digest = r.File, sha256.Sum256(text)
	return p
}

func (r *reporter) policy(data []byte) *Policy {
	root := r.Load(data, MaxPolicy)
	if root == nil {
		return &Policy{}
	}
	return r.read(root)
}

func (r *reporter) read(root *yaml.Node) *Policy {
	p := &Policy{}
	known := []string{"name", "description", "globalPolicyEvaluationMode", "admissionWhitelistPatterns", "defaultAdmissionRule", "updateTime", "etag"}
	for _, kind := range ruleKinds() {
		known = append(known, kind.field)
	}
	f, ok := r.Fields(root, "policy", known...)
	if !ok && len(f.Values) == 0 {
		return p
	}
	p.Name = r.Text(f, "name")
	p.Description = r.Text(f, "description")
	p.ETag = r.Text(f, "etag")
	p.UpdateTime = r.Text(f, "updateTime")
	if p.Name != "" && !names.IsPolicy(p.Name) {
		r.Warnf(f.Lines["name"], "name: %.200q is ignored, since it does not have the form projects/*/policy", p.Name)
		p.Name = ""
	}
	mode, _ := r.Enum(f, "globalPolicyEvaluationMode", []string{"GLOBAL_POLICY_EVALUATION_MODE_UNSPECIFIED", "ENABLE", "DISABLE"})
	p.Global = GlobalEvaluation(mode)
	p.Exempt = r.exemptPatterns(r.List(f, "admissionWhitelistPatterns"))
	p.Specific = r.specificRules(f)
	if n := f.Values["defaultAdmissionRule"]; n != nil {
		p.Default = r.rule(n, "defaultAdmissionRule")
		p.Default.Line = f.Lines["defaultAdmissionRule"]
	} else {
		r.Errorf(root.Line, "defaultAdmissionRule is missing; every policy needs one")
	}
	refs := len(p.Default.Attestors)
	for _, s := range p.Specific {
		refs += len(s.Attestors)
	}
	if refs > maxAttestorRefs {
		r.Errorf(root.Line, "%d attestor references, more than the %d allowed in a policy", refs, maxAttestorRefs)
	}
	return p
}

func (r *reporter) exemptPatterns(list []*yaml.Node) []ExemptPattern {
	var patterns []ExemptPattern
	for _, n := range list {
		if n.Kind == yaml.ScalarNode && !document.IsNull(n) {
			r.Errorf(n.Line, "admissionWhitelistPatterns holds objects, and this is %s; write {namePattern: %.200q}", document.KindOf(n), n.Value)
			continue
		}
		f, ok := r.Fields(n, "admissionWhitelistPatterns", "namePattern")
		if !ok {
			continue
		}
		if f.Values["namePattern"] == nil {
			r.Errorf(n.Line, "admissionWhitelistPatterns: namePattern is missing")
			continue
		}
		text, ok := r.Scalar(f.Values["namePattern"], "namePattern")
		if !ok {
			continue
		}
		pattern, err := image.ParseBinauthzPattern(text)
		if err != nil {
			r.Errorf(f.Lines["namePattern"], "namePattern: %v", err)
			continue
		}
		patterns = append(patterns, ExemptPattern{Pattern: pattern, Line: f.Lines["namePattern"]})
	}
	return patterns
}

// specificRules reads the four maps, of which at most one may have entries.
func (r *reporter) specificRules(f document.Fields) []SpecificRule {
	var rules []SpecificRule
	used := ""
	for _, kind := range ruleKinds() {
		n := f.Values[kind.field]
		switch {
		case n == nil:
			continue
		case n.Kind != yaml.MappingNode:
			r.Errorf(n.Line, "%s must be an object, and is %s", kind.field, document.KindOf(n))
			continue
		case len(n.Content) == 0:
			continue
		case used != "":
			r.Errorf(f.Lines[kind.field], "a policy may have one kind of specific rules, and this one has %s (line %d) and %s (line %d)",
				used, f.Lines[used], kind.field, f.Lines[kind.field])
		default:
			used = kind.field
		}
		rules = append(rules, r.rulesOf(kind, n)...)
	}
	return rules
}

func (r *reporter) rulesOf(kind ruleKind, n *yaml.Node) []SpecificRule {
	var rules []SpecificRule
	lines := map[policy.Scope]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		scope, err := kind.parse(key.Value)
		if err != nil {
			r.Errorf(key.Line, "%s: key %.200q: %v", kind.field, key.Value, err)
			continue
		}
		if first := lines[scope]; first != 0 {
			r.Errorf(key.Line, "%s: %q means the same as the key at line %d", kind.field, key.Value, first)
			continue
		}
		lines[scope] = key.Line
		rule := r.rule(value, kind.field+"["+key.Value+"]")
		rule.Line = key.Line
		rules = append(rules, SpecificRule{AdmissionRule: rule, ID: kind.noun + " for " + key.Value, Scope: scope})
	}
	return rules
}

// rule reads an admission rule; what names it in messages.
func (r *reporter) rule(n *yaml.Node, what string) AdmissionRule {
	rule := AdmissionRule{Line: n.Line}
	f, ok := r.Fields(n, what, "evaluationMode", "enforcementMode", "requireAttestationsBy", "onUnavailable")
	if !ok && len(f.Values) == 0 {
		return rule
	}
	evaluation := r.mode(f, n.Line, what, "evaluationMode", []string{"EVALUATION_MODE_UNSPECIFIED", "ALWAYS_ALLOW", "REQUIRE_ATTESTATION", "ALWAYS_DENY"})
	enforcement := r.mode(f, n.Line, what, "enforcementMode", []string{"ENFORCEMENT_MODE_UNSPECIFIED", "ENFORCED_BLOCK_AND_AUDIT_LOG", "DRYRUN_AUDIT_LOG_ONLY"})
	rule.Evaluation = [...]policy.Evaluation{policy.AlwaysDeny, policy.AlwaysAllow, policy.RequireChecks, policy.AlwaysDeny}[evaluation]
	rule.DryRun = enforcement == 2
	rule.OnUnavailable = r.onUnavailable(f)
	for _, n := range r.List(f, "requireAttestationsBy") {
		name, ok := r.Scalar(n, "requireAttestationsBy")
		if !ok {
			continue
		}
		if err := r.attestor(name); err != nil {
			r.Errorf(n.Line, "requireAttestationsBy: %v", err)
			continue
		}
		rule.Attestors = append(rule.Attestors, AttestorRef{Name: name, Line: n.Line})
	}
	refs := f.Values["requireAttestationsBy"]
	given := refs != nil && len(refs.Content) > 0
	switch {
	case evaluation == 0: // reported already
	case rule.Evaluation == policy.RequireChecks && !given:
		r.Errorf(n.Line, "%s: REQUIRE_ATTESTATION needs at least one attestor in requireAttestationsBy", what)
	case rule.Evaluation != policy.RequireChecks && given:
		r.Errorf(f.Lines["requireAttestationsBy"], "%s: requireAttestationsBy must be empty with %v; it goes with REQUIRE_ATTESTATION only", what, rule.Evaluation)
	}
	return rule
}

// mode reads an enum that must be set, or returns 0, having reported why not.
func (r *reporter) mode(f document.Fields, line int, what, name string, words []string) int {
	if f.Values[name] == nil {
		r.Errorf(line, "%s: %s is missing", what, name)
		return 0
	}
	value, ok := r.Enum(f, name, words)
	if ok && value == 0 {
		r.Errorf(f.Lines[name], "%s: %s must not be %s", what, name, words[0])
	}
	return value
}
