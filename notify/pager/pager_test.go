package pager_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/gatehouse-dev/gatehouse/gatetest/mail"
	"github.com/gatehouse-dev/gatehouse/notify"
	"github.com/gatehouse-dev/gatehouse/notify/pager"
)

const secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQh" // base64, as a webhook's must be

// hostile is what a stranger may try to write. The outbox has let none of its control
// characters through.
const hostile = `<!channel> <https://evil.example|log in> [log in](https://evil.example) <script>alert(1)</script> <at>all</at> *b* & _i_ # x`

// A call is a request that a catcher got.
type call struct {
	path   string
	header http.Header
	body   []byte
}

// A catcher is an HTTP server that keeps what it gets.
type catcher struct {
	*httptest.Server
	calls  chan call
	answer func(http.ResponseWriter, *http.Request)
}

func catch(t *testing.T) *catcher {
	t.Helper()
	c := &catcher{calls: make(chan call, 100)}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		c.calls <- call{r.URL.RequestURI(), r.Header, body}
		if c.answer != nil {
			c.answer(w, r)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"status":"success"}`)
	}))
	t.Cleanup(c.Close)
	return c
}

// next is the next request, which has arrived when the page was taken.
func (c *catcher) next(t *testing.T) call {
	t.Helper()
	select {
	case got := <-c.calls:
		return got
	default:
		t.Fatal("nothing was sent")
		return call{}
	}
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte(content+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func opened(t *testing.T, r pager.Receiver) notify.Receiver {
	t.Helper()
	r.Name = "r"
	all, err := pager.Config{Receivers: []pager.Receiver{r}, Routes: []notify.Route{{Name: "all", Receivers: []string{"r"}}}}.Open()
	if err != nil {
		t.Fatal(err)
	}
	return all["r"]
}

func send(t *testing.T, r notify.Receiver, p notify.Page) {
	t.Helper()
	if err := r.Send(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

func message(kind notify.Kind, key string) notify.Message {
	return notify.Message{
		ID: "id-" + key, Kind: kind, Key: key, Severity: notify.Critical, Title: "break-glass by " + hostile,
		Labels: []notify.Field{{Name: "cluster", Value: "prod"}, {Name: "namespace", Value: hostile}},
		Fields: []notify.Field{{Name: notify.Who, Value: "eve " + hostile}, {Name: notify.Policy, Value: "DENY"}},
		Links:  []notify.Link{{Text: "incident", URL: "https://console.example/incidents/1"}},
		Time:   time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC), Count: 3,
	}
}

func page(messages ...notify.Message) notify.Page { return notify.NewPage(0, messages...) }

// httpKinds are the receivers that speak HTTP.
func httpKinds(t *testing.T, url string) map[string]pager.Receiver {
	key, at := file(t, secret), file(t, url+"/"+secret)
	return map[string]pager.Receiver{
		"alertmanager": {Alertmanager: &pager.Alertmanager{URLs: []string{url}, TokenFile: key}},
		"pagerduty":    {PagerDuty: &pager.PagerDuty{RoutingKeyFile: key, URL: url}},
		"opsgenie":     {Opsgenie: &pager.Opsgenie{APIKeyFile: key, URL: url}},
		"slack":        {Slack: &pager.Slack{WebhookURLFile: at}},
		"teams":        {Teams: &pager.Teams{WebhookURLFile: at}},
		"webhook":      {Webhook: &pager.Webhook{URLFile: at, SecretFile: key}},
	}
}

func TestWhatTheAnswerMeans(t *testing.T) {
	t.Parallel()
	worthAnotherTry := func(err error) bool { return !isFinal(err, false) && !isFinal(err, true) }
	for name, tc := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		right  func(error) bool
		want   string
	}{
		"refused":       {status(401), func(err error) bool { return isFinal(err, false) }, "answers 401 Unauthorized: no-no (secret)\ufffd[2J"},
		"malformed":     {status(400), func(err error) bool { return isFinal(err, true) }, "answers 400"},
		"gone":          {status(404), func(err error) bool { return isFinal(err, false) }, "answers 404"},
		"fails":         {status(500), worthAnotherTry, "answers 500"},
		"busy":          {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "7"); w.WriteHeader(429) }, busyFor7s, "answers 429"},
		"goes away":     {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, worthAnotherTry, "EOF"},
		"never answers": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, worthAnotherTry, "no answer within 200ms"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example/", http.StatusTemporaryRedirect)
		}, func(err error) bool { return isFinal(err, false) }, "answers 307"},
		"endless": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			for block := make([]byte, 64<<10); ; {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}, worthAnotherTry, "answers 500"},
	} {
		for kind := range httpKinds(t, "http://127.0.0.1:1") {
			t.Run(kind+" "+name, func(t *testing.T) {
				t.Parallel()
				c := catch(t)
				c.answer = tc.answer
				config := httpKinds(t, c.URL)[kind]
				if name == "never answers" {
					config.Timeout = 200 * time.Millisecond
				}
				err := opened(t, config).Send(t.Context(), page(message(notify.Opened, "k")))
				if err == nil || !tc.right(err) || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("got %v, want %q", err, tc.want)
				}
				if err != nil && strings.Contains(err.Error(), secret) {
					t.Errorf("the error has the secret: %v", err)
				}
			})
		}
	}
}

func isFinal(err error, content bool) bool {
	var final *notify.FinalError
	return errors.As(err, &final) && final.Content == content
}

func busyFor7s(err error) bool {
	var busy *notify.BusyError
	return errors.As(err, &busy) && busy.After == 7*time.Second
}

// status answers with a code, and with what must not be shown.
func status(code int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, "no-no "+secret+"\x1b[2J\n")
	}
}

func TestOneThatIsNotThere(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	kinds := httpKinds(t, "http://"+addr)
	kinds["email"] = pager.Receiver{Email: &pager.Email{Server: addr, From: "a@b.example", To: []string{"c@d.example"}}}
	for name, config := range kinds {
		err := opened(t, config).Send(t.Context(), page(message(notify.Opened, "k")))
		if err == nil || isFinal(err, false) || isFinal(err, true) || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPagerDuty(t *testing.T) {
	t.Parallel()
	c := catch(t)
	r := opened(t, pager.Receiver{PagerDuty: &pager.PagerDuty{RoutingKeyFile: file(t, secret), URL: c.URL + "/"}})
	got := func() map[string]any {
		t.Helper()
		call := c.next(t)
		var e map[string]any
		if err := json.Unmarshal(call.body, &e); err != nil || call.path != "/v2/enqueue" || e["routing_key"] != secret {
			t.Fatalf("%s %s, %v", call.path, call.body, err)
		}
		if strings.ContainsAny(string(call.body), "<>") || bytes.Contains(call.body, []byte(`\u003c`)) || bytes.Contains(call.body, []byte("](")) {
			t.Errorf("markup is handed on: %s", call.body)
		}
		return e
	}
	send(t, r, page(message(notify.Opened, "inc/1")))
	e := got()
	payload := e["payload"].(map[string]any)
	details := payload["custom_details"].(map[string]any)
	if e["event_action"] != "trigger" || e["dedup_key"] != "inc/1" || payload["severity"] != "critical" || payload["source"] != "gatehouse" ||
		!strings.HasPrefix(payload["summary"].(string), "CRITICAL: new: break-glass by ‹!channel›") || details["policy"] != "DENY" || details["count"] != "3" || details["cluster"] != "prod" {
		t.Errorf("%v", e)
	}
	if l := e["links"].([]any)[0].(map[string]any); l["href"] != "https://console.example/incidents/1" {
		t.Errorf("%v", l)
	}

	send(t, r, page(message(notify.Acknowledged, "inc/1"), message(notify.Resolved, "inc/2")))
	if e := got(); e["event_action"] != "acknowledge" || e["dedup_key"] != "inc/1" {
		t.Errorf("%v", e)
	}
	if e := got(); e["event_action"] != "resolve" || e["dedup_key"] != "inc/2" {
		t.Errorf("%v", e)
	}

	var many []notify.Message
	for i := range 50 {
		many = append(many, message(notify.Opened, fmt.Sprintf("w%d", i)))
	}
	send(t, r, page(many...))
	e = got()
	payload = e["payload"].(map[string]any)
	if e["dedup_key"] != "page/id-w0" || !strings.Contains(payload["summary"].(string), "50 messages about 150 events") {
		t.Errorf("%v", e)
	}
	if text := fmt.Sprint(payload["custom_details"]); !strings.Contains(text, "and 30 more messages about 90 events") || !strings.Contains(text, "[w19]") {
		t.Errorf("%s", text)
	}
	if len(c.calls) != 0 {
		t.Errorf("%d more pages", len(c.calls))
	}
}

func TestOpsgenie(t *testing.T) {
	t.Parallel()
	c := catch(t)
	r := opened(t, pager.Receiver{Opsgenie: &pager.Opsgenie{APIKeyFile: file(t, secret), URL: c.URL + "/jsm"}})
	send(t, r, page(message(notify.Opened, "inc/1"), message(notify.Acknowledged, "inc/0"), message(notify.Closed, "inc/2")))
	got := c.next(t)
	var a struct {
		Message, Alias, Priority, Source string
		Details                          map[string]string
	}
	if err := json.Unmarshal(got.body, &a); err != nil {
		t.Fatal(err)
	}
	if got.path != "/jsm/v2/alerts" || got.header.Get("Authorization") != "GenieKey "+secret || a.Alias != "inc/1" || a.Priority != "P1" || len(a.Message) > 130 || a.Source != "gatehouse" {
		t.Errorf("%+v %s", got, got.body)
	}
	if bytes.Contains(got.body, []byte(`\u003c`)) || !strings.Contains(fmt.Sprint(a.Details), "‹!channel›") {
		t.Errorf("%s", got.body)
	}
	for _, want := range []string{"/jsm/v2/alerts/inc%2F0/acknowledge?identifierType=alias", "/jsm/v2/alerts/inc%2F2/close?identifierType=alias"} {
		if got := c.next(t); got.path != want {
			t.Errorf("%s, want %s", got.path, want)
		}
	}
}

func TestSlack(t *testing.T) {
	t.Parallel()
	c := catch(t)
	c.answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }
	r := opened(t, pager.Receiver{Slack: &pager.Slack{WebhookURLFile: file(t, c.URL+"/services/T/B/x")}})
	for _, p := range []notify.Page{page(message(notify.Opened, "k")), page(message(notify.Opened, "k"), message(notify.Resolved, "l"))} {
		send(t, r, p)
		got := c.next(t)
		var m struct {
			Text   string
			Parse  string
			Blocks []struct {
				Type     string
				Text     struct{ Type, Text string }
				Elements []struct{ Type, Text string }
			}
		}
		if err := json.Unmarshal(got.body, &m); err != nil || got.path != "/services/T/B/x" {
			t.Fatalf("%s, %v", got.body, err)
		}
		if strings.ContainsAny(m.Text, "<>|*_") || !strings.Contains(m.Text, "&lt;!channel&gt;") || m.Parse != "none" {
			t.Errorf("the text for notifications is markup: %q", m.Text)
		}
		if len(m.Blocks) != 3 {
			t.Fatalf("%s", got.body)
		}
		for _, b := range m.Blocks[:2] {
			if b.Text.Type != "plain_text" {
				t.Errorf("what strangers wrote is %s: %q", b.Text.Type, b.Text.Text)
			}
		}
		if text := m.Blocks[1].Text.Text; !strings.Contains(text, "<!channel>") || !strings.Contains(text, "critical") {
			t.Errorf("%q", text)
		}
		if link := m.Blocks[2].Elements[0]; link.Text != "<https://console.example/incidents/1|incident>" {
			t.Errorf("%+v", link)
		}
	}
}

func TestTeams(t *testing.T) {
	t.Parallel()
	c := catch(t)
	r := opened(t, pager.Receiver{Teams: &pager.Teams{WebhookURLFile: file(t, c.URL+"/workflows/x")}})
	many := make([]notify.Message, 0, 100)
	for i := range 100 {
		many = append(many, message(notify.Opened, fmt.Sprint(i)))
	}
	large := message(notify.Opened, "large")
	for range 24 {
		large.Fields = append(large.Fields, notify.Field{Name: "f", Value: strings.Repeat("&<*\"", 375)})
	}
	for name, p := range map[string]notify.Page{"one": page(message(notify.Opened, "k")), "many": page(many...), "large": page(large)} {
		send(t, r, p)
		got := c.next(t)
		if len(got.body) > 28_000 {
			t.Errorf("%s: %d bytes, and Teams refuses it", name, len(got.body))
		}
		if bytes.Contains(got.body, []byte(`\u003c`)) || bytes.Contains(got.body, []byte("<")) || bytes.Contains(got.body, []byte(`](`)) ||
			bytes.Contains(got.body, []byte(`"https://evil`)) || bytes.Contains(got.body, []byte(`(https://evil`)) || bytes.Contains(got.body, []byte(" *b*")) {
			t.Errorf("%s: markup of strangers: %s", name, got.body)
		}
		if !bytes.Contains(got.body, []byte("application/vnd.microsoft.card.adaptive")) || !bytes.Contains(got.body, []byte(`"url":"https://console.example/incidents/1"`)) || !bytes.Contains(got.body, []byte("CRITICAL")) {
			t.Errorf("%s: %s", name, got.body)
		}
	}
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	c := catch(t)
	r := opened(t, pager.Receiver{Webhook: &pager.Webhook{URL: c.URL + "/hook", SecretFile: file(t, "whsec_"+secret)}})
	p := page(message(notify.Opened, "inc/1"))
	send(t, r, p)
	send(t, r, p)
	first, second := c.next(t), c.next(t)
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := verifier.Verify(first.body, first.header); err != nil {
		t.Errorf("the signature: %v", err)
	}
	if err := verifier.Verify(append(first.body, ' '), first.header); err == nil {
		t.Error("the signature says nothing about the body")
	}
	var e event.Event
	if err := json.Unmarshal(first.body, &e); err != nil {
		t.Fatal(err)
	}
	if err := e.Validate(); err != nil {
		t.Error(err)
	}
	var data notify.Page
	if err := e.DataAs(&data); err != nil {
		t.Fatal(err)
	}
	if e.Type() != "dev.gatehouse.page.v1" || e.Source() != "/gatehouse" || e.Subject() != "inc/1" || data.Messages[0].Title != p.Messages[0].Title ||
		!strings.HasPrefix(first.header.Get("Content-Type"), "application/cloudevents+json") {
		t.Errorf("%v", e)
	}
	if a, b := first.header.Get("webhook-id"), second.header.Get("webhook-id"); a == "" || a != b || a != e.ID() {
		t.Errorf("ids %q and %q", a, b)
	}
	p.Messages[0].Count++
	send(t, r, p)
	if other := c.next(t); other.header.Get("webhook-id") == first.header.Get("webhook-id") {
		t.Error("other content has the same id")
	}
}

