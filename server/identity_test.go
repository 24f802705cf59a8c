package server

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	grpcmetadata "google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/gatetest/registry"
	"github.com/gatehouse-dev/gatehouse/identity"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// authority issues certificates to a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  crypto.Signer
	path string // of its certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	a.cert = template
	der := a.sign(template, key.Public())
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.path = write(t, filepath.Join(t.TempDir(), "ca.pem"), pemOf("CERTIFICATE", der))
	return a
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// sign issues a certificate.
func (a *authority) sign(template *x509.Certificate, public crypto.PublicKey) []byte {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

func (a *authority) pool() *x509.CertPool { return poolOf(a.cert) }

// files writes a certificate and its key, for a server or for a client called name.
func (a *authority) files(client *url.URL) (certFile, keyFile string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "common"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if client != nil {
		template.URIs, template.ExtKeyUsage = []*url.URL{client}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	return a.write(a.sign(template, key.Public()), key)
}

// write writes a certificate and its key.
func (a *authority) write(der []byte, key crypto.Signer) (certFile, keyFile string) {
	a.t.Helper()
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	dir := a.t.TempDir()
	return write(a.t, filepath.Join(dir, "cert.pem"), pemOf("CERTIFICATE", der)), write(a.t, filepath.Join(dir, "key.pem"), pemOf("PRIVATE KEY", keyDER))
}

// spiffe is a client's name.
func spiffe(path string) *url.URL { return &url.URL{Scheme: "spiffe", Host: "test", Path: path} }

// tokens makes a file of callers, each with the token "token-of-NAME-…".
func tokens(t *testing.T, names ...string) string {
	t.Helper()
	var lines []string
	for _, name := range names {
		line, err := identity.TokenLine(name, tokenOf(name))
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	return write(t, filepath.Join(t.TempDir(), "tokens"), strings.Join(lines, "\n"))
}

func tokenOf(name string) string {
	return "token-of-" + strings.ReplaceAll(name, "@", ".") + "-0123456789"
}

// rest is a client of the REST face.
type rest struct {
	t      *testing.T
	client *http.Client
	base   string
}

func (c rest) do(token, method, path, body string) (code int, header http.Header, text string) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(raw)
}

func (c rest) expect(token, method, path, body string, code int, texts ...string) string {
	c.t.Helper()
	got, _, text := c.do(token, method, path, body)
	if got != code {
		c.t.Errorf("%s %s: status %d, want %d: %s", method, path, got, code, text)
	}
	for _, want := range texts {
		if !strings.Contains(text, want) {
			c.t.Errorf("%s %s: the answer lacks %q: %s", method, path, want, text)
		}
	}
	return text
}

func restOver(t *testing.T, r *running, config *tls.Config) rest {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return rest{t, &http.Client{Transport: transport}, "https://" + r.Metadata}
}

func dial(t *testing.T, target string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func as(ctx context.Context, name string) context.Context {
	return grpcmetadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+tokenOf(name))
}

// calls returns what was recorded; the server has stopped.
func calls(t *testing.T, data string) []audit.Call {
	t.Helper()
	var got []audit.Call
	err := audit.QueryCalls(filepath.Join(data, auditAPIDir), audit.CallFilter{}, func(c audit.Call) error { got = append(got, c); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return got
}

const attestation = `{"resourceUri":"https://reg.test/web@sha256:0123456789012345678901234567890123456789012345678901234567890123","noteName":"%",` +
	`"attestation":{"serializedPayload":"eA==","signatures":[{"signature":"eA==","publicKeyId":"k"}]}}`

// TestWhoeverMayAttachAttestsAndNobodyElse is the story of two projects on one
// server: whose token is good for what, and what is recorded of it.
func TestWhoeverMayAttachAttestsAndNobodyElse(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cfg := testConfig(t, func(c *Config) {
		c.Metadata.TLS.CertFile, c.Metadata.TLS.KeyFile = ca.files(nil)
		c.Identity = identity.Config{
			BearerTokensFile: tokens(t, "admin", "ci@shop", "scan@shop", "ci@bank"),
			Rules: []identity.Rule{
				{Caller: "admin", Project: "*", Roles: []string{"admin"}},
				{Caller: "ci@shop", Project: "shop", Roles: []string{"occurrences.editor", "notes.viewer"}},
				{Caller: "ci@shop", Project: "shop", Note: "tested", Roles: []string{"notes.attacher"}},
				{Caller: "scan@shop", Project: "shop", Roles: []string{"occurrences.editor"}},
				{Caller: "ci@bank", Project: "bank", Roles: []string{"editor"}},
			},
		}
	})
	r := start(t, cfg)
	c := restOver(t, r, &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS12})
	attest := strings.Replace(attestation, "%", "projects/shop/notes/tested", 1)
	for _, note := range []string{"/v1/projects/shop/notes?noteId=tested", "/v1/projects/shop/notes?noteId=approved", "/v1/projects/bank/notes?noteId=tested"} {
		c.expect(tokenOf("admin"), "POST", note, `{"attestation":{"hint":{"humanReadableName":"x"}}}`, http.StatusOK)
	}

	// Nobody, over REST and gRPC.
	code, header, text := c.do("", "POST", "/v1/projects/shop/occurrences", attest)
	if code != http.StatusUnauthorized || header.Get("WWW-Authenticate") != "Bearer" || !strings.Contains(text, "UNAUTHENTICATED") {
		t.Errorf("without a token: %d %q %s", code, header.Get("WWW-Authenticate"), text)
	}
	c.expect(tokenOf("ci@shop")+"x", "GET", "/v1/projects/shop/notes", "", http.StatusUnauthorized, "not known")
	rpc := dial(t, r.Metadata, credentials.NewTLS(&tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS12}))
	client := grafeas.NewGrafeasClient(rpc)
	_, err := client.GetNote(t.Context(), &grafeas.GetNoteRequest{Name: "projects/shop/notes/tested"})
	if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "no credentials") {
		t.Errorf("gRPC without a token: %v", err)
	}
	if _, err := grpc_health_v1.NewHealthClient(rpc).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Errorf("a health check: %v", err)
	}

	// Somebody who may write occurrences, and not attach.
	c.expect(tokenOf("scan@shop"), "POST", "/v1/projects/shop/occurrences", attest, http.StatusForbidden,
		"PERMISSION_DENIED", "notes.attachOccurrence", "projects/shop/notes/tested", "roles: [notes.attacher]")
	c.expect(tokenOf("scan@shop"), "POST", "/v1/projects/shop/occurrences:batchCreate", `{"occurrences":[`+attest+`]}`, http.StatusForbidden)
	// Nor to another note of the same project, or from another project.
	c.expect(tokenOf("ci@shop"), "POST", "/v1/projects/shop/occurrences", strings.Replace(attest, "tested", "approved", 1), http.StatusForbidden)
	c.expect(tokenOf("ci@bank"), "POST", "/v1/projects/bank/occurrences", attest, http.StatusForbidden, "projects/shop/notes/tested")
	c.expect(tokenOf("ci@bank"), "GET", "/v1/projects/shop/occurrences", "", http.StatusForbidden)
	c.expect(tokenOf("ci@shop"), "GET", "/v1/projects/bank/notes/tested", "", http.StatusForbidden)
	if text := c.expect(tokenOf("admin"), "GET", "/v1/projects/shop/occurrences", "", http.StatusOK); strings.Contains(text, `"name"`) {
		t.Errorf("something was stored: %s", text)
	}

	// Who may, over both.
	c.expect(tokenOf("ci@shop"), "POST", "/v1/projects/shop/occurrences", attest, http.StatusOK, `projects/shop/occurrences/`)
	if _, err := client.CreateOccurrence(as(t.Context(), "ci@shop"), &grafeas.CreateOccurrenceRequest{
		Parent: "projects/shop", Occurrence: &grafeas.Occurrence{
			NoteName: "projects/shop/notes/tested", ResourceUri: "https://reg.test/other@sha256:0123456789012345678901234567890123456789012345678901234567890123",
			Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
				SerializedPayload: []byte("x"), Signatures: []*grafeas.Signature{{Signature: []byte("x"), PublicKeyId: "k"}}}},
		},
	}); err != nil {
		t.Errorf("gRPC: %v", err)
	}
	page, err := client.ListOccurrences(as(t.Context(), "ci@shop"), &grafeas.ListOccurrencesRequest{Parent: "projects/shop"})
	if err != nil || len(page.GetOccurrences()) != 2 {
		t.Errorf("%d occurrences, %v", len(page.GetOccurrences()), err)
	}

	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	recorded := calls(t, cfg.Data)
	for _, want := range []audit.Call{
		{Method: "POST /v1/projects/shop/occurrences", Code: "UNAUTHENTICATED"},
		{Method: "GET /v1/projects/shop/notes", Code: "UNAUTHENTICATED"},
		{Method: "GetNote", Code: "UNAUTHENTICATED"},
		{Method: "CreateOccurrence", Caller: "scan@shop", Code: "PERMISSION_DENIED"},
		{Method: "BatchCreateOccurrences", Caller: "scan@shop", Code: "PERMISSION_DENIED"},
		{Method: "CreateOccurrence", Caller: "ci@bank", Code: "PERMISSION_DENIED"},
		{Method: "GetNote", Caller: "ci@shop", Code: "PERMISSION_DENIED"},
		{Method: "CreateOccurrence", Caller: "ci@shop", Code: "OK"},
	} {
		found := slices.IndexFunc(recorded, func(c audit.Call) bool {
			return c.Method == want.Method && c.Caller == want.Caller && c.Code == want.Code
		})
		if found < 0 {
			t.Errorf("no record of %+v in %+v", want, recorded)
		} else if !strings.HasPrefix(recorded[found].Origin, "127.0.0.1:") {
			t.Errorf("the record does not say from where: %+v", recorded[found])
		}
	}
	for _, c := range recorded {
		if strings.Contains(c.Error, "0123456789\"") || strings.Contains(c.Error, tokenOf("ci@shop")) {
			t.Errorf("a record shows a token: %+v", c)
		}
	}
}

