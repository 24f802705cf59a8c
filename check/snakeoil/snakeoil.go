// Package snakeoil is the check that an image has no known vulnerabilities of the
// severity that fails it, or a higher one.
//
// It rests on finished scans, which package check/scans reads. While one may still find
// something, the check watches what is known about the image, for as long as its
// settings and the deadline of the request allow. A scan that has failed, or that does
// not support the image, will not change by waiting, and so is told at once.
//
// A vulnerability is judged by its effective severity or, without one, by its own. One
// that no one has scored is "unknown". Voucher lets those pass when it fails on high;
// here they fail the image at every threshold, unless [Settings.Unscored] says how bad to
// take them for. Vulnerabilities that an update of a package would fix can have another
// threshold than the rest, and some can be allowed for a time.
package snakeoil

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/scans"
)

// Name is the name of the check.
const Name = "snakeoil"

// DefaultMaxWait is how long to wait for a scan: as long as Voucher.
const DefaultMaxWait = 50 * time.Second

// Settings are what the check is made from. Fixable and Unfixable must be set.
type Settings struct {
	// Fixable and Unfixable are the lowest severities that fail an image, of
	// vulnerabilities that an update of a package fixes, and of others.
	Fixable, Unfixable Severity
	// Unscored is how bad a vulnerability is taken for that no one has scored.
	// Zero means that it fails the image.
	Unscored Severity
	// Allowed do not fail an image, by their ids.
	Allowed map[string]Allowed
	// Scans reads the scans.
	Scans scans.Reader
	// MaxWait is how long to wait for scans in all; 0 means [DefaultMaxWait], and less
	// than 0 not at all.
	MaxWait time.Duration
	// Now is the clock that allowances are held to; nil is [time.Now].
	Now func() time.Time
}

// Allowed is why and until when a vulnerability is allowed.
type Allowed struct {
	Reason string
	// Until is when it no longer is. Zero means never.
	Until time.Time
}

// New returns the check.
func New(s Settings) (check.Check, error) {
	if s.Fixable.String() == "" || s.Unfixable.String() == "" {
		return check.Check{}, errors.New("failon: the severity that fails an image is not set; it is one of " + strings.Join(words[Negligible:Never], ", "))
	}
	for id, a := range s.Allowed {
		if id == "" || strings.Contains(id, "/") {
			return check.Check{}, fmt.Errorf("allowed vulnerability %q: want the id of its note, such as CVE-2021-20305", id)
		}
		if strings.TrimSpace(a.Reason) == "" {
			return check.Check{}, fmt.Errorf("allowed vulnerability %q has no reason; say why it is allowed, for whoever reads this next", id)
		}
	}
	switch {
	case s.MaxWait == 0:
		s.MaxWait = DefaultMaxWait
	case s.MaxWait < 0:
		s.MaxWait = 0
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	return check.Check{Name: Name, Doc: Doc(), Run: s.run}, nil
}

// Doc is what the check says about itself.
func Doc() check.Doc {
	return check.Doc{
		Title:  "The image has no serious known vulnerabilities",
		Proves: "Every scan of the image for vulnerabilities has finished, one at least with success, and none found a vulnerability of the severity failon or a higher one. Severities, from the lowest: negligible, low, medium, unknown, high, critical. A vulnerability that no one has scored fails the image unless gatehouse.unscored says how bad to take it for. What no scanner looks for, or knows yet, the check cannot see.",
		Needs:  []string{"DISCOVERY occurrences and their notes", "VULNERABILITY occurrences"},
		Settings: []check.Setting{
			{Key: "failon", Text: "the lowest severity that fails an image"},
			{Key: "gatehouse.snakeoil.failon_fixable", Text: "the same, of vulnerabilities that an update of a package fixes; \"never\" for none", Default: "failon"},
			{Key: "gatehouse.snakeoil.failon_unfixable", Text: "the same, of the others", Default: "failon"},
			{Key: "gatehouse.unscored", Text: "the severity that an unscored vulnerability is taken for", Default: "fail: it fails the image"},
			{Key: "gatehouse.snakeoil.allow", Text: "vulnerabilities that are allowed: tables of id, reason, and expires (YYYY-MM-DD)", Default: "none"},
			{Key: "gatehouse.snakeoil.scan_notes", Text: "the notes whose discoveries are scans for vulnerabilities", Default: "those whose analysisKind says so"},
			{Key: "gatehouse.scan_wait", Text: "how long to wait for scans to finish, in seconds", Default: "50"},
		},
		Fixes: []check.Fix{
			{Failure: "vulnernable to N vulnerabilities: …", Do: "update the packages that it names and build again; allow one that does not apply, with a reason and a day, in gatehouse.snakeoil.allow"},
			{Failure: "discoveries have not finished processing", Do: "wait for the scanner that it names, or have one scan this digest; then ask again"},
			{Failure: "discoveries have failed", Do: "see what the scanner says, and scan again; a scanner that does not support the image never will"},
		},
	}
}

func (s Settings) run(ctx context.Context, in *check.Input) (check.Result, error) {
	state, err := s.await(ctx, in)
	if err != nil {
		return check.Result{}, err
	}
	if why := state.Why(); why != "" {
		return check.Fail("%s", why), nil
	}
	found, err := in.Metadata.Occurrences(ctx, in.Image, grafeas.NoteKind_VULNERABILITY)
	if err != nil {
		return check.Result{}, err
	}
	j := s.judge(found)
	if len(j.bad) > 0 {
		return check.Fail("%s", j.describe()), nil
	}
	return check.Pass(j.evidence(state, len(found))...), nil
}

// await watches the scans until all have ended, or the time for waiting is over, which
// is no error: what is said then is how they stand.
func (s Settings) await(ctx context.Context, in *check.Input) (scans.State, error) {
	changed := in.Metadata.Watch(in.Image)
	waiting, cancel := context.WithTimeout(ctx, s.MaxWait)
	defer cancel()
	var state scans.State
	for again := false; ; again = true {
		now, err := s.Scans.Read(ctx, in)
		switch {
		case err != nil && again && errors.Is(ctx.Err(), context.DeadlineExceeded):
			return state, nil
		case err != nil:
			return scans.State{}, err
		}
		if state = now; state.Settled() || waiting.Err() != nil {
			return state, nil
		}
		if err := changed(waiting); err != nil {
			if errors.Is(waiting.Err(), context.DeadlineExceeded) {
				return state, nil
			}
			return scans.State{}, fmt.Errorf("waiting for scans: %w", err)
		}
	}
}
