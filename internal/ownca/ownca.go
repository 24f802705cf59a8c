// Package ownca is the certificate authority of servers that were given no certificate.
// It issues them serving certificates, and replaces its own root in good time, so that
// no client ever fails: not one that has the roots of today, and not one that was given
// those of before.
//
// A folder holds it, which several servers may share:
//
//	ca.crt        the roots that clients are to trust, as PEM: what an API server is given
//	              as caBundle
//	ca-keys.json  the same with their keys, mode 0600: what counts
//
// A year before a root ends, or when someone asks for it ([Rotate]), a new one is put
// into ca.crt. Serving certificates are issued by it when a day has passed, in which
// clients could fetch ca.crt, and another day later the old one leaves ca.crt. The new
// root is signed by the old one as well, and that is sent along: who was never given
// the new root trusts it all the same until the old one ends.
//
// Serving certificates, and their keys, are in memory alone, one for each server.
//
// The clock may be wrong. Certificates do not begin at a time, since nothing rests on
// that, so whatever a clock ahead made is good when the clock has been set right; and a
// root that a wrong clock thinks has ended is kept for a month. By a clock behind, the
// root there was first issues, with an end that is counted from when it was made.
package ownca

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Lives are how long things live and stay. Tests have short ones.
type Lives struct {
	// Root is how long a root lives, and RenewRoot how long before its end there is
	// another one.
	Root, RenewRoot time.Duration
	// Overlap is how long a new root is in the bundle before it issues, and again before
	// the old one leaves; Alone how long that is at the least.
	Overlap, Alone time.Duration
	// Ended is how long a root stays that has ended before there was another.
	Ended time.Duration
	// Leaf is how long a serving certificate lives, and RenewLeaf how long before its end
	// there is another one.
	Leaf, RenewLeaf time.Duration
}

// DefaultLives returns those of a folder.
func DefaultLives() Lives {
	return Lives{
		Root: rootLife, RenewRoot: renewBefore, Overlap: DefaultOverlap, Alone: minAlone, Ended: endedGrace,
		Leaf: leafLife, RenewLeaf: leafRenewBefore,
	}
}

const (
	// rootLife is how long a root lives, and renewBefore how long before its end there is
	// another one: a year to give it to those that take it by hand.
	rootLife    = 10 * 365 * 24 * time.Hour
	renewBefore = 365 * 24 * time.Hour

	// DefaultOverlap is how long a new root is in ca.crt before it issues serving
	// certificates, and again before the old one leaves.
	DefaultOverlap = 24 * time.Hour
	// maxOverlap bounds what can be asked for.
	maxOverlap = 90 * 24 * time.Hour
	// minAlone is how long an old root stays after the new one issues at the least: all
	// servers have looked many times by then.
	minAlone = 10 * time.Second
	// endedGrace is how long a root stays that has ended before there was another. Either
	// everything stood still for a year, or the clock is wrong.
	endedGrace = 30 * 24 * time.Hour

	// A serving certificate is replaced so long before its end.
	leafLife        = 365 * 24 * time.Hour
	leafRenewBefore = 30 * 24 * time.Hour

	// lookInterval is how often the folder is looked at.
	lookInterval = 500 * time.Millisecond
	// lockWait is how long others may take with the folder, which takes them milliseconds.
	lockWait = 10 * time.Second
	// clockSlack is how far clocks may be apart before it is worth a word.
	clockSlack = time.Hour
)

// Options are what an [Authority] needs. All are required but Hosts.
type Options struct {
	// Dir is its folder. It is made if it is not there.
	Dir string
	// Hosts are the names and IP addresses that the serving certificate is for.
	Hosts []string
	// Now is the clock.
	Now    func() time.Time
	Logger *slog.Logger
}

// An Authority has the serving certificate of this server. Its methods may be called
// concurrently.
type Authority struct {
	folder folder
	hosts  []string
	now    func() time.Time
	logger *slog.Logger

	serving atomic.Pointer[serving]

	looking sync.Mutex
	known   []string // fingerprints of the roots of the last look, nil before the first
	said    string   // the last error, which is said once
}

// serving is what a look has found to serve.
type serving struct {
	certificate *tls.Certificate
	issuer      *root
	roots       int
}

// Open reads the authority in a folder, or makes one, and issues a serving certificate.
// A folder that cannot be written, such as a mounted Secret, will do if somebody else
// looks after it.
func Open(o Options) (*Authority, error) {
	a := &Authority{folder: newFolder(o.Dir), hosts: o.Hosts, now: o.Now, logger: o.Logger}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of the certificate authority: %w", err)
	}
	if err := a.look(lockWait); err != nil {
		if a.serving.Load() == nil {
			return nil, err
		}
		a.complain(err)
	}
	return a, nil
}

