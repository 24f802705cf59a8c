package grafeasapi_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
)

// only lets one caller in.
type only string

func (o only) Authorize(_ context.Context, c metadata.Caller, p metadata.Permission, _ string) error {
	if c.Name != string(o) {
		return metadata.Errorf(metadata.PermissionDenied, "%q may not %s", c.Name, p)
	}
	return nil
}

func within(t *testing.T, store metadata.Store, caller string, recorder metadata.Recorder, opts grafeasapi.Options) *grafeasapi.InProcess {
	t.Helper()
	svc, err := metadata.NewService(t.Context(), store, metadata.Options{Authorizer: only("attestor"), Recorder: recorder})
	if err != nil {
		t.Fatal(err)
	}
	c := grafeasapi.NewInProcess(svc, metadata.Caller{Name: caller}, opts)
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	return c
}

func anAttestation(note string) *grafeas.Occurrence {
	return &grafeas.Occurrence{ResourceUri: "https://registry.example/app@" + digest, NoteName: note,
		Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{SerializedPayload: []byte("x")}}}
}

func attestationNote() *grafeas.Note {
	return &grafeas.Note{Type: &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{}}}
}

func TestInProcess(t *testing.T) {
	t.Parallel()
	var recorded calls
	c := within(t, memory.New(), "attestor", &recorded, grafeasapi.Options{MaxRequestBytes: 10_000})
	ctx := t.Context()
	const name = "projects/p/notes/n"
	note, err := c.CreateNote(ctx, &grafeas.CreateNoteRequest{Parent: "projects/p", NoteId: "n", Note: attestationNote()})
	if err != nil || note.GetName() != name {
		t.Fatalf("CreateNote: %v, %v", note, err)
	}
	sent := anAttestation(name)
	stored, err := c.CreateOccurrence(ctx, &grafeas.CreateOccurrenceRequest{Parent: "projects/p", Occurrence: sent})
	if err != nil {
		t.Fatal(err)
	}
	want := proto.CloneOf(stored)
	// What either end does to a message later is its own affair.
	sent.GetAttestation().SerializedPayload[0] = 'y'
	stored.GetAttestation().SerializedPayload[0] = 'z'
	got, err := c.GetOccurrence(ctx, &grafeas.GetOccurrenceRequest{Name: want.GetName()})
	if err != nil || !proto.Equal(got, want) {
		t.Errorf("GetOccurrence: %v, %v, want %v", got, err, want)
	}
	byNote, err := c.ListNoteOccurrences(ctx, &grafeas.ListNoteOccurrencesRequest{Name: name, Filter: `kind="ATTESTATION"`})
	if err != nil || len(byNote.GetOccurrences()) != 1 || !proto.Equal(byNote.GetOccurrences()[0], want) {
		t.Errorf("ListNoteOccurrences: %v, %v", byNote, err)
	}
	all, err := c.ListOccurrences(ctx, &grafeas.ListOccurrencesRequest{Parent: "projects/p"})
	if err != nil || len(all.GetOccurrences()) != 1 || !proto.Equal(all.GetOccurrences()[0], want) {
		t.Errorf("ListOccurrences: %v, %v", all, err)
	}
	if n, err := c.GetNote(ctx, &grafeas.GetNoteRequest{Name: name}); err != nil || n.GetName() != name {
		t.Errorf("GetNote: %v, %v", n, err)
	}
	if _, err := c.DeleteOccurrence(ctx, &grafeas.DeleteOccurrenceRequest{Name: want.GetName()}); err != nil {
		t.Errorf("DeleteOccurrence: %v", err)
	}
	records := recorded.take()
	if len(records) != 7 {
		t.Errorf("%d records of 7 calls: %+v", len(records), records)
	}
	for _, r := range records {
		if r.Caller.Name != "attestor" || r.Err != nil {
			t.Errorf("recorded %+v", r)
		}
	}
	for about, row := range map[string]struct {
		name string
		want codes.Code
		kind metadata.Kind
	}{
		"a note that is not there":  {"projects/p/notes/missing", codes.NotFound, metadata.NotFound},
		"a name that is none":       {"x", codes.InvalidArgument, metadata.InvalidArgument},
		"a request that is too big": {strings.Repeat("x", 20_000), codes.ResourceExhausted, metadata.ResourceExhausted},
	} {
		_, err := c.GetNote(ctx, &grafeas.GetNoteRequest{Name: row.name})
		check(t, err, row.want)
		if got := recorded.take(); len(got) != 1 || got[0].Method != "GetNote" || got[0].Caller.Name != "attestor" || metadata.KindOf(got[0].Err) != row.kind {
			t.Errorf("%s: recorded %+v", about, got)
		}
	}
	_, err = c.GetNote(ctx, &grafeas.GetNoteRequest{Name: "\xff"}) // no wire could carry it
	check(t, err, codes.Internal)
}

