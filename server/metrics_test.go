package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/gatehouse-dev/gatehouse/audit/sink"
	"github.com/gatehouse-dev/gatehouse/gatetest/review"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/notify"
	"github.com/gatehouse-dev/gatehouse/notify/pager"
)

// metrics returns what a server exposes, as text and by name.
func (r *running) metrics() (string, map[string]*dto.MetricFamily) {
	r.t.Helper()
	code, text := r.get("http://" + r.Ops + "/metrics")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if code != http.StatusOK || err != nil {
		r.t.Fatalf("%d %v", code, err)
	}
	return text, families
}

// TestTheListOfMetricsIsTrue holds docs/metrics.md to what servers of all roles expose that
// have done what they are for, and that to the conventions, as promtool knows them.
func TestTheListOfMetricsIsTrue(t *testing.T) {
	t.Parallel()
	hook := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(hook.Close)
	r := start(t, testConfig(t, func(c *Config) {
		c.Mutate.Address = "127.0.0.1:0"
		c.Notify.Receivers = []pager.Receiver{{Name: "hook", Webhook: &pager.Webhook{URL: hook.URL, SecretFile: write(t, filepath.Join(t.TempDir(), "secret"), "c2VjcmV0LXNlY3JldC1zZWNyZXQh")}}}
		c.Notify.Routes = []notify.Route{{Name: "all", Receivers: []string{"hook"}}}
		c.Tracing.Endpoint = "http://127.0.0.1:1" // where nobody listens
		c.Audit.Sinks = []sink.Config{{Name: "archive", File: &sink.File{Path: filepath.Join(t.TempDir(), "audit.jsonl")}}}
	}))
	r.api().expect("", "PUT", policyAt, requiring(r.storeAttestor("nobody")), 200)
	gate := start(t, gateConfig(t, "http://"+r.Metadata, nil))
	good := push(t, "65532")
	r.check(good, "nobody", true)
	body := review.Pod("shop", "web").Image("main", good.String()).Review()
	for _, g := range []*running{r, gate} {
		if ok, message := g.ask(body); !ok {
			t.Fatal(message)
		}
		within(t, "the policy is in force", func() bool {
			text, _ := g.metrics()
			return strings.Contains(text, "gatehouse_policy_info{")
		})
	}
	mutate := start(t, testConfig(t, func(c *Config) { c.Role, c.Mutate.Address = MutateRole, "127.0.0.1:0" }))
	for _, m := range []*running{r, mutate} {
		m.pin(body)
	}
	controller := start(t, gateConfig(t, "http://"+r.Metadata, func(c *Config) {
		c.Role, c.Controller.Certificates.Issuer = ControllerRole, "own"
		c.Controller.Kubeconfig = aCluster(t)
	}))
	within(t, "the controller works", func() bool {
		text, _ := controller.metrics()
		return strings.Contains(text, "\ngatehouse_controller_leads 1\n") && strings.Contains(text, "gatehouse_webhook_armed{") && strings.Contains(text, "gatehouse_controller_not_followed{") &&
			strings.Contains(text, "gatehouse_cluster_certificate_expiry_timestamp_seconds{")
	})

	found := make(map[string]string)
	for _, server := range []*running{r, gate, mutate, controller} {
		text, families := server.metrics()
		lint(t, text)
		for name, f := range families {
			if strings.HasPrefix(name, "gatehouse_") || strings.HasPrefix(name, "voucher_") {
				found[name] = strings.ToLower(f.GetType().String()) + " " + labelsOf(f)
			}
		}
	}
	if diff := cmp.Diff(listed(t), found); diff != "" {
		t.Errorf("docs/metrics.md and what is exposed (-listed +exposed):\n%s", diff)
	}
}