func TestEmail(t *testing.T) {
	t.Parallel()
	cert, ca := certificate(t)
	secured := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	for name, tc := range map[string]struct {
		server mail.Options
		config pager.Email
	}{
		"on loopback":               {mail.Options{}, pager.Email{}},
		"STARTTLS and a password":   {mail.Options{TLS: secured, Username: "gate", Password: secret}, pager.Email{TLS: "starttls", CAFile: ca, Username: "gate", PasswordFile: file(t, secret)}},
		"TLS at once":               {mail.Options{TLS: secured, Implicit: true}, pager.Email{TLS: "implicit", CAFile: ca}},
		"TLS at once, and password": {mail.Options{TLS: secured, Implicit: true, Username: "gate", Password: secret}, pager.Email{TLS: "implicit", CAFile: ca, Username: "gate", PasswordFile: file(t, secret)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := mail.Start(t, tc.server)
			config := tc.config
			config.Server, config.From, config.To = server.Addr(), "Gatehouse <gate@x.example>", []string{"a@y.example", "b@y.example"}
			r := opened(t, pager.Receiver{Email: &config})
			send(t, r, page(message(notify.Opened, "k")))
			got := <-server.Messages()
			m, err := got.Parse()
			if err != nil {
				t.Fatal(err)
			}
			subject, err := new(mimeDecoder).DecodeHeader(m.Header.Get("Subject"))
			if err != nil {
				t.Fatal(err)
			}
			body := decodeBody(t, m)
			if got.From != "gate@x.example" || len(got.To) != 2 || !strings.HasPrefix(subject, "[gatehouse] CRITICAL: new: break-glass") ||
				!strings.HasPrefix(m.Header.Get("Content-Type"), "text/plain") || !strings.Contains(body, "\r\npolicy: DENY\r\n") || !strings.Contains(body, "incident: https://console.example/incidents/1") {
				t.Errorf("%s\n%s", got.Raw, body)
			}
		})
	}
	t.Run("refusals", func(t *testing.T) {
		t.Parallel()
		server := mail.Start(t, mail.Options{})
		r := opened(t, pager.Receiver{Email: &pager.Email{Server: server.Addr(), From: "a@x.example", To: []string{"b@x.example"}}})
		for code, right := range map[int]func(error) bool{
			451: func(err error) bool { return err != nil && !isFinal(err, false) && !isFinal(err, true) },
			550: func(err error) bool { return isFinal(err, false) },
			554: func(err error) bool { return isFinal(err, true) },
		} {
			server.Refuse(code)
			if err := r.Send(t.Context(), page(message(notify.Opened, "k"))); !right(err) {
				t.Errorf("%d: %v", code, err)
			}
		}
	})
	t.Run("no TLS where it is demanded", func(t *testing.T) {
		t.Parallel()
		server := mail.Start(t, mail.Options{})
		r := opened(t, pager.Receiver{Email: &pager.Email{Server: server.Addr(), TLS: "starttls", From: "a@x.example", To: []string{"b@x.example"}}})
		if err := r.Send(t.Context(), page(message(notify.Opened, "k"))); err == nil {
			t.Error("mail was sent in the clear")
		}
	})
	t.Run("the certificate of another", func(t *testing.T) {
		t.Parallel()
		_, other := certificate(t)
		server := mail.Start(t, mail.Options{TLS: secured, Implicit: true})
		r := opened(t, pager.Receiver{Email: &pager.Email{Server: server.Addr(), TLS: "implicit", CAFile: other, From: "a@x.example", To: []string{"b@x.example"}}})
		if err := r.Send(t.Context(), page(message(notify.Opened, "k"))); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("got %v", err)
		}
	})
}

