package objects

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/kritis"
	"github.com/gatehouse-dev/gatehouse/signature"
)

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
func (k *compilation) at(everywhere policy.Set, s *space, namespace string) policy.Set {
	if s.set != nil && s.elsewhere == k.noKritis && slices.Equal(s.everywhere, everywhere) {
		return s.set
	}
	set := make(policy.Set, 0, len(everywhere)+len(s.rules)+1)
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
	case k.noKritis != nil:
		set = append(set, k.noKritis)
	}
	s.set, s.everywhere, s.elsewhere = set, everywhere, k.noKritis
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

// withoutKritis makes Kritis' rule for namespaces without policies of it, if it denies.
func (k *compilation) withoutKritis() {
	has := slices.ContainsFunc(k.out.Objects, func(o *Object) bool { return o.kritis.Demands() })
	switch {
	case !has || !k.options.Kritis.DefaultDeny:
		k.noKritis = nil
	case k.noKritis == nil:
		k.noKritis, _ = (&kritis.Objects{}).Compile(k.options.Kritis)
	}
}
