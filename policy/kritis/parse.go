package kritis

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/names"
)

// A reporter reads a text of objects.
type reporter struct {
	*document.Reporter
	objects *Objects
	count   int            // of objects in lists
	lines   map[string]int // of objects by kind and name
	skipped []skipped
	// lenient leaves keys out that cannot be used, and reads on.
	lenient bool
}

// skipped is an object that is not Kritis'.
type skipped struct {
	text string
	line int
}

// Parse parses and checks a text of objects. file is what diagnostics call it. The
// Objects are nil if there is an error among them.
func Parse(file string, data []byte) (*Objects, document.Diagnostics) {
	r := &reporter{Reporter: document.New(file), objects: &Objects{}, lines: map[string]int{}}
	for _, root := range r.LoadStream(data, MaxText, MaxObjects) {
		r.value(root, false)
	}
	r.warnSkipped()
	if !r.Erred() && r.objects.empty() {
		r.Errorf(1, "no object in it is of a kind that is read here, and no policy lets everything in; leave the file out if that is what you want")
	}
	r.Add(r.objects.crowded()...)
	diags := r.Diagnostics()
	if r.Erred() {
		return nil, diags
	}
	return r.objects, diags
}

// Read reads one object that is a tree, for whoever has many and takes none of them
// down for another. It differs from [Parse] in that a key which cannot be used is left
// out, with a warning, and told in [AttestationAuthority].Unusable. If there is an error
// among the diagnostics the Objects have a policy that can be satisfied by nothing, or,
// for objects that demand nothing, are empty.
func Read(file string, object *yaml.Node) (*Objects, document.Diagnostics) {
	r := &reporter{Reporter: document.New(file), objects: &Objects{}, lines: map[string]int{}, lenient: true}
	r.value(object, true)
	r.warnSkipped()
	diags := r.Diagnostics()
	if !r.Erred() {
		return r.objects, diags
	}
	m := Meta{File: file, Line: object.Line}
	if meta := document.Peek(object, "metadata"); meta != nil {
		m.Namespace, m.Name = peekText(meta, "namespace"), peekText(meta, "name")
	}
	why := ""
	for _, d := range diags {
		if d.Severity == document.Error {
			why = d.Message
			break
		}
	}
	return Unreadable(peekText(object, "kind"), m, why), diags
}

// Unreadable is what stands for an object that cannot be read: a policy that nothing
// satisfies, or nothing.
func Unreadable(kind string, m Meta, why string) *Objects {
	o := &Objects{}
	switch kind {
	case typeISP:
		o.ImageSecurityPolicies = []ImageSecurityPolicy{{Meta: m, Unreadable: why}}
	case typeGAP:
		o.GenericAttestationPolicies = []GenericAttestationPolicy{{Meta: m, Unreadable: why}}
	}
	return o
}

// value reads an object, or a list of objects.
func (r *reporter) value(n *yaml.Node, listed bool) {
	switch {
	case n.Kind == yaml.SequenceNode && !listed:
		r.list(n)
		return
	case n.Kind != yaml.MappingNode:
		r.Errorf(n.Line, "want an object of Kubernetes, and this is %s", document.KindOf(n))
		return
	}
	apiVersion, kind := peekText(n, "apiVersion"), peekText(n, "kind")
	isList := kind == "List" || (strings.HasSuffix(kind, "List") && strings.HasPrefix(apiVersion, group+"/"))
	switch g, v, _ := strings.Cut(apiVersion, "/"); {
	case apiVersion == "" || kind == "":
		r.Errorf(n.Line, "the object needs both apiVersion and kind, each once and as text: Kritis' are of %s/%s", group, version)
	case isList && listed:
		r.Errorf(n.Line, "a %s within a list", kind)
	case isList:
		r.items(n)
	case g == wrongGroup:
		r.Errorf(n.Line, "apiVersion %.100q: no Kritis has ever served this group; write %s/%s", apiVersion, group, version)
	case g != group:
		r.skip(n, apiVersion, kind)
	case v != version:
		r.Errorf(n.Line, "apiVersion %.100q: the only version is %s/%s", apiVersion, group, version)
	default:
		if r.Check(n) {
			r.object(n, kind)
		}
	}
}

// list reads the objects of a list, unless they are too many.
func (r *reporter) list(n *yaml.Node) {
	r.count += len(n.Content)
	if r.count > MaxObjects {
		r.Errorf(n.Line, "more than %d objects", MaxObjects)
		return
	}
	for _, item := range n.Content {
		r.value(item, true)
	}
}

// items reads what a List holds.
func (r *reporter) items(n *yaml.Node) {
	items := document.Peek(n, "items")
	switch {
	case items == nil || (items.Kind != yaml.SequenceNode && !document.IsNull(items)):
		r.Errorf(n.Line, "a List needs items, once and as a list")
	case items.Kind == yaml.SequenceNode:
		r.list(items)
	}
}

// peekText returns a field of an object that is not checked, if it is text.
func peekText(n *yaml.Node, field string) string {
	if v := document.Peek(n, field); v != nil && v.Kind == yaml.ScalarNode && v.ShortTag() == "!!str" {
		return v.Value
	}
	return ""
}

func (r *reporter) skip(n *yaml.Node, apiVersion, kind string) {
	name := ""
	if metadata := document.Peek(n, "metadata"); metadata != nil {
		name = peekText(metadata, "name")
		if namespace := peekText(metadata, "namespace"); namespace != "" {
			name = namespace + "/" + name
		}
	}
	r.skipped = append(r.skipped, skipped{fmt.Sprintf("%.60s %.150s (%.60s)", kind, name, apiVersion), n.Line})
}

