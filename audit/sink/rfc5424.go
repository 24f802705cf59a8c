package sink

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/gatehouse-dev/gatehouse/audit/deliver"
	"github.com/gatehouse-dev/gatehouse/notify"
)

const (
	// syslogTime is RFC 5424's, which has at most microseconds.
	syslogTime = "2006-01-02T15:04:05.000000Z"
	// nothing is a header field that is not known.
	nothing = "-"
	// maxParam bounds a value of the structured data, in bytes.
	maxParam = 256
)

// msgIDs are those of messages, by the logs of their records.
var msgIDs = map[deliver.Log]string{deliver.Decisions: "DECISION", deliver.Calls: "CALL", deliver.Runs: "RUN"}

// A message writes records as messages of RFC 5424. All of it is ASCII, so that there is
// no need for the byte order mark that the RFC wants before UTF-8, and that JSON must not
// have.
type message struct {
	facility                 int
	host, app, process, sdID string
	size                     int // octets at most
	format                   Format
	place                    Place
}

// encode writes a record. If its JSON has no room, a sentence stands in its place, and the
// parameter truncated says so.
func (m message) encode(e deliver.Entry) ([]byte, error) {
	line, err := m.format.line(e, m.place)
	if err != nil {
		return nil, err
	}
	head := m.header(e)
	whole := head + " " + m.structured(e, e.Short) + " "
	if text := deliver.ASCII(line); len(whole)+len(text) <= m.size {
		return append([]byte(whole), text...), nil
	}
	whole = head + " " + m.structured(e, true) + " "
	if len(whole) >= m.size { // its names are long: what is left is who it is
		whole = head + " [" + m.sdID + param("id", e.ID) + param("truncated", "true") + "] "
	}
	text := plainASCII(e.Text())
	return []byte((whole + text)[:min(len(whole)+len(text), m.size)]), nil
}

func (m message) header(e deliver.Entry) string {
	const perFacility = 8
	at := nothing
	if !e.Time.IsZero() {
		at = e.Time.UTC().Format(syslogTime)
	}
	return fmt.Sprintf("<%d>1 %s %s %s %s %s", m.facility*perFacility+int(e.Severity()), at, orNothing(m.host), orNothing(m.app), orNothing(m.process), msgIDs[e.Log])
}

func (m message) structured(e deliver.Entry, truncated bool) string {
	var b strings.Builder
	b.WriteString("[" + m.sdID)
	add := func(name, value string) {
		if value != "" {
			b.WriteString(param(name, value))
		}
	}
	add("id", e.ID)
	add("log", string(e.Log))
	switch {
	case e.Decision != nil:
		r := e.Decision
		if d := r.Decision; d != nil {
			add("allowed", strconv.FormatBool(d.Allowed))
			add("verdict", d.Verdict.String())
			add("override", string(d.Override))
			add("breakGlass", d.BreakGlass)
			add("policy", d.Policy)
		} else {
			add("event", r.Event)
		}
		add("cluster", r.Cluster)
		add("namespace", r.Namespace)
		add("resource", r.Resource)
		add("name", r.Name)
		add("user", r.User)
		add("operation", r.Operation)
	case e.Call != nil:
		add("code", e.Call.Code)
		add("method", e.Call.Method)
		add("caller", e.Call.Caller)
		add("origin", e.Call.Origin)
		add("resource", e.Call.Resource)
	default:
		add("success", strconv.FormatBool(e.Run.Success))
		add("method", e.Run.Method)
		add("caller", e.Run.Caller)
		add("origin", e.Run.Origin)
		add("image", e.Run.Image)
	}
	if truncated {
		add("truncated", "true")
	}
	b.WriteString("]")
	return b.String()
}

var escapeParam = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`)

// param writes a value of the structured data: what RFC 5424 has escaped, and in ASCII.
func param(name, value string) string {
	return " " + name + `="` + escapeParam.Replace(plainASCII(notify.Line(value, maxParam))) + `"`
}

// plainASCII writes what is not visible ASCII or a space as \uXXXX.
func plainASCII(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r >= ' ' && r < 0x7f {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// headerField is a text as a field of the header may be: visible ASCII, and so long.
func headerField(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r > ' ' && r < 0x7f {
			return r
		}
		return -1
	}, s)
	return s[:min(len(s), limit)]
}

func orNothing(s string) string {
	if s == "" {
		return nothing
	}
	return s
}
