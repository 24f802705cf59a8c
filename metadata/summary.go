package metadata

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/grafeas/v1"
)

// Bounds on a Summary, so that whoever reads it reads one row of a known size.
const (
	// MaxFindings is how many findings a summary lists. An image with more has
	// its counts, and Truncated set: what is asked of the list is then unknown.
	MaxFindings = 1000
	// MaxScans is how many scans a summary lists.
	MaxScans = 32
)

// A Summary is what the scans of one resource of a parent have found: the
// vulnerability and discovery occurrences there, in one row, so that a gate need
// not read hundreds. Stores keep it in the transaction that changes those.
type Summary struct {
	Parent   Parent `json:"-"`
	Resource Key    `json:"-"`
	// ResourceURI is as one of the occurrences writes it.
	ResourceURI string `json:"resourceUri"`
	// Counts are of all vulnerability occurrences, by severity.
	Counts []SeverityCount `json:"counts,omitempty"`
	// Findings are sorted: the greatest severity first, then by note.
	Findings []Finding `json:"findings,omitempty"`
	// Scans are the discovery occurrences, sorted by their ids.
	Scans []Scan `json:"scans,omitempty"`
	// Truncated is set if there were more findings or scans than are listed.
	Truncated bool `json:"truncated,omitempty"`
}

// A SeverityCount is how many vulnerability occurrences have a severity.
type SeverityCount struct {
	Severity grafeas.Severity `json:"severity"`
	Total    int64            `json:"total"`
	Fixable  int64            `json:"fixable"`
}

// A Finding is a vulnerability, by the name of its note, as often as it occurs.
type Finding struct {
	Note     string           `json:"note"`
	Severity grafeas.Severity `json:"severity"`
	Fixable  bool             `json:"fixable,omitempty"`
	Count    int              `json:"count"`
}

// A Scan is what a discovery occurrence tells of an analysis. What was looked for,
// its note tells: see [FindsVulnerabilities].
type Scan struct {
	ID         ID                                         `json:"id"`
	Note       string                                     `json:"note"`
	Status     grafeas.DiscoveryOccurrence_AnalysisStatus `json:"status"`
	Updated    time.Time                                  `json:"updated"`
	LastScan   time.Time                                  `json:"lastScan,omitzero"`
	Continuous bool                                       `json:"continuous,omitempty"`
}

// Summarized reports whether occurrences of the kind go into summaries.
func Summarized(kind grafeas.NoteKind) bool {
	return kind == grafeas.NoteKind_VULNERABILITY || kind == grafeas.NoteKind_DISCOVERY
}

// FindsVulnerabilities reports whether the discoveries of a note tell of analyses that
// look for vulnerabilities, as its analysisKind says. DISCOVERY, which says nothing,
// does: Google's samples for scanners write it. An unspecified kind does not: neither
// version of the API takes one, and what is stored so is a kind that only v1beta1
// has, such as SBOM.
func FindsVulnerabilities(n *grafeas.Note) bool {
	switch n.GetDiscovery().GetAnalysisKind() {
	case grafeas.NoteKind_VULNERABILITY, grafeas.NoteKind_DISCOVERY:
		return true
	}
	return false
}

// Empty reports whether nothing is left to be kept.
func (s *Summary) Empty() bool { return len(s.Counts) == 0 && len(s.Scans) == 0 }

// Add adds an occurrence of a summarized kind.
func (s *Summary) Add(o *grafeas.Occurrence) {
	s.ResourceURI = o.GetResourceUri()
	switch {
	case o.GetVulnerability() != nil:
		f := findingOf(o)
		s.count(f, 1)
		i, found := slices.BinarySearchFunc(s.Findings, f, compareFindings)
		switch {
		case found:
			s.Findings[i].Count++
			return
		case len(s.Findings) == MaxFindings:
			s.Truncated = true
			if i == MaxFindings {
				return
			}
			s.Findings = s.Findings[:MaxFindings-1]
		}
		s.Findings = slices.Insert(s.Findings, i, f)
	case o.GetDiscovery() != nil:
		scan, ok := scanOf(o)
		i, found := slices.BinarySearchFunc(s.Scans, scan, compareScans)
		if !ok || found {
			return
		}
		if s.Scans = slices.Insert(s.Scans, i, scan); len(s.Scans) > MaxScans {
			s.Scans = slices.Delete(s.Scans, 0, 1) // the oldest
			s.Truncated = true
		}
	}
}

