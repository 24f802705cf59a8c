package suggest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy/names"
)

// A form is a kind of pattern.
type form uint8

const (
	none    form = iota // what groups others and is no pattern
	exact               // the text itself
	tags                // NAME:*
	digests             // NAME@sha256:*
	folder              // PATH/*
	tree                // PATH/**
)

// The prices of patterns: how much each lets in beside what was seen, in half lines of
// an allow-list. So the tags of one image are worth a wildcard from the third on, a
// path from the fourth image with a wildcard of its own, and a tree from the second
// such path. In a registry where everyone may have a place, paths are somebody else's
// until told otherwise, and cost twice as much.
const (
	priceExact  = 2
	priceTags   = 5
	priceFolder = 16
	priceTree   = 30
)

func (f form) reach() Reach {
	switch f {
	case tags, digests:
		return ReachTag
	case folder:
		return ReachFolder
	case tree:
		return ReachTree
	}
	return ReachNone
}

// A node is a pattern that could be chosen, and includes those of its children.
type node struct {
	form form
	// prefix is what stands before the wildcard, or all of an exact text.
	prefix string
	// open is set if the pattern may be chosen, at this price.
	open     bool
	price    int
	children []*node
}

// text returns the pattern.
func (n *node) text() string {
	switch n.form {
	case tags, digests, folder:
		return n.prefix + "*"
	case tree:
		return n.prefix + "**"
	}
	return n.prefix
}

// all appends the images below a node.
func (n *node) all(list []string) []string {
	if n.form == exact {
		return append(list, n.prefix)
	}
	for _, c := range n.children {
		list = c.all(list)
	}
	return list
}

// newTree returns the tree of all patterns for some images. open says which of them
// may be chosen; those that would stand directly behind a host never are.
func newTree(images []string, open func(*node) bool) (*node, error) {
	b := builder{nodes: map[string]*node{}, open: open}
	root := &node{}
	for _, text := range slices.Compact(slices.Sorted(slices.Values(images))) {
		ref, err := image.Parse(text)
		if err != nil {
			return nil, err
		}
		b.add(root, text, ref)
	}
	return root, nil
}

type builder struct {
	nodes map[string]*node // by the texts of their patterns, and "host/" for hosts
	open  func(*node) bool
}

func (b *builder) add(root *node, text string, ref image.Reference) {
	at := root
	name := ref.Name()
	// A host alone is grouped by, and never a pattern.
	start := hostLength(name)
	for i := start; ; i++ {
		next := strings.IndexByte(name[i:], '/')
		if next < 0 {
			break
		}
		i += next
		at = b.child(at, tree, name[:i+1])
	}
	if at != root {
		at = b.child(at, folder, at.prefix)
	}
	switch {
	case ref.Tag() != "":
		at = b.child(at, tags, name+":")
	case !ref.Digest().IsZero():
		at = b.child(at, digests, name+"@sha256:")
	}
	b.child(at, exact, text)
}

func (b *builder) child(parent *node, f form, prefix string) *node {
	n := &node{form: f, prefix: prefix}
	if known := b.nodes[n.text()]; known != nil {
		return known
	}
	n.price = priceOf(f, prefix)
	n.open = b.open(n)
	b.nodes[n.text()] = n
	parent.children = append(parent.children, n)
	return n
}

// hostLength returns the length of the registry host that a name begins with and the
// "/" after it, 0 without one. A name has no host by the rule that package image has.
func hostLength(name string) int {
	host, _, more := strings.Cut(name, "/")
	if more && (strings.ContainsAny(host, ".:") || host == "localhost") {
		return len(host) + 1
	}
	return 0
}

func priceOf(f form, prefix string) int {
	price := 0
	switch f {
	case exact:
		return priceExact
	case tags, digests:
		return priceTags
	case folder:
		price = priceFolder
	case tree:
		price = priceTree
	}
	if isShared(prefix) {
		return 2 * price
	}
	return price
}

