package ownca

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const day = 24 * time.Hour

// A clock is what a test says.
type clock struct{ now time.Time }

func (c *clock) tell() time.Time { return c.now }

func today() *clock { return &clock{time.Date(2026, 11, 22, 7, 30, 0, 123, time.UTC)} }

func logger(to io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(to, nil)) }

// open is a server that starts.
func open(t *testing.T, dir string, c *clock) *Authority {
	t.Helper()
	a, err := Open(Options{Dir: dir, Hosts: []string{"localhost", "127.0.0.1"}, Now: c.tell, Logger: logger(io.Discard)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A client trusts the roots that it was given last.
type client struct{ roots *x509.CertPool }

// fetch gives a client the bundle.
func fetch(t *testing.T, dir string) client {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, bundleFile))
	if err != nil {
		t.Fatal(err)
	}
	c := client{x509.NewCertPool()}
	if !c.roots.AppendCertsFromPEM(text) {
		t.Fatalf("no certificate in %s", text)
	}
	return c
}

// verifies is what a TLS client does with what a server sends.
func (c client) verifies(a *Authority, now time.Time) error {
	served, err := a.Certificate(nil)
	if err != nil {
		return err
	}
	sent := x509.NewCertPool()
	for _, der := range served.Certificate[1:] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		sent.AddCert(cert)
	}
	leaf, err := x509.ParseCertificate(served.Certificate[0])
	if err != nil {
		return err
	}
	for _, host := range []string{"localhost", "127.0.0.1"} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: c.roots, Intermediates: sent, CurrentTime: now, DNSName: host}); err != nil {
			return err
		}
	}
	return nil
}

func serial(t *testing.T, a *Authority) string {
	t.Helper()
	c, err := a.Certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf.SerialNumber.String()
}

func mustLook(t *testing.T, a *Authority) {
	t.Helper()
	if err := a.look(lockWait); err != nil {
		t.Fatal(err)
	}
}

func TestTheFirstStartMakesAnAuthorityForAllThatFollow(t *testing.T) {
	t.Parallel()
	dir, c := filepath.Join(t.TempDir(), "tls"), today()
	first := open(t, dir, c)
	for name, want := range map[string]os.FileMode{".": 0o700, bundleFile: 0o644, keysFile: 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, error %v; want %v", name, info.Mode(), err, want)
		}
	}
	given := fetch(t, dir)
	second := open(t, dir, c)
	for _, a := range []*Authority{first, second} {
		if err := given.verifies(a, c.now); err != nil {
			t.Error(err)
		}
	}
	if serial(t, first) == serial(t, second) {
		t.Error("two servers have one certificate")
	}
	before := serial(t, first)
	if mustLook(t, first); serial(t, first) != before {
		t.Error("issued anew for nothing")
	}
	c.now = c.now.Add(leafLife - leafRenewBefore + time.Hour)
	if mustLook(t, first); serial(t, first) == before {
		t.Error("not renewed before its end")
	}
	if err := given.verifies(first, c.now); err != nil {
		t.Error(err)
	}
}

// TestNoClientEverFails follows two servers on one folder, one of which is restarted now
// and then, through the lives of three roots, with clients that fetch the bundle within
// each overlap, once in 300 days, and once in nine years.
func TestNoClientEverFails(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), today()
	servers := []*Authority{open(t, dir, c), open(t, dir, c)}
	kinds := map[string]time.Duration{"prompt": DefaultOverlap - 2*time.Hour, "slow": 300 * day, "by hand": 9 * 365 * day}
	clients, fetched := map[string]client{}, map[string]time.Time{}
	for name := range kinds {
		clients[name], fetched[name] = fetch(t, dir), c.now
	}
	issuers := map[string]bool{}
	most := 0
	for end := c.now.Add(30 * 365 * day); c.now.Before(end); {
		step := 11 * day
		if servers[0].Roots() > 1 {
			step = time.Hour // much happens
		}
		c.now = c.now.Add(step)
		mustLook(t, servers[0])
		for name, every := range kinds { // between the looks of two servers
			if c.now.Sub(fetched[name]) >= every {
				clients[name], fetched[name] = fetch(t, dir), c.now
			}
		}
		if mustLook(t, servers[1]); c.now.Unix()%3 == 0 {
			servers[1] = open(t, dir, c)
		}
		for name, client := range clients {
			for i, a := range servers {
				if err := client.verifies(a, c.now); err != nil {
					t.Fatalf("on %s a client that fetches the bundle every %v fails with server %d: %v", c.now, kinds[name], i, err)
				}
			}
		}
		issuers[servers[0].serving.Load().issuer.fingerprint()] = true
		most = max(most, servers[0].Roots())
	}
	if len(issuers) < 3 || most != 2 {
		t.Errorf("%d roots in thirty years, %d at the same time", len(issuers), most)
	}
}

