package index_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// provenances makes an occurrence for each of n images, with statements of a kilobyte
// and some.
func (f fixture) provenances(from, n int) {
	f.t.Helper()
	for i := from; i < from+n; i++ {
		f.create(buildOf(digest(i), provenanceV1(f.t, f.signer, digest(i), "https://github.com/org/"+strings.Repeat("a", 500))))
	}
}

// whole returns which of n images have a provenance that is kept whole, as digits, and
// how many bytes those have.
func (f fixture) whole(x *index.Index, n int) (which string, bytes int) {
	f.t.Helper()
	for i := range n {
		img := collect(f.t, x, digest(i))
		if len(img.Provenances) != 1 || img.Provenances[0].Source == "" || img.Provenances[0].Fingerprint != f.signer.PublicKey().Fingerprint() {
			f.t.Fatalf("image %d: %+v", i, img)
		}
		b := len(img.Provenances[0].Statement)
		if bytes += b; b > 0 {
			which += fmt.Sprint(i % 10)
		} else {
			which += "-"
		}
	}
	return which, bytes
}

func (f fixture) keep(x *index.Index, bytes int) {
	f.t.Helper()
	if err := x.KeepStatements(f.t.Context(), bytes); err != nil {
		f.t.Fatal(err)
	}
}

// builders trusts the fixture's key in the project, and under a note too.
func (f fixture) builders() index.Trust {
	keys := []*signature.PublicKey{f.signer.PublicKey()}
	return index.Trust{"projects/p": keys, buildNote: keys, note: keys}
}

func TestStatementsAreKeptWhileTheyAreAskedFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.createNotes()
	f.provenances(0, 1)
	for how, trust := range map[string]index.Trust{
		"by project": {"projects/p": {f.signer.PublicKey()}}, "by note": {buildNote: {f.signer.PublicKey()}}, "by both": f.builders(),
	} {
		x := f.start(trust)
		for _, step := range []struct {
			bytes int
			want  string
		}{{0, "-"}, {1 << 20, "0"}, {1 << 20, "0"}, {100, "-"}, {1 << 20, "0"}, {0, "-"}} {
			f.keep(x, step.bytes)
			if got, _ := f.whole(x, 1); got != step.want {
				t.Errorf("%s, with %d bytes: %s are whole, want %s", how, step.bytes, got, step.want)
			}
		}
	}
}

// TestTheLatestStatementsStay, and within the bound, whether they come by the feed or
// from the store. What goes is not taken up again when there is room.
func TestTheLatestStatementsStay(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.createNotes()
	const limit = 9 << 10
	followed := f.start(f.builders())
	f.keep(followed, limit)
	f.provenances(0, 31)
	read := f.start(f.builders())
	f.keep(read, limit)
	for how, x := range map[string]*index.Index{"feed": followed, "store": read} {
		got, bytes := f.whole(x, 31)
		if bytes > limit || !strings.HasSuffix(got, "7890") || !strings.HasPrefix(got, "-------------------") || strings.Contains(strings.TrimLeft(got, "-"), "-") {
			t.Errorf("%s: %d bytes of %d, %s", how, bytes, limit, got)
		}
	}
	f.keep(followed, limit/3)
	if got, bytes := f.whole(followed, 31); bytes > limit/3 || bytes == 0 || !strings.HasSuffix(got, "-0") && !strings.HasSuffix(got, "-90") {
		t.Errorf("with a third: %d bytes of %d, %s", bytes, limit/3, got)
	}
	f.keep(followed, 1<<20)
	if got, _ := f.whole(followed, 31); strings.Contains(got, "-") {
		t.Errorf("with room for all: %s", got)
	}
}

func TestStatementsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.createNotes()
	f.provenances(0, 2)
	source := &torn{Service: f.Service}
	x := startIndex(t, source, index.Trust{"projects/p": {f.signer.PublicKey()}})
	source.set(true)
	if err := x.KeepStatements(t.Context(), 1<<20); err == nil {
		t.Fatal("no error from a store that fails")
	}
	source.set(false)
	f.keep(x, 1<<20)
	if got, _ := f.whole(x, 2); got != "01" {
		t.Errorf("after it could be read: %s", got)
	}
}

// TestStatementsThatArriveWhileTheyComeToMatter are kept, whoever comes to one first,
// and those that are deleted are not brought back.
func TestStatementsThatArriveWhileTheyComeToMatter(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.createNotes()
	x := f.start(f.builders())
	for round := range 10 {
		f.keep(x, 0)
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range 10 {
				d := digest(100*round + i)
				o, err := f.CreateOccurrence(t.Context(), caller, "projects/p", buildOf(d, provenanceV1(t, f.signer, d, "https://github.com/org/app")))
				if err == nil && i%2 == 1 {
					err = f.DeleteOccurrence(t.Context(), caller, o.GetName())
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
		f.keep(x, 1<<20)
		wg.Wait()
		for i := range 10 {
			got := collect(t, x, digest(100*round+i)).Provenances
			if want := (i + 1) % 2; len(got) != want || want == 1 && got[0].Statement == nil {
				t.Fatalf("round %d, image %d: %+v", round, i, got)
			}
		}
	}
}

// TestProvenancesThatAreNotWholeAreToldOnce if they say the same.
func TestProvenancesThatAreNotWholeAreToldOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.createNotes()
	x := f.start(f.builders())
	var last string
	for i := range 3 {
		env := sealed(t, f.signer, signature.PayloadTypeInToto, inToto(provenanceType, fmt.Sprintf(`{"buildDefinition":{"resolvedDependencies":[{"uri":"git+https://github.com/org/app"}]},
			"runDetails":{"builder":{"id":"b"},"metadata":{"invocationId":"%d"}}}`, i), digest(1)))
		last = f.create(buildOf(digest(1), env)).GetName()
	}
	if got := collect(t, x, digest(1)).Provenances; len(got) != 1 || got[0].Occurrence != last {
		t.Errorf("got %+v", got)
	}
	f.keep(x, 1<<20)
	if got := collect(t, x, digest(1)).Provenances; len(got) != 3 {
		t.Errorf("whole: %+v", got)
	}
}
