package decide

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
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
	for i := range d.Images {
		id := &d.Images[i]
		if id.Verdict == ALLOW {
			continue
		}
		sentences.add(sentence(d.Rule, id))
		for _, r := range id.Reasons {
			for _, detail := range r.Details {
				found.add("  " + plain(detail))
			}
			if r.Next != "" && r.Code != CodeAttested {
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

func sentence(rule string, id *ImageDecision) string {
	var b strings.Builder
	b.WriteString("Image " + plain(id.Image))
	switch {
	case id.Verdict == INDETERMINATE && rule == "":
		b.WriteString(" was not checked.")
	case id.Verdict == INDETERMINATE:
		b.WriteString(" not admitted by Binary Authorization " + rule + ".")
	case rule == "":
		b.WriteString(" denied.")
	default:
		b.WriteString(" denied by Binary Authorization " + rule + ".")
	}
	shown, left := 0, 0
	for _, r := range id.Reasons {
		switch {
		case r.Code == CodeAttested:
		case shown == maxReasons:
			left++
		default:
			if shown > 0 {
				b.WriteString(".")
			}
			b.WriteString(" " + r.Message)
			shown++
		}
	}
	if left > 0 {
		b.WriteString(" (and " + strconv.Itoa(left) + " more attestors)")
	}
	return cut(b.String(), maxSentence)
}

// A list is lines without repetition, in the order they came.
type list struct {
	lines []string
	seen  map[string]bool
}

func (l *list) add(line string) {
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
