package index_test

import (
	"bytes"
	"crypto"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// newEntity makes an OpenPGP key that is valid for an hour.
func newEntity(t *testing.T, made time.Time) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity("attestor", "", "attestor@example.test", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return made }, KeyLifetimeSecs: 3600,
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func publicKey(t *testing.T, e *openpgp.Entity) *signature.PublicKey {
	t.Helper()
	var text bytes.Buffer
	w, err := armor.Encode(&text, openpgp.PublicKeyType, nil)
	if err == nil {
		err = e.Serialize(w)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	key, err := signature.ParsePGPPublicKey(text.String())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// signedAt is an attestation of digest 1 with a detached signature of that time.
func signedAt(t *testing.T, e *openpgp.Entity, keyID string, at time.Time) *grafeas.Occurrence {
	t.Helper()
	payload := signature.NewPayload("reg.test/app", digest(1), signature.TypeAtomic)
	sig := &packet.Signature{
		Version: e.PrivateKey.Version, SigType: packet.SigTypeBinary, PubKeyAlgo: e.PrivateKey.PubKeyAlgo, Hash: crypto.SHA256,
		CreationTime: at, IssuerKeyId: &e.PrivateKey.KeyId, IssuerFingerprint: e.PrivateKey.Fingerprint,
	}
	h := crypto.SHA256.New()
	h.Write(payload)
	var raw bytes.Buffer
	err := sig.Sign(h, e.PrivateKey, &packet.Config{Time: func() time.Time { return at }})
	if err == nil {
		err = sig.Serialize(&raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &grafeas.Occurrence{ResourceUri: uri(digest(1)), NoteName: note, Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
		SerializedPayload: payload, Signatures: []*grafeas.Signature{{PublicKeyId: keyID, Signature: raw.Bytes()}},
	}}}
}

// TestRevokedAndExpiredKeys: a signature of the time of its key counts until the key
// is revoked, and one of another time never does.
func TestRevokedAndExpiredKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	made := time.Now().Add(-24 * time.Hour).Truncate(time.Second)
	e := newEntity(t, made)
	key := publicKey(t, e)
	x := f.start(index.Trust{note: {key}})
	f.create(signedAt(t, e, key.ID(), made.Add(2*time.Hour)))
	f.create(signedAt(t, e, key.ID(), made.Add(-time.Hour)))
	if img := collect(t, x, digest(1)); len(img.Attestations) != 0 || len(img.Rejected) != 2 {
		t.Errorf("signed before and after the key's time: %+v", img)
	}
	good := f.create(signedAt(t, e, key.ID(), made.Add(30*time.Minute)))
	if img := collect(t, x, digest(1)); len(img.Attestations) != 1 || img.Attestations[0].Occurrence != good.GetName() {
		t.Errorf("signed in the key's time: %+v", img)
	}
	if err := e.RevokeKey(packet.KeyCompromised, "", &packet.Config{Time: func() time.Time { return made }}); err != nil {
		t.Fatal(err)
	}
	revoked := publicKey(t, e)
	if !revoked.Revoked() || revoked.ID() != key.ID() {
		t.Fatal("the key is not revoked")
	}
	for range 2 { // the policy of before may be in force until the second time
		if err := x.SetTrust(t.Context(), index.Trust{note: {revoked}}); err != nil {
			t.Fatal(err)
		}
	}
	if img := collect(t, x, digest(1)); len(img.Attestations) != 0 || len(img.Rejected) != 3 {
		t.Errorf("signed by a key that is revoked since: %+v", img)
	}
}
