package check_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/attest/attesttest"
	"github.com/gatehouse-dev/gatehouse/check"
)

func occurrence(note, uri string, kind grafeas.NoteKind) *grafeas.Occurrence {
	return &grafeas.Occurrence{NoteName: note, ResourceUri: uri, Kind: kind}
}

func notes(occurrences []*grafeas.Occurrence) string {
	var names []string
	for _, o := range occurrences {
		names = append(names, o.GetNoteName())
	}
	return strings.Join(names, " ")
}

func TestOccurrences(t *testing.T) {
	t.Parallel()
	const name = "gcr.io/team/app"
	ref := mustParse(t, name+":v1@"+digest)
	const mine = "https://" + name + "@" + digest
	other := strings.Replace(mine, "0123", "ffff", 1)
	fill := func(s *attesttest.Store) *attesttest.Store {
		s.Add("p",
			occurrence("1", mine, grafeas.NoteKind_BUILD),
			occurrence("other-image", other, grafeas.NoteKind_BUILD),
			occurrence("other-repo", strings.Replace(mine, "app", "evil", 1), grafeas.NoteKind_BUILD),
			occurrence("2", mine, grafeas.NoteKind_BUILD),
			occurrence("other-kind", mine, grafeas.NoteKind_DISCOVERY),
			occurrence("no-kind", mine, grafeas.NoteKind_NOTE_KIND_UNSPECIFIED),
			occurrence("nonsense", "%%%", grafeas.NoteKind_BUILD),
			occurrence("3", mine, grafeas.NoteKind_BUILD),
		)
		s.Add("q", occurrence("in-q", mine, grafeas.NoteKind_BUILD))
		s.Add("team", occurrence("in-team", mine, grafeas.NoteKind_BUILD))
		return s
	}
	list := func(t *testing.T, l check.Lister, byImage bool, projects ...string) string {
		t.Helper()
		g, err := check.NewGrafeas(l, projects...)
		if err != nil {
			t.Fatal(err)
		}
		if byImage {
			g = g.WithImageProject()
		}
		got, err := g.Occurrences(t.Context(), ref, grafeas.NoteKind_BUILD)
		if err != nil {
			t.Fatal(err)
		}
		return notes(got)
	}
	t.Run("are read to the last page, and a tag in the reference is nothing (B14)", func(t *testing.T) {
		if got := list(t, fill(&attesttest.Store{}), false, "p"); got != "1 2 3" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("B1: those of another image never count, even when the server ignores the filter", func(t *testing.T) {
		if got := list(t, fill(&attesttest.Store{IgnoreFilter: true}), false, "p"); got != "1 2 3" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("with a tag in what is stored count", func(t *testing.T) {
		s := &attesttest.Store{IgnoreFilter: true}
		s.Add("p", occurrence("tagged", "https://"+name+":v2@"+digest, grafeas.NoteKind_BUILD))
		if got := list(t, s, false, "p"); got != "tagged" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("are read from every project named, and no other", func(t *testing.T) {
		if got := list(t, fill(&attesttest.Store{}), false, "q", "p"); got != "in-q 1 2 3" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("are read from the image's project when asked to", func(t *testing.T) {
		if got := list(t, fill(&attesttest.Store{}), true, "q"); got != "in-team in-q" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("in a project that does not exist are none", func(t *testing.T) {
		s := &attesttest.Store{Fail: func(context.Context, string) error { return status.Error(codes.NotFound, "no such project") }}
		if got := list(t, s, false, "p"); got != "" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("that cannot be read are an error that says whose", func(t *testing.T) {
		s := &attesttest.Store{Fail: func(context.Context, string) error { return status.Error(codes.Unavailable, "down") }}
		g, err := check.NewGrafeas(s, "p")
		if err != nil {
			t.Fatal(err)
		}
		_, err = g.Occurrences(t.Context(), ref, grafeas.NoteKind_BUILD)
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), `"p"`) {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("that fail on a later page are an error, not a part", func(t *testing.T) {
		calls := 0
		s := fill(&attesttest.Store{Fail: func(context.Context, string) error {
			if calls++; calls > 1 {
				return status.Error(codes.NotFound, "page gone")
			}
			return nil
		}})
		g, err := check.NewGrafeas(s, "p")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := g.Occurrences(t.Context(), ref, grafeas.NoteKind_BUILD); err == nil {
			t.Errorf("got %v", notes(got))
		}
	})
	t.Run("without end are an error", func(t *testing.T) {
		for about, l := range map[string]endless{"the same token": {same: true}, "ever new tokens": {}} {
			g, err := check.NewGrafeas(l, "p")
			if err != nil {
				t.Fatal(err)
			}
			if _, err = g.Occurrences(t.Context(), ref, grafeas.NoteKind_BUILD); err == nil || !strings.Contains(err.Error(), "does not end") {
				t.Errorf("%s: err = %v", about, err)
			}
		}
	})
}

type endless struct {
	check.Lister
	same bool
}

func (e endless) ListOccurrences(_ context.Context, req *grafeas.ListOccurrencesRequest, _ ...grpc.CallOption) (*grafeas.ListOccurrencesResponse, error) {
	next := "x"
	if !e.same {
		next = req.GetPageToken()[:min(1, len(req.GetPageToken()))] + "y"
		if next == req.GetPageToken() {
			next = "z"
		}
	}
	return &grafeas.ListOccurrencesResponse{NextPageToken: next}, nil
}

func TestNewGrafeasRefusesNoProject(t *testing.T) {
	t.Parallel()
	for _, projects := range [][]string{nil, {""}, {"projects/p"}, {`p"`}} {
		if _, err := check.NewGrafeas(&attesttest.Store{}, projects...); err == nil {
			t.Errorf("NewGrafeas(%q): no error", projects)
		}
	}
	if _, err := check.NewGrafeas(nil, "p"); err == nil {
		t.Error("NewGrafeas without a client: no error")
	}
}

func TestProjectOf(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"gcr.io/p/a":                     "p",
		"eu.gcr.io/p/a/b":                "p",
		"gcr.io/example.com/p/a":         "example.com:p",
		"europe-docker.pkg.dev/p/repo/a": "p",
		"registry.example/p/a":           "",
		"evilgcr.io/p/a":                 "",
		"gcr.io/a":                       "",
		"nginx":                          "",
	}
	got := map[string]string{}
	for ref := range want {
		got[ref] = check.ProjectOf(mustParse(t, ref))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("projects (-want +got):\n%s", diff)
	}
}
