package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/gatetest/review"
	"github.com/gatehouse-dev/gatehouse/identity"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
)

// gateConfig is that of a gate that follows a server.
func gateConfig(t *testing.T, server string, change func(*Config)) Config {
	t.Helper()
	return testConfig(t, func(c *Config) {
		c.Role, c.Admission.Feed.Server, c.Admission.Feed.Gate = AdmissionRole, server, t.Name()
		c.Metadata, c.Attestor = DefaultConfig().Metadata, DefaultConfig().Attestor
		if change != nil {
			change(c)
		}
	})
}

func TestAGateElsewhereDecidesLikeTheServer(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	attestors := r.storeAttestor("nobody")
	r.api().expect("", "PUT", policyAt, requiring(attestors), 200)
	gate := start(t, gateConfig(t, "http://"+r.Metadata, nil))

	good, other := push(t, "65532"), image.DigestOf([]byte("x"))
	pod := func(ref string) []byte { return review.Pod("shop", "web").Image("main", ref).Review() }
	if ok, message := gate.ask(pod("reg.test/app@" + other.String())); ok || !strings.Contains(message, "nobody") {
		t.Errorf("what is not attested: allowed %v, said %q", ok, message)
	}
	r.check(good, "nobody", true)
	if ok, message := gate.ask(pod(good.String())); !ok {
		t.Errorf("attested a moment ago, and refused: %s", message)
	}
	r.api().expect("", "PUT", policyAt, deniesAll, 200)
	within(t, "the changed policy is in force", func() bool { ok, _ := gate.ask(pod(good.String())); return !ok })
	r.api().expect("", "PUT", policyAt, requiring(attestors), 200)
	within(t, "the policy of before is in force", func() bool { ok, _ := gate.ask(pod(good.String())); return ok })
	if code, text := gate.get("http://" + gate.Ops + "/readyz"); code != 200 || text != "ok\n" {
		t.Errorf("readiness %d %q", code, text)
	}
	// The service goes, and decisions go on.
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if ok, message := gate.ask(pod(good.String())); !ok {
		t.Errorf("attested, the service is away, and refused: %s", message)
	}
	if ok, message := gate.ask(pod("reg.test/app@" + other.String())); ok || !strings.Contains(message, "could not be read") {
		t.Errorf("not known, and the service is away: allowed %v, said %q", ok, message)
	}
	within(t, "the gate says that the service is away", func() bool {
		code, text := gate.get("http://" + gate.Ops + "/readyz")
		return code == 200 && strings.Contains(text, "away")
	})
}

// storeAttestor stores the development attestor of a check, and returns its name.
func (r *running) storeAttestor(check string) string {
	r.t.Helper()
	name := "projects/default/attestors/" + check
	r.api().expect("", "POST", attestorsAt+"?attestorId="+check, r.attestorText(check), 200)
	return name
}

// attestorText describes the development attestor of a check.
func (r *running) attestorText(check string) string {
	r.t.Helper()
	text, err := os.ReadFile(attestorsPath(r.data))
	if err != nil {
		r.t.Fatal(err)
	}
	own, found := binauthz.ParseAttestors("own", text)
	for i := range own {
		if strings.HasSuffix(own[i].Name, "/"+check) {
			body, err := own[i].EncodeJSON()
			if err != nil {
				r.t.Fatal(err)
			}
			return string(body)
		}
	}
	r.t.Fatalf("there is no development attestor %q: %v", check, found)
	return ""
}

