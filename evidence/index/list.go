package index

import (
	"context"
	"math"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// FromOccurrences returns what follows about the images from a list of occurrences
// alone, for decisions without a server: what an [Index] would tell of them, with
// the scans of all projects. Digests of which the list says nothing are Known to have
// none. Occurrences written by hand need neither the kind nor the name that a server
// gives them; but what counts by its project has to be named. The notes are those that
// are known, and need only be of scans: a discovery of any other is taken for what its
// list is made to tell, an analysis that looks for vulnerabilities.
//
// A signature costs as much as its key does, and anyone who may write occurrences can
// add some: when ctx ends before all are verified, every digest is Unavailable.
func FromOccurrences(ctx context.Context, occurrences []*grafeas.Occurrence, trust Trust, refs []image.Reference, notes ...*grafeas.Note) evidence.Facts {
	l := list{trust: trust, memo: signature.NewMemo(len(occurrences) + 1), book: newBook(math.MaxInt),
		asked: make(map[image.Digest]bool), summaries: make(map[scanned]*summary)}
	l.book.analyses.presumed = true
	for _, n := range notes {
		if n.GetDiscovery() != nil {
			l.book.analyses.learn(n, metadata.Created)
		}
	}
	for _, d := range digestsOf(refs) {
		l.asked[d] = true
	}
	for i, o := range occurrences {
		if ctx.Err() != nil {
			return evidence.Facts{Images: l.unavailable()}
		}
		l.add(i, o)
	}
	facts := evidence.Facts{Images: l.images(), Built: l.tags.builtAs(refs)}
	return facts
}

// A list reads occurrences that are all there is.
type list struct {
	trust     Trust
	memo      *signature.Memo
	asked     map[image.Digest]bool
	book      book
	summaries map[scanned]*summary
	tags      tagHints
}

type summary struct {
	metadata.Summary
	digest image.Digest
}

func (l *list) add(i int, o *grafeas.Occurrence) {
	kind := kindOf(o)
	if kind == grafeas.NoteKind_BUILD {
		l.tags.learn(o)
	}
	ref, err := image.ParseResourceURI(o.GetResourceUri())
	if err != nil || !l.asked[ref.Digest()] {
		return
	}
	switch {
	case metadata.Summarized(kind):
		l.summarize(i, o)
	case signed.Has(kind):
		if keys := l.trust.of(o.GetNoteName(), projectOf(o.GetName())); keys.via != 0 {
			l.book.add(ref.Digest(), examine(o, ref.Digest(), keys, l.memo))
		}
	}
}

// kindOf returns the kind of what an occurrence says, which is also the kind that it
// bears, if it bears one; 0 for others.
func kindOf(o *grafeas.Occurrence) grafeas.NoteKind {
	var kind grafeas.NoteKind
	switch o.GetDetails().(type) {
	case *grafeas.Occurrence_Attestation:
		kind = grafeas.NoteKind_ATTESTATION
	case *grafeas.Occurrence_DsseAttestation:
		kind = grafeas.NoteKind_DSSE_ATTESTATION
	case *grafeas.Occurrence_Build:
		kind = grafeas.NoteKind_BUILD
	case *grafeas.Occurrence_Vulnerability:
		kind = grafeas.NoteKind_VULNERABILITY
	case *grafeas.Occurrence_Discovery:
		kind = grafeas.NoteKind_DISCOVERY
	}
	if said := o.GetKind(); said != grafeas.NoteKind_NOTE_KIND_UNSPECIFIED && said != kind {
		return grafeas.NoteKind_NOTE_KIND_UNSPECIFIED
	}
	return kind
}

// summarize adds what a scan found to the summary of its resource, as a store does.
func (l *list) summarize(i int, o *grafeas.Occurrence) {
	of, d, ok := resourceOf(o)
	if !ok {
		return
	}
	if l.summaries[of] == nil {
		l.summaries[of] = &summary{digest: d}
	}
	if _, err := metadata.ParseOccurrenceName(o.GetName()); err != nil {
		o = named(of.parent.Value(), i, o)
	}
	l.summaries[of].Add(o)
}

// named returns the occurrence with an id that is one, which summaries need to tell
// scans apart: it stands for its place in the list.
func named(parent metadata.Parent, i int, o *grafeas.Occurrence) *grafeas.Occurrence {
	id := metadata.ID{7: 1}
	for j := len(id) - 1; j > 7; j-- {
		id[j], i = byte(i), i>>8
	}
	o = proto.CloneOf(o)
	o.Name = metadata.OccurrenceName{Parent: parent, ID: id}.String()
	return o
}

// unavailable tells of the images that their evidence was not read to the end.
func (l *list) unavailable() map[image.Digest]evidence.Image {
	images := make(map[image.Digest]evidence.Image, len(l.asked))
	for d := range l.asked {
		images[d] = evidence.Image{State: evidence.Unavailable, Err: "the statements about it could not be verified in time"}
	}
	return images
}

func (l *list) images() map[image.Digest]evidence.Image {
	for of, s := range l.summaries {
		sc := scanFrom(of, &s.Summary)
		l.book.scan(s.digest, of, &sc)
	}
	images := make(map[image.Digest]evidence.Image, len(l.asked))
	for d := range l.asked {
		images[d] = l.book.image(d)
	}
	return images
}
