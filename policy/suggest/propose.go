package suggest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
)

// A World is what policies are tried against: what was seen, and what is known of it.
type World struct {
	Seen  *Seen
	Facts evidence.Facts
	// Evidence is set if Facts come from somewhere, and so tell that an image lacks
	// attestations.
	Evidence  bool
	Attestors []binauthz.Attestor
	// System is the system policy, in place of the one that is built in.
	System *binauthz.Policy
	Now    time.Time
}

// An Input is what a proposal is made from.
type Input struct {
	World
	Options
	// DryRun makes the proposed rule one that only records.
	DryRun bool
	// Keep is a policy to start from, and KeepText its text; nil begins anew. Its rules
	// stay, and what they let in needs no pattern.
	Keep     *binauthz.Policy
	KeepText []byte
}

// A Proposal is a policy and the reasons for it.
type Proposal struct {
	// Text is the policy, in YAML (or as what is kept, in JSON).
	Text []byte `json:"-"`
	// Seen is how many images were seen, Already how many of them need no new pattern:
	// attestations let them in, or the policy that is kept.
	Seen     int       `json:"seen"`
	Already  int       `json:"admittedAlready"`
	Patterns []Pattern `json:"patterns"`
	// Attestors are those that the proposed rule requires. With a policy that is kept
	// there are none: its rules stay.
	Attestors []string `json:"attestors,omitempty"`
	// Partly are images that some attestors have attested, and not all that the rule
	// requires, so that patterns let them in.
	Partly []PartlyAttested `json:"partlyAttested,omitempty"`
	// Left are the images that the proposal does not let in.
	Left []Left `json:"notAdmitted,omitempty"`
	// Superseded are patterns of the kept policy that the proposed ones include; they
	// are taken out.
	Superseded []string `json:"superseded,omitempty"`
}

// PartlyAttested is an image and the attestors that have attested it.
type PartlyAttested struct {
	Image string   `json:"image"`
	By    []string `json:"by"`
}

// Left is an image that is not let in, and why.
type Left struct {
	Image string `json:"image"`
	Where string `json:"where"`
	Why   string `json:"why"`
}

// Propose proposes a policy that lets in all that was seen. What it cannot let in is
// among [Proposal.Left]; the proposal has been tried on all of it.
func Propose(in Input) (*Proposal, error) {
	p := &Proposal{Seen: len(in.Seen.where), Patterns: []Pattern{}}
	base := in.Keep
	if base == nil {
		base = &binauthz.Policy{Default: p.rule(&in)}
	}
	needed, err := in.needed(base)
	if err != nil {
		return nil, err
	}
	p.Already = p.Seen - len(needed)
	var images []string
	for _, text := range needed {
		if _, err := image.Parse(text); err != nil {
			p.Left = append(p.Left, Left{text, in.Seen.Where(text), err.Error()})
			continue
		}
		images = append(images, text)
	}
	o := in.Options
	if o.MaxPatterns > 0 {
		if o.MaxPatterns -= len(base.Exempt); o.MaxPatterns <= 0 && len(images) > 0 {
			return nil, fmt.Errorf("the policy that is kept has %d patterns already, and at most %d may be proposed", len(base.Exempt), in.MaxPatterns)
		}
	}
	if p.Patterns, err = Patterns(images, o); err != nil {
		return nil, err
	}
	if err := addDenied(p.Patterns, in.Seen.Denied()); err != nil {
		return nil, err
	}
	if err := p.write(&in, base); err != nil {
		return nil, err
	}
	return p, p.prove(&in)
}

// rule returns the default rule that is proposed: attestations by those that attested
// most of what was attested at all, or else nothing but patterns.
func (p *Proposal) rule(in *Input) binauthz.AdmissionRule {
	r := binauthz.AdmissionRule{Evaluation: policy.AlwaysDeny, DryRun: in.DryRun}
	by := attestedBy(&in.World)
	p.Attestors = required(by)
	for _, text := range slices.Sorted(maps.Keys(by)) {
		if !includesAll(by[text], p.Attestors) {
			p.Partly = append(p.Partly, PartlyAttested{text, by[text]})
		}
	}
	if len(p.Attestors) > 0 {
		r.Evaluation = policy.RequireChecks
		for _, name := range p.Attestors {
			r.Attestors = append(r.Attestors, binauthz.AttestorRef{Name: name})
		}
	}
	return r
}

// attestedBy returns who has attested each image that anybody has: it asks what the
// gate would say if all were required.
func attestedBy(w *World) map[string][]string {
	all := &binauthz.Policy{Default: binauthz.AdmissionRule{Evaluation: policy.RequireChecks}}
	for i := range w.Attestors {
		all.Default.Attestors = append(all.Default.Attestors, binauthz.AttestorRef{Name: w.Attestors[i].Name})
	}
	by := map[string][]string{}
	if len(w.Attestors) == 0 {
		return by
	}
	rules, _ := all.Compile(w.Attestors)
	for _, r := range w.Seen.Requests() {
		d := decide.Decide(r, policy.Set{rules}, w.Facts, w.Now)
		for i, image := range d.Images {
			text := r.Images[i].Text
			if by[text] != nil {
				continue
			}
			for _, reason := range image.Reasons {
				if reason.Code == decide.CodeAttested {
					by[text] = append(by[text], reason.Attestor)
				}
			}
			slices.Sort(by[text])
		}
	}
	maps.DeleteFunc(by, func(_ string, names []string) bool { return len(names) == 0 })
	return by
}

