package notify

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A Route says who is told of what. Its zero values are the defaults.
type Route struct {
	Name string `yaml:"name"`
	// Receivers are tried in this order: who fails is left for the next.
	Receivers []string `yaml:"receivers"`
	// MinSeverity, Kinds and Labels say what the route takes; empty ones take all.
	MinSeverity Severity          `yaml:"minSeverity"`
	Kinds       []Kind            `yaml:"kinds"`
	Labels      map[string]string `yaml:"labels"`
	// Continue lets the routes that follow take what this one took.
	Continue bool `yaml:"continue"`
	// GroupWait is how long a first message waits for others to go with it. Default
	// 10s.
	GroupWait time.Duration `yaml:"groupWait"`
	// PagesPerHour and Burst bound how often a page goes out. Default 30 and 5.
	PagesPerHour int `yaml:"pagesPerHour"`
	Burst        int `yaml:"burst"`
	// FailAfter is how many times a receiver may fail in a row, and FailWithin how long
	// it may take, before the next one is tried. Default 3 and 1m.
	FailAfter  int           `yaml:"failAfter"`
	FailWithin time.Duration `yaml:"failWithin"`
}

const (
	defaultGroupWait    = 10 * time.Second
	defaultPagesPerHour = 30
	defaultBurst        = 5
	defaultFailAfter    = 3
	defaultFailWithin   = time.Minute

	maxGroupWait = time.Hour
)

func (r Route) withDefaults() Route {
	r.GroupWait = cmp.Or(r.GroupWait, defaultGroupWait)
	r.PagesPerHour = cmp.Or(r.PagesPerHour, defaultPagesPerHour)
	r.Burst = cmp.Or(r.Burst, defaultBurst)
	r.FailAfter = cmp.Or(r.FailAfter, defaultFailAfter)
	r.FailWithin = cmp.Or(r.FailWithin, defaultFailWithin)
	return r
}

func (r Route) takes(m Message) bool {
	if m.Severity.rank() < r.MinSeverity.rank() || len(r.Kinds) > 0 && !slices.Contains(r.Kinds, m.Kind) {
		return false
	}
	for name, value := range r.Labels {
		if !slices.Contains(m.Labels, Field{name, value}) {
			return false
		}
	}
	return true
}

// takesAll reports whether no message passes by the route.
func (r Route) takesAll() bool {
	return r.MinSeverity.rank() <= 0 && len(r.Kinds) == 0 && len(r.Labels) == 0 && !r.Continue
}

// CheckRoutes returns everything that is wrong with routes to these receivers. The
// last one must take what the others leave, so that no message is told to nobody.
func CheckRoutes(routes []Route, receivers []string) error {
	var errs []error
	names := map[string]bool{}
	for i, r := range routes {
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("notify: routes[%d] (%q): %w", i, r.Name, fmt.Errorf(format, args...)))
		}
		if !isKey(r.Name, maxName) {
			bad("want a name of letters, digits, and any of ._:/@-")
		}
		if names[r.Name] {
			bad("another route has this name")
		}
		names[r.Name] = true
		if len(r.Receivers) == 0 {
			bad("want receivers")
		}
		for j, name := range r.Receivers {
			if !slices.Contains(receivers, name) {
				bad("there is no receiver %q", name)
			}
			if slices.Contains(r.Receivers[:j], name) {
				bad("receiver %q is there twice", name)
			}
		}
		if r.MinSeverity != "" && r.MinSeverity.rank() < 0 {
			bad("minSeverity %q: want one of %v", r.MinSeverity, Severities())
		}
		for _, k := range r.Kinds {
			if !slices.Contains(Kinds(), k) {
				bad("kind %q: want one of %v", k, Kinds())
			}
		}
		for name := range r.Labels {
			if !isLabelName(name) {
				bad("label %q: want lower case letters, digits and _", name)
			}
		}
		if r.GroupWait < 0 || r.GroupWait > maxGroupWait {
			bad("groupWait %v: want at most %v", r.GroupWait, maxGroupWait)
		}
		if r.PagesPerHour < 0 || r.Burst < 0 || r.FailAfter < 0 || r.FailWithin < 0 {
			bad("pagesPerHour, burst, failAfter and failWithin: want more than 0, or nothing for the default")
		}
		if i == len(routes)-1 && !r.takesAll() {
			bad("the last route must take everything, so that no message is told to nobody: leave out minSeverity, kinds, labels and continue")
		}
	}
	return errors.Join(errs...)
}
