package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/bundle"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// given is evidence that a test has.
type given struct{ evidence.Facts }

func (g given) Collect(context.Context, []image.Reference) evidence.Facts { return g.Facts }

// doors are the ways to a decision on the same files, at the same time.
type doors struct {
	offline
	now time.Time
	bundle.Sources
	occurrences string
}

func openDoors(t *testing.T) doors {
	t.Helper()
	pem, err := signature.GeneratePKIX("ECDSA_P256_SHA256", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := signature.ParsePKIXSigner(pem, "ECDSA_P256_SHA256", "")
	if err != nil {
		t.Fatal(err)
	}
	d := doors{
		offline: newOffline(t, key, map[string]any{"id": key.KeyID(), "pkixPublicKey": map[string]any{"publicKeyPem": key.PublicKey().Marshal(), "signatureAlgorithm": "EC_SIGN_P256_SHA256"}}),
		now:     time.Date(2026, 11, 30, 12, 0, 0, 123456789, time.UTC),
	}
	d.write("strict.yaml", `name: projects/default/platforms/gke/policies/strict
gkePolicy:
  checkSets:
  - displayName: everyone's
    checks:
    - displayName: <ours>
      trustedDirectoryCheck: {trustedDirPatterns: [reg.test/shop]}
`)
	d.Project = "default"
	d.Policies = []bundle.File{d.file("policy.yaml")}
	d.Attestors = []bundle.File{d.file("attestors.json")}
	d.occurrences = filepath.Join(d.dir, "occurrences.json")
	return d
}

func (d doors) file(name string) bundle.File {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	data, err := os.ReadFile(path)
	if err != nil {
		d.t.Fatal(err)
	}
	return bundle.File{Name: path, Data: data}
}

// facts are those that the files hold.
func (d doors) facts(keys map[string][]*signature.PublicKey, request decide.Request) evidence.Facts {
	d.t.Helper()
	data, err := os.ReadFile(d.occurrences)
	if err != nil {
		d.t.Fatal(err)
	}
	list, found := parseOccurrences(d.occurrences, data)
	if found.HasErrors() {
		d.t.Fatal(found)
	}
	return index.FromOccurrences(d.t.Context(), occurrencesOf(list), keys, admission.References(request.Images))
}

// byCommand is what 'gatehouse policy decide' prints, without its indentation.
func (d doors) byCommand(file string) string {
	d.t.Helper()
	args := []string{"policy", "decide", "--time", d.now.Format(time.RFC3339Nano), "--attestors", d.Attestors[0].Name, "--occurrences", d.occurrences}
	for _, p := range d.Policies {
		args = append(args, "--policy", p.Name)
	}
	var stdout, stderr, compact bytes.Buffer
	if code := run(d.t.Context(), append(args, file), nil, &stdout, &stderr); code == exitUnknown {
		d.t.Fatal(stderr.String())
	}
	if err := json.Compact(&compact, stdout.Bytes()); err != nil {
		d.t.Fatalf("%v in %s", err, stdout.Bytes())
	}
	return compact.String()
}

// byGate is what the gate records of a review, in a real audit log.
func (d doors) byGate(review []byte, set policy.Set, facts evidence.Facts) string {
	d.t.Helper()
	dir := d.t.TempDir()
	quiet := slog.New(slog.DiscardHandler)
	log, err := audit.Open(dir, quiet)
	if err != nil {
		d.t.Fatal(err)
	}
	gate, err := admission.NewGate(admission.Options{
		Rules: func() policy.Set { return set }, Evidence: given{facts}, Recorder: log, Logger: quiet, Registry: prometheus.NewRegistry(),
		Now: func() time.Time { return d.now.In(time.FixedZone("", 3600)) }, // as a server's clock may be
	})
	if err != nil {
		d.t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	post := httptest.NewRequest(http.MethodPost, "/validate", bytes.NewReader(review))
	post.Header.Set("Content-Type", "application/json")
	gate.ServeHTTP(answer, post)
	if answer.Code != http.StatusOK {
		d.t.Fatalf("%d: %s", answer.Code, answer.Body)
	}
	if err := log.Close(); err != nil {
		d.t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			d.t.Fatal(err)
		}
		var record struct{ Decision json.RawMessage }
		if json.Unmarshal(data, &record) == nil && record.Decision != nil {
			return string(record.Decision)
		}
	}
	d.t.Fatalf("no record of %s", answer.Body)
	return ""
}

// agree asks all doors about a review, and returns what they all say.
func (d doors) agree(review []byte) decide.Decision {
	d.t.Helper()
	file := filepath.Join(d.t.TempDir(), "review.json")
	if err := os.WriteFile(file, review, 0o600); err != nil {
		d.t.Fatal(err)
	}
	loaded, found := bundle.Load(d.Sources)
	if found.HasErrors() {
		d.t.Fatal(found)
	}
	request, err := admission.ReadRequest(review, admission.Place{})
	if err != nil {
		d.t.Fatal(err)
	}
	facts := d.facts(loaded.Keys, request)
	decision := decide.Decide(request, loaded.Set, facts, d.now)
	direct, err := json.Marshal(decision)
	if err != nil {
		d.t.Fatal(err)
	}
	if got := d.byCommand(file); got != string(direct) {
		d.t.Errorf("the command says\n%s\nDecide says\n%s", got, direct)
	}
	if got := d.byGate(review, loaded.Set, facts); got != string(direct) {
		d.t.Errorf("the gate records\n%s\nDecide says\n%s", got, direct)
	}
	return decision
}

func reviewOfPod(t *testing.T, namespace string, labels map[string]string, images ...string) []byte {
	t.Helper()
	var containers []any
	for i, img := range images {
		containers = append(containers, map[string]any{"name": fmt.Sprintf("c%d", i), "image": img})
	}
	text, err := json.Marshal(map[string]any{
		"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
		"request": map[string]any{
			"uid": "u", "operation": "CREATE", "namespace": namespace, "name": "web", "kind": map[string]string{"group": "", "version": "v1", "kind": "Pod"},
			"resource": map[string]string{"group": "", "version": "v1", "resource": "pods"}, "userInfo": map[string]any{"username": "eve"},
			"object": map[string]any{
				"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "web", "namespace": "elsewhere", "labels": labels},
				"spec": map[string]any{"containers": containers, "initContainers": containers[:1]},
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestTheDoorsAgree: the gate, the command line and package decide say the same of
// the same facts at the same time, byte for byte.
func TestTheDoorsAgree(t *testing.T) {
	t.Parallel()
	one := openDoors(t)
	good := one.ref.String()
	other := "reg.test/shop/web@" + image.DigestOf([]byte("other")).String()
	two := one
	two.Policies = append(two.Policies, one.file("strict.yaml"))

	for name, test := range map[string]struct {
		doors
		namespace string
		labels    map[string]string
		images    []string
		verdict   decide.Verdict
		override  decide.Override
	}{
		"attested":        {one, "shop", nil, []string{good}, decide.ALLOW, ""},
		"not attested":    {one, "shop", nil, []string{good, other}, decide.DENY, ""},
		"exempt":          {one, "shop", nil, []string{"registry.k8s.io/pause:3.9"}, decide.ALLOW, ""},
		"tags":            {one, "shop", nil, []string{"reg.test/shop/web:1", "nginx"}, decide.DENY, ""},
		"dry run":         {one, "trial", nil, []string{other}, decide.DENY, decide.DryRun},
		"broken glass":    {one, "shop", map[string]string{admission.BreakGlassLabel: "true"}, []string{other}, decide.DENY, decide.BreakGlass},
		"unbroken glass":  {one, "shop", map[string]string{admission.BreakGlassLabel: "True"}, []string{other}, decide.DENY, ""},
		"hostile names":   {one, "shop", nil, []string{"<script>&\"\u2028\x1b[2J\n\u202e", "\x00", "gcr.io/p/\u0430pp@" + one.ref.Digest().String(), strings.Repeat("a", 5000)}, decide.DENY, ""},
		"two policies":    {two, "shop", nil, []string{good}, decide.ALLOW, ""},
		"one of two":      {two, "shop", nil, []string{good, "registry.k8s.io/pause:3.9"}, decide.DENY, ""},
		"dry run of one":  {two, "trial", nil, []string{other, good}, decide.DENY, decide.DryRun},
		"in no namespace": {one, "", nil, []string{good}, decide.ALLOW, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.t = t
			d := test.agree(reviewOfPod(t, test.namespace, test.labels, test.images...))
			if d.Verdict != test.verdict || d.Override != test.override {
				t.Errorf("%v, override %q, want %v, %q: %s", d.Verdict, d.Override, test.verdict, test.override, d.Summary)
			}
		})
	}
}

// What other occurrences say that anyone may write must not show either.
func TestTheDoorsAgreeOnManyForgeries(t *testing.T) {
	t.Parallel()
	d := openDoors(t)
	var list []map[string]any
	data, err := os.ReadFile(d.occurrences)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		forged := map[string]any{
			"name": fmt.Sprintf("projects/p/occurrences/forged<%d>", i), "noteName": "projects/p/notes/ci", "kind": "ATTESTATION", "resourceUri": "https://reg.test/shop/web@" + image.DigestOf([]byte("other")).String(),
			"attestation": list[0]["attestation"],
		}
		list = append(list, forged)
	}
	d.writeJSON("occurrences.json", list)
	decision := d.agree(reviewOfPod(t, "shop", nil, "reg.test/shop/web@"+image.DigestOf([]byte("other")).String()))
	if decision.Allowed || len(decision.Images[0].Reasons[0].Details) == 0 {
		t.Errorf("%+v", decision)
	}
}
