package conformance

func wideIdentity() Class {
	return Class{
		ID: "B11", Title: "An identity is taken too widely",
		Beyond: "Signers that are matched too widely are tried with images of the profile, since only its owner can sign: by another key or workflow, from a pull request, by another issuer.",
		Cases: []Case{
			{
				ID: "B11/powerful-user", Title: "an administrator creates the pod",
				Gain: "Stolen credentials of an administrator, or a pipeline that has them, run anything.",
				probes: func(w *world) []probe {
					return []probe{{what: "a member of system:masters", review: w.podOf(w.bad()).User("kubernetes-admin", "system:masters", "system:authenticated"), want: denied()}}
				},
			},
			{
				ID: "B11/controller", Title: "a controller creates the pod",
				Gain: "The workload was let in earlier, or never reviewed, and its pods are waved through.", References: []string{"kritis checkOwners"},
				probes: func(w *world) []probe {
					controller := func(b string) probe {
						return probe{what: b, review: w.podOf(w.bad()).Owner("apps/v1", "ReplicaSet", "web").User("system:serviceaccount:kube-system:"+b, "system:serviceaccounts", "system:serviceaccounts:kube-system"), want: denied()}
					}
					return []probe{controller("replicaset-controller"), controller("job-controller"), controller("daemon-set-controller")}
				},
			},
			{
				ID: "B11/service-account", Title: "the pod runs as a service account that sounds important",
				Gain: "A name that whoever writes the pod chooses makes it trusted.",
				probes: func(w *world) []probe {
					return []probe{
						{what: "default of kube-system", review: w.podOf(w.bad()).ServiceAccount("system:serviceaccount:kube-system:default"), want: denied()},
						{what: "the name of the good repository", review: w.podOf(w.bad()).ServiceAccount("admin"), want: denied()},
					}
				},
			},
			profileImages("B11", "B11/other-signer", "images that others have signed", "Whoever can sign at all, or in the same place, is taken for the signer that policy names.", []string{"CVE-2025-29778"}),
		},
	}
}

// profileImages are denials of images that only the profile can name.
func profileImages(class, id, title, gain string, references []string) Case {
	return Case{
		ID: id, Title: title, Gain: gain, References: references, needs: []need{needDenied(class)},
		probes: func(w *world) []probe {
			var list []probe
			for _, d := range w.profile.Denied {
				if d.Class == class {
					list = append(list, probe{what: clip(d.Why + " " + d.Image), review: w.podOf(d.Image), want: denied()})
				}
			}
			return list
		},
	}
}
