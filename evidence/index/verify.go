package index

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unique"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// Bounds on the work that one occurrence can cause. 64 tries with keys of the
// dearest kind (P-384, 0.5 ms) are 32 ms.
const (
	maxSignatures = 32
	maxJWTs       = 8
	maxTries      = 64
	// maxStatement bounds what a signed envelope may hold to be looked at, in bytes:
	// provenances have some thousand, and what is much larger is an SBOM.
	maxStatement = 256 << 10
)

// An examination is what comes of one occurrence.
type examination struct {
	occurrence *grafeas.Occurrence
	digest     image.Digest // under which it is filed
	keys       signers
	memo       *signature.Memo
	blank      draft
	tries      int

	found   []statement
	nearest draft // of the rejections
	refused bool
}

// examine checks the signatures of an occurrence that is filed for digest d against
// the keys that may sign it. It returns a statement for each thing that each key has
// said, and a rejection if something was not accepted: that which came nearest.
//
// A key id only says which key to try. What a key has signed counts as what the
// signed bytes say it is, and nothing else that the occurrence says of it counts.
func examine(o *grafeas.Occurrence, d image.Digest, keys signers, memo *signature.Memo) []statement {
	e := examination{occurrence: o, digest: d, keys: keys, memo: memo, blank: begin(o)}
	e.blank.via = keys.via
	switch details := o.GetDetails().(type) {
	case *grafeas.Occurrence_Attestation:
		e.attestation(details.Attestation)
	case *grafeas.Occurrence_DsseAttestation:
		e.envelope(details.DsseAttestation.GetEnvelope())
	case *grafeas.Occurrence_Build:
		if o.GetEnvelope() != nil { // others say who built it, and nobody has signed that
			e.envelope(o.GetEnvelope())
		}
	}
	if e.refused {
		e.found = append(e.found, e.nearest.statement())
	}
	return e.found
}

// reject keeps the reason if it is the nearest so far.
func (e *examination) reject(r rank, format string, args ...any) {
	if e.refused && r <= e.nearest.rank {
		return
	}
	e.nearest, e.refused = e.blank, true
	e.nearest.kind, e.nearest.rank, e.nearest.more = rejection, r, fmt.Sprintf(format, args...)
}

// try reports whether another signature may be verified.
func (e *examination) try(count int) bool {
	if e.tries += count; e.tries > maxTries {
		e.reject(unreadable, "has more signatures than are looked at, which are %d", maxTries)
		return false
	}
	return true
}

// accept adds what a key has said, once.
func (e *examination) accept(key trustedKey, d draft) {
	d.via = key.via
	d.key = unique.Make(keyName{key.ID(), key.Fingerprint()})
	if s := d.statement(); !slices.Contains(e.found, s) {
		e.found = append(e.found, s)
	}
}

func (e *examination) unknown(id string) {
	whose := "which is not trusted in its project"
	if e.blank.via&viaNote != 0 {
		whose = "which is not one of the attestor's"
	}
	if id == "" {
		e.reject(unknownKey, "has a signature that does not say by which key: its key id is empty")
		return
	}
	e.keys.each(func(k *signature.PublicKey) bool { return resembles(id, k.ID()) }, func(key trustedKey) bool {
		whose += fmt.Sprintf("; %.120q is, and ids are compared letter by letter", key.ID())
		return false
	})
	e.reject(unknownKey, "is signed by key %.120q, %s", id, whose)
}

// resembles reports whether id is a key id in another case, or the last digits of a
// fingerprint, which OpenPGP calls a key id and gpg prints.
func resembles(id, key string) bool {
	const shortest = 8
	return len(id) <= len(key) && len(id) >= shortest && strings.EqualFold(id, key[len(key)-len(id):])
}

// attestation reads the signatures and the JWTs of an attestation.
func (e *examination) attestation(att *grafeas.AttestationOccurrence) {
	signatures, jwts := att.GetSignatures(), att.GetJwts()
	if len(signatures) == 0 && len(jwts) == 0 {
		e.reject(unreadable, "has no signature that can be checked")
	}
	if len(signatures) > maxSignatures {
		e.reject(unreadable, "has %d signatures; only the first %d are looked at", len(signatures), maxSignatures)
		signatures = signatures[:maxSignatures]
	}
	if len(jwts) > maxJWTs {
		e.reject(unreadable, "has %d JWTs; only the first %d are looked at", len(jwts), maxJWTs)
		jwts = jwts[:maxJWTs]
	}
	for _, s := range signatures {
		e.eachKey(s.GetPublicKeyId(), func(key trustedKey) {
			signed, err := e.memo.Verify(key.PublicKey, att.GetSerializedPayload(), s.GetSignature())
			if err != nil {
				e.reject(notVerified, "does not count: %v", err)
				return
			}
			e.payload(key, func() (signature.Payload, error) { return signature.ParsePayload(signed) })
		})
	}
	for _, j := range jwts {
		e.jwt(j.GetCompactJwt())
	}
}

