package checksapi

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/attest/attesttest"
	"github.com/gatehouse-dev/gatehouse/attest/door"
	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	ref    = "gcr.io/a/b@" + digest
)

type registry struct {
	check.Registry // for what nobody asks here
}

func (registry) Configs(_ context.Context, ref image.Reference, _ ...resolve.Platform) ([]resolve.Config, error) {
	return []resolve.Config{{Manifest: ref.Digest(), Platform: resolve.Platform{OS: "linux", Architecture: "amd64"}, User: "app"}}, nil
}

// api is a server with the checks good and bad, and one that waits.
type api struct {
	*testing.T
	server  *httptest.Server
	handler *Handler
	doc     document
	store   *attesttest.Store
	started chan struct{} // receives when the check "wait" runs
	release chan struct{} // lets it end
	records *records
}

type records struct {
	mu   sync.Mutex
	list []attest.RunRecord
}

func (r *records) RecordRun(_ context.Context, run attest.RunRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, run)
}

func newAPI(t *testing.T, options door.Options) *api {
	t.Helper()
	a := &api{T: t, doc: readDocument(t), store: &attesttest.Store{}, started: make(chan struct{}, 10), release: make(chan struct{}), records: &records{}}
	metadata, err := check.NewGrafeas(a.store, "p")
	if err != nil {
		t.Fatal(err)
	}
	pem, err := signature.GeneratePKIX("ECDSA_P256_SHA256", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signature.ParsePKIXSigner(pem, "", "")
	if err != nil {
		t.Fatal(err)
	}
	authority, err := attest.New(attest.Options{
		Project: "p", Registry: registry{}, Metadata: metadata, Store: a.store, CreateNotes: true, Recorder: a.records,
		Signers: map[string]signature.Signer{"good": signer, "wait": signer},
		Groups:  map[string][]string{"all": {"good"}, "mixed": {"bad", "good"}, "empty": {}, "later": {"nope"}, "good": {"good"}},
		Checks: []check.Check{
			{Name: "good", Doc: check.Doc{Title: "Is it good"}, Run: func(ctx context.Context, in *check.Input) (check.Result, error) {
				_, err := in.Registry.Configs(ctx, in.Image)
				return check.Pass(), err
			}},
			{Name: "bad", Run: func(context.Context, *check.Input) (check.Result, error) { return check.Fail("it is bad"), nil }},
			{Name: "broken", Run: func(context.Context, *check.Input) (check.Result, error) { return check.Pass(), errors.New("no idea") }},
			{Name: "wait", Run: func(ctx context.Context, _ *check.Input) (check.Result, error) {
				a.started <- struct{}{}
				select {
				case <-a.release:
					return check.Pass(), nil
				case <-ctx.Done():
					return check.Result{}, context.Cause(ctx)
				}
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	d := door.New(options)
	a.handler = New(Options{Current: func() State { return State{Authority: authority, Door: d} }})
	t.Cleanup(a.handler.Close)
	a.server = httptest.NewServer(a.handler)
	t.Cleanup(a.server.Close)
	return a
}

func (a *api) request(method, path, body string, header ...string) *http.Response {
	a.Helper()
	req, err := http.NewRequestWithContext(a.Context(), method, a.server.URL+path, strings.NewReader(body))
	if err != nil {
		a.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := a.server.Client().Do(req)
	if err != nil {
		a.Fatal(err)
	}
	a.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// ask asks, and holds the answer to the document.
func (a *api) ask(method, path, body string, want int, into any, header ...string) http.Header {
	a.Helper()
	resp := a.request(method, path, body, header...) //nolint:bodyclose // request does it
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		a.Fatal(err)
	}
	if resp.StatusCode != want {
		a.Fatalf("%s %s answers %d, want %d: %s", method, path, resp.StatusCode, want, text)
	}
	template := path
	if rest, ok := strings.CutPrefix(path, "/v1/checks/"); ok {
		template = "/v1/checks/{id}"
		if strings.HasSuffix(rest, "/events") {
			template += "/events"
		}
	}
	if a.doc.Paths[template] != nil && want != http.StatusMethodNotAllowed {
		if err := a.doc.conforms(method, template, want, resp.Header.Get("Content-Type"), text); err != nil {
			a.Errorf("%s %s: the document: %v\n%s", method, path, err, text)
		}
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			a.Fatalf("%v: %s", err, text)
		}
	}
	return resp.Header
}

func TestARunTellsVerdictsEvidenceAndSignatures(t *testing.T) {
	t.Parallel()
	a := newAPI(t, door.Options{})
	var got runView
	header := a.ask("POST", "/v1/checks", `{"image": "`+ref+`", "check": "mixed"}`, 200, &got)
	if got.State != stateDone || got.Report.Success || len(got.Report.Results) != 2 || header.Get("Location") != "/v1/checks/"+got.ID {
		t.Fatalf("got %+v, %v", got, header)
	}
	bad, good := got.Report.Results[0], got.Report.Results[1]
	if bad.Verdict != attest.Fail || bad.Reason != "it is bad" || bad.Attested {
		t.Errorf("the check that fails: %+v", bad)
	}
	if good.Verdict != attest.Pass || !good.Attested || len(good.Attestations) != 1 || len(good.Evidence) != 1 || good.Evidence[0].Name != digest {
		t.Fatalf("the check that passes: %+v", good)
	}
	stored := a.store.Occurrences()[0].GetAttestation()
	if sig := good.Attestations[0].Signature; sig != base64.StdEncoding.EncodeToString(stored.GetSignatures()[0].GetSignature()) {
		t.Errorf("B11: the signature %q is not the one that is filed", sig)
	}
	if !bytes.Equal(good.Attestations[0].Payload, stored.GetSerializedPayload()) {
		t.Error("the payload is not the one that is filed")
	}
	var again runView
	a.ask("GET", "/v1/checks/"+got.ID, "", 200, &again)
	if again.ID != got.ID || again.Report.Results[1].Attestations[0].Signature != good.Attestations[0].Signature {
		t.Errorf("asked again: %+v", again)
	}
	a.ask("POST", "/v1/checks", `{"image": "`+ref+`"}`, 200, &again)
	if !again.Report.Success || again.Report.Name != "all" || !again.Report.Results[0].Attestations[0].Existed || again.Report.Results[0].Attestations[0].Signature != "" {
		t.Errorf("the group all, which is attested by now: %+v", again.Report)
	}
	a.ask("POST", "/v1/checks", `{"image": "`+ref+`", "check": "broken"}`, 200, &again)
	if r := again.Report.Results[0]; r.Verdict != attest.Error || r.Reason != "no idea" {
		t.Errorf("a check that cannot tell: %+v", r)
	}
}

func TestADryRunAttestsNothing(t *testing.T) {
	t.Parallel()
	a := newAPI(t, door.Options{})
	var got runView
	a.ask("POST", "/v1/checks", `{"image": "`+ref+`", "dryRun": true}`, 200, &got)
	if !got.Report.Success || !got.Report.DryRun || got.Report.Results[0].Attested || len(a.store.Occurrences()) > 0 {
		t.Errorf("got %+v", got.Report)
	}
}

func TestARequestWithAKeyIsOneRun(t *testing.T) {
	t.Parallel()
	a := newAPI(t, door.Options{})
	const body = `{"image": "` + ref + `", "check": "wait"}`
	var first, second, third runView
	header := a.ask("POST", "/v1/checks", body, 202, &first, "Idempotency-Key", "k1", "Prefer", "respond-async")
	if first.State != stateRunning || header.Get("Idempotent-Replayed") != "" {
		t.Fatalf("got %+v, %v", first, header)
	}
	<-a.started
	header = a.ask("POST", "/v1/checks", body, 202, &second, "Idempotency-Key", "k1", "Prefer", "respond-async")
	if second.ID != first.ID || header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the same again: %+v, %v", second, header)
	}
	a.ask("POST", "/v1/checks", `{"image": "`+ref+`", "check": "good"}`, 422, nil, "Idempotency-Key", "k1")
	a.ask("POST", "/v1/checks", body, 400, nil, "Idempotency-Key", strings.Repeat("k", 256))
	close(a.release)
	a.ask("POST", "/v1/checks", body, 200, &third, "Idempotency-Key", "k1")
	if third.ID != first.ID || third.State != stateDone || !third.Report.Success {
		t.Errorf("when it has ended: %+v", third)
	}
	if len(a.started) != 0 {
		t.Error("the check ran again")
	}
	a.ask("POST", "/v1/checks", body, 200, &third, "Idempotency-Key", "k2")
	if third.ID == first.ID {
		t.Error("another key is the same run")
	}
}

// events reads a stream to its end.
func events(t *testing.T, body io.Reader) (kinds []string, last string) {
	t.Helper()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if kind, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			kinds = append(kinds, kind)
		}
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			last = data
		}
	}
	return kinds, last
}

func TestProgressIsToldAsItHappens(t *testing.T) {
	t.Parallel()
	a := newAPI(t, door.Options{})
	resp := a.request("POST", "/v1/checks", `{"image": "`+ref+`", "check": "wait"}`, "Accept", "text/event-stream") //nolint:bodyclose // request does it
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	body := bufio.NewReader(resp.Body)
	for { // the check is told to have begun while it runs
		line, err := body.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "event: started\n" {
			break
		}
	}
	close(a.release)
	kinds, last := events(t, body)
	if got := strings.Join(kinds, " "); got != "checked attested done" {
		t.Errorf("then %s", got)
	}
	var done runView
	if err := json.Unmarshal([]byte(last), &done); err != nil || !done.Report.Success {
		t.Fatalf("the last: %s, %v", last, err)
	}
	again := a.request("GET", "/v1/checks/"+done.ID+"/events", "") //nolint:bodyclose // request does it
	if kinds, _ := events(t, again.Body); strings.Join(kinds, " ") != "started checked attested done" {
		t.Errorf("asked again: %v", kinds)
	}
	rest := a.request("GET", "/v1/checks/"+done.ID+"/events", "", "Last-Event-ID", "2") //nolint:bodyclose // request does it
	if kinds, _ := events(t, rest.Body); strings.Join(kinds, " ") != "attested done" {
		t.Errorf("after the second: %v", kinds)
	}
}

func TestARunWithoutAKeyEndsWithItsClient(t *testing.T) {
	t.Parallel()
	a := newAPI(t, door.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.server.URL+"/v1/checks", strings.NewReader(`{"image": "`+ref+`", "check": "wait"}`))
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if resp, err := a.server.Client().Do(req); err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-a.started
	cancel()
	<-gone
	one := a.handler.runs.order[0]
	if err := one.wait(t.Context()); err != nil || one.report.Success {
		t.Errorf("got %v, %+v", err, one.report)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	a := newAPI(t, door.Options{})
	for about, row := range map[string]struct {
		method, path, body string
		status             int
		kind, detail       string
	}{
		"no JSON":               {"POST", "/v1/checks", `{bad`, 400, problemRequest, "one JSON object"},
		"a field that is none":  {"POST", "/v1/checks", `{"image": "` + ref + `", "chek": "all"}`, 400, problemRequest, "no other fields"},
		"two objects":           {"POST", "/v1/checks", `{"image": "` + ref + `"}{}`, 400, problemRequest, "one JSON object"},
		"no image":              {"POST", "/v1/checks", `{}`, 422, problemRequest, ""},
		"a bad reference":       {"POST", "/v1/checks", `{"image": "https://gcr.io/a"}`, 422, problemRequest, "gcr.io/a"},
		"no digest":             {"POST", "/v1/checks", `{"image": "gcr.io/a/b:v1"}`, 422, problemRequest, "digest"},
		"no such check":         {"POST", "/v1/checks", `{"image": "` + ref + `", "check": "nope"}`, 404, problemUnknown, `"nope" is not active`},
		"an inactive group":     {"POST", "/v1/verifications", `{"image": "` + ref + `", "check": "later"}`, 404, problemUnknown, "not registered: nope"},
		"too long":              {"POST", "/v1/checks", strings.Repeat(" ", MaxBody+1), 413, problemRequest, "longer than"},
		"no such run":           {"GET", "/v1/checks/x", "", 404, problemNotFound, "forgotten"},
		"no such run's events":  {"GET", "/v1/checks/x/events", "", 404, problemNotFound, "forgotten"},
		"no such path":          {"GET", "/v1/nope", "", 404, problemNotFound, "openapi.json"},
		"another method":        {"GET", "/v1/checks", "", 405, problemMethod, "POST"},
		"another method, again": {"DELETE", "/v1/checks/x", "", 405, problemMethod, "GET"},
	} {
		t.Run(about, func(t *testing.T) {
			one := *a
			one.T = t
			var p problem
			header := one.ask(row.method, row.path, row.body, row.status, &p)
			if header.Get("Content-Type") != "application/problem+json" || p.Type != row.kind || p.Status != row.status || p.Title == "" || p.Instance != row.path || !strings.Contains(p.Detail, row.detail) {
				t.Errorf("got %+v, %v", p, header)
			}
		})
	}
}

func TestB18_RunsAreTheirCallers(t *testing.T) {
	t.Parallel()
	hash := func(password string) string {
		h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		return string(h)
	}
	a := newAPI(t, door.Options{RequireAuth: true, Username: "vouch", PasswordHash: hash("1"), PerMinute: 60, Burst: 3, Callers: map[string]attest.CallerConfig{
		"ci": {PasswordHash: hash("2"), May: []string{"all"}},
	}})
	login := func(name, password string) []string {
		return []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))}
	}
	vouch, ci := login("vouch", "1"), login("ci", "2")
	const body = `{"image": "` + ref + `", "check": "good"}`
	var p problem
	if header := a.ask("POST", "/v1/checks", body, 401, &p); p.Type != problemLogin || !strings.HasPrefix(header.Get("WWW-Authenticate"), "Basic") {
		t.Errorf("without a login: %+v, %v", p, header)
	}
	a.ask("GET", "/v1/catalog", "", 401, nil)
	a.ask("GET", "/v1/checks/x", "", 401, nil)
	a.ask("GET", "/v1/openapi.json", "", 200, nil)
	a.ask("POST", "/v1/checks", body, 403, &p, ci...)
	if p.Type != problemForbidden {
		t.Errorf("who may not: %+v", p)
	}
	var got runView
	a.ask("POST", "/v1/checks", body, 200, &got, vouch...)
	a.ask("GET", "/v1/checks/"+got.ID, "", 200, nil, vouch...)
	a.ask("GET", "/v1/checks/"+got.ID, "", 404, nil, ci...)
	a.ask("POST", "/v1/checks", body, 200, nil, vouch...)
	a.ask("POST", "/v1/verifications", body, 200, nil, vouch...)
	if header := a.ask("POST", "/v1/checks", body, 429, &p, vouch...); p.Type != problemBusy || header.Get("Retry-After") == "" {
		t.Errorf("too often: %+v, %v", p, header)
	}
	a.records.mu.Lock()
	defer a.records.mu.Unlock()
	if n := len(a.records.list); n != 6 || a.records.list[0].Err == nil || a.records.list[2].Request.Caller.Name != "vouch" || a.records.list[2].Report == nil {
		t.Errorf("%d records: %+v", n, a.records.list)
	}
}

