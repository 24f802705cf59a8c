package breakglass_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/breakglass"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// access is an API server: it lets ann.
type access struct {
	asked int
	down  error
}

func (a *access) MayBreakGlass(_ context.Context, who breakglass.User, namespace, workload string) (bool, string, error) {
	a.asked++
	return who.Name == "ann" && namespace == "shop", "as the rules have it", a.down
}

const replicaSets = "system:serviceaccount:kube-system:replicaset-controller"

func newWarden(t *testing.T, change func(*breakglass.Options)) *breakglass.Warden {
	t.Helper()
	o := breakglass.Options{
		Modes: []breakglass.Mode{breakglass.RBAC}, Writers: breakglass.NewWriters(breakglass.Controllers()), Access: &access{}, Grants: breakglass.NewGrants(),
		Now: func() time.Time { return noon }, Logger: slog.New(slog.DiscardHandler),
	}
	change(&o)
	w, err := breakglass.NewWarden(o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func podOf(user string) *breakglass.Request {
	img := "reg.test/app@" + digest(1)
	return &breakglass.Request{
		Cluster: "c.x", Namespace: "shop", Object: breakglass.Workload{Kind: "Pod", Name: "web-6d4-abc"}, UID: "pod",
		Owner: breakglass.Owner{Workload: breakglass.Workload{Kind: "ReplicaSet", Name: "web-6d4"}, UID: "rs"}, TemplateHash: "6d4",
		User: breakglass.User{Name: user}, Marker: "label b", Denied: []string{img}, Images: []string{img},
	}
}

// deployed tells a warden of a Deployment that somebody wrote, and its replica set.
func deployed(w *breakglass.Warden, writer string) {
	img := []string{breakglass.ImageKey("reg.test/app@" + digest(1))}
	deployment := breakglass.Workload{Kind: "Deployment", Name: "web"}
	w.Wrote(breakglass.Object{UID: "deployment", Cluster: "c.x", Namespace: "shop", Workload: deployment, Writer: breakglass.User{Name: writer}, Images: img})
	w.Wrote(breakglass.Object{
		UID: "rs", Cluster: "c.x", Namespace: "shop", Workload: breakglass.Workload{Kind: "ReplicaSet", Name: "web-6d4"}, Owner: breakglass.Owner{Workload: deployment, UID: "deployment"},
		Writer: breakglass.User{Name: "system:serviceaccount:kube-system:deployment-controller"}, Images: img,
	})
}

func TestWhoMayByRBAC(t *testing.T) {
	t.Parallel()
	rbac := func(*breakglass.Options) {}
	t.Run("who asks himself", func(t *testing.T) {
		t.Parallel()
		w := newWarden(t, rbac)
		if got := w.Rule(t.Context(), podOf("ann")); !got.Allowed {
			t.Errorf("ann: %+v", got)
		}
		if got := w.Rule(t.Context(), podOf("bob")); got.Allowed || !strings.Contains(got.Refused, `"bob" may not`) {
			t.Errorf("bob: %+v", got)
		}
	})
	t.Run("who wrote the workload, and not its controller", func(t *testing.T) {
		t.Parallel()
		for writer, want := range map[string]bool{"ann": true, "bob": false} {
			w := newWarden(t, rbac)
			deployed(w, writer)
			who, what, known := w.Identify(podOf(replicaSets))
			if who.Name != writer || what.String() != "Deployment/web" || !known {
				t.Errorf("behind the pod: %q, %s", who.Name, what)
			}
			if got := w.Rule(t.Context(), podOf(replicaSets)); got.Allowed != want {
				t.Errorf("%s: %+v", writer, got)
			}
		}
	})
	t.Run("owners are believed of controllers only", func(t *testing.T) {
		t.Parallel()
		w := newWarden(t, rbac)
		deployed(w, "ann")
		if got := w.Rule(t.Context(), podOf("bob")); got.Allowed {
			t.Error("bob's pod says that it is of ann's workload, and is let in")
		}
	})
	t.Run("other images than were written are nobody's", func(t *testing.T) {
		t.Parallel()
		w := newWarden(t, rbac)
		deployed(w, "ann")
		r := podOf(replicaSets)
		r.Denied = []string{"reg.test/app@" + digest(2)}
		if got := w.Rule(t.Context(), r); got.Allowed || !strings.Contains(got.Refused, "not known") {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("a workload of another namespace is not it", func(t *testing.T) {
		t.Parallel()
		w := newWarden(t, rbac)
		deployed(w, "ann")
		r := podOf(replicaSets)
		r.Namespace = "other"
		if who, _, known := w.Identify(r); known {
			t.Errorf("it is %q's", who.Name)
		}
	})
	t.Run("a workload of another cluster is not it", func(t *testing.T) {
		t.Parallel()
		w := newWarden(t, rbac)
		deployed(w, "ann")
		r := podOf(replicaSets)
		r.Cluster = "c.y"
		if who, _, known := w.Identify(r); known {
			t.Errorf("it is %q's", who.Name)
		}
	})
	t.Run("what other gates have seen counts", func(t *testing.T) {
		t.Parallel()
		other := newWarden(t, rbac)
		deployed(other, "ann")
		there := &elsewhere{writers: other.Writers}
		w := newWarden(t, func(o *breakglass.Options) { o.Elsewhere = there })
		for range 2 {
			if got := w.Rule(t.Context(), podOf(replicaSets)); !got.Allowed {
				t.Errorf("got %+v", got)
			}
		}
		if who, _, known := w.Identify(podOf(replicaSets)); who.Name != "ann" || !known {
			t.Errorf("it is %q's", who.Name)
		}
		if there.asked != 2 {
			t.Errorf("asked %d times: of the replica set and the Deployment, once each", there.asked)
		}
		r := podOf(replicaSets)
		r.Denied = []string{"reg.test/app@" + digest(2)}
		if got := w.Rule(t.Context(), r); got.Allowed || there.asked != 3 {
			t.Errorf("images that nobody wrote: %+v, asked %d times", got, there.asked)
		}
	})
	t.Run("when others cannot be asked, only what is known counts", func(t *testing.T) {
		t.Parallel()
		w := newWarden(t, func(o *breakglass.Options) { o.Elsewhere = &elsewhere{down: errors.New("connection refused")} })
		if got := w.Rule(t.Context(), podOf(replicaSets)); got.Allowed || !strings.Contains(got.Refused, "write its template once more") {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("an image review does not say who", func(t *testing.T) {
		t.Parallel()
		if got := newWarden(t, rbac).Rule(t.Context(), podOf("")); got.Allowed || !strings.Contains(got.Refused, "does not say who") {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("a storm asks once", func(t *testing.T) {
		t.Parallel()
		a := &access{}
		w := newWarden(t, func(o *breakglass.Options) { o.Access = a })
		for range 100 {
			w.Rule(t.Context(), podOf("ann"))
		}
		if a.asked != 1 {
			t.Errorf("asked %d times", a.asked)
		}
	})
	t.Run("when the API server cannot be asked", func(t *testing.T) {
		t.Parallel()
		down := &access{down: errors.New("connection refused")}
		w := newWarden(t, func(o *breakglass.Options) { o.Access = down })
		if got := w.Rule(t.Context(), podOf("ann")); got.Allowed || !strings.Contains(got.Refused, "connection refused") {
			t.Errorf("by default: %+v", got)
		}
		w = newWarden(t, func(o *breakglass.Options) { o.Access, o.AllowUnasked = down, true })
		if got := w.Rule(t.Context(), podOf("bob")); !got.Allowed || got.Permit != "rbac (not asked)" {
			t.Errorf("if it is to be allowed: %+v", got)
		}
		g := newGrantors(t, "carl")
		w = newWarden(t, func(o *breakglass.Options) {
			o.Access, o.Modes, o.Grants = down, []breakglass.Mode{breakglass.RBAC, breakglass.ByGrant}, g.granted(breakglass.Grant{}, 1, "carl")
		})
		if got := w.Rule(t.Context(), podOf("bob")); !got.Allowed || !strings.Contains(got.Permit, "of carl") {
			t.Errorf("with a grant: %+v", got)
		}
	})
	t.Run("an API server that hangs is waited for as long as there is time", func(t *testing.T) {
		t.Parallel()
		w := newWarden(t, func(o *breakglass.Options) { o.Access = hanging{} })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		got := w.Rule(ctx, podOf("ann"))
		if got.Allowed || ctx.Err() != nil || !strings.Contains(got.Refused, "in time") {
			t.Errorf("got %+v, with the time over: %v", got, ctx.Err())
		}
	})
}

// elsewhere is what other gates have seen.
type elsewhere struct {
	writers *breakglass.Writers
	asked   int
	down    error
}

func (e *elsewhere) Writer(ctx context.Context, uid string, images []string) (breakglass.Object, error) {
	e.asked++
	if e.down != nil {
		return breakglass.Object{}, e.down
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel() // it does not wait for more
	return e.writers.Await(ctx, "c.x", uid, images), nil
}

type hanging struct{}

func (hanging) MayBreakGlass(ctx context.Context, _ breakglass.User, _, _ string) (bool, string, error) {
	<-ctx.Done()
	return false, "", ctx.Err()
}

func TestAReasonCanBeRequired(t *testing.T) {
	t.Parallel()
	w := newWarden(t, func(o *breakglass.Options) { o.Modes, o.RequireReason = []breakglass.Mode{breakglass.Open}, true })
	r := podOf("bob")
	if got := w.Rule(t.Context(), r); got.Allowed || !strings.Contains(got.Refused, "justification") {
		t.Errorf("without: %+v", got)
	}
	r.Reason = "it burns"
	if got := w.Rule(t.Context(), r); !got.Allowed {
		t.Errorf("with: %+v", got)
	}
}

func TestNobodyMayWithoutAMode(t *testing.T) {
	t.Parallel()
	if got := newWarden(t, func(o *breakglass.Options) { o.Modes = nil }).Rule(t.Context(), podOf("ann")); got.Allowed || got.Refused == "" {
		t.Errorf("got %+v", got)
	}
}

// grantors are people with keys.
type grantors struct {
	*testing.T
	keys map[string]signature.Signer
	list []breakglass.Grantor
}

func newGrantors(t *testing.T, names ...string) *grantors {
	t.Helper()
	g := &grantors{T: t, keys: map[string]signature.Signer{}}
	for _, name := range names {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := signature.NewPKIXSigner(key, signature.ECDSAP256SHA256, "")
		if err != nil {
			t.Fatal(err)
		}
		g.keys[name] = signer
		g.list = append(g.list, breakglass.Grantor{Name: name, Keys: []*signature.PublicKey{signer.PublicKey()}})
	}
	return g
}

// text is a grant that is signed; what it does not say is anything, from an hour before
// noon to an hour after.
func (g *grantors) text(grant breakglass.Grant, by ...string) []byte {
	g.Helper()
	if grant.ID == "" {
		grant.ID = breakglass.NewGrantID()
	}
	if grant.Cluster == "" {
		grant.Cluster = "*"
	}
	if grant.Namespace == "" {
		grant.Namespace = "*"
	}
	if grant.Begins.IsZero() {
		grant.Begins, grant.Ends = noon.Add(-time.Hour), noon.Add(time.Hour)
	}
	payload, err := grant.Payload()
	if err != nil {
		g.Fatal(err)
	}
	s := breakglass.SignedGrant{Payload: payload}
	for _, name := range by {
		if err := s.Sign(g.Context(), g.keys[name]); err != nil {
			g.Fatal(err)
		}
	}
	text, err := s.Text()
	if err != nil {
		g.Fatal(err)
	}
	return text
}

func (g *grantors) granted(grant breakglass.Grant, needed int, by ...string) *breakglass.Grants {
	g.Helper()
	all := breakglass.NewGrants()
	all.Trust(g.list, needed, 0)
	_ = all.Put("it", g.text(grant, by...), noon) // what is refused permits nothing
	return all
}

func TestWhoMayByGrant(t *testing.T) {
	t.Parallel()
	g := newGrantors(t, "carl", "dora")
	for name, tc := range map[string]struct {
		grant  breakglass.Grant
		needed int
		by     []string
		why    string // "" is allowed
	}{
		"all":                      {by: []string{"carl"}},
		"the cluster":              {grant: breakglass.Grant{Cluster: "c.x"}, by: []string{"carl"}},
		"another cluster":          {grant: breakglass.Grant{Cluster: "c.y"}, by: []string{"carl"}, why: "no grant covers"},
		"the namespace":            {grant: breakglass.Grant{Namespace: "shop"}, by: []string{"carl"}},
		"another namespace":        {grant: breakglass.Grant{Namespace: "shop2"}, by: []string{"carl"}, why: "no grant covers"},
		"the workload":             {grant: breakglass.Grant{Workload: "Deployment/web"}, by: []string{"carl"}},
		"another workload":         {grant: breakglass.Grant{Workload: "Deployment/api"}, by: []string{"carl"}, why: "no grant covers Deployment/web"},
		"the digest":               {grant: breakglass.Grant{Image: digest(1)}, by: []string{"carl"}},
		"another digest":           {grant: breakglass.Grant{Image: digest(2)}, by: []string{"carl"}, why: "no grant covers"},
		"images by a pattern":      {grant: breakglass.Grant{Image: "reg.test/app@*"}, by: []string{"carl"}, why: ""},
		"other images":             {grant: breakglass.Grant{Image: "reg.test/other/*"}, by: []string{"carl"}, why: "no grant covers"},
		"nobody signed":            {by: nil, why: "no grant covers"},
		"two of two":               {needed: 2, by: []string{"carl", "dora"}},
		"one of two":               {needed: 2, by: []string{"carl"}, why: "no grant covers"},
		"that has ended":           {grant: breakglass.Grant{Begins: noon.Add(-2 * time.Hour), Ends: noon}, by: []string{"carl"}, why: "ended at 2026-11-23T12:00:00Z"},
		"that has not begun":       {grant: breakglass.Grant{Begins: noon.Add(time.Second), Ends: noon.Add(time.Hour)}, by: []string{"carl"}, why: "begins at"},
		"that begins at this time": {grant: breakglass.Grant{Begins: noon, Ends: noon.Add(time.Hour)}, by: []string{"carl"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWarden(t, func(o *breakglass.Options) {
				o.Modes, o.Grants = []breakglass.Mode{breakglass.ByGrant}, g.granted(tc.grant, tc.needed, tc.by...)
			})
			got := w.Rule(t.Context(), podOf(replicaSets))
			if got.Allowed != (tc.why == "") || !strings.Contains(got.Refused, tc.why) {
				t.Errorf("got %+v, want %q", got, tc.why)
			}
		})
	}
}

func TestGrantsThatDoNotCount(t *testing.T) {
	t.Parallel()
	g := newGrantors(t, "carl", "dora")
	twice := []breakglass.Grantor{{Name: "carl", Keys: []*signature.PublicKey{g.keys["carl"].PublicKey(), g.keys["dora"].PublicKey()}}}
	shared := []breakglass.Grantor{{Name: "carl", Keys: []*signature.PublicKey{g.keys["carl"].PublicKey()}}, {Name: "eve", Keys: []*signature.PublicKey{g.keys["carl"].PublicKey()}}}
	for name, tc := range map[string]struct {
		trust []breakglass.Grantor
		text  []byte
	}{
		"by two keys of one person":      {twice, g.text(breakglass.Grant{}, "carl", "dora")},
		"by one key of two people":       {shared, g.text(breakglass.Grant{}, "carl")},
		"that was changed after signing": {g.list, []byte(strings.Replace(string(g.text(breakglass.Grant{}, "carl", "dora")), `"payload":"eyJ`, `"payload":"ey0`, 1))},
		"for longer than is allowed":     {g.list, g.text(breakglass.Grant{Begins: noon, Ends: noon.Add(3 * time.Hour)}, "carl", "dora")},
		"that is too large":              {g.list, make([]byte, breakglass.MaxGrantBytes+1)},
		"that is none":                   {g.list, []byte(`{}`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := breakglass.NewGrants()
			all.Trust(tc.trust, 2, 2*time.Hour+time.Minute)
			if err := all.Put("it", tc.text, noon); err == nil {
				t.Error("it counts")
			}
			if s := all.States(noon); len(s) != 1 || s[0].State != "refused" || s[0].Error == "" {
				t.Errorf("states: %+v", s)
			}
		})
	}
	t.Run("count when their grantors come to be trusted, and no more when not", func(t *testing.T) {
		t.Parallel()
		all := breakglass.NewGrants()
		if err := all.Put("it", g.text(breakglass.Grant{}, "carl"), noon); err == nil {
			t.Error("it counts by nobody")
		}
		for _, tc := range []struct {
			trust []breakglass.Grantor
			want  string
		}{{g.list, "in force"}, {nil, "refused"}} {
			all.Trust(tc.trust, 1, 0)
			if s := all.States(noon); s[0].State != tc.want {
				t.Errorf("got %+v, want %s", s, tc.want)
			}
		}
	})
}

func FuzzSignedGrant(f *testing.F) {
	f.Add([]byte(`{"payloadType":"application/vnd.gatehouse.breakglass-grant.v1+json","payload":"e30=","signatures":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := breakglass.ParseSignedGrant(text)
		if err != nil {
			return
		}
		if g, err := s.Grant(); err == nil && g.Check() != nil {
			t.Errorf("an invalid grant was read: %+v", g)
		}
	})
}
