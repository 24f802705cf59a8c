package index

import (
	"context"
	"log/slog"
	"testing"
	"unique"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// silent is a source in which nothing ever happens.
type silent struct{}

func (silent) Head() uint64                                                    { return 0 }
func (silent) Wait(ctx context.Context, _ uint64) error                        { <-ctx.Done(); return ctx.Err() }
func (silent) Changes(context.Context, uint64, int) ([]metadata.Change, error) { return nil, nil }
func (silent) NoteOccurrences(context.Context, string, func(*grafeas.Occurrence) error) (uint64, error) {
	return 0, nil
}

func (silent) ProjectOccurrences(context.Context, string, metadata.Kinds, func(*grafeas.Occurrence) error) (uint64, error) {
	return 0, nil
}

func (silent) ProjectSummaries(context.Context, string, func(*metadata.Summary) error) (uint64, error) {
	return 0, nil
}

func (silent) ResourceSummary(context.Context, metadata.Parent, metadata.Key) (*metadata.Summary, error) {
	return &metadata.Summary{}, nil
}

func (silent) Note(context.Context, string) (*grafeas.Note, error) { return &grafeas.Note{}, nil }

// stated returns what an occurrence may have said.
func stated(occurrence string, k kind) []statement {
	s := begin(&grafeas.Occurrence{Name: occurrence, NoteName: "projects/p/notes/n"})
	s.kind, s.via = k, viaNote
	return []statement{s.statement()}
}

// TestWhatWasVerifiedWithOtherKeysIsNotFiled: a verdict that was reached before
// the keys changed must not replace what the scan after the change has found.
func TestWhatWasVerifiedWithOtherKeysIsNotFiled(t *testing.T) {
	t.Parallel()
	x := New(silent{}, slog.New(slog.DiscardHandler))
	before := x.trust.Load()
	if err := x.SetTrust(t.Context(), Trust{"projects/p/notes/n": nil}); err != nil {
		t.Fatal(err)
	}
	d := image.DigestOf([]byte("x"))
	o, verdict := nameOf("o"), stated("o", attestation)
	if x.file(o, fromFeed, d, before, verdict) || x.Len() != 0 {
		t.Error("filed what was verified with the keys of before")
	}
	if !x.file(o, fromFeed, d, x.trust.Load(), verdict) || x.Len() != 1 {
		t.Error("did not file what was verified with the keys of now")
	}
}

// TestAScanBringsNothingBack: what a scan read before the feed told of a change or
// of a deletion must not be filed after it.
func TestAScanBringsNothingBack(t *testing.T) {
	t.Parallel()
	x := New(silent{}, slog.New(slog.DiscardHandler))
	d := image.DigestOf([]byte("x"))
	end := x.scanning(func() {})
	trust, o := x.trust.Load(), nameOf("o")
	x.file(o, fromFeed, d, trust, stated("o", rejection))
	if !x.file(o, fromScan, d, trust, stated("o", attestation)) {
		t.Error("the scan is told to try again")
	}
	if img := x.book.image(d); len(img.Attestations) != 0 || len(img.Rejected) != 1 {
		t.Errorf("after the feed told of a change, a scan filed what it was before: %+v", img)
	}
	x.file(o, fromFeed, d, trust, stated("o", attestation))
	if img := x.book.image(d); len(img.Attestations) != 1 {
		t.Errorf("the feed's next change was not filed: %+v", img)
	}
	end()
	x.file(o, fromScan, d, trust, nil)
	if x.Len() != 0 {
		t.Error("a later scan does not count")
	}
}

// TestScansOfOneImageAreBounded: whoever may write occurrences can report an image in as
// many repositories as he likes, and a decision looks at all that it is told.
func TestScansOfOneImageAreBounded(t *testing.T) {
	t.Parallel()
	of := func(project string, i int) scanned {
		return scanned{unique.Make(metadata.Parent{Project: project}), metadata.Key{byte(i >> 8), byte(i)}}
	}
	d := image.DigestOf([]byte("x"))
	for name, test := range map[string]struct {
		scans, findings, last, told int
		truncated                   bool
	}{
		"as many as are told":       {50, metadata.MaxFindings, metadata.MaxFindings, maxFindings, false},
		"more findings":             {51, metadata.MaxFindings, 1, maxFindings, true},
		"more findings in the last": {51, metadata.MaxFindings - 1, metadata.MaxFindings, maxFindings, true},
		"more repositories":         {maxScans + 1, 1, 1, maxScans, true},
	} {
		b := newBook(0)
		for i := range test.scans {
			n := test.findings
			if i == test.scans-1 {
				n = test.last
			}
			sc := scan{of: of("p", i), findings: make([]evidence.Finding, n)}
			for j := range sc.findings {
				sc.findings[j] = evidence.Finding{Severity: 1}
			}
			b.scan(d, sc.of, &sc)
		}
		told, truncated := 0, false
		for _, s := range b.image(d).Scans {
			told += len(s.Findings)
			truncated = truncated || s.Truncated
		}
		if told != test.told || truncated != test.truncated {
			t.Errorf("%s: %d findings are told, truncated %v", name, told, truncated)
		}
		// A project that there was no room for is told of too.
		sc := scan{of: of("q", 0), findings: []evidence.Finding{{Severity: 1}}}
		b.scan(d, sc.of, &sc)
		scans := b.image(d).Scans
		if last := scans[len(scans)-1]; last.Project != "q" || last.Truncated != (told == maxFindings || test.scans > maxScans) {
			t.Errorf("%s: of the next project is told %+v", name, last)
		}
	}
}

// TestReadingScansBringsNothingBack is the same for what scans found.
func TestReadingScansBringsNothingBack(t *testing.T) {
	t.Parallel()
	x := New(silent{}, slog.New(slog.DiscardHandler))
	if err := x.SetScope(t.Context(), []string{"p"}); err != nil {
		t.Fatal(err)
	}
	d := image.DigestOf([]byte("x"))
	x.book.analyses.presumed = true
	of := scanned{unique.Make(metadata.Parent{Project: "p"}), metadata.Key{1}}
	summary := func(status grafeas.DiscoveryOccurrence_AnalysisStatus) *metadata.Summary {
		return &metadata.Summary{Scans: []metadata.Scan{{ID: metadata.ID{1}, Note: "projects/p/notes/scan", Status: status}}}
	}
	end := x.scanning(func() {})
	x.fileScan(d, of, summary(grafeas.DiscoveryOccurrence_FINISHED_FAILED), fromFeed)
	x.fileScan(d, of, summary(grafeas.DiscoveryOccurrence_FINISHED_SUCCESS), fromScan)
	if img := x.book.image(d); len(img.Scans) != 1 || img.Scans[0].Finished {
		t.Errorf("after the feed told of a failure, what was read before it was filed: %+v", img)
	}
	x.fileScan(d, of, &metadata.Summary{}, fromFeed)
	x.fileScan(d, of, summary(grafeas.DiscoveryOccurrence_FINISHED_SUCCESS), fromScan)
	if x.Len() != 0 {
		t.Error("after the feed told that all was deleted, what was read before it was filed")
	}
	end()
	x.fileScan(d, of, summary(grafeas.DiscoveryOccurrence_FINISHED_SUCCESS), fromScan)
	if x.Len() != 1 {
		t.Error("a later reading does not count")
	}
	x.fileScan(d, scanned{unique.Make(metadata.Parent{Project: "q"}), metadata.Key{1}}, summary(grafeas.DiscoveryOccurrence_PENDING), fromFeed)
	if img := x.book.image(d); len(img.Scans) != 1 {
		t.Errorf("scans of a project that nobody asks about are kept: %+v", img)
	}
}
