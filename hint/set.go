package hint

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/image"
)

// MaxHints bounds the hints of a [Set]. Whoever signs more has made a mistake.
const MaxHints = 200_000

// A Set has verified hints, each by the name of what it was filed as. It is safe for
// concurrent use; its zero value is empty.
type Set struct {
	mu   sync.RWMutex
	list map[series][]filed
	of   map[string]series // by what it was filed as
	// reached is the highest number that was seen of each, whatever became of it.
	reached map[series]uint64
	// paths are the series of paths that were ever hinted, without their digests.
	paths map[series]bool
}

// A series are the hints that are numbered together.
type series struct {
	name    Name
	cluster string
	// digest is for a path, under which several may be meant to run.
	digest image.Digest
}

type filed struct {
	as string
	Hint
}

func seriesOf(h *Hint) series {
	s := series{name: h.Name, cluster: h.Cluster}
	if h.Name.form == Directory {
		s.digest = h.Digest
	}
	return s
}

// Put files a hint in place of what was filed as the same before. It reports false if
// there is no room.
func (s *Set) Put(as string, h Hint) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(as)
	if len(s.of) >= MaxHints {
		return false
	}
	s.begin()
	in := seriesOf(&h)
	s.of[as] = in
	hints := append(s.list[in], filed{as, h})
	slices.SortFunc(hints, func(a, b filed) int { return newer(&a.Hint, &b.Hint) })
	s.list[in] = hints
	s.reach(in, h.Sequence)
	return true
}

func (s *Set) begin() {
	if s.list == nil {
		s.list, s.of, s.reached, s.paths = make(map[series][]filed), make(map[string]series), make(map[series]uint64), make(map[series]bool)
	}
}

func (s *Set) reach(in series, sequence uint64) {
	s.reached[in] = max(s.reached[in], sequence)
	if in.name.form == Directory {
		s.paths[series{name: in.name, cluster: in.cluster}] = true
	}
}

// Remove takes out what was filed. The number that it had stays reached: with the hint
// gone its name stands for nothing, until one with a higher number is filed.
func (s *Set) Remove(as string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(as)
}

func (s *Set) remove(as string) {
	in, ok := s.of[as]
	if !ok {
		return
	}
	delete(s.of, as)
	s.list[in] = slices.DeleteFunc(s.list[in], func(f filed) bool { return f.as == as })
}

// All returns the hints, as [Sorted] does.
func (s *Set) All() []Hint {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []Hint
	for _, hints := range s.list {
		for i := range hints {
			all = append(all, hints[i].Hint)
		}
	}
	return Sorted(all)
}

// Reached returns the highest number of a name in a cluster, 0 if there is none. Of a
// path it is that of a digest.
func (s *Set) Reached(h Hint) uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.reached[seriesOf(&h)]
}

// A Standing tells what there is about a reference.
type Standing uint8

// The standings.
const (
	// Unhinted: no hint was ever about it.
	Unhinted Standing = iota
	// Withdrawn: the one with the highest number was deleted.
	Withdrawn
	// Elsewhere: hints permit other digests in its path, and not its own.
	Elsewhere
	// Stands: a hint says what is meant to run, if it is its time and no revocation.
	Stands
)

// A Finding is what hints say of a reference.
type Finding struct {
	Standing Standing
	// Name and Sequence are of the hint that counts, or would if it were there. Of
	// Elsewhere it is the name of the path alone.
	Name     Name
	Sequence uint64
	// Hint is the one that counts, if it stands, and As what it was filed as.
	Hint Hint
	As   string
}

// About returns what the narrowest name that fits says of a reference in a cluster,
// LOCATION.NAME or "". The hints for its path count, for the digest that it has, if none
// was ever about a narrower name.
func (s *Set) About(r image.Reference, cluster string) Finding {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if f, ok := s.resolve(r, cluster); ok {
		return f
	}
	dir := directoryOf(r)
	for _, in := range places(dir, cluster) {
		in.digest = r.Digest()
		if f, ok := s.current(in); ok {
			return f
		}
	}
	for _, in := range places(dir, cluster) {
		if s.paths[in] {
			return Finding{Standing: Elsewhere, Name: dir}
		}
	}
	return Finding{}
}

func (s *Set) resolve(r image.Reference, cluster string) (Finding, bool) {
	for _, name := range narrower(r) {
		for _, in := range places(name, cluster) {
			if f, ok := s.current(in); ok {
				return f, true
			}
		}
	}
	return Finding{}, false
}

