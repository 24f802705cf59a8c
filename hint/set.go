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
	if s.list == nil {
		s.list, s.of, s.reached, s.paths = make(map[series][]filed), make(map[string]series), make(map[series]uint64), make(map[series]bool)
	}
	in := seriesOf(&h)
	s.of[as] = in
	hints := append(s.list[in], filed{as, h})
	slices.SortFunc(hints, func(a, b filed) int { return newer(&a.Hint, &b.Hint) })
	s.list[in] = hints
	s.reached[in] = max(s.reached[in], h.Sequence)
	if h.Name.form == Directory {
		s.paths[series{name: h.Name, cluster: h.Cluster}] = true
	}
	return true
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

// A Resolution says what is meant to run under a reference.
type Resolution struct {
	// Digest is it; zero if nothing is, or nothing is hinted.
	Digest image.Digest
	// Hint is the one that says so, if any.
	Hint *Hint
	// Why says why there is no digest, in words for a person.
	Why string
}

// Resolve returns what is meant to run under a reference in a cluster, LOCATION.NAME or
// "". A reference with a digest is resolved as its name and tag are.
func (s *Set) Resolve(r image.Reference, cluster string, now time.Time) Resolution {
	s.mu.RLock()
	defer s.mu.RUnlock()
	res, _ := s.resolve(r, cluster, now)
	return res
}

// resolve reports whether anything was ever hinted, too.
func (s *Set) resolve(r image.Reference, cluster string, now time.Time) (res Resolution, hinted bool) {
	for _, name := range narrower(r) {
		for _, in := range places(name, cluster) {
			if reached, ok := s.reached[in]; ok {
				return s.current(in, reached, now), true
			}
		}
	}
	return Resolution{Why: "no rollout hint is about it"}, false
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

// current returns what a series stands for: its highest number, or nothing.
func (s *Set) current(in series, reached uint64, now time.Time) Resolution {
	hints := s.list[in]
	if len(hints) == 0 || hints[0].Sequence < reached {
		return Resolution{Why: fmt.Sprintf("rollout hint %d for %s was deleted, and none has taken its place", reached, in.name)}
	}
	h := hints[0].Hint
	res := Resolution{Hint: &h}
	switch {
	case h.IssuedAt.After(now.Add(Leeway)):
		res.Why = fmt.Sprintf("rollout hint %d for %s begins at %s", h.Sequence, in.name, h.IssuedAt.Format(time.RFC3339))
	case !h.ExpiresAt.After(now):
		res.Why = fmt.Sprintf("rollout hint %d for %s has ended at %s", h.Sequence, in.name, h.ExpiresAt.Format(time.RFC3339))
	case h.Revoked:
		res.Why = fmt.Sprintf("rollout hint %d revokes what was meant to run under %s", h.Sequence, in.name)
	default:
		res.Digest = h.Digest
	}
	return res
}

// A Verdict says how a digest relates to what is hinted.
type Verdict uint8

// The verdicts. The zero Verdict is that it is not what is meant to run.
const (
	// Other means that another digest is meant to run, or none.
	Other Verdict = iota
	// Unhinted means that no hint is about the reference.
	Unhinted
	// Meant means that it is what is meant to run.
	Meant
)

// Judge tells whether the digest of a reference is the one that is meant to run under
// it, and if it is not, why. A reference without a digest is never it. Hints for its path
// count if none is about a narrower name.
func (s *Set) Judge(r image.Reference, cluster string, now time.Time) (Verdict, string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	res, hinted := s.resolve(r, cluster, now)
	switch {
	case hinted && !res.Digest.IsZero() && res.Digest == r.Digest():
		return Meant, ""
	case hinted && !res.Digest.IsZero():
		return Other, fmt.Sprintf("rollout hint %d for %s says that %s is meant to run", res.Hint.Sequence, res.Hint.Name, res.Digest)
	case hinted:
		return Other, res.Why
	}
	return s.permits(r, cluster, now)
}

// permits judges by the hints for the path of a reference.
func (s *Set) permits(r image.Reference, cluster string, now time.Time) (Verdict, string) {
	dir := directoryOf(r)
	for _, in := range places(dir, cluster) {
		in.digest = r.Digest()
		if reached, ok := s.reached[in]; ok {
			res := s.current(in, reached, now)
			if res.Digest.IsZero() {
				return Other, res.Why
			}
			return Meant, ""
		}
	}
	for _, in := range places(dir, cluster) {
		if s.paths[in] {
			return Other, fmt.Sprintf("rollout hints for %s name other digests", dir)
		}
	}
	return Unhinted, "no rollout hint is about it"
}

func directoryOf(r image.Reference) Name {
	repository := r.Repository()
	i := strings.LastIndexByte(repository, '/') // there is one, after the registry
	return Name{form: Directory, repository: repository[:i]}
}
