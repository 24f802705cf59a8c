package document_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/policy/document"
)

func TestWhatPeopleMistypeIsNamedWithItsLine(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"a tab":               {"a:\n\tb: 1\n", "f:2: error: not valid YAML: a tab; YAML is indented by spaces"},
		"an unquoted pattern": {"a: 1\nb: *\n", `a value that begins with "*" or "&" must be in quotes`},
		"a control character": {"a: 1\nb: 2\nc: \x1b[2J\n", "f:3: error: not valid YAML: control characters are not allowed, and there is U+001B"},
		"NUL":                 {"a: 1\r\nb: \x00\n", "f:2: error: not valid YAML: control characters are not allowed, and there is U+0000"},
		"a no-break space":    {"a:\n  b: 1\n \u00a0c: 2\n  d: 3\n", "f:3: error: not valid YAML: an indent with a space that is none to YAML"},
		"another character":   {"a: 1\nb: `x\n", "f:2: error: not valid YAML: found character that cannot start any token"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := document.New("f")
			if r.Load([]byte(test.text), most) != nil || !strings.Contains(r.Diagnostics().String(), test.want) {
				t.Errorf("%s", r.Diagnostics())
			}
		})
	}
}

func TestAnUnknownFieldIsToldWhatItResembles(t *testing.T) {
	t.Parallel()
	known := []string{"name", "etag", "evaluationMode", "enforcementMode", "requireAttestationsBy"}
	for field, want := range map[string]string{
		"enforcmentMode":                     "enforcementMode",
		"EvaluationMode":                     "evaluationMode",
		"evaluation_mode":                    "evaluationMode",
		"requireAttestationBy":               "requireAttestationsBy",
		"requiredAttestationsBy":             "requireAttestationsBy",
		"eatg":                               "",
		"nam":                                "name",
		"enforcementMoed":                    "enforcementMode",
		"foo":                                "",
		"mode":                               "",
		"":                                   "",
		strings.Repeat("evaluationMode", 10): "",
	} {
		r := document.New("f")
		root := r.Load([]byte(`{"`+field+`": 1}`), most)
		r.Fields(root, "rule", known...)
		got := r.Diagnostics().String()
		if _, hint, _ := strings.Cut(got, "did you mean "); strings.Trim(hint, "\"?\n") != want {
			t.Errorf("%q: %s", field, got)
		}
	}
}
