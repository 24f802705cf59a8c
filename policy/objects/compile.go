package objects

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/image"
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

	lenient   []*Object // ClusterExemptions and Delegations of exempt, waived
	exempt    []policy.Exemption
	waived    []policy.Waiver
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
		of[namespace] = k.at(namespace, everywhere, s)
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

// lenience makes what ClusterExemptions do, and forgets what was finished with others.
func (k *compilation) lenience() {
	now := slices.Concat(k.exemptions, k.delegations)
	if k.lenient != nil && slices.Equal(now, k.lenient) {
		return
	}
	k.lenient, k.exempt, k.waived = append([]*Object{}, now...), nil, nil
	for _, o := range k.exemptions {
		if o.exemption != nil {
			k.exempt = append(k.exempt, o.exempts()...)
			k.waived = append(k.waived, o.waives()...)
		}
	}
	for _, u := range k.cluster {
		u.final = nil
	}
	for _, s := range k.spaces {
		s.objects = nil // to be looked at again: Delegations may let their Exemptions do other things
		for _, u := range s.units {
			u.final = nil
		}
	}
}

func (o *Object) exempts() []policy.Exemption {
	list := slices.Clone(o.exemption.images)
	if o.file == "" {
		for i := range list {
			list[i].Line = 0
		}
	}
	return list
}

func (o *Object) waives() []policy.Waiver {
	if !o.exemption.dryRun {
		return nil
	}
	return []policy.Waiver{{Name: o.String(), Namespaces: o.exemption.namespaces, Until: o.exemption.expires}}
}

// finish adds what is exempt everywhere.
func (k *compilation) finish(u *unit) *policy.Ruleset {
	if u.final == nil {
		u.final = u.rules.With(k.exempt, k.waived)
	}
	return u.final
}

// rests returns the objects that a policy rests on: the attestors that it names by the
// names of objects, nil for one that is not there.
func (k *compilation) rests(o *Object, own map[string]*Object) []*Object {
	var list []*Object
	for _, name := range o.policy.attestors {
		if isFull(name) {
			continue
		}
		a := own[name]
		if a == nil {
			a = k.attestors[name]
		}
		list = append(list, a)
	}
	return list
}

// unit compiles a policy, unless what it was compiled to before still holds.
func (k *compilation) unit(o *Object, before *unit, own map[string]*Object) *unit {
	rests := k.rests(o, own)
	if before != nil && slices.Equal(before.rests, rests) {
		return before
	}
	u := &unit{rests: rests}
	d := o.policy
	switch {
	case d.broken != "":
		u.rules = o.deny(d.broken)
	case d.binauthz != nil && !k.options.Mesh && needsMesh(d.binauthz):
		u.problems = []Problem{o.problem(MeshUnknown, "it has istioServiceIdentityAdmissionRules, and the gate was not told the trust domain of the mesh")}
		u.rules = o.deny(u.problems[0].Message)
	case d.binauthz != nil:
		k.binauthz(o, u)
	default:
		k.platform(o, u)
	}
	u.rules.Namespaces = d.namespaces
	return u
}

func needsMesh(p *binauthz.Policy) bool {
	return slices.ContainsFunc(p.Specific, func(s binauthz.SpecificRule) bool { return s.Scope.IstioIdentity != "" })
}

// deny is what stands for a policy that cannot be enforced as it is written.
func (o *Object) deny(why string) *policy.Ruleset {
	rules := &policy.Ruleset{
		Name: o.String(), Dialect: policy.BinaryAuthorization, Source: o.source(), Version: hex.EncodeToString(o.digest[:]),
		Rules: []policy.Rule{{
			ID: o.String() + ", which cannot be enforced", Evaluation: policy.RequireChecks, DryRun: o.policy.dryRun, Line: o.line,
			Checks: []policy.Check{{Type: o.Kind, Name: o.name(), Condition: policy.Never{Why: why}, Line: o.line}},
		}},
	}
	return rules.Build()
}

func (o *Object) name() string {
	if o.Namespace == "" {
		return o.Name
	}
	return o.Namespace + "/" + o.Name
}

// source is what decisions say that a policy came from.
func (o *Object) source() string {
	if o.file != "" {
		return o.file
	}
	return fmt.Sprintf("%s, generation %d", o.String(), o.Generation)
}

