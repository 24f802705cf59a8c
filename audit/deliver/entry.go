package deliver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/notify"
)

// A Log names one of the audit logs.
type Log string

// The logs.
const (
	Decisions Log = "decisions" // of the gate
	Calls     Log = "calls"     // to the metadata API
	Runs      Log = "runs"      // of an attestor
)

// Logs are all of them.
func Logs() []Log { return []Log{Decisions, Calls, Runs} }

// An Entry is one record of a log.
type Entry struct {
	Log Log
	// ID is the same whenever the record is sent, and no other's: that of the record, and the
	// phase of a call that has one.
	ID   string
	Time time.Time
	// Line is the record as the log has it, JSON of one line, with what a terminal might
	// obey written as \uXXXX.
	Line []byte
	// Exactly one of these is the record.
	Decision *audit.Record
	Call     *audit.Call
	Run      *audit.Run
	// Short says that what is large was left out, because the peer did not take the whole.
	Short bool
}

// EventTest is the event of a record that only tries a sink.
const EventTest = "test"

// Parse reads a line of a log.
func Parse(log Log, line []byte) (Entry, error) {
	e := Entry{Log: log}
	var err error
	switch log {
	case Decisions:
		e.Decision = new(audit.Record)
		err = jsonv2.Unmarshal(line, e.Decision)
		e.ID, e.Time = e.Decision.ID, e.Decision.Time
	case Calls:
		e.Call = new(audit.Call)
		err = jsonv2.Unmarshal(line, e.Call)
		e.ID, e.Time = e.Call.ID, e.Call.Time
		if e.Call.Phase != "" { // of which there are two with one id
			e.ID += "." + e.Call.Phase
		}
	case Runs:
		e.Run = new(audit.Run)
		err = jsonv2.Unmarshal(line, e.Run)
		e.ID, e.Time = e.Run.ID, e.Run.Time
	default:
		return e, fmt.Errorf("reading audit record: there is no log %q", log)
	}
	if err == nil && (e.ID == "" || !bytes.HasPrefix(line, []byte("{"))) {
		err = errors.New("it has no id")
	}
	if err != nil {
		return e, fmt.Errorf("reading audit record of %s: %w", log, err)
	}
	e.Line = Shown(line)
	return e, nil
}

// NewTest is a record that says that it is a test.
func NewTest(now time.Time) (Entry, error) {
	line, err := json.Marshal(audit.Record{
		ID: audit.NewID(), Time: now.UTC(), Event: EventTest, Namespace: "default", User: "gatehouse audit test",
		Error: "this is a test of Gatehouse: nothing has happened",
	})
	if err != nil {
		return Entry{}, err
	}
	return Parse(Decisions, line)
}

// Shown returns a copy of a line of JSON whose runes outside ASCII all are for people to
// see: what is left of control characters, marks of direction and broken UTF-8 in JSON's
// strings is escaped.
func Shown(line []byte) []byte {
	out := make([]byte, 0, len(line))
	for i := 0; i < len(line); {
		if c := line[i]; c < utf8.RuneSelf && c >= ' ' && c != 0x7f {
			out = append(out, c)
			i++
			continue
		}
		r, size := utf8.DecodeRune(line[i:])
		if unicode.IsGraphic(r) && r != utf8.RuneError {
			out = append(out, line[i:i+size]...)
		} else {
			out = escape(out, r)
		}
		i += size
	}
	return out
}

// ASCII returns a line of JSON in ASCII.
func ASCII(line []byte) []byte {
	out := make([]byte, 0, len(line))
	for _, r := range string(line) {
		if r < utf8.RuneSelf {
			out = append(out, byte(r))
		} else {
			out = escape(out, r)
		}
	}
	return out
}

// escape appends a rune as JSON writes it in ASCII.
func escape(out []byte, r rune) []byte {
	if r > 0xffff {
		r -= 0x10000
		return fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
	}
	return fmt.Appendf(out, `\u%04x`, r)
}

const (
	// maxText bounds the sentence that says what a record is about, and maxShort the fields
	// of a record that was shortened, in bytes.
	maxText  = 1000
	maxShort = 256
)