// isShared reports whether a name is of a registry where everyone may have a place, as
// Docker Hub is, which names without a host are of.
func isShared(name string) bool {
	n := hostLength(name)
	return n == 0 || names.IsSharedRegistry(strings.ToLower(name[:n-1]))
}

// cheapest returns the patterns with the least price that cover every image; if most
// is positive, of those that are at most as many. Of equal prices it takes the
// narrower patterns.
func (n *node) cheapest(most int) ([]*node, error) {
	chosen, _ := n.solve()
	if chosen == nil && len(n.children) > 0 {
		return nil, fmt.Errorf("no pattern may be proposed that covers %q", n.all(nil)[0])
	}
	if most == 0 || len(chosen) <= most {
		return chosen, nil
	}
	p := newPlan(n, most)
	if p.prices[len(p.prices)-1] >= impossible {
		return nil, fmt.Errorf("at least %d patterns are needed to cover every image, and at most %d may be proposed", n.fewest(), most)
	}
	return p.choose(most, nil), nil
}

// solve returns the cheapest patterns and what they cost; nil and impossible if images
// are left that none may cover.
func (n *node) solve() ([]*node, int) {
	var chosen []*node
	sum := 0
	if len(n.children) == 0 && n.form != none {
		sum = impossible
	}
	for _, c := range n.children {
		below, price := c.solve()
		chosen, sum = append(chosen, below...), min(sum+price, impossible)
	}
	if n.open && n.price < sum {
		return []*node{n}, n.price
	}
	if sum == impossible {
		return nil, impossible
	}
	return chosen, sum
}

// fewest returns how many patterns are needed at least.
func (n *node) fewest() int {
	if n.open {
		return 1
	}
	sum := 0
	for _, c := range n.children {
		sum += c.fewest()
	}
	return sum
}

// impossible is a price that no choice has.
const impossible = 1 << 40

// A plan has the least prices for any number of patterns: of one node, of what is
// below it, or of two plans together.
type plan struct {
	node *node
	// prices[k] is the least price with at most k patterns.
	prices []int
	// below is the plan for a node's children, first and second what a plan joins.
	below, first, second *plan
}

// newPlan makes the plan of a node with at most most patterns.
func newPlan(n *node, most int) *plan {
	p := &plan{node: n, prices: []int{impossible, impossible}}
	if len(n.children) > 0 {
		p.below = join(n.children, most)
		p.prices = slices.Clone(p.below.prices)
	}
	if n.open {
		for k := 1; k < len(p.prices); k++ {
			p.prices[k] = min(p.prices[k], n.price)
		}
	}
	return p
}

// join makes one plan of many by halves, so that what is kept to go back by grows
// little faster than their number.
func join(nodes []*node, most int) *plan {
	if len(nodes) == 1 {
		return newPlan(nodes[0], most)
	}
	half := len(nodes) / 2
	a, b := join(nodes[:half], most), join(nodes[half:], most)
	p := &plan{first: a, second: b, prices: make([]int, min(len(a.prices)+len(b.prices)-1, most+1))}
	for k := range p.prices {
		p.prices[k] = impossible
		for i := max(0, k-len(b.prices)+1); i <= min(k, len(a.prices)-1); i++ {
			p.prices[k] = min(p.prices[k], a.prices[i]+b.prices[k-i])
		}
	}
	return p
}

// choose appends the patterns that cost prices[k].
func (p *plan) choose(k int, list []*node) []*node {
	k = min(k, len(p.prices)-1)
	if p.first != nil {
		for i := max(0, k-len(p.second.prices)+1); i <= min(k, len(p.first.prices)-1); i++ {
			if p.first.prices[i]+p.second.prices[k-i] == p.prices[k] {
				return p.second.choose(k-i, p.first.choose(i, list))
			}
		}
	}
	if p.below != nil && p.below.prices[min(k, len(p.below.prices)-1)] == p.prices[k] {
		return p.below.choose(k, list)
	}
	return append(list, p.node)
}
