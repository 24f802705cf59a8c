package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
	"github.com/gatehouse-dev/gatehouse/internal/clusterca"
	"github.com/gatehouse-dev/gatehouse/internal/durable"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
	"github.com/gatehouse-dev/gatehouse/internal/ownca"
)

// installed is a cluster whose certificates are kept, and a gate that has them from its
// Secret, as by a kubelet.
type installed struct {
	*cluster
	dir     string // of the gate's certificate
	address string
	lives   ownca.Lives
	issuer  clusterca.Issuer
	log     *journal
}

func newInstalled(t *testing.T) *installed {
	t.Helper()
	i := &installed{issuer: clusterca.Own, dir: t.TempDir(), address: free(t), log: newJournal()}
	i.cluster = &cluster{T: t, ControlPlane: controlplane.New(t, controlplane.Options{})}
	i.lives = ownca.Lives{
		Root: time.Hour, RenewRoot: time.Minute, Overlap: 3 * time.Second, Alone: time.Second, Ended: time.Minute,
		Leaf: 12 * time.Second, RenewLeaf: 8 * time.Second,
	}
	i.must("", "create", "namespace", "shop")
	i.must("", "create", "namespace", "gatehouse")
	i.must(i.configuration(), "apply", "-f", "-")
	return i
}

// configuration is as it is installed: without webhooks.
func (i *installed) configuration() string {
	webhooks := fmt.Sprintf(`- name: %s
  clientConfig: {url: "https://%s/validate"}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  failurePolicy: Fail
  sideEffects: NoneOnDryRun
  timeoutSeconds: 5
  admissionReviewVersions: [v1]
`, webhookName, i.address)
	return "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata:\n  name: gatehouse\n  annotations:\n    " +
		clusterca.WebhooksAnnotation + ": |\n      " + strings.ReplaceAll(strings.TrimSpace(webhooks), "\n", "\n      ") + "\n"
}

// keep runs a keeper until stop is called.
func (i *installed) keep() (stop func()) {
	i.Helper()
	client, err := kube.Open(kube.Options{Kubeconfig: i.Kubeconfig()})
	if err != nil {
		i.Fatal(err)
	}
	keeper := clusterca.New(clusterca.Options{
		Client: client, Namespace: "gatehouse", Name: "gatehouse", Issuer: i.issuer, Lives: i.lives, Settle: 2 * time.Second,
		Logger: slog.New(slog.NewTextHandler(i.log, nil)),
	})
	ctx, cancel := context.WithCancel(i.Context())
	ended := make(chan error, 1)
	go func() { ended <- keeper.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				i.Error(err)
			}
		})
	}
	i.Cleanup(stop)
	return stop
}

// secret returns what is in a Secret, nil if there is none.
func (i *installed) secret(name string) map[string][]byte {
	i.Helper()
	code, text, err := i.Do(i.Context(), http.MethodGet, "/api/v1/namespaces/gatehouse/secrets/"+name, nil)
	if err != nil || code != http.StatusOK {
		return nil
	}
	var o struct{ Data map[string][]byte }
	if err := json.Unmarshal(text, &o); err != nil {
		i.Fatal(err)
	}
	return o.Data
}

// mount writes the gate's Secret to files whenever it changes, as a kubelet does.
func (i *installed) mount() {
	var last []byte
	once := func() {
		data := i.secret("gatehouse-gate-tls")
		if len(data["tls.crt"]) == 0 || bytes.Equal(data["tls.crt"], last) {
			return
		}
		for name, text := range map[string][]byte{"tls.key": data["tls.key"], "tls.crt": data["tls.crt"]} {
			if err := durable.WriteFile(filepath.Join(i.dir, name), text, 0o600); err != nil {
				i.Error(err)
			}
		}
		last = data["tls.crt"]
	}
	ended := make(chan struct{})
	ctx := i.Context()
	go func() {
		defer close(ended)
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				once()
			}
		}
	}()
	i.Cleanup(func() { <-ended })
}

func (i *installed) startGate(policy string) {
	i.Helper()
	i.gate = start(i.T, kubeConfig(i.T, policy, func(c *Config) {
		c.Admission.Address = i.address
		c.Admission.CertFile, c.Admission.KeyFile = filepath.Join(i.dir, "tls.crt"), filepath.Join(i.dir, "tls.key")
	}))
}

// bundle is the caBundle in force, "" while the configuration is not armed.
func (i *installed) bundle() []byte {
	code, text, err := i.Do(i.Context(), http.MethodGet, "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/gatehouse", nil)
	if err != nil || code != http.StatusOK {
		return nil
	}
	var o struct {
		Webhooks []struct{ ClientConfig struct{ CABundle []byte } }
	}
	if json.Unmarshal(text, &o) != nil || len(o.Webhooks) != 1 {
		return nil
	}
	return o.Webhooks[0].ClientConfig.CABundle
}

