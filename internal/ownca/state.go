package ownca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
)

const (
	schema = 1
	// maxRoots bounds roots, and certificates of roots by others: each is replaced before
	// there is a third.
	maxRoots = 8
)

// A root is a certificate that signs itself, and its key.
type root struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// published is when clients could get it first. Serving certificates are of this root
	// from issues on, and the roots before it leave at alone.
	published, issues, alone time.Time
}

func (r *root) ended(now time.Time) bool { return !now.Before(r.cert.NotAfter) }

// A state is all that an authority consists of.
type state struct {
	roots []*root // in the order in which they were made
	// crosses are certificates of roots by the ones before them.
	crosses []*x509.Certificate
	// lives are the default ones unless they are given.
	lives *Lives
}

func (s state) life() Lives {
	if s.lives == nil {
		return DefaultLives()
	}
	return *s.lives
}

// issuer returns the root that serving certificates are to be of: the last one whose time
// has come, and if that is over, or no time has come by a clock that is behind, the
// first that has not ended.
func (s state) issuer(now time.Time) *root {
	for _, r := range slices.Backward(s.roots) {
		if !now.Before(r.issues) && !r.ended(now) {
			return r
		}
	}
	for _, r := range s.roots {
		if !r.ended(now) {
			return r
		}
	}
	return s.roots[len(s.roots)-1]
}

// chain returns what leads from a root back to those before it.
func (s state) chain(of *root) [][]byte {
	var chain [][]byte
	for key := of.cert.SubjectKeyId; len(chain) < len(s.crosses); {
		i := slices.IndexFunc(s.crosses, func(c *x509.Certificate) bool { return bytes.Equal(c.SubjectKeyId, key) })
		if i < 0 {
			break
		}
		chain = append(chain, s.crosses[i].Raw)
		key = s.crosses[i].AuthorityKeyId
	}
	return chain
}

// due says whether next returns another state.
func (s state) due(now time.Time) bool {
	kept := s.kept(now)
	return len(kept.roots) < len(s.roots) || len(kept.crosses) < len(s.crosses) || kept.wantsRoot(now)
}

// next returns what ought to be at a time.
func (s state) next(now time.Time) (state, error) {
	s = s.kept(now)
	switch {
	case !s.wantsRoot(now):
		return s, nil
	case s.allEnded(now): // or there was none
		return s.withRoot(now, now, now.Add(s.life().Ended))
	}
	return s.rotated(now, s.life().Overlap)
}

// rotated returns s with another root, which issues after an overlap.
func (s state) rotated(now time.Time, overlap time.Duration) (state, error) {
	issues := now.Add(overlap)
	return s.withRoot(now, issues, issues.Add(max(overlap, s.life().Alone)))
}

// kept returns s without what is of no use any more.
func (s state) kept(now time.Time) state {
	first := 0
	for i, r := range s.roots {
		if !now.Before(r.alone) {
			first = i
		}
	}
	kept := state{roots: slices.Clone(s.roots[first:]), lives: s.lives}
	for _, c := range s.crosses {
		signer := slices.ContainsFunc(kept.roots, func(r *root) bool { return bytes.Equal(r.cert.SubjectKeyId, c.AuthorityKeyId) })
		if signer || now.Before(c.NotAfter) {
			kept.crosses = append(kept.crosses, c)
		}
	}
	return kept
}

func (s state) allEnded(now time.Time) bool {
	return !slices.ContainsFunc(s.roots, func(r *root) bool { return !r.ended(now) })
}

func (s state) wantsRoot(now time.Time) bool {
	return s.allEnded(now) || !now.Before(s.roots[len(s.roots)-1].cert.NotAfter.Add(-s.life().RenewRoot))
}

// replacing returns the root that is in the bundle and does not issue yet. One that is
// said to have been put there later than now was made by a clock that was wrong.
func (s state) replacing(now time.Time) *root {
	for _, r := range s.roots {
		if now.Before(r.issues) && !now.Add(clockSlack).Before(r.published) {
			return r
		}
	}
	return nil
}

