package signature

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-dev/gatehouse/image"
)

const (
	// MaxJWT is the most bytes a JWT may have, 64 KiB; real ones have about 600,
	// and 5,000 when ML-DSA signs them.
	MaxJWT = 64 << 10

	jwtSubject  = "container:digest:"                    // before the digest in a subject
	jwtAudience = "//binaryauthorization.googleapis.com" // who the token is for
	maxDate     = 253402300799                           // the last second of the year 9999
)

// A jwt is a compact JWS (RFC 7515 §3.1) taken apart and not verified.
type jwt struct {
	header jwtHeader
	input  []byte // what is signed: header and claims as they were encoded
	claims []byte
	sig    []byte
}

// jwtHeader has every member that a header may have. Others would bring a key of
// their own (jwk, jku, x5c, x5u), change what is signed (b64, zip) or ask for
// something that is not done here (crit).
type jwtHeader struct {
	Type      string `json:"typ"`
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
}

// JWTKeyID returns the id of the key that a compact JWT says signed it. It is a
// hint which key to try, and proves nothing.
func JWTKeyID(token string) (string, error) {
	t, err := parseJWT(token)
	if err != nil {
		return "", fmt.Errorf("reading the key id of a JWT: %w", err)
	}
	return t.header.KeyID, nil
}

// VerifyJWT verifies a JWT attestation (RFC 7519) in compact form and returns
// what it states, with the type [TypeJWT] and no repository.
//
// Its header names this key (kid), the key's own algorithm (alg) and the type
// JWT (typ), and has nothing else. Its claims name the image (sub,
// "container:digest:sha256:…") and Binary Authorization (aud,
// "//binaryauthorization.googleapis.com", also in a list). Payload.NotBefore is
// nbf or else iat, and NotAfter is exp; all three may be missing. Whether the
// token holds now is for the caller to ask, at each decision. Other claims are
// harmless. OpenPGP keys verify no JWT.
//
// An error that wraps [ErrNotVerified] says that the key did not sign the token;
// any other, that what it signed is no statement about an image.
func (k *PublicKey) VerifyJWT(token string) (Payload, error) {
	return k.verifyJWT(token, k.verifyJWS)
}

// verifyJWT is VerifyJWT with the check of the signature as a parameter.
func (k *PublicKey) verifyJWT(token string, check func(input, sig []byte) error) (Payload, error) {
	t, err := parseJWT(token)
	if err == nil {
		err = k.checkJWTHeader(t.header)
	}
	if err == nil {
		err = check(t.input, t.sig)
	}
	if err != nil {
		return Payload{}, k.refuse(err)
	}
	p, err := parseClaims(t.claims)
	if err != nil {
		return Payload{}, fmt.Errorf("reading the claims of a JWT by key %q: %w", k.id, err)
	}
	return p, nil
}

// parseJWT takes a token apart strictly: there is one encoding of each.
func parseJWT(token string) (jwt, error) {
	if len(token) > MaxJWT {
		return jwt{}, fmt.Errorf("%w: the JWT has %d bytes, more than %d", ErrMalformed, len(token), MaxJWT)
	}
	if n := strings.Count(token, "."); n != 2 {
		return jwt{}, fmt.Errorf("%w: a compact JWT has three parts, and this one %d", ErrMalformed, n+1)
	}
	end := strings.LastIndexByte(token, '.')
	header, claims, _ := strings.Cut(token[:end], ".")
	t := jwt{input: []byte(token[:end])}
	headerJSON, err := decodeBase64URL(header)
	if err != nil {
		return jwt{}, fmt.Errorf("header: %w", err)
	}
	if t.claims, err = decodeBase64URL(claims); err != nil {
		return jwt{}, fmt.Errorf("claims: %w", err)
	}
	if t.sig, err = decodeBase64URL(token[end+1:]); err != nil {
		return jwt{}, fmt.Errorf("signature: %w", err)
	}
	t.header, err = parseJWTHeader(headerJSON)
	return t, err
}

