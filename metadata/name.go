package metadata

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxSegment bounds one segment of a name, in bytes. Grafeas sets no limit;
// Google's note ids end at 200 characters.
const maxSegment = 256

// A Parent is what notes and occurrences are filed under: a project, or a
// location of one. Projects need not be created.
type Parent struct {
	Project  string
	Location string // "" for the project itself
}

// A NoteName is the name of a note.
type NoteName struct {
	Parent Parent
	ID     string
}

// An OccurrenceName is the name of an occurrence.
type OccurrenceName struct {
	Parent Parent
	ID     ID
}

// String returns "projects/P" or "projects/P/locations/L".
func (p Parent) String() string {
	if p.Location == "" {
		return "projects/" + p.Project
	}
	return "projects/" + p.Project + "/locations/" + p.Location
}

// IsZero reports whether p is no parent.
func (p Parent) IsZero() bool { return p == Parent{} }

// String returns the full name, "projects/P/notes/N".
func (n NoteName) String() string { return n.Parent.String() + "/notes/" + n.ID }

// IsZero reports whether n is no name.
func (n NoteName) IsZero() bool { return n == NoteName{} }

// String returns the full name, "projects/P/occurrences/O".
func (n OccurrenceName) String() string { return n.Parent.String() + "/occurrences/" + n.ID.String() }

// IsZero reports whether n is no name.
func (n OccurrenceName) IsZero() bool { return n == OccurrenceName{} }

// ParseParent parses "projects/P" or "projects/P/locations/L".
func ParseParent(s string) (Parent, error) {
	p, rest, ok := cutParent(s)
	if !ok || rest != "" {
		return Parent{}, Errorf(InvalidArgument, `project name must be in the form "projects/[PROJECT_ID]", got %q`, clip(s))
	}
	return p, nil
}

// ParseNoteName parses "projects/P/notes/N" or "projects/P/locations/L/notes/N".
func ParseNoteName(s string) (NoteName, error) {
	p, rest, ok := cutParent(s)
	id, isNote := strings.CutPrefix(rest, "notes/")
	if !ok || !isNote || !validSegment(id) {
		return NoteName{}, Errorf(InvalidArgument, `note name must be in the form "projects/[PROJECT_ID]/notes/[NOTE_ID]", got %q`, clip(s))
	}
	return NoteName{Parent: p, ID: id}, nil
}

// ParseOccurrenceName parses "projects/P/occurrences/O" or
// "projects/P/locations/L/occurrences/O". An id that this service cannot have
// given, such as "o1", is well-formed and NotFound.
func ParseOccurrenceName(s string) (OccurrenceName, error) {
	n, err := parseOccurrenceForm(s)
	if err == nil && n.ID.IsZero() {
		return OccurrenceName{}, occurrenceMissing(s)
	}
	return n, err
}

// parseOccurrenceForm is ParseOccurrenceName, with the zero ID for one that this
// service cannot have given.
func parseOccurrenceForm(s string) (OccurrenceName, error) {
	p, rest, ok := cutParent(s)
	text, isOccurrence := strings.CutPrefix(rest, "occurrences/")
	if !ok || !isOccurrence || !validSegment(text) {
		return OccurrenceName{}, Errorf(InvalidArgument, `occurrence name must be in the form "projects/[PROJECT_ID]/occurrences/[OCCURRENCE_ID]", got %q`, clip(s))
	}
	id, _ := parseID(text)
	return OccurrenceName{Parent: p, ID: id}, nil
}

// cutParent splits a name into its parent and what follows the slash after it.
func cutParent(s string) (p Parent, rest string, ok bool) {
	s, ok = strings.CutPrefix(s, "projects/")
	if !ok {
		return Parent{}, "", false
	}
	p.Project, rest, _ = strings.Cut(s, "/")
	if !validSegment(p.Project) {
		return Parent{}, "", false
	}
	if after, found := strings.CutPrefix(rest, "locations/"); found {
		p.Location, rest, _ = strings.Cut(after, "/")
		if !validSegment(p.Location) {
			return Parent{}, "", false
		}
	}
	// "projects/p/" must not pass for "projects/p".
	if rest == "" && len(s) > 0 && s[len(s)-1] == '/' {
		return Parent{}, "", false
	}
	return p, rest, true
}

// validSegment reports whether s can be one segment of a name: any text without
// a slash and what cannot be seen, such as marks that reverse how a name is read.
// "." and ".." would not survive a URL path, and "*" could not be filtered by.
func validSegment(s string) bool {
	if s == "" || len(s) > maxSegment || s == "." || s == ".." || !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r == '/' || r == '*' || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
	})
}

// clip shortens text from outside before it goes into an error.
func clip(s string) string {
	const most = 300
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