func TestAGateStartsFromItsCopyWhileTheServiceIsAway(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	r.api().expect("", "PUT", policyAt, requiring(r.storeAttestor("nobody")), 200)
	good := push(t, "65532")
	r.check(good, "nobody", true)
	cfg := gateConfig(t, "http://"+r.Metadata, nil)
	pod := review.Pod("shop", "web").Image("main", good.String()).Review()
	gate := start(t, cfg)
	if ok, message := gate.ask(pod); !ok {
		t.Fatalf("attested, and refused: %s", message)
	}
	if err := gate.stop(); err != nil {
		t.Fatal(err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	again := start(t, cfg)
	t.Logf("started from the copy after %v", time.Since(begun))
	if ok, message := again.ask(pod); !ok {
		t.Errorf("attested in the copy, and refused: %s", message)
	}
	if ok, message := again.ask(review.Pod("shop", "web").Image("main", "reg.test/app@"+image.DigestOf([]byte("x")).String()).Review()); ok || !strings.Contains(message, "could not be read") {
		t.Errorf("not in the copy: allowed %v, said %q", ok, message)
	}
	if code, text := again.get("http://" + again.Ops + "/readyz"); code != 200 || !strings.Contains(text, "the copy of") {
		t.Errorf("readiness %d %q", code, text)
	}
	if _, text := again.get("http://" + again.Ops + "/metrics"); !strings.Contains(text, "\ngatehouse_evidence_from_copy 1\n") {
		t.Error("the metrics do not tell that the gate decides by its copy")
	}
}

// TestAGateProvesWhoItIs by a token or by a certificate, over TLS, and is told what the
// rules give it.
func TestAGateProvesWhoItIs(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	certFile, keyFile := ca.files(nil)
	r := start(t, testConfig(t, func(c *Config) {
		c.Metadata.TLS = TLSConfig{CertFile: certFile, KeyFile: keyFile, ClientCAFile: ca.path}
		c.Identity = identity.Config{MTLS: true, BearerTokensFile: tokens(t, "gate@here"), Rules: []identity.Rule{
			{Caller: "gate@here", Project: "default", Roles: []string{"gate"}},
			{Caller: spiffe("/gate").String(), Project: "default", Roles: []string{"gate"}},
		}}
	}))
	clientCert, clientKey := ca.files(spiffe("/gate"))
	strangerCert, strangerKey := ca.files(spiffe("/stranger"))
	token := write(t, filepath.Join(t.TempDir(), "token"), tokenOf("gate@here")+"\n")
	pod := review.Pod("shop", "web").Image("main", "reg.test/app@"+image.DigestOf([]byte("x")).String()).Review()
	for name, who := range map[string]func(*FeedConfig){
		"token":       func(f *FeedConfig) { f.TokenFile = token },
		"certificate": func(f *FeedConfig) { f.CertFile, f.KeyFile = clientCert, clientKey },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gate := start(t, gateConfig(t, "https://"+r.Metadata, func(c *Config) {
				c.Admission.Feed.Gate = name
				c.Admission.Feed.CAFile = ca.path
				who(&c.Admission.Feed)
			}))
			if ok, message := gate.ask(pod); !ok || !strings.Contains(message, "no policy") {
				t.Errorf("allowed %v, said %q", ok, message)
			}
		})
	}
	t.Run("a stranger", func(t *testing.T) {
		t.Parallel()
		gate := startUnready(t, gateConfig(t, "https://"+r.Metadata, func(c *Config) {
			c.Admission.Feed.Gate = "stranger"
			c.Admission.Feed.CAFile, c.Admission.Feed.CertFile, c.Admission.Feed.KeyFile = ca.path, strangerCert, strangerKey
		}))
		gate.says(t, "gatehouse.feed.watch")
	})
	t.Run("another CA", func(t *testing.T) {
		t.Parallel()
		gate := startUnready(t, gateConfig(t, "https://"+r.Metadata, func(c *Config) {
			c.Admission.Feed.Gate = "other"
			c.Admission.Feed.CAFile, c.Admission.Feed.TokenFile = newAuthority(t).path, token
		}))
		gate.says(t, "certificate")
	})
}

// An unready gate serves, and waits for its metadata service.
type unready struct{ admission, ops string }

func startUnready(t *testing.T, cfg Config) unready {
	t.Helper()
	u := unready{free(t), free(t)}
	cfg.Admission.Address, cfg.Ops.Address = u.admission, u.ops
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, cfg, discard(), func(Addresses) error { t.Error("it is ready"); return nil })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	return u
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// says demands that the gate is not ready, and says so for a reason.
func (u unready) says(t *testing.T, reason string) {
	t.Helper()
	within(t, "the gate says why it is not ready: "+reason, func() bool {
		resp, err := http.Get("http://" + u.ops + "/readyz")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return err == nil && resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(text), reason)
	})
}

