package index_test

import (
	"testing"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image"
)

func TestWhatWasExaminedIsCounted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	d, other := image.DigestOf([]byte("a")), image.DigestOf([]byte("b"))
	forged := uploaded(t, f.signer, d, "2026-11-23T00:00:00Z")
	env := forged.GetDsseAttestation().GetEnvelope()
	env.Signatures[0].Sig = append([]byte{}, env.Signatures[0].Sig...)
	env.Signatures[0].Sig[8] ^= 1
	misfiled := uploaded(t, f.signer, d, "2026-11-23T00:00:00Z")
	misfiled.ResourceUri = dsse(other, nil).GetResourceUri()
	all := func() []*grafeas.Occurrence {
		return []*grafeas.Occurrence{uploaded(t, f.signer, d, "2026-11-23T00:00:00Z"), uploaded(t, newSigner(t), d, "2026-11-23T00:00:00Z"), forged, misfiled}
	}
	f.createNotes()
	for _, o := range all() { // stored before
		f.createIn("projects/p", o)
	}
	x := f.start(index.Trust{"projects/p": {f.signer.PublicKey()}})
	want := map[index.Outcome]uint64{index.Verified: 1, index.UnknownKey: 1, index.BadSignature: 1, index.WrongContent: 1, index.Unreadable: 0}
	for o, n := range want {
		if got := x.Examined(o, false); got != n {
			t.Errorf("stored, %v: %d, want %d", o, got, n)
		}
		if got := x.Examined(o, true); got != 0 {
			t.Errorf("by the feed, %v: %d", o, got)
		}
	}
	f.createIn("projects/p", uploaded(t, newSigner(t), other, "2026-11-23T00:00:00Z"))
	x.Collect(t.Context(), nil)
	if got := x.Examined(index.UnknownKey, true); got != 1 {
		t.Errorf("by the feed: %d, want 1", got)
	}
}
