package identity_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/identity"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

const robot = "system:serviceaccount:shop:robot"

// apiServer vouches for tokens by their signature.
type apiServer struct {
	mu    sync.Mutex
	users map[string]string
	away  bool
	asked atomic.Int64
	// If held is not nil, an answer tells begun, and waits for held.
	held, begun chan struct{}
}

func (a *apiServer) ReviewToken(ctx context.Context, token, audience string) (user, why string, err error) {
	a.asked.Add(1)
	if a.held != nil {
		a.begun <- struct{}{}
		select {
		case <-a.held:
		case <-ctx.Done():
			return "", "", ctx.Err()
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.away {
		return "", "", errors.New("connection refused")
	}
	if audience != identity.DefaultAudience {
		return "", "for another audience", nil
	}
	if user := a.users[token[strings.LastIndexByte(token, '.')+1:]]; user != "" {
		return user, "", nil
	}
	return "", "its service account was deleted", nil
}

func (a *apiServer) set(change func(*apiServer)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(a)
}

func jwt(claims, signature string) string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"RS256"}`)) + "." + part([]byte(claims)) + "." + signature
}

func tokenOf(c *clock, life time.Duration, signature string) string {
	return "Bearer " + jwt(fmt.Sprintf(`{"aud":["gatehouse"],"exp":%d}`, c.Now().Add(life).Unix()), signature)
}

func kubernetesOf() identity.KubernetesConfig {
	k := identity.DefaultKubernetes()
	k.Enabled = true
	return k
}

func openKubernetes(t testing.TB, a *apiServer, c *clock, change func(*identity.Config)) *identity.Identity {
	t.Helper()
	cfg := identity.Config{Kubernetes: kubernetesOf(), Rules: everybody}
	if change != nil {
		change(&cfg)
	}
	return open(t, cfg, identity.Options{Clock: c.Now, TokenReviewer: a})
}

func TestTokensOfKubernetes(t *testing.T) {
	t.Parallel()
	c := newClock()
	hour := c.Now().Add(time.Hour).Unix()
	a := &apiServer{users: map[string]string{"robot": robot, "ada": "ada@example.test", "four": robot + ":x", "nameless": "system:serviceaccount::x", "reserved": identity.ReservedCaller, "star": "*"}}
	for name, tc := range map[string]struct {
		users         bool
		authorization string
		caller, text  string // one of them
		asked         bool
	}{
		"a service account":               {false, tokenOf(c, time.Hour, "robot"), robot, "", true},
		"one audience as a string":        {false, "bearer " + jwt(`{"aud":"gatehouse"}`, "robot"), robot, "", true},
		"a user":                          {false, tokenOf(c, time.Hour, "ada"), "", "no service account", true},
		"a user, who may":                 {true, tokenOf(c, time.Hour, "ada"), "ada@example.test", "", true},
		"a user, of another audience":     {true, "Bearer " + jwt(`{"aud":"client"}`, "ada"), "ada@example.test", "", true},
		"nobody":                          {false, tokenOf(c, time.Hour, "x"), "", "service account was deleted", true},
		"a name with too many parts":      {false, tokenOf(c, time.Hour, "four"), "", "no service account", true},
		"a name with too few":             {false, tokenOf(c, time.Hour, "nameless"), "", "no service account", true},
		"the server's own name":           {true, tokenOf(c, time.Hour, "reserved"), "", "the server's own", true},
		"everybody's name":                {true, tokenOf(c, time.Hour, "star"), "", "stands for all", true},
		"another audience":                {false, "Bearer " + jwt(fmt.Sprintf(`{"aud":["https://kubernetes.default.svc"],"exp":%d}`, hour), "robot"), "", `is for "https://kubernetes.default.svc", want one for "gatehouse"`, false},
		"no audience":                     {false, "Bearer " + jwt(fmt.Sprintf(`{"exp":%d}`, hour), "robot"), "", "want one for", false},
		"one that has ended":              {false, tokenOf(c, -time.Second, "robot"), "", "has ended", false},
		"one that ends now":               {true, tokenOf(c, 0, "ada"), "", "has ended", false},
		"no signature":                    {false, "Bearer " + strings.TrimSuffix(jwt(`{"aud":"gatehouse"}`, "x"), "x"), "", "not known here", false},
		"no algorithm":                    {false, "Bearer " + strings.Replace(jwt(`{"aud":"gatehouse"}`, "robot"), base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256"}`)), "e30", 1), "", "not known here", false},
		"not a JSON web token":            {false, "Bearer a.b.c", "", "not known here", false},
		"a claim of another kind":         {false, "Bearer " + jwt(`{"aud":7}`, "robot"), "", "not known here", false},
		"a token that is known to nobody": {false, "Bearer " + goodToken, "", "not known here", false},
		"a password":                      {false, basic("ada", "x"), "", "of a kind that is not accepted", false},
	} {
		t.Run(name, func(t *testing.T) {
			a := &apiServer{users: a.users}
			who := openKubernetes(t, a, c, func(cfg *identity.Config) { cfg.Kubernetes.Users = tc.users })
			caller, err := who.Identify(request(tc.authorization))
			if caller.Name != tc.caller || (err == nil) != (tc.text == "") || err != nil && (!strings.Contains(err.Error(), tc.text) || metadata.KindOf(err) != metadata.Unauthenticated) {
				t.Errorf("%q, %v", caller.Name, err)
			}
			if asked := a.asked.Load() > 0; asked != tc.asked {
				t.Errorf("the API server was asked: %v", asked)
			}
			if err != nil && strings.Contains(err.Error(), "eyJ") {
				t.Errorf("the token is shown: %v", err)
			}
		})
	}
}

