package index

import (
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// origin is where something was read.
type origin bool

const (
	fromScan origin = false
	fromFeed origin = true
)

// put verifies an occurrence with the keys that are trusted now, and files what
// came of it in place of what was filed for the same occurrence before. What was
// verified with the keys of before a change must not replace what a scan has
// found with those of after it, and so is verified again.
func (x *Index) put(o *grafeas.Occurrence, from origin) {
	ref, err := image.ParseResourceURI(o.GetResourceUri())
	if err != nil {
		x.logger.Debug("attestation is not of an image", "occurrence", o.GetName(), "error", err)
		return
	}
	var found []statement
	for filed := false; !filed; {
		trust := x.trust.Load()
		keys := trust.of(o.GetNoteName(), projectOf(o.GetName()))
		if keys.via == 0 {
			return
		}
		found = examine(o, ref.Digest(), keys, x.memo)
		filed = x.file(nameOf(o.GetName()), from, ref.Digest(), trust, found)
	}
	x.examined.count(found, from)
	x.cool()
}

// file replaces what is known from one occurrence, unless the trust has changed.
func (x *Index) file(occurrence occurrenceName, from origin, d image.Digest, trust *Trust, statements []statement) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.trust.Load() != trust {
		return false
	}
	if _, newer := x.told[occurrence]; newer && from == fromScan {
		return true
	}
	if x.told != nil && from == fromFeed {
		x.told[occurrence] = struct{}{}
	}
	x.book.replace(d, occurrence, statements)
	return true
}

func (x *Index) remove(o *grafeas.Occurrence) {
	ref, err := image.ParseResourceURI(o.GetResourceUri())
	if err != nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	name := nameOf(o.GetName())
	if x.told != nil {
		x.told[name] = struct{}{}
	}
	x.book.replace(ref.Digest(), name, nil)
}

// fileScan replaces what the scans of a resource found, if that is still asked for.
func (x *Index) fileScan(d image.Digest, of scanned, s *metadata.Summary, from origin) {
	var found *scan
	if !s.Empty() {
		sc := scanFrom(of, s)
		found = &sc
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !(*x.scope.Load())[of.project()] {
		return
	}
	if _, newer := x.toldOf[of]; newer && from == fromScan {
		return
	}
	if x.toldOf != nil && from == fromFeed {
		x.toldOf[of] = struct{}{}
	}
	x.book.scan(d, of, found)
}