// handshake connects as an API server with these roots does.
func (i *installed) handshake(roots []byte) (*x509.Certificate, error) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	conn, err := (&tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}}).DialContext(i.Context(), "tcp", i.address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

// create asks for a pod, and returns what went wrong.
func (i *installed) create(dryRun bool) error {
	query := ""
	if dryRun {
		query = "?dryRun=All"
	}
	pod := `{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"web-"},"spec":{"containers":[{"name":"main","image":"registry.test/web:1"}]}}`
	code, text, err := i.Do(i.Context(), http.MethodPost, "/api/v1/namespaces/shop/pods"+query, []byte(pod))
	if err == nil && code != http.StatusCreated {
		err = fmt.Errorf("%d %s", code, text)
	}
	return err
}

// load creates pods, and makes connections of its own, until stop is called, which fails
// the test if any of them failed.
func (i *installed) load(what string) (stop func()) {
	i.Helper()
	ctx, cancel := context.WithCancel(i.Context())
	var group sync.WaitGroup
	var done, failed atomic.Int64
	for _, do := range []func() error{
		func() error { return i.create(true) },
		func() error { return i.create(true) },
		func() error {
			_, err := i.handshake(i.bundle())
			return err
		},
	} {
		group.Go(func() {
			tick := time.NewTicker(25 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				err := do()
				if ctx.Err() != nil {
					return
				}
				done.Add(1)
				if err != nil && failed.Add(1) <= 3 {
					i.Errorf("%s: %v", what, err)
				}
			}
		})
	}
	return func() {
		i.Helper()
		cancel()
		group.Wait()
		i.Logf("%s: %d requests, %d failed", what, done.Load(), failed.Load())
	}
}

// works waits until pods can be created, by a gate with another certificate than this one.
func (i *installed) works(what string, not *x509.Certificate) *x509.Certificate {
	i.Helper()
	var found *x509.Certificate
	within(i.T, what, func() bool {
		c, err := i.handshake(i.bundle())
		if err != nil || not != nil && c.Equal(not) || i.create(true) != nil {
			return false
		}
		found = c
		return true
	})
	return found
}

// in is for a subtest.
func (i *installed) in(t *testing.T) *installed {
	c, n := *i.cluster, *i
	c.T, n.cluster = t, &c
	return &n
}

// served is the gate's certificate.
func (i *installed) served() *x509.Certificate {
	i.Helper()
	c, err := i.handshake(i.bundle())
	if err != nil {
		i.Fatal(err)
	}
	return c
}

func (i *installed) rootsOf(text []byte) int { return strings.Count(string(text), "BEGIN CERTIFICATE") }

// TestCertificatesInACluster are kept by two controllers at once, whatever becomes of them,
// and API servers never notice while there is any way for it.
func TestCertificatesInACluster(t *testing.T) {
	t.Parallel()
	i := newInstalled(t)
	all := i
	stops := []func(){i.keep(), i.keep()}
	i.mount()
	within(t, "a certificate", func() bool { return i.secret("gatehouse-gate-tls") != nil })
	if err := i.create(true); err != nil || i.bundle() != nil {
		t.Fatalf("the webhook is in force before the gate answers: %v", err)
	}
	within(t, "the files", func() bool {
		_, err := os.Stat(filepath.Join(i.dir, "tls.crt"))
		return err == nil
	})
	i.startGate(openPolicy)
	i.works("the webhook is armed", nil)
	if n := i.rootsOf(i.bundle()); n != 1 {
		t.Errorf("two controllers have made %d roots", n)
	}
	for _, name := range []string{"gatehouse-server-tls", "gatehouse-mutate-tls"} {
		if there := i.secret(name) != nil; there != (name == "gatehouse-server-tls") {
			t.Errorf("%s is there: %v", name, there)
		}
	}

	t.Run("certificates and roots are replaced under load", func(t *testing.T) {
		i := i.in(t)
		stop := i.load("replaced")
		defer stop()
		i.works("another certificate, before the last one ends", i.served())
		client, err := kube.Open(kube.Options{Kubeconfig: i.Kubeconfig()})
		if err != nil {
			t.Fatal(err)
		}
		o := clusterca.Options{Client: client, Namespace: "gatehouse", Name: "gatehouse", Lives: i.lives}
		before, err := clusterca.Show(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := clusterca.Rotate(t.Context(), o, 3*time.Second); err != nil || len(s.Roots) != len(before.Roots)+1 {
			t.Fatalf("%+v, %v", s, err)
		}
		if _, err := clusterca.Rotate(t.Context(), o, 3*time.Second); err == nil {
			t.Error("replaced again at once")
		}
		within(t, "the new root is alone", func() bool {
			s, err := clusterca.Show(t.Context(), o)
			return err == nil && len(s.Roots) == 1 && s.Roots[0].Fingerprint != before.Roots[0].Fingerprint && i.rootsOf(i.bundle()) == 1
		})
	})
	for _, name := range []string{"gatehouse-gate-tls", "gatehouse-ca"} {
		t.Run("the Secret "+name+" is deleted under load", func(t *testing.T) {
			i := i.in(t)
			stop := i.load(name)
			defer stop()
			last := i.served()
			i.must("", "delete", "secret", name, "-n", "gatehouse")
			i.works("another certificate", last)
			within(t, "one root", func() bool { return i.rootsOf(i.bundle()) == 1 && i.secret("gatehouse-ca")["before.crt"] == nil })
		})
	}
	t.Run("the ConfigMap is deleted, and changed", func(t *testing.T) {
		i := i.in(t)
		i.must("", "delete", "configmap", "gatehouse-ca", "-n", "gatehouse")
		roots := func() string {
			_, said := i.run("", "get", "configmap", "gatehouse-ca", "-n", "gatehouse", "-o", `jsonpath={.data.ca\.crt}`)
			return said
		}
		within(t, "it is there", func() bool { return roots() == string(i.bundle()) })
		i.must("", "patch", "configmap", "gatehouse-ca", "-n", "gatehouse", "-p", `{"data":{"ca.crt":"x"}}`)
		within(t, "it is as it was", func() bool { return roots() == string(i.bundle()) })
	})
	t.Run("caBundle is changed by hand", func(t *testing.T) {
		i := i.in(t)
		want := i.bundle()
		other := newAuthority(t)
		text, err := os.ReadFile(other.path)
		if err != nil {
			t.Fatal(err)
		}
		patch, err := json.Marshal([]any{map[string]any{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": text}})
		if err != nil {
			t.Fatal(err)
		}
		i.must("", "patch", "validatingwebhookconfiguration", "gatehouse", "--type=json", "-p", string(patch))
		begun := time.Now()
		within(t, "it is as it was", func() bool { return bytes.Equal(i.bundle(), want) && i.create(true) == nil })
		t.Logf("after %v", time.Since(begun))
		i.must("", "patch", "validatingwebhookconfiguration", "gatehouse", "--type=json", "-p",
			`[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"},{"op":"add","path":"/webhooks/0/objectSelector","value":{"matchLabels":{"a":"b"}}}]`)
		within(t, "what else was changed is as it was", func() bool {
			said := i.must("", "get", "validatingwebhookconfiguration", "gatehouse", "-o", "jsonpath={.webhooks[0].failurePolicy} {.webhooks[0].objectSelector}")
			return said == "Fail {}"
		})
	})
	t.Run("the namespace is deleted and comes back", func(t *testing.T) {
		i := i.in(t)
		stop := i.load("namespace")
		i.must("", "delete", "namespace", "gatehouse")
		last := i.served()
		i.must("", "create", "namespace", "gatehouse")
		i.works("another certificate", last)
		within(t, "one root", func() bool { return i.rootsOf(i.bundle()) == 1 })
		stop()
	})
	t.Run("no certificate by a root that an API server does not have", func(t *testing.T) {
		i := i.in(t)
		if err := all.gate.stop(); err != nil { // and so the roots cannot be put in force
			t.Fatal(err)
		}
		client, err := kube.Open(kube.Options{Kubeconfig: i.Kubeconfig()})
		if err != nil {
			t.Fatal(err)
		}
		o := clusterca.Options{Client: client, Namespace: "gatehouse", Name: "gatehouse", Lives: i.lives}
		bundle := i.bundle()
		if _, err := clusterca.Rotate(t.Context(), o, 0); err != nil {
			t.Fatal(err)
		}
		issuer := func() string {
			block, _ := pem.Decode(i.secret("gatehouse-gate-tls")["tls.crt"])
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			return c.Issuer.String()
		}
		before := issuer()
		within(t, "it is said", func() bool {
			return strings.Contains(i.log.String(), "waits until all webhook configurations have that root")
		})
		if after := issuer(); after != before || !bytes.Equal(bundle, i.bundle()) {
			t.Errorf("issued by %s, and before by %s; and other roots are in force: %v", after, before, !bytes.Equal(bundle, i.bundle()))
		}
		all.startGate(openPolicy)
		within(t, "it is of the new root", func() bool { return issuer() != before })
		i.works("the gate serves it", nil)
	})
	t.Run("everybody is away until the certificate has ended", func(t *testing.T) {
		i := i.in(t)
		for _, stop := range stops {
			stop()
		}
		last := i.served()
		within(t, "it has ended", func() bool {
			_, err := i.handshake(i.bundle())
			return err != nil
		})
		if err := all.gate.stop(); err != nil { // which ends connections from before
			t.Fatal(err)
		}
		all.startGate(openPolicy)
		if err := i.create(true); err == nil || !strings.Contains(err.Error(), "failed calling webhook") {
			t.Fatalf("pods are created: %v", err)
		}
		i.keep()
		i.works("another certificate", last)
	})
	t.Run("the root has ended", func(t *testing.T) {
		i := i.in(t)
		short := i.lives
		short.Root = time.Millisecond
		kept, err := ownca.ReadKept(nil, short)
		if err != nil {
			t.Fatal(err)
		}
		ended, _, err := kept.Next(time.Now(), false)
		if err != nil {
			t.Fatal(err)
		}
		text, err := ended.Text()
		if err != nil {
			t.Fatal(err)
		}
		patch, err := json.Marshal(map[string]any{"data": map[string][]byte{"ca-keys.json": text}})
		if err != nil {
			t.Fatal(err)
		}
		i.must("", "patch", "secret", "gatehouse-ca", "-n", "gatehouse", "--type=merge", "-p", string(patch))
		i.must("", "delete", "secret", "gatehouse-gate-tls", "-n", "gatehouse")
		last := i.served()
		i.keep()
		i.works("another certificate", last)
	})
	t.Run("what is not there is not made, and what cannot be read is left alone", func(t *testing.T) {
		i := i.in(t)
		i.must("", "annotate", "validatingwebhookconfiguration", "gatehouse", "--overwrite", clusterca.WebhooksAnnotation+"=x: [")
		i.keep()
		within(t, "it is said", func() bool { return strings.Contains(i.log.String(), "annotation "+clusterca.WebhooksAnnotation) })
		if i.bundle() == nil {
			t.Error("disarmed")
		}
		i.must("", "delete", "validatingwebhookconfiguration", "gatehouse")
		within(t, "the controller goes on", func() bool { return i.secret("gatehouse-gate-tls") != nil })
		if i.bundle() != nil {
			t.Error("the configuration is back")
		}
	})
	t.Run("cert-manager issues", func(t *testing.T) {
		i := i.in(t)
		i.must(i.configuration(), "apply", "-f", "-")
		stop := i.keep()
		i.works("a certificate, with its root beside it", nil)
		stop()
		i.must("", "delete", "validatingwebhookconfiguration", "gatehouse")
		i.must("", "delete", "secret", "gatehouse-ca", "-n", "gatehouse")
		i.must(i.configuration(), "apply", "-f", "-")
		i.issuer = clusterca.CertManager
		i.keep()
		i.works("armed with the root of the Secret", nil)
		if i.secret("gatehouse-ca") != nil {
			t.Error("an authority was made")
		}
	})
	t.Run("the role controller does it", func(t *testing.T) {
		i := i.in(t)
		i.must("", "delete", "validatingwebhookconfiguration", "gatehouse")
		i.must(i.configuration(), "apply", "-f", "-")
		last := i.secret("gatehouse-gate-tls")
		cfg := gateConfig(t, "http://"+all.gate.Metadata, func(c *Config) {
			c.Role, c.Controller.Kubeconfig, c.Controller.Groups, c.Controller.Certificates.Issuer = ControllerRole, i.Kubeconfig(), nil, "own"
			c.Admission.Feed.CAFile = filepath.Join(t.TempDir(), "ca.crt") // which may not be there yet
		})
		ctx, cancel := context.WithCancel(context.Background())
		started, ended := make(chan Addresses, 1), make(chan error, 1)
		go func() { ended <- Run(ctx, cfg, discard(), func(a Addresses) error { started <- a; return nil }) }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("stopping the controller: %v", err)
			}
		})
		controller := <-started
		within(t, "a certificate for long", func() bool { return !bytes.Equal(last["tls.crt"], i.secret("gatehouse-gate-tls")["tls.crt"]) })
		i.works("armed", nil)
		within(t, "the metrics tell", func() bool {
			_, text := all.gate.get("http://" + controller.Ops + "/metrics")
			return strings.Contains(text, "\ngatehouse_webhook_armed{configuration=\"gatehouse\"} 1\n") && strings.Contains(text, "\ngatehouse_cluster_ca_roots 1\n") &&
				strings.Contains(text, `gatehouse_cluster_certificate_expiry_timestamp_seconds{certificate="gate"}`)
		})
	})
	if text := i.log.String(); strings.Contains(text, "PRIVATE") {
		t.Error("a key is in the log")
	}
}
