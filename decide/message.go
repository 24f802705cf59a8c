package decide

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gatehouse-dev/gatehouse/policy"
)

const (
	// maxImageText bounds the image text that a Decision keeps; the longest
	// reference that image.Parse accepts has 718 characters.
	maxImageText = 1 << 10
	// maxPlain bounds text from outside within a sentence.
	maxPlain = 300

	// A denial has at most about 3 kB, which a terminal still shows in one piece.
	// The parts of [Message] share it: the sentences, what was found, what to do.
	maxSentence  = 900
	maxSentences = 1700
	maxFound     = 600
	maxSteps     = 600
	// maxReasons bounds the attestors that one sentence names.
	maxReasons = 3
)

// Message puts into words, for the person who is blocked, why policy does not
// allow the request: first a sentence for each image, in the words of Binary
// Authorization, then what was found that does not count, and what to do or to run
// next. It has several lines, about 3 kB at most, and depends on nothing but d. It
// is "" when the verdict is ALLOW; an overridden denial is rendered like any other.
func Message(d Decision) string {
	if d.Verdict == ALLOW {
		return ""
	}
	var sentences, found, steps list
	speaking := d.speaking()
	for i := range d.Images {
		id := &d.Images[i]
		if id.Verdict == ALLOW {
			continue
		}
		for _, by := range speaking {
			if text := sentence(by, id); text != "" {
				sentences.add(text)
			}
		}
		for _, r := range id.Reasons {
			if r.Verdict == ALLOW || !slices.ContainsFunc(speaking, func(by Deciding) bool { return r.by(by) }) {
				continue
			}
			for _, detail := range r.Details {
				found.add("  " + plain(detail))
			}
			if r.Next != "" {
				steps.add("  " + cut(r.Next, maxSentence))
			}
		}
	}
	if len(sentences.lines) == 0 {
		sentences.add("Denied: no image of the request was decided on.")
	}
	var b strings.Builder
	sentences.write(&b, "", " more images", maxSentences)
	found.write(&b, "What was found:\n", " more findings", maxFound)
	steps.write(&b, "What to do:\n", " more steps", maxSteps)
	return strings.TrimSuffix(b.String(), "\n")
}

// VerificationResult tells, in the form of Binary Authorization's audit log, what
// policy has against the images of a request that was let in all the same: a line
// for each image, 'IMAGE' : and the reasons, about 3 kB at most. It is "" when the
// verdict is ALLOW.
func VerificationResult(d Decision) string {
	var lines list
	for i := range d.Images {
		id := &d.Images[i]
		var why []string
		for _, by := range d.speaking() {
			_, reasons := against(by, id)
			for _, r := range reasons[:min(len(reasons), maxReasons)] {
				why = append(why, r.worded(by.Dialect, id.Image))
			}
		}
		if len(why) > 0 {
			lines.add("'" + plain(id.Image) + "' : " + strings.Join(why, ". "))
		}
	}
	var b strings.Builder
	lines.write(&b, "", " more images", maxSentences)
	return b.String()
}

// speaking returns the policies that have to be spoken of: all that were asked, but of
// a request that is not let in only those that keep it out.
func (d *Decision) speaking() []Deciding {
	if len(d.Policies) == 0 {
		return []Deciding{d.Deciding}
	}
	var all []Deciding
	for _, p := range d.Policies {
		if d.Allowed || p.Override == NoOverride {
			all = append(all, p.Deciding)
		}
	}
	return all
}

// by reports whether the policy gave the reason.
func (r *Reason) by(p Deciding) bool { return r.Policy == "" || r.Policy == p.Policy }

// sentence says why one policy does not allow an image, "" if it does.
func sentence(by Deciding, id *ImageDecision) string {
	verdict, reasons := against(by, id)
	if len(reasons) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("Image " + plain(id.Image))
	switch name := by.title(); {
	case verdict == INDETERMINATE && name == "":
		b.WriteString(" was not checked.")
	case verdict == INDETERMINATE:
		b.WriteString(" not admitted by " + name + ".")
	case name == "":
		b.WriteString(" denied.")
	default:
		b.WriteString(" denied by " + name + ".")
	}
	for i, r := range reasons {
		if i == maxReasons {
			b.WriteString(" (and " + strconv.Itoa(len(reasons)-i) + " more" + reasons[0].plural() + ")")
			break
		}
		if i > 0 {
			b.WriteString(".")
		}
		b.WriteString(" " + r.worded(by.Dialect, id.Image))
	}
	return cut(b.String(), maxSentence)
}

// against returns what a policy has against an image, and its verdict.
func against(by Deciding, id *ImageDecision) (Verdict, []*Reason) {
	verdict := ALLOW
	var list []*Reason
	for i := range id.Reasons {
		r := &id.Reasons[i]
		if r.Verdict == ALLOW || !r.by(by) {
			continue
		}
		verdict = worse(verdict, r.Verdict)
		list = append(list, r)
	}
	return verdict, list
}

