package conformance

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
)

func movingTags() Class {
	return Class{
		ID: "B1", Title: "A tag moves between the decision and the pull",
		Beyond: "What the kubelet pulls in the end is not seen by a webhook: a gate is safe if only a digest gets past it.",
		Cases: []Case{
			{
				ID: "B1/tag", Title: "an image of the good repository by a tag",
				Gain: "The tag is moved after admission, and the kubelet pulls what nobody has checked.",
				probes: func(w *world) []probe {
					return []probe{{what: "a tag that nobody has pushed", review: w.podOf(w.goodName() + ":conformance-never-pushed"), want: pinned(w.goodDigest())}}
				},
			},
			{
				ID: "B1/good-tag", Title: "the good image by its own tag", needs: []need{needGoodTag()},
				Gain: "As long as the tag is good at the time of the review, it may be anything at the time of the pull.",
				probes: func(w *world) []probe {
					return []probe{{what: "the tag of the good image", review: w.podOf(w.profile.Good.Tag), want: pinned(w.goodDigest())}}
				},
			},
			{
				ID: "B1/no-tag", Title: "an image without tag and digest, which is :latest",
				Gain: "The tag latest is moved like any other, and is not even to be seen.",
				probes: func(w *world) []probe {
					return []probe{
						{what: "the bare name", review: w.podOf(w.goodName()), want: pinned(w.goodDigest())},
						{what: "the tag latest", review: w.podOf(w.goodName() + ":latest"), want: pinned(w.goodDigest())},
					}
				},
			},
			{
				ID: "B1/digest-like-tag", Title: "a tag that looks like the good digest",
				Gain: "A gate that looks for sha256 and the digits takes a tag, which can be moved, for a digest.",
				probes: func(w *world) []probe {
					hex := strings.TrimPrefix(w.goodDigest(), "sha256:")
					return []probe{
						{what: "the tag sha256-HEX", review: w.podOf(w.goodName() + ":sha256-" + hex), want: pinned(w.goodDigest())},
						{what: "the tag HEX", review: w.podOf(w.goodName() + ":" + hex), want: pinned(w.goodDigest())},
					}
				},
			},
			{
				ID: "B1/moving-tag", Title: "a tag that is good when asked first, and bad ever after", needs: []need{needRegistry(), needOriginal()},
				Gain:       "Resolving and verifying are two calls, and what is verified is not what is pinned.",
				References: []string{"CVE-2022-47633", "CVE-2023-47630"},
				must:       "each of four reviews of the tag is denied, or pinned to the digest of the good image",
				try: func(ctx context.Context, t *trial) {
					repository := t.registry.serve("b1-moving", moving())
					for range 4 {
						t.ask(ctx, "the moving tag", t.podOf(repository+":1"), pinned(t.goodDigest()))
					}
				},
			},
		},
	}
}

// moving answers for a tag with the good image first, and with the bad one after.
func moving() http.HandlerFunc {
	var times atomic.Int64
	return func(w http.ResponseWriter, req *http.Request) {
		in := asked(req)
		switch {
		case in.what != "manifests" || strings.Contains(in.name, "sha256"):
			mirror(w, req)
		case times.Add(1) == 1:
			o := in.registry.original.Load()
			send(w, o.mediaType, o.digest, o.manifest)
		default:
			plain()(w, req)
		}
	}
}
