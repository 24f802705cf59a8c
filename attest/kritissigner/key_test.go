package kritissigner_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/gatehouse-dev/gatehouse/attest/attesttest"
	"github.com/gatehouse-dev/gatehouse/attest/kritissigner"
	"github.com/gatehouse-dev/gatehouse/gatetest/kms"
	"github.com/gatehouse-dev/gatehouse/signature"
	"github.com/gatehouse-dev/gatehouse/signature/signer"
)

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// locked makes a protected OpenPGP key, that expires after a lifetime in seconds.
func locked(t *testing.T, passphrase string, made time.Time, lifetime uint32) []byte {
	t.Helper()
	config := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519, Time: func() time.Time { return made }, KeyLifetimeSecs: lifetime}
	e, err := openpgp.NewEntity("signer", "", "signer@example.test", config)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.EncryptPrivateKeys([]byte(passphrase), config); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	w, err := armor.Encode(&b, "PGP PRIVATE KEY BLOCK", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.SerializePrivateWithoutSigning(w, config); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return []byte(b.String())
}

func TestKeysSignWhatTheGateVerifies(t *testing.T) {
	t.Parallel()
	service := kms.New(t)
	version := service.AddKey(t, kmspb.CryptoKeyVersion_EC_SIGN_P384_SHA384)
	ecdsa, err := signature.GeneratePKIX(signature.ECDSAP256SHA256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)})
	protected := locked(t, "s3cret", time.Now().Add(-time.Hour), 0)
	for about, row := range map[string]struct {
		key kritissigner.KeyConfig
		alg string
		id  string // beginning
	}{
		"Cloud KMS, before all others": {kritissigner.KeyConfig{
			KMSKeyName: version, KMSDigestAlg: "SHA384", KMS: signer.GoogleOptions{Endpoint: service.Endpoint()},
			PGPPrivateKey: "nowhere", PKIXPrivateKey: "nowhere",
		}, "ECDSA_P384_SHA384", "//cloudkms.googleapis.com/v1/" + version},
		"OpenPGP, before PKIX":     {kritissigner.KeyConfig{PGPPrivateKey: write(t, "k", protected), PGPPassphrase: "s3cret", PKIXPrivateKey: "nowhere"}, "PGP", ""},
		"a passphrase from a file": {kritissigner.KeyConfig{PGPPrivateKey: write(t, "k", protected), PGPPassphraseFile: write(t, "p", []byte("s3cret\n"))}, "PGP", ""},
		"PKIX":                     {kritissigner.KeyConfig{PKIXPrivateKey: write(t, "k", ecdsa), PKIXAlg: "ecdsa-p256-sha256"}, "ECDSA_P256_SHA256", "ni:///sha-256;"},
		"PKIX by its usual word":   {kritissigner.KeyConfig{PKIXPrivateKey: write(t, "k", ecdsa)}, "ECDSA_P256_SHA256", "ni:///sha-256;"},
		"PKIX of PSS":              {kritissigner.KeyConfig{PKIXPrivateKey: write(t, "k", pkcs1), PKIXAlg: "rsa-pss-2048-sha256"}, "RSA_PSS_2048_SHA256", "ni:///sha-256;"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			key, done, err := row.key.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = done() })
			if string(key.PublicKey().Algorithm()) != row.alg || !strings.HasPrefix(key.KeyID(), row.id) {
				t.Errorf("algorithm %s, id %q", key.PublicKey().Algorithm(), key.KeyID())
			}
			store := &attesttest.Store{}
			s := newSigner(t, store, func(o *kritissigner.Options) { o.Key = key })
			if r := run(t, s, kritissigner.BypassAndSign, web(t)); r.Existing || r.KeyID != key.KeyID() {
				t.Errorf("got %+v", r)
			}
			// It is found again, and so it verifies.
			if r := run(t, s, kritissigner.BypassAndSign, web(t)); !r.Existing {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func TestKeysThatCannotSign(t *testing.T) {
	t.Parallel()
	protected := locked(t, "s3cret", time.Now().Add(-time.Hour), 0)
	one, err := signature.GeneratePGP("one", time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ecdsa, err := signature.GeneratePKIX(signature.ECDSAP256SHA256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for about, row := range map[string]struct {
		key  kritissigner.KeyConfig
		want string
	}{
		"none":                      {kritissigner.KeyConfig{}, "no key is given"},
		"a file that is not there":  {kritissigner.KeyConfig{PGPPrivateKey: "nowhere"}, "nowhere"},
		"without its passphrase":    {kritissigner.KeyConfig{PGPPrivateKey: write(t, "k", protected)}, "there is no passphrase"},
		"with another passphrase":   {kritissigner.KeyConfig{PGPPrivateKey: write(t, "k", protected), PGPPassphrase: "hunter2"}, "does not unlock it"},
		"two passphrases":           {kritissigner.KeyConfig{PGPPrivateKey: write(t, "k", protected), PGPPassphrase: "s3cret", PGPPassphraseFile: "f"}, "not both"},
		"an expired one":            {kritissigner.KeyConfig{PGPPrivateKey: write(t, "k", locked(t, "s3cret", time.Now().Add(-time.Hour), 60)), PGPPassphrase: "s3cret"}, "expired"},
		"two keys":                  {kritissigner.KeyConfig{PGPPrivateKey: write(t, "k", append(one, one...))}, "k\""},
		"PEM for OpenPGP":           {kritissigner.KeyConfig{PGPPrivateKey: write(t, "k", ecdsa)}, "k\""},
		"OpenPGP for PEM":           {kritissigner.KeyConfig{PKIXPrivateKey: write(t, "k", one)}, "k\""},
		"an empty PEM file (B15)":   {kritissigner.KeyConfig{PKIXPrivateKey: write(t, "k", nil)}, "no PEM block"},
		"another algorithm":         {kritissigner.KeyConfig{PKIXPrivateKey: write(t, "k", ecdsa), PKIXAlg: "rsa-pss-2048-sha256"}, "does not fit"},
		"an unknown algorithm":      {kritissigner.KeyConfig{PKIXPrivateKey: write(t, "k", ecdsa), PKIXAlg: "rot13"}, "rot13"},
		"a KMS key without version": {kritissigner.KeyConfig{KMSKeyName: "projects/p"}, "does not name a version"},
		"a KMS that is not there":   {kritissigner.KeyConfig{KMSKeyName: "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1", KMS: signer.GoogleOptions{Endpoint: "nowhere"}}, "want HOST:PORT"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			key, _, err := row.key.Open(t.Context())
			if err == nil || key != nil || !strings.Contains(err.Error(), row.want) {
				t.Fatalf("got %v, %v; want an error with %q", key, err, row.want)
			}
			for _, secret := range []string{"s3cret", "hunter2", "PRIVATE KEY-----\n", strings.Split(string(ecdsa), "\n")[1]} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("it tells a secret: %v", err)
				}
			}
		})
	}
	if _, _, err := (kritissigner.KeyConfig{}).Open(t.Context()); !errors.Is(err, kritissigner.ErrNoKey) {
		t.Errorf("got %v", err)
	}
}

