package conformance

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/gatetest/registry"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
)

// The gate of these tests is ours, over evidence that is written down here: sound
// as it is, and with one hole at a time.

const (
	attestor     = "projects/p/attestors/a"
	note         = "projects/p/notes/a"
	exemptImage  = "exempt.example/tools/shell:1"
	exemptSpace  = "exempt"
	strangeImage = "registry.example/shop/strange@sha256:1111111111111111111111111111111111111111111111111111111111111111"
	expiredImage = "registry.example/shop/expired@sha256:2222222222222222222222222222222222222222222222222222222222222222"
	gatePolicy   = `admissionWhitelistPatterns: [{namePattern: ` + exemptImage + `}]
kubernetesNamespaceAdmissionRules: {` + exemptSpace + `: {evaluationMode: ALWAYS_ALLOW, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}}
defaultAdmissionRule: {evaluationMode: REQUIRE_ATTESTATION, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG, requireAttestationsBy: [` + attestor + `]}
`
)

// testTimeout is the webhook's, enough for a busy machine with the race detector;
// for gates that hang it is less.
const testTimeout = 5 * time.Second

// world of the tests: a good image in a real registry, and a hostile registry.
type testWorld struct {
	good, bad string
	hostile   *Registry
}

func newTestWorld(t *testing.T) testWorld {
	t.Helper()
	reg := registry.New(t)
	img, err := registry.Image(registry.ImageOptions{User: "1"})
	if err != nil {
		t.Fatal(err)
	}
	good, err := reg.Push(t.Context(), "shop/web:1", img)
	if err != nil {
		t.Fatal(err)
	}
	// What a signature looks like to a gate that only asks whether there is one.
	sig, err := registry.Image(registry.ImageOptions{Labels: map[string]string{"signature": "of the good image"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reg.Push(t.Context(), "shop/web:"+signatureTag(good.Digest().String()), sig); err != nil {
		t.Fatal(err)
	}
	hostile, err := StartRegistry("127.0.0.1:0", RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := hostile.Close(); err != nil {
			t.Error(err)
		}
	})
	digested := good.Name() + "@" + good.Digest().String()
	return testWorld{good: digested, bad: good.Name() + "-bad@" + image.DigestOf([]byte("bad")).String(), hostile: hostile}
}

func signatureTag(digest string) string { return strings.Replace(digest, ":", "-", 1) + ".sig" }

func (w testWorld) profile() Profile {
	name, _, _ := strings.Cut(w.good, "@")
	return Profile{
		Good: ProfileImage{w.good, name + ":1"}, Bad: ProfileImage{w.bad, ""}, Timeout: Duration(testTimeout), Kinds: kindNames(),
		Exempt: ProfileExemptions{exemptImage, exemptSpace}, BreakGlass: ProfileBreakGlass{Label: admission.BreakGlassLabel, Use: true},
		Denied: []ProfileDenied{{"B11", strangeImage, "signed by a stranger"}, {"B12", expiredImage, "expired"}},
	}
}

// facts are the evidence: the good digest is attested.
type facts struct{ good image.Digest }

func (f facts) Collect(_ context.Context, refs []image.Reference) evidence.Facts {
	known := evidence.Facts{Images: map[image.Digest]evidence.Image{}}
	for _, ref := range refs {
		img := evidence.Image{State: evidence.Known}
		if ref.Digest() == f.good {
			img.Attestations = []evidence.Attestation{{Origin: evidence.Origin{Note: note, Fingerprint: [32]byte{1}}}}
		}
		known.Images[ref.Digest()] = img
	}
	return known
}

type noRecord struct{}

func (noRecord) Append(audit.Record) error                      { return nil }
func (noRecord) AppendSync(context.Context, audit.Record) error { return nil }

// soundGate is ours.
func soundGate(t *testing.T, w testWorld) http.Handler {
	t.Helper()
	p, found := binauthz.ParsePolicy("policy.yaml", []byte(gatePolicy))
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	rules, _ := p.Compile(nil) // that the attestor is missing is a warning
	rules.Attestors = map[string]policy.Attestor{attestor: {Name: attestor, Note: note, Keys: []policy.Key{{ID: "k", Fingerprint: [32]byte{1}}}}}
	set := policy.Set{rules.Build()}
	ref, err := image.ParseDigested(w.good)
	if err != nil {
		t.Fatal(err)
	}
	gate, err := admission.NewGate(admission.Options{
		Rules: func() policy.Set { return set }, Evidence: facts{ref.Digest()}, Recorder: noRecord{}, Now: time.Now,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return gate
}

// serveGate runs a handler as a webhook and returns how to try it.
func serveGate(t *testing.T, w testWorld, h http.Handler, change func(*httptest.Server)) Options {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ReadHeaderTimeout = testTimeout // handshakes of a flood count, and take long on a busy machine
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if change != nil {
		change(server)
	}
	server.StartTLS()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return Options{URL: server.URL + "/validate", Roots: roots, ServerName: "example.com", Profile: w.profile(), Registry: w.hostile, HangUp: testTimeout * 3 / 2, CaseTimeout: 30 * time.Second, Parallel: 8}
}

// A hole is a way in which a gate is not sound.
type hole struct {
	name string
	slow bool // to find, because the gate hangs
	// admit lets in without a look; deny keeps out.
	admit, deny func(*ask) bool
	// rewrite changes what is judged, as a gate that does not read everything.
	rewrite func(*ask)
	// around does anything else.
	around func(w testWorld, sound http.Handler) http.Handler
	listen func(*httptest.Server)
	change func(*Options)
	// only are the cases to run; without any those of the classes in fails that do
	// not load the gate nor need the hostile registry.
	only []string
	// fails are the cases that find it, exactly.
	fails []string
}

// An ask is a review as a gate reads it that is not careful.
type ask struct {
	world  testWorld
	http   *http.Request
	text   string
	cut    bool // it did not come whole
	review map[string]any
}

type object = map[string]any

func (a *ask) request() object              { r, _ := a.review["request"].(object); return r }
func (a *ask) string(path ...string) string { s, _ := dig(a.review, path...).(string); return s }
func (a *ask) object() object               { o, _ := a.request()["object"].(object); return o }
func (a *ask) oldObject() object            { o, _ := a.request()["oldObject"].(object); return o }
func (a *ask) operation() string            { return a.string("request", "operation") }
func (a *ask) kind() string                 { return a.string("request", "kind", "kind") }
func (a *ask) sub() string                  { return a.string("request", "subResource") }

// baseline reports whether the suite only finds out if the gate does anything.
func (a *ask) baseline() bool {
	return strings.HasPrefix(a.string("request", "object", "metadata", "name"), "conformance-baseline")
}

func dig(v any, path ...string) any {
	for _, name := range path {
		o, _ := v.(object)
		v = o[name]
	}
	return v
}

// spec is that of the pod, or of the template of any kind.
func specOf(o object) object {
	for _, path := range [][]string{{"spec", "jobTemplate", "spec", "template", "spec"}, {"spec", "template", "spec"}, {"template", "spec"}, {"spec"}} {
		if s, ok := dig(o, path...).(object); ok {
			return s
		}
	}
	return object{}
}

func (a *ask) spec() object { return specOf(a.object()) }

func listOf(spec object, name string) []object {
	var list []object
	items, _ := spec[name].([]any)
	for _, item := range items {
		if o, ok := item.(object); ok {
			list = append(list, o)
		}
	}
	return list
}

func setList(spec object, name string, list []object) {
	items := make([]any, len(list))
	for i := range list {
		items[i] = list[i]
	}
	spec[name] = items
}

// images are all images of an object.
func imagesOf(o object) []string {
	var list []string
	spec := specOf(o)
	for _, name := range []string{"containers", "initContainers", "ephemeralContainers"} {
		for _, c := range listOf(spec, name) {
			s, _ := c["image"].(string)
			list = append(list, s)
		}
	}
	for _, v := range listOf(spec, "volumes") {
		if s, ok := dig(v, "image", "reference").(string); ok {
			list = append(list, s)
		}
	}
	return list
}

func (a *ask) images() []string { return imagesOf(a.object()) }

// eachImage rewrites the images of containers.
func (a *ask) eachImage(f func(string) string) {
	for _, name := range []string{"containers", "initContainers", "ephemeralContainers"} {
		for _, c := range listOf(a.spec(), name) {
			if s, ok := c["image"].(string); ok {
				c["image"] = f(s)
			}
		}
	}
}

func (a *ask) anyImage(f func(string) bool) bool { return slices.ContainsFunc(a.images(), f) }
func (a *ask) everyImage(f func(string) bool) bool {
	return len(a.images()) > 0 && !a.anyImage(func(s string) bool { return !f(s) })
}

func (a *ask) meta(kind, key string) (string, bool) {
	all, _ := dig(a.object(), "metadata", kind).(object)
	v, ok := all[key].(string)
	return v, ok
}

func read(w testWorld, r *http.Request) *ask {
	body, err := io.ReadAll(r.Body)
	a := &ask{world: w, http: r, text: string(body), cut: err != nil}
	if a.cut {
		a.text = ""
	}
	if !a.cut && len(body) < 8<<20 {
		_ = json.Unmarshal(body, &a.review)
	}
	return a
}

func (a *ask) answer(w http.ResponseWriter, response object) {
	response["uid"] = a.string("request", "uid")
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(object{"apiVersion": a.review["apiVersion"], "kind": "AdmissionReview", "response": response})
}

func (h hole) handler(w testWorld, sound http.Handler) http.Handler {
	if h.around != nil {
		return h.around(w, sound)
	}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		a := read(w, r)
		switch {
		case h.admit != nil && h.admit(a):
			a.answer(rw, object{"allowed": true})
			return
		case h.deny != nil && h.deny(a):
			a.answer(rw, object{"allowed": false, "status": object{"message": "no", "code": 403}})
			return
		case h.rewrite != nil && a.review != nil:
			h.rewrite(a)
			b, _ := json.Marshal(a.review)
			a.text = string(b)
		}
		sound.ServeHTTP(rw, withBody(r, a.text))
	})
}

func withBody(r *http.Request, text string) *http.Request {
	again := r.Clone(r.Context())
	again.Body, again.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	return again
}

// changeAnswer lets the sound gate answer and changes what it said.
func changeAnswer(change func(a *ask, code int, response object) object) func(testWorld, http.Handler) http.Handler {
	return func(w testWorld, sound http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			a := read(w, r)
			rec := httptest.NewRecorder()
			sound.ServeHTTP(rec, withBody(r, a.text))
			var out struct{ Response object }
			_ = json.Unmarshal(rec.Body.Bytes(), &out)
			if response := change(a, rec.Code, out.Response); response != nil {
				a.answer(rw, response)
				return
			}
			rw.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
			rw.WriteHeader(rec.Code)
			_, _ = rw.Write(rec.Body.Bytes())
		})
	}
}

// limited takes so many connections and no more.
type limited struct {
	net.Listener
	slots chan struct{}
}

func (l limited) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	conn, err := l.Listener.Accept()
	return limitedConn{conn, l.slots}, err
}

type limitedConn struct {
	net.Conn
	slots chan struct{}
}

func (c limitedConn) Close() error {
	err := c.Conn.Close()
	select {
	case <-c.slots:
	default:
	}
	return err
}

// tried runs the suite and returns the cases that failed.
func tried(t *testing.T, o Options) (*Report, []string) {
	t.Helper()
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var failed []string
	for _, c := range report.Cases {
		if c.Outcome == Fail {
			failed = append(failed, c.ID)
		}
	}
	return report, failed
}

func TestASoundGatePassesEverything(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	report, failed := tried(t, serveGate(t, w, soundGate(t, w), nil))
	if len(failed) > 0 || report.Skipped > 0 || report.Passed != len(Cases()) {
		t.Errorf("\n%s", report.Text())
	}
}
