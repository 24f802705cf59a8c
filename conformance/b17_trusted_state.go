package conformance

import "github.com/gatehouse-dev/gatehouse/gatetest/review"

func trustedState() Class {
	return Class{
		ID: "B17", Title: "The gate believes what the object says about itself",
		Cases: []Case{
			{
				ID: "B17/owners", Title: "a pod that claims owners",
				Gain: "Whoever writes the name of a workload into a pod is let in with any image.", References: []string{"kritis checkOwners"},
				probes: func(w *world) []probe {
					return []probe{
						{what: "a ReplicaSet", review: w.podOf(w.bad()).Owner("apps/v1", "ReplicaSet", "web"), want: denied()},
						{what: "a Job", review: w.podOf(w.bad()).Owner("batch/v1", "Job", "web"), want: denied()},
						{what: "a kind that does not exist", review: w.podOf(w.bad()).Owner("x/v9", "Deployment", "web"), want: denied()},
						{what: "an empty list", review: w.podOf(w.bad()).Edit(func(o map[string]any) { o["metadata"].(map[string]any)["ownerReferences"] = []any{} }), want: denied()},
					}
				},
			},
			{
				ID: "B17/owned-workload", Title: "a ReplicaSet that claims a Deployment", needs: []need{needKind("replicasets.apps")},
				Gain: "As for pods, one step up.", References: []string{"kritis B1"},
				probes: func(w *world) []probe {
					return []probe{{what: "a Deployment", review: withImages(w.begin(kinds()[1]), w.bad()).Owner("apps/v1", "Deployment", "web"), want: denied()}}
				},
			},
			{
				ID: "B17/annotations", Title: "annotations that say the image was verified",
				Gain: "A verdict that is written down where anybody may write is forged.", References: []string{"kyverno#16336"},
				probes: func(w *world) []probe {
					var list []probe
					for _, a := range [][2]string{
						{"kyverno.io/verify-images", `{"` + w.bad() + `":"pass"}`},
						{"kyverno.io/image-verification-outcomes", `{"check-image":{"name":"check-image","ruleType":"ImageVerify","status":"pass"}}`},
						{"kritis.grafeas.io/attestation", "true"}, {"alpha.image-policy.k8s.io/failed-open", "true"}, {"imagepolicywebhook.image-policy.k8s.io/failed-open", "true"},
						{"policy.sigstore.dev/verified", "true"}, {"connaisseur.io/verified", w.bad()}, {"admission.gatehouse.dev/allowed", "true"}, {"ratify.deislabs.io/verified", "true"},
					} {
						list = append(list, probe{what: a[0], review: w.podOf(w.bad()).Annotation(a[0], a[1]), want: denied()})
					}
					return list
				},
			},
			{
				ID: "B17/labels", Title: "labels that switch gates off",
				Gain: "Whoever may create pods may exempt them.",
				probes: func(w *world) []probe {
					var list []probe
					for _, l := range [][2]string{
						{"admission.gatekeeper.sh/ignore", "no-self-managing"}, {"securesystemsengineering.connaisseur/webhook", "ignore"}, {"policy.sigstore.dev/exclude", "true"}, {"policy.sigstore.dev/include", "false"},
						{"kritis-validation", "disabled"}, {"control-plane", "controller-manager"}, {"app.kubernetes.io/part-of", "kyverno"}, {"app", "gatehouse"}, {"kubernetes.io/metadata.name", "kube-system"},
					} {
						list = append(list, probe{what: l[0], review: w.podOf(w.bad()).Label(l[0], l[1]), want: denied()})
					}
					return list
				},
			},
			{
				ID: "B17/mirror-pod", Title: "a person's pod that claims to be the mirror of a static one",
				Gain: "Mirror pods run already and are waved through; this one does not, yet.",
				probes: func(w *world) []probe {
					return []probe{
						{what: "the annotations of a mirror", review: w.podOf(w.bad()).Annotation("kubernetes.io/config.mirror", "a8d1").Annotation("kubernetes.io/config.source", "file").Annotation("kubernetes.io/config.hash", "a8d1"), want: denied()},
						{what: "with a node name", review: w.podOf(w.bad()).Annotation("kubernetes.io/config.mirror", "a8d1").Edit(func(o map[string]any) { o["spec"].(map[string]any)["nodeName"] = "n1" }), want: denied()},
					}
				},
			},
			{
				ID: "B17/other-copies", Title: "the good image wherever else an object may name one",
				Gain: "The gate reads a copy that the client wrote: the status, the last applied configuration, the managed fields.",
				probes: func(w *world) []probe {
					status := map[string]any{"containerStatuses": []any{map[string]any{"name": "c0", "image": w.good(), "imageID": w.good()}}}
					return []probe{
						{what: "the status", review: w.podOf(w.bad()).Edit(func(o map[string]any) { o["status"] = status }), want: denied()},
						{what: "the last applied configuration", review: w.podOf(w.bad()).Annotation("kubectl.kubernetes.io/last-applied-configuration", `{"spec":{"containers":[{"name":"c0","image":"`+w.good()+`"}]}}`), want: denied()},
						{what: "an annotation with the image", review: w.podOf(w.bad()).Annotation("image", w.good()).Annotation("c0", w.good()), want: denied()},
						{what: "a template beside the spec", review: w.podOf(w.bad()).Edit(func(o map[string]any) { o["template"] = templateOf(w.good()) }), want: denied()},
					}
				},
			},
			{
				ID: "B17/two-templates", Title: "workloads with a second template of the good image", needs: []need{needKind("deployments.apps")},
				Gain: "The gate finds a template where another kind has it, and the controller uses its own.",
				probes: func(w *world) []probe {
					deployment := func(edit func(map[string]any)) *review.Builder {
						return withImages(w.begin(kinds()[0]), w.bad()).Edit(edit)
					}
					return []probe{
						{what: "a PodTemplate's", review: deployment(func(o map[string]any) { o["template"] = templateOf(w.good()) }), want: denied()},
						{what: "a CronJob's", review: deployment(func(o map[string]any) {
							o["spec"].(map[string]any)["jobTemplate"] = map[string]any{"spec": map[string]any{"template": templateOf(w.good())}}
						}), want: denied()},
						{what: "a pod's containers", review: deployment(func(o map[string]any) {
							o["spec"].(map[string]any)["containers"] = []any{map[string]any{"name": "c0", "image": w.good()}}
						}), want: denied()},
					}
				},
			},
		},
	}
}

func templateOf(image string) map[string]any {
	return map[string]any{"metadata": map[string]any{}, "spec": map[string]any{"containers": []any{map[string]any{"name": "c0", "image": image}}}}
}
