package index_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	note  = "projects/p/notes/vetted"
	other = "projects/p/notes/other"
)

var caller = metadata.Caller{Name: "test"}

type fixture struct {
	*metadata.Service
	t      *testing.T
	signer signature.Signer
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	store := memory.New()
	t.Cleanup(func() { _ = store.Close() })
	svc, err := metadata.NewService(t.Context(), store, metadata.Options{Authorizer: metadata.InsecureAllowAll()})
	if err != nil {
		t.Fatal(err)
	}
	f := fixture{Service: svc, t: t, signer: newSigner(t)}
	for _, id := range []string{"vetted", "other"} {
		_, err := svc.CreateNote(t.Context(), caller, "projects/p", id, &grafeas.Note{Type: &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{Hint: &grafeas.AttestationNote_Hint{HumanReadableName: id}}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func newSigner(t testing.TB) signature.Signer {
	t.Helper()
	pem, err := signature.GeneratePKIX("ECDSA_P256_SHA256", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.ParsePKIXSigner(pem, "ECDSA_P256_SHA256", "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// trust returns a Trust of note in the fixture's key.
func (f fixture) trust() index.Trust { return index.Trust{note: {f.signer.PublicKey()}} }

func (f fixture) start(trust index.Trust) *index.Index {
	f.t.Helper()
	return startIndex(f.t, f.Service, trust)
}

func startIndex(t *testing.T, source index.Source, trust index.Trust) *index.Index {
	t.Helper()
	x := index.New(source, slog.New(slog.NewTextHandler(io.Discard, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if err := x.SetTrust(t.Context(), trust); err != nil {
		t.Fatal(err)
	}
	return x
}

func digest(i int) image.Digest { return image.DigestOf([]byte(fmt.Sprint(i))) }

func uri(d image.Digest) string { return "https://reg.test/app@" + d.String() }

// occurrence signs the payload for signed and files it under filed.
func occurrence(t testing.TB, s signature.Signer, note string, filed, signed image.Digest) *grafeas.Occurrence {
	t.Helper()
	return occurrenceOf(t, s, note, filed, signature.NewPayload("reg.test/app", signed, signature.TypeBinauthz))
}

func occurrenceOf(t testing.TB, s signature.Signer, note string, filed image.Digest, payload []byte) *grafeas.Occurrence {
	t.Helper()
	sig, err := s.Sign(t.Context(), payload)
	if err != nil {
		t.Fatal(err)
	}
	return &grafeas.Occurrence{
		ResourceUri: uri(filed), NoteName: note,
		Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
			SerializedPayload: payload,
			Signatures:        []*grafeas.Signature{{Signature: sig, PublicKeyId: s.KeyID()}},
		}},
	}
}

func (f fixture) create(o *grafeas.Occurrence) *grafeas.Occurrence {
	f.t.Helper()
	o, err := f.CreateOccurrence(f.t.Context(), caller, "projects/p", o)
	if err != nil {
		f.t.Fatal(err)
	}
	return o
}

func (f fixture) attest(d image.Digest) *grafeas.Occurrence {
	f.t.Helper()
	return f.create(occurrence(f.t, f.signer, note, d, d))
}

func refs(t *testing.T, texts ...string) []image.Reference {
	t.Helper()
	var list []image.Reference
	for _, text := range texts {
		ref, err := image.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, ref)
	}
	return list
}

func collect(t *testing.T, x *index.Index, d image.Digest) evidence.Image {
	t.Helper()
	return x.Collect(t.Context(), refs(t, "reg.test/app@"+d.String())).Images[d]
}

func TestWhatIsCommittedIsSeen(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	before := f.attest(digest(1))
	x := f.start(f.trust())
	for i := 2; i < 50; i++ {
		f.attest(digest(i))
		// At once, with no time for the follower but what Collect gives it.
		if img := collect(t, x, digest(i)); len(img.Attestations) != 1 {
			t.Fatalf("attestation %d is not there: %+v", i, img)
		}
	}
	img := collect(t, x, digest(1))
	if len(img.Attestations) != 1 {
		t.Fatalf("got %+v", img)
	}
	a := img.Attestations[0]
	if a.Note != note || a.Occurrence != before.GetName() || a.KeyID != f.signer.KeyID() ||
		a.Fingerprint != f.signer.PublicKey().Fingerprint() || a.Repository != "reg.test/app" || a.Created.IsZero() {
		t.Errorf("got %+v", a)
	}
	if img := collect(t, x, digest(99)); img.State != evidence.Known || len(img.Attestations) != 0 {
		t.Errorf("of an image without attestations: %+v", img)
	}
}

func TestADeletedAttestationStopsCounting(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x := f.start(f.trust())
	first := f.attest(digest(1))
	second := f.create(occurrenceOf(t, f.signer, note, digest(1), signature.NewPayload("reg.test/app", digest(1), signature.TypeAtomic)))
	for _, o := range []*grafeas.Occurrence{first, second} {
		if err := f.DeleteOccurrence(t.Context(), caller, o.GetName()); err != nil {
			t.Fatal(err)
		}
	}
	if img := collect(t, x, digest(1)); len(img.Attestations) != 0 {
		t.Errorf("got %+v", img)
	}
	if x.Len() != 0 {
		t.Errorf("the index still holds %d digests", x.Len())
	}
}

func TestAnUpdatedAttestationCountsAsItIsNow(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x := f.start(f.trust())
	o := f.attest(digest(1))
	stranger := newSigner(t)
	for _, test := range []struct {
		signer signature.Signer
		want   int
	}{{stranger, 0}, {f.signer, 1}} {
		_, err := f.UpdateOccurrence(t.Context(), caller, o.GetName(), func(current *grafeas.Occurrence) (*grafeas.Occurrence, error) {
			next := proto.CloneOf(current)
			next.Details = occurrence(t, test.signer, note, digest(1), digest(1)).Details
			return next, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if img := collect(t, x, digest(1)); len(img.Attestations) != test.want || len(img.Rejected) != 1-test.want {
			t.Errorf("got %+v, want %d attestations", img, test.want)
		}
	}
}

func TestWhatDoesNotVerifyIsExplainedAndNeverCounts(t *testing.T) {
	t.Parallel()
	stranger := newSigner(t)
	for name, tc := range map[string]struct {
		occurrence func(f fixture) *grafeas.Occurrence
		reason     string
	}{
		"signed by a stranger": {func(f fixture) *grafeas.Occurrence { return occurrence(t, stranger, note, digest(1), digest(1)) }, "not one of the attestor's"},
		"signed by a stranger under a trusted key id": {func(f fixture) *grafeas.Occurrence {
			o := occurrence(t, stranger, note, digest(1), digest(1))
			o.GetAttestation().GetSignatures()[0].PublicKeyId = f.signer.KeyID()
			return o
		}, "does not verify"},
		"of another digest": {func(f fixture) *grafeas.Occurrence { return occurrence(t, f.signer, note, digest(1), digest(2)) }, "what was signed is " + digest(2).String()},
		"of tampered payload": {func(f fixture) *grafeas.Occurrence {
			o := occurrence(t, f.signer, note, digest(1), digest(2))
			o.GetAttestation().SerializedPayload = signature.NewPayload("reg.test/app", digest(1), signature.TypeBinauthz)
			return o
		}, "does not verify"},
		"naming the key in another case": {func(f fixture) *grafeas.Occurrence {
			o := occurrence(t, f.signer, note, digest(1), digest(1))
			o.GetAttestation().GetSignatures()[0].PublicKeyId = strings.ToUpper(f.signer.KeyID())
			return o
		}, "which is not one of the attestor's; \"ni:///sha-256;"},
		"naming the end of the key's name": {func(f fixture) *grafeas.Occurrence {
			o := occurrence(t, f.signer, note, digest(1), digest(1))
			o.GetAttestation().GetSignatures()[0].PublicKeyId = f.signer.KeyID()[30:]
			return o
		}, " is, and ids are compared letter by letter"},
		"of something else": {func(f fixture) *grafeas.Occurrence {
			return occurrenceOf(t, f.signer, note, digest(1), []byte("hello"))
		}, "unexpected message was signed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			x := f.start(f.trust())
			o := f.create(tc.occurrence(f))
			img := collect(t, x, digest(1))
			if len(img.Attestations) != 0 {
				t.Fatalf("accepted: %+v", img.Attestations)
			}
			if len(img.Rejected) != 1 || !strings.Contains(img.Rejected[0].Reason, tc.reason) || img.Rejected[0].Occurrence != o.GetName() {
				t.Errorf("rejections %+v, want one with %q", img.Rejected, tc.reason)
			}
			if img := collect(t, x, digest(2)); len(img.Attestations) != 0 {
				t.Errorf("accepted for what was signed: %+v", img)
			}
		})
	}
}

// TestASignatureWithoutAKeyIDSaysSo is of a file: the API takes none without.
func TestASignatureWithoutAKeyIDSaysSo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	o := occurrence(t, f.signer, note, digest(1), digest(1))
	o.GetAttestation().GetSignatures()[0].PublicKeyId = ""
	ref, err := image.Parse("reg.test/app@" + digest(1).String())
	if err != nil {
		t.Fatal(err)
	}
	img := index.FromOccurrences(t.Context(), []*grafeas.Occurrence{o}, f.trust(), []image.Reference{ref}).Images[digest(1)]
	if len(img.Attestations) != 0 || len(img.Rejected) != 1 || !strings.Contains(img.Rejected[0].Reason, "its key id is empty") {
		t.Errorf("%+v", img)
	}
}

func TestANoteNobodyTrustsIsNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x := f.start(f.trust())
	f.create(occurrence(t, f.signer, other, digest(1), digest(1)))
	if img := collect(t, x, digest(1)); len(img.Attestations)+len(img.Rejected) != 0 {
		t.Errorf("got %+v", img)
	}
}

func TestTrustInANewKeyCountsForWhatIsStored(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	second := newSigner(t)
	x := f.start(f.trust())
	f.create(occurrence(t, second, note, digest(1), digest(1)))
	f.create(occurrence(t, f.signer, other, digest(2), digest(2)))
	if img := collect(t, x, digest(1)); len(img.Attestations) != 0 {
		t.Fatalf("accepted too early: %+v", img)
	}
	err := x.SetTrust(t.Context(), index.Trust{note: {f.signer.PublicKey(), second.PublicKey()}, other: {f.signer.PublicKey()}})
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= 2; i++ {
		if img := collect(t, x, digest(i)); len(img.Attestations) != 1 || len(img.Rejected) != 0 {
			t.Errorf("image %d: %+v", i, img)
		}
	}
	if err := x.SetTrust(t.Context(), index.Trust{}); err != nil {
		t.Fatal(err)
	}
	if img := collect(t, x, digest(1)); len(img.Attestations) != 1 {
		t.Errorf("the policy that is about to be replaced lost its evidence: %+v", img)
	}
	if err := x.SetTrust(t.Context(), index.Trust{}); err != nil {
		t.Fatal(err)
	}
	if x.Len() != 0 {
		t.Errorf("%d digests are left with nobody trusted", x.Len())
	}
}

// TestAKeyThatIsReplacedServesUntilThePolicyIs swaps one key for another, with
// the store failing the first time.
func TestAKeyThatIsReplacedServesUntilThePolicyIs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	second := newSigner(t)
	source := &unreadable{Service: f.Service}
	x := startIndex(t, source, f.trust())
	f.attest(digest(1))
	f.create(occurrence(t, second, note, digest(2), digest(2)))
	has := func(d image.Digest, s signature.Signer) bool {
		img := collect(t, x, d)
		return len(img.Attestations) == 1 && img.Attestations[0].Fingerprint == s.PublicKey().Fingerprint()
	}
	replaced := index.Trust{note: {second.PublicKey()}}
	source.fail = true
	if err := x.SetTrust(t.Context(), replaced); err == nil {
		t.Fatal("no error from a store that fails")
	}
	f.create(occurrence(t, f.signer, note, digest(3), digest(3)))
	if !has(digest(1), f.signer) || !has(digest(3), f.signer) {
		t.Error("the key of before lost its evidence when the change failed")
	}
	source.fail = false
	if err := x.SetTrust(t.Context(), replaced); err != nil {
		t.Fatal(err)
	}
	if !has(digest(2), second) {
		t.Error("what is stored was not verified with the new key")
	}
	if !has(digest(1), f.signer) {
		t.Error("the policy of before, still in force, lost its evidence")
	}
}

// unreadable is a source whose snapshots fail on demand.
type unreadable struct {
	*metadata.Service
	fail bool
}

func (u *unreadable) NoteOccurrences(ctx context.Context, note string, fn func(*grafeas.Occurrence) error) (uint64, error) {
	if u.fail {
		return 0, errors.New("disk on fire")
	}
	return u.Service.NoteOccurrences(ctx, note, fn)
}

// gated is a source whose feed stands still until it is opened.
type gated struct {
	*metadata.Service
	open chan struct{}
}

func (g gated) Changes(ctx context.Context, after uint64, limit int) ([]metadata.Change, error) {
	select {
	case <-g.open:
		return g.Service.Changes(ctx, after, limit)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestAnIndexThatIsBehindSaysUnavailableNeverAbsent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	source := gated{f.Service, make(chan struct{})}
	x := startIndex(t, source, f.trust())
	f.attest(digest(1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if img := x.Collect(ctx, refs(t, "reg.test/app@"+digest(1).String())).Images[digest(1)]; img.State != evidence.Unavailable || img.Err == "" {
		t.Errorf("got %+v", img)
	}
	if x.Lag() == 0 {
		t.Error("it does not know that it is behind")
	}
	close(source.open)
	if img := collect(t, x, digest(1)); len(img.Attestations) != 1 {
		t.Errorf("after catching up: %+v", img)
	}
}

// failing is a source whose feed fails a number of times.
type failing struct {
	*metadata.Service
	mu    sync.Mutex
	left  int
	error error
}

func (s *failing) Changes(ctx context.Context, after uint64, limit int) ([]metadata.Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left > 0 {
		s.left--
		return nil, s.error
	}
	return s.Service.Changes(ctx, after, limit)
}

func TestAFollowerSurvivesAFailingSource(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{"errors": errors.New("gone for a moment"), "compaction": metadata.ErrCompacted} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			x := startIndex(t, &failing{Service: f.Service, left: 2, error: err}, f.trust())
			f.attest(digest(1))
			if img := collect(t, x, digest(1)); len(img.Attestations) != 1 {
				t.Errorf("got %+v", img)
			}
		})
	}
}

func TestEvidenceOutlivesTheStore(t *testing.T) {
	t.Parallel()
	store := memory.New()
	svc, err := metadata.NewService(t.Context(), store, metadata.Options{Authorizer: metadata.InsecureAllowAll()})
	if err != nil {
		t.Fatal(err)
	}
	f := fixture{Service: svc, t: t, signer: newSigner(t)}
	if _, err := svc.CreateNote(t.Context(), caller, "projects/p", "vetted", &grafeas.Note{Type: &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{}}}); err != nil {
		t.Fatal(err)
	}
	x := f.start(f.trust())
	f.attest(digest(1))
	if err := x.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if img := collect(t, x, digest(1)); img.State != evidence.Known || len(img.Attestations) != 1 {
		t.Errorf("got %+v", img)
	}
}

func TestTagsOfBuilds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if _, err := f.CreateNote(t.Context(), caller, "projects/p", "build", &grafeas.Note{Type: &grafeas.Note_Build{Build: &grafeas.BuildNote{BuilderVersion: "1"}}}); err != nil {
		t.Fatal(err)
	}
	build := func(d, checksum image.Digest, name string) {
		f.create(&grafeas.Occurrence{ResourceUri: uri(d), NoteName: "projects/p/notes/build", Details: &grafeas.Occurrence_Build{Build: &grafeas.BuildOccurrence{
			Provenance: &grafeas.BuildProvenance{Id: "1", BuiltArtifacts: []*grafeas.Artifact{{Checksum: checksum.String(), Names: []string{name}}}},
		}}})
	}
	build(digest(1), digest(1), "reg.test/app:before")
	x := f.start(f.trust())
	build(digest(2), digest(2), "reg.test/app:v1")
	build(digest(3), digest(3), "reg.test/app:v1")
	build(digest(4), digest(5), "reg.test/app:forged")
	if err := x.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]image.Digest{"reg.test/app:v1": digest(3), "reg.test/app:forged": {}, "reg.test/app": {}} {
		ref, err := image.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := x.Collect(t.Context(), []image.Reference{ref}).Built[name]; got != want {
			t.Errorf("%s was built as %s, want %s", name, got, want)
		}
	}
	ref, err := image.Parse("reg.test/app:before")
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.After(10 * time.Second) // builds of before are read in the background
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		if got := x.Collect(t.Context(), []image.Reference{ref}).Built[ref.String()]; got == digest(1) {
			tick.Stop()
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("a build of before the start never became known")
		}
	}
}

func TestConcurrentWritersAndReaders(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x := f.start(f.trust())
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 25 {
				d := digest(1000*g + i)
				o := occurrence(t, f.signer, note, d, d)
				if _, err := f.CreateOccurrence(t.Context(), caller, "projects/p", o); err != nil {
					t.Error(err)
					return
				}
				if img := collect(t, x, d); len(img.Attestations) != 1 {
					t.Errorf("image %d of %d: %+v", i, g, img)
				}
			}
		})
	}
	for range 5 {
		if err := x.SetTrust(t.Context(), index.Trust{note: {f.signer.PublicKey(), newSigner(t).PublicKey()}}); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if x.Len() != 100 {
		t.Errorf("%d digests, want 100", x.Len())
	}
}

