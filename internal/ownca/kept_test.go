package ownca

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"
)

// verifies connects nothing: it verifies a leaf as a client with these roots does.
func verifies(t *testing.T, leaf Leaf, roots []byte, now time.Time) error {
	t.Helper()
	pair, err := tls.X509KeyPair(leaf.Certificate, leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	trusted, between := x509.NewCertPool(), x509.NewCertPool()
	trusted.AppendCertsFromPEM(roots)
	for _, der := range pair.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		between.AddCert(c)
	}
	_, err = pair.Leaf.Verify(x509.VerifyOptions{DNSName: "gate.svc", Roots: trusted, Intermediates: between, CurrentTime: now})
	return err
}

func mustNext(t *testing.T, k Kept, now time.Time, drop bool) Kept {
	t.Helper()
	next, _, err := k.Next(now, drop)
	if err != nil {
		t.Fatal(err)
	}
	text, err := next.Text()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ReadKept(text, k.state.life())
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// TestAnAuthorityThatIsKeptElsewhere lives through forty years, looked at now and
// then, and clients that were given the roots a while ago never fail.
func TestAnAuthorityThatIsKeptElsewhere(t *testing.T) {
	t.Parallel()
	lives := DefaultLives()
	lives.Leaf, lives.RenewLeaf = 90*24*time.Hour, 30*24*time.Hour
	hosts := []string{"gate.svc", "10.0.0.1"}
	k, err := ReadKept(nil, lives)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	var leaf Leaf
	var old []byte // roots as they were given to a client at the last look but one
	replaced, most := 0, 0
	for now := begin; now.Before(begin.AddDate(40, 0, 0)); now = now.Add(5 * 24 * time.Hour) {
		v := k.Judge(leaf.Certificate, leaf.Key, hosts, now)
		k = mustNext(t, k, now, v.Due == "")
		if v = k.Judge(leaf.Certificate, leaf.Key, hosts, now); v.Due != "" {
			if leaf, err = k.Issue(hosts, now); err != nil {
				t.Fatal(err)
			}
			replaced++
			if v = k.Judge(leaf.Certificate, leaf.Key, hosts, now); v.Due != "" || !v.Usable || !v.Ends.Equal(leaf.Ends) {
				t.Fatalf("%v: %+v of a new one", now, v)
			}
		}
		most = max(most, len(k.Roots(now)))
		for what, roots := range map[string][]byte{"today": k.Bundle(), "yesterday": old} {
			if roots == nil {
				continue
			}
			if err := verifies(t, leaf, roots, now); err != nil {
				t.Fatalf("%v, with the roots of %s: %v", now, what, err)
			}
		}
		old = k.Bundle()
	}
	if replaced < 200 || most != 2 {
		t.Errorf("%d certificates, and %d roots at most", replaced, most)
	}
}

func TestAnOldRootLeavesOnlyWhenItMay(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	empty, err := ReadKept(nil, DefaultLives())
	if err != nil {
		t.Fatal(err)
	}
	k := mustNext(t, empty, now, false)
	rotated, err := k.Rotated(now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rotated.Rotated(now, time.Hour); err == nil || !strings.Contains(err.Error(), "being replaced already") {
		t.Errorf("replaced twice: %v", err)
	}
	if _, err := empty.Rotated(now, time.Hour); err == nil {
		t.Error("replaced what is not there")
	}
	if _, err := k.Rotated(now, -time.Second); err == nil {
		t.Error("an overlap that is none")
	}
	later := now.Add(3 * time.Hour)
	if kept := mustNext(t, rotated, later, false); len(kept.Roots(later)) != 2 {
		t.Error("the old root has left while it was served")
	}
	if kept := mustNext(t, rotated, later, true); len(kept.Roots(later)) != 1 || !bytes.Equal(kept.Issuer(later).Raw, rotated.Issuer(later).Raw) {
		t.Error("the old root has not left")
	}
	if next, changed, err := k.Next(now, true); err != nil || changed || !bytes.Equal(next.Bundle(), k.Bundle()) {
		t.Errorf("nothing is due, and %v, %v", changed, err)
	}
}

func TestWhatIsSaidOfACertificate(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	fresh := func() (Kept, Leaf) {
		empty, err := ReadKept(nil, DefaultLives())
		if err != nil {
			t.Fatal(err)
		}
		k := mustNext(t, empty, now, false)
		leaf, err := k.Issue([]string{"gate.svc"}, now)
		if err != nil {
			t.Fatal(err)
		}
		return k, leaf
	}
	k, leaf := fresh()
	rotated, err := k.Rotated(now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	_, foreign := fresh()
	for name, tc := range map[string]struct {
		by     Kept
		leaf   Leaf
		hosts  []string
		now    time.Time
		usable bool
		due    string
	}{
		"as it is":                 {k, leaf, []string{"gate.svc"}, now, true, ""},
		"none":                     {k, Leaf{}, []string{"gate.svc"}, now, false, "there is none"},
		"the key of another":       {k, Leaf{Certificate: leaf.Certificate, Key: foreign.Key}, []string{"gate.svc"}, now, false, "there is none"},
		"another name":             {k, leaf, []string{"gate.svc", "x.svc"}, now, false, "not for x.svc"},
		"another authority":        {k, foreign, []string{"gate.svc"}, now, false, "another certificate authority"},
		"it has ended":             {k, leaf, []string{"gate.svc"}, now.AddDate(2, 0, 0), false, "has ended"},
		"it ends soon":             {k, leaf, []string{"gate.svc"}, now.AddDate(0, 11, 15), true, "ends soon"},
		"a new root is there":      {rotated, leaf, []string{"gate.svc"}, now, true, ""},
		"a new root issues":        {rotated, leaf, []string{"gate.svc"}, now.Add(time.Hour), true, "another root"},
		"nobody has issued it yet": {Kept{}, leaf, []string{"gate.svc"}, now, false, "another certificate authority"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := tc.by.Judge(tc.leaf.Certificate, tc.leaf.Key, tc.hosts, tc.now)
			if v.Usable != tc.usable || (v.Due == "") != (tc.due == "") || !strings.Contains(v.Due, tc.due) {
				t.Errorf("%+v", v)
			}
		})
	}
	if _, err := (Kept{}).Issue([]string{"x"}, now); err == nil {
		t.Error("issued by nobody")
	}
}
