package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// How often a meter shows where long work is: on a terminal, and in a log.
const (
	meterTerminal = 200 * time.Millisecond
	meterLog      = 5 * time.Second
)

// A meter shows the progress of long work: on a terminal in one line that changes,
// elsewhere by a line now and then.
type meter struct {
	w        io.Writer
	quiet    bool
	terminal bool
	begun    time.Time
	last     time.Time
	first    int64 // what was done before it began
	started  bool
	open     bool // a line is on the screen
}

func newMeter(w io.Writer, quiet bool) *meter {
	m := &meter{w: w, quiet: quiet, begun: time.Now()}
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		m.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	m.last = m.begun
	return m
}

// show shows the progress, if it is time to, with how much of done came a second.
func (m *meter) show(done int64, format string, args ...any) {
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

// say writes a line that stays.
func (m *meter) say(format string, args ...any) {
	m.end()
	_, _ = fmt.Fprintf(m.w, format+"\n", args...) // as with show
}

// end leaves the line that changes.
func (m *meter) end() {
	if m.open {
		_, _ = fmt.Fprint(m.w, "\r\x1b[K")
		m.open = false
	}
}
