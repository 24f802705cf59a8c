package attest_test

import (
	"strings"
	"testing"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/attest/attesttest"
	"github.com/gatehouse-dev/gatehouse/signature"
)

func TestEveryFormIsFoundAgain(t *testing.T) {
	t.Parallel()
	const ref = app + "@" + digest
	for form, kind := range map[attest.Form]grafeas.NoteKind{
		attest.SimpleSigning: grafeas.NoteKind_ATTESTATION, attest.JWT: grafeas.NoteKind_ATTESTATION, attest.DSSE: grafeas.NoteKind_DSSE_ATTESTATION,
	} {
		t.Run(form.String(), func(t *testing.T) {
			t.Parallel()
			store := &attesttest.Store{}
			key := pkixSigner(t)
			a := newAuthority(t, store, func(o *attest.Options) {
				o.Form, o.Signers = form, map[string]signature.Signer{"good": key}
			})
			first := checkImage(t, a, ref, "good").Results[0]
			if !first.Attested || first.Details.SignatureBase64 == "" || first.Details.KeyID != key.KeyID() {
				t.Fatalf("got %+v", first)
			}
			stored := store.Occurrences()
			if len(stored) != 1 || stored[0].GetKind() != kind || store.Note(stored[0].GetNoteName()).GetKind() != kind {
				t.Fatalf("stored %v", stored)
			}
			if r := verifyImage(t, a, ref, "good"); !r.Success || r.Results[0].Details.VerifiedKeyID != key.KeyID() {
				t.Errorf("it does not verify: %+v", r)
			}
			if again := checkImage(t, a, ref, "good").Results[0]; !again.Attested || len(store.Occurrences()) != 1 {
				t.Errorf("again: %+v, and there are %d", again, len(store.Occurrences()))
			}
			// Of another image it says nothing, and by another key it does not count.
			if r := verifyImage(t, a, app+"@"+another, "good"); r.Success {
				t.Errorf("another image: %+v", r)
			}
			b := newAuthority(t, store, func(o *attest.Options) {
				o.Form, o.Signers = form, map[string]signature.Signer{"good": pkixSigner(t)}
			})
			if r := verifyImage(t, b, ref, "good"); r.Success {
				t.Errorf("another key: %+v", r)
			}
		})
	}
}

func TestOpenPGPKeysSignTheSimpleFormOnly(t *testing.T) {
	t.Parallel()
	for _, form := range []attest.Form{attest.JWT, attest.DSSE} {
		store := &attesttest.Store{}
		a := newAuthority(t, store, func(o *attest.Options) {
			o.Form, o.Signers = form, map[string]signature.Signer{"good": pgpSigner(t)}
		})
		got := checkImage(t, a, app+"@"+digest, "good").Results[0]
		if got.Attested || !strings.Contains(got.Error, "not supported") || len(store.Occurrences()) != 0 {
			t.Errorf("%s: %+v", form, got)
		}
	}
}

func TestWordsForForms(t *testing.T) {
	t.Parallel()
	for _, f := range []attest.Form{attest.SimpleSigning, attest.JWT, attest.DSSE} {
		if got, err := attest.ParseForm(f.String()); err != nil || got != f {
			t.Errorf("%s: %v, %v", f, got, err)
		}
	}
	if _, err := attest.ParseForm("JWT"); err == nil {
		t.Error("JWT is taken")
	}
	c := attest.Config{Project: "p", Form: "cbor", Server: attest.ServerConfig{Port: 1, Timeout: 1}}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), `"cbor" is not one of simple-signing, jwt, dsse`) {
		t.Errorf("got %v", err)
	}
}
