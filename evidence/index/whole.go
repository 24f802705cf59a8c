package index

import (
	"cmp"
	"math"
	"slices"
	"unique"

	"github.com/gatehouse-dev/gatehouse/image"
)

// DefaultStatements is how many bytes of signed statements a server keeps for policies
// that look into them: those of some thousand builds.
const DefaultStatements = 64 << 20

// wholes are the provenances whose statements are kept whole, which only a custom
// constraint looks at: of each occurrence that makes one, up to maxStatement bytes.
// When they are too many those of the latest occurrences stay, for what is deployed
// next was mostly built last.
type wholes struct {
	limit int // bytes
	bytes int
	kept  map[wholeName]whole
	// since is when the oldest one may have been created, once there were too many.
	since int64
}

type wholeName struct {
	digest     image.Digest
	occurrence occurrenceName
}

type whole struct {
	created int64
	bytes   int
}

func newWholes(limit int) wholes {
	return wholes{limit: limit, kept: make(map[wholeName]whole), since: math.MinInt64}
}

// admit takes up the statements of an occurrence about a digest, in place of those that
// it made before, or strips them of what is not kept.
func (w *wholes) admit(d image.Digest, occurrence occurrenceName, statements []statement) {
	name := wholeName{d, occurrence}
	w.drop(name)
	for i := range statements {
		s := &statements[i]
		size := s.size()
		switch {
		case size == 0:
		case size > w.limit || s.created < w.since:
			s.strip()
		default: // all that keys say in one occurrence, they say in one statement
			w.drop(name)
			w.kept[name] = whole{s.created, size}
			w.bytes += size
		}
	}
}

func (w *wholes) drop(name wholeName) {
	w.bytes -= w.kept[name].bytes
	delete(w.kept, name)
}

// excess returns those that are too many, if any are, so that there is room again for
// an eighth of the limit.
func (w *wholes) excess() []wholeName {
	if w.bytes <= w.limit {
		return nil
	}
	names := make([]wholeName, 0, len(w.kept))
	for name := range w.kept {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b wholeName) int {
		return cmp.Or(cmp.Compare(w.kept[b].created, w.kept[a].created), a.occurrence.compare(b.occurrence),
			cmp.Compare(a.digest.String(), b.digest.String()))
	})
	room := w.limit - w.limit/8
	for i, name := range names {
		if room -= w.kept[name].bytes; room < 0 {
			return names[i:]
		}
	}
	return nil
}

// size returns how many bytes of a statement are kept, 0 if none.
func (s *statement) size() int {
	if s.kind() != provenance {
		return 0
	}
	return len(s.more.(unique.Handle[builtFrom]).Value().statement)
}

// strip drops the statement of a provenance, and keeps what it says.
func (s *statement) strip() {
	b := s.more.(unique.Handle[builtFrom]).Value()
	b.statement = ""
	s.more = unique.Make(b)
}

// keepWholes sets how many bytes of statements are kept.
func (b *book) keepWholes(limit int) {
	if limit > b.wholes.limit {
		b.wholes.since = math.MinInt64 // all are about to be read again
	}
	b.wholes.limit = limit
	b.stripExcess()
}

func (b *book) stripExcess() {
	for _, name := range b.wholes.excess() {
		have := b.statements(name.digest)
		for i := range have {
			if s := &have[i]; s.by(name.occurrence) && s.size() > 0 {
				b.wholes.since = max(b.wholes.since, s.created+1)
				s.strip()
			}
		}
		b.wholes.drop(name)
	}
}
