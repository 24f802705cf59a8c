// Package scans reads how the scans for vulnerabilities of an image stand.
//
// The DISCOVERY occurrences of the image say so; of each note the newest counts, since
// an older one speaks of a scan that has been superseded. What an analysis looks for,
// its note says (analysisKind): one that makes an SBOM or looks for secrets is no scan,
// whatever it has come to. A note that cannot be read is no scan either: what has
// finished may have looked for anything.
package scans

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	// googleScans is the note of Google's own scanner, which its users may not read.
	googleScans = "projects/goog-analysis/notes/PACKAGE_VULNERABILITY"
	// maxNotes bounds the scanners of one image.
	maxNotes = 100
	// maxText bounds what a scanner says, in a reason.
	maxText = 200
)

// A Reader reads scans.
type Reader struct {
	// Notes are those whose discoveries are scans for vulnerabilities. With none, the
	// notes themselves tell.
	Notes []string
}

// A Scan is the newest word of one scanner.
type Scan struct {
	// Note is the scanner's note.
	Note   string
	Status grafeas.DiscoveryOccurrence_AnalysisStatus
	// At is when the scan was: when the image was last scanned or, where the scanner
	// does not tell, when it said so.
	At time.Time
	// Error is what it says of a failure, shortened.
	Error string
}

// String names the scanner and how its scan stands.
func (s Scan) String() string {
	text := fmt.Sprintf("scan %q is %s", s.Note, s.Status)
	if s.Status == grafeas.DiscoveryOccurrence_ANALYSIS_STATUS_UNSPECIFIED {
		text = fmt.Sprintf("scan %q does not say how it stands", s.Note)
	}
	if !s.At.IsZero() {
		text += ", as of " + s.At.UTC().Format(time.RFC3339)
	}
	return text
}

// A State is how all scans of an image stand.
type State struct {
	// Scans are sorted by their notes.
	Scans []Scan
	// Unknown are notes that cannot be read, so that it is not known whether their
	// discoveries are scans.
	Unknown []string
}

// Read reads how the scans of the image stand.
func (r Reader) Read(ctx context.Context, in *check.Input) (State, error) {
	found, err := in.Metadata.Occurrences(ctx, in.Image, grafeas.NoteKind_DISCOVERY)
	if err != nil {
		return State{}, fmt.Errorf("failed to get discoveries: %w", err)
	}
	newest := map[string]*grafeas.Occurrence{}
	for _, o := range found {
		if before, ok := newest[o.GetNoteName()]; !ok || later(o, before) {
			newest[o.GetNoteName()] = o
		}
	}
	if len(newest) > maxNotes {
		return State{}, fmt.Errorf("failed to get discoveries: %q has those of %d scanners, more than %d", in.Image, len(newest), maxNotes)
	}
	var state State
	for _, note := range slices.Sorted(maps.Keys(newest)) {
		looks, known, err := r.looksForVulnerabilities(ctx, in.Metadata, note)
		switch {
		case err != nil:
			return State{}, fmt.Errorf("failed to get discoveries: %w", err)
		case !known:
			state.Unknown = append(state.Unknown, note)
		case looks:
			state.Scans = append(state.Scans, scanOf(newest[note]))
		}
	}
	return state, nil
}

// looksForVulnerabilities reports whether the discoveries of a note are scans, if that
// is known.
func (r Reader) looksForVulnerabilities(ctx context.Context, m check.Metadata, note string) (looks, known bool, err error) {
	switch {
	case len(r.Notes) > 0:
		return slices.Contains(r.Notes, note), true, nil
	case note == googleScans:
		return true, true, nil
	}
	n, err := m.Note(ctx, note)
	if err != nil || n == nil {
		return false, false, err
	}
	return metadata.FindsVulnerabilities(n), true, nil
}

func scanOf(o *grafeas.Occurrence) Scan {
	d := o.GetDiscovery()
	s := Scan{Note: o.GetNoteName(), Status: d.GetAnalysisStatus(), At: written(o), Error: clip(d.GetAnalysisStatusError().GetMessage())}
	if t := d.GetLastScanTime(); t.IsValid() {
		s.At = t.AsTime()
	}
	return s
}