// Shortened is the record without what may be large.
func (e Entry) Shortened() Entry {
	var record any
	switch {
	case e.Decision != nil:
		record = shortDecision(*e.Decision)
	case e.Call != nil:
		c := *e.Call
		c.Permissions, c.Changes = nil, nil
		for _, field := range []*string{&c.Method, &c.Caller, &c.Origin, &c.Resource, &c.Error} {
			*field = notify.Line(*field, maxShort)
		}
		record = c
	default:
		r := *e.Run
		r.Results, r.Truncated = nil, true
		for _, field := range []*string{&r.Caller, &r.Origin, &r.Image, &r.Name, &r.Error} {
			*field = notify.Line(*field, maxShort)
		}
		record = r
	}
	line, err := json.Marshal(record)
	if err != nil {
		return e
	}
	short, err := Parse(e.Log, line)
	if err != nil {
		return e
	}
	short.Short = true
	return short
}

func shortDecision(r audit.Record) audit.Record {
	r.Truncated, r.Pinned, r.Policies, r.Before = true, nil, nil, nil
	for _, field := range []*string{&r.Error, &r.UID, &r.Operation, &r.Resource, &r.Namespace, &r.Name, &r.User} {
		*field = notify.Line(*field, maxShort)
	}
	if r.Decision != nil {
		d := *r.Decision
		d.Images, d.Policies = nil, nil
		d.Summary, d.Justification = notify.Line(d.Summary, maxShort), notify.Line(d.Justification, maxShort)
		r.Decision = &d
	}
	if r.BreakGlass != nil {
		b := *r.BreakGlass
		b.Object, r.BreakGlass = nil, &b
	}
	return r
}

// A Severity says how much a record wants to be seen.
type Severity int

// The severities, by the numbers that syslog has for them.
const (
	Alert   Severity = 1
	Error   Severity = 3
	Warning Severity = 4
	Notice  Severity = 5
	Info    Severity = 6
)

// Severity of a used break-glass is Alert; what was refused or let in unchecked is Warning;
// what would have been refused is Notice.
func (e Entry) Severity() Severity {
	switch {
	case e.Decision != nil:
		return severityOfDecision(e.Decision)
	case e.Call != nil:
		return severityOfCall(e.Call)
	case e.Run.Error != "":
		return Warning
	case !e.Run.Success:
		return Notice
	}
	return Info
}

func severityOfDecision(r *audit.Record) Severity {
	d := r.Decision
	if r.Lost != nil {
		return Error
	}
	if d == nil {
		if slices.ContainsFunc(r.Pinned, func(p audit.Pinned) bool { return p.Error != "" }) || len(r.Policies)+len(r.Before) > 0 {
			return Notice
		}
		if r.Error != "" && r.Event != EventTest {
			return Warning
		}
		return Info
	}
	severity := Info
	switch {
	case !d.Allowed:
		severity = Warning
	case d.BreakGlass != "":
		severity = Notice
	}
	for _, o := range d.Overrides() {
		switch o {
		case decide.BreakGlass:
			return Alert
		case decide.FailOpen, decide.LastAllowed:
			severity = min(severity, Warning)
		default:
			severity = min(severity, Notice)
		}
	}
	return severity
}

func severityOfCall(c *audit.Call) Severity {
	if c.Lost != nil {
		return Error
	}
	switch c.Code {
	case "OK":
		return Info
	case "PERMISSION_DENIED", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED":
		return Warning
	case "INTERNAL", "UNKNOWN", "DATA_LOSS", "UNAVAILABLE":
		return Error
	}
	return Notice
}

// Text says what the record is about: one line without control characters.
func (e Entry) Text() string {
	var b strings.Builder
	switch {
	case e.Decision != nil:
		r := e.Decision
		if d := r.Decision; d != nil {
			b.WriteString(d.Verdict.String())
			for _, o := range d.Overrides() {
				b.WriteString(" overridden by " + string(o))
			}
		} else {
			b.WriteString(r.Event)
		}
		fmt.Fprintf(&b, ": %s %s %s/%s by %s", r.Operation, r.Resource, r.Namespace, r.Name, r.User)
		if r.Decision != nil {
			b.WriteString(": " + r.Decision.Summary)
		}
		if r.Error != "" {
			b.WriteString(": " + r.Error)
		}
	case e.Call != nil:
		fmt.Fprintf(&b, "%s: %s %s by %s", e.Call.Code, e.Call.Method, e.Call.Resource, e.Call.Caller)
		if e.Call.Error != "" {
			b.WriteString(": " + e.Call.Error)
		}
	default:
		fmt.Fprintf(&b, "%s %s of %s by %s: success %s", e.Run.Method, e.Run.Name, e.Run.Image, e.Run.Caller, strconv.FormatBool(e.Run.Success))
		if e.Run.Error != "" {
			b.WriteString(": " + e.Run.Error)
		}
	}
	return notify.Line(b.String(), maxText)
}
