package scans_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/checktest"
	"github.com/gatehouse-dev/gatehouse/check/scans"
)

func note(kind grafeas.NoteKind) *grafeas.Note {
	return &grafeas.Note{Type: &grafeas.Note_Discovery{Discovery: &grafeas.DiscoveryNote{AnalysisKind: kind}}}
}

func discovery(note string, d *grafeas.DiscoveryOccurrence) *grafeas.Occurrence {
	return &grafeas.Occurrence{NoteName: note, Kind: grafeas.NoteKind_DISCOVERY, CreateTime: timestamppb.New(time.Unix(1, 0)), Details: &grafeas.Occurrence_Discovery{Discovery: d}}
}

func read(t *testing.T, r scans.Reader, m *checktest.Metadata) (scans.State, error) {
	t.Helper()
	return r.Read(t.Context(), &check.Input{Image: checktest.Ref(t, checktest.Image), Metadata: m})
}

func TestReadByTheKindOfTheNote(t *testing.T) {
	t.Parallel()
	m := &checktest.Metadata{
		List: []*grafeas.Occurrence{
			discovery("vulnerability", &grafeas.DiscoveryOccurrence{AnalysisStatus: grafeas.DiscoveryOccurrence_FINISHED_FAILED, LastScanTime: timestamppb.New(time.Unix(9, 0)), AnalysisStatusError: &rpcstatus.Status{Message: strings.Repeat("x", 1000)}}),
			discovery("sample", &grafeas.DiscoveryOccurrence{}), discovery("sbom", &grafeas.DiscoveryOccurrence{}), discovery("secret", &grafeas.DiscoveryOccurrence{}),
			discovery("unspecified", &grafeas.DiscoveryOccurrence{}), discovery("gone", &grafeas.DiscoveryOccurrence{}),
			discovery("projects/goog-analysis/notes/PACKAGE_VULNERABILITY", &grafeas.DiscoveryOccurrence{}), discovery("projects/goog-analysis/notes/SECRET", &grafeas.DiscoveryOccurrence{}),
		},
		Notes: map[string]*grafeas.Note{
			"vulnerability": note(grafeas.NoteKind_VULNERABILITY), "sample": note(grafeas.NoteKind_DISCOVERY), "sbom": note(grafeas.NoteKind_SBOM_REFERENCE),
			"secret": note(grafeas.NoteKind_SECRET), "unspecified": note(0),
		},
	}
	got, err := read(t, scans.Reader{}, m)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1, 0).UTC()
	want := scans.State{
		Scans: []scans.Scan{
			{Note: "projects/goog-analysis/notes/PACKAGE_VULNERABILITY", At: at},
			{Note: "sample", At: at},
			{Note: "vulnerability", Status: grafeas.DiscoveryOccurrence_FINISHED_FAILED, At: time.Unix(9, 0).UTC(), Error: strings.Repeat("x", 200) + "…"},
		},
		Unknown: []string{"gone", "projects/goog-analysis/notes/SECRET"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	if got, err := read(t, scans.Reader{Notes: []string{"gone"}}, m); err != nil || len(got.Scans) != 1 || got.Scans[0].Note != "gone" || len(got.Unknown) != 0 {
		t.Errorf("by name: %+v, %v", got, err)
	}
}

func TestReadErrors(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	if _, err := read(t, scans.Reader{}, &checktest.Metadata{Err: map[grafeas.NoteKind]error{grafeas.NoteKind_DISCOVERY: down}}); !errors.Is(err, down) || !strings.HasPrefix(err.Error(), "failed to get discoveries: ") {
		t.Errorf("err = %v", err)
	}
	m := &checktest.Metadata{}
	for i := range 101 {
		m.List = append(m.List, discovery(fmt.Sprint(i), &grafeas.DiscoveryOccurrence{}))
	}
	if _, err := read(t, scans.Reader{}, m); err == nil || !strings.Contains(err.Error(), "of 101 scanners, more than 100") {
		t.Errorf("err = %v", err)
	}
}
