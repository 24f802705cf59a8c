package main

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/decide"
)

func TestTextIsBrokenBetweenWords(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"nothing":                 {"", []string{""}},
		"what fits":               {"aaa bbb", []string{"aaa bbb"}},
		"what does not":           {"aaa bbbb", []string{"aaa", "bbbb"}},
		"characters, not bytes":   {"äää ööö", []string{"äää ööö"}},
		"a long word":             {"a bbbbbbbbb c", []string{"a", "bbbbbbbbb", "c"}},
		"one that is all":         {"bbbbbbbbb", []string{"bbbbbbbbb"}},
		"several spaces in a row": {"a   b", []string{"a b"}},
	} {
		if diff := cmp.Diff(test.want, wrapped(test.text, 7)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestAnExplanationFitsATerminal has images whose names stand in other words too.
func TestAnExplanationFitsATerminal(t *testing.T) {
	t.Parallel()
	for _, image := range []string{"", "a", "image", "reg.example/shop/web:1", "\x1b[2J"} {
		var p page
		p.image(&decide.ImageDecision{Image: image, Reasons: []decide.Reason{{
			Message:  "Image " + image + " denied by attestor projects/p/attestors/a: No attestations found that were valid and signed by a key trusted by the attestor",
			Details:  []string{strings.Repeat("details ", 40)},
			Required: "an attestation of the image's digest under projects/p/notes/a, signed by a key that is known",
			Next:     "write it otherwise, and say what is to be done about it, at some length, so that it has two lines",
		}, {Next: "gatehouse check --check a " + strings.Repeat("x", 70)}}})
		long := 0
		for line := range strings.Lines(p.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > pageWidth {
				long++
			}
		}
		if long != 1 || !strings.Contains(p.String(), "    next     gatehouse check --check a xxx") {
			t.Errorf("%d long lines:\n%s", long, &p)
		}
		if !strings.Contains(p.String(), "deny       denied by attestor projects/p/attestors/a: No attestations found\n") || strings.Contains(p.String(), "\x1b") {
			t.Errorf("%s", &p)
		}
	}
}