// TestAGateThatKnowsNothingYetLetsNothingIn: that there may be no policy is not known.
func TestAGateThatKnowsNothingYetLetsNothingIn(t *testing.T) {
	t.Parallel()
	cfg := gateConfig(t, "http://127.0.0.1:1", nil)
	u := startUnready(t, cfg)
	u.says(t, "metadata service")
	gate := gateClient(t, filepath.Join(cfg.Data, "tls", "ca.crt"))
	for _, ref := range []string{"reg.test/app@" + image.DigestOf([]byte("x")).String(), "nginx"} {
		resp, err := gate.Post("https://"+u.admission+"/validate?timeout=5s", "application/json", bytes.NewReader(review.Pod("shop", "web").Image("main", ref).Review()))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !strings.Contains(string(text), `"allowed":false`) || strings.Contains(ref, "@") && !strings.Contains(string(text), "has not heard from the metadata service") {
			t.Errorf("%s: %s, error %v", ref, text, err)
		}
	}
}

// TestACopyThatIsRefusedIsSaid, and everything is read from the service.
func TestACopyThatIsRefusedIsSaid(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	r.api().expect("", "PUT", policyAt, deniesAll, 200)
	cfg := gateConfig(t, "http://"+r.Metadata, nil)
	if err := start(t, cfg).stop(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(cfg.Data, "gate", "evidence.copy"), "forged")
	gate := start(t, cfg)
	if ok, _ := gate.ask(review.Pod("shop", "web").Image("main", "nginx").Review()); ok {
		t.Error("the stored policy is not in force")
	}
	if _, text := gate.get("http://" + gate.Ops + "/metrics"); !strings.Contains(text, "\ngatehouse_evidence_copy_refused 1\n") {
		t.Error("the metrics do not tell that the copy was refused")
	}
}

// TestCertificatesChangeUnderALoneGate without a request that fails.
func TestCertificatesChangeUnderALoneGate(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	ca := newAuthority(t)
	certFile, keyFile := ca.files(nil)
	gate := start(t, gateConfig(t, "http://"+r.Metadata, func(c *Config) { c.Admission.CertFile, c.Admission.KeyFile = certFile, keyFile }))
	serial := func() string {
		t.Helper()
		conn, err := tls.Dial("tcp", gate.Admission, &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS12})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	gate.gate = gateClient(t, ca.path)
	before := serial()
	nextCert, nextKey := ca.files(nil)
	for to, from := range map[string]string{keyFile: nextKey, certFile: nextCert} { // one after the other, as they come
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		write(t, to, string(text))
	}
	within(t, "the new certificate is served", func() bool {
		gate.ask(review.Pod("shop", "web").Image("main", "nginx").Review()) // fails the test if it fails
		return serial() != before
	})
}

func TestSettingsOfALoneGate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"no server":             {func(c *Config) { c.Admission.Feed.Server = "" }, "has no server"},
		"in the clear":          {func(c *Config) { c.Admission.Feed.Server = "http://metadata.test:8080" }, "use https"},
		"no port":               {func(c *Config) { c.Admission.Feed.Server = "https://metadata.test" }, "want https://HOST:PORT"},
		"a path":                {func(c *Config) { c.Admission.Feed.Server = "https://metadata.test:1/x" }, "want https://HOST:PORT"},
		"half a certificate":    {func(c *Config) { c.Admission.Feed.CertFile = "x" }, "both or neither"},
		"another role":          {func(c *Config) { c.Role = "gate" }, `role "gate"`},
		"a feed without a role": {func(c *Config) { c.Role = AllRoles }, "set role: admission"},
		"a store":               {func(c *Config) { c.Store.Postgres.ConnectionFile = "x" }, "what store is for"},
		"an attestor":           {func(c *Config) { c.Attestor.ConfigFile = "x" }, "what attestor is for"},
		"callers":               {func(c *Config) { c.Identity.BearerTokensFile = "x" }, "what identity is for"},
		"a negative time":       {func(c *Config) { c.Admission.DrainDelay = -1 }, "are times"},
		"a negative interval":   {func(c *Config) { c.Admission.Feed.CopyInterval = -1 }, "are times"},
		"https":                 {func(c *Config) { c.Admission.Feed.Server = "https://metadata.test:8080" }, ""},
		"a socket":              {func(c *Config) { c.Admission.Feed.Server = "unix:///run/gatehouse.sock" }, ""},
		"loopback":              {func(c *Config) { c.Admission.Feed.Server = "http://[::1]:8080" }, ""},
	} {
		cfg := gateConfig(t, "http://127.0.0.1:8080", test.change)
		err := cfg.Validate()
		if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	missing := gateConfig(t, "https://metadata.test:8080", func(c *Config) { c.Admission.Feed.CAFile = "/none" })
	if err := Check(missing, discard()); err == nil || !strings.Contains(err.Error(), "CA of the metadata service") {
		t.Errorf("a CA that is not there: %v", err)
	}
	if err := Check(gateConfig(t, "http://127.0.0.1:8080", nil), discard()); err != nil {
		t.Error(err)
	}
}

