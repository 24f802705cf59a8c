// Package bundle puts together what is enforced: the texts of policies in any
// dialect, of attestors and of builders, become one [policy.Set] and the keys whose
// signatures it rests on. It is where every door gets its policy from.
package bundle

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// A File is a text and what diagnostics call it.
type File struct {
	Name string
	Data []byte
}

// Sources are the texts.
type Sources struct {
	// Project is the project whose policies are enforced.
	Project string
	// Policies are Binary Authorization policies, platform policies and objects of
	// Kritis, told apart by their content. All of them must allow.
	Policies []File
	// Attestors are lists of Binary Authorization's.
	Attestors []File
	// System is the system policy, in place of the one that is built in.
	System *File
}

// A Bundle is what they amount to.
type Bundle struct {
	Set policy.Set
	// Keys are those that may sign, by the name of the note ("projects/P/notes/N")
	// or of the project ("projects/P") that their statements are filed under.
	Keys map[string][]*signature.PublicKey
	// Attestors are all that were given.
	Attestors []binauthz.Attestor
}

// Load reads the texts. The Bundle is nil if there is an error among the
// diagnostics.
func Load(s Sources) (*Bundle, document.Diagnostics) {
	l := loader{sources: s, bundle: &Bundle{}}
	for _, f := range s.Attestors {
		l.attestors(f)
	}
	l.bundle.Keys = binauthz.KeysByNote(l.bundle.Attestors)
	if s.System != nil {
		l.system, _ = l.parse(*s.System)
	}
	for _, f := range s.Policies {
		l.policy(f)
	}
	if l.found.HasErrors() {
		return nil, l.found
	}
	return l.bundle, l.found
}

// Lint returns what there is to say at the time now about files of any sort, each by
// itself; and if there are policies and attestors among them, of the ones with the
// others.
func Lint(files []File, now time.Time) document.Diagnostics {
	s := Sources{Project: "default"}
	var found document.Diagnostics
	for _, f := range files {
		switch SortOf(f.Data) {
		case Attestors:
			s.Attestors = append(s.Attestors, f)
		default:
			s.Policies = append(s.Policies, f)
		}
	}
	for _, f := range s.Attestors {
		list, _ := binauthz.ParseAttestors(f.Name, f.Data)
		found = append(found, expired(list, now)...)
	}
	if len(s.Attestors) > 0 {
		_, more := Load(s)
		return append(found, more...)
	}
	for _, f := range s.Policies {
		_, more := binauthz.ParsePolicy(f.Name, f.Data)
		found = append(found, more...)
	}
	return found
}

// expired warns of keys that can make no more attestations.
func expired(attestors []binauthz.Attestor, now time.Time) document.Diagnostics {
	var found document.Diagnostics
	for i := range attestors {
		a := &attestors[i]
		for _, k := range a.Keys {
			if at, ok := k.Expires(); ok && !now.Before(at) {
				found = append(found, document.Diagnostic{
					File: a.File, Line: a.Line, Severity: document.Warning,
					Message: fmt.Sprintf("key %.100s of attestor %q expired at %s: what it signed until then counts, and it can sign no more", k.ID(), a.Name, at.UTC().Format(time.RFC3339)),
				})
			}
		}
	}
	return found
}

type loader struct {
	sources Sources
	bundle  *Bundle
	system  *binauthz.Policy
	found   document.Diagnostics
}

func (l *loader) attestors(f File) {
	list, found := binauthz.ParseAttestors(f.Name, f.Data)
	l.found = append(l.found, found...)
	l.bundle.Attestors = append(l.bundle.Attestors, list...)
}

func (l *loader) parse(f File) (*binauthz.Policy, bool) {
	p, found := binauthz.ParsePolicy(f.Name, f.Data)
	l.found = append(l.found, found...)
	return p, p != nil
}

func (l *loader) policy(f File) {
	p, ok := l.parse(f)
	if !ok {
		return
	}
	p.Name = "projects/" + l.sources.Project + "/policy" // as a server does, whatever the text says
	rules, found := p.CompileWith(binauthz.CompileOptions{Attestors: l.bundle.Attestors, System: l.system})
	l.found = append(l.found, found...)
	l.bundle.Set = append(l.bundle.Set, rules)
}

// Sort is what a text is.
type Sort int

// The sorts. A text that looks like none of the others is taken for a policy of
// Binary Authorization, whose reader says what is wrong with it.
const (
	BinauthzPolicy Sort = iota
	PlatformPolicy
	KritisObjects
	Attestors
	Builders
)

// SortOf tells what a text is, from what stands in it and not from its name.
func SortOf(data []byte) Sort {
	var head yaml.Node
	if yaml.NewDecoder(bytes.NewReader(data)).Decode(&head) != nil || len(head.Content) == 0 {
		return BinauthzPolicy
	}
	root := head.Content[0]
	if root.Kind == yaml.SequenceNode {
		if len(root.Content) > 0 && sortOf(root.Content[0]) == KritisObjects {
			return KritisObjects
		}
		return Attestors
	}
	return sortOf(root)
}

func sortOf(root *yaml.Node) Sort {
	if root.Kind != yaml.MappingNode {
		return BinauthzPolicy
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i].Value, root.Content[i+1]
		switch key {
		case "gkePolicy":
			return PlatformPolicy
		case "attestors", "userOwnedGrafeasNote", "userOwnedDrydockNote":
			return Attestors
		case "builders":
			return Builders
		case "apiVersion":
			if strings.HasPrefix(value.Value, "kritis.grafeas.io/") || value.Value == "v1" {
				return KritisObjects
			}
		}
	}
	return BinauthzPolicy
}
