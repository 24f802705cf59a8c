package index_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	pending     = grafeas.DiscoveryOccurrence_PENDING
	succeeded   = grafeas.DiscoveryOccurrence_FINISHED_SUCCESS
	failed      = grafeas.DiscoveryOccurrence_FINISHED_FAILED
	unsupported = grafeas.DiscoveryOccurrence_FINISHED_UNSUPPORTED
	unspecified = grafeas.DiscoveryOccurrence_ANALYSIS_STATUS_UNSPECIFIED
)

// TestAnImageIsScannedWhenTheLatestWordOfEveryScannerIsSuccess in all the ways in
// which scanners tell it: a new occurrence for each scan, or one that is updated.
func TestAnImageIsScannedWhenTheLatestWordOfEveryScannerIsSuccess(t *testing.T) {
	t.Parallel()
	type word struct {
		scanner string
		status  grafeas.DiscoveryOccurrence_AnalysisStatus
	}
	for name, test := range map[string]struct {
		words    []word
		finished bool
		status   string
	}{
		"pending":                           {[]word{{"scan", pending}}, false, "PENDING"},
		"finished":                          {[]word{{"scan", pending}, {"scan", succeeded}}, true, ""},
		"complete, as it is also called":    {[]word{{"scan", grafeas.DiscoveryOccurrence_COMPLETE}}, true, ""},
		"failed":                            {[]word{{"scan", failed}}, false, "FINISHED_FAILED"},
		"not supported":                     {[]word{{"scan", unsupported}}, false, "FINISHED_UNSUPPORTED"},
		"says nothing of its state":         {[]word{{"scan", unspecified}}, false, "ANALYSIS_STATUS_UNSPECIFIED"},
		"a state that is not known here":    {[]word{{"scan", 77}}, false, "77"},
		"failed again":                      {[]word{{"scan", succeeded}, {"scan", failed}}, false, "FINISHED_FAILED"},
		"begun again":                       {[]word{{"scan", succeeded}, {"scan", pending}}, false, "PENDING"},
		"begun and finished again":          {[]word{{"scan", succeeded}, {"scan", pending}, {"scan", succeeded}}, true, ""},
		"another one pending":               {[]word{{"scan", succeeded}, {"otherscan", pending}}, false, "PENDING"},
		"another one failed before":         {[]word{{"otherscan", failed}, {"scan", succeeded}}, false, "FINISHED_FAILED"},
		"both finished":                     {[]word{{"otherscan", failed}, {"scan", succeeded}, {"otherscan", succeeded}}, true, ""},
		"both not, and the later one tells": {[]word{{"otherscan", failed}, {"scan", pending}}, false, "PENDING"},
	} {
		for how, update := range map[string]bool{"new occurrences": false, "updates": true} {
			t.Run(name+" by "+how, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				f.createNotes()
				x := f.startAll(nil, "p")
				first := map[string]*grafeas.Occurrence{}
				for _, w := range test.words {
					o := discovered(digest(1), w.scanner, w.status)
					if have := first[w.scanner]; update && have != nil {
						f.update(have, o)
					} else {
						first[w.scanner] = f.create(o)
					}
				}
				want := []evidence.Scan{{Project: "p", Finished: test.finished, Status: test.status}}
				if d := cmp.Diff(want, collect(t, x, digest(1)).Scans); d != "" {
					t.Errorf("scans (-want +got):\n%s", d)
				}
			})
		}
	}
}

// TestTheLatestWordIsThatWhichWasUpdatedLast, not that which was created last.
func TestTheLatestWordIsThatWhichWasUpdatedLast(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.createNotes()
	x := f.startAll(nil, "p")
	first := f.create(discovered(digest(1), "scan", pending))
	f.create(discovered(digest(1), "scan", succeeded))
	f.update(first, discovered(digest(1), "scan", failed))
	if d := cmp.Diff([]evidence.Scan{{Project: "p", Status: "FINISHED_FAILED"}}, collect(t, x, digest(1)).Scans); d != "" {
		t.Errorf("scans (-want +got):\n%s", d)
	}
}

