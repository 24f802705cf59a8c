package document_test

import (
	"testing"

	"github.com/gatehouse-dev/gatehouse/policy/document"
)

func TestFormat(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ in, want string }{
		"keys are sorted, at every level": {"b: 1\na:\n    d: 2\n    c: 3\n", "a:\n  c: 3\n  d: 2\nb: 1\n"},
		"lists keep their order":          {"a: [z, y]\n", "a:\n- z\n- y\n"},
		"comments stay with their key":    {"# of b\nb: 1 # one\n# of a\na: 2\n", "# of a\na: 2\n# of b\nb: 1 # one\n"},
		"comments behind objects":         {"b: {x: 1} # of b\na: 2\n", "a: 2\n# of b\nb:\n  x: 1\n"},
		"quotes stay":                     {"etag: '\"abc=\"'\n", "etag: '\"abc=\"'\n"},
		"documents stay apart":            {"b: 1\n---\na: 2\n", "b: 1\n---\na: 2\n"},
		"JSON stays JSON":                 {`{"b":1,"a":["<x>",2.50]}`, "{\n  \"a\": [\n    \"<x>\",\n    2.50\n  ],\n  \"b\": 1\n}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := document.Format([]byte(test.in))
			if err != nil || string(got) != test.want {
				t.Fatalf("got %q, %v; want %q", got, err, test.want)
			}
			again, err := document.Format(got)
			if err != nil || string(again) != test.want {
				t.Errorf("formatting once more gives %q, %v", again, err)
			}
		})
	}
	if got, err := document.Format([]byte("a: [")); err == nil {
		t.Errorf("what is not valid becomes %q", got)
	}
}