// later orders discoveries of one note by when they were last written. Of two of one
// time the one that has not succeeded counts.
func later(a, b *grafeas.Occurrence) bool {
	if c := written(a).Compare(written(b)); c != 0 {
		return c > 0
	}
	return a.GetDiscovery().GetAnalysisStatus() != grafeas.DiscoveryOccurrence_FINISHED_SUCCESS
}

func written(o *grafeas.Occurrence) time.Time {
	for _, t := range []interface {
		IsValid() bool
		AsTime() time.Time
	}{o.GetUpdateTime(), o.GetCreateTime()} {
		if t.IsValid() {
			return t.AsTime()
		}
	}
	return time.Time{}
}

// Pending returns the scans that may still find something: those that wait, run, or do
// not say how they stand.
func (s State) Pending() []Scan {
	return s.with(func(status grafeas.DiscoveryOccurrence_AnalysisStatus) bool { return !terminal(status) })
}

// Failed returns the scans that have failed. What they would have found is not known.
func (s State) Failed() []Scan { return s.of(grafeas.DiscoveryOccurrence_FINISHED_FAILED) }

// Unsupported returns the scans whose scanner cannot scan the image.
func (s State) Unsupported() []Scan { return s.of(grafeas.DiscoveryOccurrence_FINISHED_UNSUPPORTED) }

// Succeeded returns the scans that have finished successfully.
func (s State) Succeeded() []Scan { return s.of(grafeas.DiscoveryOccurrence_FINISHED_SUCCESS) }

// Settled reports whether waiting is of no use: there is a scan, and all have ended.
// Until there is one that is known to be a scan, there may be one.
func (s State) Settled() bool { return len(s.Scans) > 0 && len(s.Pending()) == 0 }

func (s State) of(want grafeas.DiscoveryOccurrence_AnalysisStatus) []Scan {
	return s.with(func(status grafeas.DiscoveryOccurrence_AnalysisStatus) bool { return status == want })
}

func (s State) with(status func(grafeas.DiscoveryOccurrence_AnalysisStatus) bool) []Scan {
	var some []Scan
	for _, scan := range s.Scans {
		if status(scan.Status) {
			some = append(some, scan)
		}
	}
	return some
}

func terminal(s grafeas.DiscoveryOccurrence_AnalysisStatus) bool {
	switch s {
	case grafeas.DiscoveryOccurrence_FINISHED_SUCCESS, grafeas.DiscoveryOccurrence_FINISHED_FAILED, grafeas.DiscoveryOccurrence_FINISHED_UNSUPPORTED:
		return true
	}
	return false
}

// Why says how the scans stand that keep an image from being known to be scanned, and
// what to do. It is "" for a state in which all that have not succeeded do not support
// the image, and one has.
func (s State) Why() string {
	switch {
	case len(s.Scans) == 0:
		return "discoveries have not finished processing: " + s.absent()
	case len(s.Pending()) > 0:
		return "discoveries have not finished processing: " + list(s.Pending())
	case len(s.Failed()) > 0:
		return "discoveries have failed: " + list(s.Failed()) + "; scan the image again"
	case len(s.Succeeded()) == 0:
		return "discoveries have failed: " + list(s.Unsupported()) + "; scan the image with a scanner that supports it, or take the check out for this image"
	}
	return ""
}

func (s State) absent() string {
	if len(s.Unknown) == 0 {
		return "no scan of the image is known; have a scanner file a DISCOVERY occurrence about this digest"
	}
	return fmt.Sprintf("there is an analysis, and what it looks for is not known, because its note %q cannot be read; "+
		"create that with the analysisKind VULNERABILITY, or name it in gatehouse.snakeoil.scan_notes", s.Unknown[0])
}

func list(scans []Scan) string {
	words := make([]string, 0, len(scans))
	for _, s := range scans {
		text := s.String()
		if s.Error != "" {
			text += ": " + s.Error
		}
		words = append(words, text)
	}
	return strings.Join(words, "; ")
}

func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}
