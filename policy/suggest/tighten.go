package suggest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
)

// Narrow says how narrow the patterns may be that [Tighten] proposes for wider ones.
// The zero Narrow proposes none.
type Narrow int

// The ways to narrow.
const (
	NarrowNot   Narrow = iota
	NarrowNames        // to all tags, or all digests, of one image
	NarrowExact        // to the texts that were seen
)

// narrowNames are the words of the command line.
var narrowNames = [...]string{NarrowNot: "no", NarrowNames: "name", NarrowExact: "exact"}

// NarrowWords are the words of [ParseNarrow].
func NarrowWords() []string { return slices.Clone(narrowNames[:]) }

// ParseNarrow reads one of [NarrowWords].
func ParseNarrow(word string) (Narrow, error) {
	if i := slices.Index(narrowNames[:], word); i >= 0 {
		return Narrow(i), nil
	}
	return NarrowNot, fmt.Errorf("%.50q: want %s", word, strings.Join(narrowNames[:], ", "))
}

// FindingKind says what a Finding is about.
type FindingKind string

// The kinds. Those of patterns are changed in [Tightening.Text]; what is said of rules
// and attestors is for a person to decide on.
const (
	Unused   FindingKind = "unused"   // a pattern that no image seen needs
	Included FindingKind = "included" // a pattern that another one makes superfluous
	TooWide  FindingKind = "wide"     // a pattern that narrower ones could stand for
	Rule     FindingKind = "rule"     // a rule that nothing seen is for, or let in by
	Attestor FindingKind = "attestor" // an attestor that no rule requires
)

// A Finding is something that a policy does not need.
type Finding struct {
	File string      `json:"file"`
	Line int         `json:"line"`
	Kind FindingKind `json:"kind"`
	// Pattern is what it is about, if that is a pattern, and Instead what could stand
	// for it.
	Pattern string   `json:"pattern,omitempty"`
	Instead []string `json:"instead,omitempty"`
	Message string   `json:"message"`
}

// String returns "FILE:LINE: MESSAGE".
func (f Finding) String() string { return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Message) }

// A Tightening is what was found, and the policy without it.
type Tightening struct {
	Findings []Finding `json:"findings"`
	// Text is the policy with all changes of patterns; it is that of the policy when
	// there are none.
	Text []byte `json:"-"`
	// Changed is set if Text differs in meaning.
	Changed bool `json:"changed"`
	// Seen is how many images were seen, and Left are those that the policy does not let
	// in; of them nothing is said.
	Seen int    `json:"seen"`
	Left []Left `json:"notAdmitted,omitempty"`
}

// ErrNothingSeen is returned by [Tighten] when nothing was seen: then nothing is needed,
// which means nothing.
var ErrNothingSeen = errors.New("no image was seen that the policy lets in, so that nothing can be said of what it needs")