// required chooses the attestors that a rule should require: the one who attested the
// most images, with all who attested every one of those.
func required(by map[string][]string) []string {
	count, common := map[string]int{}, map[string][]string{}
	for _, names := range by {
		for _, name := range names {
			if count[name]++; count[name] == 1 {
				common[name] = names
				continue
			}
			common[name] = slices.DeleteFunc(slices.Clone(common[name]), func(n string) bool { return !slices.Contains(names, n) })
		}
	}
	best := ""
	for _, name := range slices.Sorted(maps.Keys(count)) {
		if best == "" || count[name] > count[best] || (count[name] == count[best] && len(common[name]) > len(common[best])) {
			best = name
		}
	}
	return common[best]
}

func includesAll(set, subset []string) bool {
	return !slices.ContainsFunc(subset, func(s string) bool { return !slices.Contains(set, s) })
}

// needed returns the images that a policy does not let in, sorted.
func (w *World) needed(p *binauthz.Policy) ([]string, error) {
	denied := map[string]bool{}
	err := w.try(p, func(text string, d *decide.ImageDecision, _ *policy.Rule) {
		if d.Verdict != decide.ALLOW {
			denied[text] = true
		}
	})
	return slices.Sorted(maps.Keys(denied)), err
}

// try decides on all that was seen by a policy, and calls fn with each image, once for
// each place that it was seen in, and the rule for that place.
func (w *World) try(p *binauthz.Policy, fn func(text string, d *decide.ImageDecision, rule *policy.Rule)) error {
	rules, found := p.CompileWith(binauthz.CompileOptions{Attestors: w.Attestors, System: w.System})
	if err := found.Err(); err != nil {
		return err
	}
	for _, r := range w.Seen.Requests() {
		rule, _ := rules.Select(decide.ScopeOf(r))
		d := decide.Decide(r, policy.Set{rules}, w.Facts, w.Now)
		for i := range d.Images {
			fn(r.Images[i].Text, &d.Images[i], rule)
		}
	}
	return nil
}

// write makes the text of the policy.
func (p *Proposal) write(in *Input, base *binauthz.Policy) error {
	var err error
	if in.Keep != nil {
		var add []string
		for i := range p.Patterns {
			add = append(add, p.Patterns[i].Pattern)
		}
		p.Text, err = rewrite(in.KeepText, func(i int) []string {
			text := base.Exempt[i].Pattern.String()
			for _, wide := range add {
				if includes(wide, text) {
					p.Superseded = append(p.Superseded, text)
					return nil
				}
			}
			return []string{text}
		}, add)
		return err
	}
	whole := *base
	for i := range p.Patterns {
		pattern, err := image.ParseBinauthzPattern(p.Patterns[i].Pattern)
		if err != nil {
			return err
		}
		whole.Exempt = append(whole.Exempt, binauthz.ExemptPattern{Pattern: pattern})
	}
	plain, err := whole.EncodeYAML()
	if err != nil {
		return err
	}
	p.Text = p.annotate(plain)
	return nil
}

// annotate puts above each pattern what it stands for.
func (p *Proposal) annotate(text []byte) []byte {
	var b strings.Builder
	next := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "- namePattern: ") && next < len(p.Patterns) {
			q := &p.Patterns[next]
			next++
			seen := q.Images[0]
			if len(q.Images) > 1 {
				seen = fmt.Sprintf("%d images", len(q.Images))
			}
			if seen == q.Pattern {
				fmt.Fprintf(&b, "# Also lets in: %s.\n", q.AlsoAdmits)
			} else {
				fmt.Fprintf(&b, "# Seen: %s. Also lets in: %s.\n", seen, q.AlsoAdmits)
			}
			for _, w := range q.Careful() {
				fmt.Fprintf(&b, "# Careful: %s.\n", w)
			}
		}
		b.WriteString(line)
	}
	return []byte(b.String())
}

// prove decides on all that was seen by the text of the proposal.
func (p *Proposal) prove(in *Input) error {
	final, found := binauthz.ParsePolicy("proposal", p.Text)
	if final == nil {
		return fmt.Errorf("the proposal is not valid: %w", found.Err())
	}
	said := map[string]bool{}
	for i := range p.Left {
		said[p.Left[i].Image] = true
	}
	err := in.try(final, func(text string, d *decide.ImageDecision, _ *policy.Rule) {
		if d.Verdict == decide.ALLOW || said[text] {
			return
		}
		said[text] = true
		why := "the policy does not let it in"
		if len(d.Reasons) > 0 {
			why = d.Reasons[0].Message
		}
		p.Left = append(p.Left, Left{text, in.Seen.Where(text), why})
	})
	if err != nil {
		return errors.Join(errors.New("trying the proposal"), err)
	}
	return nil
}
