// Package hints reads who signs rollout hints, and what is required of images by them:
//
//	hintSigners:
//	- name: projects/shop/hintSigners/release
//	  noteReference: projects/shop/notes/rollout-hints
//	  publicKeys:                    # as those of an attestor
//	  - pkixPublicKey: {publicKeyPem: …, signatureAlgorithm: ECDSA_P256_SHA256}
//	  require: deny                  # or warn, or nothing (the default)
//	  unhinted: deny                 # or allow: images that no hint was ever about
//	  exemptImages: [registry.k8s.io/**]
//
// A signer that requires something becomes a policy of its own beside those in force. It
// lets nothing in that they do not: a hint never authorises.
package hints

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/keys"
	"github.com/gatehouse-dev/gatehouse/policy/names"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	maxFile    = 8 << 20 // bytes
	maxSigners = 1000
	maxKeys    = 200 // of one, as of an attestor
)

// A Requirement is what happens to an image that is not what is meant to run.
type Requirement int

// The requirements.
const (
	Nothing Requirement = iota
	Warn
	Deny
)

var requirements = []string{"nothing", "warn", "deny"}

func (r Requirement) String() string { return requirements[r] }

// A Signer says by whose keys hints count under a note.
type Signer struct {
	Name string // projects/P/hintSigners/H
	Note string // projects/P/notes/N
	Keys []*signature.PublicKey
	// Require is what happens to images that hints say are not meant to run, but for
	// those that Exempt covers, and, if UnhintedAllowed, those that no hint is about.
	Require         Requirement
	UnhintedAllowed bool
	Exempt          []policy.Exemption
	File            string
	Line            int
}

// KeysByNote returns the keys that sign under each note.
func KeysByNote(signers []Signer) map[string][]*signature.PublicKey {
	byNote := make(map[string][]*signature.PublicKey, len(signers))
	for i := range signers {
		byNote[signers[i].Note] = append(byNote[signers[i].Note], signers[i].Keys...)
	}
	return byNote
}

// Parse reads a list of signers. It is nil if there is an error among the diagnostics.
func Parse(file string, data []byte) ([]Signer, document.Diagnostics) {
	r := document.New(file)
	signers := parse(r, data)
	if r.Erred() {
		return nil, r.Diagnostics()
	}
	return signers, r.Diagnostics()
}

func parse(r *document.Reporter, data []byte) []Signer {
	root := r.Load(data, maxFile)
	if root == nil {
		return nil
	}
	f, _ := r.Fields(root, "signers of rollout hints", "hintSigners")
	list := r.List(f, "hintSigners")
	if len(list) == 0 {
		r.Errorf(root.Line, "hintSigners is missing, or empty")
	}
	if len(list) > maxSigners {
		r.Errorf(root.Line, "%d hintSigners, more than the %d allowed", len(list), maxSigners)
		return nil
	}
	names, notes := map[string]int{}, map[string]int{}
	var signers []Signer
	for _, n := range list {
		s, ok := signer(r, n)
		if !ok {
			continue
		}
		if first := names[s.Name]; first != 0 {
			r.Errorf(s.Line, "signer %q is given twice, first at line %d", s.Name, first)
		}
		if first := notes[s.Note]; first != 0 && s.Note != "" {
			r.Errorf(s.Line, "note %q is that of another signer too, at line %d; hints are numbered by note, so each needs its own", s.Note, first)
		}
		names[s.Name], notes[s.Note] = s.Line, s.Line
		signers = append(signers, s)
	}
	return signers
}

