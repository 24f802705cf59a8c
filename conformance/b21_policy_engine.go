package conformance

import (
	"context"
	"strings"
)

func policyEngine() Class {
	return Class{
		ID: "B21", Title: "Policy is made to work for the attacker",
		Beyond: "What policies of one tenant may read of another's, and what they may call, is tried by writing policy; a webhook does not take any.",
		Cases: []Case{
			{
				ID: "B21/reference-as-url", Title: "references that are meant to become other URLs", needs: []need{needRegistry()},
				Gain: "The gate calls what the attacker wants, from inside the cluster.", References: []string{"CVE-2026-22039", "CVE-2026-48702"},
				must: "each is denied, and no request leaves the paths of the registry API",
				try: func(ctx context.Context, t *trial) {
					host := t.registry.Host()
					for what, text := range map[string]string{
						"dots": host + "/../../admin:1", "a query": host + "/x?y=/admin:1", "a fragment": host + "/x#/admin:1", "a scheme": "http://" + host + "/admin", "an encoded slash": host + "/..%2f..%2fadmin:1",
						"a user": "user:password@" + host + "/admin:1", "a path for a tag": host + "/x:../../admin", "a line": host + "/x:1\r\nGET /admin HTTP/1.1",
					} {
						t.ask(ctx, what, t.podOf(text), denied())
					}
					for _, s := range t.registry.requests("") {
						if !s.trapped && s.path != "/v2" && !strings.HasPrefix(s.path, "/v2/") {
							t.fail("the registry was asked for %s", clip(s.path))
						}
						if strings.Contains(s.path, "admin") && strings.Contains(s.path, "..") {
							t.fail("the registry was asked for %s", clip(s.path))
						}
					}
				},
			},
			{
				ID: "B21/expensive-texts", Title: "texts at which regular expressions and patterns take for ever",
				Gain: "One pod keeps the gate busy until all others are skipped.", References: []string{"CVE-2023-7279", "CVE-2026-23881"},
				probes: func(w *world) []probe {
					a, slashes := strings.Repeat("a", 50_000)+"!", strings.Repeat("a/", 25_000)+"!"
					return []probe{
						{what: "an image of a's", review: w.podOf(a), want: answered()},
						{what: "an image of parts", review: w.podOf(w.goodName() + "/" + slashes), want: answered()},
						{what: "an image of colons", review: w.podOf(w.goodName() + strings.Repeat(":a", 25_000)), want: answered()},
						{what: "an image of dots", review: w.podOf(strings.Repeat("a.", 25_000) + "/x:1"), want: answered()},
						{what: "labels and annotations", review: w.podOf(w.bad()).Label("app", a).Annotation("note", slashes).Annotation("more", strings.Repeat("((((", 10_000)), want: answered()},
						{what: "the name of a container", review: w.pod().Image(a, w.bad()), want: answered()},
					}
				},
			},
		},
	}
}
