package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/conformance"
	"github.com/gatehouse-dev/gatehouse/image"
)

func TestOurGatePassesEveryCase(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits for the gate to hang up")
	}
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"conformance", "--self", "--output", "json"}, strings.NewReader(""), &stdout, &stderr)
	var report conformance.Report
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	if code != exitYes || report.Failed > 0 || report.Skipped > 0 || report.Passed != len(conformance.Cases()) {
		t.Errorf("status %d\n%s", code, report.Text())
	}
	if report.Schema != conformance.Schema || report.Suite != conformance.Version || len(report.Versions) != 2 {
		t.Errorf("schema %q, suite %q, versions %q", report.Schema, report.Suite, report.Versions)
	}
}

// What makes the images of --self be denied must be what is said of them, and not
// that such attestations never count.
func TestTheImagesThatAreDeniedWouldCountIfTheyWereRight(t *testing.T) {
	t.Parallel()
	registry, err := conformance.StartRegistry("127.0.0.1:0", conformance.RegistryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer registry.Close()
	s, err := startSelf(t.Context(), registry)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	}()
	ref, err := image.ParseDigested(s.Profile.Good.Image)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	current := ref.WithDigest(image.DigestOf([]byte("current")))
	if err := s.signJWT(t.Context(), current, now.Add(-time.Hour), now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	s.Profile.Good = conformance.ProfileImage{Image: current.String()}
	s.Only = []string{"B12/expired"}
	report, err := conformance.Run(t.Context(), s.Options)
	if err != nil || report.Passed != 1 {
		t.Errorf("%v, %+v", err, report)
	}
}

func TestConformanceTellsWhatItDoes(t *testing.T) {
	t.Parallel()
	out := func(want int, args ...string) (string, string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), append([]string{"conformance"}, args...), strings.NewReader(""), &stdout, &stderr); code != want {
			t.Errorf("%q: status %d, want %d: %s", args, code, want, stderr.String())
		}
		return stdout.String(), stderr.String()
	}
	list, _ := out(exitYes, "--list")
	for _, want := range []string{"B1  ", "B24  ", "B4/ephemeral-containers", "Not tried: Static pods"} {
		if !strings.Contains(list, want) {
			t.Errorf("--list lacks %q", want)
		}
	}
	text, _ := out(exitYes, "--explain", "B4/ephemeral-containers")
	for _, want := range []string{"the bad image is denied", "kyverno#16275", "Where it does not hold: Any image runs"} {
		if !strings.Contains(text, want) {
			t.Errorf("--explain lacks %q:\n%s", want, text)
		}
	}
	for want, args := range map[string][]string{
		"which gate?":                  {},
		"--good IMAGE and --bad IMAGE": {"--url", "https://127.0.0.1:1/validate"},
		"want https":                   {"--url", "http://127.0.0.1:1/validate", "--good", "x.example/a@sha256:" + strings.Repeat("a", 64), "--bad", "x.example/a@sha256:" + strings.Repeat("b", 64)},
		"what the profile says":        {"--url", "https://127.0.0.1:1/validate", "--good", "x.example/a@sha256:" + strings.Repeat("a", 64), "--bad", "x.example/a@sha256:" + strings.Repeat("b", 64)},
		"no class or case \"B99\"":     {"--url", "https://127.0.0.1:1/validate", "--only", "B99", "--good", "x.example/a@sha256:" + strings.Repeat("a", 64), "--bad", "x.example/a@sha256:" + strings.Repeat("b", 64)},
		"there is no case \"B3/x\"":    {"--explain", "B3/x"},
		"want text, json or junit":     {"--self", "--output", "yaml"},
		"give one of them":             {"--self", "--url", "https://x"},
	} {
		if _, stderr := out(exitUnknown, args...); !strings.Contains(stderr, want) {
			t.Errorf("%q: said %q, want %q", args, stderr, want)
		}
	}
	junit, _ := out(exitYes, "--self", "--only", "B13", "--output", "junit")
	var parsed struct {
		Tests int `xml:"tests,attr"`
	}
	if err := xml.Unmarshal([]byte(junit), &parsed); err != nil || parsed.Tests != 5 {
		t.Errorf("%v, %d tests in %s", err, parsed.Tests, junit)
	}
	if text, _ := out(exitYes, "--self", "--only", "B3/image-volume"); !strings.Contains(text, "PASS  B3/image-volume") || !strings.Contains(text, "1 passed, 0 failed") {
		t.Errorf("text: %s", text)
	}
}
