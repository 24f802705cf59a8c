package index

import (
	"cmp"
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

// A scan is what they say of it, with findings of 8 bytes: what one is, many images
// have in common.
type scan struct {
	of                              scanned
	findings                        []unique.Handle[evidence.Finding]
	status                          grafeas.DiscoveryOccurrence_AnalysisStatus // if unfinished
	finished, unfinished, truncated bool
}

// scanFrom reads a summary. A scanner goes by its discovery note, and its latest
// word is the occurrence that was updated last. An image is scanned when the latest
// word of every scanner is that its analysis has finished successfully: one that is
// pending, runs, has failed, or says nothing of its state may yet find something,
// and so may one that finished once and has begun or failed again since.
func scanFrom(of scanned, s *metadata.Summary) scan {
	latest := make(map[string]metadata.Scan)
	for _, d := range s.Scans {
		if have, ok := latest[d.Note]; !ok || after(d, have) {
			latest[d.Note] = d
		}
	}
	sc := scan{of: of, truncated: s.Truncated}
	var last metadata.Scan // of those that have not finished
	for _, d := range latest {
		if d.Status != grafeas.DiscoveryOccurrence_FINISHED_SUCCESS && (!sc.unfinished || after(d, last)) {
			last, sc.unfinished = d, true
		}
	}
	sc.finished = len(latest) > 0 && !sc.unfinished
	sc.status = last.Status
	if len(s.Findings) > 0 {
		sc.findings = make([]unique.Handle[evidence.Finding], len(s.Findings))
	}
	for i, f := range s.Findings {
		sc.findings[i] = unique.Make(evidence.Finding{Note: f.Note, Severity: int(f.Severity), Fixable: f.Fixable})
	}
	return sc
}

// after reports whether a is a later word than b.
func after(a, b metadata.Scan) bool {
	return cmp.Or(a.Updated.Compare(b.Updated), slices.Compare(a.ID[:], b.ID[:])) > 0
}

// tell adds the scan to what is told of an image, with as many findings as there is
// room for, the worst first, and returns how many those are.
func (s *scan) tell(img *evidence.Image, room int) int {
	n := min(len(s.findings), room)
	told := evidence.Scan{Project: s.of.project(), Finished: s.finished, Truncated: s.truncated || n < len(s.findings)}
	if s.unfinished {
		told.Status = s.status.String()
	}
	if n > 0 {
		told.Findings = make([]evidence.Finding, n)
	}
	for i, f := range s.findings[:n] {
		told.Findings[i] = f.Value()
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
