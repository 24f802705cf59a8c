package objects_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/kritis"
	"github.com/gatehouse-dev/gatehouse/policy/objects"
)

// pool are objects that change what each other mean, several of one name for most names.
func pool(t *testing.T) [][]*objects.Object {
	t.Helper()
	key := pem(t)
	var all [][]*objects.Object
	add := func(kind, name string, specs ...string) {
		var list []*objects.Object
		for _, s := range specs {
			list = append(list, object(t, kind, name, s))
		}
		all = append(all, list)
	}
	add("ClusterAttestor", "ci", attestorSpec("projects/p/notes/ci", key), attestorSpec("projects/p/notes/ci", "rubbish"), `{}`)
	add("ClusterAttestor", "own", attestorSpec("projects/p/notes/theirs", key))
	add("ClusterPolicy", "all", requires("ci"), denyAll, `{}`)
	add("ClusterPolicy", "some", `{"namespaces": ["a"], `+denyAll[1:], `{"exceptNamespaces": ["a"], `+denyAll[1:], `{"dryRun": true, `+denyAll[1:])
	add("ClusterExemption", "e", exempt(`["x*"]`, ""), exempt(`["x*"]`, `, "namespaces": ["b"]`), exempt(`["y*"]`, ""), `{"dryRun": true, "reason": "r"}`)
	add("Delegation", "d", `{"namespaces": ["*"], "exemptions": {"images": ["z*"], "maxDuration": "100h"}, "dryRun": {"maxDuration": "100h"}}`,
		`{"namespaces": ["b"], "exemptions": {"images": ["z*"], "maxDuration": "100h"}}`, `{}`)
	for _, ns := range []string{"a", "b"} {
		add("Policy", ns+"/p", requires("own"), requires("ci", "own"), allowAll, `{"misspelt": 1}`)
		add("Policy", ns+"/q", allowAll, denyAll)
		add("Attestor", ns+"/own", attestorSpec("projects/p/notes/own", key), `{}`)
		add("Exemption", ns+"/e", exempt(`["z*"]`, `, "expires": "2026-12-01T00:00:00Z"`), exempt(`["**"]`, `, "expires": "2026-12-01T00:00:00Z"`), `{"dryRun": true, "reason": "r", "expires": "2026-12-01T00:00:00Z"}`)
		add("ImageSecurityPolicy", ns+"/k", `{"imageAllowlist": ["x:1"]}`, `{"misspelt": 1}`)
		add("GenericAttestationPolicy", ns+"/k", `{"attestationAuthorityNames": ["aa"]}`)
		add("AttestationAuthority", ns+"/aa", `{"noteReference": "projects/p/notes/aa", "publicKeys": []}`)
	}
	return all
}

// outline is all that an Outcome comes to.
func outline(out *objects.Outcome, now time.Time) string {
	var b strings.Builder
	for _, ns := range []string{"a", "b", "c"} {
		for _, image := range []string{"x:1", "y:1", "z:1", "w:1"} {
			raw, err := json.Marshal(in(ns, image, out, now))
			fmt.Fprintf(&b, "%s %s %s %v\n", ns, image, raw, err)
		}
	}
	if out.Rules != nil {
		fmt.Fprintf(&b, "%s\n", out.Rules.Version)
		for r := range (policy.Set{out.Rules}).Rulesets() {
			fmt.Fprintf(&b, "%s %s %v\n", r.Name, r.Version, r.Attestors)
		}
	}
	for _, o := range out.Objects {
		fmt.Fprintf(&b, "%s %v\n", o.Ref, out.Problems[o.Ref])
	}
	var notes []string
	for note, keys := range out.Keys {
		notes = append(notes, fmt.Sprintf("%s %d", note, len(keys)))
	}
	slices.Sort(notes)
	return b.String() + strings.Join(notes, "\n")
}

