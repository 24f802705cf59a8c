package index_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// projects tells where the attestations of an image are filed, in their order.
func projects(img evidence.Image) string {
	var list []string
	for _, a := range img.Attestations {
		list = append(list, a.Project)
	}
	return strings.Join(list, " ")
}

func TestAKeyOfAProjectCountsForWhatIsFiledThere(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	trust := index.Trust{"projects/p": {f.signer.PublicKey()}}
	before := f.startAll(trust)
	for i, parent := range []string{"projects/p", "projects/p/locations/eu", "projects/pp", "projects/q", "projects/q/locations/p"} {
		f.createIn(parent, occurrence(t, f.signer, other, digest(i), digest(i)))
	}
	for name, x := range map[string]*index.Index{"followed": before, "read": f.startAll(trust)} {
		for i, want := range []string{"p", "p", "", "", ""} {
			if got := projects(collect(t, x, digest(i))); got != want {
				t.Errorf("%s: image %d has attestations in %q, want %q", name, i, got, want)
			}
		}
	}
}

func TestEveryFactTellsItsProject(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x := f.start(f.trust())
	f.createIn("projects/q/locations/eu", occurrence(t, f.signer, note, digest(1), digest(1)))
	f.createIn("projects/q", occurrence(t, newSigner(t), note, digest(1), digest(1)))
	img := collect(t, x, digest(1))
	if len(img.Attestations) != 1 || img.Attestations[0].Project != "q" || len(img.Rejected) != 1 || img.Rejected[0].Project != "q" {
		t.Errorf("got %+v", img)
	}
}

func TestAKeyThatIsTrustedTwiceMakesOneFact(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	second := newSigner(t)
	x := f.start(index.Trust{note: {f.signer.PublicKey()}, "projects/p": {second.PublicKey(), f.signer.PublicKey()}})
	o := occurrence(t, f.signer, note, digest(1), digest(1))
	more := occurrence(t, second, note, digest(1), digest(1)).GetAttestation().GetSignatures()
	o.GetAttestation().Signatures = append(o.GetAttestation().Signatures, append(more, o.GetAttestation().GetSignatures()...)...)
	f.create(o)
	img := collect(t, x, digest(1))
	keys := map[string]int{}
	for _, a := range img.Attestations {
		keys[a.KeyID]++
	}
	if len(img.Attestations) != 2 || keys[f.signer.KeyID()] != 1 || keys[second.KeyID()] != 1 || len(img.Rejected) != 0 {
		t.Errorf("got %+v", img)
	}
}

// TestStatementsThatSayTheSameAreToldOnce for each place that is trusted by itself: a
// decision that asks for one project must find what is filed there.
func TestStatementsThatSayTheSameAreToldOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x := f.start(index.Trust{"projects/p": {f.signer.PublicKey()}, "projects/q": {f.signer.PublicKey()}, note: {f.signer.PublicKey()}})
	for _, parent := range []string{"projects/p", "projects/p/locations/eu", "projects/q", "projects/r", "projects/s"} {
		for _, n := range []string{note, other} {
			f.createIn(parent, occurrence(t, f.signer, n, digest(1), digest(1)))
		}
	}
	got := map[string]int{}
	for _, a := range collect(t, x, digest(1)).Attestations {
		got[a.Project+" "+a.Note]++
	}
	// What is filed in r and s counts by its note alone, and so one of them will do.
	if d := cmp.Diff(map[string]int{"p " + note: 1, "p " + other: 1, "q " + note: 1, "q " + other: 1, "s " + note: 1}, got); d != "" {
		t.Errorf("attestations (-want +got):\n%s", d)
	}
}

