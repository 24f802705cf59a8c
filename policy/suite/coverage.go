package suite

import (
	"fmt"
	"time"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// An Item is something in a policy that cases can try.
type Item struct {
	// Kind is "rule", "check" or "exemption".
	Kind   string `json:"kind"`
	Policy string `json:"policy"`
	// Text is what it is called: the rule's name, the check's, the pattern.
	Text string `json:"text"`
	// Source is FILE:LINE.
	Source string `json:"source,omitempty"`
	// Hits is how many images were decided by it. A check has those that passed it
	// and those that did not, and both have to be tried.
	Hits   int `json:"hits"`
	Passed int `json:"passed,omitempty"`
	Failed int `json:"failed,omitempty"`
}

// Covered reports whether cases have tried all that the item can do.
func (i *Item) Covered() bool {
	if i.Kind == "check" {
		return i.Passed > 0 && i.Failed > 0
	}
	return i.Hits > 0
}

// missing says what has not been tried.
func (i *Item) missing() string {
	switch {
	case i.Kind == "check" && i.Hits > 0 && i.Passed == 0:
		return "no case passes it"
	case i.Kind == "check" && i.Hits > 0 && i.Failed == 0:
		return "no case fails it"
	}
	return "no case tries it"
}

// coverage counts over all suites; policies are told apart by name and version.
type coverage struct {
	items []*Item
	byKey map[string]*Item
}

func (c *coverage) learn(set policy.Set) {
	if c.byKey == nil {
		c.byKey = map[string]*Item{}
	}
	for r := range set.Rulesets() {
		for i := range r.Exempt {
			if e := &r.Exempt[i]; e.Line > 0 { // the built-in system policy has no lines
				c.add(r, exemptionKey(r, *e), Item{Kind: "exemption", Text: e.Pattern.String(), Source: at(r.Source, "", e.Line)})
			}
		}
		for i := range r.Rules {
			rule := &r.Rules[i]
			c.add(r, ruleKey(r, rule.ID), Item{Kind: "rule", Text: rule.ID, Source: at(r.Source, rule.File, rule.Line)})
			for j := range rule.Checks {
				if rule.Evaluation == policy.RequireChecks {
					c.learnCheck(r, rule, j)
				}
			}
		}
	}
}

func (c *coverage) learnCheck(r *policy.Ruleset, rule *policy.Rule, index int) {
	check := &rule.Checks[index]
	text := check.Type
	if a, ok := check.Condition.(policy.Attested); ok {
		text = a.Attestor
	}
	if check.Name != "" {
		text += " " + check.Name
	}
	c.add(r, checkKey(r, rule.ID, index), Item{Kind: "check", Text: text + " of the " + rule.ID, Source: at(r.Source, or(check.File, rule.File), check.Line)})
}

func (c *coverage) add(r *policy.Ruleset, key string, item Item) {
	if c.byKey[key] != nil {
		return
	}
	item.Policy = r.Name
	c.byKey[key] = &item
	c.items = append(c.items, &item)
}

func at(source, file string, line int) string {
	if file == "" {
		file = source
	}
	if line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d", file, line)
}

func prefix(r *policy.Ruleset) string             { return r.Name + "\x00" + r.Version + "\x00" }
func ruleKey(r *policy.Ruleset, id string) string { return prefix(r) + "rule\x00" + id }
func checkKey(r *policy.Ruleset, id string, i int) string {
	return fmt.Sprintf("%scheck\x00%s\x00%d", prefix(r), id, i)
}
func exemptionKey(r *policy.Ruleset, e policy.Exemption) string {
	return prefix(r) + "exemption\x00" + e.Pattern.String()
}

// count adds what one request has tried. Each check is asked about each image alone,
// since a decision tells reasons and not every check that spoke.
func (c *coverage) count(req decide.Request, set policy.Set, facts evidence.Facts, now time.Time) {
	pod := decide.ScopeOf(req)
	for _, r := range set.In(pod.Namespace) {
		rule, ok := r.Select(pod)
		for _, use := range req.Images {
			if e, exempt := r.Exempts(use.Text, pod.Namespace, now); exempt {
				c.hit(exemptionKey(r, e), decide.ALLOW)
				continue
			}
			if !ok {
				continue
			}
			c.hit(ruleKey(r, rule.ID), decide.ALLOW)
			if _, exempt := policy.Exempts(rule.Exempt, use.Text); exempt || rule.Evaluation != policy.RequireChecks {
				continue
			}
			for j := range rule.Checks {
				alone := policy.Set{{Attestors: r.Attestors, Rules: []policy.Rule{{Evaluation: policy.RequireChecks, Checks: rule.Checks[j : j+1]}}}}
				d := decide.Decide(decide.Request{Images: []decide.ImageUse{use}}, alone, facts, now)
				c.hit(checkKey(r, rule.ID, j), d.Verdict)
			}
		}
	}
}

func (c *coverage) hit(key string, v decide.Verdict) {
	item := c.byKey[key]
	if item == nil {
		return
	}
	item.Hits++
	switch {
	case item.Kind != "check":
	case v == decide.ALLOW:
		item.Passed++
	default:
		item.Failed++
	}
}
