package conformance

import (
	"fmt"

	"github.com/gatehouse-dev/gatehouse/gatetest/review"
)

func anyOfAllOf() Class {
	many := func(w *world, n, bad int) *review.Builder {
		images := make([]string, n)
		for i := range images {
			images[i] = w.good()
		}
		if bad >= 0 {
			images[bad] = w.bad()
		}
		return w.podOf(images...)
	}
	return Class{
		ID: "B13", Title: "One good among many bad is enough, or one bad keeps out the good",
		Beyond: "Who may add evidence to the good image, and whether what is added can keep it out, is between the gate and its stores.",
		Cases: []Case{
			{
				ID: "B13/one-bad", Title: "one bad image among nine good ones",
				Gain: "Any image is let in that comes in good company.",
				probes: func(w *world) []probe {
					var list []probe
					for _, i := range []int{0, 5, 9} {
						list = append(list, probe{what: fmt.Sprintf("at place %d", i), review: many(w, 10, i), want: denied()})
					}
					return list
				},
			},
			{
				ID: "B13/one-good", Title: "one good image among bad ones",
				Gain: "Any of several is taken for all of them.",
				probes: func(w *world) []probe {
					return []probe{
						{what: "bad, bad, good", review: w.podOf(w.bad(), w.bad(), w.good()), want: denied()},
						{what: "good, bad, bad", review: w.podOf(w.good(), w.bad(), w.bad()), want: denied()},
					}
				},
			},
			{
				ID: "B13/same-name", Title: "two containers of one name, good and bad",
				Gain: "What is kept by the name of the container is judged once, for both.",
				probes: func(w *world) []probe {
					return []probe{
						{what: "good, then bad", review: w.pod().Image("c", w.good()).Image("c", w.bad()), want: denied()},
						{what: "bad, then good", review: w.pod().Image("c", w.bad()).Image("c", w.good()), want: denied()},
						{what: "a good container, a bad init container", review: w.pod().Image("c", w.good()).InitImage("c", w.bad()), want: denied()},
					}
				},
			},
			{
				ID: "B13/same-repository", Title: "two digests of one repository",
				Gain: "What is kept by the name of the image is judged once, for both.",
				probes: func(w *world) []probe {
					return []probe{
						{what: "good, then bad", review: w.podOf(w.good(), w.goodName()+"@"+w.badDigest()), want: denied()},
						{what: "bad, then good", review: w.podOf(w.goodName()+"@"+w.badDigest(), w.good()), want: denied()},
					}
				},
			},
			{
				ID: "B13/all-good", Title: "ten good images",
				Gain: "An outage: pods of many containers cannot be deployed.",
				probes: func(w *world) []probe {
					return []probe{{what: "ten times the good image", review: many(w, 10, -1), want: allowed()}}
				},
			},
		},
	}
}