// certificate makes one for 127.0.0.1, and the file of what issued it: itself.
func certificate(t *testing.T) (cert tls.Certificate, caFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}

func TestTLSOfReceivers(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	config := pager.Webhook{URL: server.URL, SecretFile: file(t, secret)}
	if err := opened(t, pager.Receiver{Webhook: &config}).Send(t.Context(), page(message(notify.Opened, "k"))); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of nobody: %v", err)
	}
	config.CAFile = ca
	send(t, opened(t, pager.Receiver{Webhook: &config}), page(message(notify.Opened, "k")))
}

func TestSecretsAreReadForEachPage(t *testing.T) {
	t.Parallel()
	c := catch(t)
	key := file(t, "old")
	r := opened(t, pager.Receiver{PagerDuty: &pager.PagerDuty{RoutingKeyFile: key, URL: c.URL}})
	if err := os.WriteFile(key, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	send(t, r, page(message(notify.Opened, "k")))
	if got := c.next(t); !bytes.Contains(got.body, []byte(`"new"`)) {
		t.Errorf("%s", got.body)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := r.Send(context.Background(), page(message(notify.Opened, "k"))); err == nil {
		t.Error("sent without a key")
	}
}

func TestConfigurationThatIsRefused(t *testing.T) {
	t.Parallel()
	slack := &pager.Slack{WebhookURLFile: "f"}
	for name, tc := range map[string]struct {
		r    pager.Receiver
		want string
	}{
		"no kind":                {pager.Receiver{}, "want one of"},
		"two kinds":              {pager.Receiver{Slack: slack, Teams: &pager.Teams{WebhookURLFile: "f"}}, "want one of"},
		"a name with a space":    {pager.Receiver{Name: "a b", Slack: slack}, "want a name"},
		"timeout":                {pager.Receiver{Slack: slack, Timeout: time.Hour}, "timeout"},
		"slack without a URL":    {pager.Receiver{Slack: &pager.Slack{}}, "webhookURLFile"},
		"in the clear":           {pager.Receiver{Webhook: &pager.Webhook{URL: "http://x.example", SecretFile: "f"}}, "sent in the clear"},
		"a password in a URL":    {pager.Receiver{Webhook: &pager.Webhook{URL: "https://u:p@x.example", SecretFile: "f"}}, "does not belong"},
		"no URL":                 {pager.Receiver{Webhook: &pager.Webhook{SecretFile: "f"}}, "either url or urlFile"},
		"unsigned":               {pager.Receiver{Webhook: &pager.Webhook{URL: "https://x.example"}}, "secretFile"},
		"no Alertmanager":        {pager.Receiver{Alertmanager: &pager.Alertmanager{}}, "want urls"},
		"two passwords":          {pager.Receiver{Alertmanager: &pager.Alertmanager{URLs: []string{"https://a"}, TokenFile: "f", Username: "u", PasswordFile: "f"}}, "want tokenFile, or"},
		"pagerduty without key":  {pager.Receiver{PagerDuty: &pager.PagerDuty{}}, "routingKeyFile"},
		"opsgenie without key":   {pager.Receiver{Opsgenie: &pager.Opsgenie{}}, "apiKeyFile"},
		"mail to nobody":         {pager.Receiver{Email: &pager.Email{Server: "m.example:25", From: "a@b.example"}}, "to: want 1"},
		"no port":                {pager.Receiver{Email: &pager.Email{Server: "m.example", From: "a@b.example", To: []string{"a@b.example"}}}, "HOST:PORT"},
		"header in an address":   {pager.Receiver{Email: &pager.Email{Server: "m.example:25", From: "a@b.example\nBcc: x@y.example", To: []string{"a@b.example"}}}, "mail address"},
		"a password in the open": {pager.Receiver{Email: &pager.Email{Server: "m.example:25", TLS: "insecure-none", From: "a@b.example", To: []string{"a@b.example"}, Username: "u", PasswordFile: "f"}}, "needs TLS"},
		"tls":                    {pager.Receiver{Email: &pager.Email{Server: "m.example:25", TLS: "maybe", From: "a@b.example", To: []string{"a@b.example"}}}, "tls"},
	} {
		if tc.r.Name == "" {
			tc.r.Name = "r"
		}
		config := pager.Config{Receivers: []pager.Receiver{tc.r}, Routes: []notify.Route{{Name: "all", Receivers: []string{tc.r.Name}}}}
		if err := config.Validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, tc.want)
		}
	}
	if err := (pager.Config{Receivers: []pager.Receiver{{Name: "r", Slack: slack}}}).Validate(); err == nil || !strings.Contains(err.Error(), "no routes") {
		t.Errorf("without routes: %v", err)
	}
	if _, err := (pager.Config{Receivers: []pager.Receiver{{Name: "r", Slack: slack}}, Routes: []notify.Route{{Name: "all", Receivers: []string{"r"}}}}).Open(); err == nil || !strings.Contains(err.Error(), `receiver "r": slack`) {
		t.Errorf("without the file: %v", err)
	}
	if _, err := (pager.Config{}).Open(); err != nil {
		t.Errorf("nobody: %v", err)
	}
}
