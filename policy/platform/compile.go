package platform

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/keys"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// Where exemptions come from, as decisions name it.
const (
	originPolicy   = "imageAllowlist of the policy"
	originCheckSet = "imageAllowlist of the check set"
	originCheck    = "imageAllowlist of the check"
)

// Options say what a policy leaves to whoever enforces it.
type Options struct {
	// Project is the id of the one that a check looks into which names no project,
	// and where cosign signatures and records of uploads are filed.
	Project string
	// Recorders are those whose records of uploads count.
	Recorders []policy.Signer
	// Builders are those that rules may name as trusted.
	Builders []Builder
	// DryRun records what the policy denies, and lets it in. A platform policy has
	// no field that says so.
	DryRun bool
	// OnUnavailable is what an image gets whose evidence could not be read.
	OnUnavailable policy.OnUnavailable
}

// Compile makes the Ruleset that enforces p. It is never nil. What p needs and o
// does not have is a warning, and denies until it is there; two builders of one name
// are an error, and neither is used.
func (p *Policy) Compile(o Options) (*policy.Ruleset, document.Diagnostics) {
	if p == nil {
		return &policy.Ruleset{Dialect: policy.PlatformPolicy}, document.Diagnostics{{File: "policy", Message: "there is no policy to compile, and everything is denied"}}
	}
	c := newCompiler(p, o)
	rules := &policy.Ruleset{Name: p.Name, Dialect: policy.PlatformPolicy, Source: p.File, Exempt: exemptions(p.Allow, originPolicy)}
	for i := range p.CheckSets {
		rules.Rules = append(rules.Rules, c.rule(&p.CheckSets[i], p.RuleID(i)))
	}
	if len(p.CheckSets) == 0 {
		rules.Rules = []policy.Rule{{ID: p.RuleID(-1), Evaluation: policy.AlwaysAllow, DryRun: o.DryRun, OnUnavailable: o.OnUnavailable}}
	}
	rules.Build()
	rules.Version = version(p, rules, &o)
	return rules, c.Diagnostics()
}

// Keys returns the keys whose signatures the policy rests on, by the project
// ("projects/P") that their statements are filed under. Those of [Options].Recorders
// are not among them; whoever gives the recorders has their keys.
func (p *Policy) Keys(o Options) map[string][]*signature.PublicKey {
	trust := map[string][]*signature.PublicKey{}
	if p == nil {
		return trust
	}
	c := newCompiler(p, o)
	add := func(projects []string, list []*signature.PublicKey) {
		for _, project := range c.projects(projects, 0) {
			name := "projects/" + project
			for _, k := range list {
				if !slices.ContainsFunc(trust[name], func(t *signature.PublicKey) bool { return t.ID() == k.ID() && t.Fingerprint() == k.Fingerprint() }) {
					trust[name] = append(trust[name], k)
				}
			}
		}
	}
	for i := range p.CheckSets {
		for j := range p.CheckSets[i].Checks {
			switch of := p.CheckSets[i].Checks[j].Of.(type) {
			case SimpleSigning:
				for _, a := range of.Authenticators {
					add(of.Projects, a.Keys)
				}
			case Sigstore:
				for _, a := range of.Authorities {
					add(nil, a.Keys)
				}
			case SLSA:
				for k := range of.Rules {
					if b := c.builders[of.Rules[k].TrustedBuilder]; b != nil {
						add(of.Rules[k].Projects, b.Keys)
					}
				}
			}
		}
	}
	return trust
}

// A compiler turns the parts of one policy into conditions.
type compiler struct {
	*document.Reporter
	options   Options
	builders  map[string]*Builder
	recorders []policy.Signer
}

func newCompiler(p *Policy, o Options) *compiler {
	c := &compiler{Reporter: document.New(p.File), options: o, builders: map[string]*Builder{}, recorders: slices.Clone(o.Recorders)}
	slices.SortStableFunc(c.recorders, func(a, b policy.Signer) int { return strings.Compare(a.Name, b.Name) })
	for i := range o.Builders {
		b := &o.Builders[i]
		if _, twice := c.builders[b.Name]; twice {
			c.Errorf(0, "builder %q is there twice; neither is used, and rules that name it deny", b.Name)
			c.builders[b.Name] = nil
			continue
		}
		c.builders[b.Name] = b
	}
	return c
}

