package index

import (
	"math"
	"slices"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	// maxRejections bounds what is kept about a digest to explain a denial, for each
	// trusted note and each trusted project.
	maxRejections = 4

	// maxProvenances bounds those that are told of one image, the newest first. They
	// have up to maxStatement bytes each.
	maxProvenances = 64

	// maxScans and maxFindings bound what is told of one image, in all repositories
	// that it is in: a decision looks at each. An image with more is truncated, and
	// so never taken for clean.
	maxScans    = 1000
	maxFindings = 50 * metadata.MaxFindings
)

// A book holds what is known, by digest. What it tells depends on what is in it, and
// not on the order in which that came. It is not safe for concurrent use.
type book struct {
	entries  entries
	findings findings
	scans    map[string]int // how many there are of each project
	// analyses are those that scans tell of.
	analyses analyses
	wholes   wholes
	cold     cold
}

// newBook returns a book that keeps so many bytes of statements whole.
func newBook(statements int) book {
	return book{
		entries: newEntries(), findings: newFindings(), scans: make(map[string]int),
		analyses: analyses{known: make(map[string]bool)},
		wholes:   newWholes(statements),
		cold:     cold{before: math.MinInt64},
	}
}

// add adds the statements of an occurrence.
func (b *book) add(d image.Digest, statements []statement) {
	if len(statements) == 0 {
		return
	}
	b.wholes.admit(d, statements[0].occurrence(), statements)
	b.put(d, bounded(append(b.statements(d), statements...), statements[0].occurrence()))
	b.stripExcess()
}

// replace adds the statements of an occurrence in place of those that it made before.
func (b *book) replace(d image.Digest, occurrence occurrenceName, statements []statement) {
	statements = b.cold.warm(statements)
	b.wholes.admit(d, occurrence, statements)
	have := slices.DeleteFunc(b.statements(d), func(s statement) bool { return s.by(occurrence) })
	if len(statements) > 0 {
		have = bounded(append(have, statements...), occurrence)
	}
	b.put(d, have)
	b.stripExcess()
}

// bounded drops the rejections beyond maxRejections of each authority that the
// statements of an occurrence, which were just added, may have made too many.
func bounded(all []statement, added occurrenceName) []statement {
	for i := len(all) - 1; i >= 0 && all[i].by(added); i-- {
		if all[i].kind() != rejection {
			continue
		}
		authority := all[i].authority()
		count, worst := 0, -1
		for j := range all {
			if s := &all[j]; s.kind() == rejection && s.authority() == authority {
				if count++; worst < 0 || nearest(s, &all[worst]) > 0 {
					worst = j
				}
			}
		}
		if count > maxRejections {
			all = slices.Delete(all, worst, worst+1)
			i = min(i, len(all))
		}
	}
	return all
}

// statements returns those about a digest.
func (b *book) statements(d image.Digest) []statement { return b.entries.of(d).stated() }

// put sets what is known of a digest by statements; none drops it.
func (b *book) put(d image.Digest, statements []statement) {
	if len(statements) == 0 {
		statements = nil
	}
	e := b.entries.of(d)
	b.cold.kept += len(statements) - len(e.stated())
	switch {
	case e == nil && statements == nil:
		return
	case e == nil:
		e = b.entries.add(d)
	case e.scans == nil && statements == nil:
		b.entries.drop(e)
	}
	e.statements = statements
}

// scan sets what the scans of a resource found; nil drops it.
func (b *book) scan(d image.Digest, of scanned, found *scan) {
	have := b.entries.of(d).scanned()
	i, listed := slices.BinarySearchFunc(have, of, func(s keptScan, of scanned) int { return s.of.compare(of) })
	var kept keptScan
	if found != nil { // first, so that findings which stay keep their numbers
		kept = keptScan{of: of, findings: b.findings.take(found.findings), words: found.words, truncated: found.truncated}
	}
	if listed {
		b.release(&have[i])
	}
	switch {
	case found == nil && !listed:
		return
	case found == nil:
		have = slices.Delete(have, i, i+1)
	case listed:
		have[i] = kept
	default:
		have = slices.Insert(have, i, kept)
	}
	if found != nil {
		b.scans[of.project()]++
	}
	b.putScans(d, have)
}

