package objects

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/hint"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/keys"
	"github.com/gatehouse-dev/gatehouse/policy/kritis"
	"github.com/gatehouse-dev/gatehouse/policy/names"
	"github.com/gatehouse-dev/gatehouse/policy/platform"
)

// Parse reads one object, JSON. It returns an error only if the text does not say which
// object it is; everything else that is wrong is in the Object's Problems.
func Parse(text []byte) (*Object, error) {
	m, stripped, err := Strip(text)
	if err != nil {
		return nil, err
	}
	// On lines of its own each field can be told from the line of a diagnostic.
	lines := jsontext.Value(stripped)
	if err := lines.Indent(jsontext.WithIndent(" ")); err != nil {
		return nil, fmt.Errorf("reading %s: %w", m.Ref, err)
	}
	r := document.New(m.String())
	o := &Object{Meta: m, sum: sha256.Sum256(stripped)}
	root := r.Load(lines, 2*MaxObject)
	if root == nil {
		o.digest = sha256.Sum256(stripped)
		o.unreadable(r.Diagnostics())
		return o, nil
	}
	o.read(r, root)
	return o, nil
}

// unreadable is an object of whose text nothing can be made.
func (o *Object) unreadable(found document.Diagnostics) {
	o.report(nil, found)
	why := firstError(found)
	switch o.Kind {
	case KindClusterPolicy, KindPolicy:
		o.policy = &demand{broken: why}
	case KindImageSecurityPolicy, KindGenericAttestationPolicy:
		o.kritis = kritis.Unreadable(o.Kind, kritis.Meta{Namespace: o.Namespace, Name: o.Name, File: o.String(), Line: 1}, why)
	}
}

func firstError(found document.Diagnostics) string {
	for _, d := range found {
		if d.Severity == document.Error {
			return d.Message
		}
	}
	return ""
}

// report takes in what was found in the text that root was made from.
func (o *Object) report(root *yaml.Node, found document.Diagnostics) {
	for _, d := range found {
		p := Problem{Severity: d.Severity, Reason: Invalid, Message: d.Message, file: d.File, line: d.Line}
		if d.Severity == document.Warning {
			p.Reason = Doubtful
		}
		if root != nil {
			p.Field = fieldAt(root, d.Line)
		}
		o.Problems = append(o.Problems, p)
	}
}

// read reads an object from its tree.
func (o *Object) read(r *document.Reporter, root *yaml.Node) {
	spec := document.Peek(root, "spec")
	if spec != nil {
		o.digest = digestOf(o.Ref, spec)
	}
	if o.APIVersion == GroupKritis+"/"+Version {
		o.readKritis(r, root)
		return
	}
	f, _ := r.Fields(root, o.Kind, "apiVersion", "kind", "metadata", "spec", "status")
	if f.Values["spec"] == nil {
		r.Errorf(root.Line, "spec is missing")
	} else if spec = f.Values["spec"]; spec.Kind != yaml.MappingNode {
		r.Errorf(spec.Line, "spec must be an object, and is %s", document.KindOf(spec))
	} else {
		x := &reader{Reporter: r, object: o, text: o.digest[:]}
		x.read(spec)
	}
	found := r.Diagnostics()
	o.report(root, found)
	if !r.Erred() {
		return
	}
	o.attestor, o.exemption, o.delegation, o.hint = nil, nil, nil, nil
	o.Keys.Usable = 0
	if o.Kind == KindClusterPolicy || o.Kind == KindPolicy {
		if o.policy == nil {
			o.policy = &demand{}
		}
		o.policy.broken = firstError(found)
		o.policy.binauthz, o.policy.platform = nil, nil
	}
}

func (o *Object) readKritis(r *document.Reporter, root *yaml.Node) {
	list, found := kritis.Read(r.File, root)
	o.report(root, found)
	o.kritis = list
	for i := range list.AttestationAuthorities {
		a := &list.AttestationAuthorities[i]
		o.Keys = KeyState{Usable: len(a.Keys), Unusable: a.Unusable}
	}
	for i := range o.Problems {
		if p := &o.Problems[i]; p.Severity == document.Warning && strings.Contains(p.Message, " cannot be used: ") {
			p.Reason, p.Severity = KeyUnusable, document.Error
		}
	}
}

