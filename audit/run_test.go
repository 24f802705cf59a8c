package audit_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/audit"
)

func runs(t *testing.T, dir string, f audit.RunFilter) []audit.Run {
	t.Helper()
	var all []audit.Run
	if err := audit.QueryRuns(dir, f, func(r audit.Run) error { all = append(all, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestEveryRunIsALine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := open(t, dir)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	want := []audit.Run{
		{ID: "1", Time: at, Method: "check", API: "v1", Caller: "ci", Origin: "192.0.2.1", Image: "r/a@sha256:1", Name: "all", Success: true, Took: 1.5, Results: []audit.RunResult{
			{Check: "diy", Verdict: "PASS", Attested: true, Attestations: []audit.RunAttestation{{Resource: "https://r/a@sha256:1", Note: "projects/p/notes/diy", KeyID: "k", Signature: "c2ln"}}},
		}},
		{ID: "2", Time: at.Add(time.Hour), Method: "verify", API: "voucher", Caller: "Ann", Image: "r/b@sha256:2", Error: "no"},
	}
	for _, r := range want {
		if err := log.AppendRun(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, runs(t, dir, audit.RunFilter{})); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
	for about, f := range map[string]audit.RunFilter{
		"caller": {Caller: "ann"}, "method": {Method: "VERIFY"}, "image": {Image: "r/b"}, "since": {Since: at.Add(time.Minute)},
	} {
		if got := runs(t, dir, f); len(got) != 1 || got[0].ID != "2" {
			t.Errorf("%s: %+v", about, got)
		}
	}
	if got := runs(t, dir, audit.RunFilter{Until: at.Add(time.Minute)}); len(got) != 1 || got[0].ID != "1" {
		t.Errorf("until: %+v", got)
	}
}

func TestALargeRunIsShortenedAndHidesNoOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := open(t, dir)
	large := audit.Run{ID: "1", Image: strings.Repeat("x", 1<<20)}
	for range 100 {
		large.Results = append(large.Results, audit.RunResult{Check: "c", Reason: strings.Repeat("y", 1<<16), Attestations: []audit.RunAttestation{{Signature: "z"}}})
	}
	for _, r := range []audit.Run{large, {ID: "2"}} {
		if err := log.AppendRun(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	got := runs(t, dir, audit.RunFilter{})
	if len(got) != 2 || !got[0].Truncated || len(got[0].Results) != 20 || got[0].Results[0].Attestations != nil || got[1].ID != "2" {
		t.Errorf("%d runs; %+v", len(got), got)
	}
}