// TestTheFileIsAskedBeforeTheAPIServer, which never sees a token that the file knows.
func TestTheFileIsAskedBeforeTheAPIServer(t *testing.T) {
	t.Parallel()
	c := newClock()
	a := &apiServer{users: map[string]string{"robot": robot}}
	token := jwt(`{"aud":"gatehouse"}`, "robot")
	who := openKubernetes(t, a, c, func(cfg *identity.Config) {
		cfg.BearerTokensFile = write(t, "tokens", "ci@shop:"+hashOf(token)+"\n"+"ada:"+hashOf(goodToken)+"\n")
		cfg.BasicUsersFile = write(t, "users", "ada:"+quickHash(t, "pw")+"\n")
	})
	for authorization, want := range map[string]string{
		"Bearer " + token: "ci@shop", "Bearer " + goodToken: "ada", basic("ada", "pw"): "ada",
	} {
		if caller, err := who.Identify(request(authorization)); err != nil || caller.Name != want {
			t.Errorf("%q, %v, want %q", caller.Name, err, want)
		}
	}
	if n := a.asked.Load(); n != 0 {
		t.Errorf("the API server was asked %d times", n)
	}
	if caller, err := who.Identify(request(tokenOf(c, time.Hour, "robot"))); err != nil || caller.Name != robot {
		t.Errorf("a token that the file does not know: %q, %v", caller.Name, err)
	}
}

// TestAReviewIsRememberedForAWhile and never for longer than the token is good.
func TestAReviewIsRememberedForAWhile(t *testing.T) {
	t.Parallel()
	c := newClock()
	a := &apiServer{users: map[string]string{"robot": robot}}
	who := openKubernetes(t, a, c, nil)
	long, short := request(tokenOf(c, time.Hour, "robot")), request(tokenOf(c, 4*time.Second, "robot"))
	calls := func(what string, r *http.Request, want error, asked int64) {
		t.Helper()
		before := a.asked.Load()
		caller, err := who.Identify(r)
		if (err == nil) != (want == nil) || err == nil && caller.Name != robot {
			t.Errorf("%s: %q, %v", what, caller.Name, err)
		}
		if got := a.asked.Load() - before; got != asked {
			t.Errorf("%s: the API server was asked %d times, want %d", what, got, asked)
		}
	}
	refused := errors.New("refused")
	calls("at first", long, nil, 1)
	calls("one that ends soon", short, nil, 1)
	a.set(func(a *apiServer) { a.users = nil }) // the service account is deleted
	c.pass(3 * time.Second)
	calls("remembered", long, nil, 0)
	calls("remembered, and about to end", short, nil, 0)
	c.pass(time.Second)
	calls("ended", short, refused, 0)
	c.pass(6 * time.Second)
	calls("after that time", long, refused, 1)
	calls("a refusal is remembered", long, refused, 0)
	a.set(func(a *apiServer) { a.users = map[string]string{"robot": robot} })
	c.pass(5 * time.Second)
	calls("a refusal is not remembered for long", long, nil, 1)
}

