package image_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/gatehouse-dev/gatehouse/image"
)

// TestPatternSetFindsTheFirst has many patterns and references of few words, so
// that they meet, and compares the set with asking each pattern.
func TestPatternSetFindsTheFirst(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	found := 0
	for range 300 {
		patterns := make([]image.Pattern, rng.IntN(12))
		for i := range patterns {
			patterns[i] = randomPattern(t, rng)
		}
		set := image.NewPatternSet(patterns)
		for range 40 {
			ref := randomReference(rng)
			want := firstMatch(patterns, ref)
			if got := set.Match(ref); got != want {
				t.Fatalf("%q: pattern %d of the set, %d one by one, of %v", ref, got, want, patterns)
			}
			if want >= 0 {
				found++
			}
		}
	}
	if found < 300 {
		t.Errorf("only %d references were covered at all", found)
	}
}

// TestIncludingIsAboutAllReferences tries references on each pair that is said to
// include one another, and has pairs that are known to.
func TestIncludingIsAboutAllReferences(t *testing.T) {
	t.Parallel()
	parse := func(text string) image.Pattern {
		p, err := image.ParsePlatformPattern(text)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	const img = "reg.io/path/img"
	for _, pair := range []struct {
		wide, narrow string
		want         bool
	}{
		{"reg.io/**", "reg.io/path/**", true}, {"reg.io/path/**", "reg.io/**", false}, {"reg.io/**", img, true}, {"reg.io/**", img + ":v1" + directoryDigest, true},
		{"reg.io/path/*", img, true}, {"reg.io/path/*", img + ":v*", true}, {"reg.io/path/*", "reg.io/path/i*", true}, {"reg.io/path/i*", "reg.io/path/*", false},
		{"reg.io/path/*", "reg.io/path/**", false}, {"reg.io/path/*", "reg.io/path/a/b", false}, {"reg.io/path/*", "reg.io/path/a/**", false},
		{img, img + ":v1", true}, {img, img + directoryDigest, true}, {img, img + ":v1" + directoryDigest, true}, {img, img + ":v*", true}, {img, img + "*", false}, {img, img + "2", false},
		{img + ":v*", img + ":v1", true}, {img + ":v*", img + ":v1*", true}, {img + ":v1*", img + ":v*", false}, {img + ":v*", img, false}, {img + ":v*", img + ":v1" + directoryDigest, true}, {img + ":v*", img + directoryDigest, false},
		{img + ":v1", img + ":v1" + directoryDigest, true}, {img + ":v1", img + ":v1*", false}, {img + ":v1", img, false}, {img + ":v1" + directoryDigest, img + ":v1", false},
		{img + directoryDigest, img + ":v1" + directoryDigest, true}, {img + directoryDigest, img, false}, {img + directoryDigest, img + ":v1", false},
		{img, img, false},
	} {
		if got := image.NewPatternSet([]image.Pattern{parse(pair.wide)}).Including(parse(pair.narrow)) == 0; got != pair.want {
			t.Errorf("%s includes %s: %v", pair.wide, pair.narrow, got)
		}
	}
	rng := rand.New(rand.NewPCG(5, 6))
	for range 20000 {
		wide, err := image.ParsePlatformPattern(randomPattern(t, rng).String())
		narrow, err2 := image.ParsePlatformPattern(randomPattern(t, rng).String())
		if err != nil || err2 != nil || image.NewPatternSet([]image.Pattern{wide}).Including(narrow) < 0 {
			continue
		}
		for range 20 {
			if ref := randomReference(rng); narrow.Match(ref) && !wide.Match(ref) {
				t.Fatalf("%v does not include %v: %s", wide, narrow, ref)
			}
		}
	}
}

func TestEmptyPatternSetCoversNothing(t *testing.T) {
	t.Parallel()
	for _, set := range []*image.PatternSet{{}, image.NewPatternSet(nil), image.NewPatternSet(make([]image.Pattern, 3))} {
		for _, ref := range []string{"", "nginx", "gcr.io/p/app:v1"} {
			if i := set.Match(ref); i >= 0 {
				t.Errorf("%q is covered by pattern %d", ref, i)
			}
		}
	}
}

func firstMatch(patterns []image.Pattern, ref string) int {
	for i, p := range patterns {
		if p.Match(ref) {
			return i
		}
	}
	return -1
}

func pick(rng *rand.Rand, words ...string) string { return words[rng.IntN(len(words))] }

func randomName(rng *rand.Rand) string {
	name := pick(rng, "gcr.io/", "gcr.io/", "docker.io/", "", "a.example:5000/")
	for range rng.IntN(3) {
		name += pick(rng, "p/", "q/", "pre/")
	}
	return name + pick(rng, "a", "ab", "b", "pre-a")
}

func randomReference(rng *rand.Rand) string {
	return randomName(rng) + pick(rng, "", ":v1", ":v1.2", ":latest") + pick(rng, "", "", directoryDigest) + pick(rng, "", "", "", "", "", " ")
}

func randomPattern(t *testing.T, rng *rand.Rand) image.Pattern {
	t.Helper()
	for range 1000 {
		text := randomName(rng)
		switch rng.IntN(3) {
		case 0:
			text = text[:rng.IntN(len(text)+1)]
		case 1:
			text += pick(rng, ":v1", ":v", ":v1.2", ":l") + pick(rng, "", directoryDigest)
		}
		text += pick(rng, "", "*", "**")
		parse := image.ParsePlatformPattern
		switch rng.IntN(5) {
		case 0, 1:
			parse = image.ParseBinauthzPattern
		case 2:
			return image.ExactPattern(text)
		}
		if p, err := parse(text); err == nil {
			return p
		}
	}
	t.Fatal("no pattern in a thousand tries")
	return image.Pattern{}
}

// FuzzPatternSet looks for a reference that the set and its patterns disagree on.
func FuzzPatternSet(f *testing.F) {
	f.Add("gcr.io/p/*", "gcr.io/p/app:v1*", "gcr.io/**", "gcr.io/p/app:v1.2")
	f.Add("nginx**", "nginx", "nginx*", "nginx.example/x")
	f.Add("a", "", "docker.io/library/nginx", "docker.io/library/nginx"+directoryDigest)
	f.Fuzz(func(t *testing.T, one, two, three, ref string) {
		var patterns []image.Pattern
		for _, text := range []string{one, two, three} {
			for _, parse := range []func(string) (image.Pattern, error){image.ParseBinauthzPattern, image.ParsePlatformPattern} {
				if p, err := parse(text); err == nil {
					patterns = append(patterns, p)
				}
			}
			patterns = append(patterns, image.ExactPattern(text))
		}
		if got, want := image.NewPatternSet(patterns).Match(ref), firstMatch(patterns, ref); got != want {
			t.Errorf("%q: pattern %d of the set, %d one by one, of %v", ref, got, want, patterns)
		}
	})
}

func BenchmarkPatternSet(b *testing.B) {
	for _, n := range []int{1, 10000} {
		patterns := make([]image.Pattern, 0, n)
		for i := range n {
			p, err := image.ParsePlatformPattern(fmt.Sprintf("gcr.io/p%d/**", i))
			if err != nil {
				b.Fatal(err)
			}
			patterns = append(patterns, p)
		}
		set := image.NewPatternSet(patterns)
		b.Run(fmt.Sprintf("%d patterns", n), func(b *testing.B) {
			for b.Loop() {
				if set.Match("gcr.io/p0/a/b:v1") != 0 {
					b.Fatal("not found")
				}
			}
		})
	}
}
