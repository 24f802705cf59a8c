package index

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"unique"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// A scanned is a resource that scanners of a project, or of a location of it, have
// looked at.
type scanned struct {
	parent   unique.Handle[metadata.Parent]
	resource metadata.Key
}

func (s scanned) project() string { return s.parent.Value().Project }

func (s scanned) compare(t scanned) int {
	p, q := s.parent.Value(), t.parent.Value()
	return cmp.Or(cmp.Compare(p.Project, q.Project), cmp.Compare(p.Location, q.Location), slices.Compare(s.resource[:], t.resource[:]))
}

// A scan is what they say of it.
type scan struct {
	of        scanned
	findings  []evidence.Finding
	words     []unique.Handle[word] // of each scanner its latest, and the latest of them first
	truncated bool
}

// A keptScan is a scan in a book, with the numbers that its findings have there.
type keptScan struct {
	of        scanned
	findings  []uint32
	words     []unique.Handle[word]
	truncated bool
}

// A word is what a scanner says of the state of its analysis.
type word struct {
	scanner string // the name of its discovery note
	status  grafeas.DiscoveryOccurrence_AnalysisStatus
}

// analyses tells which scanners look for vulnerabilities, by the names of their notes:
// others make SBOMs, or look for secrets.
type analyses struct {
	known map[string]bool
	// presumed is the answer for a note that is not known.
	presumed bool
}

func (a *analyses) count(scanner string) bool {
	if count, ok := a.known[scanner]; ok {
		return count
	}
	return a.presumed
}

// learn replaces what is known of a note, which may have been changed or deleted.
func (a *analyses) learn(n *grafeas.Note, op metadata.Op) {
	if op == metadata.Deleted {
		delete(a.known, n.GetName())
		return
	}
	a.known[n.GetName()] = metadata.FindsVulnerabilities(n)
}

// scanFrom reads a summary. A scanner goes by its discovery note, and its latest
// word is the occurrence that was updated last.
func scanFrom(of scanned, s *metadata.Summary) scan {
	latest := make(map[string]metadata.Scan)
	for _, d := range s.Scans {
		if have, ok := latest[d.Note]; !ok || after(d, have) {
			latest[d.Note] = d
		}
	}
	sc := scan{of: of, truncated: s.Truncated}
	if len(latest) > 0 {
		sc.words = make([]unique.Handle[word], 0, len(latest))
	}
	for _, d := range slices.SortedFunc(maps.Values(latest), func(a, b metadata.Scan) int { return compareWords(b, a) }) {
		sc.words = append(sc.words, unique.Make(word{d.Note, d.Status}))
	}
	if len(s.Findings) > 0 {
		sc.findings = make([]evidence.Finding, len(s.Findings))
	}
	for i, f := range s.Findings {
		sc.findings[i] = evidence.Finding{Note: f.Note, Severity: int(f.Severity), Fixable: f.Fixable}
	}
	return sc
}

// after reports whether a is a later word than b.
func after(a, b metadata.Scan) bool { return compareWords(a, b) > 0 }

func compareWords(a, b metadata.Scan) int {
	return cmp.Or(a.Updated.Compare(b.Updated), slices.Compare(a.ID[:], b.ID[:]))
}

// tell adds the scan to what is told of an image, unless it is of nothing that counts,
// with as many findings as there is room for, the worst first. It returns how many.
// An image is scanned when the latest word of every scanner that looks for
// vulnerabilities is that its analysis has finished successfully: one that is pending,
// runs, has failed, or says nothing of its state may yet find something, and so may one
// that finished once and has begun or failed again since.
func (s *keptScan) tell(img *evidence.Image, b *book, room int) int {
	n := min(len(s.findings), room)
	told := evidence.Scan{Project: s.of.project(), Truncated: s.truncated || n < len(s.findings)}
	for _, h := range s.words {
		w := h.Value()
		if !b.analyses.count(w.scanner) {
			continue
		}
		if told.Finished = w.status == grafeas.DiscoveryOccurrence_FINISHED_SUCCESS; !told.Finished {
			told.Status = w.status.String()
			break
		}
	}
	if len(s.findings) == 0 && !told.Finished && told.Status == "" && !told.Truncated {
		return 0
	}
	if n > 0 {
		told.Findings = make([]evidence.Finding, n)
	}
	for i, number := range s.findings[:n] {
		told.Findings[i] = b.findings.of(number)
	}
	img.Scans = append(img.Scans, told)
	return n
}

// resourceOf returns what a vulnerability or a discovery is filed for, and false if
// that is no image.
func resourceOf(o *grafeas.Occurrence) (scanned, image.Digest, bool) {
	ref, err := image.ParseResourceURI(o.GetResourceUri())
	if err != nil {
		return scanned{}, image.Digest{}, false
	}
	before, _, _ := strings.Cut(o.GetName(), collection)
	parent, err := metadata.ParseParent(before)
	if err != nil {
		return scanned{}, image.Digest{}, false
	}
	return scanned{unique.Make(parent), metadata.KeyOf(metadata.CanonicalURI(o.GetResourceUri()))}, ref.Digest(), true
}
