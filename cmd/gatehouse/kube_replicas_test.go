package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// TestNothingStandsInTheWayOfAnAPIServer: three gates behind one address are restarted
// one by one, and their CA is replaced, while the metadata service is dead, under a
// steady stream of pods. The webhook fails closed, and no request fails. Then the service
// is back, and what is changed there is in force in every gate.
func TestNothingStandsInTheWayOfAnAPIServer(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a Kubernetes control plane is not started in short mode")
	}
	c := startCluster(t)
	c.attest("app")
	address := c.server.Metadata
	caDir := filepath.Join(c.dir, "ca")
	b := newBalancer(t)
	names := []string{"one", "two", "three"}
	startGate := func(name string) {
		b.put(name, c.gate(name, "--drain-delay", drainDelay.String(), "--drain-timeout", "5s", "--ca-dir", caDir))
	}
	for _, name := range names {
		startGate(name)
	}
	kube := controlplane.New(t, controlplane.Options{AdmissionOnly: true})
	register := func() {
		t.Helper()
		bundle, err := os.ReadFile(filepath.Join(caDir, "ca.crt"))
		if err != nil {
			t.Fatal(err)
		}
		if err := kube.RegisterWebhook(t.Context(), "imagepolicywebhook.image-policy.k8s.io", "https://"+b.address()+"/validate", bundle); err != nil {
			t.Fatal(err)
		}
	}
	register()
	for _, name := range names {
		until(t, "there is a copy of "+name, func() bool {
			_, err := os.Stat(filepath.Join(c.dir, name, "gate", "evidence.generation"))
			return err == nil
		})
	}

	c.server.kill()
	pods := streamPods(t, kube)
	pods.more(50)
	restart := func(name string) {
		t.Helper()
		took := b.get(name).terminateWithin(t, 2*time.Minute)
		t.Logf("%s took %v to drain, after %d pods", name, took, pods.let.Load())
		startGate(name)
		pods.more(50)
	}
	for _, name := range names {
		restart(name)
	}
	before := b.issuers(t)
	if code := run(t.Context(), []string{"ca", "rotate", "--ca-dir", caDir, "--overlap", "3s"}, nil, io.Discard, os.Stderr); code != exitYes {
		t.Fatalf("gatehouse ca rotate: exit status %d", code)
	}
	restart("one") // whose certificate is of the new root, which nobody has been given
	restart("two") // so that there are connections to one
	register()     // with both roots
	until(t, "the new root issues in every gate", func() bool { return !slices.Contains(b.issuers(t), before[0]) })
	pods.more(50)
	until(t, "the old root has left the bundle", func() bool {
		text, err := os.ReadFile(filepath.Join(caDir, "ca.crt"))
		return err == nil && strings.Count(string(text), "BEGIN") == 1
	})
	register() // with the new one alone
	restart("two")
	pods.stop()
	if pods.let.Load() == 0 || pods.denied.Load() == 0 {
		t.Errorf("%d pods were let in, and %d denied", pods.let.Load(), pods.denied.Load())
	}
	t.Logf("%d pods were let in and %d denied while the service was dead, gates were restarted five times, and the CA was replaced; the slowest took %v", pods.let.Load(), pods.denied.Load(), time.Duration(pods.slowest.Load()))

	c.startServer(address)
	gates := b.all()
	for _, g := range gates {
		g.client = trusting(t, g.CA)
		until(t, "the gate follows the service", func() bool { code, text := g.ops("/readyz"); return code == http.StatusOK && text == "ok\n" })
	}
	inForce := func(what, name string, allowed bool, write func()) {
		t.Helper()
		write()
		took := until(t, what, func() bool {
			return !slices.ContainsFunc(gates, func(g *gateProcess) bool { return g.ask(name).Allowed != allowed })
		})
		t.Logf("%s, in every gate: %v after its write", what, took)
		if status, said := createPod(t, kube, imageOf(name)); (status == http.StatusCreated) != allowed {
			t.Errorf("%s, and the API server says %d %s", what, status, said)
		}
	}
	own := c.signer
	for range 3 {
		inForce("a policy that lets everything in", "other", true, func() { c.policy("ALWAYS_ALLOW") })
		inForce("a policy that wants an attestation", "other", false, func() { c.policy("REQUIRE_ATTESTATION") })
		inForce("an attestor with another key", "app", false, func() { c.putAttestor(newSigner(t)) })
		inForce("the attestor with its key", "app", true, func() { c.putAttestor(own) })
	}
}

func newSigner(t *testing.T) signature.Signer {
	t.Helper()
	pem, err := signature.GeneratePKIX("ECDSA_P256_SHA256", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.ParsePKIXSigner(pem, "ECDSA_P256_SHA256", "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// terminateWithin stops a process as Kubernetes does, and returns how long that took.
func (p *serveProcess) terminateWithin(t *testing.T, grace time.Duration) time.Duration {
	t.Helper()
	begun := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), grace)
	defer cancel()
	context.AfterFunc(ctx, func() { _ = p.cmd.Process.Kill() })
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("stopping: %v\n%s", err, p.stderr)
	}
	return time.Since(begun).Round(time.Millisecond)
}

// A balancer is what a Service of Kubernetes is: each new connection goes to one of the
// gates that have been seen to be ready, and stays with it.
type balancer struct {
	listener net.Listener

	mu    sync.Mutex
	gates map[string]*gateProcess
	ready []string // addresses
	next  int
}