func signer(r *document.Reporter, n *yaml.Node) (Signer, bool) {
	s := Signer{File: r.File, Line: n.Line}
	f, _ := r.Fields(n, "hintSigners", "name", "noteReference", "publicKeys", "require", "unhinted", "exemptImages")
	if n.Kind != yaml.MappingNode {
		return s, false
	}
	s.Name = resource(r, f, n, "name", "hintSigners")
	s.Note = resource(r, f, n, "noteReference", "notes")
	list := r.List(f, "publicKeys")
	switch {
	case len(list) == 0:
		r.Errorf(n.Line, "publicKeys is missing: nobody signs these hints")
	case len(list) > maxKeys:
		r.Errorf(f.Lines["publicKeys"], "%d public keys, more than the %d allowed for a signer", len(list), maxKeys)
		return s, false
	}
	for _, n := range list {
		if k, _, _ := keys.Public(r, n); k != nil {
			s.Keys = append(s.Keys, k)
		}
	}
	if f.Values["require"] != nil {
		word, _ := r.Enum(f, "require", requirements)
		s.Require = Requirement(word)
	}
	if f.Values["unhinted"] != nil {
		word, _ := r.Enum(f, "unhinted", []string{"deny", "allow"})
		s.UnhintedAllowed = word == 1
	}
	for _, n := range r.List(f, "exemptImages") {
		text, ok := r.Scalar(n, "exemptImages")
		if !ok {
			continue
		}
		p, err := image.ParseBinauthzPattern(text)
		if err != nil {
			r.Errorf(n.Line, "exemptImages: %v", err)
			continue
		}
		s.Exempt = append(s.Exempt, policy.Exemption{Pattern: p, Origin: "exemptImages", Line: n.Line})
	}
	return s, true
}

func resource(r *document.Reporter, f document.Fields, n *yaml.Node, field, collection string) string {
	if f.Values[field] == nil {
		r.Errorf(n.Line, "%s is missing; want projects/P/%s/NAME", field, collection)
		return ""
	}
	name, ok := r.Scalar(f.Values[field], field)
	if !ok {
		return ""
	}
	if err := names.CheckResource(name, "projects", collection); err != nil {
		r.Errorf(f.Lines[field], "%s: %v", field, err)
	}
	return name
}

// Compile returns what a signer requires as a policy, nil if it requires nothing.
func (s *Signer) Compile() *policy.Ruleset {
	if s.Require == Nothing {
		return nil
	}
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%q\n%s\n%t\n", s.Note, s.Require, s.UnhintedAllowed) // a hash never fails
	for _, k := range s.Keys {
		fingerprint := k.Fingerprint()
		_, _ = fmt.Fprintf(h, "%q %x\n", k.ID(), fingerprint)
	}
	for _, e := range s.Exempt {
		_, _ = fmt.Fprintf(h, "%q\n", e.Pattern)
	}
	rules := &policy.Ruleset{
		Name: s.Name, Dialect: policy.RolloutHints, Source: s.File, Version: hex.EncodeToString(h.Sum(nil)),
		Exempt: s.Exempt,
		Rules: []policy.Rule{{
			ID: "rollout hints of " + s.Name, Evaluation: policy.RequireChecks, DryRun: s.Require == Warn, Line: s.Line,
			Checks: []policy.Check{{Type: "RolloutHint", Line: s.Line, Condition: policy.Hinted{Note: s.Note, UnhintedAllowed: s.UnhintedAllowed}}},
		}},
	}
	return rules.Build()
}

// Apart returns what is wrong if a key of an attestor signs hints too, or a note has
// both: one key must never say both what an image is and that it is to run.
func Apart(signers []Signer, attesting map[string][]*signature.PublicKey) document.Diagnostics {
	whose := make(map[signature.Fingerprint]string)
	for name, list := range attesting {
		for _, k := range list {
			whose[k.Fingerprint()] = name
		}
	}
	var found document.Diagnostics
	add := func(s *Signer, format string, args ...any) {
		found = append(found, document.Diagnostic{File: s.File, Line: s.Line, Severity: document.Error, Message: fmt.Sprintf(format, args...)})
	}
	for i := range signers {
		s := &signers[i]
		if _, both := attesting[s.Note]; both {
			add(s, "note %q of signer %q has attestations too; give rollout hints a note of their own", s.Note, s.Name)
		}
		for _, k := range s.Keys {
			if name, both := whose[k.Fingerprint()]; both {
				add(s, "key %.200q of signer %q also signs attestations (%s); one key is never both: make another", k.ID(), s.Name, name)
			}
		}
	}
	return found
}
