package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/identity"
)

func TestCertificateFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	certFile, keyFile := ca.files(nil)
	_, otherKey := ca.files(nil)
	text := func(text string) string { return write(t, filepath.Join(t.TempDir(), "f.pem"), text) }
	for name, tc := range map[string]struct {
		tls  TLSConfig
		want string
	}{
		"no such file":              {TLSConfig{CertFile: "/nonexistent", KeyFile: keyFile}, "no such file"},
		"the key of another":        {TLSConfig{CertFile: certFile, KeyFile: otherKey}, "private key does not match"},
		"the key for a certificate": {TLSConfig{CertFile: keyFile, KeyFile: keyFile}, "reading the certificate of the metadata API"},
		"no CA in the file":         {TLSConfig{CertFile: certFile, KeyFile: keyFile, ClientCAFile: text("nothing here\n")}, "no PEM certificate in it"},
		"an empty CA":               {TLSConfig{CertFile: certFile, KeyFile: keyFile, ClientCAFile: text("")}, "nobody could connect"},
		"a key for a CA":            {TLSConfig{CertFile: certFile, KeyFile: keyFile, ClientCAFile: keyFile}, "there is a PRIVATE KEY in it"},
		"a broken CA":               {TLSConfig{CertFile: certFile, KeyFile: keyFile, ClientCAFile: text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")}, "certificate 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t, func(c *Config) {
				if c.Metadata.TLS = tc.tls; tc.tls.ClientCAFile != "" {
					c.Identity = identity.Config{MTLS: true, Rules: []identity.Rule{{Caller: "*", Project: "p", Roles: []string{"viewer"}}}}
				}
			})
			for what, err := range map[string]error{"--check-config": Check(cfg, discard()), "start": Run(t.Context(), cfg, discard(), func(Addresses) error { return nil })} {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("%s: got %v, want %q in it", what, err, tc.want)
				}
			}
		})
	}
}

func TestTheMetadataListenerSpeaksBothHTTPs(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	r := start(t, testConfig(t, func(c *Config) { c.Metadata.TLS.CertFile, c.Metadata.TLS.KeyFile = ca.files(nil) }))
	for protocol, major := range map[string]int{"http/1.1": 1, "h2": 2} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: major == 2}
		t.Cleanup(transport.CloseIdleConnections)
		resp, err := (&http.Client{Transport: transport}).Get("https://" + r.Metadata + "/v1/projects/p/notes")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.ProtoMajor != major || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s, %s", protocol, resp.Proto, resp.Status)
		}
	}
	old := &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	if conn, err := tls.Dial("tcp", r.Metadata, old); err == nil {
		_ = conn.Close()
		t.Error("TLS 1.1 is spoken")
	}
	if resp, err := http.Get("http://" + r.Metadata + "/v1/projects/p/notes"); err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("served in the clear")
		}
	}
}

// A renewal is a certificate in files that a test changes, and looks at.
type renewal struct {
	*certificate
	t   *testing.T
	log strings.Builder
}

func newRenewal(t *testing.T, ca *authority) *renewal {
	t.Helper()
	certFile, keyFile := ca.files(nil)
	r := &renewal{t: t}
	var err error
	if r.certificate, err = openCertificate(admissionCertificate, certFile, keyFile, slog.New(slog.NewTextHandler(&r.log, nil))); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *renewal) serial() string {
	pair, _ := r.get(nil)
	return pair.Leaf.SerialNumber.String()
}

// replace puts the content of a file into another.
func (r *renewal) replace(with, file string) {
	r.t.Helper()
	text, err := os.ReadFile(with)
	if err != nil {
		r.t.Fatal(err)
	}
	write(r.t, file, string(text))
}

// twice looks twice, since what changes may be half there at one look.
func (r *renewal) twice() (changed bool, err error) {
	if changed, err := r.read(); changed {
		return changed, err
	}
	return r.read()
}

func TestACertificateIsReadAgainWhenItChanges(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	r := newRenewal(t, ca)
	first := r.serial()
	newCert, newKey := ca.files(nil)
	if changed, err := r.twice(); changed || err != nil {
		t.Errorf("unchanged: %v, %v", changed, err)
	}
	r.replace(newCert, r.certFile)
	if changed, err := r.read(); changed || err != nil || r.serial() != first {
		t.Errorf("at the first look: %v, %v, and serial %s", changed, err, r.serial())
	}
	if _, err := r.read(); err == nil || r.serial() != first {
		t.Errorf("half changed: %v, and serial %s", err, r.serial())
	}
	r.replace(newKey, r.keyFile)
	if changed, err := r.twice(); !changed || err != nil || r.serial() == first {
		t.Errorf("changed: %v, %v, and serial %s", changed, err, r.serial())
	}
	if err := os.Remove(r.certFile); err != nil {
		t.Fatal(err)
	}
	if _, err := r.twice(); err == nil || r.serial() == first {
		t.Errorf("gone: %v", err)
	}
}

