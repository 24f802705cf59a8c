// Package suggest proposes policies of Binary Authorization from what was seen to
// run, and finds what such a policy no longer needs. It is pure: images, evidence and
// policies are given to it.
//
// [Propose] answers with the cheapest list of patterns that lets in every image that
// attestations do not. A pattern costs the more, the more it lets in beside what was
// seen, so that a wildcard is proposed only where it stands for several narrower
// patterns:
//
//	reg/path/app:1.4        the text itself
//	reg/path/app:*          every tag of the image
//	reg/path/app@sha256:*   every digest of it
//	reg/path/*              every image directly in the path
//	reg/path/**             … and below it
//
// No wildcard is proposed directly behind a registry's host, and none before a "/".
// The patterns that could be chosen lie in a tree, where each either includes another
// one or has nothing in common with it, so that the cheapest choice is found exactly
// and not searched for.
//
// [Tighten] goes the other way: it names the patterns, rules and attestors of a policy
// that nothing seen needs, and narrower patterns for those that are wider than what was
// seen. The result lets in the same images of those that were seen, and nothing that
// the policy did not.
package suggest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/image"
)

// Reach says how far the wildcards of proposed patterns may reach. The zero Reach
// allows none.
type Reach int

// The reaches. Each allows what those before it do.
const (
	ReachNone   Reach = iota // no wildcard: the texts that were seen
	ReachTag                 // the tags, or the digests, of one image
	ReachFolder              // the images directly in one path
	ReachTree                // … and below it
)

// reachNames are the words of the command line.
var reachNames = [...]string{ReachNone: "none", ReachTag: "tag", ReachFolder: "dir", ReachTree: "tree"}

// ReachWords are the words of [ParseReach].
func ReachWords() []string { return slices.Clone(reachNames[:]) }

// String returns "none", "tag", "dir" or "tree".
func (r Reach) String() string {
	if r < 0 || int(r) >= len(reachNames) {
		return reachNames[ReachNone]
	}
	return reachNames[r]
}

// ParseReach reads one of [ReachWords].
func ParseReach(word string) (Reach, error) {
	if i := slices.Index(reachNames[:], word); i >= 0 {
		return Reach(i), nil
	}
	return ReachNone, fmt.Errorf("%.50q: want %s", word, strings.Join(reachNames[:], ", "))
}

// Options steer what is proposed.
type Options struct {
	// Wildcards is how far patterns may reach.
	Wildcards Reach
	// MaxPatterns bounds their number; 0 does not.
	MaxPatterns int
}

// A Pattern is one that is proposed.
type Pattern struct {
	// Pattern is the text of a namePattern.
	Pattern string `json:"pattern"`
	// Images are those that were seen and need it, sorted.
	Images []string `json:"images"`
	// AlsoAdmits says what it lets in beside them.
	AlsoAdmits string `json:"alsoAdmits"`
	// Denied are images that were seen to be denied, and that it would let in; at most
	// 5 of DeniedCount.
	Denied      []string `json:"denied,omitempty"`
	DeniedCount int      `json:"deniedCount,omitempty"`
	// Warnings say why to think twice.
	Warnings []string `json:"warnings,omitempty"`
}

// Careful returns all that makes one think twice: the warnings, and the images that were
// denied.
func (p *Pattern) Careful() []string {
	list := slices.Clone(p.Warnings)
	switch {
	case p.DeniedCount == 1:
		list = append(list, fmt.Sprintf("this would let in %s, which was denied", p.Denied[0]))
	case p.DeniedCount > 1:
		list = append(list, fmt.Sprintf("this would let in %d images that were denied, such as %s", p.DeniedCount, p.Denied[0]))
	}
	return list
}

// maxExamples bounds the denied images that a Pattern names.
const maxExamples = 5

// Patterns returns the cheapest patterns that cover all images, which are references
// as they are written, sorted by their text. The error says which image is no
// reference, or how many patterns are needed at least.
func Patterns(images []string, o Options) ([]Pattern, error) {
	if o.MaxPatterns < 0 {
		return nil, fmt.Errorf("at most %d patterns cannot cover anything", o.MaxPatterns)
	}
	root, err := newTree(images, func(n *node) bool { return n.form.reach() <= o.Wildcards })
	if err != nil {
		return nil, err
	}
	chosen, err := root.cheapest(o.MaxPatterns)
	if err != nil {
		return nil, err
	}
	list := make([]Pattern, len(chosen))
	for i, n := range chosen {
		list[i] = n.proposed()
	}
	slices.SortFunc(list, func(a, b Pattern) int { return strings.Compare(a.Pattern, b.Pattern) })
	return list, nil
}

func (n *node) proposed() Pattern {
	words, warnings := Reaches(n.text())
	images := n.all(nil)
	slices.Sort(images)
	return Pattern{Pattern: n.text(), Images: images, AlsoAdmits: words, Warnings: warnings}
}

// addDenied tells each pattern which of the images that were denied it would let in.
func addDenied(list []Pattern, denied []string) error {
	parsed := make([]image.Pattern, len(list))
	for i := range list {
		var err error
		if parsed[i], err = image.ParseBinauthzPattern(list[i].Pattern); err != nil {
			return err
		}
	}
	set := image.NewPatternSet(parsed)
	for _, text := range denied {
		if _, err := image.Parse(text); err != nil {
			continue // no node can pull it
		}
		if i := set.Match(text); i >= 0 {
			p := &list[i]
			if p.DeniedCount++; len(p.Denied) < maxExamples {
				p.Denied = append(p.Denied, text)
			}
		}
	}
	return nil
}
