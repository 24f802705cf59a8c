// Package snakeoil is the check that an image has no known vulnerabilities of
// the severity that fails it, or a higher one.
//
// It rests on a finished scan. The DISCOVERY occurrences of the image say how
// its scans stand; the newest of each note counts. As soon as one has finished
// with success its VULNERABILITY occurrences are judged. While none has, and one
// may still, the check looks again at intervals, for as long as its settings and
// the deadline of the request allow. When all have failed it says so at once.
//
// A vulnerability is judged by its effective severity or, without one, by its
// own. One that no one has scored is "unknown". Voucher lets those pass when it
// fails on high; here they fail the image at every threshold, unless
// [Settings.Unscored] says how bad to take them for.
package snakeoil

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/check"
)

// Name is the name of the check.
const Name = "snakeoil"

const (
	// DefaultInterval is how long to wait before looking for a scan again.
	DefaultInterval = 2 * time.Second
	// DefaultMaxWait is how long to wait for a scan in all: as long as Voucher.
	DefaultMaxWait = 50 * time.Second

	// maxListed bounds the vulnerabilities that a failure names.
	maxListed = 100
	// maxName bounds the name of each.
	maxName = 200
)

// Settings are what the check is made from.
type Settings struct {
	// FailOn is the lowest severity that fails an image. It must be set.
	FailOn Severity
	// Unscored is how bad a vulnerability is taken for that no one has scored.
	// Zero means that it fails the image.
	Unscored Severity
	// Interval is how long to wait before looking for a scan again; 0 means
	// [DefaultInterval].
	Interval time.Duration
	// MaxWait is how long to wait in all; 0 means [DefaultMaxWait], and less
	// than 0 not at all.
	MaxWait time.Duration
	// Wait waits for d, or less when there may be news, and returns an error
	// when ctx is done. Nil means to wait for d.
	Wait func(ctx context.Context, d time.Duration) error
}

// New returns the check.
func New(s Settings) (check.Check, error) {
	if s.FailOn.String() == "" {
		return check.Check{}, errors.New("failon: the severity that fails an image is not set; it is one of " + strings.Join(words[Negligible:], ", "))
	}
	if s.Interval <= 0 {
		s.Interval = DefaultInterval
	}
	if s.MaxWait == 0 {
		s.MaxWait = DefaultMaxWait
	}
	if s.Wait == nil {
		s.Wait = wait
	}
	return check.Check{Name: Name, Doc: doc(), Run: s.run}, nil
}

func doc() check.Doc {
	return check.Doc{
		Title:  "The image has no serious known vulnerabilities",
		Proves: "Passes when a scan of the image has finished and found nothing of the severity failon or a higher one. Severities, from the lowest: negligible, low, medium, unknown, high, critical. A vulnerability that no one has scored fails the image unless gatehouse.unscored says how bad to take it for.",
		Needs:  []string{"DISCOVERY occurrences", "VULNERABILITY occurrences"},
		Settings: []check.Setting{
			{Key: "failon", Text: "the lowest severity that fails an image"},
			{Key: "gatehouse.unscored", Text: "the severity that an unscored vulnerability is taken for", Default: "fail: it fails the image"},
			{Key: "gatehouse.scan_wait", Text: "how long to wait for a scan to finish, in seconds", Default: "50"},
		},
	}
}

func (s Settings) run(ctx context.Context, in *check.Input) (check.Result, error) {
	state, err := s.await(ctx, in)
	if err != nil {
		return check.Result{}, err
	}
	switch {
	case state.succeeded:
	case state.pending:
		return check.Fail("discoveries have not finished processing"), nil
	default:
		return check.Fail("discoveries have failed: %s; %s", strings.Join(state.failures, "; "), state.wayOut()), nil
	}
	found, err := in.Metadata.Occurrences(ctx, in.Image, grafeas.NoteKind_VULNERABILITY)
	if err != nil {
		return check.Result{}, err
	}
	if bad := s.failing(found); len(bad) > 0 {
		return check.Fail("%s", describe(bad)), nil
	}
	return check.Pass(), nil
}

// await looks at the scans until one has succeeded, all have failed, or the
// time for waiting is over, which is no error: what is said then is that they
// have not finished.
func (s Settings) await(ctx context.Context, in *check.Input) (scans, error) {
	var state scans
	for waited := time.Duration(0); ; waited += s.Interval {
		found, err := in.Metadata.Occurrences(ctx, in.Image, grafeas.NoteKind_DISCOVERY)
		switch {
		case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && waited > 0:
			return state, nil
		case err != nil:
			return scans{}, fmt.Errorf("failed to get discoveries: %w", err)
		}
		if state = judge(found); !state.pending || waited+s.Interval > s.MaxWait {
			return state, nil
		}
		if err := s.Wait(ctx, s.Interval); errors.Is(err, context.DeadlineExceeded) {
			return state, nil
		} else if err != nil {
			return scans{}, fmt.Errorf("waiting for discoveries: %w", err)
		}
	}
}

