package sink_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/audit/deliver"
	"github.com/gatehouse-dev/gatehouse/audit/sink"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
)

// An event as kubectl shows it.
type event struct {
	Metadata       struct{ Name string }
	InvolvedObject struct{ Kind, Name, UID, APIVersion string }
	Reason         string
	Message        string
	Type           string
	Count          int
	FirstTimestamp time.Time
	LastTimestamp  time.Time
}

func eventsIn(t *testing.T, cp *controlplane.ControlPlane, namespace string) []event {
	t.Helper()
	status, text, err := cp.Do(t.Context(), http.MethodGet, "/api/v1/namespaces/"+namespace+"/events", nil)
	if err != nil || status != http.StatusOK {
		t.Fatalf("status %d, error %v: %s", status, err, text)
	}
	var list struct{ Items []event }
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	var ours []event
	for _, e := range list.Items {
		if strings.HasPrefix(e.Metadata.Name, "gatehouse.") {
			ours = append(ours, e)
		}
	}
	return ours
}

func namespace(t *testing.T, cp *controlplane.ControlPlane, name string) {
	t.Helper()
	status, text, err := cp.Do(t.Context(), http.MethodPost, "/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": name}})
	if err != nil || status != http.StatusCreated {
		t.Fatalf("status %d, error %v: %s", status, err, text)
	}
}

// about is a record about an object in a namespace.
func about(t *testing.T, e deliver.Entry, namespace, resource, name string) deliver.Entry {
	t.Helper()
	r := *e.Decision
	r.Namespace, r.Resource, r.Name = namespace, resource, name
	return entryOf(t, deliver.Decisions, r)
}

