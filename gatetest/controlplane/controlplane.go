package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/internal/child"
)

const (
	// startBound ends a start whose context has no deadline. An idle machine
	// needs a few seconds, one at load 20 has been seen to need 20.
	startBound = 3 * time.Minute
	// pollEvery is how often a starting program is asked whether it is ready.
	pollEvery = 50 * time.Millisecond
	// stopGrace is what a program has to end in by itself. Its state is thrown
	// away, so nothing is lost when it is killed then.
	stopGrace = 5 * time.Second
)

// Options say what a control plane consists of. The zero value is etcd, the API
// server and the controller manager, in a temporary folder.
type Options struct {
	// AdmissionOnly leaves out the controller manager, and the ServiceAccount
	// admission plugin that depends on it. Controllers do not run: a Deployment
	// makes no pods.
	AdmissionOnly bool

	// Scheduler adds the scheduler. Nodes have to come from elsewhere.
	Scheduler bool

	// ImagePolicyWebhook, if it is given, is asked about each pod by the admission
	// plugin of that name.
	ImagePolicyWebhook *ImagePolicyWebhook

	// APIServerFlags are added to the flags of kube-apiserver, such as
	// "--feature-gates=ImageVolume=true".
	APIServerFlags []string

	// Dir receives state, keys and logs, and is kept. Two control planes must
	// not share it. When it is empty a temporary folder is used, and removed by
	// [ControlPlane.Stop].
	Dir string

	// Binary is the program to run; "" stands for the one that [Build] returns.
	Binary string

	// Logf receives progress lines; nil discards them.
	Logf func(format string, args ...any)
}

// A ControlPlane is a running Kubernetes control plane. Its methods may be
// called concurrently.
type ControlPlane struct {
	binary    string
	dir       string
	temporary bool
	url       string
	client    *http.Client

	stopOnce  sync.Once
	programs  []program        // in the order of their start
	processes []*child.Process // of them
	releases  []func()         // the port reservations
}

// New starts a control plane for a test and stops it when the test ends. It is
// skipped in short mode. What it cannot start fails the test.
func New(t testing.TB, opts Options) *ControlPlane {
	t.Helper()
	if testing.Short() {
		t.Skip("a Kubernetes control plane is not started in short mode")
	}
	if opts.Logf == nil {
		opts.Logf = t.Logf
	}
	cp, err := Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cp.Stop)
	return cp
}

// Start starts a control plane and returns when it is ready: the API server
// answers, and with a controller manager the namespace default has the
// ServiceAccount without which it refuses pods. The context bounds the start,
// not the life of the control plane: that is ended by [ControlPlane.Stop], or
// by the end of this process.
func Start(ctx context.Context, opts Options) (_ *ControlPlane, err error) {
	if opts.Logf == nil {
		opts.Logf = func(string, ...any) {}
	}
	c := &ControlPlane{binary: opts.Binary, dir: opts.Dir}
	if c.binary == "" {
		if c.binary, err = Build(ctx, opts.Logf); err != nil {
			return nil, err
		}
	}
	ctx, cancel := withStartBound(ctx)
	defer cancel()
	begin := time.Now()
	if err := c.start(ctx, opts); err != nil {
		c.Stop()
		return nil, fmt.Errorf("starting a Kubernetes control plane: %w", err)
	}
	opts.Logf("Kubernetes control plane at %s ready after %v", c.url, time.Since(begin).Round(time.Millisecond))
	return c, nil
}

func withStartBound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, startBound, fmt.Errorf("not ready within %v", startBound))
}

// A program is one of those that a control plane consists of.
type program struct {
	name  string
	flags []string
	// ready is what the API server answers once it runs; "" is not waited for.
	ready string
}

// Halt ends the programs, of which etcd is the last. What they have stored stays.
func (c *ControlPlane) Halt() {
	if c.client != nil {
		c.client.CloseIdleConnections()
	}
	// Clients before servers, or the clients wait for what is gone.
	for i := len(c.processes) - 1; i >= 0; i-- {
		c.processes[i].Stop(syscall.SIGTERM, stopGrace)
	}
	c.processes = nil
}

// Resume starts the programs again after [ControlPlane.Halt], with the same addresses,
// keys and state, and returns when they are ready. Neither may be called while anything
// else of the control plane is.
func (c *ControlPlane) Resume(ctx context.Context) error {
	ctx, cancel := withStartBound(ctx)
	defer cancel()
	for _, p := range c.programs {
		if err := c.launch(ctx, p); err != nil {
			return fmt.Errorf("resuming a Kubernetes control plane: %w", err)
		}
	}
	return nil
}

