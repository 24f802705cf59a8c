package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/breakglass"
)

const unattestedImage = "reg.test/app@sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"

// glassReview is the review of a pod of the Deployment web with a marker.
func glassReview(pod int) []byte { return glassReviewOf("web", pod) }

// glassReviewOf is the review of a pod of the replica set of a Deployment, with a marker.
func glassReviewOf(deployment string, pod int) []byte {
	set := deployment + "-6d4"
	name := fmt.Sprintf("%s-%d", set, pod)
	text, err := json.Marshal(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": map[string]any{
		"uid": fmt.Sprint(pod), "operation": "CREATE", "namespace": "shop", "name": name,
		"kind": map[string]any{"kind": "Pod", "version": "v1"}, "resource": map[string]any{"resource": "pods", "version": "v1"},
		"userInfo": map[string]any{"username": "system:serviceaccount:kube-system:replicaset-controller"},
		"object": map[string]any{
			"metadata": map[string]any{
				"name":            name,
				"labels":          map[string]any{admission.BreakGlassLabel: "true", "pod-template-hash": "6d4"},
				"ownerReferences": []any{map[string]any{"kind": "ReplicaSet", "name": set, "uid": set, "controller": true}},
			},
			"spec": map[string]any{"containers": []any{map[string]any{"name": "c", "image": unattestedImage}}},
		},
	}})
	if err != nil {
		panic(err)
	}
	return text
}

type reviewAnswer struct {
	Response struct {
		Allowed bool
		Status  struct{ Message string }
	}
}

// ask sends a review as an API server does that waits for 5 s.
func ask(client *http.Client, addr string, review []byte) (reviewAnswer, error) {
	var a reviewAnswer
	resp, err := client.Post("https://"+addr+"/validate?timeout=5s", "application/json", bytes.NewReader(review))
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	return a, json.NewDecoder(resp.Body).Decode(&a)
}

// TestAnEmergencyWithEverythingDown: a gate whose service never answers and whose pager is
// away lets break-glass in within the time that it has, is killed, and tells the pager
// when both are there again.
func TestAnEmergencyWithEverythingDown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pager, addr, ops := freePort(t), freePort(t), freePort(t)
	config, secret := filepath.Join(dir, "gatehouse.yaml"), filepath.Join(dir, "secret")
	for path, text := range map[string]string{
		secret: "c2VjcmV0LXNlY3JldC1zZWNyZXQh",
		config: fmt.Sprintf(`
role: admission
admission: {feed: {server: "http://%s"}}
breakGlass: {pageAloneAfter: 1s}
notify:
  receivers: [{name: hook, timeout: 1s, webhook: {url: "http://%s/", secretFile: %q}}]
  routes: [{name: all, receivers: [hook]}]
`, freePort(t), pager, secret),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	launch := func() *serveProcess {
		p := launchServe(t, "--config", config, "--data", filepath.Join(dir, "data"), "--admission-addr", addr, "--ops-addr", ops)
		until(t, "the gate serves its health", func() bool {
			resp, err := http.Get("http://" + ops + "/healthz")
			if err != nil {
				return false
			}
			_ = resp.Body.Close()
			return true
		})
		return p
	}
	gate := launch()
	client := trusting(t, filepath.Join(dir, "data", "tls", "ca.crt"))
	t.Cleanup(client.CloseIdleConnections)
	const pods = 20
	for n := range pods {
		begun := time.Now()
		a, err := ask(client, addr, glassReview(n))
		if err != nil || !a.Response.Allowed || time.Since(begun) > 5*time.Second {
			t.Fatalf("pod %d after %s: %+v, error %v\n%s", n, time.Since(begun), a, err, gate.stderr)
		}
	}
	gate.kill()
	client.CloseIdleConnections()

	told := make(chan string, 100)
	hook := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		told <- string(body)
	}))
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", pager)
	if err != nil {
		t.Fatal(err)
	}
	hook.Listener = l
	hook.Start()
	defer hook.Close()
	again := launch()
	select {
	case page := <-told:
		if !strings.Contains(page, "Deployment/web") || !strings.Contains(page, "incident.opened") {
			t.Errorf("the page: %s", page)
		}
	case <-time.After(time.Minute):
		t.Fatalf("nobody was paged\n%s", again.stderr)
	}
	var list []breakglass.Incident
	until(t, "the incident is written with all its pods", func() bool {
		list, err = breakglass.ReadIncidents(filepath.Join(dir, "data", "breakglass"))
		return err == nil && len(list) == 1 && list[0].Pods == pods
	})
	if i := list[0]; i.Workload.String() != "Deployment/web" || i.State != breakglass.StateOpen || i.Verdict != "INDETERMINATE" {
		t.Errorf("the incident: %+v", i)
	}
}
