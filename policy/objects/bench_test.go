package objects_test

import (
	"fmt"
	"testing"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/objects"
)

// many are about n objects in as many namespaces as they need.
func many(tb testing.TB, n int) []*objects.Object {
	tb.Helper()
	list := []*objects.Object{
		object(tb, "ClusterPolicy", "all", requires("ci")), object(tb, "ClusterPolicy", "teams", `{"namespaces": ["team-*"], `+requires("ci")[1:]),
		object(tb, "ClusterAttestor", "ci", attestorSpec("projects/p/notes/ci", pem(tb))),
		object(tb, "ClusterExemption", "system", exempt(`["registry.k8s.io/**"]`, "")),
		object(tb, "Delegation", "d", `{"namespaces": ["*"], "exemptions": {"images": ["reg.example/**"], "maxDuration": "100h"}}`),
	}
	key := pem(tb)
	for i := 0; len(list) < n; i++ {
		ns := fmt.Sprintf("team-%d", i)
		list = append(list,
			object(tb, "Policy", ns+"/own", requires("ci", "own")), object(tb, "Attestor", ns+"/own", attestorSpec("projects/p/notes/own", key)),
			object(tb, "Exemption", ns+"/e", exempt(`["reg.example/legacy/*"]`, `, "expires": "2026-12-01T00:00:00Z"`)),
			object(tb, "ImageSecurityPolicy", ns+"/isp", `{"imageAllowlist": ["reg.example/x"]}`),
		)
	}
	return list
}

const benched = 2000

func BenchmarkParse(b *testing.B) {
	raw := []byte(text("Policy", "shop/x", requires("ci", "own")))
	for b.Loop() {
		if _, err := objects.Parse(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompile2000(b *testing.B) {
	list := many(b, benched)
	for b.Loop() {
		objects.Compile(list, &objects.Options{Project: "p"}, noon)
	}
}

func BenchmarkCompileOneChange(b *testing.B) {
	list := many(b, benched)
	for name, change := range map[string][2]*objects.Object{
		"Policy":           {object(b, "Policy", "team-7/own", requires("ci")), object(b, "Policy", "team-7/own", requires("own"))},
		"ClusterPolicy":    {object(b, "ClusterPolicy", "all", denyAll), object(b, "ClusterPolicy", "all", requires("ci"))},
		"ClusterExemption": {object(b, "ClusterExemption", "system", exempt(`["a"]`, "")), object(b, "ClusterExemption", "system", exempt(`["b"]`, ""))},
	} {
		b.Run(name, func(b *testing.B) {
			at := -1
			for i, o := range list {
				if o.Ref == change[0].Ref {
					at = i
				}
			}
			var c objects.Compiler
			options := &objects.Options{Project: "p"}
			for i := 0; b.Loop(); i++ {
				list[at] = change[i%2]
				c.Compile(list, options, noon)
			}
		})
	}
}

func BenchmarkDecideAmongNamespaces(b *testing.B) {
	for _, n := range []int{10, 20000} {
		b.Run(fmt.Sprint(n/4, " namespaces"), func(b *testing.B) {
			set := policy.Set{compile(many(b, n)...).Rules}
			req := decide.Request{Namespace: "team-0", Images: []decide.ImageUse{{Text: "reg.example/legacy/app:1"}}}
			for b.Loop() {
				decide.Decide(req, set, evidence.Facts{}, noon)
			}
		})
	}
}
