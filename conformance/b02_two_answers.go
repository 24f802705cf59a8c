package conformance

import (
	"context"
	"net/http"
	"strings"
)

func twoAnswers() Class {
	return Class{
		ID: "B2", Title: "A registry gives two answers to one question",
		Cases: []Case{
			{
				ID: "B2/head-and-get", Title: "HEAD tells of the good image, GET gives the bad one", needs: []need{needRegistry(), needOriginal()},
				Gain:       "The digest comes from one answer and the content from another, and evidence of the first counts for the second.",
				References: []string{"CVE-2022-47633"},
				must:       "the tag is denied, or pinned to the digest of the good image",
				try: func(ctx context.Context, t *trial) {
					repository := t.registry.serve("b2-head-and-get", func(w http.ResponseWriter, req *http.Request) {
						in := asked(req)
						if in.what == "manifests" && req.Method == http.MethodHead && !strings.Contains(in.name, "sha256") {
							send(w, in.registry.original.Load().mediaType, in.registry.original.Load().digest, in.registry.original.Load().manifest)
							return
						}
						if in.what == "manifests" && !strings.Contains(in.name, "sha256") {
							plain()(w, req)
							return
						}
						mirror(w, req)
					})
					t.ask(ctx, "the tag", t.podOf(repository+":1"), pinned(t.goodDigest()))
				},
			},
			{
				ID: "B2/other-content", Title: "the bad digest is answered with the good image's manifest", needs: []need{needRegistry(), needOriginal()},
				Gain:       "A client that does not hash what it gets verifies the good image, and the kubelet runs the bad one.",
				References: []string{"CVE-2023-33959"},
				must:       "the bad digest is denied, whatever the registry sends for it",
				try: func(ctx context.Context, t *trial) {
					repository := t.registry.serve("b2-other-content", func(w http.ResponseWriter, req *http.Request) {
						in := asked(req)
						if in.what == "manifests" && !strings.HasPrefix(in.name, "sha256-") {
							send(w, in.registry.original.Load().mediaType, in.registry.original.Load().digest, in.registry.original.Load().manifest)
							return
						}
						mirror(w, req)
					})
					t.ask(ctx, "a digest that does not fit", t.podOf(repository+"@"+t.registry.bad.digest), denied())
				},
			},
			{
				ID: "B2/header-lies", Title: "the bad manifest is sent under the good digest", needs: []need{needRegistry(), needOriginal()},
				Gain: "A client that believes the Docker-Content-Digest header looks for evidence of the good image.",
				must: "the tag is denied, or pinned to the digest of the good image; the bad digest is denied",
				try: func(ctx context.Context, t *trial) {
					repository := t.registry.serve("b2-header-lies", func(w http.ResponseWriter, req *http.Request) {
						in := asked(req)
						if in.what == "manifests" && !strings.HasPrefix(in.name, "sha256-") {
							send(w, manifestType, in.registry.original.Load().digest, in.registry.bad.manifest)
							return
						}
						mirror(w, req)
					})
					t.ask(ctx, "the tag", t.podOf(repository+":1"), pinned(t.goodDigest()))
					t.ask(ctx, "the bad digest", t.podOf(repository+"@"+t.registry.bad.digest), denied())
				},
			},
		},
	}
}