// Tighten finds what a policy does not need for what was seen.
func Tighten(w World, p *binauthz.Policy, text []byte, narrow Narrow) (*Tightening, error) {
	t := &tightener{world: &w, policy: p, narrow: narrow, result: &Tightening{Findings: []Finding{}, Text: text, Seen: len(w.Seen.where)}}
	if err := t.look(); err != nil {
		return nil, err
	}
	if len(t.result.Left) == t.result.Seen {
		return t.result, ErrNothingSeen
	}
	t.match()
	t.drop()
	t.include()
	if err := t.narrower(); err != nil {
		return nil, err
	}
	t.rulesAndAttestors()
	slices.SortStableFunc(t.result.Findings, func(a, b Finding) int {
		if (a.Kind == Attestor) != (b.Kind == Attestor) { // which are in files of their own
			return map[bool]int{false: -1, true: 1}[a.Kind == Attestor]
		}
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	if !t.result.Changed {
		return t.result, nil
	}
	var err error
	t.result.Text, err = rewrite(text, func(i int) []string { return t.after[i] }, nil)
	if err != nil {
		return nil, err
	}
	return t.result, t.prove()
}

type tightener struct {
	world  *World
	policy *binauthz.Policy
	narrow Narrow
	result *Tightening

	admitted map[string]bool     // everywhere it was seen
	need     []string            // those of them that a pattern lets in somewhere, sorted
	rules    map[string]*ruleUse // by their ids

	covers  [][]int // of a pattern: the images of need
	cover   []int   // of an image of need: how many patterns that are kept cover it
	others  []int   // of a pattern: how many images it covers that need none
	example []string
	kept    []bool
	after   [][]string // what becomes of a pattern
}

// ruleUse is what was seen of a rule.
type ruleUse struct{ images, attested int }

// look decides on all that was seen, with the patterns and without.
func (t *tightener) look() error {
	t.admitted, t.rules = map[string]bool{}, map[string]*ruleUse{}
	left := map[string]string{}
	err := t.world.try(t.policy, func(text string, d *decide.ImageDecision, _ *policy.Rule) {
		if d.Verdict == decide.ALLOW {
			t.admitted[text] = true
		} else if left[text] == "" {
			left[text] = "the policy does not let it in"
			if len(d.Reasons) > 0 {
				left[text] = d.Reasons[0].Message
			}
		}
	})
	if err != nil {
		return err
	}
	for _, text := range t.world.Seen.Images() {
		if why := left[text]; why != "" {
			delete(t.admitted, text)
			t.result.Left = append(t.result.Left, Left{text, t.world.Seen.Where(text), why})
		}
	}
	bare := *t.policy
	bare.Exempt = nil
	need := map[string]bool{}
	err = t.world.try(&bare, func(text string, d *decide.ImageDecision, rule *policy.Rule) {
		if !need[text] && d.Verdict != decide.ALLOW && t.admitted[text] {
			need[text] = true
			t.need = append(t.need, text)
		}
		if rule == nil {
			return
		}
		use := t.rules[rule.ID]
		if use == nil {
			use = &ruleUse{}
			t.rules[rule.ID] = use
		}
		use.images++
		if d.Verdict == decide.ALLOW && d.Exemption == "" {
			use.attested++
		}
	})
	slices.Sort(t.need)
	return err
}

// match finds which images each pattern covers.
func (t *tightener) match() {
	n := len(t.policy.Exempt)
	t.covers, t.others, t.example = make([][]int, n), make([]int, n), make([]string, n)
	t.kept, t.after = make([]bool, n), make([][]string, n)
	t.cover = make([]int, len(t.need))
	index := make(map[string]int, len(t.need))
	for i, text := range t.need {
		index[text] = i
	}
	byText := map[string][]int{} // of patterns without a wildcard
	var wild []int
	for i, e := range t.policy.Exempt {
		t.kept[i], t.after[i] = true, []string{e.Pattern.String()}
		if strings.HasSuffix(e.Pattern.String(), "*") {
			wild = append(wild, i)
		} else {
			byText[e.Pattern.String()] = append(byText[e.Pattern.String()], i)
		}
	}
	hit := func(i int, text string) {
		if at, needed := index[text]; needed {
			t.covers[i] = append(t.covers[i], at)
			t.cover[at]++
		} else if t.others[i]++; t.example[i] == "" {
			t.example[i] = text
		}
	}
	for _, text := range t.world.Seen.Images() {
		if !t.admitted[text] {
			continue
		}
		for _, i := range byText[text] {
			hit(i, text)
		}
		for _, i := range wild {
			if t.policy.Exempt[i].Pattern.Match(text) {
				hit(i, text)
			}
		}
	}
}

func (t *tightener) text(i int) string { return t.policy.Exempt[i].Pattern.String() }

// widestFirst returns the places of all patterns, the widest first, and of the same
// the last.
func (t *tightener) widestFirst() []int {
	order := make([]int, len(t.kept))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		a, b := t.text(i), t.text(j)
		return cmp.Or(cmp.Compare(starsOf(b), starsOf(a)), cmp.Compare(len(a), len(b)), cmp.Compare(j, i))
	})
	return order
}

func starsOf(pattern string) int { return len(pattern) - len(strings.TrimRight(pattern, "*")) }

// drop takes out the patterns whose images others cover, or that nothing needs, the
// widest first.
func (t *tightener) drop() {
	order := t.widestFirst()
	for _, i := range order {
		if slices.ContainsFunc(t.covers[i], func(at int) bool { return t.cover[at] < 2 }) {
			continue
		}
		t.kept[i], t.after[i] = false, nil
		for _, at := range t.covers[i] {
			t.cover[at]--
		}
	}
	for _, i := range order {
		if !t.kept[i] {
			t.found(i, t.whyNot(i))
		}
	}
}