// TestAKeyCountsForWhatItIsTrustedWithUnderAnotherID: two policies may call one key by
// two ids. Decisions go by what a key is, and a newer statement under another note, or
// in another project, must not take from them the one that they rest on.
func TestAKeyCountsForWhatItIsTrustedWithUnderAnotherID(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	own := f.signer.PublicKey()
	again, err := signature.ParsePKIXPublicKey(own.Marshal(), own.Algorithm(), "https://key.test/again")
	if err != nil {
		t.Fatal(err)
	}
	under := func(id, parent, note string, d int) {
		o := occurrence(t, f.signer, note, digest(d), digest(d))
		o.GetAttestation().GetSignatures()[0].PublicKeyId = id
		f.createIn(parent, o)
	}
	trust := index.Trust{note: {own}, "projects/p": {again}}
	x := f.startAll(trust)
	under(again.ID(), "projects/p", note, 1)
	under(again.ID(), "projects/p", other, 1)
	under(own.ID(), "projects/p", note, 2)
	under(own.ID(), "projects/q", note, 2)
	for _, name := range []string{"followed", "read"} {
		for d, want := range map[int]evidence.Origin{1: {Note: note, Project: "p"}, 2: {Note: note, Project: "p"}} {
			img := collect(t, x, digest(d))
			if !slices.ContainsFunc(img.Attestations, func(a evidence.Attestation) bool { return a.Note == want.Note && a.Project == want.Project }) {
				t.Errorf("%s: image %d lacks the attestation under %s in %s: %+v", name, d, want.Note, want.Project, img.Attestations)
			}
		}
		x = f.startAll(trust)
	}
	// By an id that nobody trusts any more it counts for nothing.
	for range 2 { // facts by the keys of before stay until the next call
		if err := x.SetTrust(t.Context(), index.Trust{note: {own}}); err != nil {
			t.Fatal(err)
		}
	}
	if img := collect(t, x, digest(1)); len(img.Attestations) != 0 {
		t.Errorf("attestations by an id that is not trusted: %+v", img.Attestations)
	}
}

// torn is a source that fails to read projects, or scans, on demand.
type torn struct {
	*metadata.Service
	mu   sync.Mutex
	fail bool
	// failing is closed when it fails, if it is not nil.
	failing chan struct{}
}

func (s *torn) set(fail bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

func (s *torn) torn() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail {
		if s.failing != nil {
			close(s.failing)
			s.failing = nil
		}
		return errors.New("disk on fire")
	}
	return nil
}

func (s *torn) ProjectOccurrences(ctx context.Context, project string, kinds metadata.Kinds, fn func(*grafeas.Occurrence) error) (uint64, error) {
	if err := s.torn(); err != nil {
		return 0, err
	}
	return s.Service.ProjectOccurrences(ctx, project, kinds, fn)
}

func (s *torn) ProjectSummaries(ctx context.Context, project string, fn func(*metadata.Summary) error) (uint64, error) {
	if err := s.torn(); err != nil {
		return 0, err
	}
	return s.Service.ProjectSummaries(ctx, project, fn)
}

func (s *torn) ResourceSummary(ctx context.Context, parent metadata.Parent, resource metadata.Key) (*metadata.Summary, error) {
	if err := s.torn(); err != nil {
		return nil, err
	}
	return s.Service.ResourceSummary(ctx, parent, resource)
}

// TestTrustInAProjectCountsForWhatIsStored trusts a note and a project at once, with
// the store failing at the project the first time, and then takes both back.
func TestTrustInAProjectCountsForWhatIsStored(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	source := &torn{Service: f.Service}
	x := startIndex(t, source, nil)
	f.create(occurrence(t, f.signer, note, digest(1), digest(1)))
	f.create(occurrence(t, f.signer, other, digest(2), digest(2)))
	f.createIn("projects/q", occurrence(t, f.signer, note, digest(3), digest(3)))
	f.createIn("projects/q", occurrence(t, f.signer, other, digest(4), digest(4)))
	trust := index.Trust{note: {f.signer.PublicKey()}, "projects/p": {f.signer.PublicKey()}}
	source.set(true)
	if err := x.SetTrust(t.Context(), trust); err == nil || !strings.Contains(err.Error(), `"projects/p"`) {
		t.Fatalf("got error %v from a store that fails", err)
	}
	source.set(false)
	if err := x.SetTrust(t.Context(), trust); err != nil {
		t.Fatal(err)
	}
	has := func(want ...int) {
		t.Helper()
		for i := 1; i <= 4; i++ {
			n := 0
			if len(want) > 0 && want[0] == i {
				n, want = 1, want[1:]
			}
			if img := collect(t, x, digest(i)); len(img.Attestations) != n {
				t.Errorf("image %d: %+v, want %d attestations", i, img, n)
			}
		}
	}
	has(1, 2, 3)
	for range 2 { // the policy of before may be in force until the second time
		if err := x.SetTrust(t.Context(), index.Trust{note: {f.signer.PublicKey()}}); err != nil {
			t.Fatal(err)
		}
	}
	has(1, 3)
	if x.Len() != 2 {
		t.Errorf("%d digests are left, want 2", x.Len())
	}
}