// warnSkipped names the first objects that were left out.
func (r *reporter) warnSkipped() {
	for i, s := range r.skipped {
		if i == maxSkipped {
			r.Warnf(s.line, "and %d more objects are of no kind that is read here, and are skipped", len(r.skipped)-i)
			return
		}
		r.Warnf(s.line, "%q is of no kind that is read here, and is skipped", s.text)
	}
}

// A kind is one of Kritis' kinds of objects.
type kind struct {
	name string
	// namespaced says whether the object must name its namespace.
	namespaced bool
	read       func(r *reporter, m Meta, spec document.Fields)
	fields     []string // of the spec
}

func kinds() []kind {
	return []kind{
		{"ImageSecurityPolicy", true, (*reporter).imageSecurityPolicy, []string{
			"imageAllowlist", "imageWhitelist", "packageVulnerabilityRequirements", "packageVulnerabilityPolicy",
			"attestationAuthorityName", "attestationAuthorityNames", "privateKeySecretName",
		}},
		{"GenericAttestationPolicy", true, (*reporter).genericAttestationPolicy, []string{
			"attestationAuthorityNames", "admissionAllowlistPatterns",
		}},
		{"AttestationAuthority", true, (*reporter).attestationAuthority, []string{
			"noteReference", "publicKeys", "publicKeyData", "privateKeySecretName", "policyType",
		}},
		{"BuildPolicy", true, (*reporter).buildPolicy, []string{
			"attestationAuthorityName", "AttestationAuthorityName", "privateKeySecretName", "PrivateKeySecretName",
			"buildRequirements", "BuildRequirements",
		}},
		{"VulnzSigningPolicy", false, (*reporter).vulnzSigningPolicy, []string{"imageVulnerabilityRequirements"}},
		{"KritisConfig", false, (*reporter).kritisConfig, []string{"metadataBackend", "cronInterval", "serverAddr", "grafeas"}},
	}
}

func (r *reporter) object(n *yaml.Node, kindName string) {
	all := kinds()
	i := slices.IndexFunc(all, func(k kind) bool { return k.name == kindName })
	if i < 0 {
		var known []string
		for _, k := range all {
			known = append(known, k.name)
		}
		r.Errorf(n.Line, "kind %.100q is none of Kritis' kinds: %s", kindName, strings.Join(known, ", "))
		return
	}
	k := all[i]
	f, _ := r.Fields(n, k.name, "apiVersion", "kind", "metadata", "spec", "status") // which Gatehouse writes
	m, ok := r.metadata(f, n.Line, k)
	s := f.Values["spec"]
	if s == nil {
		r.Errorf(n.Line, "%s: spec is missing", k.name)
		return
	}
	spec, _ := r.Fields(s, k.name, k.fields...)
	if !ok || s.Kind != yaml.MappingNode {
		return
	}
	id := k.name + " " + m.key()
	if first := r.lines[id]; first != 0 {
		r.Errorf(m.Line, "%s is given twice, first at line %d", id, first)
		return
	}
	r.lines[id] = m.Line
	k.read(r, m, spec)
}

// metadata reads the name of an object. The other fields are what API servers and
// kubectl write; their values do not matter.
func (r *reporter) metadata(f document.Fields, line int, k kind) (Meta, bool) {
	m := Meta{File: r.File, Line: line}
	n := f.Values["metadata"]
	if n == nil {
		r.Errorf(line, "%s: metadata is missing", k.name)
		return m, false
	}
	meta, ok := r.Fields(n, "metadata", "name", "namespace", "labels", "annotations", "creationTimestamp", "deletionGracePeriodSeconds",
		"deletionTimestamp", "finalizers", "generateName", "generation", "managedFields", "ownerReferences", "resourceVersion", "selfLink", "uid")
	if !ok {
		return m, false
	}
	m.Name, m.Namespace = r.Text(meta, "name"), r.Text(meta, "namespace")
	switch {
	case !names.IsSubdomain(m.Name):
		r.Errorf(n.Line, "%s: metadata.name %.100q is not a name for an object", k.name, m.Name)
	case k.namespaced && meta.Values["namespace"] == nil:
		r.Errorf(n.Line, "%s %s: metadata.namespace is missing; a file does not tell the namespace that kubectl would take", k.name, m.Name)
	case (k.namespaced || m.Namespace != "") && !names.IsLabel(m.Namespace):
		r.Errorf(meta.Lines["namespace"], "%s %s: metadata.namespace %.100q is not the name of a namespace", k.name, m.Name, m.Namespace)
	default:
		if !k.namespaced {
			m.Namespace = "" // tolerated, and without a meaning
		}
		return m, true
	}
	return m, false
}

// renamed returns the value and line of a field that may stand under a former name.
func (r *reporter) renamed(f document.Fields, what, former, now, note string) {
	old := f.Values[former]
	if old == nil {
		return
	}
	if f.Values[now] != nil {
		r.Errorf(f.Lines[former], "%s: %s is the former name of %s; give one of them", what, former, now)
		return
	}
	if note != "" {
		r.Warnf(f.Lines[former], "%s: %s is %s; it is read as %s", what, former, note, now)
	}
	f.Values[now], f.Lines[now] = old, f.Lines[former]
}

// entries reads a list of texts, none of which may be empty.
func (r *reporter) entries(f document.Fields, name string, most int) []Entry {
	list := r.List(f, name)
	if len(list) > most {
		r.Errorf(f.Lines[name], "%s: %d entries, more than the %d allowed", name, len(list), most)
		return nil
	}
	var entries []Entry
	for _, n := range list {
		text, ok := r.Scalar(n, name)
		if ok && text == "" {
			r.Errorf(n.Line, "%s: an entry is empty", name)
		}
		if ok && text != "" {
			entries = append(entries, Entry{Text: text, Line: n.Line})
		}
	}
	return entries
}