func (c *ControlPlane) start(ctx context.Context, opts Options) error {
	if err := c.makeDir(); err != nil {
		return err
	}
	var ports [3]int
	for i := range ports {
		port, release, err := reservePort()
		if err != nil {
			return err
		}
		ports[i] = port
		c.releases = append(c.releases, release)
	}
	etcdClient, etcdPeer, apiServer := ports[0], ports[1], ports[2]
	c.url = "https://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(apiServer))
	if err := c.writeCredentials(); err != nil {
		return err
	}
	if err := c.connect(); err != nil {
		return err
	}
	flags := c.apiServerFlags(apiServer, etcdClient, opts)
	if opts.ImagePolicyWebhook != nil {
		more, err := opts.ImagePolicyWebhook.configure(c)
		if err != nil {
			return err
		}
		flags = append(flags, more...)
	}
	c.programs = []program{{name: "etcd", flags: c.etcdFlags(etcdClient, etcdPeer)}, {name: "kube-apiserver", flags: flags, ready: "/readyz"}}
	if opts.Scheduler {
		c.programs = append(c.programs, program{name: "kube-scheduler", flags: c.clientFlags("scheduler")})
	}
	if !opts.AdmissionOnly {
		c.programs = append(c.programs, program{name: "kube-controller-manager", flags: c.controllerManagerFlags(), ready: "/api/v1/namespaces/default/serviceaccounts/default"})
	}
	for _, p := range c.programs {
		if err := c.launch(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (c *ControlPlane) makeDir() (err error) {
	if c.dir == "" {
		c.temporary = true
		c.dir, err = os.MkdirTemp("", "gatehouse-controlplane-")
		return err
	}
	if c.dir, err = filepath.Abs(c.dir); err != nil {
		return err
	}
	return os.MkdirAll(c.dir, 0o700)
}

// launch starts one of the programs, with its log in the control plane's folder.
func (c *ControlPlane) launch(ctx context.Context, p program) error {
	process, err := start(c.binary, p.name, c.path(p.name+".log"), p.flags...)
	if err != nil {
		return err
	}
	c.processes = append(c.processes, process)
	if p.ready == "" {
		return nil
	}
	return c.await(ctx, p.ready)
}

// await returns once a GET of path succeeds, or when a program or ctx ended.
func (c *ControlPlane) await(ctx context.Context, path string) error {
	last := errors.New("not asked yet")
	err := c.poll(ctx, func() (done bool) {
		status, body, err := c.Do(ctx, http.MethodGet, path, nil)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d: %.200s", status, body)
		}
		last = err
		return err == nil
	})
	if err != nil {
		return fmt.Errorf("waiting for %s: %w (the last answer: %w)", path, err, last)
	}
	return nil
}

// poll calls try every pollEvery until it returns true. It gives up when ctx
// ends, and when one of the programs does.
func (c *ControlPlane) poll(ctx context.Context, try func() bool) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for !try() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for _, p := range c.processes {
			select {
			case <-p.Done():
				return p.Failure()
			default:
			}
		}
	}
	return nil
}

// connect makes the client of an administrator.
func (c *ControlPlane) connect() error {
	ca, err := os.ReadFile(c.path("ca.crt"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	certificate, err := tls.LoadX509KeyPair(c.path("admin.crt"), c.path("admin.key"))
	if err != nil {
		return err
	}
	c.client = &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 16,
		TLSClientConfig: &tls.Config{
			MinVersion:   tls.VersionTLS12,
			RootCAs:      roots,
			Certificates: []tls.Certificate{certificate},
		},
	}}
	return nil
}

// writeCredentials writes the keys, certificates and kubeconfigs of everyone.
func (c *ControlPlane) writeCredentials() error {
	ca, err := newAuthority(c.dir)
	if err != nil {
		return err
	}
	names := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}
	addresses := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 0, 0, 1)}
	if err := ca.issueServer("apiserver", names, addresses); err != nil {
		return err
	}
	if err := ca.writeSigner("serviceaccount"); err != nil {
		return err
	}
	for _, who := range []struct{ name, user, group string }{
		{"admin", "admin", "system:masters"},
		{"controller-manager", "system:kube-controller-manager", ""},
		{"scheduler", "system:kube-scheduler", ""},
	} {
		var groups []string
		if who.group != "" {
			groups = []string{who.group}
		}
		if err := ca.issueClient(who.name, who.user, groups...); err != nil {
			return err
		}
		if err := c.writeKubeconfig(who.name); err != nil {
			return err
		}
	}
	return os.WriteFile(c.path("audit.yaml"), []byte(auditPolicy), 0o600)
}

// auditPolicy has the API server log who asked for which pod, and what the
// admission webhooks remarked.
const auditPolicy = `{
  "apiVersion": "audit.k8s.io/v1",
  "kind": "Policy",
  "rules": [
    {"level": "Metadata", "resources": [{"group": "", "resources": ["pods", "pods/ephemeralcontainers"]}]},
    {"level": "None"}
  ]
}
`

// writeKubeconfig writes NAME.kubeconfig, in the JSON that is also YAML.
func (c *ControlPlane) writeKubeconfig(name string) error {
	type object = map[string]any
	config, err := json.MarshalIndent(object{
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": "gatehouse-test",
		"clusters": []object{{"name": "gatehouse-test", "cluster": object{
			"server": c.url, "certificate-authority": c.path("ca.crt"),
		}}},
		"users": []object{{"name": name, "user": object{
			"client-certificate": c.path(name + ".crt"), "client-key": c.path(name + ".key"),
		}}},
		"contexts": []object{{"name": "gatehouse-test", "context": object{"cluster": "gatehouse-test", "user": name}}},
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(c.path(name+".kubeconfig"), config, 0o600)
}

func (c *ControlPlane) path(name string) string { return filepath.Join(c.dir, name) }

// Stop ends the programs and returns when they are gone. It may be called more
// than once.
func (c *ControlPlane) Stop() {
	c.stopOnce.Do(func() {
		c.Halt()
		for _, release := range c.releases {
			release()
		}
		if c.temporary {
			_ = os.RemoveAll(c.dir)
		}
	})
}

// start starts the binary as the program that name says.
func start(bin, name, log string, args ...string) (*child.Process, error) {
	cmd := exec.Command(bin, append([]string{name}, args...)...) //nolint:noctx // Stop ends it, SIGTERM first
	cmd.SysProcAttr = child.Attributes(syscall.SIGKILL)
	return child.Start(name, log, cmd)
}
