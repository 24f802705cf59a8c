package conformance

func timeOfEvidence() Class {
	dated := func(w *world, image, when string) probe {
		return probe{what: "made " + when, review: w.podOf(image).Edit(func(o map[string]any) {
			o["metadata"].(map[string]any)["creationTimestamp"] = when
		}), want: denied()}
	}
	return Class{
		ID: "B12", Title: "Time is taken from the wrong place",
		Beyond: "Keys, certificates and statements that have expired, and a gate whose clock is wrong, are tried with images of the profile; the suite cannot turn the gate's clock.",
		Cases: []Case{
			{
				ID: "B12/object-time", Title: "a pod that says it was made long ago, or will be",
				Gain: "What claims to be older than the policy, or than the evidence, is let in.",
				probes: func(w *world) []probe {
					return []probe{dated(w, w.bad(), "1970-01-01T00:00:00Z"), dated(w, w.bad(), "2000-01-01T00:00:00Z"), dated(w, w.bad(), "9999-12-31T23:59:59Z"), dated(w, w.bad(), "yesterday")}
				},
			},
			{
				ID: "B12/restarted", Title: "a pod that says it was running or restarted before",
				Gain: "A start time in the status, or a restart annotation, makes a new pod an old one.",
				probes: func(w *world) []probe {
					return []probe{
						{what: "a start time", review: w.podOf(w.bad()).Edit(func(o map[string]any) {
							o["status"] = map[string]any{"phase": "Running", "startTime": "2001-01-01T00:00:00Z", "containerStatuses": []any{map[string]any{"name": "c0", "restartCount": 7, "image": w.good(), "imageID": w.good()}}}
						}), want: denied()},
						{what: "a restart", review: w.podOf(w.bad()).Annotation("kubectl.kubernetes.io/restartedAt", "2001-01-01T00:00:00Z"), want: denied()},
					}
				},
			},
			profileImages("B12", "B12/expired", "images whose evidence is of another time", "What was withdrawn or has run out still counts, and old images with known holes come back.", []string{"CVE-2024-23332", "CVE-2026-54787"}),
		},
	}
}
