package objects_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/policy/objects"
)

// examples are the YAML blocks of the documentation, as one text.
func examples(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("../../docs/kubernetes-kinds.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	rest := string(raw)
	for {
		_, after, found := strings.Cut(rest, "```yaml\n")
		if !found {
			return strings.Join(blocks, "---\n")
		}
		block, more, _ := strings.Cut(after, "```")
		blocks, rest = append(blocks, block), more
	}
}

// TestTheDocumentationIsRight: its examples are read without a problem, there is one of
// every kind, and they do what it says.
func TestTheDocumentationIsRight(t *testing.T) {
	t.Parallel()
	list, found := objects.ParseFile("kubernetes-kinds.md", []byte(examples(t)))
	if len(list) != 10 || len(found) != 0 {
		t.Fatalf("%d objects, %v", len(list), found)
	}
	seen := map[string]bool{}
	for i, o := range list {
		seen[o.Kind] = true
		if list[i].Kind == "Exemption" {
			made := *o
			made.Created = time.Date(2026, 11, 30, 11, 0, 0, 0, time.UTC)
			list[i] = &made
		}
	}
	for _, k := range objects.Kinds() {
		if k.Group == objects.Group && !seen[k.Kind] {
			t.Errorf("there is no example of %s", k.Kind)
		}
	}
	out := objects.Compile(list, &objects.Options{Project: "p"}, noon)
	if len(out.Problems) != 0 {
		t.Errorf("problems %s", reasons(out))
	}
	for image, want := range map[string]string{
		"reg.example/legacy/billing:3": "team-pay=ALLOW shop=DENY kube-system=ALLOW sandbox-1=ALLOW",
		"reg.example/legacy/billing:4": "team-pay=DENY+DRY_RUN shop=DENY kube-system=ALLOW sandbox-1=ALLOW",
		"registry.k8s.io/pause:3":      "team-pay=DENY+DRY_RUN shop=ALLOW kube-system=ALLOW sandbox-1=ALLOW",
	} {
		if got := verdicts(out, image, "team-pay", "shop", "kube-system", "sandbox-1"); got != want {
			t.Errorf("%s: got %s, want %s", image, got, want)
		}
	}
	if got := verdicts(out, "vendor.example/agents/node:1", "monitoring", "shop"); got != "monitoring=ALLOW shop=DENY" {
		t.Errorf("got %s", got)
	}
	if d := in("team-pay", "reg.example/other:1", out, noon.Add(9*time.Hour)); d.Allowed {
		t.Error("the dry run does not end")
	}
	for _, c := range []struct {
		change, to string
	}{
		{`images: ["reg.example/legacy/billing:3"]`, `images: ["reg.example/**"]`},
		{`"2026-12-06T12:00:00Z"`, `"2026-12-30T12:00:00Z"`},
		{"metadata: {name: old-billing, namespace: team-pay}", "metadata: {name: old-billing, namespace: shop}"},
	} {
		list, _ := objects.ParseFile("changed", []byte(strings.Replace(examples(t), c.change, c.to, 1)))
		if out := objects.Compile(list, &objects.Options{}, noon); !strings.Contains(reasons(out), "old-billing NotDelegated") {
			t.Errorf("with %s: %s", c.to, reasons(out))
		}
	}
}

func TestEveryReasonIsDocumented(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/kubernetes-kinds.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []objects.Reason{
		objects.Invalid, objects.Doubtful, objects.KeyUnusable, objects.NotFound, objects.Shadowed, objects.KeyForHints, objects.NotDelegated, objects.Expired,
		objects.MeshUnknown, objects.TooMany, objects.Unverified,
	} {
		if !strings.Contains(string(raw), "`"+string(r)+"`") {
			t.Errorf("%s is not", r)
		}
	}
}
