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
	"github.com/gatehouse-dev/gatehouse/policy/hints"
	"github.com/gatehouse-dev/gatehouse/policy/keys"
	"github.com/gatehouse-dev/gatehouse/policy/kritis"
	"github.com/gatehouse-dev/gatehouse/policy/platform"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// A File is a text and what diagnostics call it.
type File struct {
	Name string
	Data []byte
}

// Sources are the texts, and what they leave open.
type Sources struct {
	// Project is the project whose policies are enforced.
	Project string
	// Policies are Binary Authorization policies, platform policies and objects of
	// Kritis, told apart by their content. All of them must allow.
	Policies []File
	// Attestors are lists of Binary Authorization's.
	Attestors []File
	// Builders are whose provenance platform policies may trust.
	Builders []File
	// HintSigners are who signs rollout hints, and what is required by them.
	HintSigners []File
	// System is the system policy, in place of the one that is built in.
	System *File
	// MatchRepository demands of attestations for Binary Authorization policies that
	// they name the repository of the image, too.
	MatchRepository bool
	// PlatformDryRun records what platform policies deny, and lets it in.
	PlatformDryRun bool
	Kritis         kritis.Options
}

// A Bundle is what they amount to.
type Bundle struct {
	Set policy.Set
	// Keys are those that may sign, by the name of the note ("projects/P/notes/N")
	// or of the project ("projects/P") that their statements are filed under.
	Keys map[string][]*signature.PublicKey
	// Attestors are all that were given.
	Attestors []binauthz.Attestor
	// HintKeys are those that may sign rollout hints, by the name of the note.
	HintKeys map[string][]*signature.PublicKey
}

// Load reads the texts. The Bundle is nil if there is an error among the
// diagnostics.
func Load(s Sources) (*Bundle, document.Diagnostics) {
	l := loader{sources: s, bundle: &Bundle{}}
	for _, f := range s.Attestors {
		list, found := binauthz.ParseAttestors(f.Name, f.Data)
		l.found = append(l.found, found...)
		l.bundle.Attestors = append(l.bundle.Attestors, list...)
	}
	for _, f := range s.Builders {
		list, found := platform.ParseBuilders(f.Name, f.Data)
		l.found = append(l.found, found...)
		l.builders = append(l.builders, list...)
	}
	if s.System != nil {
		var found document.Diagnostics
		l.system, found = binauthz.ParsePolicy(s.System.Name, s.System.Data)
		l.found = append(l.found, found...)
	}
	l.bundle.Keys = binauthz.KeysByNote(l.bundle.Attestors)
	l.broken = l.found.HasErrors()
	for _, f := range s.Policies {
		l.policy(f)
	}
	l.kritis()
	l.hints()
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
		case Builders:
			s.Builders = append(s.Builders, f)
		case HintSigners:
			s.HintSigners = append(s.HintSigners, f)
		case Suite:
			found = append(found, notPolicy(f))
		default:
			s.Policies = append(s.Policies, f)
		}
	}
	for _, f := range s.Attestors {
		list, _ := binauthz.ParseAttestors(f.Name, f.Data)
		found = append(found, expired(list, now)...)
	}
	if len(s.Attestors) > 0 || len(s.Builders) > 0 || len(s.HintSigners) > 0 {
		_, more := Load(s)
		return append(found, more...)
	}
	for _, f := range s.Policies {
		found = append(found, alone(f)...)
	}
	return found
}

func notPolicy(f File) document.Diagnostic {
	return document.Diagnostic{File: f.Name, Line: 1, Message: "this is a suite of cases and no policy; 'gatehouse policy test' runs it"}
}

