package conformance

import "github.com/gatehouse-dev/gatehouse/gatetest/review"

func operations() Class {
	deployments := []need{needKind("deployments.apps")}
	deployment := func(w *world, replicas int, image string) *review.Builder {
		return withImages(w.begin(kinds()[0]), image).Edit(func(o map[string]any) {
			if spec, ok := o["spec"].(map[string]any); ok {
				spec["replicas"] = replicas
			}
		})
	}
	return Class{
		ID: "B5", Title: "An operation that is waved through changes an image",
		Cases: []Case{
			{
				ID: "B5/update-pod", Title: "the image of a running pod is changed",
				Gain: "A good pod is created, and made a bad one in place.",
				probes: func(w *world) []probe {
					return []probe{
						{what: "a container", review: w.podOf(w.bad()).Update(w.podOf(w.good())), want: denied()},
						{what: "an init container", review: w.podOf(w.good()).InitImage("init", w.bad()).Update(w.podOf(w.good()).InitImage("init", w.good())), want: denied()},
					}
				},
			},
			{
				ID: "B5/update-deployment", Title: "the image of a Deployment is changed", needs: deployments,
				Gain: "Only creations are reviewed, and whatever an object is changed into runs.", References: []string{"kritis#248"},
				probes: func(w *world) []probe {
					return []probe{{what: "good to bad", review: deployment(w, 1, w.bad()).Update(deployment(w, 1, w.good())), want: denied()}}
				},
			},
			{
				ID: "B5/scale-down", Title: "the image is changed while replicas go down", needs: deployments,
				Gain: "Scaling down is waved through, and takes a new image with it.", References: []string{"policy-controller IsScalingDown"},
				probes: func(w *world) []probe {
					return []probe{{what: "3 good to 1 bad", review: deployment(w, 1, w.bad()).Update(deployment(w, 3, w.good())), want: denied()}}
				},
			},
			{
				ID: "B5/zero-replicas", Title: "a Deployment of no replicas", needs: deployments,
				Gain: "An object that runs nothing is not reviewed, and is scaled up by a path that has no images.", References: []string{"portieris#508"},
				probes: func(w *world) []probe {
					return []probe{
						{what: "created with none", review: deployment(w, 0, w.bad()), want: denied()},
						{what: "changed with none", review: deployment(w, 0, w.bad()).Update(deployment(w, 0, w.good())), want: denied()},
					}
				},
			},
			{
				ID: "B5/deletion-timestamp", Title: "the new object claims to be in deletion",
				Gain: "Whoever writes a deletionTimestamp into an object escapes the review.", References: []string{"CVE-2023-34091"},
				probes: func(w *world) []probe {
					return []probe{
						{what: "created so", review: w.podOf(w.bad()).Deleting(), want: denied()},
						{what: "changed so", review: w.podOf(w.bad()).Deleting().Update(w.podOf(w.good())), want: denied()},
					}
				},
			},
			{
				ID: "B5/deletion", Title: "an object that is in deletion, and one that is deleted",
				Gain: "An outage: finalizers cannot be removed and namespaces not emptied of what policy has come to deny.", References: []string{"connaisseur#2053"},
				probes: func(w *world) []probe {
					return []probe{
						{what: "a finalizer is removed", review: w.podOf(w.bad()).Deleting().Label("finalizer", "removed").Update(w.podOf(w.bad()).Deleting()), want: allowed()},
						{what: "DELETE", review: w.podOf(w.bad()).Delete(), want: allowed()},
					}
				},
			},
			{
				ID: "B5/dry-run", Title: "a server-side dry run",
				Gain: "A dry run tells people and pipelines that the bad image would be let in.",
				probes: func(w *world) []probe {
					return []probe{
						{what: "the bad image", review: w.podOf(w.bad()).DryRun(), want: denied()},
						{what: "the good image", review: w.podOf(w.good()).DryRun(), want: allowed()},
					}
				},
			},
			{
				ID: "B5/unchanged", Title: "a label is changed on a pod that policy no longer admits",
				Gain: "An outage: controllers cannot adopt, label or clean up what runs already.",
				probes: func(w *world) []probe {
					return []probe{{what: "a label", review: w.podOf(w.bad()).Label("changed", "yes").Update(w.podOf(w.bad())), want: allowed()}}
				},
			},
			{
				ID: "B5/unchanged-in-name-only", Title: "images change places, so that the set of them stays",
				Gain: "A bad image that ran once, or under break-glass, is moved to where it runs for good.",
				probes: func(w *world) []probe {
					return []probe{
						{what: "init to main", review: w.podOf(w.bad()).InitImage("init", w.good()).Update(w.podOf(w.good()).InitImage("init", w.bad())), want: denied()},
						{what: "volume to main", review: w.podOf(w.bad()).ImageVolume("data", w.good()).Update(w.podOf(w.good()).ImageVolume("data", w.bad())), want: denied()},
					}
				},
			},
			{
				ID: "B5/no-old-object", Title: "an update that comes without the old object",
				Gain: "With nothing to compare to, everything counts as unchanged.",
				probes: func(w *world) []probe {
					return []probe{{what: "the bad image", review: w.podOf(w.bad()).Update(nil), want: denied()}}
				},
			},
		},
	}
}
