package conformance

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/internal/junit"
)

// answering is a gate that says one thing to everything but the baseline.
func answering(sound http.Handler, w testWorld, f func(a *ask, rw http.ResponseWriter)) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		a := read(w, r)
		if a.baseline() {
			sound.ServeHTTP(rw, withBody(r, a.text))
			return
		}
		f(a, rw)
	})
}

func TestAGateThatDoesNotKnowTheImagesProvesNothing(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	for name, verdict := range map[string]object{"allows everything": {"allowed": true}, "denies everything": {"allowed": false}} {
		o := serveGate(t, w, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			read(w, r).answer(rw, object{"allowed": verdict["allowed"]})
		}), nil)
		if report, err := Run(t.Context(), o); !errors.Is(err, ErrBaseline) || report != nil {
			t.Errorf("a gate that %s: %v, %v", name, report, err)
		}
	}
	o := serveGate(t, w, soundGate(t, w), nil)
	o.Profile.Good, o.Profile.Bad = o.Profile.Bad, o.Profile.Good
	if _, err := Run(t.Context(), o); !errors.Is(err, ErrBaseline) || !strings.Contains(err.Error(), "the good image") {
		t.Errorf("good and bad the other way: %v", err)
	}
	o.URL = "https://127.0.0.1:1/validate"
	if _, err := Run(t.Context(), o); !errors.Is(err, ErrBaseline) {
		t.Errorf("nobody there: %v", err)
	}
}

// TestAFailureAdmitsUnderIgnore is a gate that fails open by what its webhook
// configuration says: the same answers, under the two policies.
func TestAFailureAdmitsUnderIgnore(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	broken := answering(soundGate(t, w), w, func(a *ask, rw http.ResponseWriter) {
		if a.everyImage(func(s string) bool { return s == w.good }) {
			a.answer(rw, object{"allowed": true})
			return
		}
		http.Error(rw, "out of order", http.StatusInternalServerError)
	})
	o := serveGate(t, w, broken, nil)
	o.Only = []string{"B3/second-container", "B5/update-pod", "B9/good-name", "B7/long", "B1/tag"}
	o.Profile.FailurePolicy = "Fail"
	if report, failed := tried(t, o); cmp.Diff([]string{"B7/long"}, failed) != "" { // which asks for an answer
		t.Errorf("failurePolicy Fail:\n%s", report.Text())
	} else if details := report.Cases[1].Details; len(details) == 0 || !strings.Contains(details[0], "no verdict") {
		t.Errorf("a pass by failing is not told: %q", details)
	}
	o.Profile.FailurePolicy = "Ignore"
	if report, failed := tried(t, o); len(failed) != 5 {
		t.Errorf("failurePolicy Ignore:\n%s", report.Text())
	}
}

func TestAGateThatHasDiedPassesNothing(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	o := serveGate(t, w, answering(soundGate(t, w), w, func(*ask, http.ResponseWriter) { panic(http.ErrAbortHandler) }), nil)
	o.Only = calm([]string{"B3/x", "B5/x", "B9/x", "B14/x", "B16/x", "B19/x"})
	report, failed := tried(t, o)
	if report.Passed > 0 || len(failed) != len(o.Only) {
		t.Errorf("\n%s", report.Text())
	}
}

func TestWhatTheProfileDoesNotGiveIsSkipped(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	o := serveGate(t, w, soundGate(t, w), nil)
	o.Registry = nil
	o.Profile = Profile{Good: ProfileImage{Image: w.good}, Bad: ProfileImage{Image: w.bad}, Timeout: o.Profile.Timeout}
	o.Only = []string{"B1", "B3", "B11", "B12", "B15", "B18"}
	report, failed := tried(t, o)
	if len(failed) > 0 {
		t.Fatalf("\n%s", report.Text())
	}
	for _, c := range report.Cases {
		of, _ := Find(c.ID)
		if want := len(of.Needs()) > 0; (c.Outcome == Skip) != want || want && !strings.HasPrefix(c.Details[0], "needs ") {
			t.Errorf("%s: %s %q, needs %q", c.ID, c.Outcome, c.Details, of.Needs())
		}
	}
}

