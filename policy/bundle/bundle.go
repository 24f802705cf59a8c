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
	"github.com/gatehouse-dev/gatehouse/policy/objects"
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
	// Policies are Binary Authorization policies, platform policies, objects of Kritis and
	// of Gatehouse, told apart by their content. All of them must allow.
	Policies []File
	// Objects are those of a cluster. What is wrong with one of them is no error: see
	// package objects. They are compiled by Compiler, at the time Now.
	Objects  []*objects.Object
	Compiler *ObjectCompiler
	Now      time.Time
	// Mesh says that the Istio identity of pods is known.
	Mesh bool
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
	// Objects is what the objects of the cluster amount to, nil if there are none.
	Objects *objects.Outcome
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
	l.readSigners()
	l.hints()
	l.objectsOf()
	if l.found.HasErrors() {
		return nil, l.found
	}
	return l.bundle, l.found
}

// Lint returns what there is to say at the time now about files of any sort, each by
// itself; and if there are policies and attestors among them, of the ones with the
// others.
func Lint(files []File, now time.Time) document.Diagnostics {
	s := Sources{Project: "default", Now: now}
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
	var own []*objects.Object
	for _, f := range s.Policies {
		if SortOf(f.Data) == ClusterObjects {
			list, more := objects.ParseFile(f.Name, f.Data)
			own, found = append(own, list...), append(found, more...)
			continue
		}
		found = append(found, alone(f)...)
	}
	if stored, _ := objects.Refers(own); len(own) > 0 && len(stored) == 0 { // or it is not known who there is
		l := loader{sources: s, bundle: &Bundle{}, own: own}
		l.bundle.Keys = map[string][]*signature.PublicKey{}
		l.objectsOf()
		found = append(found, l.found...)
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
	// own are the objects of files that hold Gatehouse's.
	own     []*objects.Object
	signers []hints.Signer
	found   document.Diagnostics
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
	case ClusterObjects:
		list, found := objects.ParseFile(f.Name, f.Data)
		l.found = append(l.found, found...)
		l.own = append(l.own, list...)
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

// readSigners reads who signs rollout hints.
func (l *loader) readSigners() {
	for _, f := range l.sources.HintSigners {
		list, found := hints.Parse(f.Name, f.Data)
		l.found = append(l.found, found...)
		l.signers = append(l.signers, list...)
	}
}

// hints adds what signers of rollout hints require. Where no other policy is in force
// they require nothing, since they let nothing in either.
func (l *loader) hints() {
	l.found = append(l.found, hints.Apart(l.signers, l.bundle.Keys)...)
	l.bundle.HintKeys = hints.KeysByNote(l.signers)
	if len(l.bundle.Set) == 0 && !objects.Demand(l.own) && !objects.Demand(l.sources.Objects) {
		return
	}
	for i := range l.signers {
		if rules := l.signers[i].Compile(); rules != nil {
			l.put(rules, nil, nil)
		}
	}
}

// objectsOf compiles objects: of files, which are one cluster's together, and of the
// cluster.
func (l *loader) objectsOf() {
	if l.found.HasErrors() || len(l.own)+len(l.sources.Objects) == 0 {
		return
	}
	options := l.objectOptions()
	if len(l.own) > 0 {
		l.found = append(l.found, twice(l.own)...)
		out := objects.Compile(l.own, options, l.sources.Now)
		for _, o := range out.Objects {
			l.found = append(l.found, warnings(out.Problems[o.Ref])...)
		}
		if out.Rules != nil {
			out.Rules.Name, out.Rules.Source = "objects of files", ""
		}
		l.putObjects(out)
	}
	if len(l.sources.Objects) > 0 {
		l.bundle.Objects = l.sources.Compiler.compile(&l.sources, options)
		l.putObjects(l.bundle.Objects)
	}
}

func (l *loader) putObjects(out *objects.Outcome) {
	if out.Rules != nil {
		l.bundle.Set = append(l.bundle.Set, out.Rules)
	}
	for name, list := range out.Keys {
		l.bundle.Keys[name] = append(l.bundle.Keys[name], list...)
	}
}

// twice reports objects that are in two files.
func twice(list []*objects.Object) document.Diagnostics {
	var found document.Diagnostics
	seen := map[objects.Ref]bool{}
	for _, o := range list {
		if seen[o.Ref] {
			found = append(found, o.Diagnostic("%s is in two files", o.Ref))
		}
		seen[o.Ref] = true
	}
	return found
}

// warnings are the problems that compiling objects of files has found. An exemption that
// has ended, or an attestor that is missing, must not keep a gate from starting.
func warnings(problems []objects.Problem) document.Diagnostics {
	var found document.Diagnostics
	for _, p := range problems {
		switch p.Reason {
		case objects.Invalid, objects.Doubtful, objects.KeyUnusable: // told when they were read
		default:
			p.Severity = document.Warning
			found = append(found, objects.Diagnostics([]objects.Problem{p})...)
		}
	}
	return found
}

func (l *loader) objectOptions() *objects.Options {
	o := l.platformOptions()
	return &objects.Options{
		Project: o.Project, Attestors: l.bundle.Attestors, Recorders: o.Recorders, Builders: l.builders, System: l.system,
		HintSigners: l.signers, Mesh: l.sources.Mesh, Kritis: l.sources.Kritis,
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
	// ClusterObjects are objects of Gatehouse's own kinds, perhaps with others.
	ClusterObjects
)

// SortOf tells what a text is, from what stands in it and not from its name.
func SortOf(data []byte) Sort {
	var head yaml.Node
	if yaml.NewDecoder(bytes.NewReader(data)).Decode(&head) != nil || len(head.Content) == 0 {
		return BinauthzPolicy
	}
	root := head.Content[0]
	if isObjects(root) && bytes.Contains(data, []byte(objects.Group+"/")) {
		return ClusterObjects
	}
	if root.Kind == yaml.SequenceNode {
		if len(root.Content) > 0 && sortOf(root.Content[0]) == KritisObjects {
			return KritisObjects
		}
		return Attestors
	}
	return sortOf(root)
}

// isObjects tells an object of Kubernetes that policy is made from, or a list.
func isObjects(root *yaml.Node) bool {
	if root.Kind == yaml.SequenceNode {
		return len(root.Content) > 0 && isObjects(root.Content[0])
	}
	v := document.Peek(root, "apiVersion")
	return v != nil && (strings.HasPrefix(v.Value, objects.Group+"/") || strings.HasPrefix(v.Value, objects.GroupKritis+"/") || v.Value == "v1")
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
