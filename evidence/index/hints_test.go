package index_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/hint"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const hintNote = "projects/p/notes/other"

// hinted makes an occurrence of a hint for the app of these tests.
func hinted(t testing.TB, s signature.Signer, note string, d image.Digest, sequence uint64) *grafeas.Occurrence {
	t.Helper()
	name, err := hint.ParseName("reg.test/app")
	if err != nil {
		t.Fatal(err)
	}
	h := hint.Hint{Name: name, Digest: d, Sequence: sequence, IssuedAt: time.Now().Add(-time.Minute), ExpiresAt: time.Now().Add(time.Hour)}
	payload, err := h.Payload()
	if err != nil {
		t.Fatal(err)
	}
	return occurrenceOf(t, s, note, d, payload)
}

func hintOf(t *testing.T, x *index.Index) evidence.Hint {
	t.Helper()
	ref := refs(t, "reg.test/app:v1@"+digest(1).String())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	list := x.Collect(ctx, ref).Hints[ref[0].String()]
	if len(list) != 1 || list[0].Note != hintNote {
		t.Fatalf("hints %+v", list)
	}
	return list[0]
}

// TestHintsAreFollowed as they are published, published again and deleted, by the keys of
// their signers alone, and as attestations they are nothing.
func TestHintsAreFollowed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	hinter, stranger := newSigner(t), newSigner(t)
	f.create(hinted(t, hinter, hintNote, digest(1), 1))
	f.create(hinted(t, stranger, hintNote, digest(3), 9))
	f.create(hinted(t, hinter, note, digest(3), 9)) // under the note of an attestor
	x := f.start(index.Trust{note: {f.signer.PublicKey()}, "projects/p": {f.signer.PublicKey()}})
	if facts := x.Collect(t.Context(), refs(t, "reg.test/app@"+digest(1).String())); facts.Hints != nil {
		t.Errorf("hints that nobody asked for: %v", facts.Hints)
	}
	trust := index.Trust{hintNote: {hinter.PublicKey()}}
	if err := x.SetHints(t.Context(), "here.test", trust); err != nil {
		t.Fatal(err)
	}
	expect := func(what string, state evidence.HintState, d image.Digest, sequence uint64) {
		t.Helper()
		if h := hintOf(t, x); h.State != state || h.Digest != d || h.Sequence != sequence {
			t.Errorf("%s: %+v", what, h)
		}
	}
	expect("what was stored", evidence.Hinted, digest(1), 1)
	second := f.create(hinted(t, hinter, hintNote, digest(2), 2))
	expect("a new one", evidence.Hinted, digest(2), 2)
	f.create(hinted(t, stranger, hintNote, digest(4), 10))
	expect("one of a stranger", evidence.Hinted, digest(2), 2)
	f.create(occurrence(t, hinter, hintNote, digest(5), digest(5)))
	expect("an attestation by the key of a signer of hints", evidence.Hinted, digest(2), 2)
	if img := collect(t, x, digest(5)); len(img.Attestations) > 0 {
		t.Errorf("the key of a signer of hints attests: %+v", img.Attestations)
	}
	if err := f.DeleteOccurrence(t.Context(), caller, second.GetName()); err != nil {
		t.Fatal(err)
	}
	expect("the newest deleted", evidence.Withdrawn, image.Digest{}, 2)
	f.create(hinted(t, hinter, hintNote, digest(1), 3))
	expect("the next", evidence.Hinted, digest(1), 3)
	// Other keys, other hints; and nobody.
	if err := x.SetHints(t.Context(), "here.test", index.Trust{hintNote: {stranger.PublicKey()}}); err != nil {
		t.Fatal(err)
	}
	expect("by other keys", evidence.Hinted, digest(4), 10)
	if err := x.SetHints(t.Context(), "here.test", nil); err != nil {
		t.Fatal(err)
	}
	if facts := x.Collect(t.Context(), refs(t, "reg.test/app@"+digest(1).String())); facts.Hints != nil {
		t.Errorf("hints that are not asked for any more: %v", facts.Hints)
	}
}

// TestACopyHasHints, and the numbers that were reached by those that were deleted.
func TestACopyHasHints(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	hinter := newSigner(t)
	trust := index.Trust{hintNote: {hinter.PublicKey()}}
	f.create(hinted(t, hinter, hintNote, digest(1), 1))
	newest := f.create(hinted(t, hinter, hintNote, digest(2), 2))
	x := f.start(f.trust())
	if err := x.SetHints(t.Context(), "", trust); err != nil {
		t.Fatal(err)
	}
	again := func() *index.Index {
		t.Helper()
		var b bytes.Buffer
		if err := x.WriteCopy(func(index.CopyInfo) (io.Writer, error) { return &b, nil }); err != nil {
			t.Fatal(err)
		}
		y := index.New(&unreadable{f.Service, true}, slog.New(slog.DiscardHandler))
		info, err := y.ReadCopy(&b)
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{note, hintNote}; cmp.Diff(want, info.Notes) != "" {
			t.Errorf("the copy is about the notes %q, want %q", info.Notes, want)
		}
		if err := y.SetTrust(t.Context(), f.trust()); err != nil {
			t.Fatal(err)
		}
		if err := y.SetHints(t.Context(), "", index.Trust{hintNote: {newSigner(t).PublicKey()}}); err == nil {
			t.Error("hints by other keys than those of the copy were not read")
		}
		if err := y.SetHints(t.Context(), "", trust); err != nil {
			t.Fatal(err)
		}
		return y
	}
	if h := hintOf(t, again()); h.State != evidence.Hinted || h.Digest != digest(2) || h.Sequence != 2 || h.Until.IsZero() {
		t.Errorf("from the copy: %+v", h)
	}
	if err := f.DeleteOccurrence(t.Context(), caller, newest.GetName()); err != nil {
		t.Fatal(err)
	}
	if h := hintOf(t, x); h.State != evidence.Withdrawn {
		t.Fatalf("deleted: %+v", h)
	}
	if h := hintOf(t, again()); h.State != evidence.Withdrawn || h.Sequence != 2 {
		t.Errorf("deleted, from the copy: %+v", h)
	}
}
