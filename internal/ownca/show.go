package ownca

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// What a root is to an authority.
const (
	Previous = "previous" // trusted still, and issues nothing
	Issuing  = "issuing"
	Next     = "next" // trusted already, and will issue
)

// A Status describes an authority.
type Status struct {
	// Bundle is the path of ca.crt.
	Bundle string `json:"bundle"`
	// BundleCurrent is false when ca.crt does not have the roots that it should: whoever
	// changed them was killed, and the next server that looks will mend it.
	BundleCurrent bool   `json:"bundleCurrent"`
	Roots         []Root `json:"roots"`
}

// A Root is a certificate that clients are to trust.
type Root struct {
	// State is one of [Previous], [Issuing], [Next].
	State string `json:"state"`
	// Fingerprint is the SHA-256 of the certificate, in hex.
	Fingerprint string `json:"fingerprint"`
	// Published is when clients could get it first, Issues from when on serving
	// certificates are of it, Alone when the roots before it leave, and Ends its end.
	Published time.Time `json:"published"`
	Issues    time.Time `json:"issues"`
	Alone     time.Time `json:"alone"`
	Ends      time.Time `json:"ends"`
}

// Show describes the authority in a folder at a time.
func Show(dir string, now time.Time) (Status, error) {
	f := newFolder(dir)
	s, err := f.read()
	if err != nil {
		return Status{}, missing(dir, err)
	}
	return f.status(s, plausible(now)), nil
}

// Rotate puts a new root beside those there are. Servers issue certificates by it after
// overlap, and after as long again the roots before it leave. They notice by themselves.
func Rotate(dir string, now time.Time, overlap time.Duration) (Status, error) {
	if err := checkOverlap(overlap); err != nil {
		return Status{}, err
	}
	f, now := newFolder(dir), plausible(now)
	if _, err := f.read(); err != nil { // before a file is made for the lock
		return Status{}, missing(dir, err)
	}
	s, err := f.change(lockWait, func(s state) (state, error) { return s.kept(now).askedFor(now, overlap) })
	if err != nil {
		return Status{}, err
	}
	return f.status(s, now), nil
}

func checkOverlap(overlap time.Duration) error {
	if overlap < 0 || overlap > maxOverlap {
		return fmt.Errorf("an overlap of %v: want 0 to %v", overlap, maxOverlap)
	}
	return nil
}

// askedFor returns s with another root, unless one is being replaced.
func (s state) askedFor(now time.Time, overlap time.Duration) (state, error) {
	if r := s.replacing(now); r != nil {
		return state{}, fmt.Errorf("a root is being replaced already: %s issues from %s", r.fingerprint(), r.issues.Format(time.RFC3339))
	}
	return s.rotated(now, overlap)
}

func missing(dir string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no certificate authority in %s: a server that is given no certificate makes one at its first start", dir)
	}
	return err
}

func (f folder) status(s state, now time.Time) Status {
	return Status{Bundle: f.path(bundleFile), BundleCurrent: f.bundleIs(s.roots), Roots: s.list(now)}
}

// list describes the roots.
func (s state) list(now time.Time) (list []Root) {
	issuer, name := s.issuer(now), Previous
	for _, r := range s.roots {
		if r == issuer {
			name = Issuing
		}
		list = append(list, Root{
			State: name, Fingerprint: r.fingerprint(), Published: r.published, Issues: r.issues, Alone: r.alone, Ends: r.cert.NotAfter,
		})
		if r == issuer {
			name = Next
		}
	}
	return list
}
