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

// signers are the keys that may sign an occurrence. Nothing is looked at of one
// whose via is zero.
type signers struct {
	byNote, byProject []*signature.PublicKey
	via               via
}

// of returns the keys for what is filed under a note, in a project ("projects/P").
func (t Trust) of(note, project string) signers {
	var s signers
	if keys := t[note]; keys != nil && isNote(note) {
		s.byNote, s.via = keys, viaNote
	}
	if keys := t[project]; keys != nil {
		s.byProject, s.via = keys, s.via|viaProject
	}
	return s
}

// each calls fn with the keys that match, each once, until it returns false; it
// reports whether there were any.
func (s signers) each(match func(*signature.PublicKey) bool, fn func(trustedKey) bool) (matched bool) {
	for _, k := range s.byNote {
		if !match(k) {
			continue
		}
		matched = true
		if !fn(trustedKey{k, s.why(k)}) {
			return true
		}
	}
	for _, k := range s.byProject {
		if !match(k) || has(s.byNote, k) {
			continue
		}
		matched = true
		if !fn(trustedKey{k, s.why(k)}) {
			return true
		}
	}
	return matched
}

// why tells what a statement by a key counts for. That is what the key is trusted
// with under any id, as in decisions: what is told of an image must not lack the
// statement that one of them rests on.
func (s signers) why(k *signature.PublicKey) (v via) {
	is := func(have *signature.PublicKey) bool { return have.Fingerprint() == k.Fingerprint() }
	if slices.ContainsFunc(s.byNote, is) {
		v |= viaNote
	}
	if slices.ContainsFunc(s.byProject, is) {
		v |= viaProject
	}
	return v
}

func has(keys []*signature.PublicKey, k *signature.PublicKey) bool {
	return slices.ContainsFunc(keys, func(have *signature.PublicKey) bool { return sameKey(have, k) })
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
			if !has(merged, k) {
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
			if !has(have, k) {
				return false
			}
		}
	}
	return true
}

// why returns a function that tells why a statement that was made before may be
// looked at with the keys of t: zero if none of them made it, by the id that it has.
func (t Trust) why() func(*statement) via {
	type grant struct {
		name        string
		fingerprint signature.Fingerprint
	}
	granted := make(map[grant][]string) // the ids
	for name, keys := range t {
		for _, k := range keys {
			g := grant{name, k.Fingerprint()}
			granted[g] = append(granted[g], k.ID())
		}
	}
	return func(s *statement) (v via) {
		c := s.common.Value()
		made, key := c.kind == rejection, c.key.Value()
		look := func(name string, counts via) {
			ids := granted[grant{name, key.fingerprint}]
			made = made || slices.Contains(ids, key.id)
			if len(ids) > 0 || c.kind == rejection && t[name] != nil {
				v |= counts
			}
		}
		if note := c.note.Value(); isNote(note) {
			look(note, viaNote)
		}
		look(s.occurrence().project(), viaProject)
		if !made {
			return 0
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
