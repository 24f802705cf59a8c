package suggest_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/suggest"
)

var now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// pick returns one of some words.
func pick(r *rand.Rand, words ...string) string { return words[r.IntN(len(words))] }

// randomImage writes a reference of few words, so that images share paths and names.
func randomImage(r *rand.Rand) string {
	var b strings.Builder
	b.WriteString(pick(r, "", "", "reg.example/", "reg.example:5000/", "ghcr.io/", "docker.io/", "localhost/", "gcr.io/"))
	for range r.IntN(3) {
		b.WriteString(pick(r, "a", "b", "library", "a-b") + "/")
	}
	b.WriteString(pick(r, "web", "api", "web-x", "db"))
	digest := "@sha256:" + strings.Repeat(pick(r, "0", "1", "2"), 64)
	switch r.IntN(6) {
	case 0, 1, 2:
		b.WriteString(":" + pick(r, "1", "1.2", "2", "latest"))
	case 3:
		b.WriteString(digest)
	case 4:
		b.WriteString(":" + pick(r, "1", "2") + digest)
	}
	return b.String()
}

func randomImages(r *rand.Rand, most int) []string {
	list := make([]string, 1+r.IntN(most))
	for i := range list {
		list[i] = randomImage(r)
	}
	return list
}

// seen makes images be seen, each in a namespace of a few.
func seen(r *rand.Rand, images []string) *suggest.Seen {
	var s suggest.Seen
	for _, text := range images {
		s.Add(decide.Request{Namespace: pick(r, "one", "two"), Images: []decide.ImageUse{{Text: text}}}, "here")
	}
	return &s
}

func randomReach(r *rand.Rand) suggest.Reach { return suggest.Reach(r.IntN(4)) }

// parsed parses patterns, none of which may have a wildcard in or behind a host.
func parsed(t *testing.T, patterns []suggest.Pattern) []image.Pattern {
	t.Helper()
	var list []image.Pattern
	for _, p := range patterns {
		parsed, err := image.ParseBinauthzPattern(p.Pattern)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, parsed)
		prefix, wild := strings.CutSuffix(strings.TrimRight(p.Pattern, "*"), "/")
		if wild && !strings.Contains(prefix, "/") && (strings.ContainsAny(prefix, ".:") || prefix == "localhost") {
			t.Errorf("%q covers a whole host", p.Pattern)
		}
	}
	return list
}

// allowed decides on images by the text of a policy, in a namespace of its own.
func allowed(t *testing.T, text []byte, facts evidence.Facts, attestors []binauthz.Attestor, images []string) []bool {
	t.Helper()
	p, found := binauthz.ParsePolicy("p", text)
	if p == nil {
		t.Fatalf("%s\n%s", found, text)
	}
	rules, _ := p.Compile(attestors)
	list := make([]bool, len(images))
	for i, text := range images {
		list[i] = decide.Decide(decide.Request{Namespace: "one", Images: []decide.ImageUse{{Text: text}}}, policy.Set{rules}, facts, now).Allowed
	}
	return list
}

func TestAProposalLetsInAllThatWasSeen(t *testing.T) {
	t.Parallel()
	for seed := range uint64(600) {
		r := rand.New(rand.NewPCG(seed, 1))
		images := randomImages(r, 20)
		reach := randomReach(r)
		in := suggest.Input{World: suggest.World{Seen: seen(r, images), Now: now}, Options: suggest.Options{Wildcards: reach}}
		p, err := suggest.Propose(in)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Left) > 0 {
			t.Fatalf("seed %d: left %v", seed, p.Left)
		}
		for i, ok := range allowed(t, p.Text, evidence.Facts{}, nil, images) {
			if !ok {
				t.Fatalf("seed %d: %s is denied by\n%s", seed, images[i], p.Text)
			}
		}
		checkPatterns(t, p, images, reach)
		checkText(t, p)
		if t.Failed() {
			t.Fatalf("seed %d: %v\n%s", seed, images, p.Text)
		}
	}
}

