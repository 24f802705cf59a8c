package kritisapi_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/attest/attesttest"
	"github.com/gatehouse-dev/gatehouse/attest/kritisapi"
	"github.com/gatehouse-dev/gatehouse/attest/kritissigner"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// signer answers as it is told, and remembers what it was asked.
type signer struct {
	report kritissigner.Report
	err    error
	asked  []string
	run    func(context.Context)
}

func (s *signer) Run(ctx context.Context, m kritissigner.Mode, ref image.Reference) (kritissigner.Report, error) {
	s.asked = append(s.asked, string(m)+" "+ref.String())
	if s.run != nil {
		s.run(ctx)
	}
	return s.report, s.err
}

func web() string { return "registry.example/shop/web@" + image.DigestOf([]byte("web")).String() }

// known lets in who says a name.
func known(r *http.Request) (metadata.Caller, error) {
	name := r.Header.Get("X-Caller")
	if name == "" {
		return metadata.Caller{}, metadata.Errorf(metadata.Unauthenticated, "who are you?")
	}
	return metadata.Caller{Name: name}, nil
}

func options(s *signer, store *attesttest.Store) kritisapi.Options {
	return kritisapi.Options{Signer: s, Occurrences: store, Identify: known, May: func(c metadata.Caller) bool { return c.Name == "ci" }}
}

// post asks as ci, and returns the answer.
func post(t *testing.T, h http.Handler, path, body string) (int, kritisapi.Response) {
	t.Helper()
	return ask(t, h, http.MethodPost, path, body, "ci")
}

func ask(t *testing.T, h http.Handler, method, path, body, caller string) (int, kritisapi.Response) {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("X-Caller", caller)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var got kritisapi.Response
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatalf("%s answered %d %q: %v", path, w.Code, w.Body, err)
	}
	if ct := w.Header().Get("Content-Type"); ct != "application/json" {
		t.Errorf("content type %q", ct)
	}
	return w.Code, got
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	passed := kritissigner.Report{Passed: true, Signed: true}
	violates := kritissigner.Report{Violations: []string{"found CVE x"}}
	request := `{"image":"` + web() + `"}`
	for about, row := range map[string]struct {
		path, body string
		report     kritissigner.Report
		err        error
		code       int
		want       kritisapi.Response
	}{
		"check-only of a good image": {"/check-only", request, passed, nil, 200, kritisapi.Response{Image: web(), Status: "ok"}},
		"check-only of a bad one":    {"/check-only", request, violates, nil, 422, kritisapi.Response{Image: web(), Status: "failed", Violations: violates.Violations}},
		// Kritis B30: it was 400.
		"check-only that could not tell":     {"/check-only", request, kritissigner.Report{}, errors.New("down"), 500, kritisapi.Response{Image: web(), Status: "failed", Message: "down"}},
		"check-and-sign of a good image":     {"/check-and-sign", request, passed, nil, 200, kritisapi.Response{Image: web(), Status: "signed", Message: "image passed vulnerability policy"}},
		"check-and-sign of a bad one":        {"/check-and-sign", request, violates, nil, 422, kritisapi.Response{Image: web(), Status: "not-signed", Message: "image violates policy", Violations: violates.Violations}},
		"check-and-sign that could not tell": {"/check-and-sign", request, kritissigner.Report{}, errors.New("down"), 500, kritisapi.Response{Image: web(), Status: "failed", Message: "down"}},
		"passed and not signed is no yes":    {"/check-and-sign", request, kritissigner.Report{Passed: true}, nil, 422, kritisapi.Response{Image: web(), Status: "not-signed", Message: "image violates policy"}},
		"a member that is not known":         {"/check-only", `{"image":"` + web() + `","more":1}`, passed, nil, 200, kritisapi.Response{Image: web(), Status: "ok"}},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			s := &signer{report: row.report, err: row.err}
			code, got := post(t, kritisapi.NewHandler(options(s, &attesttest.Store{})), row.path, row.body)
			if diff := cmp.Diff(row.want, got); diff != "" || code != row.code {
				t.Errorf("status %d, want %d (-want +got):\n%s", code, row.code, diff)
			}
			if want := strings.TrimPrefix(row.path, "/") + " " + web(); len(s.asked) != 1 || s.asked[0] != want {
				t.Errorf("asked %q, want %q", s.asked, want)
			}
		})
	}
}