// Remove takes back what Add added. It reports false if the summary has to be
// made anew from the occurrences that are left, which is so if it is truncated.
func (s *Summary) Remove(o *grafeas.Occurrence) bool {
	if s.Truncated {
		return false
	}
	switch {
	case o.GetVulnerability() != nil:
		f := findingOf(o)
		s.count(f, -1)
		i, found := slices.BinarySearchFunc(s.Findings, f, compareFindings)
		if !found {
			return false
		}
		if s.Findings[i].Count--; s.Findings[i].Count == 0 {
			s.Findings = slices.Delete(s.Findings, i, i+1)
		}
	case o.GetDiscovery() != nil:
		scan, ok := scanOf(o)
		i, found := slices.BinarySearchFunc(s.Scans, scan, compareScans)
		if !ok || !found {
			return false
		}
		s.Scans = slices.Delete(s.Scans, i, i+1)
	}
	return true
}

func (s *Summary) count(f Finding, by int64) {
	i, found := slices.BinarySearchFunc(s.Counts, f.Severity, func(c SeverityCount, want grafeas.Severity) int {
		return cmp.Compare(c.Severity, want)
	})
	if !found {
		s.Counts = slices.Insert(s.Counts, i, SeverityCount{Severity: f.Severity})
	}
	c := &s.Counts[i]
	c.Total += by
	if f.Fixable {
		c.Fixable += by
	}
	if c.Total == 0 {
		s.Counts = slices.Delete(s.Counts, i, i+1)
	}
}

func compareFindings(a, b Finding) int {
	return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(a.Note, b.Note), compareBool(a.Fixable, b.Fixable))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

func compareScans(a, b Scan) int { return slices.Compare(a.ID[:], b.ID[:]) }

func findingOf(o *grafeas.Occurrence) Finding {
	v := o.GetVulnerability()
	return Finding{Note: o.GetNoteName(), Severity: severityOf(v), Fixable: Fixable(v), Count: 1}
}

// severityOf returns the severity for this resource, or the note's if there is
// none of its own.
func severityOf(v *grafeas.VulnerabilityOccurrence) grafeas.Severity {
	if s := v.GetEffectiveSeverity(); s != grafeas.Severity_SEVERITY_UNSPECIFIED {
		return s
	}
	return v.GetSeverity()
}

// Fixable reports whether a package can be updated to a version without the
// vulnerability: somebody says so, or names the version.
func Fixable(v *grafeas.VulnerabilityOccurrence) bool {
	return v.GetFixAvailable() || slices.ContainsFunc(v.GetPackageIssue(), func(i *grafeas.VulnerabilityOccurrence_PackageIssue) bool {
		return i.GetFixAvailable() || i.GetFixedVersion().GetKind() == grafeas.Version_NORMAL
	})
}

func scanOf(o *grafeas.Occurrence) (Scan, bool) {
	id, err := idOf(o)
	d := o.GetDiscovery()
	scan := Scan{
		ID: id, Note: o.GetNoteName(), Status: d.GetAnalysisStatus(), Updated: o.GetUpdateTime().AsTime(),
		Continuous: d.GetContinuousAnalysis() == grafeas.DiscoveryOccurrence_ACTIVE,
	}
	if t := d.GetLastScanTime(); t != nil {
		scan.LastScan = t.AsTime()
	}
	return scan, err == nil
}