// current returns what a series stands for: its highest number, or nothing. It reports
// whether there ever was a hint.
func (s *Set) current(in series) (Finding, bool) {
	reached, ok := s.reached[in]
	if !ok {
		return Finding{}, false
	}
	f := Finding{Standing: Withdrawn, Name: in.name, Sequence: reached}
	if hints := s.list[in]; len(hints) > 0 && hints[0].Sequence >= reached {
		f.Standing, f.Hint, f.As = Stands, hints[0].Hint, hints[0].as
	}
	return f, true
}

// A Resolution says what is meant to run under a reference.
type Resolution struct {
	// Digest is it; zero if nothing is, or nothing is hinted.
	Digest image.Digest
	Finding
	// Why says why there is no digest, in words for a person.
	Why string
}

// Resolve returns what is meant to run under a reference in a cluster, LOCATION.NAME or
// "". A reference with a digest is resolved as its name and tag are. Hints for a path
// resolve nothing.
func (s *Set) Resolve(r image.Reference, cluster string, now time.Time) Resolution {
	s.mu.RLock()
	defer s.mu.RUnlock()
	f, ok := s.resolve(r, cluster)
	res := Resolution{Finding: f}
	switch {
	case !ok:
		res.Why = "no rollout hint is about it"
	case f.Standing == Withdrawn:
		res.Why = fmt.Sprintf("rollout hint %d for %s was deleted, and none has taken its place", f.Sequence, f.Name)
	default:
		if res.Why = f.Hint.Idle(now); res.Why == "" {
			res.Digest = f.Hint.Digest
		}
	}
	return res
}

// Idle says why a hint stands for nothing at a time, "" if it does.
func (h *Hint) Idle(now time.Time) string {
	switch {
	case h.IssuedAt.After(now.Add(Leeway)):
		return fmt.Sprintf("rollout hint %d for %s begins at %s", h.Sequence, h.Name, h.IssuedAt.UTC().Format(time.RFC3339))
	case !h.ExpiresAt.After(now):
		return fmt.Sprintf("rollout hint %d for %s has ended at %s", h.Sequence, h.Name, h.ExpiresAt.UTC().Format(time.RFC3339))
	case h.Revoked:
		return fmt.Sprintf("rollout hint %d revokes what was meant to run under %s", h.Sequence, h.Name)
	}
	return ""
}

// places are the series of a name that count in a cluster, its own first.
func places(name Name, cluster string) []series {
	if cluster == "" {
		return []series{{name: name}}
	}
	return []series{{name: name, cluster: cluster}, {name: name}}
}

// narrower returns the names that resolve a reference, the narrowest first.
func narrower(r image.Reference) []Name {
	var names []Name
	if !r.Digest().IsZero() {
		names = append(names, Name{form: Digest, repository: r.Repository(), digest: r.Digest()})
	}
	if tag := string(r.Tag()); tag != "" {
		names = append(names, Name{form: Tag, repository: r.Repository(), tag: tag})
		for n := len(tag); n > 0; n-- {
			names = append(names, Name{form: TagPrefix, repository: r.Repository(), tag: tag[:n]})
		}
	}
	return append(names, Name{form: Bare, repository: r.Repository()})
}

func directoryOf(r image.Reference) Name {
	repository := r.Repository()
	i := strings.LastIndexByte(repository, '/') // there is one, after the registry
	return Name{form: Directory, repository: repository[:i]}
}

// An Entry is a hint as a [Set] keeps it. Of one without As only the number is left: it
// was taken out.
type Entry struct {
	As string
	Hint
}

// Entries returns all that a set knows, so that another can be made of it.
func (s *Set) Entries() []Entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []Entry
	for in, reached := range s.reached {
		hints := s.list[in]
		for i := range hints {
			all = append(all, Entry{hints[i].as, hints[i].Hint})
		}
		if len(hints) == 0 || hints[0].Sequence < reached {
			all = append(all, Entry{Hint: Hint{Name: in.name, Cluster: in.cluster, Digest: in.digest, Sequence: reached}})
		}
	}
	return all
}

// Restore adds entries. It reports false if there is no room for all.
func (s *Set) Restore(entries []Entry) bool {
	all := true
	for i := range entries {
		e := &entries[i]
		if e.As != "" {
			all = s.Put(e.As, e.Hint) && all
			continue
		}
		s.mu.Lock()
		s.begin()
		s.reach(seriesOf(&e.Hint), e.Sequence)
		s.mu.Unlock()
	}
	return all
}

// Numbers returns the entries of which only the numbers are kept: those of all hints that
// there ever were.
func (s *Set) Numbers() []Entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]Entry, 0, len(s.reached))
	for in, reached := range s.reached {
		all = append(all, Entry{Hint: Hint{Name: in.name, Cluster: in.cluster, Digest: in.digest, Sequence: reached}})
	}
	return all
}
