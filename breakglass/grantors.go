package breakglass

import (
	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/keys"
)

const (
	maxGrantorsFile = 1 << 20 // bytes
	maxGrantors     = 500
	maxGrantorKeys  = 20
)

// ParseGrantors reads who may grant:
//
//	grantors:
//	- name: ann
//	  publicKeys:                    # as those of an attestor
//	  - pkixPublicKey: {publicKeyPem: …, signatureAlgorithm: ECDSA_P256_SHA256}
//
// It is nil if there is an error among the diagnostics.
func ParseGrantors(file string, data []byte) ([]Grantor, document.Diagnostics) {
	r := document.New(file)
	grantors := parseGrantors(r, data)
	if r.Erred() {
		return nil, r.Diagnostics()
	}
	return grantors, r.Diagnostics()
}

func parseGrantors(r *document.Reporter, data []byte) []Grantor {
	root := r.Load(data, maxGrantorsFile)
	if root == nil {
		return nil
	}
	f, _ := r.Fields(root, "who may grant break-glass", "grantors")
	list := r.List(f, "grantors")
	switch {
	case len(list) == 0:
		r.Errorf(root.Line, "grantors is missing, or empty")
	case len(list) > maxGrantors:
		r.Errorf(root.Line, "%d grantors, more than the %d allowed", len(list), maxGrantors)
		return nil
	}
	lines := map[string]int{}
	var all []Grantor
	for _, n := range list {
		g, ok := grantor(r, n)
		if !ok {
			continue
		}
		if first := lines[g.Name]; first != 0 {
			r.Errorf(n.Line, "grantor %q is given twice, first at line %d", g.Name, first)
		}
		lines[g.Name] = n.Line
		all = append(all, g)
	}
	return all
}

func grantor(r *document.Reporter, n *yaml.Node) (Grantor, bool) {
	f, _ := r.Fields(n, "grantors", "name", "publicKeys")
	if n.Kind != yaml.MappingNode {
		return Grantor{}, false
	}
	var g Grantor
	if f.Values["name"] == nil {
		r.Errorf(n.Line, "name is missing: who is it?")
		return g, false
	}
	name, ok := r.Scalar(f.Values["name"], "name")
	if !ok || name == "" || len(name) > maxTicket {
		r.Errorf(f.Lines["name"], "name: want 1 to %d bytes", maxTicket)
		return g, false
	}
	g.Name = name
	list := r.List(f, "publicKeys")
	if len(list) == 0 || len(list) > maxGrantorKeys {
		r.Errorf(n.Line, "publicKeys: want 1 to %d keys", maxGrantorKeys)
		return g, false
	}
	for _, n := range list {
		k, _, _ := keys.Public(r, n)
		if k != nil {
			g.Keys = append(g.Keys, k)
		}
	}
	return g, true
}
