package signature

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A gpg runs the real GnuPG in a home of its own.
type gpg struct {
	t    *testing.T
	home string
}

// newGPG makes a home with a short path, since the agent's socket lives in it.
func newGPG(t *testing.T) *gpg {
	t.Helper()
	for _, program := range []string{"gpg", "gpgconf"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing; install GnuPG 2.2 or later (apt-get install gnupg)", program)
		}
	}
	home, err := os.MkdirTemp("/tmp", "gh")
	if err != nil {
		t.Fatal(err)
	}
	g := &gpg{t: t, home: home}
	// Left alone the agent makes each passphrase cost a tenth of a second, which it
	// measures; here it keeps no secret.
	if err := os.WriteFile(filepath.Join(home, "gpg-agent.conf"), []byte("s2k-count 65536\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("gpgconf", "--homedir", home, "--kill", "all").CombinedOutput(); err != nil {
			t.Errorf("stopping the agent: %v\n%s", err, out)
		}
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	return g
}

// try runs gpg with input and returns its output.
func (g *gpg) try(input []byte, args ...string) (stdout []byte, stderr string, err error) {
	args = append([]string{"--homedir", g.home, "--batch", "--yes", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", "", "--trust-model", "always"}, args...)
	cmd := exec.Command("gpg", args...)
	cmd.Stdin = bytes.NewReader(input)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	return out.Bytes(), errOut.String(), err
}

func (g *gpg) run(input []byte, args ...string) []byte {
	g.t.Helper()
	out, stderr, err := g.try(input, args...)
	if err != nil {
		g.t.Fatalf("gpg %s: %v\n%s", strings.Join(args, " "), err, stderr)
	}
	return out
}

// newKey makes a key that does not expire and returns its fingerprint.
func (g *gpg) newKey(name, algorithm string) string {
	g.t.Helper()
	g.run(nil, "--quick-gen-key", name, algorithm, "sign", "never")
	return g.fingerprint(name)
}

func (g *gpg) fingerprint(name string) string {
	g.t.Helper()
	for line := range strings.Lines(string(g.run(nil, "--with-colons", "--list-keys", name))) {
		if fields := strings.Split(line, ":"); fields[0] == "fpr" {
			return fields[9]
		}
	}
	g.t.Fatalf("gpg knows no key %q", name)
	return ""
}

func (g *gpg) export(fpr string) string {
	g.t.Helper()
	return string(g.run(nil, "--armor", "--export", fpr))
}

func TestGnuPGSignsAndWeVerify(t *testing.T) {
	t.Parallel()
	g := newGPG(t)
	payload := testPayload()
	for _, algorithm := range []string{"rsa2048", "ed25519", "nistp256", "nistp384", "brainpoolP256r1"} {
		fpr := g.newKey("made-for-tests-"+algorithm, algorithm)
		k := mustPGPKey(t, g.export(fpr))
		if k.ID() != fpr {
			t.Errorf("%s: id %q, gpg says %q", algorithm, k.ID(), fpr)
		}
		attached := g.run(payload, "-u", fpr, "--armor", "--sign")
		for name, sig := range map[string][]byte{
			"--armor --sign":       attached,
			"base64 of the armour": []byte(base64.StdEncoding.EncodeToString(attached)),
			"--sign":               g.run(payload, "-u", fpr, "--sign"),
			"uncompressed":         g.run(payload, "-u", fpr, "--compress-algo", "none", "--armor", "--sign"),
			"zip":                  g.run(payload, "-u", fpr, "--compress-algo", "zip", "--sign"),
			"zlib":                 g.run(payload, "-u", fpr, "--compress-algo", "zlib", "--sign"),
			"bzip2":                g.run(payload, "-u", fpr, "--compress-algo", "bzip2", "--sign"),
			"SHA-512":              g.run(payload, "-u", fpr, "--digest-algo", "SHA512", "--sign"),
			"rfc4880":              g.run(payload, "-u", fpr, "--rfc4880", "--digest-algo", "SHA512", "--sign"),
			"with a file name":     g.run(payload, "-u", fpr, "--set-filename", "payload.json", "--sign"),
		} {
			for _, beside := range [][]byte{nil, payload} {
				signed, err := k.Verify(beside, sig)
				if err != nil || !bytes.Equal(signed, payload) {
					t.Errorf("%s, %s: %q, %v", algorithm, name, signed, err)
				}
			}
		}
		for name, sig := range map[string][]byte{
			"--detach-sign":         g.run(payload, "-u", fpr, "--detach-sign"),
			"--armor --detach-sign": g.run(payload, "-u", fpr, "--armor", "--detach-sign"),
		} {
			if signed, err := k.Verify(payload, sig); err != nil || !bytes.Equal(signed, payload) {
				t.Errorf("%s, %s: %q, %v", algorithm, name, signed, err)
			}
			wantNotVerified(t, k, nil, sig)
			wantNotVerified(t, k, append(testPayload(), ' '), sig)
		}
	}
}

func TestGnuPGSignaturesThatAreRefused(t *testing.T) {
	t.Parallel()
	g := newGPG(t)
	payload := testPayload()
	fpr := g.newKey("made-for-tests", "rsa2048")
	k := mustPGPKey(t, g.export(fpr))
	for name, tt := range map[string]struct {
		args []string
		want error
	}{
		"--clearsign": {[]string{"--clearsign"}, ErrUnsupported},
		"--textmode":  {[]string{"--textmode", "--sign"}, ErrUnsupported},
		"SHA-1":       {[]string{"--digest-algo", "SHA1", "--sign"}, ErrWeak},
		"SHA-224":     {[]string{"--digest-algo", "SHA224", "--sign"}, ErrWeak},
		"expiry":      {[]string{"--default-sig-expire", "1y", "--sign"}, ErrUnsupported},
		"critical":    {[]string{"--sig-notation", "!only@example.com=x", "--sign"}, ErrUnsupported},
		"encrypted":   {[]string{"--passphrase", "x", "--symmetric", "--sign"}, ErrUnsupported},
		"only stored": {[]string{"--store"}, ErrMalformed},
	} {
		sig := g.run(payload, append([]string{"-u", fpr}, tt.args...)...)
		if signed, err := k.Verify(payload, sig); !errors.Is(err, tt.want) || !errors.Is(err, ErrNotVerified) || signed != nil {
			t.Errorf("%s: %q, %v; want %v", name, signed, err, tt.want)
		}
	}
}

func TestGnuPGSubkeysSeveralSignersAndRevocation(t *testing.T) {
	t.Parallel()
	g := newGPG(t)
	payload := testPayload()
	fpr := g.newKey("made-for-tests-a", "ed25519")
	other := g.newKey("made-for-tests-b", "nistp256")
	g.run(nil, "--quick-add-key", fpr, "ed25519", "sign", "never")
	k := mustPGPKey(t, g.export(fpr))

	bySubkey := g.run(payload, "-u", fpr, "--sign")
	byPrimary := g.run(payload, "-u", fpr+"!", "--sign")
	byBoth := g.run(payload, "-u", other, "-u", fpr, "--sign")
	for name, sig := range map[string][]byte{"subkey": bySubkey, "primary": byPrimary, "two keys": byBoth} {
		if _, err := k.Verify(payload, sig); err != nil {
			t.Errorf("signed by %s: %v", name, err)
		}
	}
	if _, err := k.Verify(payload, g.run(payload, "-u", other, "--sign")); !errors.Is(err, ErrWrongKey) {
		t.Errorf("signed by the other key: %v, want ErrWrongKey", err)
	}

	// A key that others certified is still that key.
	g.run(nil, "-u", other, "--quick-sign-key", fpr)
	certified := mustPGPKey(t, g.export(fpr))
	if certified.Fingerprint() != k.Fingerprint() {
		t.Error("a certification by another key changes the fingerprint")
	}

	// gpg keeps a revocation certificate ready, with a colon before its armour
	// so that it is not used by mistake.
	cert, err := os.ReadFile(filepath.Join(g.home, "openpgp-revocs.d", fpr+".rev"))
	if err != nil {
		t.Fatal(err)
	}
	g.run(bytes.Replace(cert, []byte(":-----BEGIN"), []byte("-----BEGIN"), 1), "--import")
	revoked := mustPGPKey(t, g.export(fpr))
	for name, sig := range map[string][]byte{"subkey": bySubkey, "primary": byPrimary} {
		if _, err := revoked.Verify(payload, sig); !errors.Is(err, ErrRevoked) {
			t.Errorf("revoked, signed by %s: %v, want ErrRevoked", name, err)
		}
	}
}

func TestGnuPGVerifiesWhatWeSign(t *testing.T) {
	t.Parallel()
	g := newGPG(t)
	payload := testPayload()
	ours := pgpPrivateFor(t)
	theirs := func(algorithm string) []byte {
		return g.run(nil, "--armor", "--export-secret-keys", g.newKey("made-for-tests-"+algorithm, algorithm))
	}
	for name, private := range map[string][]byte{
		"generated here": ours,
		"gpg ed25519":    theirs("ed25519"),
		"gpg nistp256":   theirs("nistp256"),
		"gpg nistp521":   theirs("nistp521"),
		"gpg rsa2048":    theirs("rsa2048"),
	} {
		s, err := ParsePGPSigner(private, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		g.run([]byte(s.PublicKey().Marshal()), "--import")
		sig := mustSign(t, s, payload)
		if _, stderr, err := g.try(sig, "--verify"); err != nil || !strings.Contains(stderr, "Good signature") {
			t.Errorf("%s: gpg --verify: %v\n%s", name, err, stderr)
		}
		if got := g.run(sig, "--decrypt"); !bytes.Equal(got, payload) {
			t.Errorf("%s: gpg --decrypt gives %q", name, got)
		}
	}
	// The key generated here is good for signing there as well.
	g.run(ours, "--import")
	s, err := ParsePGPSigner(ours, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PublicKey().Verify(payload, g.run(payload, "-u", s.KeyID(), "--sign")); err != nil {
		t.Errorf("signed by gpg with our key: %v", err)
	}
}

func TestGnuPGKeyWithPassphraseOrExpiry(t *testing.T) {
	t.Parallel()
	g := newGPG(t)
	g.run(nil, "--passphrase", "made for tests", "--quick-gen-key", "locked", "ed25519", "sign", "never")
	locked := g.run(nil, "--passphrase", "made for tests", "--armor", "--export-secret-keys", "locked")
	if _, err := ParsePGPSigner(locked, nil); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("no passphrase: %v, want ErrUnsuitable", err)
	}
	s, err := ParsePGPSigner(locked, []byte("made for tests"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PublicKey().Verify(nil, mustSign(t, s, testPayload())); err != nil {
		t.Error(err)
	}

	g.run(nil, "--faked-system-time", "20200101T000000", "--quick-gen-key", "expired", "ed25519", "sign", "1d")
	sig := g.run(testPayload(), "--faked-system-time", "20200101T010000", "-u", "expired", "--sign")
	if _, err := mustPGPKey(t, g.export("expired")).Verify(testPayload(), sig); err != nil {
		t.Errorf("an expired key should still verify: %v", err)
	}
	if _, err := ParsePGPSigner(g.run(nil, "--armor", "--export-secret-keys", "expired"), nil); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("an expired key signs: %v, want ErrUnsuitable", err)
	}
}

// A laptop's primary key stays offline: only the signing subkey is exported.
func TestGnuPGSubkeyWithoutItsPrimary(t *testing.T) {
	t.Parallel()
	g := newGPG(t)
	fpr := g.newKey("made-for-tests", "ed25519")
	g.run(nil, "--quick-add-key", fpr, "cv25519", "encr", "never")
	if _, err := ParsePGPSigner(g.run(nil, "--armor", "--export-secret-subkeys", fpr), nil); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("a primary key that is only a stub: %v, want ErrUnsuitable", err)
	}
	g.run(nil, "--quick-add-key", fpr, "ed25519", "sign", "never")
	s, err := ParsePGPSigner(g.run(nil, "--armor", "--export-secret-subkeys", fpr), nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.KeyID() != fpr {
		t.Errorf("id %q, want that of the primary key, %q", s.KeyID(), fpr)
	}
	if _, stderr, err := g.try(mustSign(t, s, testPayload()), "--verify"); err != nil {
		t.Errorf("gpg --verify: %v\n%s", err, stderr)
	}
}
