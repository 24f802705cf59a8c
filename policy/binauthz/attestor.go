package binauthz

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/keys"
	"github.com/gatehouse-dev/gatehouse/policy/names"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// An Attestor is an authority whose attestations rules require.
type Attestor struct {
	Name        string // projects/P/attestors/A
	Description string
	// Note is the note that his attestations are filed under,
	// projects/P/notes/N. Who may attach to it may attest.
	Note string
	// Keys are those that he signs with. Without any, nothing he signed counts.
	Keys []*signature.PublicKey
	// Written tells how each of Keys was written; it may be left out.
	Written []WrittenKey
	// MatchRepository demands that what he signed names the repository of the image.
	// Binary Authorization's text has no word for it.
	MatchRepository bool
	// DelegationServiceAccount, ETag and UpdateTime are what the server said.
	DelegationServiceAccount string
	ETag                     string
	UpdateTime               string
	// File and Line tell where he stands.
	File string
	Line int
}

// A WrittenKey is what a text says of a key beside the key itself.
type WrittenKey struct {
	Comment string
	// Text is the PEM or the ASCII armour, as it was given.
	Text string
}

// KeysByNote returns the keys that sign under each note; attestors may share one.
func KeysByNote(attestors []Attestor) map[string][]*signature.PublicKey {
	byNote := make(map[string][]*signature.PublicKey, len(attestors))
	for _, a := range attestors {
		byNote[a.Note] = append(byNote[a.Note], a.Keys...)
	}
	return byNote
}

func (a *Attestor) compile() policy.Attestor {
	return policy.Attestor{Name: a.Name, Note: a.Note, Keys: keys.Compile(a.Keys), MatchRepository: a.MatchRepository}
}

// ParseAttestors parses and checks a list of attestors. file is what diagnostics
// call it. The list is nil if there is an error among them.
func ParseAttestors(file string, data []byte) ([]Attestor, document.Diagnostics) {
	r := newReporter(file)
	attestors := r.attestors(data)
	diags := r.Diagnostics()
	if r.Erred() {
		return nil, diags
	}
	return attestors, diags
}

func (r *reporter) attestors(data []byte) []Attestor {
	root := r.Load(data, MaxAttestors)
	if root == nil {
		return nil
	}
	list := make([]Attestor, 0, len(root.Content))
	lines := map[string]int{}
	for _, n := range r.attestorNodes(root) {
		a, ok := r.readAttestor(n)
		if !ok {
			continue
		}
		if first := lines[a.Name]; first != 0 {
			r.Errorf(a.Line, "attestor %q is given twice, first at line %d", a.Name, first)
			continue
		}
		lines[a.Name] = a.Line
		list = append(list, a)
	}
	return list
}

// attestorNodes finds the attestors in a list, in the answer of the API to a
// list call, or in one object.
func (r *reporter) attestorNodes(root *yaml.Node) []*yaml.Node {
	switch root.Kind {
	case yaml.SequenceNode:
		return root.Content
	case yaml.MappingNode:
		if len(root.Content) == 0 {
			return nil // an empty list, as the API answers it
		}
		for i := 0; i+1 < len(root.Content); i += 2 {
			if key := root.Content[i].Value; key == "attestors" || key == "nextPageToken" {
				return r.attestorPage(root)
			}
		}
		return []*yaml.Node{root}
	}
	r.Errorf(root.Line, "want a list of attestors, and this is %s", document.KindOf(root))
	return nil
}

func (r *reporter) attestorPage(root *yaml.Node) []*yaml.Node {
	f, _ := r.Fields(root, "attestors", "attestors", "nextPageToken")
	if r.Text(f, "nextPageToken") != "" {
		r.Errorf(f.Lines["nextPageToken"], "nextPageToken says that this is only the first page of a longer list; fetch the rest too")
	}
	return r.List(f, "attestors")
}

