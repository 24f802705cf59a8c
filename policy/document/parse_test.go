package document_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy/document"
)

// places lists the scalars of a tree: LINE:COLUMN=VALUE.
func places(nodes []*yaml.Node) (list []string) {
	for _, n := range nodes {
		if n.Kind == yaml.ScalarNode {
			list = append(list, fmt.Sprintf("%d:%d=%s", n.Line, n.Column, n.Value))
		}
		list = append(list, places(n.Content)...)
	}
	return list
}

// TestPlacesInJSON: the nodes of a JSON text are where those of YAML would be.
func TestPlacesInJSON(t *testing.T) {
	t.Parallel()
	const text = "{\"a\": [1, \"é漢\" , true],\r\n\t\"ö\":{\"b\" :null, \"c\":\n  \"x\\u0041\"}}"
	inJSON, _, err := document.ParseJSON([]byte(text), 1)
	if err != nil {
		t.Fatal(err)
	}
	inYAML, _, err := document.ParseYAML([]byte(text), 1)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"1:2=a", "1:8=1", "1:11=é漢", "1:18=true", "2:2=ö", "2:7=b", "2:12=", "2:18=c", "3:3=xA"}
	if diff := cmp.Diff(want, places(inJSON)); diff != "" {
		t.Error(diff)
	}
	want[6] = "2:12=null" // the text of it is kept there
	if diff := cmp.Diff(want, places(inYAML)); diff != "" {
		t.Error(diff)
	}
}

func TestSeveralJSONValues(t *testing.T) {
	t.Parallel()
	roots, _, err := document.ParseJSON([]byte("{\"a\":1}\n {\"b\":2}{}\n\n"), 3)
	if err != nil || len(roots) != 3 {
		t.Fatalf("%d values, %v", len(roots), err)
	}
	if diff := cmp.Diff([]string{"1:2=a", "1:6=1", "2:3=b", "2:7=2"}, places(roots)); diff != "" {
		t.Error(diff)
	}
	for text, want := range map[string]string{
		"{}\n{}\n{}\n{}": "3: more values than there may be",
		"{}\n{\"a\":\n":  "2: not valid JSON: it ends too early",
		"{}\n\n}":        "3: not valid JSON",
	} {
		_, line, err := document.ParseJSON([]byte(text), 3)
		if got := fmt.Sprintf("%d: %v", line, err); !strings.HasPrefix(got, want) {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
	if roots, _, err := document.ParseYAML([]byte("# nothing\n"), 1); err != nil || len(roots) > 0 {
		t.Errorf("a text without content: %d values, %v", len(roots), err)
	}
}
