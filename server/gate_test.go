package server

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/review"
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