func (c *compiler) rule(s *CheckSet, id string) policy.Rule {
	rule := policy.Rule{
		ID: id, Scope: s.Scope, Evaluation: policy.RequireChecks, Exempt: exemptions(s.Allow, originCheckSet),
		DryRun: c.options.DryRun, OnUnavailable: c.options.OnUnavailable, Line: s.Line,
	}
	if len(s.Checks) == 0 {
		rule.Evaluation = policy.AlwaysAllow
	}
	for i := range s.Checks {
		check := &s.Checks[i]
		rule.Checks = append(rule.Checks, policy.Check{
			Name: check.DisplayName, Type: check.Of.Type(), Exempt: exemptions(check.Allow, originCheck),
			Condition: check.Of.compile(c, check.Line), Line: check.Line,
		})
	}
	return rule
}

func exemptions(list []AllowPattern, origin string) []policy.Exemption {
	var compiled []policy.Exemption
	for _, p := range list {
		compiled = append(compiled, policy.Exemption{Pattern: p.Pattern, Origin: origin, Line: p.Line})
	}
	return compiled
}

// projects returns the ids of the projects to look into.
func (c *compiler) projects(named []string, line int) []string {
	switch {
	case len(named) > 0:
		return named
	case c.options.Project != "":
		return []string{c.options.Project}
	}
	c.Warnf(line, "the check names no project, and there is none to look into in its place; it denies every image that is not exempt")
	return nil
}

func (AlwaysDeny) compile(*compiler, int) policy.Condition { return policy.Never{} }

func (t TrustedDirectory) compile(*compiler, int) policy.Condition {
	return policy.InDirectory{Patterns: t.Patterns}
}

func (f ImageFreshness) compile(c *compiler, line int) policy.Condition {
	if len(c.recorders) == 0 {
		c.Warnf(line, "nobody's records of uploads are trusted here; the check denies every image that is not exempt")
	}
	return policy.Fresh{MaxAge: days(f.MaxUploadAgeDays), Recorders: c.recorders, Projects: c.projects(nil, line)}
}

// days returns a number of days, or as many as a Duration can hold, which is more
// than 292 years.
func days(n int32) time.Duration {
	const day = 24 * time.Hour
	const most = int64(1<<63-1) / int64(day)
	return time.Duration(min(int64(n), most)) * day
}

func (v Vulnerability) compile(c *compiler, line int) policy.Condition {
	return policy.Vulnerabilities{
		MaxFixable: v.MaxFixable, MaxUnfixable: v.MaxUnfixable, Allowed: v.Allowed, Blocked: v.Blocked,
		Projects: c.projects(v.Projects, line),
	}
}

func (s SLSA) compile(c *compiler, line int) policy.Condition {
	var built policy.BuiltBy
	for i := range s.Rules {
		rule := &s.Rules[i]
		compiled := policy.ProvenanceRule{
			Builder:     policy.Builder{Name: rule.TrustedBuilder}, // whom nobody can be
			Projects:    c.projects(rule.Projects, line),
			ConfigBased: rule.ConfigBasedBuildRequired,
			Sources:     rule.TrustedSources,
			Constraint:  rule.Constraint,
		}
		if b := c.builders[rule.TrustedBuilder]; b != nil {
			compiled.Builder = b.compile()
		} else {
			c.Warnf(rule.Line, "no keys of builder %s are known here; until they are, the rule is met by no image", rule.TrustedBuilder)
		}
		built.Rules = append(built.Rules, compiled)
	}
	return built
}

func (s SimpleSigning) compile(c *compiler, line int) policy.Condition {
	return policy.SignedBy{Signers: signers(s.Authenticators, "authenticator"), Projects: c.projects(s.Projects, line)}
}

func (s Sigstore) compile(c *compiler, line int) policy.Condition {
	return policy.SignedBy{Signers: signers(s.Authorities, "authority"), Projects: c.projects(nil, line), Cosign: true}
}

// signers names those that have no name by their number.
func signers(list []Authority, noun string) []policy.Signer {
	var compiled []policy.Signer
	for i := range list {
		name := list[i].DisplayName
		if name == "" {
			name = noun + " " + strconv.Itoa(i)
		}
		compiled = append(compiled, policy.Signer{Name: name, Keys: keys.Compile(list[i].Keys)})
	}
	return compiled
}

// version identifies what is enforced: the text, and what its rules came to with
// the options, which is in their hashes as far as it matters to them.
func version(p *Policy, rules *policy.Ruleset, o *Options) string {
	h := sha256.New()
	h.Write(p.digest[:])
	fmt.Fprintf(h, "\n%t\n%t\n%d\n", o.DryRun, o.OnUnavailable.Warn, o.OnUnavailable.LastAllowedWithin) // a hash never fails
	for i := range rules.Rules {
		h.Write([]byte(rules.Rules[i].Hash()))
	}
	return hex.EncodeToString(h.Sum(nil))
}