func TestRequestsThatAreNoGood(t *testing.T) {
	t.Parallel()
	for about, row := range map[string]struct {
		body string
		code int
		want string
	}{
		"no JSON":                  {"image=x", 400, "no JSON"},
		"nothing":                  {"", 400, "no JSON"},
		"two values":               {`{"image":"` + web() + `"} {}`, 400, "no JSON"},
		"an image twice":           {`{"image":"` + web() + `","image":"x"}`, 400, "no JSON"},
		"an image of another kind": {`{"image":7}`, 400, "no JSON"},
		"no image":                 {`{}`, 400, "names no image"},
		"Image in upper case":      {`{"IMAGE":"` + web() + `"}`, 400, "names no image"},
		"no digest":                {`{"image":"registry.example/shop/web:1"}`, 400, "image reference should have digest"},
		"no reference":             {`{"image":"https://registry.example/x"}`, 400, "https"},
		"too long":                 {`{"image":"` + strings.Repeat("x", kritisapi.MaxBody) + `"}`, 413, "too long"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			for _, path := range []string{"/check-only", "/check-and-sign"} {
				s := &signer{}
				code, got := post(t, kritisapi.NewHandler(options(s, &attesttest.Store{})), path, row.body)
				if code != row.code || got.Status != kritisapi.Failed || !strings.Contains(got.Message, row.want) || len(s.asked) != 0 {
					t.Errorf("%s: %d %+v, want %d with %q", path, code, got, row.code, row.want)
				}
				if len(got.Message) > 1000 {
					t.Errorf("%s: the message has %d bytes", path, len(got.Message))
				}
			}
		})
	}
}

// Kritis B30: anyone who reached the port could have images signed.
func TestWhoMayAsk(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/check-only", "/check-and-sign", "/event"} {
		for about, row := range map[string]struct {
			method, caller string
			code           int
		}{
			"nobody":        {http.MethodPost, "", 401},
			"somebody else": {http.MethodPost, "eve", 403},
			"ci, by GET":    {http.MethodGet, "ci", 405},
		} {
			s := &signer{report: kritissigner.Report{Passed: true, Signed: true}}
			code, got := ask(t, kritisapi.NewHandler(options(s, &attesttest.Store{})), row.method, path, `{"image":"`+web()+`"}`, row.caller)
			if code != row.code || got.Status != kritisapi.Failed || len(s.asked) != 0 {
				t.Errorf("%s by %s: %d %+v, asked %v", path, about, code, got, s.asked)
			}
		}
	}
	w := httptest.NewRecorder()
	kritisapi.NewHandler(options(&signer{}, &attesttest.Store{})).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/bypass-and-sign", nil))
	if w.Code != 404 {
		t.Errorf("another path: %d", w.Code)
	}
}

func push(message string) string {
	return fmt.Sprintf(`{"message":{"data":%q,"id":"1","attributes":{}},"subscription":"projects/p/subscriptions/s"}`, base64.StdEncoding.EncodeToString([]byte(message)))
}

func TestEvents(t *testing.T) {
	t.Parallel()
	discovery := func(uri string, s grafeas.DiscoveryOccurrence_AnalysisStatus) *grafeas.Occurrence {
		return &grafeas.Occurrence{ResourceUri: uri, Kind: grafeas.NoteKind_DISCOVERY, Details: &grafeas.Occurrence_Discovery{Discovery: &grafeas.DiscoveryOccurrence{AnalysisStatus: s}}}
	}
	const success = grafeas.DiscoveryOccurrence_FINISHED_SUCCESS
	named := push(`{"name":"projects/p/occurrences/1","kind":"DISCOVERY","notificationTime":"2026-01-01T00:00:00Z"}`)
	for about, row := range map[string]struct {
		body   string
		there  *grafeas.Occurrence
		report kritissigner.Report
		err    error
		code   int
		want   kritisapi.Response
		asked  bool
	}{
		"a finished scan": {named, discovery("https://"+web(), success), kritissigner.Report{Passed: true, Signed: true}, nil,
			200, kritisapi.Response{Image: web(), Status: "signed", Message: "image passed vulnerability policy"}, true},
		"a finished scan of a bad image": {named, discovery("https://"+web(), success), kritissigner.Report{Violations: []string{"v"}}, nil,
			200, kritisapi.Response{Image: web(), Status: "not-signed", Message: "image violates policy", Violations: []string{"v"}}, true},
		"a finished scan that cannot be read": {named, discovery("https://"+web(), success), kritissigner.Report{}, errors.New("down"),
			500, kritisapi.Response{Image: web(), Status: "failed", Message: "down"}, true},
		"another kind": {push(`{"name":"projects/p/occurrences/1","kind":"VULNERABILITY"}`), nil, kritissigner.Report{}, nil,
			200, kritisapi.Response{Message: "ignoring non-DISCOVERY occurrence"}, false},
		"another kind than the message says": {named, &grafeas.Occurrence{ResourceUri: "https://" + web(), Kind: grafeas.NoteKind_BUILD}, kritissigner.Report{}, nil,
			200, kritisapi.Response{Message: "ignoring non-DISCOVERY occurrence"}, false},
		"a scan that goes on": {named, discovery("https://"+web(), grafeas.DiscoveryOccurrence_SCANNING), kritissigner.Report{}, nil,
			200, kritisapi.Response{Message: "ignoring occurrence whose scan has not finished with success"}, false},
		"a scan of no image": {named, discovery("https://registry.example/shop/web:1", success), kritissigner.Report{}, nil,
			200, kritisapi.Response{Message: "ignoring occurrence that is about no image with a digest"}, false},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			store := &attesttest.Store{}
			if row.there != nil {
				store.Add("p", row.there)
			}
			s := &signer{report: row.report, err: row.err}
			code, got := post(t, kritisapi.NewHandler(options(s, store)), "/event", row.body)
			if diff := cmp.Diff(row.want, got); diff != "" || code != row.code {
				t.Errorf("status %d, want %d (-want +got):\n%s", code, row.code, diff)
			}
			if row.asked != (len(s.asked) == 1 && s.asked[0] == "check-and-sign "+web()) {
				t.Errorf("asked %q", s.asked)
			}
		})
	}
	t.Run("one that is not there is tried again", func(t *testing.T) {
		t.Parallel()
		if code, got := post(t, kritisapi.NewHandler(options(&signer{}, &attesttest.Store{})), "/event", named); code != 500 || got.Status != kritisapi.Failed {
			t.Errorf("%d %+v", code, got)
		}
	})
	for about, body := range map[string]string{
		"no JSON": "x", "no data": `{"message":{}}`, "no base64": `{"message":{"data":"%"}}`, "no JSON in it": push("x"),
		"no occurrence": push(`{"name":"projects/p/notes/1","kind":"DISCOVERY"}`), "no name": push(`{"kind":"DISCOVERY"}`),
		"a control character": push(`{"name":"projects/p/occurrences/1\n","kind":"DISCOVERY"}`),
	} {
		t.Run(about+" is refused", func(t *testing.T) {
			t.Parallel()
			store := &attesttest.Store{}
			if code, got := post(t, kritisapi.NewHandler(options(&signer{}, store)), "/event", body); code != 400 || got.Status != kritisapi.Failed || store.Calls("GetOccurrence") != 0 {
				t.Errorf("%d %+v", code, got)
			}
		})
	}
}