// digestOf tells specs apart.
func digestOf(r Ref, spec *yaml.Node) [sha256.Size]byte {
	var v any
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%q\n", r.String()) // a hash never fails
	if err := spec.Decode(&v); err == nil {
		if text, err := json.Marshal(v, json.Deterministic(true)); err == nil {
			_, _ = h.Write(text)
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// fieldAt returns the path of the first field that stands on a line.
func fieldAt(n *yaml.Node, line int) string {
	at := ""
	var walk func(n *yaml.Node, path string) bool
	walk = func(n *yaml.Node, path string) bool {
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				inner := n.Content[i].Value
				if path != "" {
					inner = path + "." + inner
				}
				if n.Content[i].Line == line {
					at = inner
					return true
				}
				if walk(n.Content[i+1], inner) {
					return true
				}
			}
		case yaml.SequenceNode:
			for i, item := range n.Content {
				inner := path + "[" + strconv.Itoa(i) + "]"
				if item.Line == line {
					at = inner
					return true
				}
				if walk(item, inner) {
					return true
				}
			}
		}
		return false
	}
	walk(n, "")
	return at
}

// A reader reads the spec of an object of Gatehouse's own kinds.
type reader struct {
	*document.Reporter
	object *Object
	text   []byte // that versions are made from
}

// specs are the fields of the spec of each kind, and what reads them.
func specs() map[string]specKind {
	return map[string]specKind{
		KindClusterPolicy:    {(*reader).clusterPolicy, []string{"namespaces", "exceptNamespaces", "dryRun", "binaryAuthorization", "gkePolicy"}},
		KindPolicy:           {(*reader).policy, []string{"dryRun", "binaryAuthorization", "gkePolicy"}},
		KindClusterAttestor:  {(*reader).attestor, []string{"description", "noteReference", "publicKeys", "matchRepository"}},
		KindAttestor:         {(*reader).attestor, []string{"description", "noteReference", "publicKeys", "matchRepository"}},
		KindClusterExemption: {(*reader).exemption, []string{"namespaces", "images", "dryRun", "reason", "expires"}},
		KindExemption:        {(*reader).exemption, []string{"images", "dryRun", "reason", "expires"}},
		KindDelegation:       {(*reader).delegation, []string{"namespaces", "exemptions", "dryRun"}},
		KindRolloutHint:      {(*reader).hint, []string{"noteReference", "resourceUri", "attestation"}},
	}
}

type specKind struct {
	read   func(*reader, *yaml.Node, document.Fields)
	fields []string
}

func (r *reader) read(spec *yaml.Node) {
	kind := specs()[r.object.Kind]
	f, _ := r.Fields(spec, "spec", kind.fields...)
	kind.read(r, spec, f)
}

func (r *reader) clusterPolicy(spec *yaml.Node, f document.Fields) {
	d := &demand{}
	r.object.policy = d
	d.namespaces = r.namespaces(f)
	r.demand(d, spec, f)
}

func (r *reader) policy(spec *yaml.Node, f document.Fields) {
	r.object.policy = &demand{}
	r.demand(r.object.policy, spec, f)
}

// namespaces reads the lists of namespaces. If they cannot be read, they are all.
func (r *reader) namespaces(f document.Fields) policy.Namespaces {
	only, ok := r.texts(f, "namespaces", maxNamespaces)
	except, also := r.texts(f, "exceptNamespaces", maxNamespaces)
	if f.Values["namespaces"] != nil && ok && len(only) == 0 {
		r.Errorf(f.Lines["namespaces"], "namespaces is empty; leave it out to mean all")
	}
	if !ok || !also {
		return policy.Namespaces{}
	}
	n, err := policy.ParseNamespaces(only, except)
	if err != nil {
		field := "namespaces"
		if f.Values[field] == nil {
			field = "exceptNamespaces"
		}
		r.Errorf(f.Lines[field], "%s: %v", field, err)
	}
	return n
}

func (r *reader) demand(d *demand, spec *yaml.Node, f document.Fields) {
	d.dryRun = r.truth(f, "dryRun")
	ba, gke := f.Values["binaryAuthorization"], f.Values["gkePolicy"]
	switch {
	case ba != nil && gke != nil:
		r.Errorf(f.Lines["gkePolicy"], "binaryAuthorization and gkePolicy exclude each other; write two objects")
	case ba != nil:
		r.binaryAuthorization(d, ba)
	case gke != nil:
		d.platform = r.gkePolicy(gke)
	default:
		r.Errorf(spec.Line, "one of binaryAuthorization and gkePolicy is required")
	}
}

// excluded reports fields of a dialect that have no place in an object.
func (r *reader) excluded(n *yaml.Node, why string, fields ...string) {
	for _, field := range fields {
		if v := document.Peek(n, field); v != nil {
			r.Errorf(v.Line, "%s: %s", field, why)
		}
	}
}

func (r *reader) binaryAuthorization(d *demand, n *yaml.Node) {
	r.excluded(n, "an object is of one cluster; leave it out", "clusterAdmissionRules")
	r.excluded(n, "it stands in metadata, or the API server keeps it", "name", "etag", "updateTime")
	if r.object.Namespace != "" {
		r.excluded(n, "a Policy is of one namespace; use a ClusterPolicy", "kubernetesNamespaceAdmissionRules")
	}
	seen := map[string]bool{}
	d.binauthz = binauthz.ReadPolicy(r.Reporter, n, r.text, func(name string) error {
		if !isFull(name) && !names.IsSubdomain(name) {
			return fmt.Errorf("%.200q is neither the name of an attestor object nor projects/*/attestors/*", name)
		}
		if isFull(name) {
			if err := names.CheckResource(name, "projects", "attestors"); err != nil {
				return err
			}
		}
		if !seen[name] {
			seen[name] = true
			d.attestors = append(d.attestors, name)
		}
		return nil
	})
}

// isFull tells the name of an attestor that is kept by the policy API.
func isFull(name string) bool { return strings.Contains(name, "/") }

func (r *reader) gkePolicy(n *yaml.Node) *platform.Policy {
	if sets := document.Peek(n, "checkSets"); r.object.Namespace != "" && sets != nil && sets.Kind == yaml.SequenceNode {
		for _, s := range sets.Content {
			if scope := document.Peek(s, "scope"); scope != nil {
				r.excluded(scope, "a Policy is of one namespace; use a ClusterPolicy", "kubernetesNamespace")
			}
		}
	}
	return platform.ReadPolicy(r.Reporter, n, r.text)
}

func (r *reader) attestor(spec *yaml.Node, f document.Fields) {
	a := &binauthz.Attestor{Description: r.Text(f, "description"), MatchRepository: r.truth(f, "matchRepository"), File: r.File, Line: spec.Line}
	a.Name = attestorName(r.object.Namespace, r.object.Name)
	a.Note = r.note(spec, f)
	list := r.List(f, "publicKeys")
	if len(list) > maxKeys {
		r.Errorf(f.Lines["publicKeys"], "%d public keys, more than the %d allowed", len(list), maxKeys)
		return
	}
	ids := map[string]int{}
	for i, n := range list {
		alone := document.New(r.File)
		alone.OnFields = r.OnFields
		k, _, _ := keys.Public(alone, n)
		found := alone.Diagnostics()
		why := firstError(found)
		if k != nil && why == "" {
			if first, twice := ids[k.ID()]; twice {
				why = fmt.Sprintf("it is the same as publicKeys[%d]", first)
			}
		}
		if why == "" && k != nil {
			ids[k.ID()] = i
			a.Keys = append(a.Keys, k)
			r.Add(found...)
			continue
		}
		id := ""
		if v := document.Peek(n, "id"); v != nil && v.Kind == yaml.ScalarNode {
			id = v.Value
		}
		r.object.Keys.Unusable = append(r.object.Keys.Unusable, kritis.UnusableKey{Index: i, ID: id, Why: why})
		r.object.Problems = append(r.object.Problems, Problem{
			Severity: document.Error, Reason: KeyUnusable, Message: "publicKeys[" + strconv.Itoa(i) + "] cannot be used: " + why,
			Field: "spec.publicKeys[" + strconv.Itoa(i) + "]", file: r.File, line: n.Line,
		})
	}
	if len(a.Keys) == 0 {
		r.Warnf(spec.Line, "no public key can be used, so that what requires this attestor denies every image")
	}
	r.object.attestor, r.object.Keys.Usable = a, len(a.Keys)
}

// attestorName is what an attestor is called in a Ruleset and in decisions: nothing that
// can be taken for one of the policy API, projects/P/attestors/A, or of Kritis.
func attestorName(namespace, name string) string {
	if namespace == "" {
		return "clusterattestors/" + name
	}
	return "namespaces/" + namespace + "/attestors/" + name
}

// note reads noteReference.
func (r *reader) note(spec *yaml.Node, f document.Fields) string {
	if f.Values["noteReference"] == nil {
		r.Errorf(spec.Line, "noteReference is missing; want projects/P/notes/N")
		return ""
	}
	ref, ok := r.Scalar(f.Values["noteReference"], "noteReference")
	if !ok {
		return ""
	}
	if err := names.CheckResource(ref, "projects", "notes"); err != nil {
		r.Errorf(f.Lines["noteReference"], "noteReference: %v", err)
		return ""
	}
	if project := strings.Split(ref, "/")[1]; names.IsNumber(project) {
		r.Errorf(f.Lines["noteReference"], "noteReference: %.100q is a project number; write the project's ID", project)
	}
	return ref
}

func (r *reader) exemption(spec *yaml.Node, f document.Fields) {
	e := &exemption{reason: r.Text(f, "reason"), dryRun: r.truth(f, "dryRun")}
	r.object.exemption = e
	if r.object.Namespace == "" {
		e.namespaces = r.namespaces(f)
	}
	e.expires = r.moment(f, "expires")
	switch {
	case e.reason == "":
		r.Errorf(spec.Line, "reason is missing: say why, and who agreed")
	case len(e.reason) > maxReason || strings.ContainsFunc(e.reason, func(c rune) bool { return !unicode.IsPrint(c) }):
		r.Errorf(f.Lines["reason"], "reason must be one line of plain text, at most %d bytes", maxReason)
	}
	if f.Values["expires"] == nil && r.object.Namespace != "" {
		r.Errorf(spec.Line, "expires is missing; an Exemption must end")
	}
	images := f.Values["images"] != nil
	if n := f.Values["dryRun"]; n != nil && !e.dryRun {
		r.Errorf(n.Line, "dryRun may only be true; leave it out")
	}
	if images == e.dryRun {
		r.Errorf(spec.Line, "exactly one of images and dryRun is required")
		return
	}
	if r.Erred() {
		return
	}
	e.origin = r.object.String() + " (" + e.reason
	if !e.expires.IsZero() {
		e.origin += "; until " + e.expires.Format(time.RFC3339)
	}
	e.origin += ")"
	for _, n := range r.entries(f, "images", maxPatterns) {
		pattern, err := image.ParseBinauthzPattern(n.Value)
		if err != nil {
			r.Errorf(n.Line, "images: %v", err)
			continue
		}
		e.images = append(e.images, policy.Exemption{
			Pattern: pattern, Origin: e.origin, Namespaces: e.namespaces, Until: e.expires, Line: n.Line, File: r.File,
		})
	}
	if images && len(e.images) == 0 {
		r.Errorf(f.Lines["images"], "images is empty")
	}
}

func (r *reader) moment(f document.Fields, field string) time.Time {
	if f.Values[field] == nil {
		return time.Time{}
	}
	text := r.Text(f, field)
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.IsZero() {
		r.Errorf(f.Lines[field], "%s: %.100q is not a time such as 2026-12-31T00:00:00Z", field, text)
	}
	return t.UTC()
}

func (r *reader) delegation(spec *yaml.Node, f document.Fields) {
	d := &delegation{}
	r.object.delegation = d
	if f.Values["namespaces"] == nil {
		r.Errorf(spec.Line, "namespaces is missing: to whom?")
	}
	d.namespaces = r.namespaces(f)
	if n := f.Values["exemptions"]; n != nil {
		g, _ := r.Fields(n, "exemptions", "images", "maxDuration")
		for _, n := range r.entries(g, "images", maxPatterns) {
			if _, err := image.ParseBinauthzPattern(n.Value); err != nil {
				r.Errorf(n.Line, "images: %v", err)
			}
			d.images = append(d.images, n.Value)
		}
		if len(d.images) == 0 {
			r.Errorf(n.Line, "exemptions: images is missing")
		}
		d.most = r.duration(n, g, "exemptions")
	}
	if n := f.Values["dryRun"]; n != nil {
		g, _ := r.Fields(n, "dryRun", "maxDuration")
		d.dryRun = r.duration(n, g, "dryRun")
	}
	if f.Values["exemptions"] == nil && f.Values["dryRun"] == nil {
		r.Errorf(spec.Line, "one of exemptions and dryRun is required: nothing is delegated otherwise")
	}
}

func (r *reader) duration(n *yaml.Node, f document.Fields, what string) time.Duration {
	text := r.Text(f, "maxDuration")
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		r.Errorf(n.Line, "%s: maxDuration %.50q is not a duration such as 168h, more than nothing", what, text)
		return 0
	}
	return d
}

