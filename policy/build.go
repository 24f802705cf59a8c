package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/gatehouse-dev/gatehouse/image"
)

// built is what makes a large Ruleset as fast as a small one.
type built struct {
	exempt *image.PatternSet
	// rules has the least index of the rules of each scope that has at most one
	// field; others has the rest.
	rules  map[Scope]int
	others []int
}

// Build returns the Ruleset with what it needs to answer as fast with ten
// thousand rules as with one, and with the hashes of its rules. The Ruleset and
// what it holds must not be changed afterwards.
func (r *Ruleset) Build() *Ruleset {
	b := &built{rules: make(map[Scope]int, len(r.Rules))}
	b.exempt = patternsOf(r.Exempt)
	for i := range r.Rules {
		scope := r.Rules[i].Scope
		if scope.fields() > 1 {
			b.others = append(b.others, i)
		} else if _, ok := b.rules[scope]; !ok {
			b.rules[scope] = i
		}
		rule := &r.Rules[i]
		rule.hash = hashRule(rule, r.Attestors)
		rule.exempt = patternsOf(rule.Exempt)
		for j := range rule.Checks {
			rule.Checks[j].exempt = patternsOf(rule.Checks[j].Exempt)
		}
	}
	r.built = b
	return r
}

// patternsOf returns the patterns of a list of exemptions, nil if it is empty.
func patternsOf(list []Exemption) *image.PatternSet {
	if len(list) == 0 {
		return nil
	}
	patterns := make([]image.Pattern, len(list))
	for i := range list {
		patterns[i] = list[i].Pattern
	}
	return image.NewPatternSet(patterns)
}

// found returns the first exemption of a list whose pattern, in a set of its
// patterns, covers the image.
func found(list []Exemption, patterns *image.PatternSet, text string) (Exemption, bool) {
	if patterns == nil {
		return Exemption{}, false
	}
	if i := patterns.Match(text); i >= 0 {
		return list[i], true
	}
	return Exemption{}, false
}

func (s Scope) fields() int {
	n := 0
	for _, v := range []string{s.Cluster, s.Namespace, s.ServiceAccount, s.IstioIdentity} {
		if v != "" {
			n++
		}
	}
	return n
}

func (b *built) selectRule(r *Ruleset, pod Scope) (*Rule, bool) {
	best := -1
	for _, scope := range [...]Scope{
		{Cluster: pod.Cluster}, {Namespace: pod.Namespace}, {ServiceAccount: pod.ServiceAccount}, {IstioIdentity: pod.IstioIdentity}, {},
	} {
		if i, ok := b.rules[scope]; ok && (best < 0 || i < best) {
			best = i
		}
	}
	for _, i := range b.others {
		if (best < 0 || i < best) && r.Rules[i].Scope.Matches(pod) {
			best = i
		}
	}
	if best < 0 {
		return nil, false
	}
	return &r.Rules[best], true
}

// Hash identifies what the rule demands, whatever it is called and wherever it
// stands: two rules of one hash allow the same images on the same evidence. It is
// "" if the Ruleset was not built.
func (r *Rule) Hash() string { return r.hash }

func hashRule(rule *Rule, attestors map[string]Attestor) string {
	h := &hasher{sum: sha256.New(), attestors: attestors}
	h.int(int(rule.Evaluation))
	h.exemptions(rule.Exempt)
	h.int(len(rule.Checks))
	for i := range rule.Checks {
		h.exemptions(rule.Checks[i].Exempt)
		h.condition(rule.Checks[i].Condition)
	}
	return hex.EncodeToString(h.sum.Sum(nil))
}

// A hasher writes what decides, and each text with its length.
type hasher struct {
	sum interface {
		Write([]byte) (int, error)
		Sum([]byte) []byte
	}
	attestors map[string]Attestor
}

func (h *hasher) int(n int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n)) //nolint:gosec // only has to be the same for the same n
	_, _ = h.sum.Write(b[:])                    // a hash never fails
}

func (h *hasher) text(s string) {
	h.int(len(s))
	_, _ = h.sum.Write([]byte(s)) // a hash never fails
}

func (h *hasher) texts(list []string) {
	h.int(len(list))
	for _, s := range list {
		h.text(s)
	}
}

func (h *hasher) exemptions(list []Exemption) {
	h.int(len(list))
	for _, e := range list {
		h.text(fmt.Sprintf("%#v", e.Pattern))
	}
}

func (h *hasher) keys(list []Key) {
	h.int(len(list))
	for _, k := range list {
		h.text(string(k.Fingerprint[:]))
	}
}

func (h *hasher) signers(list []Signer) {
	h.int(len(list))
	for _, s := range list {
		h.keys(s.Keys)
	}
}

func (h *hasher) bool(b bool) {
	n := 0
	if b {
		n = 1
	}
	h.int(n)
}

func (h *hasher) condition(c Condition) {
	h.text(fmt.Sprintf("%T", c))
	switch c := c.(type) {
	case Attested:
		a := h.attestors[c.Attestor]
		h.text(a.Note)
		h.bool(a.MatchRepository)
		h.keys(a.Keys)
	case AllOf:
		h.conditions(c.Of)
	case AnyOf:
		h.conditions(c.Of)
	case SignedBy:
		h.signers(c.Signers)
		h.texts(c.Projects)
		h.bool(c.Cosign)
	case Vulnerabilities:
		h.int(int(c.MaxFixable))
		h.int(int(c.MaxUnfixable))
		h.texts(c.Allowed)
		h.texts(c.Blocked)
		h.texts(c.Projects)
		h.bool(c.UnscannedAllowed)
		h.bool(c.UnspecifiedAllowed)
	case Fresh:
		h.int(int(c.MaxAge))
		h.signers(c.Recorders)
		h.texts(c.Projects)
	case InDirectory:
		h.int(len(c.Patterns))
		for _, p := range c.Patterns {
			h.text(p.String())
		}
	case BuiltBy:
		h.int(len(c.Rules))
		for i := range c.Rules {
			h.provenance(&c.Rules[i])
		}
	case Hinted:
		h.text(c.Note)
		h.bool(c.UnhintedAllowed)
	}
}

func (h *hasher) conditions(list []Condition) {
	h.int(len(list))
	for _, c := range list {
		h.condition(c)
	}
}

func (h *hasher) provenance(r *ProvenanceRule) {
	h.text(r.Builder.Name)
	h.texts(r.Builder.IDs)
	h.keys(r.Builder.Keys)
	h.texts(r.Projects)
	h.bool(r.ConfigBased)
	h.int(len(r.Sources))
	for _, s := range r.Sources {
		h.text(s.String())
	}
	h.bool(r.Constraint != nil)
	if r.Constraint != nil {
		h.text(r.Constraint.String())
	}
}

// Version identifies all policies of the set, whatever order they are in.
func (s Set) Version() string {
	switch len(s) {
	case 0:
		return ""
	case 1:
		return s[0].Version
	}
	versions := map[string]bool{}
	for _, r := range s {
		versions[r.Name+"\x00"+r.Version] = true
	}
	h := &hasher{sum: sha256.New()}
	h.texts(slices.Sorted(maps.Keys(versions)))
	return hex.EncodeToString(h.sum.Sum(nil))
}
