package conformance

import (
	"context"
	"net/http"
	"strings"
)

func wrongSubject() Class {
	return Class{
		ID: "B9", Title: "Evidence about something else counts",
		Beyond: "Statements of several subjects, and platform manifests of a signed index, need evidence that only the gate's keys can make.",
		Cases: []Case{
			{
				ID: "B9/good-name", Title: "the good repository with the digest of the bad image",
				Gain: "Evidence is looked up by name, and whoever may push there pushes anything.",
				probes: func(w *world) []probe {
					return []probe{{what: "good NAME@bad", review: w.podOf(w.goodName() + "@" + w.badDigest()), want: denied()}}
				},
			},
			{
				ID: "B9/near-digest", Title: "a digest that differs from the good one in a digit",
				Gain: "Digests are compared in part, or by a hash of few bits.",
				probes: func(w *world) []probe {
					d := w.goodDigest()
					flip := func(i int) string {
						by := byte('0')
						if d[i] == '0' {
							by = '1'
						}
						return d[:i] + string(by) + d[i+1:]
					}
					return []probe{
						{what: "the last digit", review: w.podOf(w.goodName() + "@" + flip(len(d)-1)), want: denied()},
						{what: "the first digit", review: w.podOf(w.goodName() + "@" + flip(len("sha256:"))), want: denied()},
						{what: "one in the middle", review: w.podOf(w.goodName() + "@" + flip(len("sha256:")+32)), want: denied()},
					}
				},
			},
			{
				ID: "B9/borrowed-signature", Title: "the bad image with the good one's signatures beside it", needs: []need{needRegistry(), needOriginal()},
				Gain:       "That there is a valid signature is enough, whatever it is of.",
				References: []string{"CVE-2022-23649", "CVE-2022-36056"},
				must:       "the bad digest is denied, though its signature tag and its referrers are those of the good image",
				try: func(ctx context.Context, t *trial) {
					repository := t.registry.serve("b9-borrowed", func(w http.ResponseWriter, req *http.Request) {
						in := asked(req)
						good := strings.ReplaceAll(in.name, strings.TrimPrefix(in.registry.bad.digest, "sha256:"), strings.TrimPrefix(in.registry.original.Load().digest, "sha256:"))
						if good == in.name || in.what == "manifests" && in.name == in.registry.bad.digest {
							mirror(w, req)
							return
						}
						in.name = good
						mirror(w, req.WithContext(context.WithValue(req.Context(), inRegistryKey{}, in)))
					})
					t.ask(ctx, "by digest", t.podOf(repository+"@"+t.registry.bad.digest), denied())
				},
			},
			{
				ID: "B9/index", Title: "an unsigned index with the good manifest in it", needs: []need{needRegistry(), needOriginal()},
				Gain: "Evidence of one platform's manifest covers an index, in which others may be put.",
				must: "the digest of the index, which nobody has signed, is denied",
				try: func(ctx context.Context, t *trial) {
					index := indexOf(t.registry.original.Load().artifact)
					repository := t.registry.serve("b9-index", func(w http.ResponseWriter, req *http.Request) {
						if in := asked(req); in.what == "manifests" && (in.name == index.digest || !strings.Contains(in.name, "sha256")) {
							send(w, index.mediaType, index.digest, index.manifest)
							return
						}
						mirror(w, req)
					})
					t.ask(ctx, "the index", t.podOf(repository+"@"+index.digest), denied())
				},
			},
		},
	}
}
