package kritis

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/names"
	"github.com/gatehouse-dev/gatehouse/signature"
)

func (r *reporter) attestationAuthority(m Meta, f document.Fields) {
	const what = "AttestationAuthority"
	data := f.Values["publicKeyData"]
	a := AttestationAuthority{Meta: m, Released: data != nil}
	a.NoteLine = f.Lines["noteReference"]
	if f.Values["noteReference"] == nil {
		r.Errorf(m.Line, "%s: noteReference is missing", what)
	} else if ref, ok := r.Scalar(f.Values["noteReference"], "noteReference"); ok {
		a.Note = r.note(&a, ref)
	}
	_ = r.Text(f, "privateKeySecretName") // of v0.2.x; not used here
	_ = r.Text(f, "policyType")           // of v0.2.x; nothing ever used it
	switch {
	case data != nil && f.Values["publicKeys"] != nil:
		r.Errorf(f.Lines["publicKeyData"], "%s: publicKeyData is what v0.2.x has in place of publicKeys; give one of them", what)
	case data != nil:
		r.Warnf(f.Lines["publicKeyData"], "%s: publicKeyData is of v0.2.x; it is read as one PGP key of publicKeys", what)
		if k := r.leniently(&a, 0, data, func(r *reporter) *signature.PublicKey { return r.pgpKey(data, "publicKeyData", "") }); k != nil {
			a.Keys = append(a.Keys, k)
		}
	default:
		r.publicKeys(&a, f)
	}
	r.objects.AttestationAuthorities = append(r.objects.AttestationAuthorities, a)
}

// note returns the full name of the note that ref names: projects/P/notes/N, or in
// v0.2.x projects/P or v1alpha1/projects/P, of which the note has the name of the
// authority.
func (r *reporter) note(a *AttestationAuthority, ref string) string {
	name := ref
	if rest, ok := strings.CutPrefix(ref, "providers/"); ok {
		name = "projects/" + rest
		r.Warnf(a.NoteLine, "noteReference: %.200q is a former spelling; write %.200q", ref, name)
	}
	parts := strings.Split(name, "/")
	// v0.2.x never looked at what stands before "projects"; its documents have v1alpha1.
	if len(parts) == 3 && (parts[0] == "v1alpha1" || parts[0] == "v1beta1" || parts[0] == "v1") {
		parts = parts[1:]
	}
	if len(parts) == 2 && parts[0] == "projects" {
		parts = append(parts, "notes", a.Name)
		name = strings.Join(parts, "/")
		a.Released = true
		r.Warnf(a.NoteLine, "noteReference: %.200q is of v0.2.x; it is read as %.300q", ref, name)
	}
	if err := names.CheckResource(name, "projects", "notes"); err != nil {
		r.Errorf(a.NoteLine, "noteReference: %v", err)
		return ""
	}
	if names.IsNumber(parts[1]) {
		r.Errorf(a.NoteLine, "noteReference: %.100q is a project number; write the project's ID", parts[1])
		return ""
	}
	return name
}

func (r *reporter) publicKeys(a *AttestationAuthority, f document.Fields) {
	list := r.List(f, "publicKeys")
	if len(list) > maxKeys {
		r.Errorf(f.Lines["publicKeys"], "%d public keys, more than the %d allowed for an authority", len(list), maxKeys)
		return
	}
	lines := map[signature.Fingerprint]int{}
	for i, n := range list {
		k := r.oneKey(a, i, n)
		if k == nil {
			continue
		}
		if first := lines[k.Fingerprint()]; first != 0 && r.lenient {
			r.Warnf(n.Line, "public key %.200q is given twice, first at line %d", k.ID(), first)
			continue
		} else if first != 0 {
			r.Errorf(n.Line, "public key %.200q is given twice, first at line %d", k.ID(), first)
			continue
		}
		lines[k.Fingerprint()] = n.Line
		a.Keys = append(a.Keys, k)
	}
	if len(list) == 0 {
		r.Warnf(a.Line, "AttestationAuthority %s has no public keys, so that nothing is attested by it", a.key())
	}
}

func (r *reporter) oneKey(a *AttestationAuthority, i int, n *yaml.Node) *signature.PublicKey {
	return r.leniently(a, i, n, func(r *reporter) *signature.PublicKey { return r.publicKey(n) })
}

