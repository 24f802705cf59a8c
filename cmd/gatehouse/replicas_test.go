package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/postgres"
	"github.com/gatehouse-dev/gatehouse/gatetest/review"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// A cluster is a server and gates that follow it, each a process of its own.
type cluster struct {
	t      testing.TB
	dir    string
	store  []string // flags
	server *serveProcess
	signer signature.Signer
}

func startCluster(t testing.TB, store ...string) *cluster {
	t.Helper()
	pem, err := signature.GeneratePKIX("ECDSA_P256_SHA256", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, dir: t.TempDir(), store: store}
	if c.signer, err = signature.ParsePKIXSigner(pem, "ECDSA_P256_SHA256", ""); err != nil {
		t.Fatal(err)
	}
	c.startServer("127.0.0.1:0")
	c.do("POST", "notes?noteId=vetted", `{"attestation":{"hint":{"humanReadableName":"vetted"}}}`)
	c.do("POST", "attestors?attestorId=vetted", c.attestor(c.signer))
	c.policy("REQUIRE_ATTESTATION")
	return c
}

// attestor describes the attestor, with the key of a signer.
func (c *cluster) attestor(s signature.Signer) string {
	c.t.Helper()
	key, err := json.Marshal(s.PublicKey().Marshal())
	if err != nil {
		c.t.Fatal(err)
	}
	return fmt.Sprintf(`{"userOwnedGrafeasNote":{"noteReference":"projects/default/notes/vetted","publicKeys":[
		{"id":%q,"pkixPublicKey":{"publicKeyPem":%s,"signatureAlgorithm":"ECDSA_P256_SHA256"}}]}}`, s.KeyID(), key)
}

// putAttestor replaces the key of the attestor.
func (c *cluster) putAttestor(s signature.Signer) {
	c.t.Helper()
	c.do("PUT", "attestors/vetted", c.attestor(s))
}

func (c *cluster) startServer(addr string) {
	c.t.Helper()
	c.server = startServe(c.t, append([]string{"--data", filepath.Join(c.dir, "server"), "--metadata-addr", addr}, c.store...)...)
}

// gate starts a gate, or starts it again in its folder.
func (c *cluster) gate(name string, more ...string) *gateProcess {
	c.t.Helper()
	config := filepath.Join(c.dir, "gate.yaml")
	if err := os.WriteFile(config, []byte("admission: {feed: {copyInterval: 100ms}}\n"), 0o600); err != nil {
		c.t.Fatal(err)
	}
	p := startServe(c.t, append([]string{
		"--config", config, "--role", "admission", "--data", filepath.Join(c.dir, name), "--gate", name, "--feed-server", "http://" + c.server.Metadata,
	}, more...)...)
	return &gateProcess{p, c.t, trusting(c.t, p.CA)}
}

func (c *cluster) do(method, path, body string) string {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, "http://"+c.server.Metadata+"/v1/projects/default/"+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		c.t.Fatalf("%s %s: %s %s %v", method, path, resp.Status, text, err)
	}
	return string(text)
}

func (c *cluster) policy(mode string) {
	c.t.Helper()
	by := ""
	if mode == "REQUIRE_ATTESTATION" {
		by = `,"requireAttestationsBy":["projects/default/attestors/vetted"]`
	}
	c.do("PUT", "policy", `{"defaultAdmissionRule":{"evaluationMode":"`+mode+`","enforcementMode":"ENFORCED_BLOCK_AND_AUDIT_LOG"`+by+`}}`)
}

func imageOf(name string) string { return "reg.test/app@" + image.DigestOf([]byte(name)).String() }

