package metadatatest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

func testFeed(t *testing.T, s metadata.Store) {
	note := createNote(attester)
	first, last := attestation(ids.next(), attester, 1), attestation(ids.next(), attester, 2)
	other := metadata.NoteName{Parent: project, ID: "gone"}
	gone := createNote(other)
	must(t, s.Apply(t.Context(), note))
	must(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: first}, gone))
	must(t, s.Apply(t.Context(), metadata.Mutation{DeleteOccurrence: nameOf(t, first)}))
	must(t, s.Apply(t.Context(), metadata.Mutation{CreateOccurrence: last}, metadata.Mutation{DeleteNote: other}))

	// What was deleted since is told whole all the same.
	want := []metadata.Change{
		{Seq: 1, Op: metadata.Created, Note: note.CreateNote},
		{Seq: 2, Op: metadata.Created, Occurrence: first},
		{Seq: 3, Op: metadata.Created, Note: gone.CreateNote},
		{Seq: 4, Op: metadata.Deleted, Occurrence: &grafeas.Occurrence{
			Name: first.GetName(), NoteName: first.GetNoteName(), ResourceUri: first.GetResourceUri(), Kind: first.GetKind()}},
		{Seq: 5, Op: metadata.Created, Occurrence: last},
		{Seq: 6, Op: metadata.Deleted, Note: &grafeas.Note{Name: other.String(), Kind: grafeas.NoteKind_ATTESTATION}},
	}
	for after := range len(want) + 1 {
		for _, limit := range []int{0, 1, 4, 100} {
			got, err := s.Changes(t.Context(), uint64(after), limit)
			must(t, err)
			end := min(after+limit, len(want))
			if len(got) != end-after {
				t.Fatalf("%d changes after %d with limit %d, want %d", len(got), after, limit, end-after)
			}
			for i := range got {
				diff(t, want[after+i], got[i])
			}
		}
	}
	if got := s.Head(); got != 6 {
		t.Errorf("head is %d, want 6", got)
	}
}

func testFeedBeyondHead(t *testing.T, s metadata.Store) {
	must(t, s.Apply(t.Context(), createNote(attester)))
	if _, err := s.Changes(t.Context(), 2, 10); !errors.Is(err, metadata.ErrCompacted) {
		t.Errorf("got error %v, want ErrCompacted", err)
	}
}

func testWait(t *testing.T, s metadata.Store) {
	must(t, s.Apply(t.Context(), createNote(attester)))
	must(t, s.Wait(t.Context(), 0))

	waiting := make(chan error)
	go func() { waiting <- s.Wait(t.Context(), 2) }()
	must(t, s.Apply(t.Context(), createNote(scanner)))
	select {
	case err := <-waiting:
		t.Fatalf("Wait returned %v at head %d, want it to wait for 3", err, s.Head())
	default:
	}
	must(t, s.Apply(t.Context(), metadata.Mutation{DeleteNote: scanner}))
	must(t, <-waiting)

	ctx, cancel := context.WithCancel(t.Context())
	go func() { waiting <- s.Wait(ctx, 3) }()
	cancel()
	wantKind(t, <-waiting, metadata.Canceled)
}

// testConcurrency lets writers create and delete while a follower rebuilds the
// data from the feed and a reader lists it.
func testConcurrency(t *testing.T, s metadata.Store) {
	const writers, each = 8, 40
	const changes = 2 + writers*each*3/2 // two notes; half of the occurrences are deleted
	must(t, s.Apply(t.Context(), createNote(attester), createNote(scanner)))
	var group, observers errgroup.Group
	for w := range writers {
		group.Go(func() error { return writeSome(t.Context(), s, w, each) })
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var followed map[string]bool
	observers.Go(func() (err error) {
		followed, err = follow(ctx, s, changes)
		return err
	})
	observers.Go(func() error { return listUntil(ctx, s, changes) })
	if err := group.Wait(); err != nil {
		stop() // the followers would wait for ever
		t.Fatal(err)
	}
	must(t, observers.Wait())

	stored := map[string]bool{}
	for _, o := range list(t, s, metadata.OccurrenceQuery{Parent: project, Kinds: metadata.AllKinds, Limit: 50}) {
		stored[o.GetName()] = true
	}
	diff(t, stored, followed)
	if len(stored) != writers*each/2 {
		t.Errorf("%d occurrences are left, want %d", len(stored), writers*each/2)
	}
	if got := s.Head(); got != changes {
		t.Errorf("head is %d, want %d", got, changes)
	}
}

// writeSome creates occurrences and deletes half of them; each must be there as
// soon as it is acknowledged.
func writeSome(ctx context.Context, s metadata.Store, writer, count int) error {
	rng := rand.New(rand.NewPCG(uint64(writer), 0))
	var names []metadata.OccurrenceName
	for i := range count {
		o := attestation(ids.next(), attester, writer*count+i)
		if rng.IntN(2) == 0 {
			o = vulnerability(ids.next(), i)
		}
		if err := s.Apply(ctx, metadata.Mutation{CreateOccurrence: o}); err != nil {
			return err
		}
		name, err := metadata.ParseOccurrenceName(o.GetName())
		if err != nil {
			return err
		}
		got, err := s.Occurrence(ctx, name)
		if err != nil {
			return err
		}
		if !proto.Equal(o, got) {
			return errors.New("read something else than was written")
		}
		// What is refused halfway shows nowhere, whoever else is writing.
		err = s.Apply(ctx,
			metadata.Mutation{CreateOccurrence: vulnerability(ids.next(), i)},
			metadata.Mutation{CreateOccurrence: attestation(ids.next(), metadata.NoteName{Parent: project, ID: "missing"}, i)})
		if metadata.KindOf(err) != metadata.NotFound {
			return fmt.Errorf("a batch with a missing note is not refused with NotFound: %w", err)
		}
		names = append(names, name)
	}
	for _, name := range names[:count/2] {
		if err := s.Apply(ctx, metadata.Mutation{DeleteOccurrence: name}); err != nil {
			return err
		}
	}
	return nil
}

// follow applies the feed up to the change of number last.
func follow(ctx context.Context, s metadata.Store, last uint64) (map[string]bool, error) {
	live := map[string]bool{}
	var seq uint64
	for seq < last {
		if err := s.Wait(ctx, seq); err != nil {
			return nil, err
		}
		changes, err := s.Changes(ctx, seq, 10)
		if err != nil {
			return nil, err
		}
		if len(changes) == 0 {
			return nil, errors.New("the head grew, and the feed has no change for it")
		}
		for _, c := range changes {
			if seq++; c.Seq != seq {
				return nil, errors.New("the feed has a gap or a repetition")
			}
			switch name := c.Occurrence.GetName(); {
			case c.Occurrence == nil:
			case c.Op == metadata.Deleted && !live[name]:
				return nil, errors.New("deleted before it was created: " + name)
			case c.Op == metadata.Deleted:
				delete(live, name)
			default:
				live[name] = true
			}
		}
	}
	return live, nil
}

// listUntil lists until the head is at last, or ctx is done.
func listUntil(ctx context.Context, s metadata.Store, last uint64) error {
	for s.Head() < last && ctx.Err() == nil {
		rows, _, err := s.Occurrences(ctx, metadata.OccurrenceQuery{Note: attester, Kinds: metadata.AllKinds, Limit: 20})
		if err != nil {
			return err
		}
		newestFirst := slices.IsSortedFunc(rows, func(a, b *grafeas.Occurrence) int {
			return strings.Compare(b.GetName(), a.GetName())
		})
		if !newestFirst {
			return errors.New("the list is out of order")
		}
	}
	return nil
}
