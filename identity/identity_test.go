package identity_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/gatehouse-dev/gatehouse/identity"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

const goodToken = "tok-AAAAAAAAAAAAAAAAAAAAAAAA"

var everybody = []identity.Rule{{Caller: "*", Project: "*", Roles: []string{"viewer"}}}

func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func quickHash(t testing.TB, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 26, 6, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func open(t testing.TB, cfg identity.Config, opts identity.Options) *identity.Identity {
	t.Helper()
	i, err := identity.Open(cfg, opts)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func request(authorization ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/v1/projects/p/notes", nil)
	if len(authorization) > 0 {
		r.Header["Authorization"] = authorization
	}
	return r
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestWhoIsLetIn(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("p", 72)
	cfg := identity.Config{
		BearerTokensFile: write(t, "tokens", "# of CI\n\nci@shop:"+hashOf(goodToken)+","+hashOf(goodToken+"-new")+"\nspiffe://a/b:"+strings.ToUpper(hashOf("another-token-of-somebody"))+"\r\n"),
		BasicUsersFile: write(t, "users", "ada:"+quickHash(t, "päss:word")+"\nlong:"+quickHash(t, long)+"\nempty:"+quickHash(t, "")+"\n"+
			"apache:"+strings.Replace(quickHash(t, "y"), "$2a$", "$2y$", 1)+"\n"),
		Rules: everybody,
	}
	who := open(t, cfg, identity.Options{Clock: newClock().Now})
	for name, tc := range map[string]struct {
		authorization []string
		caller, text  string // one of them
	}{
		"a token":                        {[]string{"Bearer " + goodToken}, "ci@shop", ""},
		"the token that replaces it":     {[]string{"Bearer " + goodToken + "-new"}, "ci@shop", ""},
		"the scheme in another case":     {[]string{"bEARER " + goodToken}, "ci@shop", ""},
		"spaces around the token":        {[]string{"Bearer   " + goodToken + " "}, "ci@shop", ""},
		"a name with colons":             {[]string{"bearer another-token-of-somebody"}, "spiffe://a/b", ""},
		"a user":                         {[]string{basic("ada", "päss:word")}, "ada", ""},
		"a user, in another case":        {[]string{strings.Replace(basic("ada", "päss:word"), "Basic", "basic", 1)}, "ada", ""},
		"as long as a password may be":   {[]string{basic("long", long)}, "long", ""},
		"a hash made by htpasswd":        {[]string{basic("apache", "y")}, "apache", ""},
		"nothing":                        {nil, "", `send "authorization: Bearer TOKEN", or a user name`},
		"an empty header":                {[]string{""}, "", "not accepted here"},
		"two headers":                    {[]string{"Bearer " + goodToken, "Bearer " + goodToken}, "", "2 authorization headers"},
		"two of different kinds":         {[]string{"Bearer " + goodToken, basic("ada", "päss:word")}, "", "2 authorization headers"},
		"two tokens in one":              {[]string{"Bearer " + goodToken + ", Bearer " + goodToken}, "", "characters that no token has"},
		"a wrong token":                  {[]string{"Bearer " + goodToken + "x"}, "", "not known"},
		"a truncated token":              {[]string{"Bearer " + goodToken[:len(goodToken)-1]}, "", "not known"},
		"the hash of the token":          {[]string{"Bearer " + hashOf(goodToken)}, "", "not known"},
		"no token":                       {[]string{"Bearer"}, "", "token is empty"},
		"a token of padding":             {[]string{"Bearer ==="}, "", "characters that no token has"},
		"a token not of UTF-8":           {[]string{"Bearer \xff\xfe" + goodToken}, "", "characters that no token has"},
		"a huge token":                   {[]string{"Bearer " + strings.Repeat("a", 60_000)}, "", "longer than"},
		"another scheme":                 {[]string{"Digest username=x"}, "", "not accepted here"},
		"the token without a scheme":     {[]string{goodToken}, "", "not accepted here"},
		"a wrong password":               {[]string{basic("ada", "guess")}, "", "user name or the password"},
		"an empty password":              {[]string{basic("empty", "")}, "", "password is empty"},
		"an unknown user":                {[]string{basic("eve", "päss:word")}, "", "user name or the password"},
		"another's password":             {[]string{basic("ada", "y")}, "", "user name or the password"},
		"a user in another case":         {[]string{basic("Ada", "päss:word")}, "", "user name or the password"},
		"a password that begins so":      {[]string{basic("long", long+"x")}, "", "longer than 72"},
		"a password with a NUL":          {[]string{basic("ada", "päss:word\x00")}, "", "user name or the password"},
		"basic credentials not base64":   {[]string{"Basic %%%"}, "", "malformed"},
		"basic credentials with nothing": {[]string{"Basic "}, "", "malformed"},
		"a user without a colon":         {[]string{"Basic " + base64.StdEncoding.EncodeToString([]byte("ada"))}, "", "malformed"},
		"a user name not of UTF-8":       {[]string{basic("ad\xff", "päss:word")}, "", "user name or the password"},
		"huge basic credentials":         {[]string{basic(strings.Repeat("a", 20_000), "x")}, "", "user name or the password"},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(tc.authorization...)
			r.RemoteAddr = fmt.Sprintf("192.0.2.%d:1", sha256.Sum256([]byte(name))[0]) // own limits
			caller, err := who.Identify(r)
			if tc.caller != "" {
				if err != nil || caller.Name != tc.caller {
					t.Errorf("%q, %v", caller.Name, err)
				}
				return
			}
			if err == nil || caller.Name != "" || metadata.KindOf(err) != metadata.Unauthenticated || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%q, %v; want %q", caller.Name, err, tc.text)
			}
			if err != nil && (strings.Contains(err.Error(), goodToken) || strings.Contains(err.Error(), "päss")) {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestARefusalSaysHowToAsk(t *testing.T) {
	t.Parallel()
	who := open(t, identity.Config{
		BearerTokensFile: write(t, "tokens", "ci:"+hashOf(goodToken)), BasicUsersFile: write(t, "users", "ada:"+quickHash(t, "x")), Rules: everybody,
	}, identity.Options{})
	_, err := who.Identify(request())
	var says interface{ SetHeader(http.Header) }
	if !errors.As(err, &says) {
		t.Fatalf("%v says nothing", err)
	}
	h := http.Header{}
	says.SetHeader(h)
	if got := h.Values("WWW-Authenticate"); len(got) != 2 || got[0] != "Bearer" || !strings.HasPrefix(got[1], "Basic realm=") {
		t.Errorf("%q", got)
	}
}

// another knows one bearer token and nothing else.
type another struct{ caller string }

func (a another) Authenticate(r *http.Request) (metadata.Caller, error) {
	switch r.Header.Get("Authorization") {
	case "Bearer of.another.kind":
		return metadata.Caller{Name: a.caller}, nil
	case "Bearer of.another.expired":
		return metadata.Caller{}, errors.New("the token has expired")
	case "Bearer of.another.down":
		return metadata.Caller{}, metadata.Errorf(metadata.Unavailable, "the issuer does not answer")
	}
	return metadata.Caller{}, fmt.Errorf("it is no such token: %w", identity.ErrNotMine)
}

func TestAnotherAuthenticatorFitsIn(t *testing.T) {
	t.Parallel()
	cfg := identity.Config{BearerTokensFile: write(t, "tokens", "ci:"+hashOf(goodToken)), Rules: everybody}
	who := open(t, cfg, identity.Options{Authenticators: []identity.Authenticator{another{"ada"}}})
	for token, want := range map[string]struct {
		caller string
		kind   metadata.Kind
		text   string
	}{
		"of.another.kind":    {caller: "ada"},
		goodToken:            {caller: "ci"},
		"of.another.expired": {kind: metadata.Unauthenticated, text: "has expired"},
		"of.another.down":    {kind: metadata.Unavailable, text: "does not answer"},
		"of.nobody":          {kind: metadata.Unauthenticated, text: "not known"},
	} {
		caller, err := who.Identify(request("Bearer " + token))
		if caller.Name != want.caller || (err == nil) != (want.text == "") || err != nil && (metadata.KindOf(err) != want.kind || !strings.Contains(err.Error(), want.text)) {
			t.Errorf("%s: %q, %v", token, caller.Name, err)
		}
	}
	for _, name := range []string{"", "*", identity.ReservedCaller, "a b", "a\u202eb", "\xff", strings.Repeat("x", 600)} {
		who := open(t, identity.Config{MTLS: true, Rules: everybody}, identity.Options{Authenticators: []identity.Authenticator{another{name}}})
		if caller, err := who.Identify(request("Bearer of.another.kind")); metadata.KindOf(err) != metadata.Unauthenticated || caller.Name != "" {
			t.Errorf("a caller called %q: %v, %v", name, caller, err)
		}
	}
}

func TestWithoutAMethodCallersAreAnonymousAndMayDoAll(t *testing.T) {
	t.Parallel()
	who := open(t, identity.Config{}, identity.Options{})
	caller, err := who.Identify(request("Bearer whatever"))
	if err != nil || caller.Name != "" || who.Enabled() {
		t.Errorf("%v, %v", caller, err)
	}
	if err := who.Authorize(t.Context(), caller, metadata.NotesDelete, "projects/p/notes/n"); err != nil {
		t.Error(err)
	}
}

func TestAVerifiedPasswordIsRememberedForAWhile(t *testing.T) {
	t.Parallel()
	now := newClock()
	file := write(t, "users", "ada:"+quickHash(t, "x"))
	who := open(t, identity.Config{BasicUsersFile: file, Rules: everybody}, identity.Options{Clock: now.Now})
	// Ten comparisons an address; far more requests.
	for n := range 200 {
		if _, err := who.Identify(request(basic("ada", "x"))); err != nil {
			t.Fatalf("request %d: %v", n, err)
		}
	}
	refused := 0
	for range 30 {
		if _, err := who.Identify(request(basic("ada", "y"))); metadata.KindOf(err) == metadata.ResourceExhausted {
			refused++
		} else if err == nil {
			t.Fatal("let in")
		}
	}
	if refused != 30-9 {
		t.Errorf("%d of 30 guesses were not compared, want 21", refused)
	}
	// Who has proved himself is not locked out by a guesser at the same address.
	if _, err := who.Identify(request(basic("ada", "x"))); err != nil {
		t.Error(err)
	}
	now.pass(6 * time.Minute)
	for range 10 {
		if _, err := who.Identify(request(basic("eve", "x"))); err == nil {
			t.Fatal("let in")
		}
	}
	if _, err := who.Identify(request(basic("ada", "x"))); metadata.KindOf(err) != metadata.ResourceExhausted {
		t.Errorf("remembered for longer than said: %v", err)
	}
}

func TestEachCallerHasALimitOfHisOwn(t *testing.T) {
	t.Parallel()
	now := newClock()
	who := open(t, identity.Config{
		BearerTokensFile: write(t, "tokens", "ci:"+hashOf(goodToken)+"\nada:"+hashOf(goodToken+"2")), Rules: everybody, RequestsPerSecond: 0.5, Burst: 3,
	}, identity.Options{Clock: now.Now})
	ask := func(token string) error {
		_, err := who.Identify(request("Bearer " + token))
		return err
	}
	for n := range 3 {
		if err := ask(goodToken); err != nil {
			t.Fatalf("request %d: %v", n, err)
		}
	}
	err := ask(goodToken)
	if metadata.KindOf(err) != metadata.ResourceExhausted || !strings.Contains(err.Error(), "try again in 2 s") {
		t.Errorf("got %v", err)
	}
	var says interface{ SetHeader(http.Header) }
	h := http.Header{}
	if errors.As(err, &says) {
		says.SetHeader(h)
	}
	if h.Get("Retry-After") != "2" {
		t.Errorf("Retry-After %q", h.Get("Retry-After"))
	}
	if err := ask(goodToken + "2"); err != nil {
		t.Errorf("another caller: %v", err)
	}
	now.pass(2 * time.Second)
	if err := ask(goodToken); err != nil {
		t.Errorf("after the time that was said: %v", err)
	}
}

func TestAnonymousCallersAreCountedByAddress(t *testing.T) {
	t.Parallel()
	now := newClock()
	who := open(t, identity.Config{RequestsPerSecond: 1}, identity.Options{Clock: now.Now})
	ask := func(remote string) bool {
		r := request()
		r.RemoteAddr = remote
		_, err := who.Identify(r)
		return err == nil
	}
	for _, tc := range []struct {
		remote string
		want   bool
	}{
		{"192.0.2.1:1", true}, {"192.0.2.1:2", false}, {"[::ffff:192.0.2.1]:2", false}, {"192.0.2.2:1", true},
		{"[2001:db8::1]:1", true}, {"[2001:db8::2]:1", false}, {"[2001:db8:0:1::1]:1", true},
		{"@", true}, {"", false},
	} {
		if got := ask(tc.remote); got != tc.want {
			t.Errorf("%s: %v", tc.remote, got)
		}
	}
	// The table is bounded, and an address that is new has its place.
	for n := range 30_000 {
		if !ask(fmt.Sprintf("10.%d.%d.%d:1", n>>16, n>>8&0xff, n&0xff)) {
			t.Fatalf("address %d was refused", n)
		}
	}
}

func TestWrongCredentialsAreLimitedByAddress(t *testing.T) {
	t.Parallel()
	now := newClock()
	who := open(t, identity.Config{BearerTokensFile: write(t, "tokens", "ci:"+hashOf(goodToken)), Rules: everybody}, identity.Options{Clock: now.Now})
	kinds := map[metadata.Kind]int{}
	for range 50 {
		_, err := who.Identify(request("Bearer wrong"))
		kinds[metadata.KindOf(err)]++
	}
	if kinds[metadata.Unauthenticated] != 20 || kinds[metadata.ResourceExhausted] != 30 {
		t.Errorf("%v", kinds)
	}
	if _, err := who.Identify(request("Bearer " + goodToken)); err != nil {
		t.Errorf("a neighbour of the guesser: %v", err)
	}
}

func TestFilesAreReadAgainWhenTheyChange(t *testing.T) {
	t.Parallel()
	file := write(t, "tokens", "ci:"+hashOf(goodToken))
	logs := newLines()
	who := open(t, identity.Config{BearerTokensFile: file, Rules: everybody}, identity.Options{Logger: slog.New(slog.NewTextHandler(logs, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- who.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	replace := func(text string) {
		t.Helper()
		next := filepath.Join(filepath.Dir(file), "next")
		if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, file); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(token, want string) {
		t.Helper()
		if caller, err := who.Identify(request("Bearer " + token)); caller.Name != want || (err == nil) != (want != "") {
			t.Errorf("%q, %v; want %q", caller.Name, err, want)
		}
	}
	replace("ci:" + goodToken + "\n")
	logs.await(t, "last good one stays in force")
	if strings.Contains(logs.String(), goodToken) {
		t.Errorf("the log shows what stood in the file: %s", logs.String())
	}
	ask(goodToken, "ci")
	replace("ada:" + hashOf(goodToken+"2"))
	logs.await(t, "is in force\"")
	ask(goodToken, "")
	ask(goodToken+"2", "ada")
}

func TestAFileThatOthersMayReadIsSaid(t *testing.T) {
	t.Parallel()
	file := write(t, "users", "ada:"+quickHash(t, "x"))
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	logs := newLines()
	open(t, identity.Config{BasicUsersFile: file, Rules: everybody}, identity.Options{Logger: slog.New(slog.NewTextHandler(logs, nil))})
	for _, want := range []string{"0644", "chmod 600", "hashed at cost 4"} {
		if !strings.Contains(logs.String(), want) {
			t.Errorf("the log lacks %q: %s", want, logs.String())
		}
	}
}

// lines is a log that can be waited for.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func newLines() *lines { return &lines{more: make(chan struct{}, 100)} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) await(t *testing.T, text string) {
	t.Helper()
	for deadline := time.After(20 * time.Second); !strings.Contains(l.String(), text); {
		select {
		case <-l.more:
		case <-deadline:
			t.Fatalf("the log never said %q: %s", text, l.String())
		}
	}
}
