package platform

import (
	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/keys"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// googleCloudBuild is the only builder that the API knows.
const googleCloudBuild = "GOOGLE_CLOUD_BUILD"

// A Builder is what a trustedBuilder stands for. The service knows how its builders
// sign; here whoever enforces the policy says it, in a file of builders:
//
//	builders:
//	- name: GOOGLE_CLOUD_BUILD
//	  ids:
//	  - https://cloudbuild.googleapis.com/GoogleHostedWorker
//	  publicKeys:
//	  - id: projects/verified-builder/locations/global/keyRings/attestor/…
//	    pkixPublicKey:
//	      signatureAlgorithm: ECDSA_P256_SHA256
//	      publicKeyPem: |
//	        -----BEGIN PUBLIC KEY-----
//	        …
type Builder struct {
	Name string
	// IDs are how a provenance names the builder; each is a prefix.
	IDs []string
	// Keys are those that he signs provenance with, by the ids that he gives them.
	Keys []*signature.PublicKey
	File string
	Line int
}

func (b *Builder) compile() policy.Builder {
	return policy.Builder{Name: b.Name, IDs: b.IDs, Keys: keys.Compile(b.Keys)}
}

// ParseBuilders parses and checks a file of builders. file is what diagnostics call
// it. The list is nil if there is an error among them.
func ParseBuilders(file string, data []byte) ([]Builder, document.Diagnostics) {
	r := newReporter(file)
	builders := r.builders(data)
	diags := r.Diagnostics()
	if r.Erred() {
		return nil, diags
	}
	return builders, diags
}

func (r *reporter) builders(data []byte) []Builder {
	root := r.Load(data, MaxBuilders)
	if root == nil {
		return nil
	}
	f, ok := r.Fields(root, "file of builders", "builders")
	if !ok {
		return nil
	}
	if f.Values["builders"] == nil {
		r.Errorf(root.Line, "builders is missing")
	}
	list := []Builder{}
	lines := map[string]int{}
	for _, n := range r.List(f, "builders") {
		b := r.builder(n)
		if first := lines[b.Name]; b.Name != "" && first != 0 {
			r.Errorf(b.Line, "builder %.100q is given twice, first at line %d", b.Name, first)
			continue
		}
		lines[b.Name] = b.Line
		list = append(list, b)
	}
	return list
}

func (r *reporter) builder(n *yaml.Node) Builder {
	b := Builder{File: r.File, Line: n.Line}
	f, ok := r.Fields(n, "builders", "name", "ids", "publicKeys")
	if !ok && len(f.Values) == 0 {
		return b
	}
	switch b.Name = r.Text(f, "name"); {
	case f.Values["name"] == nil:
		r.Errorf(n.Line, "builders: name is missing; write %s", googleCloudBuild)
	case b.Name != googleCloudBuild:
		r.Errorf(f.Lines["name"], "name: %.100q is no builder that a policy can trust; the one that is known is %s", b.Name, googleCloudBuild)
	}
	if isEmpty(f.Values["ids"]) {
		r.Errorf(n.Line, "builders: ids is missing; it says how a provenance names the builder")
	}
	for _, t := range r.texts(f, "ids") {
		if t.text == "" {
			r.Errorf(t.line, "ids: an empty id would be every builder")
			continue
		}
		b.IDs = append(b.IDs, t.text)
	}
	lines := map[string]int{}
	for _, n := range r.objects(n, "builders", f, "publicKeys") {
		k := r.builderKey(n)
		if k == nil {
			continue
		}
		if first := lines[k.ID()]; first != 0 {
			r.Errorf(n.Line, "public key %.200q is given twice, first at line %d", k.ID(), first)
			continue
		}
		lines[k.ID()] = n.Line
		b.Keys = append(b.Keys, k)
	}
	return b
}

// builderKey reads a key in the form that attestors have.
func (r *reporter) builderKey(n *yaml.Node) *signature.PublicKey {
	if r.refusesPGP(n) {
		return nil
	}
	f, ok := r.Fields(n, "publicKeys", "comment", "id", "pkixPublicKey")
	if !ok {
		return nil
	}
	_ = r.Text(f, "comment") // for people; it only has to be text
	id := r.Text(f, "id")
	if f.Values["pkixPublicKey"] == nil {
		r.Errorf(n.Line, "publicKeys: pkixPublicKey is missing")
		return nil
	}
	k, _ := keys.WrappedPKIX(r.Reporter, f.Values["pkixPublicKey"], id)
	return k
}