// TestNobodyIsLetInWhileTheAPIServerIsAway but whom it has just vouched for; and that it is
// away says nothing against anybody.
func TestNobodyIsLetInWhileTheAPIServerIsAway(t *testing.T) {
	t.Parallel()
	c := newClock()
	a := &apiServer{users: map[string]string{"robot": robot}}
	who := openKubernetes(t, a, c, nil)
	known := request(tokenOf(c, time.Hour, "robot"))
	if _, err := who.Identify(known); err != nil {
		t.Fatal(err)
	}
	a.set(func(a *apiServer) { a.away = true })
	c.pass(9 * time.Second)
	if caller, err := who.Identify(known); err != nil || caller.Name != robot {
		t.Errorf("remembered: %q, %v", caller.Name, err)
	}
	c.pass(time.Second)
	for range 50 { // more than wrong credentials may be sent
		caller, err := who.Identify(known)
		if metadata.KindOf(err) != metadata.Unavailable || caller.Name != "" {
			t.Fatalf("%q, %v", caller.Name, err)
		}
		if want := "could not be reviewed: connection refused"; !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
	a.set(func(a *apiServer) { a.away = false })
	if caller, err := who.Identify(known); err != nil || caller.Name != robot {
		t.Errorf("back again: %q, %v", caller.Name, err)
	}
}

func TestReviewsAreFew(t *testing.T) {
	t.Parallel()
	t.Run("callers with one token wait for one answer", func(t *testing.T) {
		t.Parallel()
		c := newClock()
		a := &apiServer{users: map[string]string{"robot": robot}, held: make(chan struct{}), begun: make(chan struct{}, 100)}
		who := openKubernetes(t, a, c, nil)
		token := tokenOf(c, time.Hour, "robot")
		gone, cancel := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() { _, err := who.Identify(request(token).WithContext(gone)); first <- err }()
		<-a.begun
		var others sync.WaitGroup
		for range 20 {
			others.Go(func() {
				if caller, err := who.Identify(request(token)); err != nil || caller.Name != robot {
					t.Errorf("%q, %v", caller.Name, err)
				}
			})
		}
		cancel() // who asked hangs up
		if err := <-first; metadata.KindOf(err) != metadata.Unavailable {
			t.Errorf("who hung up: %v", err)
		}
		close(a.held)
		others.Wait()
		if n := a.asked.Load(); n != 1 {
			t.Errorf("the API server was asked %d times", n)
		}
	})
	t.Run("an address has so many reviewed", func(t *testing.T) {
		t.Parallel()
		c := newClock()
		a := &apiServer{}
		who := openKubernetes(t, a, c, nil)
		for n := range 300 {
			c.pass(50 * time.Millisecond)
			if _, err := who.Identify(request(tokenOf(c, time.Hour, fmt.Sprint("x", n)))); err == nil {
				t.Fatal("let in")
			}
		}
		if n := a.asked.Load(); n < 100 || n > 260 {
			t.Errorf("the API server was asked %d times", n)
		}
	})
	t.Run("who is refused does not push out who is not", func(t *testing.T) {
		t.Parallel()
		c := newClock()
		a := &apiServer{users: map[string]string{"robot": robot}}
		who := openKubernetes(t, a, c, nil)
		good := request(tokenOf(c, time.Hour, "robot"))
		if _, err := who.Identify(good); err != nil {
			t.Fatal(err)
		}
		for n := range 1100 {
			r := request(tokenOf(c, time.Hour, fmt.Sprint("x", n)))
			r.RemoteAddr = fmt.Sprintf("10.0.%d.%d:1", n/250, n%250)
			_, _ = who.Identify(r)
		}
		before := a.asked.Load()
		if _, err := who.Identify(good); err != nil || a.asked.Load() != before {
			t.Errorf("asked again: %v, %v", a.asked.Load() != before, err)
		}
	})
}

func TestTheSectionKubernetes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*identity.KubernetesConfig)
		want   string
	}{
		"as it is":            {func(*identity.KubernetesConfig) {}, ""},
		"no audience":         {func(c *identity.KubernetesConfig) { c.Audience = "" }, "audience"},
		"cached for too long": {func(c *identity.KubernetesConfig) { c.CacheFor = time.Hour }, "cacheFor"},
		"not cached":          {func(c *identity.KubernetesConfig) { c.CacheFor = 0 }, "cacheFor"},
		"not enabled":         {func(c *identity.KubernetesConfig) { c.Enabled, c.Users = false, true }, "not enabled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := identity.Config{Kubernetes: kubernetesOf(), MTLS: true, Rules: everybody}
			tc.change(&cfg.Kubernetes)
			err := cfg.Validate()
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v", err)
			}
		})
	}
	if _, err := identity.Open(identity.Config{Kubernetes: kubernetesOf(), Rules: everybody}, identity.Options{}); err == nil {
		t.Error("nobody reviews tokens, and no error")
	}
	if c := (identity.Config{Kubernetes: kubernetesOf()}); !c.Enabled() || !c.Secrets() {
		t.Error("tokens are no secrets")
	}
}

func FuzzTokensOfKubernetes(f *testing.F) {
	f.Add(jwt(`{"aud":["gatehouse"],"exp":1e12}`, "robot"))
	f.Add(jwt(`{"aud":"gatehouse","exp":-1e300}`, "robot"))
	f.Add(jwt(`{"aud":{},"exp":"x"}`, "robot"))
	f.Add("a.b.c")
	c := newClock()
	f.Fuzz(func(t *testing.T, token string) {
		a := &apiServer{}
		who := openKubernetes(t, a, c, nil)
		if caller, err := who.Identify(request("Bearer " + token)); err == nil || caller.Name != "" {
			t.Errorf("nobody vouches for it, and %q is let in", caller.Name)
		}
		if a.asked.Load() > 0 && strings.Count(strings.TrimSpace(token), ".") != 2 {
			t.Error("the API server was asked about what is no JSON web token")
		}
	})
}