// Kritis B19: the right word for this algorithm was refused, and a misspelt one taken.
func TestBothSpellingsOfTheMisspeltAlgorithm(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, "k", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	for _, word := range []string{"rsa-pss-4096-sha256", "rsa-pss-4096s-ha256"} {
		s, _, err := kritissigner.KeyConfig{PKIXPrivateKey: file, PKIXAlg: word}.Open(t.Context())
		if err != nil || s.PublicKey().Algorithm() != signature.RSAPSS4096SHA256 {
			t.Errorf("%s: %v", word, err)
		}
	}
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	const head = "apiVersion: kritis.grafeas.io/v1beta1\nkind: VulnzSigningPolicy\nmetadata: {name: p}\nspec:\n"
	p, _, err := kritissigner.LoadPolicy(write(t, "p.yaml", []byte(head+"  imageVulnerabilityRequirements: {maximumFixableSeverity: LOW}\n")))
	if err != nil || p.Name != "p" {
		t.Fatalf("got %+v, %v", p, err)
	}
	for about, row := range map[string]struct{ text, want string }{
		// Kritis took a typing error for no limit of one's own.
		"a misspelt field":         {head + "  imageVulnerabilityRequirements: {maximumFixableSeverty: LOW}\n", "maximumFixableSeverty"},
		"a severity in lower case": {head + "  imageVulnerabilityRequirements: {maximumFixableSeverity: low}\n", `did you mean "LOW"`},
		"another kind":             {strings.Replace(head, "VulnzSigningPolicy", "KritisConfig", 1) + "  serverAddr: \":1\"\n", "holds 0 objects"},
		"two of them":              {head + "  imageVulnerabilityRequirements: {}\n---\n" + strings.Replace(head, "name: p", "name: q", 1) + "  imageVulnerabilityRequirements: {}\n", "holds 2 objects"},
		"no object":                {"a: b\n", "p.yaml:1"},
		"nothing":                  {"", "p.yaml"},
	} {
		if _, _, err := kritissigner.ParsePolicy("p.yaml", []byte(row.text)); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want an error with %q", about, err, row.want)
		}
	}
	if _, _, err := kritissigner.LoadPolicy("nowhere.yaml"); err == nil {
		t.Error("a policy that is not there was read")
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte("apiVersion: kritis.grafeas.io/v1beta1\nkind: VulnzSigningPolicy\nmetadata: {name: p}\nspec: {imageVulnerabilityRequirements: {maximumFixableSeverity: LOW}}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, _, err := kritissigner.ParsePolicy("p.yaml", data)
		if (p == nil) == (err == nil) {
			t.Errorf("got %v, %v", p, err)
		}
	})
}