// binauthz compiles a policy in the words of Binary Authorization.
func (k *compilation) binauthz(o *Object, u *unit) {
	p := *o.policy.binauthz
	p.Name, p.File = o.String(), o.source()
	names := map[string]string{}
	var attestors []binauthz.Attestor
	next := 0
	for _, name := range o.policy.attestors {
		if isFull(name) {
			for i := range k.options.Attestors {
				if k.options.Attestors[i].Name == name {
					attestors = append(attestors, k.options.Attestors[i])
				}
			}
			continue
		}
		a := u.rests[next]
		if next++; a == nil {
			names[name] = attestorName("", name)
			continue
		}
		names[name] = a.attestor.Name
		attestors = append(attestors, *a.attestor)
	}
	rename := func(rule binauthz.AdmissionRule) binauthz.AdmissionRule {
		rule.Attestors = slices.Clone(rule.Attestors)
		for i := range rule.Attestors {
			if full, ok := names[rule.Attestors[i].Name]; ok {
				rule.Attestors[i].Name = full
			}
		}
		rule.DryRun = rule.DryRun || o.policy.dryRun
		return rule
	}
	p.Default = rename(p.Default)
	p.Specific = slices.Clone(p.Specific)
	for i := range p.Specific {
		p.Specific[i].AdmissionRule = rename(p.Specific[i].AdmissionRule)
	}
	rules, found := p.CompileWith(binauthz.CompileOptions{Attestors: attestors, System: k.options.System})
	u.rules, u.problems = o.tidy(rules), o.compiled(found)
}

func (k *compilation) platform(o *Object, u *unit) {
	p := *o.policy.platform
	p.Name, p.File = o.String(), o.source()
	options := platform.Options{Project: k.options.Project, Recorders: k.options.Recorders, Builders: k.options.Builders, DryRun: o.policy.dryRun}
	rules, found := p.Compile(options)
	u.rules, u.problems, u.keys = o.tidy(rules), o.compiled(found), p.Keys(options)
}

// compiled are the problems that compiling has found: something is missing, and denies.
func (o *Object) compiled(found document.Diagnostics) []Problem {
	var problems []Problem
	for _, d := range found {
		problems = append(problems, Problem{Severity: d.Severity, Reason: NotFound, Message: d.Message, file: o.file, line: d.Line})
	}
	return problems
}

// tidy takes the lines out that nobody knows: those of an object of a cluster.
func (o *Object) tidy(rules *policy.Ruleset) *policy.Ruleset {
	if o.file == "" {
		withoutLines(rules)
	}
	return rules
}

func withoutLines(rules *policy.Ruleset) {
	bare := func(list []policy.Exemption) {
		for i := range list {
			list[i].Line = 0
		}
	}
	bare(rules.Exempt)
	for i := range rules.Rules {
		rule := &rules.Rules[i]
		rule.Line = 0
		bare(rule.Exempt)
		for j := range rule.Checks {
			rule.Checks[j].Line = 0
			bare(rule.Checks[j].Exempt)
		}
	}
}

// space compiles the objects of a namespace, unless they and what they rest on are those
// of before.
func (k *compilation) space(namespace string, list []*Object) *space {
	before := k.spaces[namespace]
	own, shadowed := map[string]*Object{}, []*Object(nil)
	for _, o := range list {
		if o.Kind != KindAttestor {
			continue
		}
		if k.attestors[o.Name] != nil {
			shadowed = append(shadowed, o)
		} else if o.attestor != nil && k.forHints(o.attestor.Note, o.attestor.Keys) == "" {
			own[o.Name] = o
		}
	}
	if before != nil && slices.Equal(before.objects, list) && k.still(before, own, shadowed) {
		return before
	}
	s := &space{objects: list, shadowed: shadowed, units: map[*Object]*unit{}, found: map[Ref][]Problem{}}
	var theirs []*Object // Kritis'
	policies := 0
	for _, o := range list {
		switch {
		case o.Kind == KindAttestor:
			k.ownAttestor(s, o, shadowed)
		case o.kritis != nil:
			theirs = append(theirs, o)
		case o.policy != nil:
			if policies++; policies > maxPolicies {
				s.tooMany(o, policies)
				continue
			}
			var had *unit
			if before != nil {
				had = before.units[o]
			}
			u := k.unit(o, had, own)
			s.units[o] = u
			s.rules = append(s.rules, u.rules)
			s.keys = append(s.keys, u.keys)
			s.add(o, u.problems...)
		case o.exemption != nil:
			k.delegated(s, o)
		}
	}
	k.kritis(s, namespace, theirs)
	return s
}

