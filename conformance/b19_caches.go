package conformance

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
)

func caches() Class {
	return Class{
		ID: "B19", Title: "A verdict is remembered for what it is not about",
		Beyond: "Whether verdicts outlive a change of policy, of keys or of what is known about an image needs somebody who changes those.",
		Cases: []Case{
			{
				ID: "B19/repeated", Title: "the bad image again and again",
				Gain: "A second look finds the first one's empty result.", References: []string{"kritis B6"},
				must: "each of twenty reviews of the bad image is denied",
				try: func(ctx context.Context, t *trial) {
					for range 20 {
						t.ask(ctx, "the bad image again", t.podOf(t.bad()), denied())
					}
				},
			},
			{
				ID: "B19/alternating", Title: "good and bad images of one repository in turn",
				Gain: "A verdict is kept by repository, pod or namespace, and given to another digest.",
				must: "ten times in turn the good digest is allowed and the bad one denied, and so is the bad image of many pods",
				try: func(ctx context.Context, t *trial) {
					for range 10 {
						t.ask(ctx, "the good image", t.podOf(t.good()), allowed())
						t.ask(ctx, "the good name with the bad digest", t.podOf(t.goodName()+"@"+t.badDigest()), denied())
						t.ask(ctx, "a digest seen for the first time", t.podOf(t.goodName()+"@"+t.strangeDigest()), denied())
					}
				},
			},
			{
				ID: "B19/mixed", Title: "pods whose images were judged before, in other company",
				Gain: "Verdicts are kept by the set of images, or by a part of it.",
				must: "each combination with the bad image is denied",
				try: func(ctx context.Context, t *trial) {
					t.ask(ctx, "good", t.podOf(t.good()), allowed())
					t.ask(ctx, "good, good", t.podOf(t.good(), t.good()), allowed())
					t.ask(ctx, "good, bad", t.podOf(t.good(), t.bad()), denied())
					t.ask(ctx, "good and bad as init", t.podOf(t.good()).InitImage("c0", t.bad()), denied())
					t.ask(ctx, "good again", t.podOf(t.good()), allowed())
				},
			},
			{
				ID: "B19/remembered-tag", Title: "a tag that is good for ten questions, and then bad", needs: []need{needRegistry(), needOriginal()},
				Gain: "A tag that was resolved once is good as long as the cache lives.", References: []string{"CVE-2022-47633"},
				must: "each review of the tag is denied, or pinned to the digest of the good image",
				try: func(ctx context.Context, t *trial) {
					var times atomic.Int64
					repository := t.registry.serve("b19-tag", func(w http.ResponseWriter, req *http.Request) {
						in := asked(req)
						switch {
						case in.what != "manifests" || strings.Contains(in.name, "sha256"):
							mirror(w, req)
						case times.Add(1) <= 10:
							send(w, in.registry.original.Load().mediaType, in.registry.original.Load().digest, in.registry.original.Load().manifest)
						default:
							plain()(w, req)
						}
					})
					for range 15 {
						t.ask(ctx, "the tag", t.podOf(repository+":1"), pinned(t.goodDigest()))
					}
				},
			},
		},
	}
}