// checkPatterns holds what is said of each pattern to what package image says of it.
func checkPatterns(t *testing.T, p *suggest.Proposal, images []string, reach suggest.Reach) {
	t.Helper()
	var told []string
	for i, pattern := range parsed(t, p.Patterns) {
		for _, text := range p.Patterns[i].Images {
			if !pattern.Match(text) {
				t.Errorf("%s does not cover %s", pattern, text)
			}
		}
		told = append(told, p.Patterns[i].Images...)
		if suggest.Reach(0) == reach && strings.Contains(pattern.String(), "*") || reach < suggest.ReachTree && strings.HasSuffix(pattern.String(), "**") ||
			reach < suggest.ReachFolder && strings.HasSuffix(pattern.String(), "/*") {
			t.Errorf("%s reaches further than %s", pattern, reach)
		}
		if p.Patterns[i].AlsoAdmits == "" {
			t.Errorf("of %s is not said what it lets in", pattern)
		}
	}
	slices.Sort(told)
	if want := slices.Compact(slices.Sorted(slices.Values(images))); !slices.Equal(told, want) {
		t.Errorf("patterns tell of %v, and %v were seen", told, want)
	}
}

// checkText holds a proposal to lint and to the one form. What lint says of a name
// without tag and digest is true, and nothing else could cover it.
func checkText(t *testing.T, p *suggest.Proposal) {
	t.Helper()
	_, found := binauthz.ParsePolicy("p", p.Text)
	for _, d := range found {
		if !strings.Contains(d.Message, "covers neither tags nor digests") {
			t.Error(d)
		}
	}
	formatted, err := document.Format(p.Text)
	if err != nil || string(formatted) != string(p.Text) {
		t.Errorf("formatted it is (%v)\n%s", err, formatted)
	}
}

// price is what a pattern costs, told from its text alone.
func price(pattern string) int {
	prefix := strings.TrimRight(pattern, "*")
	one := map[int]int{0: 2, 1: 16, 2: 30}[len(pattern)-len(prefix)]
	if one == 16 && !strings.HasSuffix(prefix, "/") {
		return 5
	}
	host, _, more := strings.Cut(prefix, "/")
	ours := more && (strings.HasPrefix(host, "reg.example") || host == "localhost")
	if one > 2 && !ours {
		return 2 * one
	}
	return one
}

// candidates are all patterns of the documented forms that cover one of some images.
func candidates(images []string, reach suggest.Reach) []string {
	all := map[string]bool{}
	for _, text := range images {
		all[text] = true
		ref, err := image.Parse(text)
		if err != nil {
			panic(err)
		}
		if reach >= suggest.ReachTag && ref.Tag() != "" {
			all[ref.Name()+":*"] = true
		} else if reach >= suggest.ReachTag && !ref.Digest().IsZero() {
			all[ref.Name()+"@sha256:*"] = true
		}
		parts := strings.Split(ref.Name(), "/")
		first := 1
		if strings.ContainsAny(parts[0], ".:") || parts[0] == "localhost" {
			first = 2
		}
		for n := first; n < len(parts); n++ {
			path := strings.Join(parts[:n], "/")
			if reach >= suggest.ReachFolder && n == len(parts)-1 {
				all[path+"/*"] = true
			}
			if reach >= suggest.ReachTree {
				all[path+"/**"] = true
			}
		}
	}
	var list []string
	for text := range all {
		list = append(list, text)
	}
	slices.Sort(list)
	return list
}

// cheapest tries every set of patterns, and returns the least price of one that covers
// all images, -1 if there is none.
func cheapest(t *testing.T, images, patterns []string, most int) int {
	t.Helper()
	covers := make([]uint32, len(patterns))
	for i, text := range patterns {
		p, err := image.ParseBinauthzPattern(text)
		if err != nil {
			t.Fatal(err)
		}
		for j, text := range images {
			if p.Match(text) {
				covers[i] |= 1 << j
			}
		}
	}
	best, all := -1, uint32(1)<<len(images)-1
	var try func(from, used, sum int, covered uint32)
	try = func(from, used, sum int, covered uint32) {
		if covered == all && (best < 0 || sum < best) {
			best = sum
		}
		if from == len(patterns) || (most > 0 && used == most) || (best >= 0 && sum >= best) {
			return
		}
		for i := from; i < len(patterns); i++ {
			try(i+1, used+1, sum+price(patterns[i]), covered|covers[i])
		}
	}
	try(0, 0, 0, 0)
	return best
}

func TestNoSetOfPatternsIsCheaper(t *testing.T) {
	t.Parallel()
	for seed := range uint64(1500) {
		r := rand.New(rand.NewPCG(seed, 2))
		images := randomImages(r, 8)
		images = slices.Compact(slices.Sorted(slices.Values(images)))
		o := suggest.Options{Wildcards: randomReach(r), MaxPatterns: r.IntN(5)}
		want := cheapest(t, images, candidates(images, o.Wildcards), o.MaxPatterns)
		list, err := suggest.Patterns(images, o)
		if (err != nil) != (want < 0) {
			t.Fatalf("seed %d: %v for %v with %+v, and the least price is %d", seed, err, images, o, want)
		}
		got := 0
		for _, p := range list {
			got += price(p.Pattern)
		}
		if err == nil && got != want {
			t.Fatalf("seed %d: %v with %+v: %v for %d, and there are some for %d", seed, images, o, list, got, want)
		}
		if o.MaxPatterns > 0 && len(list) > o.MaxPatterns {
			t.Fatalf("seed %d: %d patterns with %+v", seed, len(list), o)
		}
	}
}