// still reports whether the policies of a namespace rest on what they did.
func (k *compilation) still(s *space, own map[string]*Object, shadowed []*Object) bool {
	for o, u := range s.units {
		if !slices.Equal(u.rests, k.rests(o, own)) {
			return false
		}
	}
	return slices.Equal(s.shadowed, shadowed)
}

func (s *space) add(o *Object, problems ...Problem) {
	if len(problems) > 0 {
		s.found[o.Ref] = append(s.found[o.Ref], problems...)
	}
}

func (k *compilation) ownAttestor(s *space, o *Object, shadowed []*Object) {
	switch {
	case slices.Contains(shadowed, o):
		s.add(o, o.problem(Shadowed, "there is a ClusterAttestor %q, and this one counts for nothing; give it another name", o.Name))
	case o.attestor == nil:
	default:
		if why := k.forHints(o.attestor.Note, o.attestor.Keys); why != "" {
			s.add(o, o.problem(KeyForHints, "%s", why))
			return
		}
		s.keys = append(s.keys, map[string][]*signature.PublicKey{o.attestor.Note: o.attestor.Keys})
	}
}

// tooMany puts, for all policies that are too many, one that denies.
func (s *space) tooMany(o *Object, policies int) {
	p := o.problem(TooMany, "more than the %d policies that a namespace may have: nothing runs there until some are taken away", maxPolicies)
	s.add(o, p)
	if policies == maxPolicies+1 {
		s.rules = append(s.rules, o.deny(p.Message))
	}
}

// delegated lets an Exemption do what a Delegation covers.
func (k *compilation) delegated(s *space, o *Object) {
	why := "there is no Delegation for the namespace"
	for _, d := range k.delegations {
		if d.delegation == nil || !d.delegation.namespaces.Cover(o.Namespace) {
			continue
		}
		if why = d.delegation.refuses(o, k.now); why == "" {
			s.exempt = append(s.exempt, o.exempts()...)
			s.waived = append(s.waived, o.waives()...)
			return
		}
		why = "Delegation " + d.Name + " does not cover it: " + why
	}
	s.add(o, o.problem(NotDelegated, "it counts for nothing: %s", why))
}

// refuses says why a delegation does not cover an exemption, "" if it does.
func (d *delegation) refuses(o *Object, now time.Time) string {
	e, made := o.exemption, o.Created
	if made.IsZero() {
		made = now // it is in a file, and in no cluster yet
	}
	most, what := d.most, "exemptions of images"
	if e.dryRun {
		most, what = d.dryRun, "dry runs"
	}
	switch {
	case most == 0:
		return "it does not delegate " + what
	case e.expires.Sub(made) > most:
		return fmt.Sprintf("it ends %v after it was made, and at most %v is delegated", e.expires.Sub(made).Round(time.Second), most)
	}
	for _, x := range e.images {
		if !slices.ContainsFunc(d.images, func(wide string) bool { return within(x.Pattern.String(), wide) }) {
			return fmt.Sprintf("%q is not within what is delegated", x.Pattern)
		}
	}
	return ""
}

// within reports whether a pattern of Binary Authorization covers only what the other does.
func within(narrow, wide string) bool {
	n, w := strings.TrimRight(narrow, "*"), strings.TrimRight(wide, "*")
	stars, allowed := len(narrow)-len(n), len(wide)-len(w)
	rest, begins := strings.CutPrefix(n, w)
	switch {
	case narrow == wide:
		return true
	case stars == 0:
		pattern, err := image.ParseBinauthzPattern(wide)
		return err == nil && pattern.Match(narrow)
	case allowed == 0 || stars > allowed || !begins:
		return false
	case allowed == 1:
		return !strings.Contains(rest, "/")
	}
	return true
}