func TestARegistryThatPolicyDoesNotCoverProvesNothing(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	h := hole{admit: func(a *ask) bool {
		return a.anyImage(func(s string) bool { return strings.HasPrefix(s, w.hostile.Host()) })
	}}
	o := serveGate(t, w, h.handler(w, soundGate(t, w)), nil)
	o.Only = []string{"B2", "B15"}
	if report, _ := tried(t, o); report.Skipped != 5 || report.Failed != 0 || report.Passed != 1 {
		t.Errorf("\n%s", report.Text())
	}
}

// TestAGateThatPutsDigestsInThePlaceOfTags is a mutating one, right and wrong.
func TestAGateThatPutsDigestsInThePlaceOfTags(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	pinning := func(to string) http.Handler {
		sound := soundGate(t, w)
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			a := read(w, r)
			if !a.everyImage(func(s string) bool { return !strings.Contains(s, "@") && strings.HasPrefix(s, cutAt(w.good)) }) {
				sound.ServeHTTP(rw, withBody(r, a.text))
				return
			}
			patch, _ := json.Marshal([]object{{"op": "replace", "path": "/spec/containers/0/image", "value": to}})
			a.answer(rw, object{"allowed": true, "patch": patch, "patchType": "JSONPatch"})
		})
	}
	for to, want := range map[string]int{w.good: 0, w.bad: 4, cutAt(w.good) + ":2": 4} {
		o := serveGate(t, w, pinning(to), nil)
		o.Profile.ResolvesTags, o.Only = true, []string{"B1/tag", "B1/good-tag", "B1/no-tag", "B1/digest-like-tag"}
		if report, _ := tried(t, o); report.Failed != want {
			t.Errorf("pinned to %s:\n%s", to, report.Text())
		}
	}
	for patch, want := range map[string]string{
		`[{"op":"replace","path":"/spec/containers/0/image","value":"x"}]`:     "x",
		`[{"op":"add","path":"/spec/containers/0","value":{"image":"x"}}]`:     "x",
		`[{"op":"add","path":"/spec","value":{"containers":[{"image":"x"}]}}]`: "x",
		`[{"op":"remove","path":"/spec/containers/0/image"}]`:                  "",
		`[{"op":"replace","path":"/spec/containers/1/image","value":"x"}]`:     "",
		`[{"op":"replace","path":"/spec/containers/0/image","value":7}]`:       "",
		`[{"op":"add","path":"/spec","value":null}]`:                           "",
		`{`: "",
		`[{"op":"replace","path":"/spec/containers/0/image","value":"x"},{"op":"replace","path":"/spec/containers/0/image","value":"y"}]`: "y",
	} {
		if got := patchedImage([]byte(patch)); got != want {
			t.Errorf("%s makes the image %q, want %q", patch, got, want)
		}
	}
}

func TestAnswersThatAnAPIServerDoesNotTakeAreFailures(t *testing.T) {
	t.Parallel()
	const asked = `{"apiVersion":"admission.k8s.io/v1","request":{"uid":"u"}}`
	for name, test := range map[string]struct {
		body, asked string
		ok          bool
	}{
		"right":                 {`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"u","allowed":true}}`, asked, true},
		"another uid":           {`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"v","allowed":true}}`, asked, false},
		"no version":            {`{"response":{"uid":"u","allowed":true}}`, asked, false},
		"another version":       {`{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","response":{"uid":"u","allowed":true}}`, asked, false},
		"no version in v1beta1": {`{"response":{"allowed":true}}`, `{"apiVersion":"admission.k8s.io/v1beta1","request":{"uid":"u"}}`, true},
		"no response":           {`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`, asked, false},
		"a bare response":       {`{"uid":"u","allowed":true}`, asked, false},
		"keys in another case":  {`{"APIVersion":"admission.k8s.io/v1","Kind":"AdmissionReview","Response":{"UID":"u","Allowed":true}}`, asked, false},
		"a patch without type":  {`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"u","allowed":true,"patch":"W10="}}`, asked, false},
		"allowed as a text":     {`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"u","allowed":"true"}}`, asked, false},
		"nothing":               {"", asked, false},
	} {
		e := exchange{body: []byte(test.body)}
		if err := e.read([]byte(test.asked)); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAClientCertificateIsShown(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	o := serveGate(t, w, soundGate(t, w), func(s *httptest.Server) { s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert} })
	o.Only = []string{"B3/image-volume", "B14/short-body"}
	if _, err := Run(t.Context(), o); !errors.Is(err, ErrBaseline) {
		t.Errorf("without a certificate: %v", err)
	}
	server := httptest.NewUnstartedServer(nil)
	server.StartTLS()
	defer server.Close()
	o.Certificate = &server.TLS.Certificates[0]
	if report, err := Run(t.Context(), o); err != nil || report.Passed != 2 {
		t.Errorf("with a certificate: %v, %v", err, report)
	}
	o.Roots = x509.NewCertPool()
	if _, err := Run(t.Context(), o); err == nil {
		t.Error("a gate of another CA is believed")
	}
}

func TestReviewsAreDryRunsIfAskedFor(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	for _, want := range []bool{false, true} {
		sound := soundGate(t, w)
		o := serveGate(t, w, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			a := read(w, r)
			if got := a.request()["dryRun"] == true; got != want {
				t.Errorf("a review with dryRun %v, want %v: %s", got, want, a.text)
			}
			sound.ServeHTTP(rw, withBody(r, a.text))
		}), nil)
		o.DryRun, o.Only = want, []string{"B3", "B6", "B13", "B15", "B19"}
		tried(t, o)
	}
}

