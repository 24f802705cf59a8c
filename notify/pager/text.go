package pager

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/notify"
)

// maxListed bounds the messages of a page that are written out, the most severe first;
// the others are counted.
const maxListed = 20

// inert makes a text mean nothing in the languages of those that it may be handed on
// to: HTML, mentions and links of Slack, links of Markdown.
func inert(s string) string {
	return strings.NewReplacer("<", "‹", ">", "›", "](", "] (").Replace(s)
}

// verb says what a message is about, for people.
func verb(k notify.Kind) string {
	switch k {
	case notify.Opened:
		return "new"
	case notify.PagerFailed:
		return "pager fails"
	case notify.PagerRecovered:
		return "pager works again"
	default:
		return strings.TrimPrefix(string(k), "incident.")
	}
}

// subject is a page in one line.
func subject(p notify.Page) string {
	line := strings.ToUpper(string(p.Severity())) + ": "
	if len(p.Messages) == 1 {
		line += verb(p.Messages[0].Kind) + ": "
	}
	return line + p.Headline()
}

// facts are all that a message says, but for its title.
func facts(m notify.Message) []notify.Field {
	all := slices.Concat([]notify.Field{{Name: "severity", Value: string(m.Severity)}, {Name: "status", Value: verb(m.Kind)}}, m.Fields, m.Labels)
	if m.Count > 1 {
		all = append(all, notify.Field{Name: "count", Value: fmt.Sprint(m.Count)})
	}
	return append(all, notify.Field{Name: "since", Value: m.Time.Format(time.RFC3339)}, notify.Field{Name: "key", Value: m.Key})
}

// summary lists the messages of a page, a line each.
func summary(p notify.Page) []string {
	var lines []string
	shown, rest, events := listed(p)
	for _, m := range shown {
		line := fmt.Sprintf("%s, %s: %s", m.Severity, verb(m.Kind), m.Title)
		if m.Count > 1 {
			line += fmt.Sprintf(" (%d times)", m.Count)
		}
		lines = append(lines, line+" ["+m.Key+"]")
	}
	if rest > 0 {
		lines = append(lines, fmt.Sprintf("and %d more messages about %d events", rest, events))
	}
	if p.Dropped > 0 {
		lines = append(lines, lost(p))
	}
	return lines
}

func lost(p notify.Page) string {
	return fmt.Sprintf("%d messages were lost for want of room in the outbox, the least severe first", p.Dropped)
}

// listed are the messages to write out, and how many are left.
func listed(p notify.Page) (shown []notify.Message, rest int, events int64) {
	shown = slices.Clone(p.Messages)
	worst := notify.Severities()
	slices.SortStableFunc(shown, func(a, b notify.Message) int {
		return slices.Index(worst, b.Severity) - slices.Index(worst, a.Severity)
	})
	if len(shown) <= maxListed {
		return shown, 0, 0
	}
	for _, m := range shown[maxListed:] {
		events += m.Count
	}
	return shown[:maxListed], len(shown) - maxListed, events
}

// lines are a whole page as text.
func lines(p notify.Page) []string {
	if len(p.Messages) != 1 {
		return summary(p)
	}
	var all []string
	for _, f := range facts(p.Messages[0]) {
		all = append(all, f.Name+": "+f.Value)
	}
	if p.Dropped > 0 {
		all = append(all, lost(p))
	}
	return all
}

// links are those of a page, each once.
func links(p notify.Page, most int) []notify.Link {
	var all []notify.Link
	shown, _, _ := listed(p)
	for _, m := range shown {
		for _, l := range m.Links {
			if len(all) < most && !slices.Contains(all, l) {
				all = append(all, l)
			}
		}
	}
	return all
}

// clip cuts a text to at most limit bytes, at the end of a rune.
func clip(s string, limit int) string {
	const more = "…"
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-len(more)], "") + more
}