func TestEachRequestIsRecorded(t *testing.T) {
	t.Parallel()
	var records []metadata.CallRecord
	o := options(&signer{err: errors.New("down")}, &attesttest.Store{})
	o.Record = func(_ context.Context, r metadata.CallRecord) { records = append(records, r) }
	h := kritisapi.NewHandler(o)
	post(t, h, "/check-and-sign", `{"image":"`+web()+`"}`)
	ask(t, h, http.MethodPost, "/event", "", "")
	if len(records) != 2 || records[0].Caller.Name != "ci" || records[0].Resource != web() || records[0].Method != "kritis.signer.CheckAndSign" || records[0].Err == nil ||
		metadata.KindOf(records[1].Err) != metadata.Unauthenticated {
		t.Errorf("recorded %+v", records)
	}
}

func TestTooManyAndPanics(t *testing.T) {
	t.Parallel()
	arrived, leave := make(chan struct{}), make(chan struct{})
	s := &signer{run: func(context.Context) { arrived <- struct{}{}; <-leave }}
	o := options(s, &attesttest.Store{})
	o.MaxRequests = 1
	h := kritisapi.NewHandler(o)
	var first sync.WaitGroup
	first.Go(func() { post(t, h, "/check-only", `{"image":"`+web()+`"}`) })
	<-arrived
	if code, _ := post(t, h, "/check-only", `{"image":"`+web()+`"}`); code != 503 {
		t.Errorf("the second of one: %d", code)
	}
	close(leave)
	first.Wait()
	o = options(&signer{run: func(context.Context) { panic("s3cret") }}, &attesttest.Store{})
	if code, got := post(t, kritisapi.NewHandler(o), "/check-only", `{"image":"`+web()+`"}`); code != 500 || strings.Contains(got.Message, "s3cret") {
		t.Errorf("a panic: %d %+v", code, got)
	}
}

func FuzzRequests(f *testing.F) {
	f.Add("/check-and-sign", []byte(`{"image":"`+web()+`"}`))
	f.Add("/event", []byte(push(`{"name":"projects/p/occurrences/1","kind":"DISCOVERY"}`)))
	f.Fuzz(func(t *testing.T, path string, body []byte) {
		if path != "/check-only" && path != "/event" {
			path = "/check-and-sign"
		}
		s := &signer{}
		o := options(s, &attesttest.Store{})
		r := httptest.NewRequest(http.MethodPost, path, io.NopCloser(bytes.NewReader(body)))
		r.Header.Set("X-Caller", "ci")
		w := httptest.NewRecorder()
		kritisapi.NewHandler(o).ServeHTTP(w, r)
		var got kritisapi.Response
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatalf("answered %q: %v", w.Body, err)
		}
		for _, asked := range s.asked {
			_, text, _ := strings.Cut(asked, " ")
			if ref, err := image.Parse(text); err != nil || ref.Digest().IsZero() {
				t.Errorf("the signer was asked %q", asked)
			}
		}
	})
}
