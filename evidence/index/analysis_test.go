package index_test

import (
	"context"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// TestOnlyAnalysesForVulnerabilitiesAreScans: one that makes an SBOM does not stand for
// a scan when it has finished, and does not keep one from counting when it has not.
func TestOnlyAnalysesForVulnerabilitiesAreScans(t *testing.T) {
	t.Parallel()
	finished, unfinished := []evidence.Scan{{Project: "p", Finished: true}}, []evidence.Scan{{Project: "p", Status: "PENDING"}}
	for name, test := range map[string]struct {
		occurrences []*grafeas.Occurrence
		want        []evidence.Scan
	}{
		"another that has finished":                  {[]*grafeas.Occurrence{discovered(digest(1), "sbom", succeeded)}, nil},
		"another that has not":                       {[]*grafeas.Occurrence{discovered(digest(1), "sbom", failed)}, nil},
		"another that has finished, and one pending": {[]*grafeas.Occurrence{discovered(digest(1), "scan", pending), discovered(digest(1), "sbom", succeeded)}, unfinished},
		"another pending, and one that has finished": {[]*grafeas.Occurrence{discovered(digest(1), "scan", succeeded), discovered(digest(1), "sbom", pending)}, finished},
		"another that has finished, with findings": {
			[]*grafeas.Occurrence{discovered(digest(1), "sbom", succeeded), vulnerability(digest(1), 1, grafeas.Severity_LOW, false)},
			[]evidence.Scan{{Project: "p", Findings: []evidence.Finding{{Note: "projects/p/notes/CVE-1", Severity: 2}}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.createNotes()
			followed := f.startAll(nil, "p")
			for _, o := range test.occurrences {
				f.create(o)
			}
			for how, got := range map[string]evidence.Image{
				"feed":  collect(t, followed, digest(1)),
				"store": collect(t, f.startAll(nil, "p"), digest(1)),
				"list":  index.FromOccurrences(t.Context(), stored(t, f.Service), nil, refs(t, "reg.test/app@"+digest(1).String()), f.scanners()...).Images[digest(1)],
			} {
				if d := cmp.Diff(test.want, got.Scans); d != "" {
					t.Errorf("%s (-want +got):\n%s", how, d)
				}
			}
		})
	}
}

// TestADiscoveryOfAnUnknownNoteInAList is what whoever made the list meant it for.
func TestADiscoveryOfAnUnknownNoteInAList(t *testing.T) {
	t.Parallel()
	o := discovered(digest(1), "scan", succeeded)
	o.Name = "projects/p/occurrences/o"
	got := index.FromOccurrences(t.Context(), []*grafeas.Occurrence{o}, nil, refs(t, "reg.test/app@"+digest(1).String())).Images[digest(1)].Scans
	if d := cmp.Diff([]evidence.Scan{{Project: "p", Finished: true}}, got); d != "" {
		t.Errorf("scans (-want +got):\n%s", d)
	}
}

// TestWhatAScannerLooksForChanges: its note says so, and as it stands now.
func TestWhatAScannerLooksForChanges(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.createNotes()
	before := f.startAll(nil, "p") // has seen nothing of the note but its change
	f.create(discovered(digest(1), "scan", succeeded))
	x := f.startAll(nil, "p")
	for _, step := range []struct {
		kind     grafeas.NoteKind
		finished bool
	}{{grafeas.NoteKind_SECRET, false}, {grafeas.NoteKind_DISCOVERY, true}, {grafeas.NoteKind_SBOM_REFERENCE, false}, {grafeas.NoteKind_VULNERABILITY, true}} {
		f.lookFor("scan", step.kind)
		for _, x := range []*index.Index{before, x, f.startAll(nil, "p")} {
			if scans := collect(t, x, digest(1)).Scans; (len(scans) == 1 && scans[0].Finished) != step.finished {
				t.Errorf("of kind %s: %+v", step.kind, scans)
			}
		}
	}
}

// TestANoteThatIsCreatedAgain may be of another analysis than the one of its name before.
func TestANoteThatIsCreatedAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.createNotes()
	x := f.startAll(nil, "p")
	for i := range 3 {
		f.delete(f.create(discovered(digest(1), "scan", succeeded)))
		if err := f.DeleteNote(t.Context(), caller, "projects/p/notes/scan"); err != nil {
			t.Fatal(err)
		}
		kind := []grafeas.NoteKind{grafeas.NoteKind_SECRET, grafeas.NoteKind_VULNERABILITY}[i%2]
		if _, err := f.CreateNote(t.Context(), caller, "projects/p", "scan", &grafeas.Note{Type: &grafeas.Note_Discovery{Discovery: &grafeas.DiscoveryNote{AnalysisKind: kind}}}); err != nil {
			t.Fatal(err)
		}
	}
	f.create(discovered(digest(1), "scan", succeeded))
	if scans := collect(t, x, digest(1)).Scans; len(scans) != 0 {
		t.Errorf("a search for secrets counts: %+v", scans)
	}
}

// changing is a source whose notes change after they were read, and before what was
// read arrives.
type changing struct {
	*metadata.Service
	once   sync.Once
	change func()
}

func (c *changing) Note(ctx context.Context, name string) (*grafeas.Note, error) {
	n, err := c.Service.Note(ctx, name)
	c.once.Do(c.change)
	return n, err
}

// TestAnOldNoteDoesNotTakeThePlaceOfANewOne that the feed has told of meanwhile.
func TestAnOldNoteDoesNotTakeThePlaceOfANewOne(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.createNotes()
	f.create(discovered(digest(1), "scan", succeeded))
	source := &changing{Service: f.Service}
	x := startIndex(t, source, nil)
	source.change = func() {
		f.lookFor("scan", grafeas.NoteKind_SECRET)
		if err := x.Ready(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := x.SetScope(t.Context(), []string{"p"}); err != nil {
		t.Fatal(err)
	}
	if scans := collect(t, x, digest(1)).Scans; len(scans) != 0 {
		t.Errorf("a search for secrets counts: %+v", scans)
	}
}

// mute is a source that cannot read notes at first.
type mute struct {
	*metadata.Service
	mu     sync.Mutex
	failed int
}

func (m *mute) Note(ctx context.Context, name string) (*grafeas.Note, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed++; m.failed == 1 {
		return nil, metadata.Errorf(metadata.Unavailable, "disk on fire")
	}
	return m.Service.Note(ctx, name)
}

// TestANoteThatCannotBeRead is read again, and nothing is told before.
func TestANoteThatCannotBeRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.createNotes()
	x := startIndex(t, &mute{Service: f.Service}, nil)
	if err := x.SetScope(t.Context(), []string{"p"}); err != nil {
		t.Fatal(err)
	}
	f.create(discovered(digest(1), "scan", succeeded))
	if scans := collect(t, x, digest(1)).Scans; len(scans) != 1 || !scans[0].Finished {
		t.Errorf("after it could be read: %+v", scans)
	}
	f.create(discovered(digest(2), "scan", succeeded))
	if err := startIndex(t, &mute{Service: f.Service}, nil).SetScope(t.Context(), []string{"p"}); err == nil {
		t.Error("no error from a store that fails")
	}
}
