package objects

import (
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/platform"
)

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
	return []policy.Waiver{{Name: o.exemption.origin, Namespaces: o.exemption.namespaces, Until: o.exemption.expires}}
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
