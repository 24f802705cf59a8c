package index

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"
	"unique"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// A statement is a fact that was verified, or a rejection, in 80 bytes: what many
// of them have in common is kept once.
type statement struct {
	occurrence occurrenceName
	note       unique.Handle[string]
	key        unique.Handle[keyName]
	repository unique.Handle[string] // of an attestation
	created    int64                 // nanoseconds since 1970
	// more is what else there is: nil or the bounds of an attestation, the time of an
	// upload, the handle of a provenance, the reason of a rejection.
	more   any
	kind   kind
	via    via
	cosign bool
	rank   rank // of a rejection
}

type kind uint8

const (
	attestation kind = iota
	upload
	provenance
	rejection
)

// A rank is how near a rejected statement came to counting. The nearer, the more it
// explains, and the less can strangers make one.
type rank uint8

const (
	unreadable rank = iota // whoever made it
	unknownKey
	notVerified // and naming a key that is trusted
	otherwise   // verified, and saying something else
)

type keyName struct {
	id          string
	fingerprint [32]byte
}

// bounds are when an attestation counts; the zero time is no bound.
type bounds struct{ notBefore, notAfter time.Time }

// builtFrom is what a provenance says.
type builtFrom struct {
	builder, source string
	configBased     bool
	statement       string
}

// An occurrenceName is the name of an occurrence: what is before its id, and that.
// A name that no service has given is all in the first part.
type occurrenceName struct {
	before unique.Handle[string]
	id     metadata.ID
}

const (
	projects   = "projects/"
	collection = "/occurrences/"
)

func nameOf(name string) occurrenceName {
	if n, err := metadata.ParseOccurrenceName(name); err == nil {
		return occurrenceName{unique.Make(name[:len(name)-len(n.ID.String())-len(collection)]), n.ID}
	}
	return occurrenceName{before: unique.Make(name)}
}

func (n occurrenceName) String() string {
	if n.id.IsZero() {
		return n.before.Value()
	}
	return n.before.Value() + collection + n.id.String()
}

// compare orders names as text.
func (n occurrenceName) compare(m occurrenceName) int {
	if n.before == m.before {
		return slices.Compare(n.id[:], m.id[:])
	}
	return strings.Compare(n.String(), m.String())
}

// project returns "projects/P".
func (n occurrenceName) project() string {
	name := n.before.Value()
	if n.id.IsZero() {
		return projectOf(name)
	}
	id, _, _ := strings.Cut(name[len(projects):], "/")
	return name[:len(projects)+len(id)]
}

// nanoseconds clamps what an int64 cannot hold, which is before 1678 or after 2262.
func nanoseconds(t *timestamppb.Timestamp) int64 {
	const most = math.MaxInt64 / int64(time.Second)
	switch s := t.GetSeconds(); {
	case s >= most:
		return math.MaxInt64
	case s <= -most:
		return math.MinInt64
	}
	return t.AsTime().UnixNano()
}

// begin returns what all statements of an occurrence have in common.
func begin(o *grafeas.Occurrence) statement {
	none := unique.Make("")
	return statement{
		occurrence: nameOf(o.GetName()), note: unique.Make(o.GetNoteName()), key: unique.Make(keyName{}), repository: none,
		created: nanoseconds(o.GetCreateTime()),
	}
}

// A class is what statements have in common of which one is as good as another,
// to whatever policy: all but who filed it, and when.
type class struct {
	statement
	project string // if it counts by its project
}

func (s *statement) class() class {
	c := class{statement: *s}
	c.occurrence, c.created = occurrenceName{}, 0
	if s.via&viaNote == 0 {
		c.note = unique.Handle[string]{}
	}
	if s.via&viaProject != 0 {
		c.project = s.occurrence.project()
	}
	if s.kind == upload {
		c.more = nil // the earliest of them counts
	}
	return c
}

