// Package age is the check that an image was built, and scanned, not too long ago.
//
// When it was built its build records say, as package check/builds reads them: what the
// image itself says is the word of whoever made it, and many say 1970. Of several the
// newest counts, for it made the same image. When it was scanned the newest scan for
// vulnerabilities that finished says.
package age

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/builds"
	"github.com/gatehouse-dev/gatehouse/check/scans"
)

// Name is the name of the check.
const Name = "age"

// clockSkew is how far ahead the clock of whoever tells of a time may be.
const clockSkew = 5 * time.Minute

// Settings are what the check is made from. One of the ages must be set.
type Settings struct {
	// MaxBuild and MaxScan are how old a build and a scan may be; 0 means any age.
	MaxBuild, MaxScan time.Duration
	// Records reads how images were built.
	Records builds.Reader
	// Scans reads scans.
	Scans scans.Reader
	// Now is the clock; nil is [time.Now].
	Now func() time.Time
}

// New returns the check.
func New(s Settings) (check.Check, error) {
	if s.MaxBuild < 0 || s.MaxScan < 0 || s.MaxBuild == 0 && s.MaxScan == 0 {
		return check.Check{}, errors.New("gatehouse.age: set max_build_days or max_scan_days to a number of days")
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	return check.Check{Name: Name, Doc: Doc(), Run: s.run}, nil
}

// Doc is what the check says about itself.
func Doc() check.Doc {
	return check.Doc{
		Title:  "The image was built and scanned not too long ago",
		Proves: "A record of the build, and a scan for vulnerabilities that finished successfully, are not older than the settings allow, at the time of the check: an attestation does not become untrue later by itself. What the image says of its own age is not believed, and a time in the future is none.",
		Needs:  []string{"BUILD occurrences, for max_build_days", "DISCOVERY occurrences and their notes, for max_scan_days"},
		Settings: []check.Setting{
			{Key: "gatehouse.age.max_build_days", Text: "how old the newest build may be, in days", Default: "any age"},
			{Key: "gatehouse.age.max_scan_days", Text: "how old the newest scan may be, in days", Default: "any age"},
			{Key: "gatehouse.snakeoil.scan_notes", Text: "the notes whose discoveries are scans for vulnerabilities", Default: "those whose analysisKind says so"},
			builds.KeysSetting(),
		},
		Fixes: []check.Fix{
			{Failure: "image was built … ago", Do: "build it again, on a base of today"},
			{Failure: "image was scanned … ago", Do: "scan it again"},
			{Failure: builds.None, Do: "have the builder record its provenance, with its times, for this digest"},
		},
	}
}

func (s Settings) run(ctx context.Context, in *check.Input) (check.Result, error) {
	now := s.Now()
	var reasons, evidence []string
	if s.MaxBuild > 0 {
		found, err := s.Records.Read(ctx, in)
		if err != nil {
			return check.Result{}, err
		}
		reason, fact := s.built(now, found)
		reasons, evidence = append(reasons, reason), append(evidence, fact)
	}
	if s.MaxScan > 0 {
		state, err := s.Scans.Read(ctx, in)
		if err != nil {
			return check.Result{}, err
		}
		reason, fact := s.scanned(now, state)
		reasons, evidence = append(reasons, reason), append(evidence, fact)
	}
	if why := strings.Trim(strings.Join(reasons, "; "), "; "); why != "" {
		return check.Fail("%s", why), nil
	}
	return check.Pass(evidence...), nil
}

// newest returns the latest of some times that are not in the future.
func newest(now time.Time, times []time.Time) (time.Time, bool) {
	var best time.Time
	for _, t := range times {
		if !t.IsZero() && !t.After(now.Add(clockSkew)) && t.After(best) {
			best = t
		}
	}
	return best, !best.IsZero()
}

func (s Settings) built(now time.Time, found builds.Found) (reason, fact string) {
	var times []time.Time
	for _, b := range found.Builds {
		times = append(times, cmp.Or(b.Finished, b.Time()))
	}
	t, ok := newest(now, times)
	switch {
	case len(found.Builds) == 0:
		return found.Why(), ""
	case !ok:
		return "build metadata does not tell when it was, or tells of the future", ""
	case now.Sub(t) > s.MaxBuild:
		return fmt.Sprintf("image was built %s ago, at %s, and may be %s old; build it again", days(now.Sub(t)), stamp(t), days(s.MaxBuild)), ""
	}
	return "", "built at " + stamp(t)
}

func (s Settings) scanned(now time.Time, state scans.State) (reason, fact string) {
	var times []time.Time
	for _, scan := range state.Succeeded() {
		times = append(times, scan.At)
	}
	t, ok := newest(now, times)
	switch {
	case len(times) == 0:
		return cmp.Or(state.Why(), "no scan of the image has finished"), ""
	case !ok:
		return "the scans of the image do not tell when they were, or tell of the future", ""
	case now.Sub(t) > s.MaxScan:
		return fmt.Sprintf("image was scanned %s ago, at %s, and its scan may be %s old; scan it again", days(now.Sub(t)), stamp(t), days(s.MaxScan)), ""
	}
	return "", "scanned at " + stamp(t)
}

func days(d time.Duration) string {
	n := int(d / (24 * time.Hour))
	if n == 1 {
		return "1 day"
	}
	return fmt.Sprintf("%d days", n)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
