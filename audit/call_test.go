package audit_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

func methods(t *testing.T, dir string, f audit.CallFilter) []string {
	t.Helper()
	var got []string
	if err := audit.QueryCalls(dir, f, func(c audit.Call) error { got = append(got, c.Method); return nil }); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestEveryCallIsALine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := open(t, dir)
	calls := audit.NewCalls(log, audit.CallOptions{Logger: slog.New(slog.DiscardHandler)})
	at := time.Date(2026, 11, 26, 1, 2, 3, 0, time.UTC)
	ctx := metadata.WithOrigin(t.Context(), "192.0.2.1:5")
	calls.Record(ctx, metadata.CallRecord{
		Time: at, Took: 1500 * time.Millisecond, Method: "BatchCreateNotes", Caller: metadata.Caller{Name: "ci@shop"},
		Resource: "projects/shop", Permissions: []metadata.Permission{metadata.NotesCreate}, Items: 3,
	})
	calls.Record(ctx, metadata.CallRecord{
		Time: at.Add(time.Hour), Method: "GET /v1/x", Err: metadata.Errorf(metadata.Unauthenticated, "who? %s", strings.Repeat("é", 10_000)),
	})
	calls.Record(t.Context(), metadata.CallRecord{Time: at, Method: "GetNote", Err: errors.New("disk")})
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	var got []audit.Call
	if err := audit.QueryCalls(dir, audit.CallFilter{}, func(c audit.Call) error { got = append(got, c); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0].ID == "" || got[0].ID == got[1].ID || len(got[1].Error) > 4<<10 || !strings.HasPrefix(got[1].Error, "who? é") {
		t.Fatalf("%+v", got)
	}
	for n := range got {
		got[n].ID, got[n].Error = "", ""
	}
	want := []audit.Call{
		{Time: at, Method: "BatchCreateNotes", Caller: "ci@shop", Origin: "192.0.2.1:5", Resource: "projects/shop",
			Permissions: []metadata.Permission{metadata.NotesCreate}, Items: 3, Code: "OK", Took: 1.5},
		{Time: at.Add(time.Hour), Method: "GET /v1/x", Origin: "192.0.2.1:5", Code: "UNAUTHENTICATED"},
		{Time: at, Method: "GetNote", Code: "INTERNAL"},
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Error(diff)
	}
	for name, tc := range map[string]struct {
		filter audit.CallFilter
		want   []string
	}{
		"by method":   {audit.CallFilter{Method: "getnote"}, []string{"GetNote"}},
		"by caller":   {audit.CallFilter{Caller: "ci@shop"}, []string{"BatchCreateNotes"}},
		"by code":     {audit.CallFilter{Code: "unauthenticated"}, []string{"GET /v1/x"}},
		"by resource": {audit.CallFilter{Resource: "shop"}, []string{"BatchCreateNotes"}},
		"since":       {audit.CallFilter{Since: at.Add(time.Hour)}, []string{"GET /v1/x"}},
		"until":       {audit.CallFilter{Until: at.Add(time.Hour)}, []string{"BatchCreateNotes", "GetNote"}},
	} {
		if diff := cmp.Diff(methods(t, dir, tc.filter), tc.want); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestACallThatCannotBeRecordedIsCounted(t *testing.T) {
	t.Parallel()
	var said strings.Builder
	logger := slog.New(slog.NewTextHandler(&said, nil))
	log, err := audit.Open(t.TempDir(), logger)
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	calls := audit.NewCalls(log, audit.CallOptions{Logger: logger})
	for range 3 {
		calls.Record(t.Context(), metadata.CallRecord{Method: "GetNote"})
	}
	if lost := log.Stats().Lost; lost != 3 || strings.Count(said.String(), "records are lost") != 1 {
		t.Errorf("%d lost, said %q", lost, said.String())
	}
}

func TestWhoIsToldToGoAwayDoesNotFillTheDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := open(t, dir)
	calls := audit.NewCalls(log, audit.CallOptions{Logger: slog.New(slog.DiscardHandler)})
	at := time.Date(2026, 11, 26, 1, 2, 3, 0, time.UTC)
	tooOften := metadata.CallRecord{Time: at, Method: "GetNote", Err: metadata.Errorf(metadata.ResourceExhausted, "too often")}
	for range 1000 {
		calls.Record(t.Context(), tooOften)
	}
	calls.Record(t.Context(), metadata.CallRecord{Time: at, Method: "ListNotes"})
	tooOften.Time = at.Add(time.Second)
	calls.Record(t.Context(), tooOften)
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	var omitted []int
	if err := audit.QueryCalls(dir, audit.CallFilter{}, func(c audit.Call) error { omitted = append(omitted, c.Omitted); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(omitted, []int{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 990, 0}); diff != "" {
		t.Error(diff)
	}
}
