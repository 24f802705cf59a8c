package policy

import (
	"iter"
	"maps"
	"slices"
)

// Conditions yields every condition of the policies, and those within.
func (s Set) Conditions() iter.Seq[Condition] {
	return func(yield func(Condition) bool) {
		for r := range s.Rulesets() {
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
	return s.projects(func(c Condition) []string {
		if v, ok := c.(Vulnerabilities); ok {
			return v.Projects
		}
		return nil
	})
}

// NeedsStatements reports whether a check looks at the whole statement of a provenance,
// as custom constraints do.
func (s Set) NeedsStatements() bool {
	for c := range s.Conditions() {
		b, _ := c.(BuiltBy)
		for i := range b.Rules {
			if b.Rules[i].Constraint != nil {
				return true
			}
		}
	}
	return false
}

// Projects returns the ids of all projects that checks look into, in their order.
func (s Set) Projects() []string {
	return s.projects(func(c Condition) []string {
		switch c := c.(type) {
		case Vulnerabilities:
			return c.Projects
		case SignedBy:
			return c.Projects
		case Fresh:
			return c.Projects
		case BuiltBy:
			var list []string
			for i := range c.Rules {
				list = append(list, c.Rules[i].Projects...)
			}
			return list
		}
		return nil
	})
}

func (s Set) projects(of func(Condition) []string) []string {
	all := map[string]bool{}
	for c := range s.Conditions() {
		for _, p := range of(c) {
			all[p] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}