func parseJWTHeader(b []byte) (jwtHeader, error) {
	var h jwtHeader
	err := json.Unmarshal(b, &h, json.RejectUnknownMembers(true))
	switch {
	case errors.Is(err, json.ErrUnknownName):
		return jwtHeader{}, fmt.Errorf("%w: a header with more than typ, alg and kid: %s", ErrUnsupported, clip(err.Error()))
	case err != nil:
		return jwtHeader{}, fmt.Errorf("header: %w", malformedJSON(err))
	case !equalFoldASCII(h.Type, "JWT"):
		return jwtHeader{}, fmt.Errorf("%w: typ is %q, want %q", ErrWrongType, clip(h.Type), "JWT")
	case h.KeyID == "":
		return jwtHeader{}, fmt.Errorf("%w: the header names no key (kid)", ErrMalformed)
	case len(h.KeyID) > maxKeyID:
		return jwtHeader{}, fmt.Errorf("%w: kid has %d bytes, more than %d", ErrMalformed, len(h.KeyID), maxKeyID)
	}
	known := slices.ContainsFunc(PKIXAlgorithms(), func(a Algorithm) bool { return a.isJWS(h.Algorithm) })
	if !known {
		return jwtHeader{}, fmt.Errorf("%w: alg %q; only signatures by a private key are believed, such as %q", ErrUnsupported, clip(h.Algorithm), "ES256")
	}
	return h, nil
}

// isJWS reports whether word is the algorithm's name in a JWT. RFC 9864 gives
// Ed25519 a name of its own, besides EdDSA.
func (a Algorithm) isJWS(word string) bool {
	d, ok := a.details()
	return ok && (word == d.jws || a == Ed25519 && word == "Ed25519")
}

// checkJWTHeader returns an error unless the header names this key and its
// algorithm. The algorithm is the key's own business: what the token says of it
// must only agree.
func (k *PublicKey) checkJWTHeader(h jwtHeader) error {
	switch {
	case k == nil || k.key == nil:
		return errNoKey
	case k.algorithm == PGP:
		return fmt.Errorf("%w: OpenPGP keys sign no JWTs", ErrUnsupported)
	case !k.Matches(h.KeyID):
		return fmt.Errorf("%w, %q", ErrWrongKey, clip(h.KeyID))
	case !k.algorithm.isJWS(h.Algorithm):
		return fmt.Errorf("%w: alg is %q, and the key is for %s only", ErrUnsuitable, h.Algorithm, k.algorithm)
	}
	return nil
}

// verifyJWS returns an error unless sig is the key's signature over input, in
// the form of JSON Web Signatures.
func (k *PublicKey) verifyJWS(input, sig []byte) error {
	key, ok := k.key.(*pkixKey)
	if !ok {
		return errNoKey
	}
	if !key.validJWS(input, sig) {
		return errAltered
	}
	return nil
}

// validJWS is valid where JWS prescribes another form of signature (RFC 7518):
// ECDSA's two numbers of fixed size (§3.4), and PSS' salt of the digest's size
// (§3.5).
func (k *pkixKey) validJWS(input, sig []byte) bool {
	switch key := k.key.(type) {
	case *ecdsa.PublicKey:
		size := (key.Curve.Params().BitSize + 7) / 8
		if len(sig) != 2*size {
			return false
		}
		r, s := new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])
		return ecdsa.Verify(key, k.details.digest(input), r, s)
	case *rsa.PublicKey:
		if k.details.scheme == schemePSS {
			opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
			return rsa.VerifyPSS(key, k.details.hash, k.details.digest(input), sig, opts) == nil
		}
	}
	return k.valid(input, sig)
}

// jwtClaims are the claims that are read. They are raw so that null is not taken
// for a claim that is missing.
type jwtClaims struct {
	Subject   jsontext.Value `json:"sub"`
	Audience  jsontext.Value `json:"aud"`
	Expires   jsontext.Value `json:"exp"`
	NotBefore jsontext.Value `json:"nbf"`
	IssuedAt  jsontext.Value `json:"iat"`
}

