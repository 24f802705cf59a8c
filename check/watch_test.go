package check_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/attest/attesttest"
	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
)

// service is a metadata service with notes, and no occurrences yet.
func service(t *testing.T) *metadata.Service {
	t.Helper()
	store := memory.New()
	t.Cleanup(func() { _ = store.Close() })
	s, err := metadata.NewService(t.Context(), store, metadata.Options{Authorizer: metadata.InsecureAllowAll()})
	if err != nil {
		t.Fatal(err)
	}
	note := &grafeas.Note{Type: &grafeas.Note_Discovery{Discovery: &grafeas.DiscoveryNote{AnalysisKind: grafeas.NoteKind_VULNERABILITY}}}
	if _, err := s.CreateNote(t.Context(), metadata.Caller{Name: "test"}, "projects/p", "scan", note); err != nil {
		t.Fatal(err)
	}
	return s
}

func discover(t *testing.T, s *metadata.Service, digest string) {
	t.Helper()
	o := &grafeas.Occurrence{NoteName: "projects/p/notes/scan", ResourceUri: "https://registry.example/app@" + digest,
		Details: &grafeas.Occurrence_Discovery{Discovery: &grafeas.DiscoveryOccurrence{AnalysisStatus: grafeas.DiscoveryOccurrence_SCANNING}}}
	if _, err := s.CreateOccurrence(t.Context(), metadata.Caller{Name: "test"}, "projects/p", o); err != nil {
		t.Fatal(err)
	}
}

func watching(t *testing.T, feed check.Feed) check.Watch {
	t.Helper()
	g, err := check.NewGrafeas(&attesttest.Store{}, "p")
	if err != nil {
		t.Fatal(err)
	}
	return g.WithFeed(feed).Watch(mustParse(t, "registry.example/app:v1@"+digest))
}

func TestB12_AWatchFollowsTheFeed(t *testing.T) {
	t.Parallel()
	t.Run("and tells of what happened since it began, before it is asked", func(t *testing.T) {
		t.Parallel()
		s := service(t)
		watch := watching(t, s)
		discover(t, s, digest)
		if err := watch(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("and waits for what is about the image", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := service(t)
			watch := watching(t, s)
			came := make(chan error, 1)
			go func() { came <- watch(t.Context()) }()
			for i := range 3 {
				discover(t, s, fmt.Sprintf("sha256:%064x", i))
			}
			synctest.Wait()
			select {
			case err := <-came:
				t.Errorf("it returned %v for another image", err)
			default:
			}
			discover(t, s, digest)
			if err := <-came; err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("and for the note of a discovery", func(t *testing.T) {
		t.Parallel()
		s := service(t)
		watch := watching(t, s)
		if _, err := s.UpdateNote(t.Context(), metadata.Caller{Name: "test"}, "projects/p/notes/scan", func(n *grafeas.Note) (*grafeas.Note, error) {
			n.ShortDescription = "a scanner"
			return n, nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := watch(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("and ends with the request", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := service(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := watching(t, s)(ctx); err == nil || ctx.Err() == nil {
				t.Errorf("err = %v", err)
			}
		})
	})
}

// compacted is a feed that has dropped what was asked for, once.
type compacted struct {
	check.Feed
	dropped bool
}

func (c *compacted) Changes(ctx context.Context, after uint64, limit int) ([]metadata.Change, error) {
	if !c.dropped {
		c.dropped = true
		return nil, metadata.ErrCompacted
	}
	return c.Feed.Changes(ctx, after, limit)
}

func TestAWatchLooksAgainWhenTheFeedHasDroppedSomething(t *testing.T) {
	t.Parallel()
	s := service(t)
	watch := watching(t, &compacted{Feed: s})
	if err := watch(t.Context()); err != nil {
		t.Error(err)
	}
	discover(t, s, digest)
	if err := watch(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAWatchWithoutFeedLooksAtIntervals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, err := check.NewGrafeas(&attesttest.Store{}, "p")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := g.WithInterval(7 * time.Second).Watch(mustParse(t, "registry.example/app@"+digest))(t.Context()); err != nil || time.Since(start) != 7*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.Watch(mustParse(t, "registry.example/app@"+digest))(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
	})
}

func TestNote(t *testing.T) {
	t.Parallel()
	s := &attesttest.Store{}
	if _, err := s.CreateNote(t.Context(), &grafeas.CreateNoteRequest{Parent: "projects/p", NoteId: "n", Note: &grafeas.Note{ShortDescription: "x"}}); err != nil {
		t.Fatal(err)
	}
	g, err := check.NewGrafeas(s, "p")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := g.Note(t.Context(), "projects/p/notes/n"); err != nil || n.GetShortDescription() != "x" {
		t.Errorf("got %v, %v", n, err)
	}
	for code, wantErr := range map[codes.Code]bool{codes.NotFound: false, codes.PermissionDenied: false, codes.Unavailable: true, codes.DeadlineExceeded: true} {
		s := &attesttest.Store{Fail: func(context.Context, string) error { return status.Error(code, "no") }}
		g, err := check.NewGrafeas(s, "p")
		if err != nil {
			t.Fatal(err)
		}
		n, err := g.Note(t.Context(), "projects/p/notes/n")
		if n != nil || (err != nil) != wantErr || wantErr && status.Code(err) != code {
			t.Errorf("%v: got %v, %v", code, n, err)
		}
	}
}
