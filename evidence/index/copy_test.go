package index_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
	"github.com/gatehouse-dev/gatehouse/signature"
)

func copyOf(t testing.TB, x *index.Index) ([]byte, index.CopyInfo) {
	t.Helper()
	var to bytes.Buffer
	var info index.CopyInfo
	if err := x.WriteCopy(func(i index.CopyInfo) (io.Writer, error) { info = i; return &to, nil }); err != nil {
		t.Fatal(err)
	}
	return to.Bytes(), info
}

// readCopy returns an index over a source that has read a copy.
func readCopy(t testing.TB, source index.Source, from []byte) *index.Index {
	t.Helper()
	x := index.New(source, slog.New(slog.DiscardHandler))
	if _, err := x.ReadCopy(bytes.NewReader(from)); err != nil {
		t.Fatal(err)
	}
	return x
}

// away is a source that nobody can read.
type away struct{ index.Source }

var errAway = metadata.Errorf(metadata.Unavailable, "away")

func (away) Head() uint64 { return 0 }
func (away) NoteOccurrences(context.Context, string, func(*grafeas.Occurrence) error) (uint64, error) {
	return 0, errAway
}
func (away) ProjectOccurrences(context.Context, string, metadata.Kinds, func(*grafeas.Occurrence) error) (uint64, error) {
	return 0, errAway
}
func (away) ProjectSummaries(context.Context, string, func(*metadata.Summary) error) (uint64, error) {
	return 0, errAway
}

// TestACopyHasAllThatWasKnown, of all kinds, whether the source is there or not.
func TestACopyHasAllThatWasKnown(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			m := &maker{t: t, rng: rand.New(rand.NewPCG(seed, 3))}
			for range 4 {
				m.signers = append(m.signers, newSigner(t))
			}
			f := newCoarseFixture(t)
			f.createNotes()
			trust := m.trust()
			x := f.startAll(trust, "p", "q")
			if err := x.KeepStatements(t.Context(), index.DefaultStatements); err != nil {
				t.Fatal(err)
			}
			for range 150 {
				if _, err := f.CreateOccurrence(t.Context(), caller, m.parent(), m.occurrence()); err != nil && metadata.KindOf(err) != metadata.AlreadyExists {
					t.Fatal(err)
				}
			}
			want := x.Collect(t.Context(), m.refs()).Images
			count(t, want)
			from, info := copyOf(t, x)
			if info.Position != f.Head() {
				t.Errorf("the copy is as of %d, want %d", info.Position, f.Head())
			}
			again := readCopy(t, away{}, from)
			err := errors.Join(again.KeepStatements(t.Context(), index.DefaultStatements), again.SetTrust(t.Context(), trust), again.SetScope(t.Context(), []string{"q", "p"}))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, again.Collect(t.Context(), m.refs()).Images, cmp.AllowUnexported(image.Digest{})); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			// A copy of what came from a copy is the same again.
			twice, _ := copyOf(t, again)
			third := readCopy(t, away{}, twice)
			if err := errors.Join(third.KeepStatements(t.Context(), index.DefaultStatements), third.SetTrust(t.Context(), trust)); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, third.Collect(t.Context(), m.refs()).Images, cmp.AllowUnexported(image.Digest{})); d != "" {
				t.Errorf("a second time (-want +got):\n%s", d)
			}
		})
	}
}

// TestACopyIsReadAnewOnlyWhereKeysAreNew: facts by keys that are gone do not count, and
// what is filed under a note with a new key is read from the source.
func TestACopyIsReadAnewOnlyWhereKeysAreNew(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	second := newSigner(t)
	f.attest(digest(1))
	f.create(occurrence(t, second, note, digest(2), digest(2)))
	f.create(occurrence(t, second, other, digest(3), digest(3)))
	both := []*signature.PublicKey{f.signer.PublicKey(), second.PublicKey()}
	from, _ := copyOf(t, f.start(index.Trust{note: {f.signer.PublicKey()}, other: both}))

	// A key less: nothing is read.
	x := readCopy(t, away{}, from)
	if err := x.SetTrust(t.Context(), index.Trust{note: {f.signer.PublicKey()}, other: {f.signer.PublicKey()}}); err != nil {
		t.Fatal(err)
	}
	if img := collect(t, x, digest(3)); len(img.Attestations) != 0 {
		t.Errorf("a fact by a key that is gone counts: %+v", img)
	}
	if img := collect(t, x, digest(1)); len(img.Attestations) != 1 {
		t.Errorf("a fact by a key that stayed does not count: %+v", img)
	}
	// A new key under one note: that note is read.
	reads := &counting{Service: f.Service}
	x = readCopy(t, reads, from)
	if err := x.SetTrust(t.Context(), index.Trust{note: both, other: both}); err != nil {
		t.Fatal(err)
	}
	if img := collect(t, x, digest(2)); len(img.Attestations) != 1 {
		t.Errorf("what the new key has signed does not count: %+v", img)
	}
	if len(reads.notes) != 1 || reads.notes[0] != note {
		t.Errorf("read %v, want %s alone", reads.notes, note)
	}
	// The same, and the source is away: that is an error, and not "nothing".
	x = readCopy(t, away{}, from)
	if err := x.SetTrust(t.Context(), index.Trust{note: both}); metadata.KindOf(err) != metadata.Unavailable {
		t.Errorf("a new key, and nobody to ask: %v", err)
	}
}