// TestAProjectThatIsNotTrustedAfterAllLeavesNothingUnread gives up a project that
// could not be read, and reads a note whose attestations are filed there.
func TestAProjectThatIsNotTrustedAfterAllLeavesNothingUnread(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	source := &torn{Service: f.Service}
	f.attest(digest(1)) // which the follower does not see
	x := startIndex(t, source, nil)
	source.set(true)
	if err := x.SetTrust(t.Context(), index.Trust{"projects/p": {f.signer.PublicKey()}}); err == nil {
		t.Fatal("no error from a store that fails")
	}
	if err := x.SetTrust(t.Context(), f.trust()); err != nil {
		t.Fatal(err)
	}
	if img := collect(t, x, digest(1)); len(img.Attestations) != 1 {
		t.Errorf("got %+v", img)
	}
}

// TestAttestationsThatArriveWhileTheirProjectBecomesTrustedCount: whether the
// follower or the scan of the change of keys comes to one first, by its note or by
// its project, it must count afterwards, once, and be gone once it is deleted.
func TestAttestationsThatArriveWhileTheirProjectBecomesTrustedCount(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	x := f.start(nil)
	trust := index.Trust{}
	for round := range 20 {
		signer := newSigner(t)
		name := []string{"projects/p", note, "projects/q", "projects/p"}[round%4]
		trust = union(trust, name, signer)
		if round%2 == 0 {
			trust = union(trust, note, signer)
		}
		parent := "projects/p/locations/eu"
		if name == "projects/q" {
			parent = "projects/q"
		}
		var wg sync.WaitGroup
		created := make([]*grafeas.Occurrence, 20)
		wg.Go(func() {
			for i := range created {
				d := digest(1000*round + i)
				o, err := f.CreateOccurrence(t.Context(), caller, parent, occurrence(t, signer, note, d, d))
				if err != nil {
					t.Error(err)
					return
				}
				created[i] = o
				if i%3 == 0 {
					if err := f.DeleteOccurrence(t.Context(), caller, o.GetName()); err != nil {
						t.Error(err)
					}
				}
			}
		})
		if err := x.SetTrust(t.Context(), trust); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		for i := range created {
			want := 1
			if i%3 == 0 {
				want = 0
			}
			if img := collect(t, x, digest(1000*round+i)); len(img.Attestations) != want || len(img.Rejected) != 0 {
				t.Fatalf("round %d: attestation %d: %+v, want %d", round, i, img, want)
			}
		}
	}
}

// union returns the trust with one more key.
func union(trust index.Trust, name string, s signature.Signer) index.Trust {
	next := index.Trust{}
	for n, keys := range trust {
		next[n] = append([]*signature.PublicKey{}, keys...)
	}
	next[name] = append(next[name], s.PublicKey())
	return next
}

