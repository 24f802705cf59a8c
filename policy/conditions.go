package policy

import (
	"iter"
	"maps"
	"slices"
)

// Conditions yields every condition of the policies, and those within.
func (s Set) Conditions() iter.Seq[Condition] {
	return func(yield func(Condition) bool) {
		for _, r := range s {
			for i := range r.Rules {
				for j := range r.Rules[i].Checks {
					if !walk(r.Rules[i].Checks[j].Condition, yield) {
						return
					}
				}
			}
		}
	}
}

func walk(c Condition, yield func(Condition) bool) bool {
	if !yield(c) {
		return false
	}
	var inner []Condition
	switch c := c.(type) {
	case AllOf:
		inner = c.Of
	case AnyOf:
		inner = c.Of
	}
	for _, c := range inner {
		if !walk(c, yield) {
			return false
		}
	}
	return true
}

// ScanProjects returns the ids of the projects whose scans the policies look at, in
// their order.
func (s Set) ScanProjects() []string {
	projects := map[string]bool{}
	for c := range s.Conditions() {
		if v, ok := c.(Vulnerabilities); ok {
			for _, p := range v.Projects {
				projects[p] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(projects))
}