// TestARootIssuesWhenClientsCouldHaveIt, and leaves when servers cannot use it any more.
func TestARootIssuesWhenClientsCouldHaveIt(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), today()
	a := open(t, dir, c)
	status := func() string {
		t.Helper()
		s, err := Show(dir, c.now)
		if err != nil {
			t.Fatal(err)
		}
		if !s.BundleCurrent || s.Bundle != filepath.Join(dir, bundleFile) {
			t.Errorf("the bundle: %+v", s)
		}
		var states []string
		for _, r := range s.Roots {
			states = append(states, r.State)
		}
		return strings.Join(states, " ")
	}
	_, rootEnd := a.Ends()
	for _, at := range []struct {
		when time.Duration // before the end of the first root
		want string
	}{
		{renewBefore + time.Minute, "issuing"},
		{renewBefore, "issuing next"},
		{renewBefore - DefaultOverlap + time.Minute, "issuing next"},
		{renewBefore - DefaultOverlap, "previous issuing"},
		{renewBefore - 2*DefaultOverlap + time.Minute, "previous issuing"},
		{renewBefore - 2*DefaultOverlap, "issuing"},
		{time.Minute, "issuing"},
		{-time.Minute, "issuing"},
	} {
		c.now = rootEnd.Add(-at.when)
		mustLook(t, a)
		if got := status(); got != at.want {
			t.Errorf("%v before the end: %s, want %s", at.when, got, at.want)
		}
		if served := a.serving.Load(); served.roots != len(strings.Fields(at.want)) || (served.issuer.cert.NotAfter.Equal(rootEnd)) != strings.HasPrefix(at.want, "issuing") != (at.when < renewBefore-2*DefaultOverlap+time.Second) {
			t.Errorf("%v before the end: served by the root that ends on %v, %d roots", at.when, served.issuer.cert.NotAfter, served.roots)
		}
	}
	if n := len(a.serving.Load().certificate.Certificate); n != 2 {
		t.Errorf("%d certificates are sent", n)
	}
}

func TestAnAskedForRotation(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), today()
	a := open(t, dir, c)
	old := fetch(t, dir)
	status, err := Rotate(dir, c.now, time.Minute)
	if err != nil || len(status.Roots) != 2 || status.Roots[0].State != Issuing || status.Roots[1].State != Next {
		t.Fatalf("%+v, %v", status, err)
	}
	if _, err := Rotate(dir, c.now, time.Minute); err == nil || !strings.Contains(err.Error(), "being replaced already") {
		t.Errorf("while a root is being replaced: %v", err)
	}
	before := serial(t, a)
	if mustLook(t, a); serial(t, a) != before || a.Roots() != 2 {
		t.Error("the server issues by a root that clients cannot know")
	}
	both := fetch(t, dir)
	c.now = c.now.Add(time.Minute)
	if mustLook(t, a); serial(t, a) == before {
		t.Error("the new root does not issue")
	}
	c.now = c.now.Add(time.Minute)
	mustLook(t, a)
	alone := fetch(t, dir)
	if a.Roots() != 1 {
		t.Errorf("%d roots", a.Roots())
	}
	for name, client := range map[string]client{"of before": old, "of meanwhile": both, "of now": alone} {
		if err := client.verifies(a, c.now); err != nil {
			t.Errorf("a client with the bundle %s: %v", name, err)
		}
	}
	// At once, and again: each is signed by the one before.
	for range 3 {
		if _, err := Rotate(dir, c.now, 0); err != nil {
			t.Fatal(err)
		}
		mustLook(t, a)
		for name, client := range map[string]client{"of before": old, "of now": fetch(t, dir)} {
			if err := client.verifies(a, c.now); err != nil {
				t.Errorf("a client with the bundle %s: %v", name, err)
			}
		}
	}
	for _, overlap := range []time.Duration{-1, maxOverlap + 1} {
		if _, err := Rotate(dir, c.now, overlap); err == nil {
			t.Errorf("an overlap of %v was taken", overlap)
		}
	}
	empty := t.TempDir()
	for what, f := range map[string]func() error{
		"show":   func() error { _, err := Show(empty, c.now); return err },
		"rotate": func() error { _, err := Rotate(empty, c.now, 0); return err },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), "no certificate authority in "+empty) {
			t.Errorf("%s where there is none: %v", what, err)
		}
	}
	if left, err := os.ReadDir(empty); err != nil || len(left) > 0 {
		t.Errorf("files were made where there is no authority: %v, %v", left, err)
	}
}