// probeEvery is how often it is asked whether a gate is ready, and drainDelay what that
// and the rest take at the most.
const probeEvery, drainDelay = 250 * time.Millisecond, time.Second

func newBalancer(t *testing.T) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{listener: l, gates: map[string]*gateProcess{}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { b.forward(ctx, conn.(*net.TCPConn)) })
		}
	})
	wg.Go(func() {
		for tick := time.NewTicker(probeEvery); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				b.probe()
			}
		}
	})
	t.Cleanup(func() { cancel(); _ = l.Close(); wg.Wait() })
	return b
}

func (b *balancer) address() string { return b.listener.Addr().String() }

// put adds a gate that is ready, or replaces it.
func (b *balancer) put(name string, g *gateProcess) {
	b.mu.Lock()
	b.gates[name] = g
	b.mu.Unlock()
	b.probe()
}

func (b *balancer) get(name string) *gateProcess {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gates[name]
}

func (b *balancer) all() []*gateProcess {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []*gateProcess
	for _, g := range b.gates {
		all = append(all, g)
	}
	return all
}

func (b *balancer) probe() {
	var ready []string
	for _, g := range b.all() {
		if code, _ := g.ops("/readyz"); code == http.StatusOK {
			ready = append(ready, g.Admission)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ready = ready
}

// forward passes on what both ends say, and that they hang up.
func (b *balancer) forward(ctx context.Context, from *net.TCPConn) {
	defer from.Close()
	b.mu.Lock()
	if len(b.ready) == 0 {
		b.mu.Unlock()
		return
	}
	b.next++
	address := b.ready[b.next%len(b.ready)]
	b.mu.Unlock()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return // the API server tells
	}
	to := conn.(*net.TCPConn)
	defer to.Close()
	defer context.AfterFunc(ctx, func() { _, _ = from.Close(), to.Close() })()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(to, from); _ = to.CloseWrite() })
	wg.Go(func() { _, _ = io.Copy(from, to); _ = from.CloseWrite() })
	wg.Wait()
}

// issuers returns which root has issued what each gate serves.
func (b *balancer) issuers(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, g := range b.all() {
		conn, err := tls.Dial("tcp", g.Admission, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, conn.ConnectionState().PeerCertificates[0].Issuer.CommonName)
		_ = conn.Close()
	}
	return all
}

// pods is a steady stream of pods that are created.
type pods struct {
	t            *testing.T
	let, denied  atomic.Int64
	slowest      atomic.Int64 // nanoseconds
	stopping     context.CancelFunc
	workers      sync.WaitGroup
	failedEnough atomic.Int64
}

// Pods come as many at a time, so that the API server needs as many connections: a
// hundred a second.
const podsAtOnce, podsEvery = 20, 200 * time.Millisecond

// streamPods creates pods until it is stopped: nine of an image that is attested, and
// one of an image that nobody knows. What is not answered by a verdict fails the test.
func streamPods(t *testing.T, kube *controlplane.ControlPlane) *pods {
	ctx, cancel := context.WithCancel(t.Context())
	p := &pods{t: t, stopping: cancel}
	turn := make(chan int)
	p.workers.Go(func() {
		defer close(turn)
		tick := time.NewTicker(podsEvery)
		defer tick.Stop()
		for n := 0; ; n++ {
			if n%podsAtOnce == 0 {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
			turn <- n
		}
	})
	for range podsAtOnce {
		p.workers.Go(func() {
			for n := range turn {
				p.create(kube, n)
			}
		})
	}
	t.Cleanup(p.stop)
	return p
}

func (p *pods) create(kube *controlplane.ControlPlane, n int) {
	begun, want, counter := time.Now(), http.StatusCreated, &p.let
	name := "app"
	if n%10 == 9 {
		name, want, counter = fmt.Sprint("unknown ", n), http.StatusServiceUnavailable, &p.denied
	}
	status, said := createPod(p.t, kube, imageOf(name))
	if status != want || want != http.StatusCreated && !strings.Contains(said, "denied the request") {
		if p.failedEnough.Add(1) < 5 {
			p.t.Errorf("pod %d of %s: %d %s", n, name, status, said)
		}
		return
	}
	counter.Add(1)
	for took := int64(time.Since(begun)); ; {
		if slowest := p.slowest.Load(); took <= slowest || p.slowest.CompareAndSwap(slowest, took) {
			return
		}
	}
}

// more waits until so many more pods have been let in.
func (p *pods) more(n int64) {
	p.t.Helper()
	want := p.let.Load() + n
	until(p.t, "pods are let in", func() bool { return p.let.Load() >= want })
}

func (p *pods) stop() {
	p.stopping()
	p.workers.Wait()
}

// createPod creates a pod of an image, and returns what the API server says of it.
func createPod(t *testing.T, kube *controlplane.ControlPlane, ref string) (status int, said string) {
	body := fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"web-"},"spec":{"containers":[{"name":"main","image":%q}]}}`, ref)
	status, response, err := kube.Do(context.WithoutCancel(t.Context()), http.MethodPost, "/api/v1/namespaces/default/pods", json.RawMessage(body))
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	var answer struct{ Message string }
	_ = json.Unmarshal(response, &answer) // a pod has none
	return status, answer.Message
}
