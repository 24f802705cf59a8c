package document_test

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy/document"
)

const most = 1 << 20

func stream(text string, documents int) ([]*yaml.Node, document.Diagnostics) {
	r := document.New("f")
	roots := r.LoadStream([]byte(text), most, documents)
	return roots, r.Diagnostics()
}

func TestAStreamIsItsDocumentsWithContent(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text  string
		lines []int
	}{
		"one":                      {"a: 1\n", []int{1}},
		"two":                      {"a: 1\n---\nb: 2\n", []int{1, 3}},
		"separators everywhere":    {"---\n---\na: 1\n---\n# nothing\n---\nb: 2\n---\n", []int{3, 7}},
		"comment on the separator": {"a: 1\n--- # next\nb: 2\n", []int{1, 3}},
		"CRLF":                     {"a: 1\r\n---\r\nb: 2\r\n", []int{1, 3}},
		"dashes in a block":        {"a: |\n  -----BEGIN X-----\n  ---\nb: 2\n", []int{1}},
		"ends with ...":            {"a: 1\n...\n---\nb: 2\n...\n", []int{1, 4}},
		"JSON":                     {"\n{\"a\":1}\n", []int{2}},
		"flow style":               {"{a: 1}\n---\n{b: 2}\n", []int{1, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			roots, diags := stream(test.text, 10)
			if len(diags) > 0 || len(roots) != len(test.lines) {
				t.Fatalf("%d documents, %v", len(roots), diags)
			}
			for i, root := range roots {
				if root.Line != test.lines[i] {
					t.Errorf("document %d is at line %d, want %d", i, root.Line, test.lines[i])
				}
			}
		})
	}
}

func TestAStreamIsBounded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"empty":                {" \n", "the document is empty"},
		"only separators":      {"---\n---\n", "the document is empty"},
		"documents":            {strings.Repeat("---\na: 1\n", 4), "f:7: error: more than 3 YAML documents"},
		"documents of nothing": {strings.Repeat("---\n", 5), "more than 3 YAML documents"},
		"bytes":                {strings.Repeat("#", most+1), "more than the 1048576 allowed"},
		"JSON depth":           {strings.Repeat("[", 200) + strings.Repeat("]", 200), "nested deeper than"},
		"UTF-8":                {"a: \xff", "not UTF-8"},
		"YAML":                 {"a: 1\n---\nb: [\n", "not valid YAML"},
		"JSON":                 {"{\"a\": 1} {", "not valid JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			roots, diags := stream(test.text, 3)
			if name == "JSON depth" { // YAML in flow style has no such bound, and Check has
				r := document.New("f")
				if len(roots) != 1 || r.Check(roots[0]) {
					t.Fatalf("%d documents", len(roots))
				}
				diags = r.Diagnostics()
			} else if len(roots) != 0 {
				t.Errorf("%d documents", len(roots))
			}
			if !diags.HasErrors() || !strings.Contains(diags.String(), test.want) {
				t.Errorf("%s\nwant %q", diags, test.want)
			}
		})
	}
}

func TestADocumentOfAStreamIsCheckedWhenItIsRead(t *testing.T) {
	t.Parallel()
	roots, diags := stream("kind: Other\na: &x {b: 1}\nc: *x\n---\nkind: Ours\nkind: Twice\n---\nkind: Ours\n", 10)
	if len(roots) != 3 || len(diags) > 0 {
		t.Fatalf("%d documents, %v", len(roots), diags)
	}
	for i, want := range []struct {
		kind string
		ok   bool
	}{{"Other", false}, {"", false}, {"Ours", true}} {
		kind := ""
		if n := document.Peek(roots[i], "kind"); n != nil {
			kind = n.Value
		}
		r := document.New("f")
		if ok := r.Check(roots[i]); kind != want.kind || ok != want.ok {
			t.Errorf("document %d: kind %q, %v %v", i, kind, ok, r.Diagnostics())
		}
	}
	if document.Peek(&yaml.Node{Kind: yaml.ScalarNode, Value: "kind"}, "kind") != nil {
		t.Error("a scalar has a field")
	}
}

func FuzzStream(f *testing.F) {
	f.Add("a: 1\n---\n{\"b\": [1, {c: *x}]}\n")
	f.Add("[[[[{\"a\":1}]]]]")
	f.Fuzz(func(t *testing.T, text string) {
		r := document.New("f")
		roots := r.LoadStream([]byte(text), 1<<16, 5)
		if len(roots) > 5 || (len(roots) == 0) != r.Erred() {
			t.Fatalf("%d documents, %v", len(roots), r.Diagnostics())
		}
		for _, root := range roots {
			_ = document.Peek(root, "kind")
			_ = r.Check(root)
		}
	})
}