// withRoot returns s with one root more.
func (s state) withRoot(now, issues, alone time.Time) (state, error) {
	if len(s.roots) >= maxRoots || len(s.crosses) >= maxRoots {
		return state{}, fmt.Errorf("there are %d roots already, and it takes time until old ones are of no use", len(s.roots))
	}
	r, err := newRoot(now.Add(s.life().Root))
	if err != nil {
		return state{}, fmt.Errorf("making a root: %w", err)
	}
	r.published, r.issues, r.alone = now.UTC(), issues.UTC(), alone.UTC()
	grown := state{roots: append(slices.Clone(s.roots), r), crosses: slices.Clone(s.crosses), lives: s.lives}
	if len(s.roots) > 0 {
		cross, err := crossSign(r, s.roots[len(s.roots)-1])
		if err != nil {
			return state{}, fmt.Errorf("signing a root by the one before it: %w", err)
		}
		grown.crosses = append(grown.crosses, cross)
	}
	return grown, nil
}

// The form of ca-keys.json.
type (
	stored struct {
		Schema  int          `json:"schema"`
		Roots   []storedRoot `json:"roots"`
		Crosses [][]byte     `json:"crosses"` // DER
	}
	storedRoot struct {
		Certificate []byte    `json:"certificate"` // DER
		Key         []byte    `json:"key"`         // PKCS #8
		Published   time.Time `json:"published"`
		Issues      time.Time `json:"issues"`
		Alone       time.Time `json:"alone"`
	}
)

func (s state) encode() ([]byte, error) {
	out := stored{Schema: schema}
	for _, r := range s.roots {
		key, err := x509.MarshalPKCS8PrivateKey(r.key)
		if err != nil {
			return nil, err
		}
		out.Roots = append(out.Roots, storedRoot{r.cert.Raw, key, r.published, r.issues, r.alone})
	}
	for _, c := range s.crosses {
		out.Crosses = append(out.Crosses, c.Raw)
	}
	return json.Marshal(out)
}

// decode reads what encode wrote, and nothing else.
func decode(text []byte) (state, error) {
	var in stored
	if err := json.Unmarshal(text, &in, json.RejectUnknownMembers(true)); err != nil {
		return state{}, err
	}
	switch {
	case in.Schema != schema:
		return state{}, fmt.Errorf("it is of form %d, want %d: was it written by a newer version?", in.Schema, schema)
	case len(in.Roots) == 0 || len(in.Roots) > maxRoots || len(in.Crosses) > maxRoots:
		return state{}, fmt.Errorf("%d roots and %d certificates of roots: want 1 to %d, and no more than %d", len(in.Roots), len(in.Crosses), maxRoots, maxRoots)
	}
	var s state
	for i, r := range in.Roots {
		root, err := r.decode()
		if err != nil {
			return state{}, fmt.Errorf("root %d: %w", i+1, err)
		}
		s.roots = append(s.roots, root)
	}
	for i, der := range in.Crosses {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return state{}, fmt.Errorf("certificate of a root %d: %w", i+1, err)
		}
		s.crosses = append(s.crosses, c)
	}
	return s, nil
}

func (in storedRoot) decode() (*root, error) {
	cert, err := x509.ParseCertificate(in.Certificate)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(in.Key)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	switch {
	case !ok || !key.PublicKey.Equal(cert.PublicKey):
		return nil, errors.New("its key is of another certificate")
	case !cert.IsCA || cert.CheckSignatureFrom(cert) != nil:
		return nil, errors.New("it is not a root")
	case in.Published.IsZero() || in.Issues.Before(in.Published) || in.Alone.Before(in.Issues):
		return nil, errors.New("its times are not in order")
	}
	return &root{cert, key, in.Published, in.Issues, in.Alone}, nil
}
