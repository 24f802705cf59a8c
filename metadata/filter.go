package metadata

import (
	"strings"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Bounds on a filter. Clients join a few dozen URLs of 200 bytes at most.
const (
	maxFilterBytes  = 16 << 10
	maxFilterParens = 256
	maxFilterTerms  = 128
	// maxFilterPath bounds the fields in one path: messages may nest themselves.
	maxFilterPath = 32
)

// A field is one that all rows have and that indexes know. Whatever else a row
// has is found by its path: see [pathNode].
type field int

const (
	fieldResource field = iota
	fieldKind
	fieldNoteName
	fieldNoteProject
	fieldNoteID
)

// fieldSpellings are the names by which clients call the fields.
var fieldSpellings = map[string]field{
	"resourceUrl": fieldResource, "resource_url": fieldResource,
	"resourceUri": fieldResource, "resource_uri": fieldResource, "resource.uri": fieldResource,
	"kind":     fieldKind,
	"noteName": fieldNoteName, "note_name": fieldNoteName,
	"noteProjectId": fieldNoteProject, "note_project_id": fieldNoteProject,
	"noteId": fieldNoteID, "note_id": fieldNoteID,
}

// A schema is what the filters of one list are about: the rows as a dialect
// shows them.
type schema struct {
	name      string // tells schemas apart
	v1        bool
	notes     bool
	message   protoreflect.MessageDescriptor
	viewNote  func(*grafeas.Note) proto.Message // nil shows what is stored
	viewOccur func(*grafeas.Occurrence) proto.Message
}

// noteSchema returns what filters on notes are about; the zero dialect is v1.
func (d Dialect) noteSchema() schema {
	if d.Notes == nil {
		return schema{name: "v1 notes", v1: true, notes: true, message: (*grafeas.Note)(nil).ProtoReflect().Descriptor()}
	}
	return schema{name: d.Name + " notes", notes: true, message: d.Notes, viewNote: d.NoteView}
}

// occurrenceSchema is noteSchema for occurrences.
func (d Dialect) occurrenceSchema() schema {
	if d.Occurrences == nil {
		return schema{name: "v1 occurrences", v1: true, message: (*grafeas.Occurrence)(nil).ProtoReflect().Descriptor()}
	}
	return schema{name: d.Name + " occurrences", message: d.Occurrences, viewOccur: d.OccurrenceView}
}

// known returns the field that all rows have by one of its names.
func (s *schema) known(path string) (field, bool) {
	if s.notes && path == "name" {
		return fieldNoteName, true
	}
	f, ok := fieldSpellings[path]
	return f, ok && (!s.notes || f != fieldResource)
}

// kind parses a kind: its name, a former one, or its number in the dialect.
func (s *schema) kind(text string) (grafeas.NoteKind, bool) {
	if k, ok := parseKind(text); ok {
		return k, true
	}
	n, ok := parseInteger(text, 32)
	if !ok {
		return 0, false
	}
	if fd := s.message.Fields().ByName("kind"); fd != nil && fd.Enum() != nil {
		if v := fd.Enum().Values().ByNumber(protoreflect.EnumNumber(n)); v != nil {
			return parseKind(string(v.Name()))
		}
	}
	k := grafeas.NoteKind(n)
	_, ok = unpublished[k]
	return k, ok && s.v1
}

// A filter is a parsed one, and does not change. The nil filter matches
// everything.
type filter struct {
	text   string
	schema schema
	root   node
}

// noteFilter parses a filter on notes as the service's dialect shows them.
func (s *Service) noteFilter(text string) (*filter, error) {
	return s.filters.parse(s.dialect.noteSchema(), text)
}

// occurrenceFilter parses a filter on occurrences as the service's dialect shows
// them.
func (s *Service) occurrenceFilter(text string) (*filter, error) {
	return s.filters.parse(s.dialect.occurrenceSchema(), text)
}

// parse parses a filter; one that is empty is nil.
func (s schema) parse(text string) (*filter, error) { return (*filterCache)(nil).parse(s, text) }

// checkFilterSize bounds what is parsed.
func checkFilterSize(text string) error {
	if len(text) > maxFilterBytes {
		return Errorf(InvalidArgument, "filter has %d bytes, at most %d are allowed; split it into several calls", len(text), maxFilterBytes)
	}
	if !utf8.ValidString(text) {
		return Errorf(InvalidArgument, "filter is not valid UTF-8")
	}
	if n := strings.Count(text, "("); n > maxFilterParens {
		return Errorf(InvalidArgument, "filter has %d parentheses, at most %d are allowed", n, maxFilterParens)
	}
	return nil
}

// matchNote reports whether a note passes.
func (f *filter) matchNote(n *grafeas.Note) bool {
	if f == nil {
		return true
	}
	return f.root.match(&row{schema: &f.schema, kind: n.GetKind(), note: n.GetName(), asNote: n})
}

// matchOccurrence reports whether an occurrence passes.
func (f *filter) matchOccurrence(o *grafeas.Occurrence) bool {
	if f == nil {
		return true
	}
	return f.root.match(&row{
		schema: &f.schema, kind: o.GetKind(), note: o.GetNoteName(),
		resource: CanonicalURI(o.GetResourceUri()), asOccurrence: o,
	})
}

// A row is a note or an occurrence while a filter looks at it.
type row struct {
	schema         *schema
	kind           grafeas.NoteKind
	note, resource string // the resource is canonical
	asNote         *grafeas.Note
	asOccurrence   *grafeas.Occurrence

	parsed bool
	name   NoteName // of the note, once parsed

	viewed  bool
	message protoreflect.Message // as the dialect shows it, once viewed
}

// fact returns the value of a field.
func (r *row) fact(f field) string {
	switch f {
	case fieldResource:
		return r.resource
	case fieldKind:
		return KindName(r.kind)
	case fieldNoteName:
		return r.note
	}
	if !r.parsed {
		r.name, _ = ParseNoteName(r.note) // a name that is none has no parts
		r.parsed = true
	}
	if f == fieldNoteProject {
		return r.name.Parent.Project
	}
	return r.name.ID
}

// view returns the message as the dialect shows it, nil if it cannot. To make it
// may cost a decoding, so it is made once, and only for filters that need it.
func (r *row) view() protoreflect.Message {
	if r.viewed {
		return r.message
	}
	r.viewed = true
	var m proto.Message
	switch {
	case r.asNote != nil && r.schema.viewNote != nil:
		m = r.schema.viewNote(r.asNote)
	case r.asNote != nil:
		m = r.asNote
	case r.schema.viewOccur != nil:
		m = r.schema.viewOccur(r.asOccurrence)
	default:
		m = r.asOccurrence
	}
	if m != nil && m.ProtoReflect().IsValid() {
		r.message = m.ProtoReflect()
	}
	return r.message
}

// A node is one operator or term of a filter.
type node interface {
	match(*row) bool
	// bounds returns what all rows satisfy that match, or that do not if negated.
	bounds(negated bool) bounds
	// unindexed returns the first term that no index ever answers, nil if none.
	unindexed() *term
}

// A term is where a condition stands in the filter, and what it asks about.
type term struct {
	at   int // bytes before it
	name string
}

type (
	andNode struct{ left, right node }
	orNode  struct{ left, right node }
	notNode struct{ sub node }
	// factNode is a condition on a field that all rows have.
	factNode struct {
		term
		field field
		op    operator
		value string // canonical for equality of resources
		kind  grafeas.NoteKind
	}
)

func (n andNode) match(r *row) bool { return n.left.match(r) && n.right.match(r) }
func (n orNode) match(r *row) bool  { return n.left.match(r) || n.right.match(r) }
func (n notNode) match(r *row) bool { return !n.sub.match(r) }

func (n factNode) match(r *row) bool {
	if n.field == fieldKind && n.op == opEqual {
		return r.kind == n.kind
	}
	have := r.fact(n.field)
	if n.field == fieldResource && (n.op == opPrefix || n.op == opSuffix) {
		// Equality compares canonical forms; here either spelling will do.
		return matchText(n.op, have, n.value) || matchText(n.op, otherSpelling(have), n.value)
	}
	return matchText(n.op, have, n.value)
}
