package index

import (
	"context"
	"math"
	"unique"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// Position returns the number of the last change that has been applied, 0 while
// everything is read anew.
func (x *Index) Position() uint64 { return x.progress.position() }

// Passed returns when changes after one of a number have been applied, or with ctx's
// error.
func (x *Index) Passed(ctx context.Context, after uint64) error {
	return x.progress.waitFor(ctx, after+1)
}

// Asks returns what facts are made of now: the names of notes, and the ids of projects,
// whose statements count, and those of projects whose scans do.
func (x *Index) Asks() (notes, projects, scans []string) {
	info := infoOf(0, *x.trust.Load(), *x.scope.Load())
	return info.Notes, info.Projects, info.Scans
}

// StatementKinds returns the kinds of occurrences that may make statements.
func StatementKinds() metadata.Kinds { return signed }

// About returns what follows about digests from all that a source has about them: what
// an index would tell that had read just that. Signatures are verified with the keys
// that are trusted now, and nothing is kept but the verdicts on them.
func (x *Index) About(digests []image.Digest, occurrences []*grafeas.Occurrence, summaries []*metadata.Summary, scanners []*grafeas.Note) map[image.Digest]evidence.Image {
	trust, scope := *x.trust.Load(), *x.scope.Load()
	asked := make(map[image.Digest]bool, len(digests))
	for _, d := range digests {
		asked[d] = true
	}
	b := newBook(math.MaxInt)
	for _, n := range scanners {
		b.analyses.learn(n, metadata.Created)
	}
	for _, o := range occurrences {
		ref, err := image.ParseResourceURI(o.GetResourceUri())
		if err != nil || !asked[ref.Digest()] || !signed.Has(o.GetKind()) {
			continue
		}
		if keys := trust.of(o.GetNoteName(), projectOf(o.GetName())); keys.via != 0 {
			b.add(ref.Digest(), examine(o, ref.Digest(), keys, x.memo))
		}
	}
	for _, s := range summaries {
		ref, err := image.ParseResourceURI(s.ResourceURI)
		of := scanned{unique.Make(s.Parent), s.Resource}
		if err != nil || !asked[ref.Digest()] || !scope[of.project()] || s.Empty() {
			continue
		}
		found := scanFrom(of, s)
		b.scan(ref.Digest(), of, &found)
	}
	images := make(map[image.Digest]evidence.Image, len(asked))
	for d := range asked {
		images[d] = b.image(d)
	}
	return images
}