// alone returns what there is to say about a policy without what it names.
func alone(f File) document.Diagnostics {
	var found document.Diagnostics
	switch SortOf(f.Data) {
	case PlatformPolicy:
		_, found = platform.ParsePolicy(f.Name, f.Data)
	case KritisObjects:
		_, found = kritis.Parse(f.Name, f.Data)
	default:
		_, found = binauthz.ParsePolicy(f.Name, f.Data)
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
	sources  Sources
	bundle   *Bundle
	system   *binauthz.Policy
	builders []platform.Builder
	objects  []*kritis.Objects
	found    document.Diagnostics
	// broken is set if it is not known who there is, so that nobody is said to be
	// missing.
	broken bool
}

// put adds what was compiled, with the keys that it rests on. One name is one policy:
// reasons tell policies apart by it.
func (l *loader) put(rules *policy.Ruleset, found document.Diagnostics, signers map[string][]*signature.PublicKey) {
	l.found = append(l.found, found...)
	for _, other := range l.bundle.Set {
		if other.Name == rules.Name {
			l.found = append(l.found, document.Diagnostic{
				File: rules.Source, Line: 1, Severity: document.Error,
				Message: fmt.Sprintf("policy %q is given twice, first in %s", rules.Name, other.Source),
			})
			return
		}
	}
	l.bundle.Set = append(l.bundle.Set, rules)
	for name, list := range signers {
		l.bundle.Keys[name] = append(l.bundle.Keys[name], list...)
	}
}

func (l *loader) policy(f File) {
	switch SortOf(f.Data) {
	case PlatformPolicy:
		p, found := platform.ParsePolicy(f.Name, f.Data)
		l.found = append(l.found, found...)
		if p != nil {
			if p.Name == "" {
				p.Name = "projects/" + l.sources.Project + "/platforms/gke/policies/" + baseName(f.Name)
			}
			o := l.platformOptions()
			rules, found := p.Compile(o)
			l.put(rules, found, p.Keys(o))
		}
	case Suite:
		l.found = append(l.found, notPolicy(f))
	case HintSigners:
		l.sources.HintSigners = append(l.sources.HintSigners, f)
	case KritisObjects:
		objects, found := kritis.Parse(f.Name, f.Data)
		l.found = append(l.found, found...)
		l.objects = append(l.objects, objects)
	default:
		p, found := binauthz.ParsePolicy(f.Name, f.Data)
		l.found = append(l.found, found...)
		if p != nil && !l.broken {
			p.Name = "projects/" + l.sources.Project + "/policy" // as a server does, whatever the text says
			rules, found := p.CompileWith(binauthz.CompileOptions{Attestors: l.bundle.Attestors, System: l.system, MatchRepository: l.sources.MatchRepository})
			l.put(rules, found, nil)
		}
	}
}

// baseName is what a file is called without its folder and its extension.
func baseName(file string) string {
	name := file[strings.LastIndexByte(file, '/')+1:]
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		name = name[:i]
	}
	return name
}

// platformOptions lets every attestor of the project record when images were uploaded.
func (l *loader) platformOptions() platform.Options {
	o := platform.Options{Project: l.sources.Project, Builders: l.builders, DryRun: l.sources.PlatformDryRun}
	for i := range l.bundle.Attestors {
		a := &l.bundle.Attestors[i]
		if strings.HasPrefix(a.Name, "projects/"+o.Project+"/") {
			o.Recorders = append(o.Recorders, policy.Signer{Name: a.Name, Keys: keys.Compile(a.Keys)})
		}
	}
	return o
}

// kritis compiles the objects of all files as one: a policy in one may name an
// authority in another.
func (l *loader) kritis() {
	if len(l.objects) == 0 || l.found.HasErrors() {
		return
	}
	all, found := kritis.Merge(l.objects...)
	l.found = append(l.found, found...)
	if all != nil {
		rules, found := all.Compile(l.sources.Kritis)
		l.put(rules, found, all.Keys())
	}
}

// hints adds what signers of rollout hints require. Where no other policy is in force
// they require nothing, since they let nothing in either.
func (l *loader) hints() {
	var signers []hints.Signer
	for _, f := range l.sources.HintSigners {
		list, found := hints.Parse(f.Name, f.Data)
		l.found = append(l.found, found...)
		signers = append(signers, list...)
	}
	l.found = append(l.found, hints.Apart(signers, l.bundle.Keys)...)
	l.bundle.HintKeys = hints.KeysByNote(signers)
	if len(l.bundle.Set) == 0 {
		return
	}
	for i := range signers {
		if rules := signers[i].Compile(); rules != nil {
			l.put(rules, nil, nil)
		}
	}
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
	// Suite is cases for policies, and nothing that is enforced.
	Suite
	HintSigners
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
	if document.Peek(root, "cases") != nil {
		return Suite
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
		case "hintSigners":
			return HintSigners
		case "apiVersion":
			if strings.HasPrefix(value.Value, "kritis.grafeas.io/") || value.Value == "v1" {
				return KritisObjects
			}
		}
	}
	return BinauthzPolicy
}