// TestTheBarrierWaitsForWhatIsInForce at a gate: evidence and policy. A policy that the
// gate cannot enforce is not acknowledged.
func TestTheBarrierWaitsForWhatIsInForce(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	r.api().expect("", "PUT", policyAt, requiring(r.storeAttestor("nobody")), 200)
	gate := start(t, gateConfig(t, "http://"+r.Metadata, func(c *Config) { c.Admission.Feed.Gate = "g" }))
	conn, err := grpc.NewClient(r.Metadata, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	feed := gatehousev1.NewFeedClient(conn)
	// barrier asks for the last change there is, which it is told when it asks for more.
	barrier := func(wait time.Duration) *gatehousev1.BarrierResponse {
		t.Helper()
		var head uint64
		_, err := feed.Barrier(t.Context(), &gatehousev1.BarrierRequest{Project: "default", Seq: 1 << 40})
		if _, scanned := fmt.Sscanf(status.Convert(err).Message(), "there is no change 1099511627776 yet: the last is %d", &head); scanned != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		answer, err := feed.Barrier(ctx, &gatehousev1.BarrierRequest{Project: "default", Seq: head})
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	good := push(t, "65532")
	r.check(good, "nobody", true)
	if answer := barrier(20 * time.Second); !answer.GetComplete() || len(answer.GetGates()) != 1 || answer.GetGates()[0].GetGate() != "g" {
		t.Errorf("after an attestation: %v", answer)
	}
	r.api().expect("", "PUT", policyAt, deniesAll, 200)
	if answer := barrier(20 * time.Second); !answer.GetComplete() {
		t.Errorf("after a policy: %v", answer)
	}
	if ok, _ := gate.ask(review.Pod("shop", "web").Image("main", good.String()).Review()); ok {
		t.Error("the barrier was passed, and the policy is not in force")
	}
	clusters := strings.Replace(allowsAll, "{", `{"clusterAdmissionRules": {"a.b": {"evaluationMode": "ALWAYS_ALLOW", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG"}}, `, 1)
	r.api().expect("", "PUT", policyAt, clusters, 200) // the gate was not told which cluster it is in
	if answer := barrier(1500 * time.Millisecond); answer.GetComplete() || !answer.GetGates()[0].GetConnected() {
		t.Errorf("after a policy that the gate cannot enforce: %v", answer)
	}
	r.api().expect("", "PUT", policyAt, allowsAll, 200)
	if answer := barrier(20 * time.Second); !answer.GetComplete() {
		t.Errorf("after it was mended: %v", answer)
	}
	if err := gate.stop(); err != nil {
		t.Fatal(err)
	}
	if answer := barrier(20 * time.Second); !answer.GetComplete() || len(answer.GetGates()) != 0 {
		t.Errorf("the gate has taken leave: %v", answer)
	}
}

// TestAGateThatHasHeardNothingForTooLongDecidesNothing, and decides again when it hears.
func TestAGateThatHasHeardNothingForTooLongDecidesNothing(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	attestors := r.storeAttestor("nobody")
	r.api().expect("", "PUT", policyAt, requiring(attestors), 200)
	good := push(t, "65532")
	r.check(good, "nobody", true)
	const most = 3 * time.Second // it beats each second
	gate := start(t, gateConfig(t, "http://"+r.Metadata, func(c *Config) { c.Admission.Feed.MaxSilence = most }))
	pod := review.Pod("shop", "web").Image("main", good.String()).Review()
	within(t, "what is attested is let in", func() bool { ok, _ := gate.ask(pod); return ok })
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	within(t, "nothing is let in by what is too old", func() bool {
		ok, message := gate.ask(pod)
		return !ok && strings.Contains(message, "was last heard at")
	})
}