func TestRotationsHaveABound(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), today()
	open(t, dir, c)
	var err error
	n := 0
	for ; err == nil && n < 3*maxRoots; n++ {
		_, err = Rotate(dir, c.now, 0)
	}
	if err == nil || n > maxRoots {
		t.Fatalf("%d roots at the same time: %v", n, err)
	}
	open(t, dir, c) // what there is can be read
}

// TestAWrongClock: whatever it says and does, a client whose clock is right, and which
// was given the first bundle, goes on to be served, also when the clock was set right.
func TestAWrongClock(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]time.Duration{
		"two hours ahead": 2 * time.Hour, "in the last year of the root": rootLife - renewBefore + day, "in thirty years": 30 * 365 * day,
		"two hours behind": -2 * time.Hour, "in 1970": time.Unix(0, 0).Sub(today().now),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("of a server that starts", func(t *testing.T) {
				t.Parallel()
				dir, right := t.TempDir(), today()
				healthy := open(t, dir, right)
				given := fetch(t, dir)
				off := &clock{right.now.Add(wrong)}
				a := open(t, dir, off)
				check := func(what string) {
					t.Helper()
					for _, server := range []*Authority{healthy, a} {
						mustLook(t, server)
						for bundle, client := range map[string]client{"of before": given, "of now": fetch(t, dir)} {
							if err := client.verifies(server, right.now); err != nil {
								t.Errorf("%s, with the bundle %s: %v", what, bundle, err)
							}
						}
					}
				}
				check("wrong")
				right.now, off.now = right.now.Add(time.Hour), off.now.Add(time.Hour)
				check("an hour later")
				off.now = right.now
				check("set right")
				if s := healthy.serving.Load(); !s.issuer.cert.NotAfter.Equal(today().now.Add(rootLife).Truncate(time.Second)) {
					t.Errorf("the first root does not issue any more")
				}
				if _, err := Rotate(dir, right.now, time.Hour); err != nil { // what a wrong clock did is not in the way
					t.Error(err)
				}
			})
			t.Run("of the first start", func(t *testing.T) {
				t.Parallel()
				dir, right := t.TempDir(), today()
				a := open(t, dir, &clock{right.now.Add(wrong)})
				given := fetch(t, dir)
				b := open(t, dir, right)
				for i, server := range []*Authority{a, b} {
					if i == 0 && wrong < -leafLife {
						continue // what it serves has ended for everybody else
					}
					if err := given.verifies(server, right.now); err != nil {
						t.Errorf("server %d: %v", i, err)
					}
				}
			})
		})
	}
}

