package manifest

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestAWrongOutcomeIsNotWritten: whatever goes wrong in finding what to replace, a text
// that reads otherwise is not taken.
func TestAWrongOutcomeIsNotWritten(t *testing.T) {
	t.Parallel()
	const text = "# head\napiVersion: v1\nkind: Pod\nx: &a {n: 1} # line\nspec:\n  containers:\n  - image: 'app:1'\n    name: [*a, b]\n"
	k, err := NewKinds(nil)
	if err != nil {
		t.Fatal(err)
	}
	d, problems := k.Read(Text{Bytes: []byte(text), Line: 1})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	image := d.Images[0]
	want := map[*yaml.Node]string{image.node: "app:2"}
	right := strings.Replace(text, "app:1", "app:2", 1)
	if problem := sameBut(image.part, Text{Bytes: []byte(right), Line: 1}, want); problem != nil {
		t.Fatal(problem)
	}
	for about, edit := range map[string][2]string{
		"another value":       {"app:2", "app:3"},
		"the image as it was": {"app:2", "app:1"},
		"another style":       {"'app:2'", "app:2"},
		"a tag":               {"'app:2'", "!!str 'app:2'"},
		"another key":         {"image", "imagf"},
		"a value elsewhere":   {"n: 1", "n: 2"},
		"a comment":           {"# line", "# lime"},
		"a comment on top":    {"# head", "# heaf"},
		"an anchor":           {"&a {n: 1}", "&b {n: 1}"},
		"a line":              {"# head\n", "# head\n\n"},
		"one item less":       {", b]", "]"},
		"a kind of value":     {"[*a, b]", "{*a : b}"},
		"no YAML":             {"spec:", "spec"},
		"another document":    {"spec:", "---\nspec:"},
	} {
		wrong := strings.Replace(right, edit[0], edit[1], 1)
		if wrong == right {
			t.Errorf("%s: nothing is edited", about)
		}
		if problem := sameBut(image.part, Text{Bytes: []byte(wrong), Line: 1}, want); problem == nil {
			t.Errorf("%s: the text was taken", about)
		}
	}
}
