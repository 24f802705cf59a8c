package index

import (
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/signature"
)

// Trust says which keys may sign what. Under the name of a note
// (projects/P/notes/N) are those that may sign what is filed under it, by whatever
// project; under the name of a project (projects/P) those that may sign what is
// filed in it or in one of its locations, under whatever note.
type Trust map[string][]*signature.PublicKey

// A via tells why a statement is looked at: a set of the two below.
type via uint8

const (
	viaNote via = 1 << iota
	viaProject
)

// A trustedKey is a key that may sign an occurrence, and why it may.
type trustedKey struct {
	*signature.PublicKey
	via via
}

// of returns the keys that may sign an occurrence of a note that is filed in a
// project, "projects/P", each once; zero via if nothing there is looked at.
func (t Trust) of(note, project string) ([]trustedKey, via) {
	var keys []trustedKey
	var why via
	add := func(name string, v via) {
		list := t[name]
		if list == nil {
			return
		}
		why |= v
		for _, k := range list {
			i := slices.IndexFunc(keys, func(have trustedKey) bool { return sameKey(have.PublicKey, k) })
			if i < 0 {
				keys = append(keys, trustedKey{k, v})
			} else {
				keys[i].via |= v
			}
		}
	}
	if isNote(note) {
		add(note, viaNote)
	}
	add(project, viaProject)
	return keys, why
}

// isNote tells the name of a note from that of a project.
func isNote(name string) bool { return strings.Contains(name, "/notes/") }

// union returns the keys of both, by note and by project.
func union(a, b Trust) Trust {
	both := maps.Clone(b)
	if both == nil {
		both = Trust{}
	}
	for name, keys := range a {
		merged := slices.Clone(both[name])
		for _, k := range keys {
			if !slices.ContainsFunc(merged, func(m *signature.PublicKey) bool { return sameKey(m, k) }) {
				merged = append(merged, k)
			}
		}
		both[name] = merged
	}
	return both
}

// covers reports whether t has all that other has.
func (t Trust) covers(other Trust) bool {
	for name, keys := range other {
		have, named := t[name]
		if !named {
			return false
		}
		for _, k := range keys {
			if !slices.ContainsFunc(have, func(h *signature.PublicKey) bool { return sameKey(h, k) }) {
				return false
			}
		}
	}
	return true
}

// why returns a function that tells why a statement that was made before may be
// looked at with the keys of t: zero if none of them made it.
func (t Trust) why() func(*statement) via {
	type grant struct {
		name string
		key  keyName
	}
	granted := make(map[grant]bool)
	for name, keys := range t {
		for _, k := range keys {
			granted[grant{name, keyName{k.ID(), k.Fingerprint()}}] = true
		}
	}
	return func(s *statement) (v via) {
		note, project := s.note.Value(), s.occurrence.project()
		key := s.key.Value()
		if isNote(note) && (granted[grant{note, key}] || s.kind == rejection && t[note] != nil) {
			v |= viaNote
		}
		if granted[grant{project, key}] || s.kind == rejection && t[project] != nil {
			v |= viaProject
		}
		return v
	}
}

func sameKey(a, b *signature.PublicKey) bool {
	return a == b || a.Fingerprint() == b.Fingerprint() && a.ID() == b.ID()
}

func sameKeys(a, b []*signature.PublicKey) bool {
	return a != nil && slices.EqualFunc(a, b, sameKey)
}

// projectOf returns the project of an occurrence by its name, as "projects/P", or
// "" if that is no name of an occurrence.
func projectOf(occurrence string) string {
	rest, ok := strings.CutPrefix(occurrence, projects)
	if !ok {
		return ""
	}
	id, rest, _ := strings.Cut(rest, "/")
	if after, located := strings.CutPrefix(rest, "locations/"); located {
		if _, rest, ok = strings.Cut(after, "/"); !ok {
			return ""
		}
	}
	if name, ok := strings.CutPrefix(rest, "occurrences/"); !ok || id == "" || name == "" || strings.Contains(name, "/") {
		return ""
	}
	return occurrence[:len(projects)+len(id)]
}