// TestKilledBetweenTwoWrites: at each write of making, replacing and retiring a root, and
// after it, a server that starts serves whoever was given the bundle of before, of the
// crash, or of now.
func TestKilledBetweenTwoWrites(t *testing.T) {
	t.Parallel()
	killed := errors.New("killed")
	steps := map[string]struct {
		wait   time.Duration // after the step before
		writes int
	}{"making": {0, 2}, "publishing": {rootLife - renewBefore, 2}, "retiring": {2 * DefaultOverlap, 2}}
	for i, name := range []string{"making", "publishing", "retiring"} {
		step := steps[name]
		for n := range step.writes + 1 {
			t.Run(fmt.Sprintf("%s, before write %d", name, n+1), func(t *testing.T) {
				t.Parallel()
				dir, c := t.TempDir(), today()
				for _, before := range []string{"making", "publishing", "retiring"}[:i] {
					c.now = c.now.Add(steps[before].wait)
					open(t, dir, c)
				}
				var given []client
				if i > 0 {
					given = append(given, fetch(t, dir))
				}
				c.now = c.now.Add(step.wait)
				a := &Authority{folder: newFolder(dir), hosts: []string{"localhost", "127.0.0.1"}, now: c.tell, logger: logger(io.Discard)}
				write, written := a.folder.write, 0
				a.folder.write = func(path string, data []byte, perm os.FileMode) error {
					if written == n {
						if err := os.WriteFile(filepath.Join(dir, "."+filepath.Base(path)+"-123"), data[:len(data)/2], 0o600); err != nil {
							t.Error(err)
						}
						return killed
					}
					written++
					return write(path, data, perm)
				}
				if err := a.look(lockWait); errors.Is(err, killed) != (n < step.writes) || written != n {
					t.Fatalf("%d writes, %v", written, err)
				}
				if i > 0 {
					given = append(given, fetch(t, dir))
					if s, err := Show(dir, c.now); err != nil || len(s.Roots) == 0 {
						t.Errorf("it cannot be shown: %+v, %v", s, err)
					}
				}
				for range 40 { // through the rotation
					b := open(t, dir, c)
					for i, client := range append(given, fetch(t, dir)) {
						if err := client.verifies(b, c.now); err != nil {
							t.Fatalf("client %d on %s: %v", i, c.now, err)
						}
					}
					c.now = c.now.Add(3 * time.Hour)
				}
				if left, err := filepath.Glob(filepath.Join(dir, ".ca*")); err != nil || n < step.writes && len(left) > 0 {
					t.Errorf("left over: %v, %v", left, err)
				}
				if s, err := Show(dir, c.now); err != nil || !s.BundleCurrent {
					t.Errorf("in the end: %+v, %v", s, err)
				}
			})
		}
	}
}

