package signer_test

import (
	"context"
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/gatetest/kms"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
	"github.com/gatehouse-dev/gatehouse/signature/signer"
)

const p256 = kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256

func dial(t *testing.T, endpoint string, timeout time.Duration) *signer.Google {
	t.Helper()
	g, err := signer.DialGoogle(t.Context(), signer.GoogleOptions{Endpoint: endpoint, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	return g
}

func payload() []byte {
	return signature.NewPayload("registry.example/shop/web", image.DigestOf([]byte("web")), signature.TypeBinauthz)
}

func TestSignsAsTheKeyPrescribes(t *testing.T) {
	t.Parallel()
	service := kms.New(t)
	g := dial(t, service.Endpoint(), 0)
	for word, want := range map[string]struct {
		algorithm kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm
		digest    string
	}{
		"ECDSA_P256_SHA256":          {p256, "SHA256"},
		"ECDSA_P384_SHA384":          {kmspb.CryptoKeyVersion_EC_SIGN_P384_SHA384, "SHA384"},
		"RSA_SIGN_PKCS1_2048_SHA256": {kmspb.CryptoKeyVersion_RSA_SIGN_PKCS1_2048_SHA256, "SHA256"},
		"RSA_SIGN_PKCS1_4096_SHA512": {kmspb.CryptoKeyVersion_RSA_SIGN_PKCS1_4096_SHA512, "SHA512"},
		"RSA_PSS_2048_SHA256":        {kmspb.CryptoKeyVersion_RSA_SIGN_PSS_2048_SHA256, "SHA256"},
		"RSA_PSS_4096_SHA512":        {kmspb.CryptoKeyVersion_RSA_SIGN_PSS_4096_SHA512, ""},
	} {
		t.Run(word, func(t *testing.T) {
			t.Parallel()
			version := service.AddKey(t, want.algorithm)
			s, err := g.Signer(t.Context(), version, want.digest)
			if err != nil {
				t.Fatal(err)
			}
			if id := "//cloudkms.googleapis.com/v1/" + version; s.KeyID() != id {
				t.Errorf("key id %q, want %q", s.KeyID(), id)
			}
			if got := string(s.PublicKey().Algorithm()); got != word {
				t.Errorf("algorithm %s, want %s", got, word)
			}
			sig, err := s.Sign(t.Context(), payload())
			if err != nil {
				t.Fatal(err)
			}
			// Whoever has the public half as PEM, as Binary Authorization's attestors
			// do, verifies the raw bytes.
			public, err := signature.ParsePKIXPublicKey(s.PublicKey().Marshal(), s.PublicKey().Algorithm(), s.KeyID())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := public.Verify(payload(), sig); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTheKeyIsReadOnceAndTheConnectionIsShared(t *testing.T) { // Voucher B13
	t.Parallel()
	service := kms.New(t)
	s, err := dial(t, service.Endpoint(), 0).Signer(t.Context(), service.AddKey(t, p256), "")
	if err != nil {
		t.Fatal(err)
	}
	reads := service.Calls("GetPublicKey")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := s.Sign(t.Context(), payload()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := service.Calls("AsymmetricSign"); n != 20 {
		t.Errorf("%d signatures were asked for", n)
	}
	if n := service.Calls("GetPublicKey"); n != reads {
		t.Errorf("the public key was read %d times more", n-reads)
	}
}

func TestAKeyThatCannotSignIsRefusedWhenItIsOpened(t *testing.T) {
	t.Parallel()
	service := kms.New(t)
	g := dial(t, service.Endpoint(), 0)
	disabled := service.AddKey(t, p256)
	service.Disable(disabled)
	good := service.AddKey(t, p256)
	for about, row := range map[string]struct{ name, digest, want string }{
		"one that is not there":     {strings.Replace(good, "ring/", "other/", 1), "", "NotFound"},
		"a disabled one":            {disabled, "", "not enabled"},
		"another digest":            {good, "SHA512", "signs no digest of SHA512"},
		"an unknown digest":         {good, "sha256", `unsupported digest algorithm "sha256"`},
		"no version":                {good[:strings.Index(good, "/cryptoKeyVersions")], "", "does not name a version"},
		"another path":              {"projects/p/secrets/s", "", "does not name a version"},
		"a line break in the name":  {"projects/p\n/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1", "", "does not name a version"},
		"one that signs no digests": {service.AddKey(t, kmspb.CryptoKeyVersion_EC_SIGN_ED25519), "", "its algorithm is EC_SIGN_ED25519"},
		"a name without end":        {"projects/" + strings.Repeat("p", 2000), "", "more than 1000"},
	} {
		t.Run(about, func(t *testing.T) {
			s, err := g.Signer(t.Context(), row.name, row.digest)
			if err == nil || s != nil || !strings.Contains(err.Error(), row.want) {
				t.Fatalf("got %v, %v; want an error with %q", s, err, row.want)
			}
		})
	}
}

func TestNamesInOtherSpellings(t *testing.T) {
	t.Parallel()
	const name = "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/12"
	for _, s := range []string{name, "gcpkms://" + name, "//cloudkms.googleapis.com/v1/" + name, "https://cloudkms.googleapis.com/v1/" + name} {
		if got, err := signer.ParseGoogleName(s); err != nil || got != name {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
}

// A KMS that hangs ends within the time there is, and the reason names it.
func TestAHungServiceEndsInTime(t *testing.T) { // Voucher B12, B16
	t.Parallel()
	for about, row := range map[string]struct {
		hangs string // the method
		sign  bool
		doing string
	}{
		"when the key is opened":         {"GetPublicKey", false, "asking for its public half"},
		"when the library reads the key": {"GetCryptoKey", false, "reading what it is"},
		"when it signs":                  {"AsymmetricSign", true, "asking for a signature"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			service := kms.New(t)
			service.Intercept(func(ctx context.Context, method string, _ any) error {
				if method == row.hangs {
					<-ctx.Done()
				}
				return ctx.Err()
			})
			version := service.AddKey(t, p256)
			start := time.Now()
			s, err := dial(t, service.Endpoint(), 300*time.Millisecond).Signer(t.Context(), version, "")
			if row.sign {
				if err != nil {
					t.Fatal(err)
				}
				_, err = s.Sign(t.Context(), payload())
			}
			if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took > 20*time.Second { // the library waits for a minute
				t.Fatalf("got %v after %s, want that the time is over", err, took)
			}
			for _, want := range []string{"Cloud KMS did not answer in time", version, row.doing} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v: it does not say %q", err, want)
				}
			}
		})
	}
	t.Run("the caller's deadline is one too", func(t *testing.T) {
		t.Parallel()
		service := kms.New(t)
		s, err := dial(t, service.Endpoint(), time.Hour).Signer(t.Context(), service.AddKey(t, p256), "")
		if err != nil {
			t.Fatal(err)
		}
		arrived := make(chan struct{}, 1)
		service.Intercept(func(ctx context.Context, _ string, _ any) error {
			arrived <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-arrived
			cancel()
		}()
		if _, err := s.Sign(ctx, payload()); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "Cloud KMS") {
			t.Errorf("got %v", err)
		}
	})
}

// Google's guidelines for data integrity: what is damaged on the way is not used.
func TestAlteredMessagesAreRefused(t *testing.T) {
	t.Parallel()
	signed := func(change func(*kmspb.AsymmetricSignResponse)) kms.Hook {
		return func(_ context.Context, _ string, answer any) error {
			if r, ok := answer.(*kmspb.AsymmetricSignResponse); ok {
				change(r)
			}
			return nil
		}
	}
	for about, row := range map[string]struct {
		hook kms.Hook
		want string
	}{
		"a signature without checksum": {signed(func(r *kmspb.AsymmetricSignResponse) { r.SignatureCrc32C = nil }), "without its checksum"},
		"a damaged signature":          {signed(func(r *kmspb.AsymmetricSignResponse) { r.Signature[4] ^= 1 }), "does not have its checksum"},
		"a digest that was not seen":   {signed(func(r *kmspb.AsymmetricSignResponse) { r.VerifiedDigestCrc32C = false }), "did not confirm the digest"},
		"an answer for another key":    {signed(func(r *kmspb.AsymmetricSignResponse) { r.Name += "1" }), "about the key"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			service := kms.New(t)
			s, err := dial(t, service.Endpoint(), 0).Signer(t.Context(), service.AddKey(t, p256), "")
			if err != nil {
				t.Fatal(err)
			}
			service.Intercept(row.hook)
			if sig, err := s.Sign(t.Context(), payload()); err == nil || sig != nil || !strings.Contains(err.Error(), row.want) {
				t.Fatalf("got %x, %v; want an error with %q", sig, err, row.want)
			}
		})
	}
	for about, row := range map[string]struct {
		change func(*kmspb.PublicKey)
		want   string
	}{
		"a public key without checksum": {func(k *kmspb.PublicKey) { k.PemCrc32C = nil }, "without its checksum"},
		"a damaged public key":          {func(k *kmspb.PublicKey) { k.Pem += "\n" }, "does not have its checksum"},
		"another's public key":          {func(k *kmspb.PublicKey) { k.Name += "1" }, "about the key"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			service := kms.New(t)
			service.Intercept(func(_ context.Context, _ string, answer any) error {
				if k, ok := answer.(*kmspb.PublicKey); ok {
					row.change(k)
				}
				return nil
			})
			if s, err := dial(t, service.Endpoint(), 0).Signer(t.Context(), service.AddKey(t, p256), ""); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Fatalf("got %v, %v; want an error with %q", s, err, row.want)
			}
		})
	}
	t.Run("a good signature of another key", func(t *testing.T) {
		t.Parallel()
		service := kms.New(t)
		g := dial(t, service.Endpoint(), 0)
		s, err := g.Signer(t.Context(), service.AddKey(t, p256), "")
		if err != nil {
			t.Fatal(err)
		}
		thief, err := g.Signer(t.Context(), service.AddKey(t, p256), "")
		if err != nil {
			t.Fatal(err)
		}
		forged, err := thief.Sign(t.Context(), payload())
		if err != nil {
			t.Fatal(err)
		}
		service.Intercept(signed(func(r *kmspb.AsymmetricSignResponse) {
			r.Signature, r.SignatureCrc32C.Value = forged, kms.Checksum(forged)
		}))
		if _, err := s.Sign(t.Context(), payload()); !errors.Is(err, signature.ErrNotVerified) {
			t.Fatalf("got %v", err)
		}
	})
}

func TestRefusalsOfTheServiceAreTold(t *testing.T) {
	t.Parallel()
	service := kms.New(t)
	s, err := dial(t, service.Endpoint(), 0).Signer(t.Context(), service.AddKey(t, p256), "")
	if err != nil {
		t.Fatal(err)
	}
	service.Intercept(func(context.Context, string, any) error {
		return status.Error(codes.PermissionDenied, "Permission 'cloudkms.cryptoKeyVersions.useToSign' denied"+strings.Repeat("\x1b[2J\n", 1000))
	})
	_, err = s.Sign(t.Context(), payload())
	if err == nil || !strings.Contains(err.Error(), "Cloud KMS answers PermissionDenied: Permission 'cloudkms.cryptoKeyVersions.useToSign' denied") {
		t.Fatalf("got %v", err)
	}
	if len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("the error has %d bytes, or lines", len(err.Error()))
	}
	if _, err := s.Sign(t.Context(), nil); !errors.Is(err, signature.ErrMalformed) {
		t.Errorf("an empty payload: %v", err)
	}
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]string{
		"http://kms.example:80": "another machine",
		"http://127.0.0.1":      "another machine",
		"kms.example":           "want HOST:PORT",
	} {
		if _, err := signer.DialGoogle(t.Context(), signer.GoogleOptions{Endpoint: endpoint}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", endpoint, err, want)
		}
	}
	// The file is a secret, and an error about it must not quote it.
	file := filepath.Join(t.TempDir(), "key.json")
	if err := os.WriteFile(file, []byte(`{"type":"service_account","private_key":"s3cret"`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := signer.DialGoogle(t.Context(), signer.GoogleOptions{CredentialsFile: file})
	if err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("credentials that cannot be read: %v", err)
	}
}

func TestParseDigest(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]crypto.Hash{"": 0, "SHA256": crypto.SHA256, "SHA384": crypto.SHA384, "SHA512": crypto.SHA512} {
		if got, err := signer.ParseDigest(word); err != nil || got != want {
			t.Errorf("%q: %v, %v", word, got, err)
		}
	}
	for _, word := range []string{"SHA1", "sha256", "SHA-256"} {
		if _, err := signer.ParseDigest(word); err == nil {
			t.Errorf("%q is taken", word)
		}
	}
}

func FuzzParseGoogleName(f *testing.F) {
	f.Add("projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1")
	f.Add("gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/0")
	f.Fuzz(func(t *testing.T, s string) {
		name, err := signer.ParseGoogleName(s)
		if err != nil {
			return
		}
		if again, err := signer.ParseGoogleName(name); err != nil || again != name {
			t.Errorf("%q is not read again: %q, %v", name, again, err)
		}
		// It is the id of a key, and a prefix of nothing else.
		if err := signature.CheckKeyID("//cloudkms.googleapis.com/v1/" + name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if strings.Count(name, "/") != 9 {
			t.Errorf("%q has other segments", name)
		}
	})
}