// kritis compiles the objects of Kritis in a namespace.
func (k *compilation) kritis(s *space, namespace string, list []*Object) {
	all := &kritis.Objects{}
	gaps, isps := 0, 0
	for _, o := range list {
		p := o.kritis
		for i := range p.AttestationAuthorities {
			a := &p.AttestationAuthorities[i]
			if why := k.forHints(a.Note, a.Keys); why != "" {
				s.add(o, o.problem(KeyForHints, "%s", why))
				continue
			}
			all.AttestationAuthorities = append(all.AttestationAuthorities, *a)
		}
		if len(p.GenericAttestationPolicies) > 0 {
			if gaps++; gaps > maxPolicies {
				p = s.tooManyKritis(o, gaps)
			}
		}
		if len(p.ImageSecurityPolicies) > 0 {
			if isps++; isps > maxPolicies {
				p = s.tooManyKritis(o, isps)
			}
		}
		all.GenericAttestationPolicies = append(all.GenericAttestationPolicies, p.GenericAttestationPolicies...)
		all.ImageSecurityPolicies = append(all.ImageSecurityPolicies, p.ImageSecurityPolicies...)
	}
	if len(all.AttestationAuthorities) > 0 {
		s.keys = append(s.keys, all.Keys())
	}
	if !all.Demands() {
		return
	}
	rules, found := all.Compile(k.options.Kritis)
	if rules.Namespaces = (policy.Namespaces{}); list[0].file == "" {
		withoutLines(rules)
	}
	s.kritis = rules
	for _, d := range found {
		if o := about(list, d); o != nil {
			s.add(o, Problem{Severity: d.Severity, Reason: NotFound, Message: d.Message, file: o.file, line: d.Line})
		}
	}
}

// tooManyKritis returns what stands for all policies that are too many: one that denies.
func (s *space) tooManyKritis(o *Object, n int) *kritis.Objects {
	p := o.problem(TooMany, "more than the %d %ss that a namespace may have", maxPolicies, o.Kind)
	s.add(o, p)
	if n > maxPolicies+1 {
		return &kritis.Objects{}
	}
	return kritis.Unreadable(o.Kind, kritis.Meta{Namespace: o.Namespace, Name: o.Name, File: o.source()}, p.Message)
}

// about returns the object that a diagnostic is about.
func about(list []*Object, d document.Diagnostic) *Object {
	var best *Object
	for _, o := range list {
		switch {
		case o.file == "" && d.File == o.String():
			return o
		case o.file != "" && d.File == o.file && o.line <= d.Line && (best == nil || o.line > best.line):
			best = o
		}
	}
	return best
}

// at returns the policies of a namespace.
func (k *compilation) at(namespace string, everywhere policy.Set, s *space) policy.Set {
	var set policy.Set
	for _, r := range everywhere {
		if r.Namespaces.Cover(namespace) {
			set = append(set, r.With(s.exempt, s.waived))
		}
	}
	for _, r := range s.rules {
		set = append(set, k.finishOwn(s, r).With(s.exempt, s.waived))
	}
	switch {
	case s.kritis != nil:
		set = append(set, s.kritis)
	case k.options.Kritis.DefaultDeny && k.hasKritis():
		set = append(set, k.noKritis())
	}
	return set
}

// finishOwn is finish for a policy of a namespace.
func (k *compilation) finishOwn(s *space, r *policy.Ruleset) *policy.Ruleset {
	for _, u := range s.units {
		if u.rules == r {
			return k.finish(u)
		}
	}
	return r.With(k.exempt, k.waived)
}

func (k *compilation) hasKritis() bool {
	return slices.ContainsFunc(k.out.Objects, func(o *Object) bool { return o.kritis.Demands() })
}

// noKritis is Kritis' rule for namespaces without policies of it.
func (k *compilation) noKritis() *policy.Ruleset {
	rules, _ := (&kritis.Objects{}).Compile(k.options.Kritis)
	return rules
}

// signpost is the Ruleset that stands for all.
func (k *compilation) signpost(of map[string]policy.Set, elsewhere policy.Set) *policy.Ruleset {
	if k.options.Kritis.DefaultDeny && k.hasKritis() {
		elsewhere = append(elsewhere, k.noKritis())
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
