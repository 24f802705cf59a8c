package conformance

func uncoveredFields() Class {
	c := Class{
		ID: "B3", Title: "A field that brings an image is not looked at",
		Beyond: "Static pods are started by the kubelet from files and never pass admission. Custom resources have images where their authors put them; a gate that judges the pods they end in needs not know them.",
		Cases: []Case{
			{
				ID: "B3/second-container", Title: "the bad image in the second container",
				Gain: "Any image runs beside a good one.",
				probes: func(w *world) []probe {
					return []probe{{what: "good, bad", review: w.podOf(w.good(), w.bad()), want: denied()}}
				},
			},
			{
				ID: "B3/init-containers", Title: "the bad image in an init container, and in a sidecar",
				Gain: "Any image runs before the good one, with its volumes.",
				probes: func(w *world) []probe {
					sidecar := w.podOf(w.good()).InitImage("sidecar", w.bad()).Edit(func(o map[string]any) {
						items(o, "spec", "initContainers")[0]["restartPolicy"] = "Always"
					})
					return []probe{
						{what: "an init container", review: w.podOf(w.good()).InitImage("init", w.bad()), want: denied()},
						{what: "a sidecar", review: sidecar, want: denied()},
					}
				},
			},
			{
				ID: "B3/image-volume", Title: "the bad image as a volume",
				Gain:       "A good container runs the programs of an unchecked image from a mount.",
				References: []string{"policy-controller commit 675921f3"},
				probes: func(w *world) []probe {
					return []probe{{what: "an image volume", review: w.podOf(w.good()).ImageVolume("data", w.bad()), want: denied()}}
				},
			},
			{
				ID: "B3/ephemeral-at-creation", Title: "a pod that comes with an ephemeral container",
				Gain: "What is skipped at creation, because an API server would not take it there, is never looked at again.",
				probes: func(w *world) []probe {
					return []probe{{what: "an ephemeral container", review: w.podOf(w.good()).EphemeralImage("debug", w.bad()), want: denied()}}
				},
			},
			{
				ID: "B3/template-fields", Title: "the bad image in init containers and volumes of a Deployment's template", needs: []need{needKind("deployments.apps")},
				Gain: "Early feedback is given for containers only, and a rollout hangs for a reason that nobody was told.",
				probes: func(w *world) []probe {
					k := kinds()[0]
					return []probe{
						{what: "an init container", review: withImages(w.begin(k), w.good()).InitImage("init", w.bad()), want: denied()},
						{what: "an image volume", review: withImages(w.begin(k), w.good()).ImageVolume("data", w.bad()), want: denied()},
					}
				},
			},
		},
	}
	for _, k := range kinds() {
		c.Cases = append(c.Cases, Case{
			ID: "B3/" + k.name, Title: "the bad image, and the good one, in " + k.name, needs: []need{needKind(k.name)},
			Gain:       "What the gate does not review is found out when its pods do not come, if those are reviewed; otherwise it runs.",
			References: []string{"kritis reviews three kinds only"},
			probes: func(w *world) []probe {
				return []probe{
					{what: "the bad image", review: withImages(w.begin(k), w.bad()), want: denied()},
					{what: "the good image", review: withImages(w.begin(k), w.good()), want: allowed()},
				}
			},
		})
	}
	return c
}

// items returns a list in an object, which a review was built with.
func items(o map[string]any, path ...string) []map[string]any {
	for _, name := range path[:len(path)-1] {
		o, _ = o[name].(map[string]any)
	}
	list, _ := o[path[len(path)-1]].([]map[string]any)
	return list
}
