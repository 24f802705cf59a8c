// Package kwok runs the real kwok, for tests: nodes that are none, whose pods are told to
// run, so that Deployments and other workloads make progress. It is built from the module
// test/kwok into the user's cache directory the first time that it is needed, which takes
// some minutes; make kube does so beforehand.
package kwok

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
	"github.com/gatehouse-dev/gatehouse/gatetest/internal/child"
	"github.com/gatehouse-dev/gatehouse/gatetest/internal/nested"
)

const (
	// readyBound is how long nodes may take to be ready.
	readyBound = time.Minute
	pollEvery  = 50 * time.Millisecond
	stopGrace  = 5 * time.Second
)

// Build returns the path of kwok, which it builds if the cache does not hold it, and
// reports progress to logf, which may be nil.
func Build(ctx context.Context, logf func(format string, args ...any)) (bin string, err error) {
	return nested.Module{Name: "kwok", Title: "kwok", Cost: "2 minutes on two idle cores"}.Build(ctx, logf)
}

// Nodes are nodes that kwok keeps.
type Nodes struct {
	kube    *controlplane.ControlPlane
	process *child.Process
}

// New makes nodes, node-0 and so on, and returns when they are ready. Pods on them run at
// once, but for those in namespaces whose pods somebody else runs. They are stopped when
// the test ends. The control plane has to have a scheduler.
func New(t testing.TB, kube *controlplane.ControlPlane, count int, others ...string) *Nodes {
	t.Helper()
	bin, err := Build(t.Context(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	text, err := configuration(stages(others))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "stages.yaml")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	n := &Nodes{kube: kube}
	cmd := exec.Command(bin, "--kubeconfig="+kube.Kubeconfig(), "--config="+config, "--manage-all-nodes=true", //nolint:noctx // Stop ends it, SIGTERM first
		"--server-address=127.0.0.1:0", "--node-lease-duration-seconds=40")
	cmd.Env = append(os.Environ(), "KWOK_WORKDIR="+dir)
	cmd.SysProcAttr = child.Attributes(syscall.SIGKILL)
	if n.process, err = child.Start("kwok", filepath.Join(dir, "kwok.log"), cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	ctx, cancel := context.WithTimeout(t.Context(), readyBound)
	defer cancel()
	for i := range count {
		name := fmt.Sprintf("node-%d", i)
		if err := n.add(ctx, name); err != nil {
			t.Fatal(err)
		}
		if err := n.await(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// Stop ends kwok, as if all nodes had lost their power at once: their objects stay. It may
// be called more than once.
func (n *Nodes) Stop() { n.process.Stop(syscall.SIGKILL, stopGrace) }

type object = map[string]any

func (n *Nodes) add(ctx context.Context, name string) error {
	resources := object{"cpu": "32", "memory": "64Gi", "pods": "1000"}
	status, body, err := n.kube.Do(ctx, http.MethodPost, "/api/v1/nodes", object{
		"apiVersion": "v1", "kind": "Node",
		"metadata": object{"name": name, "labels": object{"kubernetes.io/os": "linux", "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": "zone-" + name}},
		"status":   object{"allocatable": resources, "capacity": resources},
	})
	if err == nil && status != http.StatusCreated && status != http.StatusConflict {
		err = fmt.Errorf("status %d: %.300s", status, body)
	}
	if err != nil {
		return fmt.Errorf("adding node %q: %w", name, err)
	}
	return nil
}

// await waits until a node is ready.
func (n *Nodes) await(ctx context.Context, name string) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		_, body, err := n.kube.Do(ctx, http.MethodGet, "/api/v1/nodes/"+name, nil)
		var node struct {
			Spec   struct{ Taints []struct{ Key string } }
			Status struct {
				Conditions []struct{ Type, Status string }
			}
		}
		if err == nil {
			err = json.Unmarshal(body, &node)
		}
		for _, c := range node.Status.Conditions {
			if c.Type == "Ready" && c.Status == "True" && len(node.Spec.Taints) == 0 {
				return nil
			}
		}
		select {
		case <-ticker.C:
		case <-n.process.Done():
			return n.process.Failure()
		case <-ctx.Done():
			return fmt.Errorf("waiting for node %q: %w (%w)", name, context.Cause(ctx), err)
		}
	}
}