func (r *reporter) readAttestor(n *yaml.Node) (Attestor, bool) {
	a := Attestor{File: r.File, Line: n.Line}
	f, _ := r.Fields(n, "attestor", "name", "description", "userOwnedGrafeasNote", "userOwnedDrydockNote", "updateTime", "etag")
	if n.Kind != yaml.MappingNode {
		return a, false
	}
	if f.Values["name"] == nil {
		r.Errorf(n.Line, "attestor: name is missing")
	} else if name, ok := r.Scalar(f.Values["name"], "name"); ok {
		a.Name = name
		if err := names.CheckResource(name, "projects", "attestors"); err != nil {
			r.Errorf(f.Lines["name"], "name: %v", err)
		}
	}
	a.Description = r.Text(f, "description")
	a.ETag = r.Text(f, "etag")
	a.UpdateTime = r.Text(f, "updateTime")
	v1, beta := f.Values["userOwnedGrafeasNote"], f.Values["userOwnedDrydockNote"]
	switch {
	case v1 == nil && beta == nil:
		r.Errorf(n.Line, "attestor: userOwnedGrafeasNote is missing")
	case v1 != nil && beta != nil:
		r.Errorf(beta.Line, "attestor: userOwnedDrydockNote is the former name of userOwnedGrafeasNote; give one of them")
	case v1 != nil:
		r.note(&a, v1, "userOwnedGrafeasNote")
	default:
		r.note(&a, beta, "userOwnedDrydockNote")
	}
	return a, a.Name != ""
}

// note reads what ties an attestor to a note and to keys.
func (r *reporter) note(a *Attestor, n *yaml.Node, what string) {
	f, ok := r.Fields(n, what, "noteReference", "publicKeys", "delegationServiceAccountEmail")
	if !ok && len(f.Values) == 0 {
		return
	}
	a.DelegationServiceAccount = r.Text(f, "delegationServiceAccountEmail")
	if f.Values["noteReference"] == nil {
		r.Errorf(n.Line, "%s: noteReference is missing", what)
	} else if ref, ok := r.Scalar(f.Values["noteReference"], "noteReference"); ok {
		a.Note = r.noteName(ref, f.Lines["noteReference"])
	}
	list := r.List(f, "publicKeys")
	if len(list) > maxKeys {
		r.Errorf(f.Lines["publicKeys"], "%d public keys, more than the %d allowed for an attestor", len(list), maxKeys)
		return
	}
	lines := map[string]int{}
	for _, n := range list {
		k, written := r.key(n)
		if k == nil {
			continue
		}
		if first := lines[k.ID()]; first != 0 {
			r.Errorf(n.Line, "public key %.200q is given twice, first at line %d", k.ID(), first)
			continue
		}
		lines[k.ID()] = n.Line
		a.Keys, a.Written = append(a.Keys, k), append(a.Written, written)
	}
	if len(list) == 0 {
		r.Warnf(a.Line, "attestor %q has no public keys, so that rules that require it deny every image", a.Name)
	}
}

// noteName checks a note reference, and brings its former spelling into form.
func (r *reporter) noteName(ref string, line int) string {
	name := ref
	if rest, ok := strings.CutPrefix(ref, "providers/"); ok {
		name = "projects/" + rest
		r.Warnf(line, "noteReference: %.200q is a former spelling; write %.200q", ref, name)
	}
	if err := names.CheckResource(name, "projects", "notes"); err != nil {
		r.Errorf(line, "noteReference: %v", err)
		return ""
	}
	if project := strings.Split(name, "/")[1]; names.IsNumber(project) {
		r.Errorf(line, "noteReference: %.100q is a project number; write the project's ID", project)
		return ""
	}
	return name
}

// key reads one public key, or reports why it cannot and returns nil.
func (r *reporter) key(n *yaml.Node) (k *signature.PublicKey, written WrittenKey) {
	k, written.Comment, written.Text = keys.Public(r.Reporter, n)
	return k, written
}