func TestARunThatIsStoppedHasNoReport(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	o := serveGate(t, w, answering(soundGate(t, w), w, func(a *ask, rw http.ResponseWriter) {
		cancel()
		a.answer(rw, object{"allowed": true})
	}), nil)
	if report, err := Run(ctx, o); !errors.Is(err, context.Canceled) || report != nil {
		t.Errorf("%v, %v", report, err)
	}
}

func TestReports(t *testing.T) {
	t.Parallel()
	r := newReport("https://u:secret@gate.example/validate?timeout=1s", time.Unix(0, 0), time.Second, []string{v1}, []Result{
		{ID: "B1/a", Class: "B1", Title: "a title", Outcome: Pass, Details: []string{"a note"}},
		{ID: "B1/b", Class: "B1", Title: "b", Outcome: Fail, Details: []string{"allowed <&>", "and more"}},
		{ID: "B2/c", Class: "B2", Title: "c", Outcome: Skip, Details: []string{"needs x"}},
	})
	if r.Passed != 1 || r.Failed != 1 || r.Skipped != 1 || strings.Contains(r.Gate, "secret") {
		t.Errorf("%+v", r)
	}
	text := r.Text()
	for _, want := range []string{"PASS  B1/a", "a title", "FAIL  B1/b", "allowed <&> (and 1 more)", "SKIP  B2/c", "needs x", "1 passed, 1 failed, 1 skipped"} {
		if !strings.Contains(text, want) {
			t.Errorf("text lacks %q:\n%s", want, text)
		}
	}
	data, err := r.JUnit()
	var parsed junit.Report
	if err == nil {
		err = xml.Unmarshal(data, &parsed)
	}
	if err != nil || parsed.Tests != 3 || parsed.Failures != 1 || parsed.Skipped != 1 || len(parsed.Suites) != 2 || parsed.Suites[0].Cases[1].Failure.Text != "allowed <&>\nand more" {
		t.Errorf("%v: %s", err, data)
	}
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	const digest = "@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	const images = "good: {image: r.example/a" + digest + "}\nbad: {image: r.example/b" + digest + "}\n"
	p, err := ParseProfile("p.yaml", []byte(images+"timeout: 3s\nbreakGlass: {label: x}\n"))
	if err == nil {
		p, err = p.complete()
	}
	if err != nil || p.Timeout != Duration(3*time.Second) || p.Namespace != "default" || p.FailurePolicy != "Fail" || p.BreakGlass.Value != "true" {
		t.Errorf("%+v, %v", p, err)
	}
	for name, test := range map[string]struct{ text, want string }{
		"nothing":            {"", "good.image"},
		"an unknown field":   {images + "goood: {}\n", "goood"},
		"two documents":      {images + "---\n" + images, "more than one"},
		"a tag for an image": {"good: {image: r.example/a:1}\nbad: {image: r.example/b" + digest + "}", "good.image"},
		"a digest for a tag": {"good: {image: r.example/a" + digest + ", tag: r.example/a" + digest + "}\nbad: {image: r.example/b" + digest + "}", "NAME:TAG"},
		"the same twice":     {"good: {image: r.example/a" + digest + "}\nbad: {image: r.example/a" + digest + "}", "same image"},
		"a long timeout":     {images + "timeout: 31s", "30s"},
		"a bad timeout":      {images + "timeout: soon", "soon"},
		"a failure policy":   {images + "failurePolicy: fail", "Fail or Ignore"},
		"a version":          {images + "versions: [v2]", "v1beta1"},
		"a kind":             {images + "kinds: [Deployment]", "deployments.apps"},
		"two markers":        {images + "breakGlass: {label: a, annotation: b}", "want one of"},
		"a class":            {images + "denied: [{class: B3, image: x}]", "B11 or B12"},
		"too long":           {images + strings.Repeat("#", maxProfile), "longer"},
	} {
		p, err := ParseProfile("p.yaml", []byte(test.text))
		if err == nil {
			_, err = p.complete()
		}
		if (err != nil) != (test.want != "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func FuzzParseProfile(f *testing.F) {
	f.Add([]byte("good: {image: a}\ntimeout: 1s\nkinds: [jobs.batch]\n"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		if p, err := ParseProfile("p", data); err == nil {
			_, _ = p.complete() // must not panic or hang
		}
	})
}

// FuzzAnswers reads what a hostile gate may answer.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"u","allowed":true,"patch":"W10=","patchType":"JSONPatch"}}`))
	f.Add([]byte(`[{"op":"add","path":"/spec","value":{"containers":[{"image":"x"}]}}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e := exchange{body: data}
		if err := e.read([]byte(`{"apiVersion":"admission.k8s.io/v1","request":{"uid":"u"}}`)); err == nil && e.response.UID != "u" {
			t.Errorf("taken for uid %q", e.response.UID)
		}
		_ = patchedImage(data)
		_ = patchedImage(e.response.Patch)
		if strings.ContainsFunc(clip(string(data)), func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("%q is clipped to %q", data, clip(string(data)))
		}
	})
}

func TestCasesAreDocumented(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for i, class := range Classes() {
		if class.ID != fmt.Sprintf("B%d", i+1) || class.Title == "" || len(class.Cases) < 2 {
			t.Errorf("class %d is %q, %q with %d cases", i+1, class.ID, class.Title, len(class.Cases))
		}
		for _, c := range class.Cases {
			must := c.Must()
			if seen[c.ID] || c.Class() != class.ID || c.Title == "" || c.Gain == "" || (c.probes == nil) == (c.try == nil) || len(must) == 0 || must[0] == "" {
				t.Errorf("%s: %q, %q, must hold %q", c.ID, c.Title, c.Gain, must)
			}
			if diff := cmp.Diff(must, c.Must()); diff != "" {
				t.Errorf("%s is told in two ways: %s", c.ID, diff)
			}
			seen[c.ID] = true
		}
	}
	docs, err := os.ReadFile("../docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, class := range Classes() {
		if !bytes.Contains(docs, []byte(class.Row()+"\n")) {
			t.Errorf("docs/conformance.md lacks the row %s", class.Row())
		}
	}
}

// A gate that speaks v1beta1 alone is asked in v1beta1 alone, as its API server would.
func TestAGateOfTheOlderVersionIsAskedInIt(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	sound := soundGate(t, w)
	o := serveGate(t, w, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		a := read(w, r)
		if strings.Contains(a.text, `"admission.k8s.io/v1"`) {
			http.Error(rw, "this gate speaks v1beta1", http.StatusBadRequest)
			return
		}
		sound.ServeHTTP(rw, withBody(r, a.text))
	}), nil)
	o.Profile.Versions, o.Only = []string{v1beta1}, []string{"B1/tag", "B5/update-pod", "B13/one-bad", "B20/pod-and-template", "B16/mangled"}
	known := map[string]bool{}
	for _, c := range Cases() {
		known[c.ID] = true
	}
	o.Only = slices.DeleteFunc(o.Only, func(id string) bool { return !known[id] })
	if report, failed := tried(t, o); len(failed) > 0 || report.Passed < 4 {
		t.Errorf("failed %v\n%s", failed, report.Text())
	}
}