func parseClaims(b []byte) (Payload, error) {
	var c jwtClaims
	if err := json.Unmarshal(b, &c); err != nil {
		return Payload{}, malformedJSON(err)
	}
	digest, err := parseSubject(c.Subject)
	if err != nil {
		return Payload{}, err
	}
	if err := checkAudience(c.Audience); err != nil {
		return Payload{}, err
	}
	p := Payload{Digest: digest, Type: TypeJWT}
	begin := c.NotBefore
	if begin == nil {
		begin = c.IssuedAt
	}
	for _, date := range []struct {
		name  string
		raw   jsontext.Value
		round func(float64) float64 // towards the shorter validity
		to    *time.Time
	}{
		{"exp", c.Expires, math.Floor, &p.NotAfter},
		{"nbf or iat", begin, math.Ceil, &p.NotBefore},
		{"iat", c.IssuedAt, math.Ceil, new(time.Time)},
	} {
		if *date.to, err = numericDate(date.raw, date.round); err != nil {
			return Payload{}, fmt.Errorf("%s: %w", date.name, err)
		}
	}
	if !p.NotAfter.IsZero() && !p.NotBefore.Before(p.NotAfter) {
		return Payload{}, fmt.Errorf("%w: it ends (exp) before it begins (nbf or iat)", ErrMalformed)
	}
	return p, nil
}

func parseSubject(raw jsontext.Value) (image.Digest, error) {
	sub, err := stringValue(raw)
	if err != nil {
		return image.Digest{}, fmt.Errorf("sub: %w", err)
	}
	text, ok := strings.CutPrefix(sub, jwtSubject)
	if !ok {
		return image.Digest{}, fmt.Errorf("%w: sub is %q, want %q and the digest of an image", ErrWrongType, clip(sub), jwtSubject)
	}
	digest, err := image.ParseDigest(text)
	if err != nil {
		return image.Digest{}, fmt.Errorf("%w: sub: %w", ErrMalformed, err)
	}
	return digest, nil
}

// checkAudience returns an error unless the token is meant for Binary
// Authorization: one that was made for another service must not count here.
func checkAudience(raw jsontext.Value) error {
	audience := []jsontext.Value{raw}
	if raw.Kind() == '[' {
		if err := json.Unmarshal(raw, &audience); err != nil {
			return fmt.Errorf("aud: %w", malformedJSON(err))
		}
	}
	found := false
	for _, v := range audience {
		who, err := stringValue(v)
		if err != nil {
			return fmt.Errorf("aud: %w", err)
		}
		found = found || who == jwtAudience
	}
	if !found {
		return fmt.Errorf("%w: aud is %q, want %q", ErrWrongType, clip(string(raw)), jwtAudience)
	}
	return nil
}

func stringValue(raw jsontext.Value) (string, error) {
	if raw.Kind() != '"' {
		return "", fmt.Errorf("%w: it is %q, want a string", ErrMalformed, clip(string(raw)))
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", malformedJSON(err)
	}
	return s, nil
}

// numericDate reads seconds since 1970, perhaps with a fraction (RFC 7519 §2).
// What is missing is the zero time.
func numericDate(raw jsontext.Value, round func(float64) float64) (time.Time, error) {
	if raw == nil {
		return time.Time{}, nil
	}
	if raw.Kind() != '0' {
		return time.Time{}, fmt.Errorf("%w: %q is no number of seconds", ErrMalformed, clip(string(raw)))
	}
	seconds, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || seconds < 0 || seconds > maxDate {
		return time.Time{}, fmt.Errorf("%w: %q is no date between 1970 and 9999", ErrMalformed, clip(string(raw)))
	}
	return time.Unix(int64(round(seconds)), 0).UTC(), nil
}

// decodeBase64URL decodes unpadded base64url (RFC 7515 §2) in its one form: the
// standard library skips line ends, and lets the last character's spare bits be.
func decodeBase64URL(s string) ([]byte, error) {
	if hasLineEnd(s) {
		return nil, fmt.Errorf("%w: base64url with line ends", ErrMalformed)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("%w: no base64url without padding: %w", ErrMalformed, err)
	}
	return b, nil
}

// hasLineEnd reports whether s has what the standard library's base64 skips.
func hasLineEnd(s string) bool {
	return strings.IndexByte(s, '\n') >= 0 || strings.IndexByte(s, '\r') >= 0
}
