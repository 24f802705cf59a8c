package image

import (
	"slices"
	"strings"
)

// A PatternSet finds the first of many patterns that covers a reference, in time
// that does not grow with their number. The zero PatternSet covers nothing.
type PatternSet struct {
	patterns []Pattern
	// Each map has the least index of the patterns with that text.
	equal map[string]int // of textEqual
	texts prefixes       // of textPrefix and textDirPrefix
	names prefixes       // of namePrefix and nameDirPrefix
	exact map[parts]int  // of nameEqual, but for those of tags that begin so
	tags  prefixes       // of those, by name, ":" and how the tag begins
}

// parts are what a pattern of nameEqual compares.
type parts struct {
	name, tag string
	anyTag    bool
	digest    Digest // zero for any
}

// prefixes are patterns by what they begin with: the first of each matcher.
type prefixes struct {
	byText  map[string][]int
	lengths []int // that occur, ascending
}

// NewPatternSet returns a set of the patterns, which it keeps in their order.
func NewPatternSet(patterns []Pattern) *PatternSet {
	s := &PatternSet{patterns: patterns, equal: map[string]int{}, exact: map[parts]int{}}
	for i, p := range patterns {
		switch {
		case p.match == textEqual:
			first(s.equal, p.prefix, i)
		case p.match == textPrefix || p.match == textDirPrefix:
			s.texts.add(p.prefix, i, patterns)
		case p.match == namePrefix || p.match == nameDirPrefix:
			s.names.add(p.prefix, i, patterns)
		case p.match == nameEqual && p.tagPrefix:
			s.tags.add(p.prefix+":"+p.tag, i, patterns)
		case p.match == nameEqual:
			first(s.exact, parts{p.prefix, p.tag, p.anyTag, p.digest}, i)
		}
	}
	return s
}

// first files i under key unless there is an earlier one.
func first[K comparable](index map[K]int, key K, i int) {
	if _, ok := index[key]; !ok {
		index[key] = i
	}
}

func (p *prefixes) add(prefix string, i int, patterns []Pattern) {
	if p.byText == nil {
		p.byText = map[string][]int{}
	}
	if at, found := slices.BinarySearch(p.lengths, len(prefix)); !found {
		p.lengths = slices.Insert(p.lengths, at, len(prefix))
	}
	for _, j := range p.byText[prefix] {
		if patterns[j].match == patterns[i].match {
			return
		}
	}
	p.byText[prefix] = append(p.byText[prefix], i)
}

// Match returns the index of the first pattern that covers the reference as
// written, or -1.
func (s *PatternSet) Match(ref string) int {
	if len(ref) > maxReference {
		return -1
	}
	best := -1
	consider := func(i int, covers bool) {
		if covers && (best < 0 || i < best) {
			best = i
		}
	}
	if i, ok := s.equal[ref]; ok {
		consider(i, true)
	}
	s.texts.each(ref, func(i int) { consider(i, s.patterns[i].Match(ref)) })
	if len(s.names.lengths) == 0 && len(s.exact) == 0 && len(s.tags.lengths) == 0 {
		return best
	}
	r, err := Parse(ref)
	if err != nil {
		return best
	}
	s.names.each(r.name, func(i int) { consider(i, s.patterns[i].matchParts(r)) })
	if r.tag != "" {
		s.tags.each(r.name+":"+string(r.tag), func(i int) { consider(i, s.patterns[i].matchParts(r)) })
	}
	for _, digest := range [...]Digest{{}, r.digest} {
		for _, p := range [...]parts{{r.name, "", true, digest}, {r.name, string(r.tag), false, digest}} {
			i, ok := s.exact[p]
			consider(i, ok)
		}
	}
	return best
}

// Including returns the index of the first pattern that covers all that the
// pattern of a platform policy covers and is not the same, or -1.
func (s *PatternSet) Including(p Pattern) int {
	best := -1
	consider := func(i int) {
		if (best < 0 || i < best) && s.patterns[i] != p && s.patterns[i].includes(p) {
			best = i
		}
	}
	s.names.each(p.prefix, consider)
	s.tags.each(p.prefix+":"+p.tag, consider)
	for _, digest := range [...]Digest{{}, p.digest} {
		for _, like := range [...]parts{{p.prefix, "", true, digest}, {p.prefix, p.tag, false, digest}} {
			if i, ok := s.exact[like]; ok {
				consider(i)
			}
		}
	}
	return best
}

// includes reports whether p covers all that q does; both are patterns of platform
// policies.
func (p Pattern) includes(q Pattern) bool {
	rest, begins := strings.CutPrefix(q.prefix, p.prefix)
	switch p.match {
	case namePrefix:
		return begins
	case nameDirPrefix:
		return begins && q.match != namePrefix && !strings.Contains(rest, "/")
	}
	switch {
	case p.match != nameEqual || q.match != nameEqual || rest != "" || !begins:
		return false
	case !p.digest.IsZero() && p.digest != q.digest:
		return false
	case p.anyTag:
		return true
	case p.tagPrefix:
		return !q.anyTag && strings.HasPrefix(q.tag, p.tag)
	}
	return !q.anyTag && !q.tagPrefix && q.tag == p.tag
}

// each calls fn with the patterns that begin text.
func (p *prefixes) each(text string, fn func(int)) {
	for _, n := range p.lengths {
		if n > len(text) {
			return
		}
		for _, i := range p.byText[text[:n]] {
			fn(i)
		}
	}
}

// ExactPattern returns a pattern that covers one reference, as it is written, and
// no other; a "*" in it is a character like any other.
func ExactPattern(text string) Pattern {
	if text == "" {
		return Pattern{}
	}
	return Pattern{text: strings.Clone(text), match: textEqual, prefix: text}
}
