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
	exact map[string][]int
}

// prefixes are patterns by what they begin with.
type prefixes struct {
	byText  map[string][]int
	lengths []int // that occur, ascending
}

// NewPatternSet returns a set of the patterns, which it keeps in their order.
func NewPatternSet(patterns []Pattern) *PatternSet {
	s := &PatternSet{patterns: patterns, equal: map[string]int{}, exact: map[string][]int{}}
	for i, p := range patterns {
		switch p.match {
		case textEqual:
			if _, ok := s.equal[p.prefix]; !ok {
				s.equal[p.prefix] = i
			}
		case textPrefix, textDirPrefix:
			s.texts.add(p.prefix, i)
		case namePrefix, nameDirPrefix:
			s.names.add(p.prefix, i)
		case nameEqual:
			s.exact[p.prefix] = append(s.exact[p.prefix], i)
		}
	}
	return s
}

func (p *prefixes) add(prefix string, i int) {
	if p.byText == nil {
		p.byText = map[string][]int{}
	}
	if at, found := slices.BinarySearch(p.lengths, len(prefix)); !found {
		p.lengths = slices.Insert(p.lengths, at, len(prefix))
	}
	p.byText[prefix] = append(p.byText[prefix], i)
}

// Match returns the index of the first pattern that covers the reference as
// written, or -1.
func (s *PatternSet) Match(ref string) int {
	best := -1
	better := func(i int) bool { return best < 0 || i < best }
	if i, ok := s.equal[ref]; ok {
		best = i
	}
	s.texts.each(ref, func(i int) {
		if better(i) && s.patterns[i].Match(ref) {
			best = i
		}
	})
	if len(s.names.lengths) == 0 && len(s.exact) == 0 {
		return best
	}
	r, err := Parse(ref)
	if err != nil {
		return best
	}
	consider := func(i int) {
		if better(i) && s.patterns[i].matchParts(r) {
			best = i
		}
	}
	s.names.each(r.name, consider)
	for _, i := range s.exact[r.name] {
		consider(i)
	}
	return best
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
