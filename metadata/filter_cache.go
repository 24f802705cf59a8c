package metadata

import (
	"container/list"
	"strings"
	"sync"
)

// Bounds on the filters that are kept. Most filters name another image each time
// and are never asked again; those of pages and of pollers are, within seconds.
const (
	maxCachedFilters     = 1024
	maxCachedFilterBytes = 4 << 20
	// A compiled filter takes some 10 times its text: a short term of 20 bytes is
	// a node of 100 and its share of the path. See BenchmarkFilterParse.
	filterBytesPerByte = 10
	filterBytesAtLeast = 1 << 10
)

// A filterCache keeps the filters that were parsed last. It is safe for
// concurrent use; the nil cache keeps none.
type filterCache struct {
	mu      sync.Mutex
	entries map[filterKey]*list.Element // of *filterEntry
	order   list.List                   // the one used last is in front
	bytes   int
}

// A filterKey is what a filter's meaning depends on.
type filterKey struct{ schema, text string }

type filterEntry struct {
	key    filterKey
	filter *filter
}

func entryOf(value any) *filterEntry {
	entry, _ := value.(*filterEntry) // the list holds nothing else
	return entry
}

func newFilterCache() *filterCache { return &filterCache{entries: map[filterKey]*list.Element{}} }

// parse returns the filter of a text, nil if it is empty.
func (c *filterCache) parse(s schema, text string) (*filter, error) {
	if err := checkFilterSize(text); err != nil {
		return nil, err
	}
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	if root, ok := s.conjunction(text); ok {
		return &filter{text, s, root}, nil // as fast as looking it up
	}
	key := filterKey{s.name, text}
	if f := c.get(key); f != nil {
		return f, nil
	}
	root, err := s.compile(text)
	if err != nil {
		return nil, err
	}
	f := &filter{text, s, root}
	c.put(key, f)
	return f, nil
}

func (c *filterCache) get(key filterKey) *filter {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		return nil
	}
	c.order.MoveToFront(e)
	return entryOf(e.Value).filter
}

// put keeps a filter, and drops those used longest ago to make room.
func (c *filterCache) put(key filterKey, f *filter) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[key]; ok {
		return // somebody else was faster
	}
	c.entries[key] = c.order.PushFront(&filterEntry{key, f})
	c.bytes += key.cost()
	for len(c.entries) > maxCachedFilters || c.bytes > maxCachedFilterBytes {
		oldest := entryOf(c.order.Remove(c.order.Back()))
		delete(c.entries, oldest.key)
		c.bytes -= oldest.key.cost()
	}
}

// cost estimates what a kept filter takes.
func (k filterKey) cost() int { return filterBytesAtLeast + filterBytesPerByte*len(k.text) }

// conjunction compiles what nearly all clients send without the parser, at tens of
// times its speed: FIELD="VALUE" terms joined by AND, on fields that all
// rows have. Whatever else there is, or is wrong, it leaves to the parser.
func (s *schema) conjunction(text string) (node, bool) {
	var root node
	at := 0
	for range maxFilterTerms {
		n, end, ok := s.plainTerm(text, at)
		if !ok {
			return nil, false
		}
		if root == nil {
			root = n
		} else {
			root = andNode{root, n}
		}
		if end == len(text) {
			return root, true
		}
		rest, ok := strings.CutPrefix(strings.TrimLeft(text[end:], " "), "AND ")
		if !ok || text[end] != ' ' {
			return nil, false
		}
		at = len(text) - len(strings.TrimLeft(rest, " "))
	}
	return nil, false
}

// plainTerm compiles the FIELD="VALUE" at a place, and returns where it ends.
func (s *schema) plainTerm(text string, at int) (n factNode, end int, ok bool) {
	name := text[at:]
	if i := strings.IndexAny(name, " ="); i >= 0 {
		name = name[:i]
	}
	f, ok := s.known(name)
	if !ok {
		return n, 0, false
	}
	rest, ok := strings.CutPrefix(strings.TrimLeft(text[at+len(name):], " "), "=")
	if !ok {
		return n, 0, false
	}
	rest, ok = strings.CutPrefix(strings.TrimLeft(rest, " "), `"`)
	if !ok {
		return n, 0, false
	}
	value, rest, ok := strings.Cut(rest, `"`)
	if !ok || strings.ContainsAny(value, "\\\r") { // the parser rewrites both
		return n, 0, false
	}
	n, err := s.fact(term{at, name}, f, opEqual, value)
	return n, len(text) - len(rest), err == nil
}