func TestACallerWhoAsksTooOftenIsTold(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, func(c *Config) {
		c.Identity = identity.Config{
			BearerTokensFile: tokens(t, "ci", "other"), RequestsPerSecond: 0.01, Burst: 2,
			Rules: []identity.Rule{{Caller: "*", Project: "*", Roles: []string{"viewer"}}},
		}
	})
	r := start(t, cfg)
	c := rest{t, http.DefaultClient, "http://" + r.Metadata}
	for range 2 {
		c.expect(tokenOf("ci"), "GET", "/v1/projects/p/notes", "", http.StatusOK)
	}
	code, header, text := c.do(tokenOf("ci"), "GET", "/v1/projects/p/notes", "")
	if code != http.StatusTooManyRequests || header.Get("Retry-After") == "" || !strings.Contains(text, "try again in") {
		t.Errorf("%d, Retry-After %q: %s", code, header.Get("Retry-After"), text)
	}
	client := grafeas.NewGrafeasClient(dial(t, r.Metadata, insecure.NewCredentials()))
	if _, err := client.ListNotes(as(t.Context(), "ci"), &grafeas.ListNotesRequest{Parent: "projects/p"}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("gRPC: %v", err)
	}
	c.expect(tokenOf("other"), "GET", "/v1/projects/p/notes", "", http.StatusOK)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if got := calls(t, cfg.Data); !slices.ContainsFunc(got, func(c audit.Call) bool { return c.Caller == "ci" && c.Code == "RESOURCE_EXHAUSTED" }) {
		t.Errorf("no record of it in %+v", got)
	}
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	certFile, keyFile := ca.files(nil)
	load := func(a *authority, name *url.URL) []tls.Certificate {
		t.Helper()
		pair, err := tls.LoadX509KeyPair(a.files(name))
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{pair}
	}
	configure := func(change func(*identity.Config)) Config {
		return testConfig(t, func(c *Config) {
			c.Metadata.TLS = TLSConfig{CertFile: certFile, KeyFile: keyFile, ClientCAFile: ca.path}
			c.Identity = identity.Config{MTLS: true, Rules: []identity.Rule{{Caller: "spiffe://test/ci", Project: "shop", Roles: []string{"viewer"}}}}
			if change != nil {
				change(&c.Identity)
			}
		})
	}
	tlsConfig := func(certificates []tls.Certificate) *tls.Config {
		return &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS12, Certificates: certificates}
	}

	only := start(t, configure(nil))
	right := restOver(t, only, tlsConfig(load(ca, spiffe("/ci"))))
	right.expect("", "GET", "/v1/projects/shop/notes", "", http.StatusOK)
	right.expect("", "GET", "/v1/projects/bank/notes", "", http.StatusForbidden, `"spiffe://test/ci\"`)
	right.expect("some-token", "GET", "/v1/projects/shop/notes", "", http.StatusUnauthorized)
	restOver(t, only, tlsConfig(load(ca, spiffe("/eve")))).expect("", "GET", "/v1/projects/shop/notes", "", http.StatusForbidden)
	for name, certificates := range map[string][]tls.Certificate{"none": nil, "of another CA": load(other, spiffe("/ci")), "of a server": load(ca, nil)} {
		resp, err := restOver(t, only, tlsConfig(certificates)).client.Get("https://" + only.Metadata + "/v1/projects/shop/notes")
		if err == nil {
			_ = resp.Body.Close()
			t.Errorf("%s: %s", name, resp.Status)
		}
	}

	both := start(t, configure(func(c *identity.Config) {
		c.BearerTokensFile = tokens(t, "ada")
		c.Rules = append(c.Rules, identity.Rule{Caller: "ada", Project: "bank", Roles: []string{"viewer"}})
	}))
	right = restOver(t, both, tlsConfig(load(ca, spiffe("/ci"))))
	right.expect("", "GET", "/v1/projects/shop/notes", "", http.StatusOK)
	right.expect(tokenOf("ada"), "GET", "/v1/projects/bank/notes", "", http.StatusOK)
	right.expect("wrong", "GET", "/v1/projects/shop/notes", "", http.StatusUnauthorized)
	without := restOver(t, both, tlsConfig(nil))
	without.expect(tokenOf("ada"), "GET", "/v1/projects/bank/notes", "", http.StatusOK)
	without.expect("", "GET", "/v1/projects/shop/notes", "", http.StatusUnauthorized, "no client certificate")
}

