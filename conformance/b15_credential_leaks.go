package conformance

import (
	"context"
	"net/http"
	"strings"
)

// canary is a secret of a pod that must not come back in an answer.
const canary = "conformance-canary-5dd1c3"

func credentialLeaks() Class {
	return Class{
		ID: "B15", Title: "Credentials go where they do not belong",
		Beyond: "Hosts that end like those of a cloud's registries, which get its tokens, need names in the DNS.",
		Cases: []Case{
			{
				ID: "B15/challenge", Title: "a registry asks for a password, and for a token from another host", needs: []need{needRegistry()},
				Gain:       "Whoever names a registry in a pod gets the credentials that are meant for others.",
				References: []string{"CVE-2025-27403", "CVE-2026-48978"},
				must:       "no credentials reach the registry, which the gate has none for, nor the host of the realm, and the image is denied",
				try: func(ctx context.Context, t *trial) {
					t.leak(ctx, "b15-basic", func(w http.ResponseWriter, _ *http.Request) {
						w.Header().Set("WWW-Authenticate", `Basic realm="conformance"`)
						w.WriteHeader(http.StatusUnauthorized)
					})
					t.leak(ctx, "b15-bearer", func(w http.ResponseWriter, req *http.Request) {
						w.Header().Set("WWW-Authenticate", `Bearer realm="`+scheme(req)+asked(req).registry.trap+`/token",service="conformance",scope="repository:x:pull"`)
						w.WriteHeader(http.StatusUnauthorized)
					})
				},
			},
			{
				ID: "B15/redirect", Title: "a registry redirects to another host", needs: []need{needRegistry()},
				Gain:       "Credentials are forwarded to wherever a registry points.",
				References: []string{"CVE-2026-50151"},
				must:       "no credentials reach the other host, and the image is denied",
				try: func(ctx context.Context, t *trial) {
					t.leak(ctx, "b15-redirect", func(w http.ResponseWriter, req *http.Request) {
						http.Redirect(w, req, scheme(req)+asked(req).registry.trap+req.URL.Path, http.StatusTemporaryRedirect)
					})
				},
			},
			{
				ID: "B15/answer", Title: "a pod with a secret in its environment, arguments and annotations",
				Gain: "What is denied is shown in events, logs and audit records, which more people read than the pod.",
				must: "the bad image is denied, and nothing of the secret is in the answer",
				try: func(ctx context.Context, t *trial) {
					b := t.podOf(t.bad()).Annotation("example.com/token", canary).Edit(func(o map[string]any) {
						c := items(o, "spec", "containers")[0]
						c["env"] = []any{map[string]any{"name": "PASSWORD", "value": canary}}
						c["args"] = []any{"--password=" + canary}
					})
					e := t.ask(ctx, "the pod", b, denied())
					if strings.Contains(string(e.body), canary) {
						t.fail("the answer repeats the secret: %s", clip(string(e.body)))
					}
				},
			},
		},
	}
}

func scheme(req *http.Request) string {
	if req.TLS != nil {
		return "https://"
	}
	return "http://"
}

// leak asks for an image of a repository and looks for credentials on the way.
func (t *trial) leak(ctx context.Context, repository string, h http.HandlerFunc) {
	name := t.registry.serve(repository, h)
	t.ask(ctx, repository, t.podOf(name+"@"+t.registry.bad.digest), denied())
	list := t.registry.requests(repository)
	for _, s := range list {
		if s.authorization == "" {
			continue
		}
		kind, _, _ := strings.Cut(s.authorization, " ")
		where := "the registry"
		if s.trapped {
			where = "another host"
		}
		t.fail("%s: %s credentials were sent to %s", repository, clip(kind), where)
	}
	if len(list) == 0 {
		t.note("the gate asked the registry nothing")
	}
}
