package notify

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Bounds of a message, in bytes unless said otherwise. Together a message has at most
// some 40 KiB.
const (
	maxID     = 100
	maxKey    = 200
	maxTitle  = 400
	maxFields = 24 // of each kind, in number
	maxName   = 40
	maxValue  = 1500
	maxLinks  = 4 // in number
	maxURL    = 1000
)

// Line makes a text that others chose one line of at most limit bytes, safe for logs
// and terminals: white space becomes a space, and what is not shown (control
// characters, escape sequences, changes of direction) U+FFFD. A text that is too long
// ends in "…".
func Line(s string, limit int) string {
	s = clip(s, 4*limit) // what follows makes nothing longer than three times
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, string(utf8.RuneError)), unicode.IsSpace), " ")
	s = strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return utf8.RuneError
	}, s)
	const more = "…"
	if len(s) <= limit {
		return s
	}
	return clip(s, limit-len(more)) + more
}

// clip cuts a text at the end of a rune.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// cleaned returns the message as the outbox takes it. What the caller got wrong is an
// error; what strangers wrote never is.
func (m Message) cleaned(now time.Time) (Message, error) {
	switch {
	case !slices.Contains(Kinds(), m.Kind):
		return m, fmt.Errorf("kind %q is not known", m.Kind)
	case m.Severity.rank() < 0:
		return m, fmt.Errorf("severity %q: want one of %v", m.Severity, Severities())
	case !isKey(m.Key, maxKey):
		return m, fmt.Errorf("key %q: want 1 to %d letters, digits, and any of ._:/@-", Line(m.Key, maxKey), maxKey)
	case m.ID != "" && !isKey(m.ID, maxID):
		return m, fmt.Errorf("id %q: want at most %d letters, digits, and any of ._:/@-", Line(m.ID, maxID), maxID)
	case m.Count < 0:
		return m, fmt.Errorf("count %d: want 1 or more", m.Count)
	}
	if m.ID == "" {
		m.ID = uuid.Must(uuid.NewV7()).String()
	}
	if m.Time.IsZero() {
		m.Time = now
	}
	m.Time = m.Time.UTC()
	m.Count = max(m.Count, 1)
	if m.Title = Line(m.Title, maxTitle); m.Title == "" {
		m.Title = string(m.Kind)
	}
	var err error
	if m.Labels, err = cleanedLabels(m.Labels); err != nil {
		return m, err
	}
	m.Fields = cleanedFields(m.Fields)
	m.Links = cleanedLinks(m.Links)
	return m, nil
}

const (
	lower    = "abcdefghijklmnopqrstuvwxyz"
	digits   = "0123456789"
	keyRunes = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + digits + "._:/@-"
)

func isKey(s string, limit int) bool {
	return s != "" && len(s) <= limit && strings.Trim(s, keyRunes) == ""
}

// reserved are names of labels that receivers give a meaning.
var reserved = [...]string{"alertname", "severity", "key"}

func cleanedLabels(labels []Field) ([]Field, error) {
	if len(labels) > maxFields {
		return nil, fmt.Errorf("%d labels: want at most %d", len(labels), maxFields)
	}
	clean := make([]Field, 0, len(labels))
	for _, l := range labels {
		if !isLabelName(l.Name) || slices.Contains(reserved[:], l.Name) {
			return nil, fmt.Errorf("label %q: want lower case letters, digits and _, and none of %v", Line(l.Name, maxName), reserved)
		}
		if slices.ContainsFunc(clean, func(f Field) bool { return f.Name == l.Name }) {
			return nil, fmt.Errorf("label %q is there twice", l.Name)
		}
		if value := Line(l.Value, maxValue); value != "" {
			clean = append(clean, Field{l.Name, value})
		}
	}
	return clean, nil
}

func isLabelName(s string) bool {
	return s != "" && len(s) <= maxName && strings.Contains(lower, s[:1]) && strings.Trim(s, lower+digits+"_") == ""
}

// cleanedFields leaves out empty ones, and says how many were too many.
func cleanedFields(fields []Field) []Field {
	clean := make([]Field, 0, min(len(fields), maxFields))
	for i, f := range fields {
		if len(clean) == maxFields-1 && len(fields)-i > 1 {
			return append(clean, Field{"more", fmt.Sprintf("%d further fields", len(fields)-i)})
		}
		if value := Line(f.Value, maxValue); value != "" {
			clean = append(clean, Field{Line(f.Name, maxName), value})
		}
	}
	return clean
}

// cleanedLinks leaves out what leads to no page, or could end the link where it is
// written in a text.
func cleanedLinks(links []Link) []Link {
	var clean []Link
	for _, l := range links {
		u, err := url.Parse(l.URL)
		if err != nil || len(l.URL) > maxURL || len(clean) == maxLinks || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil ||
			strings.ContainsFunc(l.URL, func(r rune) bool {
				return r <= ' ' || r >= utf8.RuneSelf || strings.ContainsRune(`<>|"'()[]\^`+"`{}", r)
			}) {
			continue
		}
		text := Line(l.Text, maxName)
		if text == "" {
			text = u.Host
		}
		clean = append(clean, Link{Text: text, URL: l.URL})
	}
	return clean
}
