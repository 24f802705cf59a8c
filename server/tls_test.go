package server

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

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

func TestACertificateIsReadAgainWhenItChanges(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	certFile, keyFile := ca.files(nil)
	c, err := openCertificate("certificate", certFile, keyFile, discard())
	if err != nil {
		t.Fatal(err)
	}
	serial := func() string { pair, _ := c.get(nil); return pair.Leaf.SerialNumber.String() }
	first := serial()
	newCert, newKey := ca.files(nil)
	replace := func(with, file string) {
		t.Helper()
		text, err := os.ReadFile(with)
		if err != nil {
			t.Fatal(err)
		}
		write(t, file, string(text))
	}
	if changed, err := c.read(); changed || err != nil {
		t.Errorf("unchanged: %v, %v", changed, err)
	}
	replace(newCert, certFile)
	if _, err := c.read(); err == nil || serial() != first {
		t.Errorf("half changed: %v, and serial %s", err, serial())
	}
	replace(newKey, keyFile)
	if changed, err := c.read(); !changed || err != nil || serial() == first {
		t.Errorf("changed: %v, %v, and serial %s", changed, err, serial())
	}
	if err := os.Remove(certFile); err != nil {
		t.Fatal(err)
	}
	if _, err := c.read(); err == nil || serial() == first {
		t.Errorf("gone: %v", err)
	}
}