// include finds the patterns that a kept one includes: they are dropped already, and
// here is said by which.
func (t *tightener) include() {
	for f := range t.result.Findings {
		found := &t.result.Findings[f]
		for i := range t.kept {
			if t.kept[i] && includes(t.text(i), found.Pattern) {
				found.Kind = Included
				found.Message = fmt.Sprintf("pattern %q is included in %q at line %d", found.Pattern, t.text(i), t.policy.Exempt[i].Line)
				if t.text(i) == found.Pattern {
					found.Message = fmt.Sprintf("pattern %q is given twice, also at line %d", found.Pattern, t.policy.Exempt[i].Line)
				}
				break
			}
		}
	}
}

func (t *tightener) found(i int, message string) {
	t.result.Changed = true
	t.result.Findings = append(t.result.Findings, Finding{File: t.policy.File, Line: t.policy.Exempt[i].Line, Kind: Unused, Pattern: t.text(i), Message: message})
}

func (t *tightener) whyNot(i int) string {
	switch {
	case len(t.covers[i]) > 0:
		return fmt.Sprintf("pattern %q is not needed: narrower patterns cover each image that was seen and that it covers, such as %s", t.text(i), t.need[t.covers[i][0]])
	case t.others[i] > 0:
		return fmt.Sprintf("pattern %q is not needed: what was seen of it is let in without it, such as %s", t.text(i), t.example[i])
	}
	return fmt.Sprintf("pattern %q is not needed: no image that was seen is covered by it", t.text(i))
}

// narrower finds narrower patterns for those that are kept.
func (t *tightener) narrower() error {
	if t.narrow == NarrowNot {
		return nil
	}
	// Each image is the narrowest pattern's, so that what is found for one does not
	// lean on another.
	order := t.widestFirst()
	owner := make([]int, len(t.need))
	for _, i := range order {
		if t.kept[i] {
			for _, at := range t.covers[i] {
				owner[at] = i
			}
		}
	}
	images := make([][]string, len(t.kept))
	for at, i := range owner {
		images[i] = append(images[i], t.need[at])
	}
	there := map[string]bool{} // texts that stay
	for i := range t.kept {
		if t.kept[i] {
			there[t.text(i)] = true
		}
	}
	for _, i := range order {
		if !t.kept[i] || starsOf(t.text(i)) == 0 {
			continue
		}
		instead, err := t.instead(t.text(i), images[i])
		if err != nil {
			return err
		}
		if instead == nil {
			continue
		}
		instead = slices.DeleteFunc(instead, func(text string) bool {
			if !there[text] && t.restore(text) {
				there[text] = true
			}
			return there[text]
		})
		for _, text := range instead {
			there[text] = true
		}
		t.after[i], t.result.Changed = instead, true
		t.result.Findings = append(t.result.Findings, Finding{
			File: t.policy.File, Line: t.policy.Exempt[i].Line, Kind: TooWide, Pattern: t.text(i), Instead: instead,
			Message: fmt.Sprintf("pattern %q is wider than what was seen: %s would do", t.text(i), listed(instead)),
		})
	}
	return nil
}

// restore brings back a pattern that was dropped because the one that it is now to
// stand for included it, with the comments that it has.
func (t *tightener) restore(text string) bool {
	for i := range t.kept {
		if t.text(i) != text || t.kept[i] {
			continue
		}
		t.kept[i], t.after[i] = true, []string{text}
		t.result.Findings = slices.DeleteFunc(t.result.Findings, func(f Finding) bool { return f.Pattern == text && f.Line == t.policy.Exempt[i].Line })
		return true
	}
	return false
}

// maxListed bounds the patterns that a message names; the finding has all of them.
const maxListed = 4

func listed(patterns []string) string {
	switch n := len(patterns); {
	case n == 0:
		return "the other patterns"
	case n > maxListed:
		return fmt.Sprintf("%s and %d more", strings.Join(patterns[:maxListed], ", "), n-maxListed)
	}
	return strings.Join(patterns, ", ")
}

// instead returns the narrower patterns that are worth to stand for a pattern, or nil.
func (t *tightener) instead(wide string, images []string) ([]string, error) {
	root, err := newTree(images, func(n *node) bool {
		if n.text() == wide || !includes(wide, n.text()) {
			return false
		}
		return n.form != exact || t.narrow == NarrowExact || isBare(n.prefix) || !t.groups(wide, n.prefix)
	})
	if err != nil {
		return nil, nil //nolint:nilerr // what no node can pull cannot be narrowed by its parts
	}
	chosen, price := root.solve()
	if price >= priceAsIs(wide, t.narrow) {
		return nil, nil
	}
	list := make([]string, len(chosen))
	for i, n := range chosen {
		list[i] = n.text()
	}
	slices.Sort(list)
	return list, nil
}