// TestWhatACompilerKeepsChangesNothing: after whatever changes, it comes to what one comes
// to that has never seen anything before, in whatever order objects come.
func TestWhatACompilerKeepsChangesNothing(t *testing.T) {
	t.Parallel()
	all := pool(t)
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any
	rng := rand.New(rand.NewPCG(seed, 7))
	chosen := make([]*objects.Object, len(all))
	options := []*objects.Options{{Project: "p"}, {Project: "p", Kritis: kritis.Options{DefaultDeny: true}}}
	var c objects.Compiler
	for step := range 400 {
		for range 1 + rng.IntN(3) {
			i := rng.IntN(len(all))
			if chosen[i] = nil; rng.IntN(3) > 0 {
				chosen[i] = all[i][rng.IntN(len(all[i]))]
			}
		}
		var list []*objects.Object
		for _, o := range chosen {
			if o != nil {
				list = append(list, o)
			}
		}
		rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		o, now := options[step/50%2], noon.Add(time.Duration(rng.IntN(48))*time.Hour)
		got := outline(c.Compile(list, o, now), now)
		slices.Reverse(list)
		if diff := cmp.Diff(outline(objects.Compile(list, o, now), now), got); diff != "" {
			t.Fatalf("seed %d, step %d (-anew +kept):\n%s", seed, step, diff)
		}
	}
}

// TestACompilerKeepsWhatDidNotChange: policies of other namespaces are the same, not equal.
func TestACompilerKeepsWhatDidNotChange(t *testing.T) {
	t.Parallel()
	list := many(t, 100)
	var c objects.Compiler
	options := &objects.Options{Project: "p"}
	rulesets := func() map[string]*policy.Ruleset {
		byName := map[string]*policy.Ruleset{}
		for r := range (policy.Set{c.Compile(list, options, noon).Rules}).Rulesets() {
			byName[r.Name] = r
		}
		return byName
	}
	before := rulesets()
	for i, o := range list {
		if o.Kind == "Policy" && o.Namespace == "team-3" {
			list[i] = object(t, "Policy", "team-3/own", denyAll)
		}
	}
	for name, r := range rulesets() {
		if name != "kritis" && name != "cluster objects" && (r == before[name]) == (name == "Policy team-3/own") {
			t.Errorf("%s was compiled anew, or was not", name)
		}
	}
}

// FuzzParse: what is no object is an error, and what is one never lets in by being broken.
func FuzzParse(f *testing.F) {
	for _, k := range objects.Kinds() {
		name := "shop/x"
		if !k.Namespaced {
			name = "x"
		}
		f.Add(text(k.Kind, name, `{"namespaces": ["a*"], "dryRun": true}`))
	}
	f.Add(text("ClusterPolicy", "x", `{"namespaces": ["shop"], `+denyAll[1:]))
	f.Add(text("Exemption", "shop/e", exempt(`["a/*"]`, `, "expires": "2026-12-01T00:00:00Z"`)))
	f.Fuzz(func(t *testing.T, text string) {
		o, err := objects.Parse([]byte(text))
		if err != nil {
			return
		}
		_, stripped, err := objects.Strip([]byte(text))
		if err != nil {
			t.Fatalf("read, and not stripped: %v", err)
		}
		if _, again, err := objects.Strip(stripped); err != nil || string(again) != string(stripped) {
			t.Errorf("stripping again: %v\n%s\n%s", err, stripped, again)
		}
		deny, err := objects.Parse([]byte(fmt.Sprintf(`{"apiVersion": "gatehouse.dev/v1beta1", "kind": "ClusterPolicy", "metadata": {"name": "deny"}, "spec": %s}`, denyAll)))
		if err != nil {
			t.Fatal(err)
		}
		if o.Ref == deny.Ref {
			return
		}
		out := objects.Compile([]*objects.Object{o, deny}, nil, noon)
		if broken := o.Broken(); broken {
			for _, ns := range []string{"shop", o.Namespace} {
				if d := in(ns, "reg.example/x:1", out, noon); d.Allowed {
					t.Errorf("a broken object lets in: %s", text)
				}
			}
		}
	})
}