// BundlePath returns the path of ca.crt.
func (a *Authority) BundlePath() string { return a.folder.path(bundleFile) }

// Certificate returns the serving certificate, from memory. It is for [tls.Config].
func (a *Authority) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return a.serving.Load().certificate, nil
}

// Ends returns when the serving certificate and the root that issued it end.
func (a *Authority) Ends() (certificate, root time.Time) {
	s := a.serving.Load()
	return s.certificate.Leaf.NotAfter, s.issuer.cert.NotAfter
}

// Roots returns how many roots clients are to trust: more than one while a root is being
// replaced.
func (a *Authority) Roots() int { return a.serving.Load().roots }

// Run renews what has to be, and follows what others do to the folder, until ctx ends.
func (a *Authority) Run(ctx context.Context) error {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.complain(a.look(0))
		}
	}
}

// complain logs an error, once.
func (a *Authority) complain(err error) {
	a.looking.Lock()
	defer a.looking.Unlock()
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != a.said {
		a.logger.Error("the certificate authority cannot be looked after; the serving certificate stays", "error", err)
	}
	a.said = text
}

// look reads the folder, does what is due, and has the right certificate served. It
// waits for others that are at it.
func (a *Authority) look(wait time.Duration) error {
	a.looking.Lock()
	defer a.looking.Unlock()
	now := plausible(a.now())
	s, err := a.folder.read()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var undone error
	if s.due(now) || !a.folder.bundleIs(s.roots) {
		var changed state
		changed, undone = a.folder.change(wait, func(s state) (state, error) { return s.next(now) })
		if undone == nil {
			s = changed
		} else if errors.Is(undone, errBusy) && len(s.roots) > 0 {
			undone = nil // whoever is at it does what is due
		}
	}
	if len(s.roots) == 0 {
		return undone
	}
	a.tell(s, now)
	return errors.Join(undone, a.serve(s, now))
}

// plausible is what a clock says, or, before a time that is over for certain, that time: a
// root must not end before anybody has seen it.
func plausible(now time.Time) time.Time {
	if first := beginning(); now.Before(first) {
		return first
	}
	return now
}

// serve has a certificate of the right root served, a new one if need be.
func (a *Authority) serve(s state, now time.Time) error {
	issuer := s.issuer(now)
	end := leafEnd(issuer, now, leafLife)
	next := serving{issuer: issuer, roots: len(s.roots)}
	if old := a.serving.Load(); old != nil && old.issuer.is(issuer) && (now.Before(old.certificate.Leaf.NotAfter.Add(-leafRenewBefore)) || !end.After(old.certificate.Leaf.NotAfter)) {
		next.certificate = old.certificate
		a.serving.Store(&next)
		return nil
	}
	certificate, err := issue(issuer, s.chain(issuer), a.hosts, end)
	if err != nil {
		return fmt.Errorf("issuing a serving certificate: %w", err)
	}
	next.certificate = certificate
	a.serving.Store(&next)
	a.logger.Info("issued a serving certificate", "ca", issuer.fingerprint(), "until", end)
	return nil
}

// tell logs what has become of the roots since the last look.
func (a *Authority) tell(s state, now time.Time) {
	known := a.known
	a.known = nil
	seen := map[string]bool{}
	for _, f := range known {
		seen[f] = true
	}
	for _, r := range s.roots {
		f := r.fingerprint()
		switch a.known = append(a.known, f); {
		case seen[f]:
		case len(s.roots) == 1:
			a.logger.Info("the certificate authority", "ca", f, "until", r.cert.NotAfter, "bundle", a.BundlePath())
		case now.Before(r.issues):
			a.logger.Warn("a new root is in the bundle of the certificate authority: give the bundle to the API servers", "ca", f, "bundle", a.BundlePath(), "issues from", r.issues)
		}
		delete(seen, f)
	}
	for f := range seen {
		a.logger.Info("an old root has left the bundle of the certificate authority", "ca", f, "bundle", a.BundlePath())
	}
	if made := s.roots[0].published; known == nil && now.Add(clockSlack).Before(made) {
		a.logger.Warn("the clock is behind the time at which the certificate authority was made", "clock", now, "made", made)
	}
}

// fingerprint returns the SHA-256 of the root's certificate, in hex.
func (r *root) fingerprint() string {
	sum := sha256.Sum256(r.cert.Raw)
	return hex.EncodeToString(sum[:])
}

func (r *root) is(other *root) bool { return r.cert.Equal(other.cert) }

func (f folder) path(name string) string { return filepath.Join(f.dir, name) }
