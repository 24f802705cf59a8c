package transfer

import (
	"crypto/sha256"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	beta "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/v1beta1"
)

// A sort is what a line is about.
type sort uint8

const (
	theProjects sort = iota
	notes
	occurrences
)

func (k sort) String() string { return [...]string{"projects", "notes", "occurrences"}[k] }

// one is the word for one of them.
func (k sort) one() string { return strings.TrimSuffix(k.String(), "s") }

// An item is a project, a note or an occurrence.
type item struct {
	sort sort
	name string
	// version is that of msg. other is the same in the other version, if neither
	// follows from the other.
	version    Version
	msg, other proto.Message
	reason     string // why it was refused, in a file of those
}

// newMessage returns an empty message.
func newMessage(k sort, v Version) proto.Message {
	switch {
	case k == notes && v == V1:
		return &grafeas.Note{}
	case k == notes:
		return &beta.Note{}
	case v == V1:
		return &grafeas.Occurrence{}
	}
	return &beta.Occurrence{}
}

func otherVersion(v Version) Version {
	if v == V1 {
		return V1Beta1
	}
	return V1
}

func nameOf(m proto.Message) string {
	named, ok := m.(interface{ GetName() string })
	if !ok {
		return ""
	}
	return named.GetName()
}

func createdAt(m proto.Message) time.Time {
	timed, ok := m.(interface{ GetCreateTime() *timestamppb.Timestamp })
	if !ok || !timed.GetCreateTime().IsValid() {
		return time.Time{}
	}
	return timed.GetCreateTime().AsTime()
}

func resourceOf(m proto.Message) string {
	switch o := m.(type) {
	case *grafeas.Occurrence:
		return o.GetResourceUri()
	case *beta.Occurrence:
		return o.GetResource().GetUri()
	}
	return ""
}

// split cuts the name of a note or an occurrence into parent and id. The id may
// have slashes: the reference server lets them in. ok is false for other names.
func split(k sort, name string) (parent, id string, ok bool) {
	parent, id, ok = strings.Cut(name, "/"+k.String()+"/")
	return parent, id, ok && id != "" && isParent(parent)
}

// isParent reports whether s is the name of a project, or of a location of one.
func isParent(s string) bool {
	parts := strings.Split(s, "/")
	for _, part := range parts {
		if part == "" {
			return false
		}
	}
	return parts[0] == "projects" && (len(parts) == 2 || len(parts) == 4 && parts[2] == "locations")
}

// isEmpty reports whether a message has no content of any kind, as v1 shows what
// only v1beta1 can hold.
func isEmpty(m proto.Message) bool {
	r := m.ProtoReflect()
	return r.WhichOneof(r.Descriptor().Oneofs().Get(0)) == nil && len(r.GetUnknown()) == 0
}

// asBeta returns how v1beta1 shows a message of v1, and asV1 the converse; whole
// is whether nothing was lost.
func asBeta(m proto.Message) (shown proto.Message, whole bool) {
	switch m := m.(type) {
	case *grafeas.Note:
		b := v1beta1.NoteTo(m)
		return b, proto.Equal(stripped(v1beta1.NoteFrom(b)), withKind(m, v1beta1.NoteFrom(b).GetKind()))
	case *grafeas.Occurrence:
		b := v1beta1.OccurrenceTo(m)
		return b, proto.Equal(stripped(v1beta1.OccurrenceFrom(b)), withKind(m, v1beta1.OccurrenceFrom(b).GetKind()))
	}
	return nil, false
}

func asV1(m proto.Message) (shown proto.Message, whole bool) {
	switch m := m.(type) {
	case *beta.Note:
		n := v1beta1.NoteFrom(m)
		return stripped(n), !metadata.HasOriginal(n)
	case *beta.Occurrence:
		o := v1beta1.OccurrenceFrom(m)
		return stripped(o), !metadata.HasOriginal(o)
	}
	return nil, false
}

// stripped returns a stored message as v1 shows it.
func stripped(m proto.Message) proto.Message {
	c := proto.Clone(m)
	metadata.StripOriginal(c)
	if n, ok := c.(*grafeas.Note); ok {
		n.Kind = shownKind(n.GetKind())
	}
	if o, ok := c.(*grafeas.Occurrence); ok {
		o.Kind = shownKind(o.GetKind())
	}
	return c
}

// shownKind is a stored kind as v1 shows it.
func shownKind(k grafeas.NoteKind) grafeas.NoteKind {
	if k >= metadata.KindInToto && k <= metadata.KindSPDXRelationship {
		return grafeas.NoteKind_NOTE_KIND_UNSPECIFIED
	}
	return k
}

// withKind returns m, of the kind if it says none: some servers do not.
func withKind(m proto.Message, kind grafeas.NoteKind) proto.Message {
	c := proto.Clone(m)
	if n, ok := c.(*grafeas.Note); ok && n.GetKind() == 0 {
		n.Kind = kind
	}
	if o, ok := c.(*grafeas.Occurrence); ok && o.GetKind() == 0 {
		o.Kind = kind
	}
	return stripped(c)
}

// paired makes one item of what a server shows as a and b in the two versions;
// either may be nil. It is in the version from which the other follows, v1 if
// both do.
func paired(k sort, a, b proto.Message) item {
	switch {
	case b == nil:
		return item{sort: k, name: nameOf(a), version: V1, msg: a}
	case a == nil:
		return item{sort: k, name: nameOf(b), version: V1Beta1, msg: b}
	}
	if view, _ := asBeta(a); proto.Equal(view, b) {
		return paired(k, a, nil)
	}
	if view, _ := asV1(b); proto.Equal(view, a) {
		return paired(k, nil, b)
	}
	if isEmpty(a) {
		return item{sort: k, name: nameOf(b), version: V1Beta1, msg: b, other: a}
	}
	return item{sort: k, name: nameOf(a), version: V1, msg: a, other: b}
}

// in returns the item's message in a version: as it is, or as its file has it, or
// converted if that loses nothing; nil if there is none.
func (it item) in(v Version) proto.Message {
	if it.version == v {
		return it.msg
	}
	if it.other != nil {
		return it.other
	}
	convert := asV1
	if v == V1Beta1 {
		convert = asBeta
	}
	if m, whole := convert(it.msg); whole {
		return m
	}
	return nil
}

// A key identifies a name or a content.
type key [16]byte

func keyOf(text string) key {
	sum := sha256.Sum256([]byte(text))
	return key(sum[:])
}

// given are the fields that a server sets itself.
var given = []protoreflect.Name{"name", "kind", "create_time", "update_time"}

// contentOf is the key of what a message says, apart from what servers set.
func contentOf(m proto.Message) key {
	c := proto.Clone(m)
	r := c.ProtoReflect()
	for _, name := range given {
		r.Clear(r.Descriptor().Fields().ByName(name))
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil { // text that is not UTF-8, which no server takes
		return key{}
	}
	return keyOf(string(c.ProtoReflect().Descriptor().FullName()) + "\x00" + string(raw))
}