func TestInProcessHoldsToTheRules(t *testing.T) {
	t.Parallel()
	c := within(t, memory.New(), "somebody", nil, grafeasapi.Options{})
	_, err := c.CreateNote(t.Context(), &grafeas.CreateNoteRequest{Parent: "projects/p", NoteId: "n", Note: attestationNote()})
	check(t, err, codes.PermissionDenied)
}

// stuck is a store that reads no note until it is let go, whatever its context says.
type stuck struct {
	metadata.Store
	asked, letGo chan struct{}
	ended        chan error // of the context, when it reads
}

func (s *stuck) Note(ctx context.Context, _ metadata.NoteName) (*grafeas.Note, error) {
	s.asked <- struct{}{}
	<-s.letGo
	s.ended <- ctx.Err()
	panic("a fault")
}

func newStuck() *stuck {
	return &stuck{Store: memory.New(), asked: make(chan struct{}, 10), letGo: make(chan struct{}), ended: make(chan error, 10)}
}

func TestInProcessEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	s := newStuck()
	c := within(t, s, "attestor", nil, grafeasapi.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-s.asked
		cancel()
	}()
	_, err := c.GetNote(ctx, &grafeas.GetNoteRequest{Name: "projects/p/notes/n"})
	check(t, err, codes.Canceled)
	late, end := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer end()
	close(s.letGo)
	_, err = c.GetNote(late, &grafeas.GetNoteRequest{Name: "projects/p/notes/n"})
	check(t, err, codes.DeadlineExceeded)
}

func TestInProcessAnswersAPanic(t *testing.T) {
	t.Parallel()
	s := newStuck()
	close(s.letGo)
	c := within(t, s, "attestor", nil, grafeasapi.Options{})
	_, err := c.GetNote(t.Context(), &grafeas.GetNoteRequest{Name: "projects/p/notes/n"})
	check(t, err, codes.Internal)
	if strings.Contains(err.Error(), "a fault") {
		t.Errorf("it tells what is inside: %v", err)
	}
}

func TestInProcessIsBoundedInTime(t *testing.T) {
	t.Parallel()
	s := newStuck()
	close(s.letGo)
	c := within(t, s, "attestor", nil, grafeasapi.Options{Timeout: time.Nanosecond})
	_, _ = c.GetNote(t.Context(), &grafeas.GetNoteRequest{Name: "projects/p/notes/n"})
	if err := <-s.ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the call was not bounded: %v", err)
	}
}

// told is a store that reads a note until its context is over, and then until it is let go.
type told struct {
	metadata.Store
	asked, over, letGo chan struct{}
}

func (s *told) Note(ctx context.Context, _ metadata.NoteName) (*grafeas.Note, error) {
	close(s.asked)
	<-ctx.Done()
	close(s.over)
	<-s.letGo
	return nil, ctx.Err()
}

// The store is closed after the client, and must not be in use then.
func TestInProcessCloses(t *testing.T) {
	t.Parallel()
	s := &told{Store: memory.New(), asked: make(chan struct{}), over: make(chan struct{}), letGo: make(chan struct{})}
	c := within(t, s, "attestor", nil, grafeasapi.Options{})
	answered, closed := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := c.GetNote(t.Context(), &grafeas.GetNoteRequest{Name: "projects/p/notes/n"})
		answered <- err
	}()
	<-s.asked
	go func() { closed <- c.Close() }()
	<-s.over // Close has ended the call
	_, err := c.GetNote(t.Context(), &grafeas.GetNoteRequest{Name: "projects/p/notes/n"})
	check(t, err, codes.Canceled)
	select {
	case err := <-closed:
		t.Errorf("it is closed while a call runs: %v", err)
	default:
	}
	close(s.letGo)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := <-answered; err == nil {
		t.Error("the call that was ended has an answer")
	}
}
