package attest_test

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/attest/attesttest"
	"github.com/gatehouse-dev/gatehouse/gatetest/kms"
	"github.com/gatehouse-dev/gatehouse/signature"
	"github.com/gatehouse-dev/gatehouse/signature/signer"
)

func TestAKeyOfCloudKMSAttests(t *testing.T) {
	t.Parallel()
	service := kms.New(t)
	version := service.AddKey(t, kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256)
	var options attest.Options
	conn, err := options.OpenKMS(t.Context(), signer.GoogleOptions{Endpoint: service.Endpoint()}, attest.KMSKey{Check: "good", Path: version, Algorithm: "SHA256"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	store := &attesttest.Store{}
	a := newAuthority(t, store, func(o *attest.Options) { o.Signers = options.Signers })
	const ref = app + "@" + digest
	got := checkImage(t, a, ref, "good").Results[0]
	if !got.Attested || got.Details.KeyID != "//cloudkms.googleapis.com/v1/"+version {
		t.Fatalf("got %+v", got)
	}
	stored := store.Occurrences()[0].GetAttestation()
	if want := signature.NewPayload(app, mustParse(t, ref).Digest(), signature.TypeBinauthz); string(stored.GetSerializedPayload()) != string(want) {
		t.Errorf("the payload stored is %q, want %q", stored.GetSerializedPayload(), want)
	}
	// B11: the raw signature is to be had from the answer.
	if raw, err := base64.StdEncoding.DecodeString(got.Details.SignatureBase64); err != nil || string(raw) != string(stored.GetSignatures()[0].GetSignature()) {
		t.Errorf("the signature of the answer is not that of the store: %v", err)
	}
	if r := verifyImage(t, a, ref, "good"); !r.Success {
		t.Errorf("it does not verify: %+v", r)
	}
}

func TestAHungCloudKMSFailsTheAttestationInTime(t *testing.T) {
	t.Parallel()
	service := kms.New(t)
	version := service.AddKey(t, kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256)
	var options attest.Options
	conn, err := options.OpenKMS(t.Context(), signer.GoogleOptions{Endpoint: service.Endpoint(), Timeout: 200 * time.Millisecond}, attest.KMSKey{Check: "good", Path: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	service.Intercept(func(ctx context.Context, _ string, _ any) error {
		<-ctx.Done()
		return ctx.Err()
	})
	store := &attesttest.Store{}
	a := newAuthority(t, store, func(o *attest.Options) { o.Signers = options.Signers })
	got := checkImage(t, a, app+"@"+digest, "good").Results[0]
	if got.Attested || !got.Success || !strings.Contains(got.Error, "Cloud KMS did not answer in time") || !strings.Contains(got.Error, version) {
		t.Errorf("got %+v", got)
	}
	if len(store.Occurrences()) != 0 {
		t.Error("something was filed")
	}
}

func TestKMSKeysThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	service := kms.New(t)
	version := service.AddKey(t, kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256)
	for about, row := range map[string]struct {
		keys []attest.KMSKey
		want string
	}{
		"another digest":        {[]attest.KMSKey{{Check: "good", Path: version, Algorithm: "SHA512"}}, `the signing key of check "good"`},
		"two for one check":     {[]attest.KMSKey{{Check: "good", Path: version}, {Check: "good", Path: version}}, "there is another for the check already"},
		"a key without version": {[]attest.KMSKey{{Check: "good", Path: "projects/p/locations/l/keyRings/r/cryptoKeys/k"}}, "does not name a version"},
	} {
		var options attest.Options
		_, err := options.OpenKMS(t.Context(), signer.GoogleOptions{Endpoint: service.Endpoint()}, row.keys...)
		if err == nil || !strings.Contains(err.Error(), row.want) || len(options.Signers) != 0 {
			t.Errorf("%s: got %v, %v; want an error with %q", about, options.Signers, err, row.want)
		}
	}
	if err := (attest.KMSKey{Path: "x", Algorithm: "MD5"}).Validate(); err == nil || !strings.Contains(err.Error(), "MD5") || !strings.Contains(err.Error(), `"x"`) {
		t.Errorf("got %v", err)
	}
}
