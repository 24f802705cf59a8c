package server

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

// scaleVariable is POLICIES/NAMESPACES for a test of another size than one for every day.
const scaleVariable = "GATEHOUSE_SCALE"

// TestManyPoliciesAndNamespaces cost what they weigh, once: what a controller and a gate
// have in memory does not grow while they are looked at, and nothing is read again.
func TestManyPoliciesAndNamespaces(t *testing.T) {
	t.Parallel()
	policies, namespaces := 60, 150
	if text := os.Getenv(scaleVariable); text != "" {
		if _, err := fmt.Sscanf(text, "%d/%d", &policies, &namespaces); err != nil {
			t.Fatal(err)
		}
	}
	m := newManaged(t)
	m.patience += time.Duration(policies) * time.Second / 4
	m.define()
	client, err := kube.Open(kube.Options{Kubeconfig: m.Kubeconfig(), UserAgent: "test"})
	if err != nil {
		t.Fatal(err)
	}
	name := func(i int) string { return fmt.Sprintf("n%05d", i%namespaces) }
	each := func(n int, do func(i int) error) {
		t.Helper()
		var group errgroup.Group
		group.SetLimit(16)
		for i := range n {
			group.Go(func() error { return do(i) })
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	object := func(version, kind, namespace, name string, spec any) map[string]any {
		return map[string]any{"apiVersion": version, "kind": kind, "metadata": map[string]string{"namespace": namespace, "name": name}, "spec": spec}
	}
	created := time.Now()
	each(namespaces, func(i int) error {
		return client.Create(t.Context(), object("v1", "Namespace", "", name(i), map[string]any{}), nil, "api", "v1", "namespaces")
	})
	each(policies, func(i int) error {
		spec := map[string]any{"imageAllowlist": []string{fmt.Sprintf("registry.test/allowed:%d", i)}, "packageVulnerabilityRequirements": map[string]string{"maximumSeverity": "LOW"}}
		isp := object("kritis.grafeas.io/v1beta1", "ImageSecurityPolicy", name(i), fmt.Sprintf("isp-%d", i), spec)
		pod := object("v1", "Pod", name(i), fmt.Sprintf("pod-%d", i), map[string]any{"containers": []map[string]string{{"name": "main", "image": pinned("web")}}})
		if err := client.Create(t.Context(), isp, nil, "apis", "kritis.grafeas.io", "v1beta1", "namespaces", name(i), "imagesecuritypolicies"); err != nil {
			return err
		}
		return client.Create(t.Context(), pod, nil, "api", "v1", "namespaces", name(i), "pods")
	})
	t.Logf("created after %s", time.Since(created).Round(time.Second))
	before, begun := heap(), time.Now()
	m.control(t)
	becomes(m, "pods that are marked", policies, func() int {
		var list struct{ Items []struct{} }
		m.look("/api/v1/pods?labelSelector=kritis.grafeas.io/invalidImageSecPolicy", &list)
		return len(list.Items)
	})
	marked := time.Since(begun)
	becomes(m, "policies that are in force", policies, func() int {
		var list struct {
			Items []struct{ Status policyStatus }
		}
		m.look("/apis/kritis.grafeas.io/v1beta1/imagesecuritypolicies", &list)
		n := 0
		for _, item := range list.Items {
			for _, c := range item.Status.Conditions {
				if c.Type == "Ready" && c.Status == "True" && item.Status.Images.Total > 0 {
					n++
				}
			}
		}
		return n
	})
	took, full := time.Since(begun), heap()
	_, at := m.requests(0)
	for i := range 5 {
		m.scanned(pinned(fmt.Sprint("other", i)), nil)
		m.must(strings.Replace(podOf(fmt.Sprint("extra-", i), pinned("web"), "", ""), "namespace: shop", "namespace: n00000", 1), "create", "-f", "-")
		becomes(m, "another pod", "invalidImageSecPolicy", func() string {
			return m.marksOf("n00000", fmt.Sprint("extra-", i))["label invalidImageSecPolicy"]
		})
	}
	after := heap()
	list, _ := m.requests(at)
	for _, r := range list {
		if !strings.HasSuffix(r, " leases") && !strings.HasPrefix(r, "patch ") {
			t.Errorf("asked for %q", r)
		}
	}
	t.Logf("%d policies in %d namespaces, %d pods: marked after %s, in force and told after %s; service, gate and controller have %.1f MB more for them, and %.1f MB more after further 5 passes; %d requests by then",
		policies, namespaces, policies, marked.Round(time.Millisecond), took.Round(time.Millisecond), mb(full, before), mb(after, full), len(list))
	if growth := mb(after, full); growth > max(8, mb(full, before)/4) {
		t.Errorf("memory grows by %.1f MB while nothing changes", growth)
	}
}

// policyStatus is what the test looks at.
type policyStatus struct {
	Conditions []struct{ Type, Status string }
	Images     struct{ Total int }
}

// heap is what is in memory, in bytes.
func heap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers have kept
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func mb(a, b uint64) float64 { return (float64(a) - float64(b)) / (1 << 20) }