// says reports whether both are of one class, without making it.
func (s *statement) says(t *statement) bool {
	return s.kind == t.kind && s.via == t.via && s.cosign == t.cosign && s.key == t.key && s.repository == t.repository &&
		(s.kind == upload || s.more == t.more) && (s.via&viaNote == 0 || s.note == t.note) &&
		(s.via&viaProject == 0 || s.occurrence.before == t.occurrence.before || s.occurrence.project() == t.occurrence.project())
}

// preferred orders the statements of a class as decisions do, the best first; those
// of different classes in some order that does not depend on how they came here.
func preferred(a, b *statement) int {
	if c := cmp.Compare(a.kind, b.kind); c != 0 {
		return c
	}
	if a.kind == upload {
		if c := a.more.(time.Time).Compare(b.more.(time.Time)); c != 0 {
			return c
		}
	}
	if c := cmp.Or(cmp.Compare(b.created, a.created), a.occurrence.compare(b.occurrence)); c != 0 {
		return c
	}
	j, k := a.key.Value(), b.key.Value()
	if c := cmp.Or(strings.Compare(j.id, k.id), strings.Compare(string(j.fingerprint[:]), string(k.fingerprint[:])),
		strings.Compare(a.note.Value(), b.note.Value()), strings.Compare(a.repository.Value(), b.repository.Value())); c != 0 {
		return c
	}
	s, t := a.bounds(), b.bounds()
	return cmp.Or(s.notBefore.Compare(t.notBefore), s.notAfter.Compare(t.notAfter))
}

func (s *statement) bounds() bounds {
	b, _ := s.more.(bounds)
	return b
}

// nearest orders rejections: those that came nearest to counting first, and among
// equals those that were there first, so that what is filed later pushes none out.
func nearest(a, b *statement) int {
	return cmp.Or(cmp.Compare(b.rank, a.rank), cmp.Compare(a.created, b.created),
		a.occurrence.compare(b.occurrence), strings.Compare(a.reason(), b.reason()))
}

func (s *statement) reason() string {
	r, _ := s.more.(string)
	return r
}

// authority is for whom a rejected statement was looked at: its note, if that is
// trusted, or its project.
func (s *statement) authority() string {
	if s.via&viaNote != 0 {
		return s.note.Value()
	}
	return s.occurrence.project()
}

func (s *statement) origin() evidence.Origin {
	key := s.key.Value()
	return evidence.Origin{
		Note: s.note.Value(), Occurrence: s.occurrence.String(), Project: projectID(s.occurrence.project()),
		KeyID: key.id, Fingerprint: key.fingerprint, Created: time.Unix(0, s.created).UTC(),
	}
}

func projectID(project string) string { return strings.TrimPrefix(project, projects) }

func kept(statement string) []byte {
	if statement == "" {
		return nil
	}
	return []byte(statement)
}

// tell adds the statement to what is known of an image.
func (s *statement) tell(img *evidence.Image) {
	switch s.kind {
	case attestation:
		b := s.bounds()
		img.Attestations = append(img.Attestations, evidence.Attestation{
			Origin: s.origin(), Repository: s.repository.Value(), Cosign: s.cosign, NotBefore: b.notBefore, NotAfter: b.notAfter,
		})
	case upload:
		img.Uploads = append(img.Uploads, evidence.Upload{Origin: s.origin(), Time: s.more.(time.Time)})
	case provenance:
		p := s.more.(unique.Handle[builtFrom]).Value()
		img.Provenances = append(img.Provenances, evidence.Provenance{
			Origin: s.origin(), Builder: p.builder, Source: p.source, ConfigBased: p.configBased, Statement: kept(p.statement),
		})
	case rejection:
		img.Rejected = append(img.Rejected, evidence.Rejection{
			Note: s.note.Value(), Occurrence: s.occurrence.String(), Project: projectID(s.occurrence.project()), Reason: s.reason(),
		})
	}
}