// leniently reads a key, and where that is wanted leaves it out if it cannot be used.
func (r *reporter) leniently(a *AttestationAuthority, i int, n *yaml.Node, read func(*reporter) *signature.PublicKey) *signature.PublicKey {
	if !r.lenient {
		return read(r)
	}
	alone := &reporter{Reporter: document.New(r.File), objects: r.objects, lenient: true}
	k := read(alone)
	found := alone.Diagnostics()
	why := ""
	for j := range found {
		if found[j].Severity == document.Error && why == "" {
			why = found[j].Message
		}
		found[j].Severity = document.Warning
	}
	if why == "" && k != nil {
		r.Add(found...)
		return k
	}
	id := ""
	if k != nil {
		id = k.ID()
	} else if n.Kind == yaml.MappingNode {
		id = peekText(n, "keyId")
	}
	a.Unusable = append(a.Unusable, UnusableKey{Index: i, ID: id, Why: why})
	r.Warnf(n.Line, "publicKeys[%d] cannot be used: %s", i, why)
	return nil
}

// publicKey reads one key, or reports why it cannot and returns nil.
func (r *reporter) publicKey(n *yaml.Node) *signature.PublicKey {
	const what = "publicKeys"
	f, ok := r.Fields(n, what, "keyType", "KeyType", "keyId", "asciiArmoredPgpPublicKey", "pkixPublicKey")
	if !ok {
		return nil
	}
	r.renamed(f, what, "KeyType", "keyType", "") // which Kritis itself writes
	keyType, id := r.Text(f, "keyType"), r.Text(f, "keyId")
	armor, armored := r.Text(f, "asciiArmoredPgpPublicKey"), f.Values["asciiArmoredPgpPublicKey"]
	pkix := f.Values["pkixPublicKey"]
	switch {
	case keyType == "PGP" && pkix != nil && !isEmpty(pkix):
		r.Errorf(pkix.Line, "%s: a PGP key has no pkixPublicKey", what)
	case keyType == "PGP" && armor == "":
		r.Errorf(n.Line, "%s: a PGP key needs asciiArmoredPgpPublicKey", what)
	case keyType == "PGP":
		return r.pgpKey(armored, "asciiArmoredPgpPublicKey", id)
	case keyType == "PKIX" && armor != "":
		r.Errorf(armored.Line, "%s: a PKIX key has no asciiArmoredPgpPublicKey", what)
	case keyType == "PKIX" && pkix == nil:
		r.Errorf(n.Line, "%s: a PKIX key needs pkixPublicKey", what)
	case keyType == "PKIX":
		return r.pkixKey(pkix, id)
	default:
		r.Errorf(n.Line, "%s: keyType must be PGP or PKIX, and is %.50q", what, keyType)
	}
	return nil
}

// isEmpty reports whether all that an object holds is empty.
func isEmpty(n *yaml.Node) bool {
	if n.Kind != yaml.MappingNode {
		return false
	}
	for i := 1; i < len(n.Content); i += 2 {
		if v := n.Content[i]; !document.IsNull(v) && (v.Kind != yaml.ScalarNode || v.Value != "") {
			return false
		}
	}
	return true
}

// pgpKey reads a key that is armoured, and mostly base64 over that.
func (r *reporter) pgpKey(n *yaml.Node, field, id string) *signature.PublicKey {
	text, ok := r.Scalar(n, field)
	if !ok {
		return nil
	}
	k, err := signature.ParsePGPPublicKey(text)
	if err != nil {
		r.Errorf(n.Line, "%s: %v", field, err)
		return nil
	}
	if id != "" && id != k.ID() {
		r.Warnf(n.Line, "keyId %.100q is not the fingerprint of the key, %s, which is what counts", id, k.ID())
	}
	if k.Revoked() {
		r.Warnf(n.Line, "OpenPGP key %s is revoked by its owner; nothing it signed counts", k.ID())
	}
	return k
}

func (r *reporter) pkixKey(n *yaml.Node, id string) *signature.PublicKey {
	const what = "pkixPublicKey"
	f, ok := r.Fields(n, what, "publicKeyPem", "signatureAlgorithm")
	if !ok {
		return nil
	}
	pem, word := r.Text(f, "publicKeyPem"), r.Text(f, "signatureAlgorithm")
	if pem == "" || word == "" {
		r.Errorf(n.Line, "%s needs both publicKeyPem and signatureAlgorithm", what)
		return nil
	}
	algorithm, err := signature.ParseAlgorithm(word)
	if err != nil {
		r.Errorf(f.Lines["signatureAlgorithm"], "signatureAlgorithm: %v", err)
		return nil
	}
	k, err := signature.ParsePKIXPublicKey(pem, algorithm, id)
	if err != nil {
		r.Errorf(n.Line, "%s: %v", what, err)
		return nil
	}
	return k
}