// TestAttestationsThatArriveWhileTheirKeyBecomesTrustedCount: whether the follower
// or the scan of the change of keys comes to one first, it must count afterwards.
func TestAttestationsThatArriveWhileTheirKeyBecomesTrustedCount(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x := f.start(f.trust())
	for round := range 20 {
		signer := newSigner(t)
		var occurrences []*grafeas.Occurrence
		for i := range 20 {
			d := digest(1000*round + i)
			occurrences = append(occurrences, occurrence(t, signer, note, d, d))
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for _, o := range occurrences {
				if _, err := f.CreateOccurrence(t.Context(), caller, "projects/p", o); err != nil {
					t.Error(err)
				}
			}
		})
		if err := x.SetTrust(t.Context(), index.Trust{note: {f.signer.PublicKey(), signer.PublicKey()}}); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		for i := range 20 {
			if img := collect(t, x, digest(1000*round+i)); len(img.Attestations) != 1 {
				t.Fatalf("round %d: attestation %d does not count: %+v", round, i, img)
			}
		}
	}
}

func TestFromOccurrences(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	list := []*grafeas.Occurrence{
		occurrence(t, s, note, digest(1), digest(1)),
		occurrence(t, s, other, digest(2), digest(2)),
		occurrence(t, s, note, digest(3), digest(4)),
		{ResourceUri: "not an image"},
	}
	set := index.FromOccurrences(t.Context(), list, index.Trust{note: {s.PublicKey()}}, refs(t, "reg.test/app@"+digest(1).String(), "reg.test/app@"+digest(2).String(), "reg.test/app@"+digest(3).String())).Images
	for i, want := range map[int][2]int{1: {1, 0}, 2: {0, 0}, 3: {0, 1}} {
		img := set[digest(i)]
		if img.State != evidence.Known || len(img.Attestations) != want[0] || len(img.Rejected) != want[1] {
			t.Errorf("image %d: %+v, want %v", i, img, want)
		}
	}
	// What could not be read to the end is not known, whatever was read of it.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	img := index.FromOccurrences(ctx, list, index.Trust{note: {s.PublicKey()}}, refs(t, "reg.test/app@"+digest(1).String())).Images[digest(1)]
	if img.State != evidence.Unavailable || img.Err == "" || len(img.Attestations) != 0 {
		t.Errorf("when time is up: %+v", img)
	}
}