// isBare reports whether a reference has neither tag nor digest.
func isBare(text string) bool {
	ref, err := image.Parse(text)
	return err == nil && ref.Tag() == "" && ref.Digest().IsZero()
}

// groups reports whether all tags, or all digests, of an image can be told from a wide
// pattern by a narrower one.
func (t *tightener) groups(wide, text string) bool {
	ref, err := image.Parse(text)
	if err != nil {
		return false
	}
	group := ref.Name() + ":*"
	if ref.Tag() == "" {
		group = ref.Name() + "@sha256:*"
	}
	return group != wide && includes(wide, group)
}

// priceAsIs is what a pattern costs that people wrote. One that is as narrow as names
// go costs nothing unless exact texts are asked for, as it is not to be narrowed.
func priceAsIs(pattern string, narrow Narrow) int {
	prefix := strings.TrimRight(pattern, "*")
	stars := starsOf(pattern)
	last := prefix[strings.LastIndexByte(prefix, '/')+1:]
	atHost := hostLength(prefix) == len(prefix) && len(prefix) > 0
	switch {
	case atHost && isShared(prefix):
		return impossible // nobody owns all of it
	case atHost && stars == 1:
		return 2 * priceFolder
	case atHost:
		return 2 * priceTree
	case stars == 1 && strings.ContainsAny(last, ":@"):
		if narrow != NarrowExact {
			return 0
		}
		return priceTags
	case stars == 1:
		return priceOf(folder, prefix)
	}
	return priceOf(tree, prefix)
}

// rulesAndAttestors finds the rules and attestors that nothing seen needs. It says
// nothing of attestations where nobody is known who could attest.
func (t *tightener) rulesAndAttestors() {
	say := func(file string, line int, kind FindingKind, format string, args ...any) {
		t.result.Findings = append(t.result.Findings, Finding{File: file, Line: line, Kind: kind, Message: fmt.Sprintf(format, args...)})
	}
	named := map[string]bool{}
	for _, rule := range t.allRules() {
		for _, a := range rule.Attestors {
			named[a.Name] = true
		}
		use := t.rules[rule.id]
		switch {
		case use == nil && (rule.id == defaultRule || rule.scope.Cluster != ""):
			// Every policy has the one, and the others are for clusters not looked at.
		case use == nil:
			say(t.policy.File, rule.Line, Rule, "the %s is for nothing that was seen", rule.id)
		case rule.Evaluation == policy.RequireChecks && use.attested == 0 && t.world.Evidence:
			say(t.policy.File, rule.Line, Rule, "the attestors of the %s are needed by nothing that was seen: patterns let in all of it; ALWAYS_DENY would say the same", rule.id)
		}
	}
	for i := range t.world.Attestors {
		if a := &t.world.Attestors[i]; !named[a.Name] {
			say(a.File, a.Line, Attestor, "attestor %q is required by no rule of %s", a.Name, t.policy.File)
		}
	}
}

type namedRule struct {
	binauthz.AdmissionRule
	id    string
	scope policy.Scope
}

// defaultRule is what package binauthz calls the default rule.
const defaultRule = "default admission rule"

func (t *tightener) allRules() []namedRule {
	var list []namedRule
	for _, s := range t.policy.Specific {
		list = append(list, namedRule{s.AdmissionRule, s.ID, s.Scope})
	}
	return append(list, namedRule{t.policy.Default, defaultRule, policy.Scope{}})
}

// prove decides again on all that was seen, by the changed text.
func (t *tightener) prove() error {
	final, found := binauthz.ParsePolicy(t.policy.File, t.result.Text)
	if final == nil {
		return fmt.Errorf("the tightened policy is not valid: %w", found.Err())
	}
	lost := ""
	err := t.world.try(final, func(text string, d *decide.ImageDecision, _ *policy.Rule) {
		if lost == "" && d.Verdict != decide.ALLOW && t.admitted[text] {
			lost = text
		}
	})
	if err == nil && lost != "" {
		err = fmt.Errorf("the tightened policy would not let in %s any more, which is a fault of this program; nothing was changed", lost)
	}
	return err
}
