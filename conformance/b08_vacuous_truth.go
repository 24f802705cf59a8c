package conformance

func vacuousTruth() Class {
	return Class{
		ID: "B8", Title: "Nothing satisfies every condition",
		Beyond: "Policies with empty lists of signers and the like are the business of whoever writes policy; a webhook does not show them.",
		Cases: []Case{
			{
				ID: "B8/no-containers", Title: "a pod whose list of containers is empty, null or missing",
				Gain: "A condition on all containers holds for none, while the other fields bring images.",
				probes: func(w *world) []probe {
					containers := func(value any) func(map[string]any) {
						return func(o map[string]any) { o["spec"].(map[string]any)["containers"] = value }
					}
					return []probe{
						{what: "an empty list beside a bad init container", review: w.pod().InitImage("init", w.bad()), want: denied()},
						{what: "null beside a bad image volume", review: w.pod().ImageVolume("data", w.bad()).Edit(containers(nil)), want: denied()},
						{what: "no list beside a bad ephemeral container", review: w.pod().EphemeralImage("debug", w.bad()).Edit(func(o map[string]any) { delete(o["spec"].(map[string]any), "containers") }), want: denied()},
						{what: "an empty list", review: w.pod(), want: denied()},
					}
				},
			},
			{
				ID: "B8/no-image", Title: "a container whose image is empty, null or missing",
				Gain: "What has no image is passed over, and gets one from whoever comes after.",
				probes: func(w *world) []probe {
					return []probe{
						{what: "an empty image", review: w.podOf(w.good(), ""), want: denied()},
						{what: "a null image", review: w.podOf(w.good(), "x").Edit(func(o map[string]any) { items(o, "spec", "containers")[1]["image"] = nil }), want: denied()},
						{what: "no image", review: w.podOf(w.good(), "x").Edit(func(o map[string]any) { delete(items(o, "spec", "containers")[1], "image") }), want: denied()},
					}
				},
			},
			{
				ID: "B8/no-evidence", Title: "a digest of which nobody knows anything",
				Gain: "An image that was never scanned has no findings, and one that was never signed no wrong signature.", References: []string{"kritis: unscanned images pass", "CVE-2022-35929", "CVE-2022-35930"},
				probes: func(w *world) []probe {
					return []probe{
						{what: "in the good repository", review: w.podOf(w.goodName() + "@" + w.strangeDigest()), want: denied()},
						{what: "in one that does not exist", review: w.podOf("conformance.invalid/nothing@" + w.strangeDigest()), want: denied()},
					}
				},
			},
			{
				ID: "B8/no-object", Title: "a creation without an object, or with one that is empty",
				Gain: "A gate that turns what it cannot read into nothing lets nothing through, and with it everything.", References: []string{"kyverno#15705"},
				probes: func(w *world) []probe {
					empty := func(o map[string]any) {
						for name := range o {
							delete(o, name)
						}
					}
					return []probe{
						{what: "an empty object", review: w.podOf(w.bad()).Edit(empty), want: refused()},
						{what: "null", review: w.podOf(w.bad()).Edit(empty), edit: replace(`"object":{}`, `"object":null`), want: refused()},
						{what: "no object", review: w.podOf(w.bad()).Edit(empty), edit: replace(`"object":{},`, ""), want: refused()},
					}
				},
			},
		},
	}
}