// aCluster returns a kubeconfig of an API server that keeps what it is given, knows one
// webhook configuration, and none of our kinds.
func aCluster(t *testing.T) string {
	t.Helper()
	var mu sync.Mutex
	kept := map[string]string{
		"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/gatehouse": `{"metadata":{"name":"gatehouse","resourceVersion":"1"}}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if r.Method == http.MethodGet {
			text, ok := kept[r.URL.Path]
			if !ok {
				w.WriteHeader(http.StatusNotFound)
				text = `{"kind":"Status","reason":"NotFound"}`
			}
			_, _ = io.WriteString(w, text)
			return
		}
		var o struct{ Metadata struct{ Name string } }
		var fields map[string]any
		if err := errors.Join(json.Unmarshal(body, &o), json.Unmarshal(body, &fields)); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		at := r.URL.Path
		if r.Method == http.MethodPost {
			at += "/" + o.Metadata.Name
		}
		fields["metadata"].(map[string]any)["resourceVersion"] = rand.Text()
		text, err := json.Marshal(fields)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		kept[at] = string(text)
		_, _ = w.Write(text)
	}))
	t.Cleanup(server.Close)
	return write(t, filepath.Join(t.TempDir(), "kubeconfig"), `{clusters: [{name: c, cluster: {server: "`+server.URL+`"}}], contexts: [{name: c, context: {cluster: c}}], current-context: c}`)
}

// labelsOf returns the names of a family's labels.
func labelsOf(f *dto.MetricFamily) string {
	names := make(map[string]bool)
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			names[l.GetName()] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(names)), ", ")
}

// listed returns the type and the labels of each metric in docs/metrics.md, whose rows are
// | `name` | type | labels | meaning |.
func listed(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			continue
		}
		name := strings.Trim(cells[1], " `")
		if _, twice := all[name]; twice {
			t.Errorf("docs/metrics.md lists %s twice", name)
		}
		all[name] = strings.TrimSpace(cells[2]) + " " + strings.ReplaceAll(strings.TrimSpace(cells[3]), "`", "")
	}
	return all
}

// lint has promtool check what is exposed. Voucher's names are Voucher's.
func lint(t *testing.T, text string) {
	t.Helper()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is not in PATH; install prometheus")
	}
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err = cmd.Run()
	left := slices.DeleteFunc(strings.Split(strings.TrimSpace(said.String()), "\n"), func(line string) bool {
		return line == "" || strings.HasPrefix(line, "voucher_check_") && strings.Contains(line, "milliseconds")
	})
	if len(left) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, strings.Join(left, "\n"))
	}
}

func TestMetricsTellWhichPolicyIsInForce(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	if text, _ := r.metrics(); !strings.Contains(text, "\ngatehouse_policies_in_force 0\n") {
		t.Error("a server without a policy does not say so")
	}
	r.api().expect("", "PUT", policyAt, deniesAll, 200)
	within(t, "the policy in force is told", func() bool {
		text, _ := r.metrics()
		return strings.Contains(text, "\ngatehouse_policies_in_force 1\n") && strings.Contains(text, `gatehouse_policy_info{`)
	})
}

// failingStore fails as it is told.
type failingStore struct {
	metadata.Store
	err error
}

func (s failingStore) Apply(context.Context, ...metadata.Mutation) error { return s.err }

func TestTheStoreIsMeasured(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	inner := &failingStore{}
	s, err := newMeasuredStore(inner, registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, inner.err = range []error{nil, metadata.Errorf(metadata.AlreadyExists, "there"), metadata.Errorf(metadata.Unavailable, "away"), errors.New("disk")} {
		if got := s.Apply(t.Context()); !errors.Is(got, inner.err) {
			t.Errorf("got %v, want %v", got, inner.err)
		}
	}
	if got := testutil.ToFloat64(s.apply.failed); got != 2 {
		t.Errorf("%v failures, want 2", got)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if l := m.GetLabel(); f.GetName() == "gatehouse_store_duration_seconds" && l[0].GetValue() == "apply" && m.GetHistogram().GetSampleCount() != 4 {
				t.Errorf("%v", m)
			}
		}
	}
}

func TestRequestsToRegistriesAreMeasured(t *testing.T) {
	t.Parallel()
	r := start(t, testConfig(t, nil))
	r.check(push(t, "65532"), "nobody", true)
	_, families := r.metrics()
	codes := make(map[string]float64)
	for _, m := range families["gatehouse_registry_requests_total"].GetMetric() {
		codes[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
	}
	if codes["200"] < 2 {
		t.Errorf("%v", codes)
	}
}
