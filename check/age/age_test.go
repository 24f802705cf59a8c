package age_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-dev/gatehouse/check/age"
	"github.com/gatehouse-dev/gatehouse/check/checktest"
)

const day = 24 * time.Hour

func now() time.Time { return time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC) }

func built(ago time.Duration) *grafeas.Occurrence {
	o := checktest.Build("https://github.com/my-org/app", checktest.Commit)
	o.GetBuild().GetProvenance().EndTime = timestamppb.New(now().Add(-ago))
	return o
}

func scanned(ago time.Duration, status grafeas.DiscoveryOccurrence_AnalysisStatus) *grafeas.Occurrence {
	return &grafeas.Occurrence{NoteName: "projects/p/notes/scan", Kind: grafeas.NoteKind_DISCOVERY, UpdateTime: timestamppb.New(now()),
		Details: &grafeas.Occurrence_Discovery{Discovery: &grafeas.DiscoveryOccurrence{AnalysisStatus: status, LastScanTime: timestamppb.New(now().Add(-ago))}}}
}

func TestAge(t *testing.T) {
	t.Parallel()
	const success = grafeas.DiscoveryOccurrence_FINISHED_SUCCESS
	both := age.Settings{MaxBuild: 30 * day, MaxScan: 7 * day}
	timeless := checktest.Build("x", "")
	for about, row := range map[string]struct {
		s    age.Settings
		list []*grafeas.Occurrence
		want []string // parts of the reason; none means that it passes
	}{
		"young":                  {both, []*grafeas.Occurrence{built(30 * day), scanned(7*day, success)}, nil},
		"an old build":           {both, []*grafeas.Occurrence{built(31 * day), scanned(day, success)}, []string{"image was built 31 days ago, at 2026-03-31T00:00:00Z, and may be 30 days old; build it again"}},
		"an old scan":            {both, []*grafeas.Occurrence{built(day), scanned(8*day, success)}, []string{"image was scanned 8 days ago, at 2026-04-23T00:00:00Z", "scan it again"}},
		"both old":               {both, []*grafeas.Occurrence{built(40 * day), scanned(8*day, success)}, []string{"image was built 40 days ago", "; image was scanned 8 days ago"}},
		"built again":            {both, []*grafeas.Occurrence{built(400 * day), built(day), scanned(day, success)}, nil},
		"the build alone":        {age.Settings{MaxBuild: 30 * day}, []*grafeas.Occurrence{built(day)}, nil},
		"the scan alone":         {age.Settings{MaxScan: day}, []*grafeas.Occurrence{scanned(0, success)}, nil},
		"no build":               {both, []*grafeas.Occurrence{scanned(day, success)}, []string{"no build metadata associated with this image"}},
		"no time of the build":   {both, []*grafeas.Occurrence{timeless, scanned(day, success)}, []string{"does not tell when it was"}},
		"built in the future":    {both, []*grafeas.Occurrence{built(-time.Hour), scanned(day, success)}, []string{"tells of the future"}},
		"a clock that is ahead":  {both, []*grafeas.Occurrence{built(-time.Minute), scanned(day, success)}, nil},
		"no scan":                {both, []*grafeas.Occurrence{built(day)}, []string{"no scan of the image is known"}},
		"a scan that runs":       {both, []*grafeas.Occurrence{built(day), scanned(day, grafeas.DiscoveryOccurrence_SCANNING)}, []string{"discoveries have not finished processing"}},
		"a scan that has failed": {both, []*grafeas.Occurrence{built(day), scanned(day, grafeas.DiscoveryOccurrence_FINISHED_FAILED)}, []string{"discoveries have failed"}},
		"scanned in the future":  {both, []*grafeas.Occurrence{built(day), scanned(-time.Hour, success)}, []string{"tell of the future"}},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			row.s.Now = now
			c, err := age.New(row.s)
			if err != nil {
				t.Fatal(err)
			}
			m := &checktest.Metadata{List: row.list, Notes: map[string]*grafeas.Note{"projects/p/notes/scan": {Type: &grafeas.Note_Discovery{Discovery: &grafeas.DiscoveryNote{AnalysisKind: grafeas.NoteKind_VULNERABILITY}}}}}
			got, err := checktest.Run(t, c, m, nil)
			if err != nil || got.Passed() != (row.want == nil) {
				t.Fatalf("got %+v, %v; want %q", got, err, row.want)
			}
			for _, want := range row.want {
				if !strings.Contains(got.Reason(), want) {
					t.Errorf("reason = %q, want %q in it", got.Reason(), want)
				}
			}
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	for kind, s := range map[grafeas.NoteKind]age.Settings{grafeas.NoteKind_BUILD: {MaxBuild: day}, grafeas.NoteKind_DISCOVERY: {MaxScan: day}} {
		c, err := age.New(s)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := checktest.Run(t, c, &checktest.Metadata{Err: map[grafeas.NoteKind]error{kind: down}}, nil); !errors.Is(err, down) || got.Passed() {
			t.Errorf("%v: got %+v, %v", kind, got, err)
		}
	}
	for _, s := range []age.Settings{{}, {MaxBuild: -day}, {MaxBuild: day, MaxScan: -day}} {
		if _, err := age.New(s); err == nil {
			t.Errorf("New(%+v): no error", s)
		}
	}
}