// scans is how the scans of an image stand. Pending is true when a scan may
// still succeed and none has; that includes an image of which no scan is known.
type scans struct {
	succeeded, pending bool
	failures           []string
	again              bool // one of those that failed may succeed another time
}

// wayOut says what to do about scans that have failed. A scanner that does not
// support an image will not do so the next time.
func (s scans) wayOut() string {
	if s.again {
		return "scan the image again"
	}
	return "scan it with a scanner that supports it, or take the check snakeoil out for this image"
}

// judge looks at the newest discovery of each note: an older one speaks of a
// scan that has been superseded.
func judge(found []*grafeas.Occurrence) scans {
	newest := map[string]*grafeas.Occurrence{}
	for _, o := range found {
		if before, ok := newest[o.GetNoteName()]; !ok || later(o, before) {
			newest[o.GetNoteName()] = o
		}
	}
	s := scans{pending: len(newest) == 0}
	for _, note := range slices.Sorted(maps.Keys(newest)) {
		d := newest[note].GetDiscovery()
		switch d.GetAnalysisStatus() {
		case grafeas.DiscoveryOccurrence_FINISHED_SUCCESS:
			s.succeeded = true
		case grafeas.DiscoveryOccurrence_FINISHED_FAILED:
			s.failures = append(s.failures, because("the scan failed", d))
			s.again = true
		case grafeas.DiscoveryOccurrence_FINISHED_UNSUPPORTED:
			s.failures = append(s.failures, because("the scanner does not support this image", d))
		default:
			s.pending = true
		}
	}
	if s.succeeded {
		s.pending = false
	}
	return s
}

// later orders discoveries of one note by when they were last written. Of two
// of one time the one that has not succeeded counts.
func later(a, b *grafeas.Occurrence) bool {
	if c := written(a).Compare(written(b)); c != 0 {
		return c > 0
	}
	return a.GetDiscovery().GetAnalysisStatus() != grafeas.DiscoveryOccurrence_FINISHED_SUCCESS
}

func written(o *grafeas.Occurrence) time.Time {
	if t := o.GetUpdateTime(); t.IsValid() {
		return t.AsTime()
	}
	return o.GetCreateTime().AsTime()
}

func because(what string, d *grafeas.DiscoveryOccurrence) string {
	if m := d.GetAnalysisStatusError().GetMessage(); m != "" {
		return what + ": " + clip(m)
	}
	return what
}

// finding is a vulnerability that fails an image.
type finding struct {
	name     string
	severity Severity
}

// failing returns the vulnerabilities that fail an image, each once and with
// its worst severity, the worst first.
func (s Settings) failing(found []*grafeas.Occurrence) []finding {
	worst := map[string]Severity{}
	for _, o := range found {
		severity := severityOf(o.GetVulnerability())
		if !s.fails(severity) {
			continue
		}
		name := clip(nameOf(o))
		worst[name] = max(worst[name], severity)
	}
	bad := make([]finding, 0, len(worst))
	for name, severity := range worst {
		bad = append(bad, finding{name, severity})
	}
	slices.SortFunc(bad, func(a, b finding) int {
		return cmp.Or(cmp.Compare(b.severity, a.severity), cmp.Compare(a.name, b.name))
	})
	return bad
}

func (s Settings) fails(severity Severity) bool {
	if severity == Unknown {
		return s.Unscored == 0 || s.Unscored >= s.FailOn
	}
	return severity >= s.FailOn
}

// nameOf returns what a vulnerability is called: the id of its note.
func nameOf(o *grafeas.Occurrence) string {
	note := o.GetNoteName()
	return note[strings.LastIndexByte(note, '/')+1:]
}

// describe names what was found. The spelling of its first word is Voucher's,
// and programs look for it.
func describe(bad []finding) string {
	listed := make([]string, 0, min(len(bad), maxListed+1))
	for i, f := range bad {
		if i == maxListed {
			listed = append(listed, fmt.Sprintf("and %d more", len(bad)-maxListed))
			break
		}
		listed = append(listed, fmt.Sprintf("%s (%s)", f.name, f.severity))
	}
	return fmt.Sprintf("vulnernable to %d vulnerabilities: %s", len(bad), strings.Join(listed, ", "))
}

func clip(s string) string {
	if len(s) <= maxName {
		return s
	}
	return s[:maxName] + "…"
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