func (r *reader) hint(spec *yaml.Node, f document.Fields) {
	h := &Hint{Ref: r.object.Ref, Note: r.note(spec, f), ResourceURI: r.Text(f, "resourceUri"), Filed: r.object.Created}
	r.object.hint = h
	n := f.Values["attestation"]
	if n == nil {
		r.Errorf(spec.Line, "attestation is missing")
		return
	}
	g, _ := r.Fields(n, "attestation", "serializedPayload", "signatures")
	h.Payload = r.base64(n, g, "serializedPayload")
	list := r.List(g, "signatures")
	if len(list) == 0 || len(list) > maxSignatures {
		r.Errorf(n.Line, "attestation: %d signatures; want 1 to %d", len(list), maxSignatures)
		return
	}
	for _, n := range list {
		s, _ := r.Fields(n, "signatures", "signature", "publicKeyId")
		h.Signatures = append(h.Signatures, HintSignature{KeyID: r.Text(s, "publicKeyId"), Signature: r.base64(n, s, "signature")})
	}
	if r.Erred() {
		return
	}
	says, err := hint.Parse(h.Payload, r.object.Created)
	if err != nil {
		r.Errorf(g.Lines["serializedPayload"], "serializedPayload: %v", err)
		return
	}
	if h.Says = says; h.ResourceURI != says.ResourceURI() {
		r.Errorf(f.Lines["resourceUri"], "resourceUri: the hint is about %.300q", says.ResourceURI())
	}
}