// title is how a sentence calls the rule that denies.
func (by Deciding) title() string {
	switch {
	case by.Rule == "":
		return ""
	case by.Dialect == "":
		return "Binary Authorization " + by.Rule
	case by.Dialect == policy.PlatformPolicy:
		return "platform policy " + plain(by.Policy) + ", " + by.Rule
	}
	return by.Rule
}

func (r *Reason) plural() string {
	if r.Attestor != "" {
		return " attestors"
	}
	return ""
}

// worded puts a reason into the words of its dialect.
func (r *Reason) worded(dialect policy.Dialect, text string) string {
	message := strings.TrimSuffix(r.Message, ".")
	switch {
	case r.Check == nil:
		return message
	case dialect == policy.PlatformPolicy:
		return r.Explanation()
	case dialect == policy.Kritis:
		return r.inKritis(plain(text), message)
	}
	return message
}

// explain says in the words of continuous validation what a check found.
func (c *CheckRef) explain(verdict, message string) string {
	name := ""
	if c.Name != "" {
		name = " with display name " + strconv.Quote(cut(c.Name, maxPlain))
	}
	return c.Type + " at index " + strconv.Itoa(c.Index) + name + " has verdict " + verdict + ". " + message
}

// Explanation tells what a check of a platform policy found, in the words of
// continuous validation. It is the message of a reason that is of no check.
func (r *Reason) Explanation() string {
	message := strings.TrimSuffix(r.Message, ".")
	if r.Check == nil {
		return message
	}
	return r.Check.explain(r.checkVerdict(), message)
}

// checkVerdict is the word that explanations of continuous validation have.
func (r *Reason) checkVerdict() string {
	switch {
	case r.Verdict == ALLOW:
		return "CONFORMANT"
	case r.Erred():
		return "ERROR"
	}
	return "NOT_CONFORMANT"
}

// Erred reports whether the reason is that something needed to reach a verdict is
// missing, which a platform policy calls an ERROR.
func (r *Reason) Erred() bool {
	return r.Verdict == INDETERMINATE || r.Code == CodeNotScanned || r.Code == CodeUploadUnknown
}

// inKritis says it as Kritis did, whose messages people search for.
func (r *Reason) inKritis(text, message string) string {
	named, in := "", ""
	if r.Check.Name != "" {
		named = " (" + r.Check.Type + " " + plain(r.Check.Name) + ")"
		in = named
	}
	if r.Alternative != "" {
		in = " in " + plain(r.Alternative)
	}
	unqualified := r.Code == CodeNoDigest || r.Code == CodeInvalidReference
	switch {
	case unqualified && r.Attestor != "":
		return text + " is not attested by " + r.Attestor + in + ": it is not a fully qualified image"
	case unqualified:
		return text + " is not a fully qualified image" + named
	case r.Code == CodeVulnerable:
		return "found violations in " + text + named + ": " + message
	case r.Code == CodeNotAttested:
		return text + " is not attested by " + r.Attestor + in
	case r.Code == CodeNoCheck && r.Alternative != "":
		return plain(r.Alternative) + " did not specify any attestation authority"
	}
	return message + named
}

// A list is lines without repetition, in the order they came. Whatever they are made
// of, each is one line that prints, and no longer than a sentence may be.
type list struct {
	lines []string
	seen  map[string]bool
}

func (l *list) add(line string) {
	line = cut(escaped(cut(line, maxSentence)), maxSentence)
	if l.seen[line] {
		return
	}
	if l.seen == nil {
		l.seen = map[string]bool{}
	}
	l.seen[line] = true
	l.lines = append(l.lines, line)
}

// write appends title and as many lines as most bytes hold, at least one, and
// counts what is left.
func (l *list) write(b *strings.Builder, title, rest string, most int) {
	if len(l.lines) == 0 {
		return
	}
	b.WriteString(title)
	for i, line := range l.lines {
		if most -= len(line) + 1; most < 0 && i > 0 {
			b.WriteString("… and " + strconv.Itoa(len(l.lines)-i) + rest + "\n")
			return
		}
		b.WriteString(line + "\n")
	}
}

// plain returns text from outside in a form that cannot break out of its line:
// cut, and quoted if it holds anything that does not print.
func plain(s string) string {
	s = cut(s, maxPlain)
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f {
			return quoteOdd(s)
		}
	}
	return s
}

func quoteOdd(s string) string {
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	return strconv.Quote(s)
}

// escaped returns s with what does not print escaped as in a Go string.
func escaped(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRune(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// cut shortens s to at most most bytes, at the beginning of a character, and
// marks that it did.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	n := most - len("…")
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