// update gives an occurrence the details of another.
func (f fixture) update(o, like *grafeas.Occurrence) {
	f.t.Helper()
	_, err := f.UpdateOccurrence(f.t.Context(), caller, o.GetName(), func(current *grafeas.Occurrence) (*grafeas.Occurrence, error) {
		next := proto.CloneOf(current)
		next.Details, next.Envelope = like.Details, like.Envelope
		return next, nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// TestFindingsAreThoseThatStandNow follows a vulnerability through its life.
func TestFindingsAreThoseThatStandNow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.createNotes()
	x := f.startAll(nil, "p")
	found := func(want ...evidence.Finding) {
		t.Helper()
		var got []evidence.Finding
		for _, s := range collect(t, x, digest(1)).Scans {
			got = append(got, s.Findings...)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("findings (-want +got):\n%s", d)
		}
	}
	low := f.create(vulnerability(digest(1), 1, grafeas.Severity_LOW, true))
	one := evidence.Finding{Note: "projects/p/notes/CVE-1", Severity: 2, Fixable: true}
	found(one)
	high := f.create(vulnerability(digest(1), 2, grafeas.Severity_HIGH, false))
	found(evidence.Finding{Note: "projects/p/notes/CVE-2", Severity: 4}, one)
	f.update(high, vulnerability(digest(1), 2, grafeas.Severity_MINIMAL, true))
	found(one, evidence.Finding{Note: "projects/p/notes/CVE-2", Severity: 1, Fixable: true})
	f.delete(low)
	found(evidence.Finding{Note: "projects/p/notes/CVE-2", Severity: 1, Fixable: true})
	f.delete(high)
	found()
	if x.Len() != 0 {
		t.Errorf("%d digests are left", x.Len())
	}
}

// TestScansOfOtherPlaces: those of the same digest in another repository are those of
// the image, those of a location are its project's, and those of projects that nobody
// asks about are not kept.
func TestScansOfOtherPlaces(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.createNotes()
	x := f.startAll(nil, "p")
	mirrored := discovered(digest(1), "scan", succeeded)
	mirrored.ResourceUri = "mirror.test/other@" + digest(1).String()
	f.create(mirrored)
	f.create(discovered(digest(1), "scan", failed))
	f.createIn("projects/p/locations/eu", vulnerability(digest(1), 1, grafeas.Severity_HIGH, false))
	f.createIn("projects/q", discovered(digest(1), "scan", pending))
	f.createIn("projects/q", discovered(digest(2), "scan", pending))
	scans := collect(t, x, digest(1)).Scans
	n := map[string]int{}
	for _, s := range scans {
		n[fmt.Sprintf("%s %t %s %d", s.Project, s.Finished, s.Status, len(s.Findings))]++
	}
	if d := cmp.Diff(map[string]int{"p true  0": 1, "p false FINISHED_FAILED 0": 1, "p false  1": 1}, n); d != "" {
		t.Errorf("scans (-want +got):\n%s", d)
	}
	if x.Len() != 1 {
		t.Errorf("%d digests, want that of the one project", x.Len())
	}
}

func TestScansOfAProjectThatComesToMatter(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.createNotes()
	source := &torn{Service: f.Service}
	x := startIndex(t, source, nil)
	f.createIn("projects/p/locations/eu", discovered(digest(1), "scan", succeeded))
	f.createIn("projects/q", discovered(digest(2), "scan", succeeded))
	has := func(want ...int) {
		t.Helper()
		for i := 1; i <= 2; i++ {
			if got := len(collect(t, x, digest(i)).Scans); got != want[i-1] {
				t.Errorf("image %d has %d scans, want %d", i, got, want[i-1])
			}
		}
	}
	has(0, 0)
	source.set(true)
	if err := x.SetScope(t.Context(), []string{"p"}); err == nil {
		t.Fatal("no error from a store that fails")
	}
	source.set(false)
	if err := x.SetScope(t.Context(), []string{"p"}); err != nil {
		t.Fatal(err)
	}
	has(1, 0)
	if err := x.SetScope(t.Context(), []string{"q"}); err != nil {
		t.Fatal(err)
	}
	has(1, 1) // the policy of before may be in force
	if err := x.SetScope(t.Context(), []string{"q"}); err != nil {
		t.Fatal(err)
	}
	has(0, 1)
}

// TestAScanThatCannotBeReadIsNotTakenForNone: while the store fails the index is
// behind, and it has what was written when it recovers.
func TestAScanThatCannotBeReadIsNotTakenForNone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.createNotes()
	source := &torn{Service: f.Service}
	x := startIndex(t, source, nil)
	if err := x.SetScope(t.Context(), []string{"p"}); err != nil {
		t.Fatal(err)
	}
	failing := make(chan struct{})
	source.failing = failing
	source.set(true)
	f.create(discovered(digest(1), "scan", pending))
	<-failing
	if x.Lag() == 0 {
		t.Error("it has applied what it cannot have read")
	}
	source.set(false)
	if scans := collect(t, x, digest(1)).Scans; len(scans) != 1 || scans[0].Status != "PENDING" {
		t.Errorf("got %+v", scans)
	}
}

// TestMoreFindingsThanAreKept: the worst are told, and that there are more.
func TestMoreFindingsThanAreKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const extra = 10
	var batch []*grafeas.Occurrence
	for i := range metadata.MaxFindings + extra {
		if _, err := f.CreateNote(t.Context(), caller, "projects/p", fmt.Sprintf("CVE-%d", i), &grafeas.Note{Type: &grafeas.Note_Vulnerability{Vulnerability: &grafeas.VulnerabilityNote{
			Details: []*grafeas.VulnerabilityNote_Detail{{AffectedCpeUri: "cpe:/o:debian:debian_linux:12", AffectedPackage: "x"}},
		}}}); err != nil {
			t.Fatal(err)
		}
		severity := grafeas.Severity_LOW
		if i >= metadata.MaxFindings {
			severity = grafeas.Severity_CRITICAL
		}
		batch = append(batch, vulnerability(digest(1), i, severity, false))
	}
	for _, part := range [][]*grafeas.Occurrence{batch[:metadata.MaxFindings/2], batch[metadata.MaxFindings/2:]} {
		if _, err := f.BatchCreateOccurrences(t.Context(), caller, "projects/p", part); err != nil {
			t.Fatal(err)
		}
	}
	for name, img := range map[string]evidence.Image{
		"feed": collect(t, f.startAll(nil, "p"), digest(1)),
		"list": index.FromOccurrences(t.Context(), stored(t, f.Service), nil, refs(t, "reg.test/app@"+digest(1).String())).Images[digest(1)],
	} {
		if len(img.Scans) != 1 {
			t.Fatalf("%s: got %d scans", name, len(img.Scans))
		}
		s := img.Scans[0]
		if !s.Truncated || len(s.Findings) != metadata.MaxFindings || s.Findings[extra-1].Severity != 5 || s.Findings[extra].Severity != 2 {
			t.Errorf("%s: truncated %t, %d findings", name, s.Truncated, len(s.Findings))
		}
	}
}