// TestTheAttestorNeedsNoCredentials: it attests on a server that lets nobody in
// without a client certificate, and nobody else can be it.
func TestTheAttestorNeedsNoCredentials(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cfg := testConfig(t, func(c *Config) {
		c.Metadata.TLS.CertFile, c.Metadata.TLS.KeyFile = ca.files(nil)
		c.Metadata.TLS.ClientCAFile = ca.path
		c.Identity = identity.Config{MTLS: true, Rules: []identity.Rule{{Caller: "nobody", Project: "none", Roles: []string{"viewer"}}}}
	})
	r := start(t, cfg)
	reg := registry.New(t)
	img, err := registry.Image(registry.ImageOptions{User: "65532"})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := reg.Push(t.Context(), "shop/web:1", img)
	if err != nil {
		t.Fatal(err)
	}
	r.check(ref, "nobody", true)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if got := calls(t, cfg.Data); !slices.ContainsFunc(got, func(c audit.Call) bool {
		return c.Caller == identity.ReservedCaller && c.Method == "CreateOccurrence" && c.Code == "OK" &&
			slices.Contains(c.Permissions, metadata.NotesAttachOccurrence)
	}) {
		t.Errorf("no record of the attestation in %+v", got)
	}
}

func TestAUnixSocket(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "gh") // shorter than t.TempDir, for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "m.sock")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false) // as kill -9 leaves it
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t, func(c *Config) { c.Metadata.Address = "unix://" + path })
	r := start(t, cfg)
	if r.Metadata != "unix://"+path {
		t.Errorf("it says %q", r.Metadata)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	c := rest{t, &http.Client{Transport: transport}, "http://metadata"}
	c.expect("", "POST", "/v1/projects/p/notes?noteId=n", `{"secret":{}}`, http.StatusOK)
	client := grafeas.NewGrafeasClient(dial(t, "unix://"+path, insecure.NewCredentials()))
	if _, err := client.GetNote(t.Context(), &grafeas.GetNoteRequest{Name: "projects/p/notes/n"}); err != nil {
		t.Errorf("gRPC: %v", err)
	}

	second := testConfig(t, func(c *Config) { c.Metadata.Address = "unix://" + path })
	err = Run(t.Context(), second, discard(), func(Addresses) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "somebody listens") {
		t.Errorf("a second server at the socket: %v", err)
	}
	file := write(t, filepath.Join(dir, "file"), "precious")
	second = testConfig(t, func(c *Config) { c.Metadata.Address = "unix://" + file })
	err = Run(t.Context(), second, discard(), func(Addresses) error { return nil })
	if text, _ := os.ReadFile(file); err == nil || !strings.Contains(err.Error(), "is no socket") || string(text) != "precious" {
		t.Errorf("at a file: %v, and it has %q", err, text)
	}
	c.expect("", "GET", "/v1/projects/p/notes/n", "", http.StatusOK)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

// TestPagesOfOtherOriginsAreToldNothing: no answer allows another origin to read it.
func TestPagesOfOtherOriginsAreToldNothing(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	for _, tc := range []struct {
		method string
		want   func(code int) bool
	}{
		{http.MethodGet, func(code int) bool { return code == http.StatusOK }}, // the browser keeps the answer from the page
		{http.MethodPost, func(code int) bool { return code == http.StatusForbidden }},
		{http.MethodDelete, func(code int) bool { return code == http.StatusForbidden }},
		{http.MethodOptions, func(code int) bool { return code >= 400 }},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tc.method, "http://"+r.Metadata+"/v1/projects/p/notes", strings.NewReader(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", "https://evil.example")
		req.Header.Set("Access-Control-Request-Method", "POST")
		req.Header.Set("Access-Control-Request-Headers", "authorization")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if !tc.want(resp.StatusCode) {
			t.Errorf("%s: %s", tc.method, resp.Status)
		}
		for name := range resp.Header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: %s: %s", tc.method, name, resp.Header.Get(name))
			}
		}
	}
}
