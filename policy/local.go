package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
)

// A Local finds the policies of a namespace among those of many, in the same time
// however many there are. A Ruleset that has one stands in a [Set] for those policies;
// asked itself, it denies. It is made by [NewLocal], and is immutable.
type Local struct {
	of        map[string]Set
	elsewhere Set
	nothing   *Ruleset
	all       []*Ruleset
}

// NewLocal returns a Local. The policies of a namespace are those that of has for it, and
// for a namespace that it does not have, those of elsewhere whose [Ruleset].Namespaces it
// is in. Where there are none, nothing speaks.
func NewLocal(of map[string]Set, elsewhere Set, nothing *Ruleset) *Local {
	l := &Local{of: of, elsewhere: elsewhere, nothing: nothing}
	seen := map[*Ruleset]bool{}
	add := func(r *Ruleset) {
		if origin := r.origin; origin != nil {
			r = origin // the same but for what lets images in
		}
		if !seen[r] {
			seen[r] = true
			l.all = append(l.all, r)
		}
	}
	for _, r := range elsewhere {
		add(r)
	}
	for _, namespace := range slices.Sorted(maps.Keys(of)) {
		for _, r := range of[namespace] {
			add(r)
		}
	}
	if nothing != nil {
		add(nothing)
	}
	return l
}

// in appends the policies of a namespace.
func (l *Local) in(namespace string, to Set) Set {
	before := len(to)
	if own, ok := l.of[namespace]; ok {
		to = append(to, own...)
	} else {
		for _, r := range l.elsewhere {
			if r.Namespaces.Cover(namespace) {
				to = append(to, r)
			}
		}
	}
	switch {
	case len(to) > before:
		return to
	case l.nothing == nil:
		return append(to, &Ruleset{}) // which denies
	}
	return append(to, l.nothing)
}

// In returns the policies that are asked about pods of a namespace.
func (s Set) In(namespace string) Set {
	first := slices.IndexFunc(s, func(r *Ruleset) bool { return r != nil && r.Local != nil })
	if first < 0 {
		return s
	}
	found := append(make(Set, 0, len(s)+8), s[:first]...)
	for _, r := range s[first:] {
		if r != nil && r.Local != nil {
			found = r.Local.in(namespace, found)
			continue
		}
		found = append(found, r)
	}
	return found
}

// Rulesets yields every policy, those of all namespaces too, each once.
func (s Set) Rulesets() iter.Seq[*Ruleset] {
	return func(yield func(*Ruleset) bool) {
		for _, r := range s {
			switch {
			case r == nil:
				continue
			case r.Local == nil:
				if !yield(r) {
					return
				}
				continue
			}
			for _, r := range r.Local.all {
				if !yield(r) {
					return
				}
			}
		}
	}
}

// With returns the Ruleset as it is where more images are let in, and what it denies
// may be let in too. It shares all else with the Ruleset.
func (r *Ruleset) With(exempt []Exemption, waived []Waiver) *Ruleset {
	if len(exempt) == 0 && len(waived) == 0 {
		return r
	}
	with := *r
	with.Exempt = slices.Concat(r.Exempt, exempt)
	with.Waived = slices.Concat(r.Waived, waived)
	with.origin = r
	with.Version = versionWith(r.Version, exempt, waived)
	if r.built != nil {
		with.built = &built{exempt: patternsOf(with.Exempt), rules: r.built.rules, others: r.built.others}
	}
	return &with
}

// versionWith identifies a Ruleset with what it was given.
func versionWith(version string, exempt []Exemption, waived []Waiver) string {
	h := sha256.New()
	_, _ = fmt.Fprintln(h, version) // a hash never fails
	for i := range exempt {
		_, _ = fmt.Fprintf(h, "%q %q %q %d\n", exempt[i].Pattern.String(), exempt[i].Origin, exempt[i].Namespaces, exempt[i].Until.Unix())
	}
	for i := range waived {
		_, _ = fmt.Fprintf(h, "waived %q %q %d\n", waived[i].Name, waived[i].Namespaces, waived[i].Until.Unix())
	}
	return hex.EncodeToString(h.Sum(nil))
}

// A Waiver lets in, and records, what a policy denies.
type Waiver struct {
	// Name is whose it is, why, and until when, for people, such as "Exemption shop/moving
	// (ticket 7; until 2026-12-01T00:00:00Z)".
	Name string
	// Namespaces are where it counts.
	Namespaces Namespaces
	// Until is when it ends; the zero time is never.
	Until time.Time
}

// Waives returns the first waiver that counts in the namespace at the time.
func (r *Ruleset) Waives(namespace string, now time.Time) (Waiver, bool) {
	for _, w := range r.Waived {
		if w.Namespaces.Cover(namespace) && counts(w.Until, now) {
			return w, true
		}
	}
	return Waiver{}, false
}

// counts reports whether what ends then counts now.
func counts(until, now time.Time) bool { return until.IsZero() || now.Before(until) }

// maxNamespace bounds the name of a namespace, or how one begins.
const maxNamespace = 63

// Namespaces are names of namespaces, and how such names begin. The zero Namespaces
// cover all.
type Namespaces struct{ listed *listed }

type listed struct {
	only, except namespaceList
	text         string
}

type namespaceList struct {
	names    map[string]bool
	prefixes []string
}

// ParseNamespaces parses lists of names, "team-*" for all that begin so, or "*" for
// all. Only is all namespaces if it is empty.
func ParseNamespaces(only, except []string) (Namespaces, error) {
	var l listed
	var err error
	if l.only, err = parseNamespaces(only); err != nil {
		return Namespaces{}, err
	}
	if l.except, err = parseNamespaces(except); err != nil {
		return Namespaces{}, err
	}
	if l.only.empty() && l.except.empty() {
		return Namespaces{}, nil
	}
	l.text = strings.Join(only, " ") + " but " + strings.Join(except, " ")
	return Namespaces{&l}, nil
}

// String returns the names, or "*" for all.
func (n Namespaces) String() string {
	if n.listed == nil {
		return "*"
	}
	return n.listed.text
}

func parseNamespaces(list []string) (namespaceList, error) {
	var n namespaceList
	for _, text := range list {
		prefix, wild := strings.CutSuffix(text, "*")
		switch {
		case !isNamespace(prefix, wild):
			return n, fmt.Errorf("%.100q: %w", text, errNamespace)
		case wild:
			n.prefixes = append(n.prefixes, prefix)
		default:
			if n.names == nil {
				n.names = map[string]bool{}
			}
			n.names[text] = true
		}
	}
	return n, nil
}

var errNamespace = errors.New(`want the name of a namespace, or how names begin and "*"`)

// isNamespace tells the name of a namespace, or of which wild is set, how one begins.
func isNamespace(s string, wild bool) bool {
	if s == "" {
		return wild
	}
	if len(s) > maxNamespace || s[0] == '-' || !wild && s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// Cover reports whether the namespace is one of them.
func (n Namespaces) Cover(namespace string) bool {
	l := n.listed
	return l == nil || (l.only.empty() || l.only.cover(namespace)) && !l.except.cover(namespace)
}

func (n namespaceList) empty() bool { return len(n.names) == 0 && len(n.prefixes) == 0 }

func (n namespaceList) cover(namespace string) bool {
	return n.names[namespace] || slices.ContainsFunc(n.prefixes, func(p string) bool { return strings.HasPrefix(namespace, p) })
}
