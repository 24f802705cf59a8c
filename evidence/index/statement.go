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

// A statement is a fact that was verified, or a rejection, in 48 bytes: what many of
// them have in common is kept once.
type statement struct {
	common  unique.Handle[common]
	id      metadata.ID // of the occurrence
	created int64       // nanoseconds since 1970
	// more is what else there is: nil or the bounds of an attestation, the time of an
	// upload, the handle of a provenance, the reason of a rejection.
	more any
}

// A common is what those statements have in common that are of one kind and by one key,
// filed under one note in one project, and for one repository.
type common struct {
	before     unique.Handle[string] // the id of the occurrence, in its name
	note       unique.Handle[string]
	key        unique.Handle[keyName]
	repository unique.Handle[string] // of an attestation
	kind       kind
	via        via
	cosign     bool
	rank       rank // of a rejection
}

// A draft is a statement that is being made.
type draft struct {
	common
	id      metadata.ID
	created int64
	more    any
}

func (d *draft) statement() statement {
	return statement{common: unique.Make(d.common), id: d.id, created: d.created, more: d.more}
}

func (s *statement) kind() kind { return s.common.Value().kind }

func (s *statement) occurrence() occurrenceName {
	return occurrenceName{s.common.Value().before, s.id}
}

// by reports whether the occurrence has made the statement.
func (s *statement) by(o occurrenceName) bool {
	return s.id == o.id && s.common.Value().before == o.before
}

// compareNames orders the names of the occurrences of both as text.
func (s *statement) compareNames(t *statement) int {
	if s.common == t.common {
		return slices.Compare(s.id[:], t.id[:])
	}
	return s.occurrence().compare(t.occurrence())
}

// count sets what the statement counts for.
func (s *statement) count(by via) {
	if c := s.common.Value(); c.via != by {
		c.via = by
		s.common = unique.Make(c)
	}
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
func begin(o *grafeas.Occurrence) draft {
	name := nameOf(o.GetName())
	return draft{
		common: common{before: name.before, note: unique.Make(o.GetNoteName()), key: unique.Make(keyName{}), repository: unique.Make("")},
		id:     name.id, created: nanoseconds(o.GetCreateTime()),
	}
}

// A class is what statements have in common of which one is as good as another,
// to whatever policy: all but who filed it, and when.
type class struct {
	common
	more    any
	project string // if it counts by its project
}

func (s *statement) class() class {
	c := class{common: s.common.Value(), more: s.more}
	c.before = unique.Handle[string]{}
	if c.via&viaNote == 0 {
		c.note = unique.Handle[string]{}
	}
	if c.via&viaProject != 0 {
		c.project = s.occurrence().project()
	}
	if c.kind == upload {
		c.more = nil // the earliest of them counts
	}
	return c
}

// says reports whether both are of one class, without making it.
func (s *statement) says(t *statement) bool {
	if s.common == t.common {
		return s.kind() == upload || s.more == t.more
	}
	a, b := s.common.Value(), t.common.Value()
	return a.kind == b.kind && a.via == b.via && a.cosign == b.cosign && a.key == b.key && a.repository == b.repository &&
		(a.kind == upload || s.more == t.more) && (a.via&viaNote == 0 || a.note == b.note) &&
		(a.via&viaProject == 0 || a.before == b.before || s.occurrence().project() == t.occurrence().project())
}

// preferred orders the statements of a class as decisions do, the best first; those
// of different classes in some order that does not depend on how they came here.
func preferred(s, t *statement) int {
	k := s.kind()
	if s.common != t.common {
		if c := cmp.Compare(k, t.kind()); c != 0 {
			return c
		}
	}
	if k == upload {
		if c := s.more.(time.Time).Compare(t.more.(time.Time)); c != 0 {
			return c
		}
	}
	if c := cmp.Compare(t.created, s.created); c != 0 {
		return c
	}
	if c := s.compareNames(t); c != 0 {
		return c
	}
	a, b := s.common.Value(), t.common.Value()
	v, w := a.key.Value(), b.key.Value()
	if c := cmp.Or(strings.Compare(v.id, w.id), strings.Compare(string(v.fingerprint[:]), string(w.fingerprint[:])),
		strings.Compare(a.note.Value(), b.note.Value()), strings.Compare(a.repository.Value(), b.repository.Value())); c != 0 {
		return c
	}
	x, y := s.bounds(), t.bounds()
	return cmp.Or(x.notBefore.Compare(y.notBefore), x.notAfter.Compare(y.notAfter))
}

func (s *statement) bounds() bounds {
	b, _ := s.more.(bounds)
	return b
}

// nearest orders rejections: those that came nearest to counting first, and among
// equals those that were there first, so that what is filed later pushes none out.
func nearest(a, b *statement) int {
	return cmp.Or(cmp.Compare(b.common.Value().rank, a.common.Value().rank), cmp.Compare(a.created, b.created),
		a.compareNames(b), strings.Compare(a.reason(), b.reason()))
}

func (s *statement) reason() string {
	r, _ := s.more.(string)
	return r
}

// authority is for whom a rejected statement was looked at: its note, if that is
// trusted, or its project.
func (s *statement) authority() string {
	if c := s.common.Value(); c.via&viaNote != 0 {
		return c.note.Value()
	}
	return s.occurrence().project()
}

func (s *statement) origin() evidence.Origin {
	c, name := s.common.Value(), s.occurrence()
	key := c.key.Value()
	return evidence.Origin{
		Note: c.note.Value(), Occurrence: name.String(), Project: projectID(name.project()),
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
	c := s.common.Value()
	switch c.kind {
	case attestation:
		b := s.bounds()
		img.Attestations = append(img.Attestations, evidence.Attestation{
			Origin: s.origin(), Repository: c.repository.Value(), Cosign: c.cosign, NotBefore: b.notBefore, NotAfter: b.notAfter,
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
			Note: c.note.Value(), Occurrence: s.occurrence().String(), Project: projectID(s.occurrence().project()), Reason: s.reason(),
		})
	}
}
