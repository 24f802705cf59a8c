package binauthz

import (
	"crypto/sha256"
	_ "embed" // for the system policy
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
)

// Where exemptions come from, as decisions name it.
const (
	originSystem  = "system policy"
	originProject = "admissionWhitelistPatterns"
)

//go:embed system.yaml
var systemPolicy string

// SystemPolicy returns the text of the policy that globalPolicyEvaluationMode
// ENABLE puts before a project's own: the images that GKE itself runs.
func SystemPolicy() string { return systemPolicy }

// Compile makes the Ruleset that enforces p with these attestors. It is never
// nil. An attestor that a rule names and that is not among them is a warning and
// denies; two attestors of one name are an error, and neither is used.
func (p *Policy) Compile(attestors []Attestor) (*policy.Ruleset, document.Diagnostics) {
	return p.CompileWith(CompileOptions{Attestors: attestors})
}

// CompileOptions are what a policy is compiled with.
type CompileOptions struct {
	Attestors []Attestor
	// System is the system policy; nil is the one that is built in.
	System *Policy
	// MatchRepository demands that what was signed names the repository of the image,
	// as Kritis does. Binary Authorization looks at the digest only.
	MatchRepository bool
}

// CompileWith is Compile with more to choose.
func (p *Policy) CompileWith(o CompileOptions) (*policy.Ruleset, document.Diagnostics) {
	if p == nil {
		return &policy.Ruleset{}, document.Diagnostics{{File: "policy", Message: "there is no policy to compile, and everything is denied"}}
	}
	r := newReporter(p.File)
	rules := &policy.Ruleset{Name: p.Name, Dialect: policy.BinaryAuthorization, Source: p.File, Attestors: map[string]policy.Attestor{}}
	if p.Global == GlobalEnable {
		rules.Exempt = r.systemExemptions(&o)
	}
	for _, e := range p.Exempt {
		rules.Exempt = append(rules.Exempt, policy.Exemption{Pattern: e.Pattern, Origin: originProject, Line: e.Line})
	}
	byName := r.index(o.Attestors)
	for i := range p.Specific {
		s := &p.Specific[i]
		rules.Rules = append(rules.Rules, r.compileRule(s.AdmissionRule, s.ID, s.Scope, byName, rules.Attestors))
	}
	rules.Rules = append(rules.Rules, r.compileRule(p.Default, defaultRuleID, policy.Scope{}, byName, rules.Attestors))
	for name, a := range rules.Attestors {
		a.MatchRepository = a.MatchRepository || o.MatchRepository
		rules.Attestors[name] = a
	}
	rules.Version = version(p, o.System, rules.Attestors)
	return rules.Build(), r.Diagnostics()
}

func (r *reporter) systemExemptions(o *CompileOptions) []policy.Exemption {
	if o.System == nil {
		system, diags := ParsePolicy("system policy", []byte(systemPolicy))
		r.Add(diags...)
		if system == nil {
			return nil
		}
		o.System = system
	}
	var list []policy.Exemption
	for _, e := range o.System.Exempt {
		list = append(list, policy.Exemption{Pattern: e.Pattern, Origin: originSystem})
	}
	return list
}

// index returns the attestors by name, without those whose name is not unique.
func (r *reporter) index(attestors []Attestor) map[string]*Attestor {
	byName := make(map[string]*Attestor, len(attestors))
	for i := range attestors {
		a := &attestors[i]
		if _, twice := byName[a.Name]; twice {
			r.Errorf(0, "attestor %q is there twice; neither is used, and rules that name it deny", a.Name)
			byName[a.Name] = nil
			continue
		}
		byName[a.Name] = a
	}
	return byName
}

// compileRule compiles one rule, and puts the attestors that it names into used.
func (r *reporter) compileRule(from AdmissionRule, id string, scope policy.Scope, byName map[string]*Attestor, used map[string]policy.Attestor) policy.Rule {
	rule := policy.Rule{ID: id, Scope: scope, Evaluation: from.Evaluation, DryRun: from.DryRun, OnUnavailable: from.OnUnavailable, Line: from.Line}
	named := map[string]bool{}
	for _, ref := range from.Attestors {
		if named[ref.Name] {
			continue
		}
		named[ref.Name] = true
		rule.Checks = append(rule.Checks, policy.Check{Condition: policy.Attested{Attestor: ref.Name}, Line: ref.Line})
		a := byName[ref.Name]
		switch _, done := used[ref.Name]; {
		case a == nil:
			r.Warnf(ref.Line, "attestor %q does not exist; until it does, the rule denies every image that is not exempt", ref.Name)
		case !done:
			used[ref.Name] = a.compile()
		}
	}
	return rule
}

// version identifies what is enforced: the policy's text, the system policy when
// it is used, and the attestors that the rules name, whatever order they came in.
func version(p, system *Policy, attestors map[string]policy.Attestor) string {
	h := sha256.New()
	add := func(b []byte) {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(b)))
		_, _ = h.Write(size[:]) // a hash never fails
		_, _ = h.Write(b)
	}
	add(p.digest[:])
	if p.Global == GlobalEnable {
		add(system.digest[:])
	}
	names := make([]string, 0, len(attestors))
	for name := range attestors {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		a := attestors[name]
		add([]byte(name))
		add([]byte(a.Note))
		if a.MatchRepository {
			add([]byte("repository"))
		}
		keys := slices.Clone(a.Keys)
		slices.SortFunc(keys, func(x, y policy.Key) int { return strings.Compare(x.ID, y.ID) })
		for _, k := range keys {
			add([]byte(k.ID))
			add(k.Fingerprint[:])
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
