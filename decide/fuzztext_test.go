package decide_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// FuzzReferencesAgainstNaive splits references, and compares patterns of all
// languages with them, one by one and in a set.
func FuzzReferencesAgainstNaive(f *testing.F) {
	for i, text := range append(append([]string{}, worldOdd...), worldNames...) {
		f.Add(text, worldNames[i%len(worldNames)]+"*", "gcr.io/p/*")
	}
	f.Add("nginx.example/x", "nginx**", "*.gcr.io/p")
	f.Add(digested, "gcr.io/p/app@sha256:"+hexA, "gcr.io/*")
	f.Add(tagged, "gcr.io/p/app:v*", "gcr.io/**")
	f.Fuzz(func(t *testing.T, text, pattern, directory string) {
		ref, err := image.Parse(text)
		want := naiveSplit(text)
		if (err == nil) != want.ok {
			t.Fatalf("Parse(%q): %v, the naive one says %v", text, err, want.ok)
		}
		if err == nil {
			got := naiveRef{true, ref.Name(), string(ref.Tag()), ref.Digest().String(), ref.Registry(), ref.Path()}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(naiveRef{})); diff != "" {
				t.Fatalf("Parse(%q) (-naive +Parse):\n%s", text, diff)
			}
			if ref.String() != text || ref.Repository() != want.repository() {
				t.Fatalf("%q is kept as %q, %q", text, ref.String(), ref.Repository())
			}
		}
		const longest = 718 // of a reference; what is longer is covered by nothing
		for language, parse := range map[string]func(string) (image.Pattern, error){inBinauthz: image.ParseBinauthzPattern, inPlatform: image.ParsePlatformPattern} {
			p, err := parse(pattern)
			if err != nil {
				continue
			}
			covers := len(text) <= longest && naiveCovers(language, pattern, text)
			if got := p.Match(text); got != covers {
				t.Errorf("%s pattern %q covers %q: %v, the naive one says %v", language, pattern, text, got, covers)
			}
			if got := image.NewPatternSet([]image.Pattern{p}).Match(text) == 0; got != covers {
				t.Errorf("a set of %s pattern %q covers %q: %v, the naive one says %v", language, pattern, text, got, covers)
			}
		}
		if d, parseErr := image.ParseDirectory(directory); parseErr == nil && err == nil {
			if got, covers := d.Match(ref), naiveInDirectory(directory, want); got != covers {
				t.Errorf("directory %q has %q: %v, the naive one says %v", directory, text, got, covers)
			}
		}
	})
}

func FuzzSourcesAgainstNaive(f *testing.F) {
	f.Add("github.com/o/*", "https://github.com/o/app.git@v1")
	f.Add("github.com/**", "git+ssh://git@GitHub.com/o/app/#x?y")
	f.Add("github.com/o/app", "github.com/o/../app")
	f.Add("x/", "x%/")
	f.Fuzz(func(t *testing.T, pattern, url string) {
		p, err := policy.ParseSourcePattern(pattern)
		if err != nil {
			return
		}
		if got, want := p.Match(url), naiveFrom(pattern, url); got != want {
			t.Errorf("%q covers %q: %v, the naive one says %v", pattern, url, got, want)
		}
	})
}

// FuzzDecideOnText decides on arbitrary text everywhere that text from outside goes.
func FuzzDecideOnText(f *testing.F) {
	for i, text := range hostile {
		f.Add(text, hostile[(i+1)%len(hostile)], []byte{byte(i)})
	}
	f.Fuzz(func(t *testing.T, one, two string, data []byte) {
		if len(one)+len(two) > 16<<10 || len(data) > 4096 {
			return
		}
		q := questionOf(data).build()
		q.Request.Namespace, q.Request.ServiceAccount, q.Request.Cluster, q.Request.IstioIdentity = one, two, one, two
		q.Request.Images = append(q.Request.Images, decide.ImageUse{Container: two, Type: decide.ContainerType(one), Text: one}, decide.ImageUse{Text: two})
		q.each(func(img *evidence.Image) {
			img.Err = two
			for i := range img.Attestations {
				a := &img.Attestations[i]
				a.KeyID, a.Occurrence, a.Repository = one, two, one
			}
			for i := range img.Rejected {
				img.Rejected[i].Occurrence, img.Rejected[i].Reason = one, two
			}
			for i := range img.Scans {
				img.Scans[i].Status = two
				for j := range img.Scans[i].Findings {
					img.Scans[i].Findings[j].Note = one
				}
			}
			for i := range img.Provenances {
				p := &img.Provenances[i]
				p.Builder, p.Source, p.KeyID, p.Occurrence = two, one, one, two
			}
		})
		d := q.decide()
		checkMessage(t, decide.Message(d))
		if a, b := asJSON(t, d), asJSON(t, q.decide()); a != b {
			t.Errorf("one question, two answers:\n%s\n%s", a, b)
		}
		if diff := naiveDiff(q); diff != "" {
			t.Errorf("Decide differs from the naive evaluator (-naive +Decide):\n%s\n%s", diff, q)
		}
	})
}