// release undoes what a scan counts for, before it is dropped.
func (b *book) release(s *keptScan) {
	b.findings.release(s.findings)
	project := s.of.project()
	if b.scans[project]--; b.scans[project] == 0 {
		delete(b.scans, project)
	}
}

// putScans sets what the scans of a digest found; none drops it.
func (b *book) putScans(d image.Digest, scans []keptScan) {
	var kept *[]keptScan
	if len(scans) > 0 {
		kept = &scans
	}
	e := b.entries.of(d)
	switch {
	case e == nil && kept == nil:
		return
	case e == nil:
		e = b.entries.add(d)
	case len(e.statements) == 0 && kept == nil:
		b.entries.drop(e)
	}
	e.scans = kept
}

// keep asks why each statement may still be looked at, and drops those for which
// there is no reason any more.
func (b *book) keep(why func(*statement) via) {
	for d, e := range b.entries.all() {
		have := e.statements
		kept := have[:0]
		for i := range have {
			if v := why(&have[i]); v != 0 {
				kept = append(kept, have[i])
				kept[len(kept)-1].count(v)
			}
		}
		if len(kept) < len(have) {
			clear(have[len(kept):])
			b.put(d, slices.Clip(kept))
		}
	}
	for name := range b.wholes.kept {
		if !slices.ContainsFunc(b.statements(name.digest), func(s statement) bool { return s.by(name.occurrence) && s.size() > 0 }) {
			b.wholes.drop(name)
		}
	}
}

// keepScans drops those of the projects for which the function returns false.
func (b *book) keepScans(of func(project string) bool) {
	unwanted := false
	for project := range b.scans {
		unwanted = unwanted || !of(project)
	}
	if !unwanted {
		return
	}
	for d, e := range b.entries.all() {
		have := e.scanned()
		kept := have[:0]
		for i := range have {
			if of(have[i].of.project()) {
				kept = append(kept, have[i])
			} else {
				b.release(&have[i])
			}
		}
		if len(kept) < len(have) {
			clear(have[len(kept):])
			b.putScans(d, slices.Clip(kept))
		}
	}
}

// image returns what is known of a digest, sharing nothing with the book. Of
// statements that say the same, by the same key under the same trusted note and in
// the same trusted project, it has one: the earliest upload, and the newest of the
// others.
func (b *book) image(d image.Digest) evidence.Image {
	img := evidence.Image{State: evidence.Known}
	e := b.entries.of(d)
	for _, s := range told(e.stated()) {
		s.tell(&img)
	}
	b.tellScans(e.scanned(), &img)
	return img
}

// tellScans tells of scans, those of each project together. Of a project that there
// was no room for it is told that there is more.
func (b *book) tellScans(scans []keptScan, img *evidence.Image) {
	room, more := maxFindings, ""
	for i := range scans {
		s := &scans[i]
		if i < maxScans && room > 0 {
			room -= s.tell(img, b, room)
		} else if project := s.of.project(); project != more {
			more = project
			img.Scans = append(img.Scans, evidence.Scan{Project: project, Truncated: true})
		}
	}
}

// told returns the statements that count, in the order in which they are told.
func told(all []statement) []*statement {
	var best, rejected []*statement
	var byClass map[class]int // into best, when that is too long to be searched
	for i := range all {
		s := &all[i]
		if s.kind() == rejection {
			rejected = append(rejected, s)
			continue
		}
		const many = 16
		if len(best) == many && byClass == nil {
			byClass = make(map[class]int)
			for j, have := range best {
				byClass[have.class()] = j
			}
		}
		j := -1
		if byClass == nil {
			j = slices.IndexFunc(best, s.says)
		} else if k, ok := byClass[s.class()]; ok {
			j = k
		}
		switch {
		case j < 0:
			if byClass != nil {
				byClass[s.class()] = len(best)
			}
			best = append(best, s)
		case preferred(s, best[j]) < 0:
			best[j] = s
		}
	}
	slices.SortFunc(best, preferred)
	provenances := 0
	best = slices.DeleteFunc(best, func(s *statement) bool {
		if s.kind() == provenance {
			provenances++
		}
		return s.kind() == provenance && provenances > maxProvenances
	})
	slices.SortFunc(rejected, nearest)
	return append(best, rejected...)
}
