package gatehouse_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentedTestsAreThere: where a document says which tests show something, they are
// there, with the subtests that it names: `TestX`: *the one*, *the other*.
func TestDocumentedTestsAreThere(t *testing.T) {
	var tests strings.Builder
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		tests.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("docs/kritis-in-cluster.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test[A-Za-z0-9_]+)`(: \\*[^*|]+\\*(, \\*[^*|]+\\*)*)?").FindAllStringSubmatch(string(text), -1)
	if len(named) < 20 {
		t.Errorf("%d tests are named", len(named))
	}
	for _, n := range named {
		if !strings.Contains(tests.String(), "func "+n[1]+"(t *testing.T)") {
			t.Errorf("there is no test %s", n[1])
		}
		for _, sub := range strings.Split(strings.TrimPrefix(n[2], ": "), ", *") {
			sub = strings.Trim(sub, "*")
			_, err := os.Stat(filepath.Join("cmd/gatehouse/testdata", sub+".txtar"))
			if sub != "" && err != nil && !strings.Contains(tests.String(), `"`+sub+`"`) {
				t.Errorf("%s has no subtest %q", n[1], sub)
			}
		}
	}
}
