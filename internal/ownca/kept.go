package ownca

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Kept is an authority that is kept elsewhere than in a folder: whoever has a place for its
// text, where two that change it at once cannot both succeed, has what the folder has. It
// is never changed; the zero Kept is that of one that was not made yet.
type Kept struct{ state state }

// ReadKept reads the text of an authority; that of one that was not made is empty.
func ReadKept(text []byte, lives Lives) (Kept, error) {
	if len(text) == 0 {
		return Kept{state{lives: &lives}}, nil
	}
	if len(text) > maxFile {
		return Kept{}, fmt.Errorf("reading the certificate authority: it has more than %d bytes", maxFile)
	}
	s, err := decode(text)
	if err != nil {
		return Kept{}, fmt.Errorf("reading the certificate authority: %w", err)
	}
	s.lives = &lives
	return Kept{s}, nil
}

// Text returns what [ReadKept] reads. It has the keys in it.
func (k Kept) Text() ([]byte, error) { return k.state.encode() }

// Bundle returns the roots that clients are to trust, as PEM.
func (k Kept) Bundle() []byte { return bundle(k.state.roots) }

// Roots describes them.
func (k Kept) Roots(now time.Time) []Root {
	if len(k.state.roots) == 0 {
		return nil
	}
	return k.state.list(plausible(now))
}

// Next returns the authority as it ought to be, and whether that is another. Old roots
// leave only when drop says that nobody serves what they have issued.
func (k Kept) Next(now time.Time, drop bool) (next Kept, changed bool, err error) {
	now = plausible(now)
	s := k.state
	if drop {
		s = s.kept(now)
	}
	changed = len(s.roots) != len(k.state.roots) || len(s.crosses) != len(k.state.crosses)
	switch {
	case !s.wantsRoot(now):
		return Kept{s}, changed, nil
	case s.allEnded(now): // or there was none
		s, err = s.withRoot(now, now, now.Add(s.life().Ended))
	default:
		s, err = s.rotated(now, s.life().Overlap)
	}
	return Kept{s}, true, err
}

// Rotated returns the authority with a new root beside those there are, which issues after
// an overlap.
func (k Kept) Rotated(now time.Time, overlap time.Duration) (Kept, error) {
	if err := checkOverlap(overlap); err != nil {
		return Kept{}, err
	}
	if len(k.state.roots) == 0 {
		return Kept{}, errors.New("there is no certificate authority yet")
	}
	s, err := k.state.askedFor(plausible(now), overlap)
	return Kept{s}, err
}

// A Leaf is a serving certificate, with what leads to the roots, and its key, as PEM.
type Leaf struct {
	Certificate, Key []byte
	Ends             time.Time
}

// Issue makes a serving certificate for names and addresses.
func (k Kept) Issue(hosts []string, now time.Time) (Leaf, error) {
	if len(k.state.roots) == 0 {
		return Leaf{}, errors.New("there is no certificate authority yet")
	}
	now = plausible(now)
	by := k.state.issuer(now)
	end := leafEnd(by, now, k.state.life().Leaf)
	made, err := issue(by, k.state.chain(by), hosts, end)
	if err != nil {
		return Leaf{}, fmt.Errorf("issuing a serving certificate: %w", err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		return Leaf{}, err
	}
	leaf := Leaf{Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), Ends: end}
	for _, der := range made.Certificate {
		leaf.Certificate = append(leaf.Certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return leaf, nil
}

// A Verdict is what is to be said of a serving certificate.
type Verdict struct {
	// Usable says that clients that trust the bundle take it now, and for all its names.
	Usable bool
	// Due is why there ought to be another, "" if not.
	Due string
	// Ends is its end.
	Ends time.Time
}

// Judge says whether a serving certificate is good, and whether there ought to be another.
func (k Kept) Judge(certificate, key []byte, hosts []string, now time.Time) Verdict {
	now = plausible(now)
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return Verdict{Due: "there is none"}
	}
	leaf := pair.Leaf
	v := Verdict{Ends: leaf.NotAfter}
	for _, h := range hosts {
		if leaf.VerifyHostname(h) != nil {
			v.Due = "it is not for " + h
			return v
		}
	}
	// Whose it is, and not whether that root has ended: clients may have those after it.
	by := slices.IndexFunc(k.state.roots, func(r *root) bool { return leaf.CheckSignatureFrom(r.cert) == nil })
	switch {
	case by < 0:
		v.Due = "it is of another certificate authority"
		return v
	case !now.Before(leaf.NotAfter):
		v.Due = "it has ended"
		return v
	}
	v.Usable = true
	issuer := k.state.issuer(now)
	switch life := k.state.life(); {
	case !k.state.roots[by].is(issuer):
		v.Due = "another root issues now"
	case !now.Before(leaf.NotAfter.Add(-life.RenewLeaf)) && leafEnd(issuer, now, life.Leaf).After(leaf.NotAfter):
		v.Due = "it ends soon"
	}
	return v
}

// Issuer returns the certificate that serving certificates are to be issued by, nil if
// there is none yet.
func (k Kept) Issuer(now time.Time) *x509.Certificate {
	if len(k.state.roots) == 0 {
		return nil
	}
	return k.state.issuer(plausible(now)).cert
}
