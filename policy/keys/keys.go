// Package keys reads the public keys that policies of several dialects hold.
package keys

import (
	"crypto/x509"
	"encoding/pem"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// Compile returns what a policy keeps of keys: how they are called and what they are.
func Compile(list []*signature.PublicKey) []policy.Key {
	var compiled []policy.Key
	for _, k := range list {
		compiled = append(compiled, policy.Key{ID: k.ID(), Fingerprint: k.Fingerprint()})
	}
	return compiled
}

// PKIX reads a PkixPublicKey of Binary Authorization: a publicKeyPem, a
// signatureAlgorithm and perhaps a keyId. It reports why it cannot and returns nil.
func PKIX(r *document.Reporter, n *yaml.Node) *signature.PublicKey {
	f, ok := pkixFields(r, n)
	if !ok {
		return nil
	}
	k, _ := pkix(r, n, f, r.Text(f, "keyId"))
	return k
}

// WrappedPKIX is [PKIX] for one in an AttestorPublicKey, which has the key's id, or
// "", and leaves it to keyId only to repeat it. It also returns the PEM as it was
// written.
func WrappedPKIX(r *document.Reporter, n *yaml.Node, id string) (*signature.PublicKey, string) {
	f, ok := pkixFields(r, n)
	if !ok {
		return nil, ""
	}
	k, pem := pkix(r, n, f, id)
	if inner := r.Text(f, "keyId"); k != nil && inner != "" && inner != k.ID() {
		r.Errorf(f.Lines["keyId"], "keyId %.200q must be left out or be the id of the key, %.200q", inner, k.ID())
		return nil, ""
	}
	return k, pem
}

func pkixFields(r *document.Reporter, n *yaml.Node) (document.Fields, bool) {
	f, ok := r.Fields(n, "pkixPublicKey", "publicKeyPem", "signatureAlgorithm", "keyId")
	if !ok && len(f.Values) == 0 {
		return f, false
	}
	if f.Values["publicKeyPem"] == nil || f.Values["signatureAlgorithm"] == nil {
		r.Errorf(n.Line, "pkixPublicKey needs both publicKeyPem and signatureAlgorithm")
		return f, false
	}
	return f, true
}

func pkix(r *document.Reporter, n *yaml.Node, f document.Fields, id string) (*signature.PublicKey, string) {
	pem, ok := r.Scalar(f.Values["publicKeyPem"], "publicKeyPem")
	word := f.Values["signatureAlgorithm"]
	if !document.IsWord(word) {
		r.Errorf(word.Line, "signatureAlgorithm must be the name of an algorithm, and is %s", document.KindOf(word))
		return nil, ""
	}
	if !ok {
		return nil, ""
	}
	algorithm, err := signature.ParseAlgorithm(word.Value)
	if err != nil {
		r.Errorf(word.Line, "signatureAlgorithm: %v", err)
		return nil, ""
	}
	k, err := signature.ParsePKIXPublicKey(pem, algorithm, id)
	if err != nil {
		r.Errorf(n.Line, "pkixPublicKey: %v", err)
		return nil, ""
	}
	return k, pem
}

// PEM reads an object whose one field holds the PEM of a key, to be used with the
// algorithm that is usual for its type. It reports why it cannot and returns nil.
func PEM(r *document.Reporter, n *yaml.Node, what, field string) *signature.PublicKey {
	f, ok := r.Fields(n, what, field)
	if !ok {
		return nil
	}
	if f.Values[field] == nil {
		r.Errorf(n.Line, "%s: %s is missing", what, field)
		return nil
	}
	text, ok := r.Scalar(f.Values[field], field)
	if !ok {
		return nil
	}
	k, err := signature.ParsePKIXPublicKey(text, UsualAlgorithm(text), "")
	if err != nil {
		r.Errorf(f.Lines[field], "%s: %v", field, err)
		return nil
	}
	return k
}

// UsualAlgorithm returns that of the key in a PEM text. For a text that holds none
// it returns any, so that the reader of keys says what is wrong with it.
func UsualAlgorithm(text string) signature.Algorithm {
	if block, _ := pem.Decode([]byte(text)); block != nil {
		if key, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
			if algorithm, err := signature.DefaultAlgorithm(key); err == nil {
				return algorithm
			}
		}
	}
	return signature.ECDSAP256SHA256
}

// Public reads one of the publicKeys of an attestor or of a signer of hints, or reports
// why it cannot and returns nil. It also returns the comment and the text of the key, as
// they were written.
func Public(r *document.Reporter, n *yaml.Node) (k *signature.PublicKey, comment, text string) {
	f, ok := r.Fields(n, "publicKeys", "comment", "id", "asciiArmoredPgpPublicKey", "pkixPublicKey")
	if !ok && len(f.Values) == 0 {
		return nil, "", ""
	}
	comment = r.Text(f, "comment")
	id := r.Text(f, "id")
	pgp, pkix := f.Values["asciiArmoredPgpPublicKey"], f.Values["pkixPublicKey"]
	switch {
	case pgp != nil && pkix != nil:
		r.Errorf(n.Line, "publicKeys: asciiArmoredPgpPublicKey and pkixPublicKey exclude each other")
	case pgp != nil:
		k, text = openPGP(r, pgp, id)
	case pkix != nil:
		k, text = WrappedPKIX(r, pkix, id)
	default:
		r.Errorf(n.Line, "publicKeys: asciiArmoredPgpPublicKey or pkixPublicKey is missing")
	}
	return k, comment, text
}

func openPGP(r *document.Reporter, n *yaml.Node, id string) (*signature.PublicKey, string) {
	text, ok := r.Scalar(n, "asciiArmoredPgpPublicKey")
	if !ok {
		return nil, ""
	}
	k, err := signature.ParsePGPPublicKey(text)
	if err != nil {
		r.Errorf(n.Line, "asciiArmoredPgpPublicKey: %v", err)
		return nil, ""
	}
	if id != "" && id != k.ID() {
		r.Warnf(n.Line, "id %.100q is replaced by the fingerprint of the key, %s", id, k.ID())
	}
	if k.Revoked() {
		r.Warnf(n.Line, "OpenPGP key %s is revoked by its owner; nothing it signed counts", k.ID())
	}
	return k, text
}