func (e *examination) jwt(token string) {
	id, err := signature.JWTKeyID(token)
	if err != nil {
		e.reject(unreadable, "has a JWT that cannot be read: %v", err)
		return
	}
	e.eachKey(id, func(key trustedKey) {
		p, err := e.memo.VerifyJWT(key.PublicKey, token)
		switch {
		case errors.Is(err, signature.ErrNotVerified):
			e.reject(notVerified, "does not count: %v", err)
		default:
			e.payload(key, func() (signature.Payload, error) { return p, err })
		}
	})
}

// eachKey calls fn with the keys of the id, as far as another signature may be
// verified.
func (e *examination) eachKey(id string, fn func(trustedKey)) {
	known := e.keys.each(func(k *signature.PublicKey) bool { return k.Matches(id) }, func(key trustedKey) bool {
		if !e.try(1) {
			return false
		}
		fn(key)
		return true
	})
	if !known {
		e.unknown(id)
	}
}

// payload accepts an attestation, as it was signed by the key.
func (e *examination) payload(key trustedKey, parse func() (signature.Payload, error)) {
	p, err := parse()
	switch {
	case err != nil:
		e.reject(otherwise, "is signed, but an unexpected message was signed: %v", err)
	case p.Digest != e.digest:
		e.reject(otherwise, "is filed under %s, but what was signed is %s", e.digest, p.Digest)
	default:
		s := e.blank
		s.kind, s.cosign, s.repository = attestation, p.Type == signature.TypeCosign, unique.Make(p.Repository)
		if !p.NotBefore.IsZero() || !p.NotAfter.IsZero() {
			s.more = bounds{p.NotBefore, p.NotAfter}
		}
		e.accept(key, s)
	}
}

// envelope reads a DSSE envelope: an attestation, if it holds what an attestation
// would sign, or an in-toto statement.
func (e *examination) envelope(env *grafeas.Envelope) {
	if n := len(env.GetPayload()); n > maxStatement {
		e.reject(unreadable, "holds %d bytes; more than %d are not looked at", n, maxStatement)
		return
	}
	signatures := make([]signature.EnvelopeSignature, 0, min(len(env.GetSignatures()), maxSignatures))
	for _, s := range env.GetSignatures() {
		signatures = append(signatures, signature.EnvelopeSignature{KeyID: s.GetKeyid(), Sig: s.GetSig()})
	}
	sealed, err := signature.NewEnvelope(env.GetPayloadType(), env.GetPayload(), signatures)
	if err != nil {
		e.reject(unreadable, "cannot be read: %v", err)
		return
	}
	known := e.keys.each(func(k *signature.PublicKey) bool { return sealed.Candidates(k) > 0 }, func(key trustedKey) bool {
		if !e.try(sealed.Candidates(key.PublicKey)) {
			return false
		}
		message, err := e.memo.VerifyEnvelope(key.PublicKey, sealed)
		if err != nil {
			e.reject(notVerified, "does not count: %v", err)
			return true
		}
		e.message(key, message)
		return true
	})
	if !known {
		e.unknown(signatures[0].KeyID)
	}
}

func (e *examination) message(key trustedKey, m signature.Message) {
	isBuild := e.occurrence.GetBuild() != nil
	switch m.PayloadType() {
	case signature.PayloadTypeInToto:
		e.statement(key, m, isBuild)
	case signature.PayloadTypeSimpleSigning:
		if isBuild {
			e.reject(otherwise, "is signed, but is no provenance")
			return
		}
		e.payload(key, m.Payload)
	default:
		e.reject(otherwise, "is signed, but an unexpected message was signed, of type %.120q", m.PayloadType())
	}
}

// statement accepts what an in-toto statement says.
func (e *examination) statement(key trustedKey, m signature.Message, isBuild bool) {
	st, err := m.Statement()
	if err != nil {
		e.reject(otherwise, "is signed, but an unexpected message was signed: %v", err)
		return
	}
	if !st.About(e.digest) {
		e.reject(otherwise, "is filed under %s, which is none of the subjects of what was signed", e.digest)
		return
	}
	s := e.blank
	switch {
	case st.PredicateType == uploadV1 && !isBuild:
		at, err := parseUpload(st.Predicate)
		if err != nil {
			e.reject(otherwise, "is signed, but records no upload: %v", err)
			return
		}
		s.kind, s.more = upload, at
	case provenanceReaders(st.PredicateType) != nil:
		b, err := parseProvenance(st)
		if err != nil {
			e.reject(otherwise, "is signed, but tells of no build: %v", err)
			return
		}
		b.statement = string(m.Body())
		s.kind, s.more = provenance, unique.Make(b)
	default:
		e.reject(unreadable, "is a statement of type %.120q, which nothing here rests on", st.PredicateType)
		return
	}
	e.accept(key, s)
}
