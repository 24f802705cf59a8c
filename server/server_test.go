package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/gatetest/registry"
	"github.com/gatehouse-dev/gatehouse/gatetest/review"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/internal/durable"
)

const enforced = `defaultAdmissionRule:
  evaluationMode: REQUIRE_ATTESTATION
  enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG
  requireAttestationsBy:
  - projects/default/attestors/nobody
`

const openPolicy = "defaultAdmissionRule: {evaluationMode: ALWAYS_ALLOW, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}\n"

// running is a server under test and a client of each of its parts.
type running struct {
	t    testing.TB
	data string
	Addresses
	gate *http.Client
	stop func() error
}

func testConfig(t *testing.T, change func(*Config)) Config {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Data = filepath.Join(t.TempDir(), "data")
	for _, addr := range []*string{&cfg.Metadata.Address, &cfg.Attestor.Address, &cfg.Admission.Address, &cfg.Ops.Address} {
		*addr = "127.0.0.1:0"
	}
	if change != nil {
		change(&cfg)
	}
	return cfg
}

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// start runs a server until the test ends, or stop is called.
func start(t *testing.T, cfg Config) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	started, ended := make(chan Addresses, 1), make(chan error, 1)
	go func() {
		ended <- Run(ctx, cfg, discard(), func(a Addresses) error { started <- a; return nil })
	}()
	r := &running{t: t, data: cfg.Data}
	var stopped bool
	r.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-ended
	}
	select {
	case r.Addresses = <-started:
	case err := <-ended:
		cancel()
		t.Fatalf("the server ended: %v", err)
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	if r.CA != "" { // a controller has none
		r.gate = gateClient(t, r.CA)
	}
	return r
}

