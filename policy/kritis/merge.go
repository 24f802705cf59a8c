package kritis

import (
	"fmt"

	"github.com/gatehouse-dev/gatehouse/policy/document"
)

// Merge returns the objects of several texts, in their order. It returns nil and an
// error for each object that is in two of them.
func Merge(list ...*Objects) (*Objects, document.Diagnostics) {
	m := merger{all: &Objects{}, first: map[string]Meta{}}
	for _, o := range list {
		if o != nil {
			m.add(o)
		}
	}
	m.found = append(m.found, m.all.crowded()...)
	if m.found.HasErrors() {
		return nil, m.found
	}
	return m.all, nil
}

type merger struct {
	all   *Objects
	first map[string]Meta // by kind and name
	found document.Diagnostics
}

func (m *merger) add(o *Objects) {
	addObjects(m, "ImageSecurityPolicy", &m.all.ImageSecurityPolicies, o.ImageSecurityPolicies, func(p *ImageSecurityPolicy) Meta { return p.Meta })
	addObjects(m, "GenericAttestationPolicy", &m.all.GenericAttestationPolicies, o.GenericAttestationPolicies, func(p *GenericAttestationPolicy) Meta { return p.Meta })
	addObjects(m, "AttestationAuthority", &m.all.AttestationAuthorities, o.AttestationAuthorities, func(a *AttestationAuthority) Meta { return a.Meta })
	addObjects(m, "BuildPolicy", &m.all.BuildPolicies, o.BuildPolicies, func(p *BuildPolicy) Meta { return p.Meta })
	addObjects(m, "VulnzSigningPolicy", &m.all.VulnzSigningPolicies, o.VulnzSigningPolicies, func(p *VulnzSigningPolicy) Meta { return p.Meta })
	switch {
	case o.Config == nil:
	case m.all.Config != nil:
		m.fail(o.Config.Meta, fmt.Sprintf("KritisConfig: there can be only one, and another is at %s", m.all.Config.place()))
	default:
		m.all.Config = o.Config
	}
}

func addObjects[T any](m *merger, kind string, to *[]T, from []T, meta func(*T) Meta) {
	for i := range from {
		this := meta(&from[i])
		id := kind + " " + this.key()
		first, twice := m.first[id]
		switch {
		case twice:
			m.fail(this, fmt.Sprintf("%s is given twice, first at %s", id, first.place()))
		case len(m.first) == MaxObjects:
			m.fail(this, fmt.Sprintf("more than %d objects", MaxObjects))
			return
		default:
			m.first[id] = this
			*to = append(*to, from[i])
		}
	}
}

// maxMergeErrors bounds what is reported: two copies of a directory need no more.
const maxMergeErrors = 100

func (m *merger) fail(at Meta, message string) {
	if len(m.found) < maxMergeErrors {
		m.found = append(m.found, document.Diagnostic{File: at.File, Line: at.Line, Message: message})
	}
}
