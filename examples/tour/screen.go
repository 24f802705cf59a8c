package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// screen is what a person sees.
type screen struct {
	out   io.Writer
	begin time.Time
	step  int
}

func (s *screen) say(format string, args ...any) { _, _ = fmt.Fprintf(s.out, format+"\n", args...) }

func (s *screen) heading(title string) {
	s.step++
	s.say("\n[%4.0fs] %d. %s", time.Since(s.begin).Seconds(), s.step, title)
}

func (s *screen) command(format string, args ...any) { s.say("  $ "+format, args...) }

// quote shows what a program said.
func (s *screen) quote(text string) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		s.say("      │ %s", strings.TrimRight(line, "\n"))
	}
}