func TestVerification(t *testing.T) {
	t.Parallel()
	a := newAPI(t, door.Options{})
	const body = `{"image": "` + ref + `"}`
	var got verification
	a.ask("POST", "/v1/verifications", body, 200, &got)
	if got.Success || got.Results[0].Reason != "there is no attestation" {
		t.Errorf("before: %+v", got)
	}
	a.ask("POST", "/v1/checks", body, 200, nil)
	a.ask("POST", "/v1/verifications", body, 200, &got)
	if r := got.Results[0]; !got.Success || !r.Attested || r.KeyID == "" || !strings.Contains(string(r.Payload), digest) {
		t.Errorf("after: %+v", got)
	}
}

func TestCatalog(t *testing.T) {
	t.Parallel()
	a := newAPI(t, door.Options{})
	var got catalog
	a.ask("GET", "/v1/catalog", "", 200, &got)
	if len(got.Checks) != 4 || got.Checks[2].Name != "good" || got.Checks[2].Title != "Is it good" || !got.Checks[2].Signed || got.Checks[2].Note != "projects/p/notes/good" || got.Checks[0].Signed {
		t.Errorf("checks: %+v", got.Checks)
	}
	if len(got.Groups) != 5 || got.Groups[0].Name != "all" || !got.Groups[0].Active || got.Groups[3].Name != "later" || got.Groups[3].Active {
		t.Errorf("groups: %+v", got.Groups)
	}
}

func TestRunsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRuns(time.Now)
		defer r.close()
		begin := func(one *run) error { one.finish(&attest.Report{}, nil); return nil }
		caller := attest.Caller{Name: "ci"}
		start := func(key string) *run {
			one, _, err := r.start(caller, key, checkRequest{}, begin)
			if err != nil {
				t.Fatal(err)
			}
			return one
		}
		first := start("k")
		running, _, err := r.start(caller, "", checkRequest{}, func(*run) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(KeepFor - time.Second) // the clock of the bubble
		if r.find(first.id, caller) == nil || start("k") != first {
			t.Error("it is forgotten too soon")
		}
		time.Sleep(time.Second)
		if r.find(first.id, caller) != nil || start("k") == first || len(r.byKey) != 1 {
			t.Error("it is not forgotten")
		}
		if r.find(running.id, caller) == nil {
			t.Error("one that runs is forgotten")
		}
		for range 2 * MaxRuns {
			start("")
		}
		if n := len(r.order); n > MaxRuns+1 || len(r.byID) != n || len(r.byKey) != 0 {
			t.Errorf("%d runs are kept, %d keys", n, len(r.byKey))
		}
	})
}

func TestB4_APanicIsAProblem(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	h := New(Options{Current: func() State { panic("made for a test") }, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	defer h.Close()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/catalog", nil))
	if w.Code != 500 || !strings.Contains(w.Body.String(), problemInternal) || !strings.Contains(log.String(), "checksapi_test.go") {
		t.Errorf("got %d %s\n%s", w.Code, w.Body, log.String())
	}
}

// FuzzRequest sends bytes as a request: whatever comes, the answer is one of those that
// the document has.
func FuzzRequest(f *testing.F) {
	f.Add("/v1/checks", []byte(`{"image": "`+ref+`", "check": "all"}`))
	f.Add("/v1/verifications", []byte(`{"image": 1}`))
	f.Fuzz(func(t *testing.T, path string, body []byte) {
		h := New(Options{Current: func() State { return fuzzState(t) }})
		defer h.Close()
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(body))
		req.URL.Path = path
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if kind := w.Header().Get("Content-Type"); w.Code >= 300 && w.Code != 301 && w.Code != 307 && kind != "application/problem+json" {
			t.Errorf("%d of type %q: %s", w.Code, kind, w.Body)
		}
	})
}

func fuzzState(t *testing.T) State {
	t.Helper()
	store := &attesttest.Store{}
	metadata, err := check.NewGrafeas(store, "p")
	if err != nil {
		t.Fatal(err)
	}
	authority, err := attest.New(attest.Options{
		Project: "p", Registry: registry{}, Metadata: metadata, Store: store, Groups: map[string][]string{"all": {"good"}},
		Checks: []check.Check{{Name: "good", Run: func(context.Context, *check.Input) (check.Result, error) { return check.Pass(), nil }}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return State{Authority: authority, Door: door.New(door.Options{})}
}
