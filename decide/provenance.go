package decide

import (
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/policy"
)

func builtBy(c policy.BuiltBy, u *use) Reason {
	type unlikeness struct {
		of  *evidence.Provenance
		why func() string
	}
	var others []unlikeness
	for i := range c.Rules {
		rule := &c.Rules[i]
		best := -1
		for j := range u.known.Provenances {
			p := &u.known.Provenances[j]
			if !slices.Contains(rule.Projects, p.Project) {
				continue
			}
			switch why := unlike(rule, p); {
			case why != nil:
				others = append(others, unlikeness{p, why})
			case best < 0 || newer(&p.Origin, &u.known.Provenances[best].Origin):
				best = j
			}
		}
		if best >= 0 {
			return satisfied(CodeBuilt, "Built by "+rule.Builder.Name, rule.Builder.Name, &u.known.Provenances[best].Origin)
		}
	}
	var found details
	for _, o := range others {
		found.add("the provenance ", o.of.Occurrence, " ", o.why())
	}
	builders := make([]string, 0, len(c.Rules))
	var projects []string
	for i := range c.Rules {
		builders = append(builders, c.Rules[i].Builder.Name)
		projects = append(projects, c.Rules[i].Projects...)
	}
	found.addRejected(u, projects)
	return Reason{
		Code:     CodeNotBuilt,
		Message:  "No provenance found that satisfies a rule of the check",
		Details:  found.list(),
		Required: cut("a provenance of "+u.ref.Digest().String()+", signed by "+strings.Join(builders, " or ")+", as one of the rules says", maxPlain),
	}
}

// unlike tells why a provenance from a project of the rule does not satisfy it, nil
// if it does.
func unlike(rule *policy.ProvenanceRule, p *evidence.Provenance) func() string {
	switch {
	case !rule.Builder.Trusts(p.Fingerprint):
		return func() string { return "is signed by key " + p.KeyID + ", which is not one of " + rule.Builder.Name }
	case !begins(p.Builder, rule.Builder.IDs):
		return func() string {
			return "names the builder " + strconv.Quote(cut(p.Builder, maxPlain)) + ", which is not " + rule.Builder.Name
		}
	case rule.ConfigBased && !p.ConfigBased:
		return func() string { return "is of a build without a configuration in its source" }
	case len(rule.Sources) > 0 && !covers(rule.Sources, p.Source):
		return func() string {
			return "is of source " + strconv.Quote(cut(p.Source, maxPlain)) + ", which the policy does not trust"
		}
	case rule.Constraint != nil && len(p.Statement) == 0:
		return func() string {
			return "is not kept whole, as newer ones are, so that " + strconv.Quote(cut(rule.Constraint.String(), maxPlain)) + " could not be evaluated"
		}
	case rule.Constraint != nil:
		switch holds, err := rule.Constraint.Holds(p.Statement); {
		case err != nil:
			return func() string { return "could not be evaluated: " + plain(err.Error()) }
		case !holds:
			return func() string { return "does not satisfy " + strconv.Quote(cut(rule.Constraint.String(), maxPlain)) }
		}
	}
	return nil
}

func begins(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if p != "" && strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

func covers(patterns []policy.SourcePattern, url string) bool {
	for _, p := range patterns {
		if p.Match(url) {
			return true
		}
	}
	return false
}
