package objects

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/hints"
	"github.com/gatehouse-dev/gatehouse/policy/kritis"
	"github.com/gatehouse-dev/gatehouse/policy/platform"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// Options say what objects leave open. They must not be changed once they were used.
type Options struct {
	// Project is the id of the project that the gate enforces the policies of.
	Project string
	// Attestors are those of the policy API that policies may name in full.
	Attestors []binauthz.Attestor
	// Recorders and Builders are those of platform policies.
	Recorders []policy.Signer
	Builders  []platform.Builder
	// System is the system policy, in place of the one that is built in.
	System *binauthz.Policy
	// HintSigners are who signs rollout hints: no attestor has their notes or keys.
	HintSigners []hints.Signer
	// Mesh says that the Istio identity of pods is known.
	Mesh   bool
	Kritis kritis.Options
}

// An Outcome is what objects amount to.
type Outcome struct {
	// Rules are the policies of all namespaces, found by a [policy.Local]; nil if no object
	// demands anything.
	Rules *policy.Ruleset
	// Keys are those that may sign, by the name of the note ("projects/P/notes/N") or of the
	// project ("projects/P") that their statements are filed under.
	Keys map[string][]*signature.PublicKey
	// Problems are those of each object that has any, from reading and compiling, the worst
	// first.
	Problems map[Ref][]Problem
	// Objects are those that it was compiled from, in the order of their names.
	Objects []*Object
}

// KeysOf returns what is known of the keys of an attestor or authority.
func (o *Outcome) KeysOf(r Ref) KeyState {
	i, ok := slices.BinarySearchFunc(o.Objects, r, func(o *Object, r Ref) int { return o.Compare(r) })
	if !ok {
		return KeyState{}
	}
	return o.Objects[i].Keys
}

// Compile makes the Outcome of objects, of which no two have one name.
func Compile(list []*Object, options *Options, now time.Time) *Outcome {
	return new(Compiler).Compile(list, options, now)
}

// A Compiler keeps, from one Compile to the next, what has not changed: the parts of
// namespaces whose objects are the same, for the same *Options. The zero Compiler is ready
// to use, by one goroutine at a time.
type Compiler struct {
	options *Options
	cluster map[*Object]*unit // of ClusterPolicies
	spaces  map[string]*space

	lenient []*Object // ClusterExemptions and Delegations of exempt, waived
	exempt  []policy.Exemption
	waived  []policy.Waiver
	// noKritis is for namespaces without policies of Kritis, if they deny.
	noKritis  *policy.Ruleset
	hintKeys  map[signature.Fingerprint]string
	hintNotes map[string]string
}

// A unit is what one policy compiles to, while what it rests on stays.
type unit struct {
	rests    []*Object // the attestors that it names, nil for one that is not there
	rules    *policy.Ruleset
	final    *policy.Ruleset // with ClusterExemptions
	keys     map[string][]*signature.PublicKey
	problems []Problem
}

// A space is what the objects of one namespace compile to.
type space struct {
	objects []*Object
	units   map[*Object]*unit
	rules   policy.Set
	exempt  []policy.Exemption
	waived  []policy.Waiver
	kritis  *policy.Ruleset
	// shadowed are the Attestors that have the name of a ClusterAttestor.
	shadowed []*Object
	keys     []map[string][]*signature.PublicKey
	found    map[Ref][]Problem

	// set is what is in force there, while these stay.
	set        policy.Set
	everywhere policy.Set
	elsewhere  *policy.Ruleset
}

// Compile makes the Outcome of objects, of which no two have one name.
func (c *Compiler) Compile(list []*Object, options *Options, now time.Time) *Outcome {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b *Object) int { return a.Compare(b.Ref) })
	if c.options != options || options == nil {
		if options == nil {
			options = &Options{}
		}
		*c = Compiler{options: options}
		c.learnHints()
	}
	k := compilation{Compiler: c, now: now, out: &Outcome{Problems: map[Ref][]Problem{}, Keys: map[string][]*signature.PublicKey{}, Objects: list}}
	k.sort(list)
	k.run()
	return k.out
}

// learnHints remembers what no attestor may have.
func (c *Compiler) learnHints() {
	c.hintKeys, c.hintNotes = map[signature.Fingerprint]string{}, map[string]string{}
	for i := range c.options.HintSigners {
		s := &c.options.HintSigners[i]
		c.hintNotes[s.Note] = s.Name
		for _, k := range s.Keys {
			c.hintKeys[k.Fingerprint()] = s.Name
		}
	}
}

// A compilation is one run of a Compiler.
type compilation struct {
	*Compiler
	now time.Time
	out *Outcome

	policies, exemptions, delegations []*Object
	attestors                         map[string]*Object
	namespaces                        map[string][]*Object
	demands                           bool // there is an object that demands something
}

// sort puts objects where they belong.
func (k *compilation) sort(list []*Object) {
	k.attestors, k.namespaces = map[string]*Object{}, map[string][]*Object{}
	for _, o := range list {
		if len(o.Problems) > 0 {
			k.out.Problems[o.Ref] = slices.Clone(o.Problems)
		}
		k.demands = k.demands || o.policy != nil || o.kritis.Demands()
		switch o.Kind {
		case KindClusterPolicy:
			k.policies = append(k.policies, o)
		case KindClusterExemption:
			k.exemptions = append(k.exemptions, o)
		case KindDelegation:
			k.delegations = append(k.delegations, o)
		case KindClusterAttestor:
			if o.attestor == nil {
				continue
			}
			if why := k.forHints(o.attestor.Note, o.attestor.Keys); why != "" {
				k.problem(o, KeyForHints, "%s", why)
				continue
			}
			k.attestors[o.Name] = o
			k.trust(map[string][]*signature.PublicKey{o.attestor.Note: o.attestor.Keys})
		case KindRolloutHint:
			if o.hint != nil {
				k.carry(o)
			}
		case KindKritisConfig:
			k.oneConfig(o, list)
		default:
			k.namespaces[o.Namespace] = append(k.namespaces[o.Namespace], o)
		}
	}
}

