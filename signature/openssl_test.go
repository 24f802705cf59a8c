package signature

import (
	"bytes"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// openssl runs the real OpenSSL.
func openssl(t *testing.T, input []byte, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is missing; install OpenSSL 3 (apt-get install openssl)")
	}
	cmd := exec.Command("openssl", args...)
	cmd.Stdin = bytes.NewReader(input)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, errOut.String())
	}
	return out.Bytes()
}

func TestOpenSSLAgrees(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pss := []string{"-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"}
	for _, tt := range []struct {
		alg     Algorithm
		genpkey []string
		digest  string
		opts    []string
	}{
		{ECDSAP256SHA256, []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"}, "-sha256", nil},
		{ECDSAP384SHA384, []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"}, "-sha384", nil},
		{ECDSAP521SHA512, []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"}, "-sha512", nil},
		{RSAPKCS12048SHA256, []string{"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"}, "-sha256", nil},
		{RSAPSS2048SHA256, []string{"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"}, "-sha256", pss},
	} {
		t.Run(string(tt.alg), func(t *testing.T) {
			t.Parallel()
			payload := testPayload()
			private := openssl(t, nil, append([]string{"genpkey"}, tt.genpkey...)...)
			public := openssl(t, private, "pkey", "-pubout")
			keyFile := file(string(tt.alg)+".key", private)
			pubFile := file(string(tt.alg)+".pub", public)

			k, err := ParsePKIXPublicKey(string(public), tt.alg, "")
			if err != nil {
				t.Fatal(err)
			}
			if k.Marshal() != string(public) {
				t.Errorf("Marshal gives\n%swant\n%s", k.Marshal(), public)
			}
			sum := openssl(t, openssl(t, private, "pkey", "-pubout", "-outform", "DER"), "dgst", "-sha256", "-binary")
			if want := "ni:///sha-256;" + base64.RawURLEncoding.EncodeToString(sum); k.ID() != want {
				t.Errorf("id %q, want %q", k.ID(), want)
			}

			theirs := openssl(t, payload, append([]string{"dgst", tt.digest, "-sign", keyFile}, tt.opts...)...)
			if _, err := k.Verify(payload, theirs); err != nil {
				t.Error(err)
			}
			s, err := ParsePKIXSigner(private, tt.alg, "")
			if err != nil {
				t.Fatal(err)
			}
			ours := file(string(tt.alg)+".sig", mustSign(t, s, payload))
			if out := openssl(t, payload, append([]string{"dgst", tt.digest, "-verify", pubFile, "-signature", ours}, tt.opts...)...); !strings.Contains(string(out), "Verified OK") {
				t.Errorf("openssl says %s", out)
			}
		})
	}
}

func TestOpenSSLOldKeyFile(t *testing.T) {
	t.Parallel()
	// Parameters and key in one file, as openssl ecparam writes them.
	s, err := ParsePKIXSigner(openssl(t, nil, "ecparam", "-name", "prime256v1", "-genkey"), "", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PublicKey().Verify(testPayload(), mustSign(t, s, testPayload())); err != nil {
		t.Error(err)
	}
}
