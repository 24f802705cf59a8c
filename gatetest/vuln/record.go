package vuln

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/mod/semver"
)

const (
	// maxRecord bounds a record; the largest of the Go database has 40 kB.
	maxRecord = 4 << 20
	// maxEntries bounds every list in a record.
	maxEntries = 10_000
)

// A Record describes a vulnerability, as far as it concerns Go modules.
type Record struct {
	ID        string
	Aliases   []string
	Summary   string
	Severity  Severity
	Withdrawn bool

	affected []affected
}

// affected are the versions of one module that have the vulnerability.
type affected struct {
	module   string
	versions []string // in particular
	ranges   [][]event
}

// An event is a version from which on a module is affected, or no longer is.
type event struct {
	kind    eventKind
	version string // "v1.2.3"; "" for the beginning of time
}

type eventKind int

// In the order in which events of the same version count.
const (
	fixed eventKind = iota
	introduced
	lastAffected
)

// wireRecord is the part of the OSV schema that is read. The schema grows by new
// members, so that unknown ones are passed over; misspelt and repeated ones of
// these are refused by the decoder.
type wireRecord struct {
	ID        string         `json:"id"`
	Aliases   []string       `json:"aliases"`
	Summary   string         `json:"summary"`
	Withdrawn string         `json:"withdrawn"`
	Severity  []wireSeverity `json:"severity"`
	Affected  []struct {
		Package struct {
			Ecosystem string `json:"ecosystem"`
			Name      string `json:"name"`
		} `json:"package"`
		Versions []string `json:"versions"`
		Ranges   []struct {
			Type   string              `json:"type"`
			Events []map[string]string `json:"events"`
		} `json:"ranges"`
	} `json:"affected"`
	DatabaseSpecific struct {
		Severity string `json:"severity"`
	} `json:"database_specific"`
}

type wireSeverity struct {
	Type  string `json:"type"`
	Score string `json:"score"`
}

// ParseRecord parses an OSV record in JSON. What it says about other ecosystems
// than Go is passed over.
func ParseRecord(data []byte) (*Record, error) {
	if len(data) > maxRecord {
		return nil, fmt.Errorf("parsing an OSV record: %d bytes, more than %d", len(data), maxRecord)
	}
	var wire wireRecord
	if err := json.Unmarshal(data, &wire); err != nil {
		return nil, fmt.Errorf("parsing an OSV record: %w", err)
	}
	record, err := newRecord(wire)
	if err != nil {
		return nil, fmt.Errorf("parsing OSV record %q: %w", wire.ID, err)
	}
	return record, nil
}

func newRecord(wire wireRecord) (*Record, error) {
	if wire.ID == "" {
		return nil, errors.New("it has no id")
	}
	if len(wire.Aliases) > maxEntries || len(wire.Affected) > maxEntries {
		return nil, fmt.Errorf("more than %d aliases or affected packages", maxEntries)
	}
	r := &Record{
		ID: wire.ID, Aliases: wire.Aliases, Summary: wire.Summary,
		Severity: Severity{Level: wire.DatabaseSpecific.Severity},
	}
	if wire.Withdrawn != "" {
		if _, err := time.Parse(time.RFC3339, wire.Withdrawn); err != nil {
			return nil, fmt.Errorf("withdrawn: %w", err)
		}
		r.Withdrawn = true
	}
	if len(wire.Severity) > 0 {
		r.Severity.Vector = wire.Severity[0].Score
	}
	for _, w := range wire.Affected {
		if w.Package.Ecosystem != "Go" {
			continue
		}
		a := affected{module: w.Package.Name}
		for _, version := range w.Versions {
			a.versions = append(a.versions, canonical(version))
		}
		for _, wr := range w.Ranges {
			if wr.Type == "GIT" { // commits, which programs do not name
				continue
			}
			events, err := newEvents(wr.Events)
			if err != nil {
				return nil, fmt.Errorf("range of %q: %w", a.module, err)
			}
			a.ranges = append(a.ranges, events)
		}
		r.affected = append(r.affected, a)
	}
	return r, nil
}

// newEvents returns the events in the order of their versions.
func newEvents(wire []map[string]string) ([]event, error) {
	if len(wire) > maxEntries {
		return nil, fmt.Errorf("more than %d events", maxEntries)
	}
	kinds := map[string]eventKind{"introduced": introduced, "fixed": fixed, "last_affected": lastAffected}
	var events []event
	for _, w := range wire {
		for name, version := range w {
			if name == "limit" { // only bounds the search through commits
				continue
			}
			kind, known := kinds[name]
			if !known {
				return nil, fmt.Errorf("unknown event %q", name)
			}
			e := event{kind: kind}
			if version != "0" || kind != introduced {
				e.version = canonical(version)
				if !semver.IsValid(e.version) {
					return nil, fmt.Errorf("%s: %q is not a semantic version", name, version)
				}
			}
			events = append(events, e)
		}
	}
	slices.SortStableFunc(events, func(a, b event) int {
		return cmp.Or(semver.Compare(a.version, b.version), cmp.Compare(a.kind, b.kind))
	})
	return events, nil
}

// canonical adds the "v" that Go writes and OSV does not.
func canonical(version string) string {
	if version != "" && version[0] == 'v' {
		return version
	}
	return "v" + version
}

// covers reports whether a valid version is affected.
func (a affected) covers(version string) bool {
	for _, v := range a.versions {
		if semver.IsValid(v) && semver.Compare(v, version) == 0 {
			return true
		}
	}
	for _, events := range a.ranges {
		in := false
		for _, e := range events {
			order := semver.Compare(version, e.version) // "" is below every version
			switch {
			case e.kind == introduced && order >= 0:
				in = true
			case e.kind == fixed && order >= 0, e.kind == lastAffected && order > 0:
				in = false
			}
		}
		if in {
			return true
		}
	}
	return false
}

// fixedAfter returns the lowest fixed version above an affected one that is not
// affected itself, or "".
func (a affected) fixedAfter(version string) string {
	best := ""
	for _, events := range a.ranges {
		for _, e := range events {
			if e.kind != fixed || semver.Compare(e.version, version) <= 0 || a.covers(e.version) {
				continue
			}
			if best == "" || semver.Compare(e.version, best) < 0 {
				best = e.version
			}
		}
	}
	return best
}