// oneConfig reports a KritisConfig beside the first.
func (k *compilation) oneConfig(o *Object, list []*Object) {
	first := slices.IndexFunc(list, func(o *Object) bool { return o.Kind == KindKritisConfig })
	if list[first] != o {
		k.problem(o, TooMany, "there can be only one KritisConfig, and %q is the one that counts", list[first].Name)
	}
}

func (k *compilation) problem(o *Object, reason Reason, format string, args ...any) {
	k.out.Problems[o.Ref] = append(k.out.Problems[o.Ref], o.problem(reason, format, args...))
}

func (o *Object) problem(reason Reason, format string, args ...any) Problem {
	return Problem{Severity: document.Error, Reason: reason, Message: fmt.Sprintf(format, args...), file: o.file, line: o.line}
}

func (k *compilation) trust(keys map[string][]*signature.PublicKey) {
	for name, list := range keys {
		k.out.Keys[name] = append(k.out.Keys[name], list...)
	}
}

// carry says so if no signer has signed a rollout hint.
func (k *compilation) carry(o *Object) {
	if len(k.options.HintSigners) == 0 {
		return // whose hints count is not known here
	}
	for i := range k.options.HintSigners {
		s := &k.options.HintSigners[i]
		if s.Note == o.hint.Note && o.hint.signedBy(s.Keys) {
			return
		}
	}
	k.problem(o, Unverified, "no signer of %s has signed it, so that it counts for nothing", o.hint.Note)
}

func (h *Hint) signedBy(keys []*signature.PublicKey) bool {
	for _, s := range h.Signatures {
		for _, key := range keys {
			if !key.Matches(s.KeyID) {
				continue
			}
			if signed, err := key.Verify(h.Payload, s.Signature); err == nil && string(signed) == string(h.Payload) {
				return true
			}
		}
	}
	return false
}

// forHints says why nobody may attest under the note or by one of the keys.
func (k *compilation) forHints(note string, keys []*signature.PublicKey) string {
	if signer, both := k.hintNotes[note]; both {
		return fmt.Sprintf("note %q is that of rollout hints of %s; give attestations a note of their own", note, signer)
	}
	for _, key := range keys {
		if signer, both := k.hintKeys[key.Fingerprint()]; both {
			return fmt.Sprintf("key %.200q signs rollout hints for %s; one key is never both: make another", key.ID(), signer)
		}
	}
	return ""
}

func (k *compilation) run() {
	k.lenience()
	k.withoutKritis()
	units := map[*Object]*unit{}
	var everywhere policy.Set
	for _, o := range k.policies {
		u := k.unit(o, k.cluster[o], nil)
		units[o] = u
		everywhere = append(everywhere, k.finish(u))
		k.trust(u.keys)
		k.found(o.Ref, u.problems)
	}
	k.cluster = units
	of, spaces := map[string]policy.Set{}, map[string]*space{}
	for _, namespace := range slices.Sorted(maps.Keys(k.namespaces)) {
		s := k.space(namespace, k.namespaces[namespace])
		spaces[namespace] = s
		for _, keys := range s.keys {
			k.trust(keys)
		}
		for ref, problems := range s.found {
			k.found(ref, problems)
		}
		of[namespace] = k.at(everywhere, s, namespace)
	}
	k.spaces = spaces
	k.expired()
	for _, problems := range k.out.Problems {
		slices.SortStableFunc(problems, func(a, b Problem) int { return int(a.Severity) - int(b.Severity) })
	}
	if k.demands {
		k.out.Rules = k.signpost(of, everywhere)
	}
}

func (k *compilation) found(r Ref, problems []Problem) {
	if len(problems) > 0 {
		k.out.Problems[r] = append(k.out.Problems[r], problems...)
	}
}

// signpost is the Ruleset that stands for all.
func (k *compilation) signpost(of map[string]policy.Set, elsewhere policy.Set) *policy.Ruleset {
	if k.noKritis != nil {
		elsewhere = append(slices.Clone(elsewhere), k.noKritis)
	}
	nothing := &policy.Ruleset{
		Name: rulesetName, Dialect: policy.BinaryAuthorization, Source: "objects of the cluster",
		Rules: []policy.Rule{{ID: "no object of policy is for the namespace", Evaluation: policy.AlwaysAllow}},
	}
	h := sha256.New()
	for _, o := range k.out.Objects {
		_, _ = h.Write(o.digest[:]) // a hash never fails
	}
	return &policy.Ruleset{
		Name: rulesetName, Source: "objects of the cluster", Version: hex.EncodeToString(h.Sum(nil)),
		Local: policy.NewLocal(of, elsewhere, nothing.Build()),
	}
}

const rulesetName = "cluster objects"

// expired reports exemptions that have ended.
func (k *compilation) expired() {
	for _, o := range k.out.Objects {
		if e := o.exemption; e != nil && !e.expires.IsZero() && !k.now.Before(e.expires) {
			k.problem(o, Expired, "it ended at %s, and counts for nothing", e.expires.Format(time.RFC3339))
		}
	}
}