// randomPolicy writes patterns around some images: theirs, wider ones, and strangers.
func randomPolicy(r *rand.Rand, images []string) string {
	var b strings.Builder
	b.WriteString("# The policy.\nadmissionWhitelistPatterns:\n")
	for n := range 1 + r.IntN(12) {
		text := randomImage(r)
		if r.IntN(3) > 0 {
			text = images[r.IntN(len(images))]
		}
		all := candidates([]string{text}, suggest.ReachTree)
		pattern := all[r.IntN(len(all))]
		switch r.IntN(8) {
		case 0:
			pattern = text[:1+r.IntN(len(text))] + pick(r, "*", "**")
		case 1:
			pattern = pick(r, "reg.example/**", "ghcr.io/**", "web*", "a**", "reg.example/*")
		}
		if _, err := image.ParseBinauthzPattern(pattern); err != nil {
			continue
		}
		if r.IntN(3) == 0 {
			fmt.Fprintf(&b, "# %d\n", n)
		}
		fmt.Fprintf(&b, "- namePattern: '%s'\n", pattern)
	}
	b.WriteString("defaultAdmissionRule:\n  enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG\n  evaluationMode: ALWAYS_DENY\n")
	return b.String()
}

func TestATightenedPolicyLetsInTheSameAndNoMore(t *testing.T) {
	t.Parallel()
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 3))
		images := randomImages(r, 12)
		text := randomPolicy(r, images)
		p, found := binauthz.ParsePolicy("policy.yaml", []byte(text))
		if p == nil {
			t.Fatal(found)
		}
		w := suggest.World{Seen: seen(r, images), Now: now}
		narrow := suggest.Narrow(r.IntN(3))
		tight, err := suggest.Tighten(w, p, []byte(text), narrow)
		if err != nil {
			if len(tight.Left) == tight.Seen {
				continue
			}
			t.Fatalf("seed %d: %v", seed, err)
		}
		before, after := allowed(t, []byte(text), evidence.Facts{}, nil, images), allowed(t, tight.Text, evidence.Facts{}, nil, images)
		if !slices.Equal(before, after) {
			t.Fatalf("seed %d: %v before %v, after %v\n%s\n%s", seed, images, before, after, text, tight.Text)
		}
		others := make([]string, 200)
		for i := range others {
			others[i] = randomImage(r)
		}
		before, after = allowed(t, []byte(text), evidence.Facts{}, nil, others), allowed(t, tight.Text, evidence.Facts{}, nil, others)
		for i := range others {
			if after[i] && !before[i] {
				t.Fatalf("seed %d: %s is let in by\n%s\nand not by\n%s", seed, others[i], tight.Text, text)
			}
		}
		if !tight.Changed && string(tight.Text) != text {
			t.Fatalf("seed %d: changed without a finding", seed)
		}
		again, found := binauthz.ParsePolicy("policy.yaml", tight.Text)
		if again == nil {
			t.Fatal(found)
		}
		if more, err := suggest.Tighten(w, again, tight.Text, narrow); err != nil || more.Changed {
			t.Fatalf("seed %d: not done after one pass (%v): %v\n%s\n%s", seed, err, more, text, tight.Text)
		}
	}
}

func TestAProposalNeedsNoTightening(t *testing.T) {
	t.Parallel()
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 4))
		w := suggest.World{Seen: seen(r, randomImages(r, 20)), Now: now}
		p, err := suggest.Propose(suggest.Input{World: w, Options: suggest.Options{Wildcards: randomReach(r)}})
		if err != nil {
			t.Fatal(err)
		}
		parsed, found := binauthz.ParsePolicy("p", p.Text)
		if parsed == nil {
			t.Fatal(found)
		}
		for _, narrow := range []suggest.Narrow{suggest.NarrowNot, suggest.NarrowNames, suggest.NarrowExact} {
			if tight, err := suggest.Tighten(w, parsed, p.Text, narrow); err != nil || len(tight.Findings) > 0 {
				t.Fatalf("seed %d, %d: %v %v\n%s", seed, narrow, err, tight.Findings, p.Text)
			}
		}
	}
}