// TestManyStartAtOnce in an empty folder, and replace the root at once.
func TestManyStartAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for round, c := range []*clock{today(), {today().now.Add(rootLife - renewBefore)}} {
		var wg sync.WaitGroup
		all := make([]*Authority, 8)
		for i := range all {
			wg.Go(func() {
				a, err := Open(Options{Dir: dir, Hosts: []string{"localhost", "127.0.0.1"}, Now: c.tell, Logger: logger(io.Discard)})
				if err != nil {
					t.Error(err)
				}
				all[i] = a
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		given := fetch(t, dir)
		for _, a := range all {
			mustLook(t, a)
			if err := given.verifies(a, c.now); err != nil {
				t.Error(err)
			}
			if a.Roots() != round+1 {
				t.Errorf("round %d: %d roots", round, a.Roots())
			}
		}
	}
}

// TestAFolderThatCannotBeWritten, such as a mounted Secret, is followed.
func TestAFolderThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	source, c := t.TempDir(), today()
	open(t, source, c)
	dir := t.TempDir()
	// Whoever is root writes everywhere; but not where a folder is in the way.
	if err := os.Mkdir(filepath.Join(dir, lockFile), 0o700); err != nil {
		t.Fatal(err)
	}
	copyKeys := func() {
		t.Helper()
		for _, name := range []string{bundleFile, keysFile} {
			text, err := os.ReadFile(filepath.Join(source, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o440); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(filepath.Join(dir, name), 0o440); err != nil {
				t.Fatal(err)
			}
		}
	}
	copyKeys()
	var log strings.Builder
	a, err := Open(Options{Dir: dir, Hosts: []string{"localhost", "127.0.0.1"}, Now: c.tell, Logger: logger(&log)})
	if err != nil {
		t.Fatal(err)
	}
	given := fetch(t, dir)
	c.now = c.now.Add(rootLife - renewBefore)
	for range 3 {
		a.complain(a.look(0))
	}
	if n := strings.Count(log.String(), "cannot be looked after"); n != 1 {
		t.Errorf("it was said %d times that the root is not replaced:\n%s", n, &log)
	}
	if err := given.verifies(a, c.now); err != nil {
		t.Error(err)
	}
	open(t, source, c)
	copyKeys()
	mustLook(t, a)
	if a.Roots() != 2 || !strings.Contains(log.String(), "give the bundle to the API servers") {
		t.Errorf("%d roots:\n%s", a.Roots(), &log)
	}
	if _, err := Open(Options{Dir: filepath.Join(dir, lockFile, "x", "y"), Now: c.tell, Logger: logger(io.Discard)}); err != nil {
		t.Errorf("a folder of folders that are not there: %v", err)
	}
	empty := t.TempDir()
	if err := os.Mkdir(filepath.Join(empty, lockFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: empty, Now: c.tell, Logger: logger(io.Discard)}); err == nil {
		t.Error("an empty folder that cannot be written will do")
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	valid, other := t.TempDir(), t.TempDir()
	open(t, valid, today())
	open(t, other, today())
	read := func(dir string) string {
		text, err := os.ReadFile(filepath.Join(dir, keysFile))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	text := read(valid)
	key := func(text string) string {
		_, rest, _ := strings.Cut(text, `"key":"`)
		key, _, _ := strings.Cut(rest, `"`)
		return key
	}
	for name, tc := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"readable to all":      {text, 0o644, "has mode 0644"},
		"writable to a group":  {text, 0o660, "has mode 0660"},
		"empty":                {"", 0o600, keysFile},
		"cut":                  {text[:len(text)-10], 0o600, keysFile},
		"two":                  {text + text, 0o600, keysFile},
		"an unknown member":    {strings.Replace(text, "{", `{"a":1,`, 1), 0o600, `"a"`},
		"a newer form":         {strings.Replace(text, `"schema":1`, `"schema":2`, 1), 0o600, "newer version"},
		"no root":              {`{"schema":1,"roots":[],"crosses":[]}`, 0o600, "0 roots"},
		"the key of another":   {strings.Replace(text, key(text), key(read(other)), 1), 0o600, "key is of another"},
		"times not in order":   {strings.Replace(text, `"published":"2026`, `"published":"2027`, 1), 0o600, "not in order"},
		"a cross that is none": {strings.Replace(text, `"crosses":[]`, `"crosses":["AAAA"]`, 1), 0o600, "certificate of a root 1"},
		"far too long":         {text + strings.Repeat(" ", maxFile), 0o600, "bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, c := t.TempDir(), today()
			a := open(t, dir, c)
			before := serial(t, a)
			path := filepath.Join(dir, keysFile)
			if err := errors.Join(os.WriteFile(path, []byte(tc.text), 0o600), os.Chmod(path, tc.mode)); err != nil {
				t.Fatal(err)
			}
			_, err := Open(Options{Dir: dir, Now: c.tell, Logger: logger(io.Discard)})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("at start: %v, want %q in it", err, tc.want)
			}
			if err := a.look(0); err == nil || serial(t, a) != before {
				t.Errorf("of a server that runs: %v, and another certificate: %v", err, serial(t, a) != before)
			}
			if now, err := os.ReadFile(path); err != nil || string(now) != tc.text {
				t.Errorf("the file was changed, %v", err)
			}
		})
	}
}

// TestTheBundleIsMendedWhenItIsGone or was changed by hand.
func TestTheBundleIsMendedWhenItIsGone(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), today()
	a := open(t, dir, c)
	path := filepath.Join(dir, bundleFile)
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func() error{
		"gone": func() error { return os.Remove(path) }, "changed": func() error { return os.WriteFile(path, []byte("x"), 0o600) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if s, err := Show(dir, c.now); err != nil || s.BundleCurrent {
			t.Errorf("%s: shown as %+v, %v", what, s, err)
		}
		mustLook(t, a)
		if got, err := os.ReadFile(path); err != nil || string(got) != string(want) {
			t.Errorf("%s: now %q, %v", what, got, err)
		}
	}
}

// TestARunningServerFollows what another process does to the folder.
func TestARunningServerFollows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, err := Open(Options{Dir: dir, Hosts: []string{"localhost", "127.0.0.1"}, Now: time.Now, Logger: logger(io.Discard)})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	old, before := fetch(t, dir), serial(t, a)
	if _, err := Rotate(dir, time.Now(), 0); err != nil {
		t.Fatal(err)
	}
	tick, late := time.NewTicker(time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for serial(t, a) == before {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("never")
		}
	}
	for _, client := range []client{old, fetch(t, dir)} {
		if err := client.verifies(a, time.Now()); err != nil {
			t.Error(err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	dir := f.TempDir()
	c := today()
	if _, err := Open(Options{Dir: dir, Now: c.tell, Logger: logger(io.Discard)}); err != nil {
		f.Fatal(err)
	}
	if _, err := Rotate(dir, c.now, time.Hour); err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, keysFile))
	if err != nil || errors.Is(err, fs.ErrNotExist) {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"schema":1,"roots":[{}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := decode(text)
		if err != nil {
			return
		}
		if s.issuer(c.now) == nil || len(s.chain(s.roots[0])) > maxRoots {
			t.Error("an authority that cannot issue")
		}
		again, err := s.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(again); err != nil {
			t.Errorf("what was written is refused: %v", err)
		}
	})
}
