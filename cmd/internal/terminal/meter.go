// Package terminal is how commands speak to people: progress, and text that others chose.
package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
)

// How often a meter shows where long work is: on a terminal, and in a log.
const (
	meterTerminal = 200 * time.Millisecond
	meterLog      = 5 * time.Second
)

// A Meter shows the progress of long work: on a terminal in one line that changes,
// elsewhere by a line now and then.
type Meter struct {
	w        io.Writer
	quiet    bool
	terminal bool
	begun    time.Time
	last     time.Time
	first    int64 // what was done before it began
	started  bool
	open     bool // a line is on the screen
}

// NewMeter returns a Meter that writes to w, which nobody waits for. A quiet one shows
// nothing, and still says things.
func NewMeter(w io.Writer, quiet bool) *Meter {
	m := &Meter{w: w, quiet: quiet, begun: time.Now()}
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		m.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	m.last = m.begun
	return m
}

// Show shows the progress, if it is time to, with how much of done came a second.
func (m *Meter) Show(done int64, format string, args ...any) {
	now := time.Now()
	if !m.started {
		m.started, m.first = true, done
	}
	every := meterLog
	if m.terminal {
		every = meterTerminal
	}
	if m.quiet || now.Sub(m.last) < every {
		return
	}
	m.last = now
	rate := float64(done-m.first) / now.Sub(m.begun).Seconds()
	text := fmt.Sprintf(format, args...) + fmt.Sprintf(" (%.0f/s)", rate)
	if m.terminal {
		m.open = true
		_, _ = fmt.Fprintf(m.w, "\r\x1b[K%s", text) // nobody waits for it
		return
	}
	_, _ = fmt.Fprintln(m.w, text)
}

// Say writes a line that stays.
func (m *Meter) Say(format string, args ...any) {
	m.End()
	_, _ = fmt.Fprintf(m.w, format+"\n", args...) // as with show
}

// End leaves the line that changes.
func (m *Meter) End() {
	if m.open {
		_, _ = fmt.Fprint(m.w, "\r\x1b[K")
		m.open = false
	}
}

// Printable makes text that others chose, such as the name of an image or a user, safe
// for a terminal: control characters could rewrite what it shows.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}