type counting struct {
	*metadata.Service
	notes []string
}

func (c *counting) NoteOccurrences(ctx context.Context, note string, fn func(*grafeas.Occurrence) error) (uint64, error) {
	c.notes = append(c.notes, note)
	return c.Service.NoteOccurrences(ctx, note, fn)
}

// TestFollowingGoesOnFromACopy: what has changed since is applied to it.
func TestFollowingGoesOnFromACopy(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	gone := f.attest(digest(1))
	f.attest(digest(2))
	from, _ := copyOf(t, f.start(f.trust()))
	f.delete(gone)
	f.attest(digest(3))
	x := readCopy(t, f.Service, from)
	if err := x.SetTrust(t.Context(), f.trust()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- x.Run(ctx) }()
	for i, want := range []int{1: 0, 2: 1, 3: 1} {
		if img := collect(t, x, digest(i)); i > 0 && len(img.Attestations) != want {
			t.Errorf("digest %d: %+v", i, img)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestADamagedCopyIsNotRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.createNotes()
	for i := range 20 {
		f.attest(digest(i))
		f.create(discovered(digest(i), "scan", succeeded))
	}
	from, _ := copyOf(t, f.startAll(f.trust(), "p"))
	read := func(from []byte) error {
		_, err := index.New(away{}, slog.New(slog.DiscardHandler)).ReadCopy(bytes.NewReader(from))
		return err
	}
	if err := read(from); err != nil {
		t.Fatal(err)
	}
	for n := range from {
		if read(from[:n]) == nil {
			t.Fatalf("cut at %d of %d, and read", n, len(from))
		}
	}
	if read(append(bytes.Clone(from), 0)) == nil {
		t.Error("with more at the end, and read")
	}
	other := bytes.Clone(from)
	other[0]++
	if err := read(other); err == nil || !bytes.Contains([]byte(err.Error()), []byte("version")) {
		t.Errorf("of another version: %v", err)
	}
}

// TestACopyIsNotFinishedWhenItsKeysChange while it is written.
func TestACopyIsNotFinishedWhenItsKeysChange(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.attest(digest(1))
	x := f.start(f.trust())
	err := x.WriteCopy(func(index.CopyInfo) (io.Writer, error) {
		return io.Discard, x.SetTrust(t.Context(), index.Trust{other: {f.signer.PublicKey()}})
	})
	if !errors.Is(err, index.ErrCopyChanged) {
		t.Errorf("got %v", err)
	}
	refused := errors.New("no")
	if err := x.WriteCopy(func(index.CopyInfo) (io.Writer, error) { return nil, refused }); !errors.Is(err, refused) {
		t.Errorf("refused: %v", err)
	}
}

func FuzzReadCopy(f *testing.F) {
	store := memory.New()
	svc, err := metadata.NewService(f.Context(), store, metadata.Options{Authorizer: metadata.InsecureAllowAll()})
	if err != nil {
		f.Fatal(err)
	}
	if _, err := svc.CreateNote(f.Context(), caller, "projects/p", "vetted", &grafeas.Note{Type: &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{}}}); err != nil {
		f.Fatal(err)
	}
	s := newSigner(f)
	if _, err := svc.CreateOccurrence(f.Context(), caller, "projects/p", occurrence(f, s, note, digest(1), digest(1))); err != nil {
		f.Fatal(err)
	}
	x := index.New(svc, slog.New(slog.DiscardHandler))
	if err := x.SetTrust(f.Context(), index.Trust{note: {s.PublicKey()}}); err != nil {
		f.Fatal(err)
	}
	good, _ := copyOf(f, x)
	f.Add(good)
	f.Fuzz(func(t *testing.T, from []byte) {
		x := index.New(away{}, slog.New(slog.DiscardHandler))
		if _, err := x.ReadCopy(bytes.NewReader(from)); err != nil {
			return
		}
		if err := x.SetTrust(t.Context(), index.Trust{note: {s.PublicKey()}}); err == nil {
			x.Collect(t.Context(), refs(t, "reg.test/app@"+digest(1).String()))
		}
	})
}

// BenchmarkCopy writes and reads a copy of digests with one attestation each, and prints
// how many a second. The goal of reading is 200,000.
func BenchmarkCopy(b *testing.B) {
	const n = 40_000
	svc, s, _ := benchFixture(b, n)
	trust := index.Trust{note: {s.PublicKey()}}
	x := index.New(svc, slog.New(slog.DiscardHandler))
	if err := x.SetTrust(b.Context(), trust); err != nil {
		b.Fatal(err)
	}
	from, _ := copyOf(b, x)
	var write, read time.Duration
	for b.Loop() {
		begun := time.Now()
		copyOf(b, x)
		middle := time.Now()
		again := readCopy(b, away{}, from)
		if err := again.SetTrust(b.Context(), trust); err != nil || again.Len() != n {
			b.Fatal(again.Len(), err)
		}
		write, read = write+middle.Sub(begun), read+time.Since(middle)
	}
	b.ReportMetric(float64(n*b.N)/write.Seconds(), "written/s")
	b.ReportMetric(float64(n*b.N)/read.Seconds(), "read/s")
	b.ReportMetric(float64(len(from))/n, "B/digest")
}
