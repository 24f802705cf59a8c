package conformance

func subresources() Class {
	return Class{
		ID: "B4", Title: "A subresource or another way of writing goes around the review",
		Beyond: "Which subresources reach the gate is said in its webhook configuration: pods/ephemeralcontainers has to be named there.",
		Cases: []Case{
			{
				ID: "B4/ephemeral-containers", Title: "an ephemeral container is added, as kubectl debug does",
				Gain:       "Any image runs in the namespaces of a good pod, with its volumes.",
				References: []string{"kyverno#16275", "kyverno#16947", "CVE-2023-2727", "CVE-2023-2728"},
				probes: func(w *world) []probe {
					add := func(image string) probe {
						return probe{review: w.podOf(w.good()).EphemeralImage("debug", image).Subresource("ephemeralcontainers").Update(w.podOf(w.good()))}
					}
					bad, good := add(w.bad()), add(w.good())
					bad.what, bad.want = "the bad image", denied()
					good.what, good.want = "the good image", allowed()
					return []probe{bad, good}
				},
			},
			{
				ID: "B4/second-ephemeral-container", Title: "an ephemeral container is added beside one that is there",
				Gain: "Only the first of the list is looked at, or only whether there was one.",
				probes: func(w *world) []probe {
					old := w.podOf(w.good()).EphemeralImage("debug", w.good())
					return []probe{{what: "good, then bad", review: w.podOf(w.good()).EphemeralImage("debug", w.good()).EphemeralImage("more", w.bad()).Subresource("ephemeralcontainers").Update(old), want: denied()}}
				},
			},
			{
				ID: "B4/status", Title: "the kubelet reports the status of a pod that policy no longer admits",
				Gain: "An outage: nodes cannot report, and pods are taken for dead.",
				probes: func(w *world) []probe {
					return []probe{{what: "pods/status", review: w.podOf(w.bad()).Subresource("status").Update(w.podOf(w.bad())).User("system:node:n1", "system:nodes"), want: allowed()}}
				},
			},
			{
				ID: "B4/scale", Title: "a Scale, which is not a Deployment, is sent for deployments/scale", needs: []need{needKind("deployments.apps")},
				Gain: "An outage: nothing can be scaled, since the object has no template.",
				probes: func(w *world) []probe {
					b := withImages(w.begin(kinds()[0]), w.good()).Subresource("scale").Update(withImages(w.begin(kinds()[0]), w.good())).Edit(func(o map[string]any) {
						o["kind"], o["apiVersion"], o["spec"] = "Scale", "autoscaling/v1", map[string]any{"replicas": 3}
					})
					return []probe{{what: "a scale", review: b, edit: kindIs("Scale", "autoscaling"), want: allowed()}}
				},
			},
			{
				ID: "B4/patched", Title: "a patch and a server-side apply, which come with other options",
				Gain: "What is written by PATCH is taken for something else than a creation or an update.",
				probes: func(w *world) []probe {
					options := replace(`"kind":"UpdateOptions"`, `"kind":"PatchOptions"`)
					create := replace(`"kind":"CreateOptions"`, `"kind":"PatchOptions"`)
					return []probe{
						{what: "a patch of the image", review: w.podOf(w.bad()).Update(w.podOf(w.good())), edit: options, want: denied()},
						{what: "an apply that creates", review: w.podOf(w.bad()), edit: create, want: denied()},
					}
				},
			},
			{
				ID: "B4/resize", Title: "a pod comes by pods/resize with another image",
				Gain: "A subresource whose object is a whole pod is passed over without a look at it.",
				probes: func(w *world) []probe {
					return []probe{{what: "another image", review: w.podOf(w.bad()).Subresource("resize").Update(w.podOf(w.good())), want: denied()}}
				},
			},
		},
	}
}
