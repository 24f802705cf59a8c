package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/gatehouse-dev/gatehouse/gatetest/mail"
)

// arrivals is the key of what has arrived in a script.
type arrivals struct{}

// arrived keeps what has arrived by the path, and mail as "mail".
type arrived struct {
	mu   sync.Mutex
	mail *mail.Server
	at   map[string]string
}

func (a *arrived) add(at, what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at[at] += what
}

// receivers starts receivers on loopback until the script ends, and writes the
// configurations that have them: good.yaml, and bad.yaml with one that refuses.
func receiversInScript(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: receivers")
	}
	a := ts.Value(arrivals{}).(*arrived)
	takes := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			a.add(r.URL.Path, string(body))
		}
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, "{}")
	}))
	ts.Defer(takes.Close)
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "invalid_token "+r.URL.Path)
	}))
	ts.Defer(refuses.Close)
	var stop func()
	var err error
	a.mail, stop, err = mail.New(mail.Options{})
	ts.Check(err)
	ts.Defer(stop)
	ts.Check(os.WriteFile(ts.MkAbs("hook"), []byte("c2VjcmV0LXNlY3JldC1zZWNyZXQh"), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("chat"), []byte(refuses.URL+"/services/XXXXXXXXXX"), 0o600))
	hook := fmt.Sprintf("    - {name: hook, webhook: {url: %q, secretFile: hook}}\n", takes.URL+"/hook")
	good := "data: d\nnotify:\n  receivers:\n" + hook +
		fmt.Sprintf("    - {name: pd, pagerduty: {url: %q, routingKeyFile: key}}\n", takes.URL) +
		fmt.Sprintf("    - {name: mail, email: {server: %q, from: a@x.example, to: [b@x.example]}}\n", a.mail.Addr()) +
		"  routes: [{name: all, receivers: [hook, pd, mail]}]\n"
	bad := "data: d\nnotify:\n  receivers:\n" + hook +
		"    - {name: chat, slack: {webhookURLFile: chat}}\n  routes: [{name: all, receivers: [chat, hook]}]\n"
	ts.Check(os.WriteFile(ts.MkAbs("good.yaml"), []byte(good), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("bad.yaml"), []byte(bad), 0o600))
}

// received AT PATTERN ... checks what has arrived at a path, or as mail.
func receivedInScript(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: received AT PATTERN ...")
	}
	a := ts.Value(arrivals{}).(*arrived)
	for len(a.mail.Messages()) > 0 {
		m := <-a.mail.Messages()
		a.add("mail", string(m.Raw))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, pattern := range args[1:] {
		if !regexp.MustCompile(pattern).MatchString(a.at[args[0]]) {
			ts.Fatalf("%s is not in what has arrived at %s:\n%s", pattern, args[0], a.at[args[0]])
		}
	}
}
