package hint_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/hint"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

var (
	now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	d1  = image.DigestOf([]byte("1"))
	d2  = image.DigestOf([]byte("2"))
)

func name(t testing.TB, text string) hint.Name {
	t.Helper()
	n, err := hint.ParseName(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func ref(t testing.TB, text string) image.Reference {
	t.Helper()
	r, err := image.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func of(t testing.TB, text string, d image.Digest, sequence uint64) hint.Hint {
	t.Helper()
	return hint.Hint{Name: name(t, text), Digest: d, Sequence: sequence, IssuedAt: now.Add(-time.Hour), ExpiresAt: now.Add(time.Hour)}
}

// The five forms of the patterns, and what each is about.
func TestNames(t *testing.T) {
	t.Parallel()
	digested := "gcr.io/project/helloworld@" + d1.String()
	for text, want := range map[string]struct{ fits, not []string }{
		"gcr.io/project/*":               {[]string{"gcr.io/project/a", "gcr.io/project/a:1", "gcr.io/project/b@" + d1.String()}, []string{"gcr.io/project/a/b", "gcr.io/projects/a", "gcr.io/project", "ghcr.io/project/a"}},
		"gcr.io/project/helloworld":      {[]string{"gcr.io/project/helloworld", "gcr.io/project/helloworld:v1", digested}, []string{"gcr.io/project/helloworld2", "gcr.io/project/helloworld/x"}},
		"gcr.io/project/helloworld:tag":  {[]string{"gcr.io/project/helloworld:tag", "gcr.io/project/helloworld:tag@" + d2.String()}, []string{"gcr.io/project/helloworld", "gcr.io/project/helloworld:tag2", digested}},
		"gcr.io/project/helloworld:v1.*": {[]string{"gcr.io/project/helloworld:v1.2", "gcr.io/project/helloworld:v1."}, []string{"gcr.io/project/helloworld:v1", "gcr.io/project/helloworld:v2.1", "gcr.io/project/helloworld"}},
		digested:                         {[]string{digested, "gcr.io/project/helloworld:v1@" + d1.String()}, []string{"gcr.io/project/helloworld@" + d2.String(), "gcr.io/project/helloworld:v1"}},
		"nginx":                          {[]string{"nginx:1.25", "docker.io/library/nginx", "index.docker.io/library/nginx:x"}, []string{"docker.io/other/nginx"}},
	} {
		n := name(t, text)
		var s hint.Set
		s.Put("it", of(t, text, d1, 1))
		about := func(text string) bool { return s.About(ref(t, text), "").Standing != hint.Unhinted }
		for _, r := range want.fits {
			if !about(r) {
				t.Errorf("%q is not about %q", text, r)
			}
		}
		for _, r := range want.not {
			if about(r) {
				t.Errorf("%q is about %q", text, r)
			}
		}
		if again := name(t, n.String()); again != n {
			t.Errorf("%q is written %q, which is read as %q", text, n, again)
		}
	}
	for _, text := range []string{
		"", "*", "/*", "gcr.io/*/x", "gcr.io/project/**", "gcr.io/project/pre*", "gcr.io/p/x:*", "gcr.io/p/x:v1*x", "gcr.io/p/x@sha256:*",
		"gcr.io/p/x:v@" + d1.String(), "gcr.io/p/x:v1/*", "gcr.io/p/x@" + d1.String() + "*", "gcr.io/p/x@sha256:abc", "gcr.io/P/x", " gcr.io/p/x", "gcr.io/p/x\n",
	} {
		if n, err := hint.ParseName(text); err == nil {
			t.Errorf("%q is read as %q", text, n)
		}
	}
}

func TestAPayloadIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	h := of(t, "gcr.io/p/app:v1.*", d1, 7)
	h.Cluster, h.Revoked = "us-east1-b.prod", true
	payload, err := h.Payload()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"critical":{"identity":{"docker-reference":"gcr.io/p/app:v1.*"},"image":{"docker-manifest-digest":"` + d1.String() +
		`"},"type":"gatehouse rollout hint"},"optional":{"sequence":7,"issued-at":"2026-11-30T11:00:00Z","expires-at":"2026-11-30T13:00:00Z","cluster":"us-east1-b.prod","revoked":true}}`
	if string(payload) != want {
		t.Errorf("payload %s\nwant    %s", payload, want)
	}
	got, err := hint.Parse(payload, now)
	if err != nil || got != h {
		t.Errorf("read %+v, %v\nwant %+v", got, err, h)
	}
	if h.ResourceURI() != "https://gcr.io/p/app@"+d1.String() {
		t.Errorf("filed under %q", h.ResourceURI())
	}
	// A hint is no attestation, and an attestation no hint.
	if p, err := signature.ParsePayload(payload); err == nil {
		t.Errorf("a hint was taken for the attestation %+v", p)
	}
	for _, typ := range []string{signature.TypeBinauthz, signature.TypeAtomic, signature.TypeCosign, "Gatehouse Rollout Hint"} {
		if h, err := hint.Parse(signature.NewPayload("gcr.io/p/app", d1, typ), now); err == nil {
			t.Errorf("type %q was taken for the hint %+v", typ, h)
		}
	}
}

func TestAHintWithoutATypeBeginsWhenItWasFiled(t *testing.T) {
	t.Parallel()
	h, err := hint.Parse(fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":"gcr.io/p/app"},"image":{"docker-manifest-digest":%q}}}`, d1), now)
	if err != nil || h.Sequence != 0 || !h.IssuedAt.Equal(now) || !h.ExpiresAt.Equal(now.Add(hint.DefaultLife)) || h.Digest != d1 {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestPayloadsThatAreRefused(t *testing.T) {
	t.Parallel()
	good := of(t, "gcr.io/p/app", d1, 1)
	text, err := good.Payload()
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string][2]string{
		"no number":             {`"sequence":1,`, ``},
		"a number that is text": {`"sequence":1`, `"sequence":"1"`},
		"a negative number":     {`"sequence":1`, `"sequence":-1`},
		"no end":                {`,"expires-at":"2026-11-30T13:00:00Z"`, ``},
		"no beginning":          {`"issued-at":"2026-11-30T11:00:00Z",`, ``},
		"an end before":         {`2026-11-30T13`, `2026-11-30T10`},
		"a life too long":       {`2026-11-30T13`, `2028-11-30T13`},
		"a key twice":           {`"sequence":1`, `"sequence":1,"sequence":2`},
		"a key in another case": {`"docker-reference"`, `"Docker-Reference"`},
		"another digest":        {`"gcr.io/p/app"`, `"gcr.io/p/app@` + d2.String() + `"`},
		"a digest too short":    {d1.String(), "sha256:abc"},
		"a pattern of policies": {`gcr.io/p/app`, `gcr.io/p/**`},
		"more after it":         {`}}`, `}} {}`},
		"a cluster of two":      {`"sequence":1`, `"sequence":1,"cluster":"a b"`},
	} {
		changed := strings.Replace(string(text), change[0], change[1], 1)
		if changed == string(text) {
			t.Fatalf("%s: nothing changed in %s", what, text)
		}
		if h, err := hint.Parse([]byte(changed), now); err == nil {
			t.Errorf("%s: read as %+v", what, h)
		}
	}
	if _, err := hint.Parse([]byte(`{"x":"`+strings.Repeat("x", hint.MaxPayload)+`"}`), now); err == nil {
		t.Error("a payload too large was read")
	}
	for what, h := range map[string]hint.Hint{
		"nothing": {}, "no digest": {Name: name(t, "a/b"), IssuedAt: now, ExpiresAt: now.Add(time.Hour)},
		"no time": {Name: name(t, "a/b"), Digest: d1},
	} {
		if text, err := h.Payload(); err == nil {
			t.Errorf("%s: written as %s", what, text)
		}
	}
}

// The narrowest name that fits decides, whether it stands for anything or not.
func TestTheNarrowestNameDecides(t *testing.T) {
	t.Parallel()
	digest := func(i int) image.Digest { return image.DigestOf([]byte(fmt.Sprint("d", i))) }
	names := []string{"r.test/p/*", "r.test/p/app", "r.test/p/app:v*", "r.test/p/app:v1.*", "r.test/p/app:v1.2", "r.test/p/app@" + d1.String()}
	var s hint.Set
	asked := ref(t, "r.test/p/app:v1.2@"+d1.String())
	if res := s.Resolve(asked, "", now); !res.Digest.IsZero() || res.Standing != hint.Unhinted {
		t.Errorf("nothing is hinted: %+v", res)
	}
	for i, text := range names {
		d := digest(i)
		if strings.Contains(text, "@") {
			d = d1
		}
		s.Put(text, of(t, text, d, 1))
		want := d
		if i == 0 {
			want = image.Digest{} // a path resolves nothing
		}
		if res := s.Resolve(asked, "", now); res.Digest != want {
			t.Errorf("with %q: %+v", text, res)
		}
	}
	// A hint that has ended is not replaced by a wider one.
	ended := of(t, "r.test/p/app:v1.2", digest(4), 2)
	ended.ExpiresAt = now
	s.Put("ended", ended)
	if res := s.Resolve(ref(t, "r.test/p/app:v1.2"), "", now); !res.Digest.IsZero() || !strings.Contains(res.Why, "has ended") {
		t.Errorf("ended: %+v", res)
	}
	if res := s.Resolve(ref(t, "r.test/p/app:v1.3"), "", now); res.Digest != digest(3) {
		t.Errorf("another tag: %+v", res)
	}
	later := of(t, "r.test/p/app:v1.*", digest(9), 2)
	later.IssuedAt = now.Add(hint.Leeway + time.Second)
	later.ExpiresAt = later.IssuedAt.Add(time.Hour)
	s.Put("later", later)
	if res := s.Resolve(ref(t, "r.test/p/app:v1.3"), "", now); !res.Digest.IsZero() || !strings.Contains(res.Why, "begins at") {
		t.Errorf("not begun: %+v", res)
	}
}

// TestRollingBackByReplay: an older hint never comes back, whatever is filed again or
// deleted.
func TestRollingBackByReplay(t *testing.T) {
	t.Parallel()
	var s hint.Set
	app := ref(t, "r.test/app:v1")
	expect := func(what string, want image.Digest, why string) {
		t.Helper()
		if res := s.Resolve(app, "", now); res.Digest != want || !strings.Contains(res.Why, why) {
			t.Errorf("%s: %+v", what, res)
		}
	}
	old, current := of(t, "r.test/app:v1", d1, 1), of(t, "r.test/app:v1", d2, 2)
	s.Put("o1", old)
	expect("the first", d1, "")
	s.Put("o2", current)
	s.Put("o3", old)
	expect("the first, filed again", d2, "")
	s.Remove("o2")
	expect("the newest deleted", image.Digest{}, "was deleted")
	s.Put("o4", old)
	expect("the first, filed once more", image.Digest{}, "was deleted")
	s.Put("o5", current)
	expect("the newest filed again", d2, "")
	revoked := of(t, "r.test/app:v1", d2, 3)
	revoked.Revoked = true
	s.Put("o6", revoked)
	expect("revoked", image.Digest{}, "revokes")
	again := of(t, "r.test/app:v1", d1, 3)
	s.Put("o7", again)
	expect("another with the number of the revocation, as new", image.Digest{}, "revokes")
	s.Put("o8", of(t, "r.test/app:v1", d1, 4))
	expect("rolled back on purpose", d1, "")
	if got := s.Reached(old); got != 4 {
		t.Errorf("%d was reached", got)
	}
	if all := s.All(); len(all) != 7 || all[0].Sequence != 4 {
		t.Errorf("%d hints, the first %+v", len(all), all[0])
	}
}

// A path permits digests, and a narrower name decides instead of it; a cluster's own
// hints count before those for all.
func TestWhatThereIsAboutAReference(t *testing.T) {
	t.Parallel()
	var s hint.Set
	about := func(text string, want hint.Standing, d image.Digest) {
		t.Helper()
		if f := s.About(ref(t, text), "here.test"); f.Standing != want || f.Hint.Digest != d {
			t.Errorf("%q: %+v", text, f)
		}
	}
	var none image.Digest
	at := func(d image.Digest) string { return "@" + d.String() }
	about("r.test/p/app:v1"+at(d1), hint.Unhinted, none)
	s.Put("1", of(t, "r.test/p/*", d1, 1))
	about("r.test/p/app:v1"+at(d1), hint.Stands, d1)
	about("r.test/p/other"+at(d2), hint.Elsewhere, none)
	about("r.test/p/other", hint.Elsewhere, none)
	about("r.test/q/other"+at(d2), hint.Unhinted, none)
	s.Put("2", of(t, "r.test/p/app", d2, 1))
	about("r.test/p/app:v1"+at(d1), hint.Stands, d2)
	about("r.test/p/app:v1", hint.Stands, d2)
	other := of(t, "r.test/p/app", d1, 9)
	other.Cluster = "else.where"
	s.Put("3", other)
	about("r.test/p/app"+at(d2), hint.Stands, d2)
	here := of(t, "r.test/p/app", d1, 1)
	here.Cluster = "here.test"
	s.Put("4", here)
	about("r.test/p/app"+at(d2), hint.Stands, d1)
	s.Remove("4")
	about("r.test/p/app"+at(d2), hint.Withdrawn, none)
	s.Remove("1")
	about("r.test/p/more"+at(d1), hint.Withdrawn, none)
}

func FuzzParse(f *testing.F) {
	h := hint.Hint{Name: name(f, "gcr.io/p/app:v1.*"), Digest: d1, Sequence: 1, IssuedAt: now, ExpiresAt: now.Add(time.Hour)}
	text, err := h.Payload()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(signature.NewPayload("gcr.io/p/*", d1, ""))
	f.Fuzz(func(t *testing.T, payload []byte) {
		h, err := hint.Parse(payload, now)
		if err != nil {
			return
		}
		if h.Sequence == 0 {
			return // of those without a type, which are read and not written
		}
		again, err := h.Payload()
		if err != nil {
			t.Fatalf("%q is read and cannot be written: %v", payload, err)
		}
		if back, err := hint.Parse(again, now); err != nil || back != h {
			t.Fatalf("%+v is written %s and read as %+v, %v", h, again, back, err)
		}
		if _, err := signature.ParsePayload(again); err == nil {
			t.Fatalf("%s is an attestation too", again)
		}
		if !json.Valid(payload) {
			t.Fatalf("%q is no JSON", payload)
		}
	})
}