// TestAChainThatIsHalfWrittenIsNotServed: clients would miss what leads to their root.
func TestAChainThatIsHalfWrittenIsNotServed(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	r := newRenewal(t, ca)
	first := r.serial()
	newCert, newKey := ca.files(nil)
	chain, err := os.ReadFile(newCert)
	if err != nil {
		t.Fatal(err)
	}
	chain = append(chain, pemOf("CERTIFICATE", ca.cert.Raw)...)
	r.replace(newKey, r.keyFile)
	for n := range len(chain) {
		if n%97 != 0 && n != len(chain)-len(pemOf("CERTIFICATE", ca.cert.Raw)) {
			continue
		}
		write(t, r.certFile, string(chain[:n])) // as one who writes slowly
		if changed, err := r.read(); changed || err != nil || r.serial() != first {
			t.Fatalf("%d of %d bytes are in force: %v", n, len(chain), err)
		}
	}
	write(t, r.certFile, string(chain[:len(chain)-40])) // and stops
	if _, err := r.twice(); err == nil || !strings.Contains(err.Error(), "cut off") || r.serial() != first {
		t.Errorf("a cut chain: %v", err)
	}
	write(t, r.certFile, string(chain))
	if changed, err := r.twice(); !changed || err != nil || len(r.pair.Load().Certificate) != 2 {
		t.Errorf("the whole chain: %v, %v", changed, err)
	}
}

// TestACertificateThatIsNoGoodNowIsNotTaken while one is in force that is; when its time
// comes it is.
func TestACertificateThatIsNoGoodNowIsNotTaken(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	r := newRenewal(t, ca)
	first, now := r.serial(), time.Now()
	r.now = func() time.Time { return now }
	for _, tc := range []struct {
		name        string
		from, until time.Duration // from now
	}{{"ended", -2 * time.Hour, -time.Minute}, {"to come", 30 * time.Minute, 10 * time.Hour}} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		certFile, keyFile := ca.write(ca.sign(&x509.Certificate{
			SerialNumber: big.NewInt(7), NotBefore: now.Add(tc.from), NotAfter: now.Add(tc.until), DNSNames: []string{"localhost"},
		}, key.Public()), key)
		r.replace(certFile, r.certFile)
		r.replace(keyFile, r.keyFile)
		if changed, err := r.twice(); changed || err == nil || !strings.Contains(err.Error(), "not now") || r.serial() != first {
			t.Errorf("%s: %v, %v", tc.name, changed, err)
		}
	}
	now = now.Add(40 * time.Minute)
	if changed, err := r.read(); !changed || err != nil || r.serial() == first {
		t.Errorf("when its time has come: %v, %v", changed, err)
	}
}

// TestAnEndIsToldInTime, once a day.
func TestAnEndIsToldInTime(t *testing.T) {
	t.Parallel()
	r := newRenewal(t, newAuthority(t)) // for two hours, of which one is over
	now := time.Now()
	r.now = func() time.Time { return now }
	for _, tc := range []struct {
		later time.Duration
		want  int
	}{{0, 0}, {39 * time.Minute, 0}, {2 * time.Minute, 1}, {10 * time.Minute, 1}, {25 * time.Hour, 2}} {
		now = now.Add(tc.later)
		r.warn()
		if n := strings.Count(r.log.String(), "ends soon"); n != tc.want {
			t.Errorf("%v later it was said %d times, want %d:\n%s", tc.later, n, tc.want, &r.log)
		}
	}
}

// TestMetricsTellWhenCertificatesEnd of the server's own CA, and from files.
func TestMetricsTellWhenCertificatesEnd(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	r := start(t, testConfig(t, func(c *Config) { c.Metadata.TLS.CertFile, c.Metadata.TLS.KeyFile = ca.files(nil) }))
	_, text := r.get("http://" + r.Ops + "/metrics")
	for of, within := range map[string]time.Duration{"metadata": time.Hour, "admission": 365 * 24 * time.Hour, "ca": 10 * 365 * 24 * time.Hour} {
		_, rest, found := strings.Cut(text, `gatehouse_certificate_expiry_timestamp_seconds{certificate="`+of+`"} `)
		value, err := strconv.ParseFloat(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]), 64)
		if left := time.Until(time.Unix(int64(value), 0)); !found || err != nil || left > within || left < within-10*time.Minute {
			t.Errorf("%s ends in %v, %v; want %v", of, left, err, within)
		}
	}
	if !strings.Contains(text, "\ngatehouse_ca_roots 1\n") {
		t.Error("the roots are not counted")
	}
}