// TestScansThatArriveWhileTheirProjectComesToMatter: whoever comes to one first, the
// latest word counts.
func TestScansThatArriveWhileTheirProjectComesToMatter(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.createNotes()
	x := f.startAll(nil)
	var scope []string
	for round := range 20 {
		project := fmt.Sprintf("p%d", round)
		scope = append(scope, project)
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range 20 {
				o, err := f.CreateOccurrence(t.Context(), caller, "projects/"+project, discovered(digest(i), "scan", pending))
				if err != nil {
					t.Error(err)
					return
				}
				if i%2 == 0 {
					f.update(o, discovered(digest(i), "scan", succeeded))
				} else if err := f.DeleteOccurrence(t.Context(), caller, o.GetName()); err != nil {
					t.Error(err)
				}
			}
		})
		if err := x.SetScope(t.Context(), scope); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		for i := range 20 {
			var got []evidence.Scan
			for _, s := range collect(t, x, digest(i)).Scans {
				if s.Project == project {
					got = append(got, s)
				}
			}
			want := []evidence.Scan{{Project: project, Finished: true}}
			if i%2 == 1 {
				want = nil
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("round %d, image %d (-want +got):\n%s", round, i, d)
			}
		}
	}
}

// TestScansInAListWrittenByHand: names that no service gave tell the project all the
// same, and scans without a time stand in the order of the list.
func TestScansInAListWrittenByHand(t *testing.T) {
	t.Parallel()
	first, second := discovered(digest(1), "scan", pending), discovered(digest(1), "scan", succeeded)
	first.Name, second.Name = "projects/p/occurrences/o2", "projects/p/occurrences/o1"
	nameless := vulnerability(digest(1), 1, grafeas.Severity_HIGH, false)
	ref := refs(t, "reg.test/app@"+digest(1).String())
	got := index.FromOccurrences(t.Context(), []*grafeas.Occurrence{first, second, nameless}, nil, ref).Images[digest(1)].Scans
	if d := cmp.Diff([]evidence.Scan{{Project: "p", Finished: true}}, got); d != "" {
		t.Errorf("scans (-want +got):\n%s", d)
	}
	got = index.FromOccurrences(t.Context(), []*grafeas.Occurrence{second, first}, nil, ref).Images[digest(1)].Scans
	if len(got) != 1 || got[0].Finished {
		t.Errorf("in the other order: %+v", got)
	}
}
