package decide_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// hostile is text that people who attack logs, terminals and pages write.
var hostile = []string{
	"x\nImage gcr.io/p/app allowed", "\r\n\r\nHTTP/1.1 200 OK", "\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "\u202egnp.exe", "a\u2028b\u2029c\u0085d",
	"<script>alert(1)</script>", "\"},{\"allowed\":true,\"x\":\"", "\x00", "\xff\xfe\xfd", "%s%n%!d(MISSING)", "\u200b\u2066", strings.Repeat("\x1b", 5000), strings.Repeat("\u00e9", 5000), strings.Repeat("\xf0\x9f\x98\x80", 3000), "",
}

// checkMessage holds the words for a person to what must be true of them: they are
// a few lines of known beginnings, which print, whatever they are made of.
func checkMessage(t *testing.T, message string) {
	t.Helper()
	if len(message) > 4000 {
		t.Errorf("%d bytes", len(message))
	}
	if !utf8.ValidString(message) {
		t.Errorf("not UTF-8: %q", message)
	}
	for line := range strings.SplitSeq(message, "\n") {
		if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("a line does not print: %q", line)
		}
		switch {
		case line == "" && message == "", strings.HasPrefix(line, "Image "), strings.HasPrefix(line, "  "), strings.HasPrefix(line, "… and "),
			line == "What was found:", line == "What to do:", line == "Denied: no image of the request was decided on.":
		default:
			t.Errorf("a line that nobody wrote: %q", line)
		}
	}
}

// arbitrary makes a decision that package decide would not make.
func (w world) arbitrary() decide.Decision {
	text := func() string { return pick(w.choices, hostile...) }
	dialect := func() policy.Dialect {
		return pick(w.choices, "", policy.PlatformPolicy, policy.Kritis, policy.Dialect(text()))
	}
	deciding := func() decide.Deciding {
		return decide.Deciding{Policy: text(), Dialect: dialect(), PolicyVersion: text(), Rule: text(), Source: text()}
	}
	verdict := func() decide.Verdict { return pick(w.choices, decide.DENY, decide.INDETERMINATE, decide.ALLOW, 7, -1) }
	reason := func() decide.Reason {
		r := decide.Reason{
			Verdict: verdict(), Code: pick(w.choices, decide.CodeNotAttested, decide.CodeNoDigest, decide.CodeVulnerable, decide.Code(text())), Message: text(), Policy: pick(w.choices, "", text()),
			Alternative: text(), Source: text(), Attestor: text(), KeyID: text(), Occurrence: text(), Exemption: text(), Details: several(w.choices, 3, text), Required: text(), Next: text(),
		}
		if w.bool() {
			r.Check = &decide.CheckRef{Index: w.n(3) - 1, Name: text(), Type: text()}
		}
		return r
	}
	return decide.Decision{
		Allowed: w.bool(), Verdict: pick(w.choices, decide.DENY, decide.INDETERMINATE, 9), Override: decide.Override(text()), BreakGlass: text(), Justification: text(), Deciding: deciding(),
		Policies: several(w.choices, 2, func() decide.PolicyDecision { return decide.PolicyDecision{Deciding: deciding(), Verdict: verdict()} }), Summary: text(),
		Images: several(w.choices, 3, func() decide.ImageDecision {
			return decide.ImageDecision{Image: text(), Container: text(), Type: decide.ContainerType(text()), Verdict: verdict(), Reasons: several(w.choices, 5, reason)}
		}),
	}
}

func TestAMessageIsAFewLinesThatPrint(t *testing.T) {
	t.Parallel()
	t.Run("of any decision", func(t *testing.T) {
		t.Parallel()
		for i := range 1000 {
			checkMessage(t, decide.Message(world{&choices{randomBytes(30, i)}}.arbitrary()))
			if t.Failed() {
				return
			}
		}
	})
	t.Run("of any question", func(t *testing.T) {
		t.Parallel()
		for i := range 1000 {
			checkMessage(t, decide.Message(questionOf(randomBytes(31, i)).build().decide()))
		}
	})
	t.Run("of zero values", func(t *testing.T) {
		t.Parallel()
		checkMessage(t, decide.Message(decide.Decision{}))
		checkMessage(t, decide.Message(decide.Decision{Images: make([]decide.ImageDecision, 3)}))
		checkMessage(t, decide.Message(decide.Decision{Images: []decide.ImageDecision{{Reasons: make([]decide.Reason, 9)}}, Policies: make([]decide.PolicyDecision, 2)}))
	})
}

// A record is a line of JSON whatever is in it, also for whoever cuts lines.
func TestADecisionIsOneLineOfJSON(t *testing.T) {
	t.Parallel()
	for i := range 40 {
		d := world{&choices{randomBytes(32, i)}}.arbitrary()
		text := asJSON(t, d)
		if !json.Valid([]byte(text)) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' }) {
			t.Fatalf("not one line of JSON: %q", text)
		}
		var back decide.Decision
		if err := json.Unmarshal([]byte(text), &back); err != nil || back.Allowed != d.Allowed || len(back.Images) != len(d.Images) {
			t.Fatalf("reads back as something else: %v", err)
		}
	}
}

func FuzzMessage(f *testing.F) {
	for i := range 10 {
		f.Add(randomBytes(33, i))
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkMessage(t, decide.Message(world{&choices{data}}.arbitrary())) })
}
