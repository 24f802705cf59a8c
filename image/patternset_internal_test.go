package image

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// candidates counts the patterns that a set compares with a reference.
func (s *PatternSet) candidates(ref string) int {
	n := 0
	count := func(int) { n++ }
	s.texts.each(ref, count)
	if r, err := Parse(ref); err == nil {
		s.names.each(r.name, count)
		s.tags.each(r.name+":"+string(r.tag), count)
	}
	return n
}

// Whoever writes policies must not be able to make a review slow, by however many
// patterns, nor whoever writes pods, by however long a name.
func TestAPatternSetComparesNoMoreForMorePatterns(t *testing.T) {
	t.Parallel()
	nested := strings.Repeat("a/", 120) + "a"
	for name, pattern := range map[string]func(i int) string{
		"tags of one name":          func(i int) string { return fmt.Sprintf("gcr.io/p/app:v%d", i) },
		"beginnings of tags":        func(i int) string { return fmt.Sprintf("gcr.io/p/app:v%d*", i) },
		"one pattern, many times":   func(int) string { return "gcr.io/p/app*" },
		"directories in each other": func(i int) string { return "gcr.io/" + nested[:2*(i%100)+2] + "**" },
		"names of one directory":    func(i int) string { return fmt.Sprintf("gcr.io/p/app%d*", i) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			count := func(n int, ref string) int {
				var patterns []Pattern
				for i := range n {
					for _, parse := range []func(string) (Pattern, error){ParseBinauthzPattern, ParsePlatformPattern} {
						if p, err := parse(pattern(i)); err == nil {
							patterns = append(patterns, p)
						}
					}
				}
				return NewPatternSet(patterns).candidates(ref)
			}
			for _, ref := range []string{"gcr.io/p/app:v1", "gcr.io/p/app:v123456789", "gcr.io/" + nested + ":v1"} {
				few, many := count(200, ref), count(6400, ref)
				if most := 2 * 2 * len(ref); many > most {
					t.Errorf("%d comparisons for a reference of %d characters", many, len(ref))
				}
				if many > 2*few+8 {
					t.Errorf("%d comparisons by 200 patterns, %d by 6400", few, many)
				}
			}
		})
	}
}

// What is longer than any reference is not looked at, whatever a policy exempts.
func TestNoPatternCoversTextLongerThanAnyReference(t *testing.T) {
	t.Parallel()
	p, err := ParseBinauthzPattern("gcr.io/p/**")
	if err != nil {
		t.Fatal(err)
	}
	long := "gcr.io/p/" + strings.Repeat("a", maxReference)
	for _, p := range []Pattern{p, ExactPattern(long)} {
		if p.Match(long) || NewPatternSet([]Pattern{p}).Match(long) >= 0 {
			t.Errorf("pattern %.20q covers %d characters", p, len(long))
		}
	}
	if fits := long[:maxReference]; !p.Match(fits) || NewPatternSet([]Pattern{p}).Match(fits) != 0 {
		t.Error("a reference that is as long as may be is not covered")
	}
}

// A set answers like its patterns one after another.
func TestAPatternSetIsItsPatternsInOrder(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // repeatable on purpose
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	digest := "@" + DigestOf(nil).String()
	for range 20_000 {
		var patterns []Pattern
		for range r.IntN(6) {
			text := pick("gcr.io/p/a", "gcr.io/p/ab", "gcr.io/p", "a", "gcr.io/p/a/b") + pick("", "*", "**", "/*", "/**", ":v1", ":v*", ":v1*", ":*", digest, ":v1"+digest)
			parse := ParsePlatformPattern
			if r.IntN(2) == 0 {
				parse = ParseBinauthzPattern
			}
			p, _ := parse(text) // the zero Pattern covers nothing
			if r.IntN(8) == 0 {
				p = ExactPattern(text)
			}
			patterns = append(patterns, p)
		}
		ref := pick("gcr.io/p/a", "gcr.io/p/ab", "gcr.io/p/a/b", "a", "ab", "gcr.io/p/A") + pick("", ":v1", ":v12", ":w") + pick("", digest, "@"+DigestOf([]byte("x")).String())
		want := -1
		for i, p := range patterns {
			if p.Match(ref) {
				want = i
				break
			}
		}
		if got := NewPatternSet(patterns).Match(ref); got != want {
			t.Fatalf("%v of %q covers %q: the set says %d, want %d", patterns, patterns, ref, got, want)
		}
	}
}