func TestEventsInACluster(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	cp := controlplane.New(t, controlplane.Options{})
	c := sink.Config{KubernetesEvents: &sink.KubernetesEvents{Kubeconfig: cp.Kubeconfig()}}

	t.Run("kubectl describe shows why a Deployment was refused", func(t *testing.T) {
		t.Parallel()
		namespace(t, cp, "described")
		_, said, err := cp.Kubectl(t.Context(), nil, "create", "deployment", "web", "-n", "described", "--image=registry.example/web:1", "--replicas=0")
		if err != nil {
			t.Fatal(err, said)
		}
		send(t, open(t, c, options(nil)), about(t, decision(t, "1", "", ""), "described", "deployments.apps", "web"))
		out, said, err := cp.Kubectl(t.Context(), nil, "describe", "deployment", "web", "-n", "described")
		if err != nil {
			t.Fatal(err, said)
		}
		if !strings.Contains(out, "ImageDenied") || !strings.Contains(out, "No attestations found") {
			t.Errorf("kubectl describe says nothing:\n%s", out)
		}
	})
	t.Run("one Event grows, over replicas and restarts", func(t *testing.T) {
		t.Parallel()
		namespace(t, cp, "growing")
		one, two := open(t, c, options(nil)), open(t, c, options(nil))
		send(t, one, about(t, decision(t, "1", "", ""), "growing", "pods", ""), about(t, decision(t, "2", "", ""), "growing", "pods", ""))
		send(t, two, about(t, decision(t, "3", "", ""), "growing", "pods", ""))
		events := eventsIn(t, cp, "growing")
		if len(events) != 1 {
			t.Fatalf("%d Events: %+v", len(events), events)
		}
		if e := events[0]; e.Count != 3 || e.Reason != "ImageDenied" || e.Type != "Warning" || e.InvolvedObject.Kind != "Namespace" || e.InvolvedObject.Name != "growing" ||
			!e.FirstTimestamp.Equal(when.Truncate(time.Second)) {
			t.Errorf("Event %+v", e)
		}
	})
	t.Run("what happened is its reason", func(t *testing.T) {
		t.Parallel()
		namespace(t, cp, "reasons")
		pinned := entryOf(t, deliver.Decisions, audit.Record{ID: "p", Time: when, Event: "pinned", Namespace: "reasons", Resource: "pods", Pinned: []audit.Pinned{
			{Image: "registry.example/a:1", Error: "no such tag"}, {Image: "registry.example/b:1", Digest: "sha256:…"},
		}})
		broken := decision(t, "b", "", decide.BreakGlass)
		r := *broken.Decision
		r.Namespace, r.BreakGlass = "reasons", &audit.BreakGlass{Needed: true, Kind: "Deployment", Name: "web"}
		tried := about(t, decision(t, "t", "", ""), "reasons", "pods", "tried")
		tried.Decision.DryRun = true
		send(t, open(t, c, options(nil)), pinned, entryOf(t, deliver.Decisions, r), tried,
			about(t, decision(t, "d", "", decide.DryRun), "reasons", "pods", "dry"), about(t, decision(t, "f", "", decide.FailOpen), "reasons", "pods", "open"))
		got := map[string]string{}
		for _, e := range eventsIn(t, cp, "reasons") {
			got[e.Reason] = e.InvolvedObject.Kind + "/" + e.InvolvedObject.Name
		}
		if diff := cmp.Diff(map[string]string{
			"ImageNotPinned": "Namespace/reasons", "BreakGlass": "Deployment/web", "DryRunDenied": "Pod/dry", "ImageNotChecked": "Pod/open",
		}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("so many in a minute, and the rest later", func(t *testing.T) {
		t.Parallel()
		namespace(t, cp, "busy")
		now := when
		o := options(nil)
		o.Now = func() time.Time { return now }
		c := sink.Config{KubernetesEvents: &sink.KubernetesEvents{Kubeconfig: cp.Kubeconfig(), PerMinute: 2}}
		s := open(t, c, o)
		for i := range 4 {
			send(t, s, about(t, decision(t, fmt.Sprint(i), "", ""), "busy", "pods", fmt.Sprint("pod-", i)))
		}
		if events := eventsIn(t, cp, "busy"); len(events) != 2 {
			t.Fatalf("%d Events in a minute", len(events))
		}
		now = now.Add(time.Minute)
		send(t, s)
		if events := eventsIn(t, cp, "busy"); len(events) != 4 {
			t.Errorf("%d Events in two minutes", len(events))
		}
	})
	t.Run("nasty names are text", func(t *testing.T) {
		t.Parallel()
		namespace(t, cp, "nasty")
		e := nastyEntries(t)[0]
		send(t, open(t, c, options(nil)), about(t, e, "nasty", "pods", nasty))
		events := eventsIn(t, cp, "nasty")
		if len(events) != 1 || strings.ContainsAny(events[0].Message, "\n\r\x1b\u202e\u009b") {
			t.Errorf("Events %+v", events)
		}
	})
	t.Run("a namespace that is not there is no reason to wait", func(t *testing.T) {
		t.Parallel()
		err := open(t, c, options(nil)).Send(t.Context(), []deliver.Entry{about(t, decision(t, "1", "", ""), "nowhere", "pods", "")})
		if !errors.As(err, new(*deliver.RefusedError)) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("what is old is no news", func(t *testing.T) {
		t.Parallel()
		namespace(t, cp, "old")
		o := options(nil)
		o.Now = func() time.Time { return when.Add(2 * time.Hour) }
		send(t, open(t, c, o), about(t, decision(t, "1", "", ""), "old", "pods", ""))
		if events := eventsIn(t, cp, "old"); len(events) != 0 {
			t.Errorf("Events %+v", events)
		}
	})
}

func TestABatchThatFailedHalfwayIsNotCountedTwice(t *testing.T) {
	t.Parallel()
	var requests, created atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.Method == http.MethodGet:
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"kind":"Status","reason":"NotFound","message":"no","code":404}`))
		case requests.Add(1) == 4:
			w.WriteHeader(http.StatusUnprocessableEntity)
		default:
			created.Add(1)
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write([]byte(`{}`))
		}
	}))
	t.Cleanup(server.Close)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c","clusters":[{"name":"c","cluster":{"server":%q}}],"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],"users":[{"name":"u","user":{}}]}`, server.URL)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, sink.Config{KubernetesEvents: &sink.KubernetesEvents{Kubeconfig: kubeconfig}}, options(nil))
	entries := []deliver.Entry{decision(t, "1", "a", ""), decision(t, "2", "b", ""), decision(t, "3", "c", ""), decision(t, "4", "d", "")}
	if err := s.Send(t.Context(), entries); err == nil {
		t.Fatal("want an error")
	}
	send(t, s, entries[:2]...) // as the follower finds the one that is refused
	send(t, s, entries[2:]...)
	if n := created.Load(); n != 4 {
		t.Errorf("%d Events were made of 4", n)
	}
}