// TestReadingAnewBringsEverythingBack has the feed forget what was not read, while
// things were deleted that the index knew.
func TestReadingAnewBringsEverythingBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.createNotes()
	source := &compacted{Service: f.Service}
	x := startIndex(t, source, index.Trust{note: {f.signer.PublicKey()}, "projects/p": {f.signer.PublicKey()}})
	if err := x.SetScope(t.Context(), []string{"p"}); err != nil {
		t.Fatal(err)
	}
	f.keep(x, index.DefaultStatements)
	f.create(discovered(digest(3), "otherscan", pending))
	gone := []*grafeas.Occurrence{
		f.attest(digest(1)), f.create(vulnerability(digest(1), 1, grafeas.Severity_HIGH, true)), f.create(discovered(digest(1), "scan", grafeas.DiscoveryOccurrence_FINISHED_SUCCESS)),
	}
	if img := collect(t, x, digest(1)); len(img.Attestations) != 1 || len(img.Scans) != 1 {
		t.Fatalf("got %+v", img)
	}
	source.forget(func() {
		for _, o := range gone {
			f.delete(o)
		}
		f.attest(digest(2))
		f.lookFor("otherscan", grafeas.NoteKind_SECRET)
		f.create(discovered(digest(2), "otherscan", pending))
		f.create(discovered(digest(2), "scan", grafeas.DiscoveryOccurrence_FINISHED_SUCCESS))
		f.create(uploaded(t, f.signer, digest(2), "2026-11-30T05:00:00Z"))
		f.create(buildOf(digest(2), provenanceV1(t, f.signer, digest(2), "https://github.com/org/app")))
	})
	if img := collect(t, x, digest(2)); len(img.Attestations) != 1 || len(img.Scans) != 1 || !img.Scans[0].Finished || len(img.Uploads) != 1 || len(img.Provenances) != 1 || img.Provenances[0].Statement == nil {
		t.Errorf("what was stored meanwhile: %+v", img)
	}
	if img := collect(t, x, digest(1)); len(img.Attestations) != 0 || len(img.Scans) != 0 {
		t.Errorf("what was deleted meanwhile: %+v", img)
	}
}

// compacted is a source whose feed forgets what happens during forget.
type compacted struct {
	*metadata.Service
	mu      sync.Mutex
	through uint64
}

func (c *compacted) forget(during func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	during()
	c.through = c.Head()
}

func (c *compacted) Changes(ctx context.Context, after uint64, limit int) ([]metadata.Change, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if after < c.through {
		return nil, metadata.ErrCompacted
	}
	return c.Service.Changes(ctx, after, limit)
}

// TestAStoreThatIsSetBack to a backup is one whose head is behind what the index has
// applied: once the index has noticed, it follows from there.
func TestAStoreThatIsSetBack(t *testing.T) {
	t.Parallel()
	f, earlier := newFixture(t), newFixture(t)
	earlier.signer = f.signer
	source := &switched{now: f.Service}
	x := startIndex(t, source, f.trust())
	for i := range 30 {
		f.attest(digest(i))
	}
	if img := collect(t, x, digest(4)); len(img.Attestations) != 1 {
		t.Fatalf("got %+v", img)
	}
	source.to(earlier.Service)
	f.attest(digest(30)) // which wakes the follower
	deadline := time.After(10 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); len(collect(t, x, digest(4)).Attestations) != 0; {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it never noticed")
		}
	}
	for i := 40; i < 60; i++ {
		earlier.attest(digest(i))
		if img := collect(t, x, digest(i)); img.State != evidence.Known || len(img.Attestations) != 1 {
			t.Errorf("image %d of the earlier store: %+v", i, img)
		}
	}
}

// switched is one service and then another.
type switched struct {
	mu  sync.Mutex
	now *metadata.Service
}

func (s *switched) to(next *metadata.Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = next
}

func (s *switched) get() *metadata.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *switched) Head() uint64 { return s.get().Head() }

func (s *switched) Wait(ctx context.Context, after uint64) error { return s.get().Wait(ctx, after) }

func (s *switched) Changes(ctx context.Context, after uint64, limit int) ([]metadata.Change, error) {
	return s.get().Changes(ctx, after, limit)
}

func (s *switched) NoteOccurrences(ctx context.Context, note string, fn func(*grafeas.Occurrence) error) (uint64, error) {
	return s.get().NoteOccurrences(ctx, note, fn)
}

func (s *switched) ProjectOccurrences(ctx context.Context, project string, kinds metadata.Kinds, fn func(*grafeas.Occurrence) error) (uint64, error) {
	return s.get().ProjectOccurrences(ctx, project, kinds, fn)
}

func (s *switched) ProjectSummaries(ctx context.Context, project string, fn func(*metadata.Summary) error) (uint64, error) {
	return s.get().ProjectSummaries(ctx, project, fn)
}

func (s *switched) ResourceSummary(ctx context.Context, parent metadata.Parent, resource metadata.Key) (*metadata.Summary, error) {
	return s.get().ResourceSummary(ctx, parent, resource)
}

func (s *switched) Note(ctx context.Context, name string) (*grafeas.Note, error) {
	return s.get().Note(ctx, name)
}
