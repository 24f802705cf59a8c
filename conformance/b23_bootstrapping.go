package conformance

import (
	"fmt"

	"github.com/gatehouse-dev/gatehouse/gatetest/review"
)

func bootstrapping() Class {
	// imageless is a review of a kind that has no images.
	imageless := func(w *world, kind, group, resource string, b *review.Builder) probe {
		return probe{what: kind, review: b.Edit(func(o map[string]any) {
			o["kind"] = kind
			delete(o, "spec")
			delete(o, "status")
		}), edit: func(text string) string {
			text = kindIs(kind, group)(text)
			return replaceMember(text, "resource", fmt.Sprintf(`{"group":%q,"version":"v1","resource":%q}`, group, resource))
		}, want: allowed()}
	}
	return Class{
		ID: "B23", Title: "The gate keeps the cluster from starting, or from being rid of it",
		Beyond: "Which objects the gate is asked about, what happens while it is down, and what an uninstall leaves behind is in its webhook configuration and its manifests; it takes a cluster that is stopped and started.",
		Cases: []Case{
			{
				ID: "B23/kinds-without-images", Title: "leases, nodes, events and config maps, should the gate be asked about them",
				Gain: "An outage: a webhook for all kinds keeps nodes from renewing their leases, and with them everything.", References: []string{"kyverno#16177"},
				probes: func(w *world) []probe {
					return []probe{
						imageless(w, "Lease", "coordination.k8s.io", "leases", w.pod()),
						imageless(w, "Node", "", "nodes", w.pod()),
						imageless(w, "Event", "events.k8s.io", "events", w.pod()),
						imageless(w, "ConfigMap", "", "configmaps", w.pod()),
					}
				},
			},
			{
				ID: "B23/deletions", Title: "workloads, namespaces and pods are deleted, should the gate be asked",
				Gain: "An outage: what policy denies cannot be taken away, and the gate itself not uninstalled.", References: []string{"kritis B14", "kyverno#8390"},
				probes: func(w *world) []probe {
					namespace := imageless(w, "Namespace", "", "namespaces", w.podOf(w.bad()).Delete())
					list := []probe{{what: "a pod", review: w.podOf(w.bad()).Delete(), want: allowed()}, namespace}
					for _, k := range w.workloads() {
						list = append(list, probe{what: k.name, review: withImages(w.begin(k), w.bad()).Delete(), want: allowed()})
					}
					return list
				},
			},
			{
				ID: "B23/bindings", Title: "pods are bound, evicted and entered, should the gate be asked",
				Gain: "An outage: nothing is scheduled, and nodes cannot be drained.",
				probes: func(w *world) []probe {
					sub := func(kind, group, name string) probe {
						p := imageless(w, kind, group, "pods", w.pod().Subresource(name))
						p.what = "pods/" + name
						return p
					}
					return []probe{sub("Binding", "", "binding"), sub("Eviction", "policy", "eviction")}
				},
			},
		},
	}
}