func (r *reader) base64(n *yaml.Node, f document.Fields, field string) []byte {
	text := r.Text(f, field)
	if text == "" {
		r.Errorf(n.Line, "%s is missing", field)
		return nil
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		r.Errorf(f.Lines[field], "%s is not base64", field)
	}
	return raw
}

// truth reads a field that is true or false; absent is false.
func (r *reader) truth(f document.Fields, field string) bool {
	n := f.Values[field]
	if n == nil {
		return false
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
		r.Errorf(n.Line, "%s must be true or false, and is %s", field, document.KindOf(n))
		return false
	}
	return strings.EqualFold(n.Value, "true")
}

// entries reads a list of texts, none of which may be empty.
func (r *reader) entries(f document.Fields, field string, most int) []*yaml.Node {
	list := r.List(f, field)
	if len(list) > most {
		r.Errorf(f.Lines[field], "%s: %d entries, more than the %d allowed", field, len(list), most)
		return nil
	}
	var entries []*yaml.Node
	for _, n := range list {
		if text, ok := r.Scalar(n, field); ok && text == "" {
			r.Errorf(n.Line, "%s: an entry is empty", field)
		} else if ok {
			entries = append(entries, n)
		}
	}
	return entries
}

// texts reads a list of texts. ok is false if some of it cannot be read.
func (r *reader) texts(f document.Fields, field string, most int) (list []string, ok bool) {
	n := f.Values[field]
	if n == nil {
		return nil, true
	}
	for _, n := range r.entries(f, field, most) {
		list = append(list, n.Value)
	}
	return list, n.Kind == yaml.SequenceNode && len(list) == len(n.Content)
}