// attest signs an image and returns the name of the occurrence.
func (c *cluster) attest(name string) string {
	c.t.Helper()
	payload := signature.NewPayload("reg.test/app", image.DigestOf([]byte(name)), signature.TypeBinauthz)
	sig, err := c.signer.Sign(c.t.Context(), payload)
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{
		"resourceUri": "https://" + imageOf(name), "noteName": "projects/default/notes/vetted",
		"attestation": map[string]any{"serializedPayload": payload, "signatures": []any{map[string]any{"signature": sig, "publicKeyId": c.signer.KeyID()}}},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	var o struct{ Name string }
	if err := json.Unmarshal([]byte(c.do("POST", "occurrences", string(body))), &o); err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimPrefix(o.Name, "projects/default/")
}

// A gateProcess is a gate and a client of it.
type gateProcess struct {
	*serveProcess
	t      testing.TB
	client *http.Client
}

// answer is what a gate says of a pod.
type answer struct {
	Allowed bool
	Status  struct {
		Code    int
		Message string
	}
}

func (g *gateProcess) try(name string) (answer, error) {
	return g.post(review.Pod("shop", "web").Image("main", imageOf(name)).Review())
}

// judge has the gate answer a review.
func (g *gateProcess) judge(body []byte) answer {
	g.t.Helper()
	a, err := g.post(body)
	if err != nil {
		g.t.Fatalf("%v\n%s", err, g.stderr)
	}
	return a
}

func (g *gateProcess) post(body []byte) (answer, error) {
	resp, err := g.client.Post("https://"+g.Admission+"/validate?timeout=5s", "application/json", bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	var a struct{ Response answer }
	return a.Response, json.NewDecoder(resp.Body).Decode(&a)
}

func (g *gateProcess) ask(name string) answer {
	g.t.Helper()
	a, err := g.try(name)
	if err != nil {
		g.t.Fatalf("%v\n%s", err, g.stderr)
	}
	return a
}

func (g *gateProcess) ops(path string) (int, string) {
	resp, err := http.Get("http://" + g.Ops + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

// terminate stops a process as Kubernetes does.
func (p *serveProcess) terminate(t testing.TB) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	context.AfterFunc(ctx, func() { _ = p.cmd.Process.Kill() })
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("stopping: %v\n%s", err, p.stderr)
	}
}

// until demands that something comes about, and returns how long that took.
func until(t testing.TB, what string, done func() bool) time.Duration {
	t.Helper()
	deadline, tick, begun := time.After(30*time.Second), time.NewTicker(2*time.Millisecond), time.Now()
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
	return time.Since(begun)
}

// TestReplicasOverSQLite and TestReplicasOverPostgreSQL: three gates in processes of
// their own decide by what one server tells them, and go on when it is killed.
func TestReplicasOverSQLite(t *testing.T) {
	t.Parallel()
	testReplicas(t, startCluster(t))
}

func TestReplicasOverPostgreSQL(t *testing.T) {
	t.Parallel()
	connection := filepath.Join(t.TempDir(), "connection")
	if err := os.WriteFile(connection, []byte(postgres.Database(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	testReplicas(t, startCluster(t, "--postgres-connection-file", connection))
}

func testReplicas(t *testing.T, c *cluster) {
	gates := []*gateProcess{c.gate("one"), c.gate("two"), c.gate("three")}
	all := func(what, name string, allowed bool) {
		t.Helper()
		took := until(t, what, func() bool {
			for _, g := range gates {
				if g.ask(name).Allowed != allowed {
					return false
				}
			}
			return true
		})
		t.Logf("%s, in all replicas: after %v", what, took)
	}
	for _, g := range gates {
		if a := g.ask("app"); a.Allowed || a.Status.Code != http.StatusForbidden {
			t.Fatalf("what is not attested: %+v", a)
		}
	}
	occurrence := c.attest("app")
	for _, g := range gates {
		if a := g.ask("app"); !a.Allowed { // asked right after the answer, and never denied
			t.Errorf("attested a moment ago: %+v", a)
		}
	}
	c.do("DELETE", occurrence, "")
	all("an attestation that was taken back does not count", "app", false)
	c.policy("ALWAYS_ALLOW")
	all("a policy that lets everything in is in force", "other", true)
	c.policy("REQUIRE_ATTESTATION")
	all("a policy that requires an attestation is in force", "other", false)
	c.attest("app")
	for _, g := range gates { // and not only in answers to questions, which are of their moment
		until(t, "the attestation has arrived", func() bool { return g.metric("gatehouse_evidence_digests") == "1" })
	}
	all("the attestation has arrived", "app", true)
	lookups := gates[0].metric("gatehouse_feed_lookups_total{result=\"ok\"}")
	for range 20 {
		gates[0].ask("app")
	}
	if now := gates[0].metric("gatehouse_feed_lookups_total{result=\"ok\"}"); now != lookups {
		t.Errorf("what is in memory was asked for: %s look-ups, then %s", lookups, now)
	}

	// The copy has the attestation; then the server is killed.
	until(t, "the first gate has a copy of now", func() bool {
		info, err := os.Stat(filepath.Join(c.dir, "one", "gate", "evidence.copy"))
		return err == nil && time.Since(info.ModTime()) < 30*time.Second && gates[0].metric("gatehouse_evidence_lag_changes") == "0"
	})
	address := c.server.Metadata
	gates[2].terminate(t) // writes what it has
	c.server.kill()
	for _, g := range gates[:2] {
		if a := g.ask("app"); !a.Allowed {
			t.Errorf("attested, and the server is dead: %+v", a)
		}
		if a := g.ask("unknown"); a.Allowed || a.Status.Code != http.StatusServiceUnavailable {
			t.Errorf("not known, and the server is dead: %+v", a)
		}
		until(t, "the gate says that the server is away, and is ready", func() bool {
			code, text := g.ops("/readyz")
			return code == http.StatusOK && strings.Contains(text, "away")
		})
	}
	gates[2] = c.gate("three")
	if a := gates[2].ask("app"); !a.Allowed {
		t.Errorf("started from its copy: %+v\n%s", a, gates[2].stderr)
	}
	if code, text := gates[2].ops("/readyz"); code != http.StatusOK || !strings.Contains(text, "the copy of") {
		t.Errorf("started from its copy: readiness %d %q", code, text)
	}
	fresh := c.launch("four")
	if code, _ := fresh.ops("/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("a gate without a copy is ready: %d", code)
	}

	c.startServer(address)
	c.attest("later")
	all("what was attested after the restart has arrived", "later", true)
	until(t, "the gate that had nothing is ready", func() bool { code, _ := fresh.ops("/readyz"); return code == http.StatusOK })
	until(t, "the gate that started from its copy follows", func() bool { code, text := gates[2].ops("/readyz"); return code == http.StatusOK && text == "ok\n" })
	for _, g := range gates {
		if n := g.metric("gatehouse_feed_resets_total"); n != "0" {
			t.Errorf("%s resets", n)
		}
	}
}

// metric returns the value of a metric, "" if there is none.
func (g *gateProcess) metric(name string) string {
	_, text := g.ops("/metrics")
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			return value
		}
	}
	return ""
}

// launch starts a gate that cannot be ready yet, at a port that is known beforehand.
func (c *cluster) launch(name string) *gateProcess {
	t := c.t
	t.Helper()
	ops := freePort(t)
	p := launchServe(t, "--role", "admission", "--data", filepath.Join(c.dir, name), "--gate", name, "--feed-server", "http://"+c.server.Metadata, "--ops-addr", ops)
	p.Ops = ops
	g := &gateProcess{p, t, nil}
	until(t, "the gate serves its health", func() bool { code, _ := g.ops("/healthz"); return code == http.StatusOK })
	return g
}

// TestRollingRestart: gates are replaced one by one under a stream of requests, which go
// to whatever gate is ready, and none fails.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	c.attest("app")
	var mu sync.Mutex
	gates := map[string]*gateProcess{}
	names := []string{"one", "two", "three"}
	for _, name := range names {
		gates[name] = c.gate(name, "--drain-delay", "500ms", "--drain-timeout", "1s")
	}
	// ready is what a Service of Kubernetes would send requests to, a little late.
	ready := map[string]*gateProcess{}
	look := func() {
		mu.Lock()
		defer mu.Unlock()
		for _, name := range names {
			if code, _ := gates[name].ops("/readyz"); code == http.StatusOK {
				ready[name] = gates[name]
			} else {
				delete(ready, name)
			}
		}
	}
	look()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for tick := time.NewTicker(50 * time.Millisecond); ; {
			select {
			case <-stop:
				return
			case <-tick.C:
				look()
			}
		}
	})
	var asked atomic.Int64
	for w := range 2 {
		wg.Go(func() {
			for i := w; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				mu.Lock()
				var g *gateProcess
				for n := range names {
					if g = ready[names[(i+n)%len(names)]]; g != nil {
						break
					}
				}
				mu.Unlock()
				a, err := g.try("app")
				if asked.Add(1); err != nil || !a.Allowed {
					t.Errorf("request %d: %+v, error %v", i, a, err)
					return
				}
			}
		})
	}
	for _, name := range names {
		old := gates[name]
		old.terminate(t)
		next := c.gate(name, "--drain-delay", "500ms", "--drain-timeout", "1s")
		mu.Lock()
		gates[name] = next
		mu.Unlock()
		look()
	}
	close(stop)
	wg.Wait()
	t.Logf("%d requests while three gates were replaced", asked.Load())
}