func gateClient(t testing.TB, caFile string) *http.Client {
	t.Helper()
	ca, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		t.Fatalf("no certificate in %s", caFile)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// ask sends a review and returns whether it was allowed, and what was said.
func (r *running) ask(body []byte) (bool, string) {
	r.t.Helper()
	return askGate(r.t, r.gate, "https://"+r.Admission, body)
}

func askGate(t testing.TB, client *http.Client, base string, body []byte) (bool, string) {
	t.Helper()
	resp, err := client.Post(base+"/validate?timeout=5s", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Response struct {
			Allowed  bool
			Status   struct{ Message string }
			Warnings []string
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	return answer.Response.Allowed, answer.Response.Status.Message + strings.Join(answer.Response.Warnings, "\n")
}

func (r *running) get(url string) (int, string) {
	r.t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// check asks the attestor, and fails the test unless the answer is want.
func (r *running) check(ref image.Reference, name string, want bool) string {
	r.t.Helper()
	resp, err := http.Post("http://"+r.Attestor+"/"+name, "application/json", strings.NewReader(fmt.Sprintf(`{"image_url":%q}`, ref)))
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	var answer struct{ Success bool }
	if err := json.Unmarshal(text, &answer); err != nil || answer.Success != want {
		r.t.Fatalf("%s of %s: want success %v, got %s %s", name, ref, want, resp.Status, text)
	}
	return string(text)
}

// push puts an image of a user into a registry.
func push(t testing.TB, user string) image.Reference {
	t.Helper()
	img, err := registry.Image(registry.ImageOptions{User: user})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := registry.New(t).Push(t.Context(), "shop/web", img)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestTheWholeRoad(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, func(c *Config) {
		c.Admission.PolicyFiles = []string{write(t, filepath.Join(t.TempDir(), "policy.yaml"), enforced)}
	}))
	good, root := push(t, "65532"), push(t, "")
	pod := func(ref image.Reference) []byte {
		return review.Pod("shop", "web").Image("main", ref.String()).Review()
	}

	if allowed, message := r.ask(pod(good)); allowed || !strings.Contains(message, "gatehouse check --check nobody "+good.String()) {
		t.Errorf("before it is checked: allowed %v: %s", allowed, message)
	}
	r.check(good, "nobody", true)
	// At once: what was attested before the request counts.
	if allowed, message := r.ask(pod(good)); !allowed {
		t.Errorf("attested, and refused: %s", message)
	}
	if text := r.check(root, "nobody", false); !strings.Contains(text, "root") {
		t.Errorf("the answer does not say why: %s", text)
	}
	if allowed, _ := r.ask(pod(root)); allowed {
		t.Error("an image that runs as root was let in")
	}
	if code, _ := r.get("http://" + r.Ops + "/readyz"); code != http.StatusOK {
		t.Errorf("readyz %d", code)
	}
	if _, text := r.get("http://" + r.Ops + "/metrics"); !strings.Contains(text, `gatehouse_admission_decisions_total{dry_run="false",override="",resource="pods",verdict="DENY"} 2`) {
		t.Errorf("metrics: %s", text)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	var verdicts []string
	if err := audit.Query(filepath.Join(r.data, "audit"), audit.Filter{}, func(rec audit.Record) error {
		if rec.Event == "policy" {
			verdicts = append(verdicts, rec.Event)
			return nil
		}
		verdicts = append(verdicts, rec.Decision.Verdict.String())
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(verdicts, " "); got != "policy DENY ALLOW DENY" {
		t.Errorf("recorded %s", got)
	}
}

func TestAttestationsKeysAndCAOutliveARestart(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, func(c *Config) {
		c.Admission.PolicyFiles = []string{write(t, filepath.Join(t.TempDir(), "policy.yaml"), enforced)}
	})
	first := start(t, cfg)
	ref := push(t, "65532")
	first.check(ref, "nobody", true)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	second := start(t, cfg)
	second.gate = first.gate // trusts the CA of before
	if allowed, message := second.ask(review.Pod("shop", "web").Image("main", ref.String()).Review()); !allowed {
		t.Errorf("refused: %s", message)
	}
}

func TestASecondServerOnTheSameDataIsRefused(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, nil)
	start(t, cfg)
	err := Run(t.Context(), cfg, discard(), func(Addresses) error { return errors.New("it started") })
	if err == nil || !strings.Contains(err.Error(), "metadata.db") {
		t.Errorf("got %v", err)
	}
}

func TestPolicyFilesAreWatched(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	policyFile := write(t, filepath.Join(dir, "policy.yaml"), enforced)
	r := start(t, testConfig(t, func(c *Config) { c.Admission.PolicyFiles = []string{policyFile} }))
	pod := review.Pod("shop", "web").Image("main", "reg.test/app@"+image.DigestOf([]byte("x")).String()).Review()
	eventually := func(what string, done func() bool) {
		t.Helper()
		deadline, tick := time.After(30*time.Second), time.NewTicker(20*time.Millisecond)
		defer tick.Stop()
		for !done() {
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("never: %s", what)
			}
		}
	}
	allowed := func() bool { ok, _ := r.ask(pod); return ok }
	metric := func(line string) func() bool {
		return func() bool {
			_, text := r.get("http://" + r.Ops + "/metrics")
			return strings.Contains(text, line)
		}
	}
	if allowed() {
		t.Fatal("let in without an attestation")
	}
	write(t, policyFile, openPolicy)
	eventually("the new policy is in force", allowed)
	write(t, policyFile, "defaultAdmissionRule: {evaluationMode: ALWAYS_DENI}\n")
	eventually("the broken policy is reported", metric("\ngatehouse_policy_stale 1\n"))
	if !allowed() {
		t.Error("a broken policy replaced the last good one")
	}
	if err := os.Remove(policyFile); err != nil {
		t.Fatal(err)
	}
	eventually("the missing policy is reported", metric(`gatehouse_policy_reloads_total{result="error"} 2`))
	if !allowed() {
		t.Error("a missing policy replaced the last good one")
	}
	write(t, policyFile, enforced)
	write(t, policyFile, openPolicy) // as before it was removed: nothing to compile, and no alarm
	eventually("it is not stale when it is back", metric("\ngatehouse_policy_stale 0\n"))
	write(t, policyFile, enforced)
	eventually("the mended policy is in force", func() bool { return !allowed() })
	eventually("it is not stale", metric("\ngatehouse_policy_stale 0\n"))
}

func TestNoPolicyObserves(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	allowed, message := r.ask(review.Pod("shop", "web").Image("main", "nginx").Review())
	if !allowed || !strings.Contains(message, "no policy") {
		t.Errorf("allowed %v, said %q", allowed, message)
	}
}

// TestTheGateNeedsNeitherStoreNorRegistry takes both away under a warm index.
func TestTheGateNeedsNeitherStoreNorRegistry(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, func(c *Config) {
		c.Admission.PolicyFiles = []string{write(t, filepath.Join(t.TempDir(), "policy.yaml"), enforced)}
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

	// The same server again, put together by hand, so that its store can be closed.
	p := newParts(cfg, discard())
	t.Cleanup(func() { _ = p.close() })
	background, cancel := context.WithCancel(t.Context())
	if err := p.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	followed := make(chan error, 1)
	go func() { followed <- p.index.Run(background) }()
	t.Cleanup(func() {
		cancel()
		if err := <-followed; err != nil {
			t.Error(err)
		}
	})
	if err := p.index.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	gate := httptest.NewServer(p.admission.server.Handler)
	t.Cleanup(gate.Close)
	if err := p.store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := readOccurrences(t.Context(), p); err == nil {
		t.Fatal("the store still answers")
	}
	ask := func() {
		t.Helper()
		for text, want := range map[string]bool{
			ref.String():      true,
			ref.Name() + ":1": false,
			ref.Name() + "@" + image.DigestOf([]byte("other")).String(): false,
		} {
			allowed, message := askGate(t, gate.Client(), gate.URL, review.Pod("shop", "web").Image("main", text).Review())
			if allowed != want {
				t.Errorf("%s: allowed %v, want %v: %s", text, allowed, want, message)
			}
		}
	}
	asked := reg.Requests()
	ask()
	if n := reg.Requests() - asked; n != 0 {
		t.Errorf("the registry was asked %d times", n)
	}
	if err := reg.Close(); err != nil {
		t.Fatal(err)
	}
	ask()
}

func readOccurrences(ctx context.Context, p *parts) (int, uint64, error) {
	n := 0
	changes, err := p.service.Changes(ctx, 0, 10)
	if err == nil {
		n = len(changes)
	}
	return n, p.service.Head(), err
}
