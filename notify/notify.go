// Package notify tells people what must not stay unnoticed: a [Message] is put into
// an [Outbox], which keeps it on disk until a [Receiver] has taken it.
//
// The outbox delivers at least once. What waits together goes out together, as one
// [Page]; how often pages go out is limited, and what waits meanwhile is gathered, so
// that a storm gives few pages with complete counts. A route names its receivers in
// order: one that fails is left for the next, which is told of the failure too.
//
//	outbox, err := notify.Open(notify.Options{Dir: dir, Routes: routes, Receivers: receivers})
//	go outbox.Run(ctx)
//	err = outbox.Enqueue(ctx, notify.Message{…}) // nil: it is on disk
//
// Texts of messages come from strangers. [Outbox.Enqueue] makes each of them one line
// without control characters and of bounded length; what else a text could mean where
// it is shown is for each receiver to take away.
package notify

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// A Kind says what happened.
type Kind string

// The kinds.
const (
	Opened       Kind = "incident.opened"
	Escalated    Kind = "incident.escalated"
	Acknowledged Kind = "incident.acknowledged"
	Resolved     Kind = "incident.resolved" // by somebody
	Closed       Kind = "incident.closed"   // by itself

	// PagerFailed and PagerRecovered are made by the outbox; their key is
	// "pager/" and the receiver's name.
	PagerFailed    Kind = "pager.failed"
	PagerRecovered Kind = "pager.recovered"

	Test Kind = "test"
)

// Kinds are all of them.
func Kinds() []Kind {
	return []Kind{Opened, Escalated, Acknowledged, Resolved, Closed, PagerFailed, PagerRecovered, Test}
}

// Ends reports whether the matter is over with a message of this kind.
func (k Kind) Ends() bool { return k == Resolved || k == Closed || k == PagerRecovered }

// Calls reports whether somebody has to come.
func (k Kind) Calls() bool {
	return k == Opened || k == Escalated || k == PagerFailed || k == Test
}

// A Severity says how bad it is.
type Severity string

// The severities, the least first.
const (
	Info     Severity = "info"
	Warning  Severity = "warning"
	Error    Severity = "error"
	Critical Severity = "critical"
)

// Severities are all of them, the least first.
func Severities() []Severity { return []Severity{Info, Warning, Error, Critical} }

// rank is -1 for what is no severity.
func (s Severity) rank() int { return slices.Index(Severities(), s) }

// A Field is a named part of a message.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Names of fields that receivers and people know. A message may have others.
const (
	Who    = "who"
	What   = "what"
	Why    = "why"
	Where  = "where"
	Policy = "policy" // what policy would have said
)

// A Link leads to more.
type Link struct {
	Text string `json:"text"`
	URL  string `json:"url"` // http or https; others are left out
}

// A Message is one thing to tell.
type Message struct {
	// ID tells a message from others; one that was seen before is not taken again.
	// Default: a new one.
	ID   string `json:"id"`
	Kind Kind   `json:"kind"`
	// Key names what the message is about, such as an incident: at most 200 letters,
	// digits, and any of ._:/@-. Pagers keep one alert a key. Messages of one kind and
	// key that wait together become one.
	Key      string   `json:"key"`
	Severity Severity `json:"severity"`
	Title    string   `json:"title"`
	// Labels are what to route by, such as cluster and namespace. They are the same in
	// all messages of a key. Names are lower case letters, digits and _.
	Labels []Field `json:"labels,omitempty"`
	Fields []Field `json:"fields,omitempty"`
	Links  []Link  `json:"links,omitempty"`
	// Time is when it happened; of several that became one, the first. Default: now.
	Time time.Time `json:"time"`
	// Count is how many events the message tells of. Default 1; of several that became
	// one, the sum.
	Count int64 `json:"count"`
}

// A Page is what goes out at once: one message or several, the oldest first.
type Page struct {
	// Key stays the same while a page is tried again, whatever joins it meanwhile.
	Key      string    `json:"key"`
	Messages []Message `json:"messages"`
	// Dropped is how many messages of the route were lost for want of room, and not
	// told of before.
	Dropped int64 `json:"dropped,omitempty"`
}

// NewPage returns a page.
func NewPage(dropped int64, messages ...Message) Page {
	p := Page{Messages: messages, Dropped: dropped}
	if len(messages) > 0 {
		p.Key = "page/" + messages[0].ID
	}
	return p
}

// Events is how many events the messages tell of.
func (p Page) Events() int64 {
	var n int64
	for _, m := range p.Messages {
		n += m.Count
	}
	return n
}

// Severity is the worst of the messages'.
func (p Page) Severity() Severity {
	if len(p.Messages) == 0 {
		return Critical // what was dropped may have been
	}
	return slices.MaxFunc(p.Messages, func(a, b Message) int { return cmp.Compare(a.Severity.rank(), b.Severity.rank()) }).Severity
}

// ID is the same for the same content, so that a page that arrives twice can be told.
func (p Page) ID() string {
	h := sha256.New()
	for _, m := range p.Messages {
		_, _ = fmt.Fprintf(h, "%q %d\n", m.ID, m.Count) // never fails
	}
	_, _ = fmt.Fprintf(h, "%d", p.Dropped)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Headline says the page in one line.
func (p Page) Headline() string {
	var line string
	switch n := len(p.Messages); n {
	case 0:
		line = "messages were lost"
	case 1:
		line = p.Messages[0].Title
		if c := p.Messages[0].Count; c > 1 {
			line += fmt.Sprintf(" (%d times)", c)
		}
	default:
		line = fmt.Sprintf("%d messages about %d events: %s, and others", n, p.Events(), p.worst().Title)
	}
	if p.Dropped > 0 {
		line += "; lost for want of room: " + strconv.FormatInt(p.Dropped, 10)
	}
	return line
}

// worst is the first of those of the page's severity.
func (p Page) worst() Message {
	i := slices.IndexFunc(p.Messages, func(m Message) bool { return m.Severity == p.Severity() })
	return p.Messages[i]
}

// A Receiver is a pager, a chat or another way to people. It is called from several
// goroutines.
type Receiver interface {
	// Send delivers a page, and returns when the receiver has taken it. An error is
	// worth another try, unless it is a [FinalError]; its text has no secrets. Pages may come
	// twice.
	Send(ctx context.Context, p Page) error
}

// A FinalError is one that another try will not mend.
type FinalError struct {
	Err error
	// Content says that this page was refused, and others may be taken.
	Content bool
}

func (f *FinalError) Error() string { return f.Err.Error() }

// Unwrap returns the reason.
func (f *FinalError) Unwrap() error { return f.Err }

// A BusyError is one of a receiver that says when to come again.
type BusyError struct {
	Err   error
	After time.Duration
}

func (b *BusyError) Error() string { return b.Err.Error() }

// Unwrap returns the reason.
func (b *BusyError) Unwrap() error { return b.Err }

// ErrNoRoom is returned for a message that was lost at once, because more severe ones
// leave it no room.
var ErrNoRoom = errors.New("no room in the outbox for a message of this severity")

// NewTestPage is a page that tells a receiver's people that it works.
func NewTestPage(receiver string, now time.Time) Page {
	m := Message{
		Kind: Test, Key: "test/" + receiver, Severity: Info, Title: "this is a test of Gatehouse: nothing has happened",
		Fields: []Field{{What, "somebody ran gatehouse notify test"}, {"receiver", receiver}},
	}
	m, err := m.cleaned(now)
	if err != nil { // a name that no configuration takes
		m.Key = "test"
	}
	return NewPage(0, m)
}
