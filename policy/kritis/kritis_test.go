package kritis_test

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/kritis"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	hexA = "77b0b75136b9bd0fd36fb50f4c92ae0dbdbbe164ab67885e736fa4374e0cbb8c"
	app  = "registry.example.com/shop/app@sha256:" + hexA
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// testKeys are made once per run, for tests.
type testKeys struct {
	pgp, otherPGP, p256 *signature.PublicKey
	rsa4096             *signature.PublicKey
	pgpSigner           signature.Signer
}

var keys = sync.OnceValue(func() testKeys {
	check := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	var k testKeys
	for _, to := range []**signature.PublicKey{&k.otherPGP, &k.pgp} {
		private, err := signature.GeneratePGP("Test Authority", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), rand.Reader)
		check(err)
		signer, err := signature.ParsePGPSigner(private, nil)
		check(err)
		*to, k.pgpSigner = signer.PublicKey(), signer
	}
	for alg, to := range map[signature.Algorithm]**signature.PublicKey{signature.ECDSAP256SHA256: &k.p256, signature.RSAPSS4096SHA256: &k.rsa4096} {
		private, err := signature.GeneratePKIX(alg, rand.Reader)
		check(err)
		signer, err := signature.ParsePKIXSigner(private, alg, "")
		check(err)
		*to = signer.PublicKey()
	}
	return k
})

// armored is a PGP key as Kritis has it: base64 over the armour.
func armored(k *signature.PublicKey) string {
	return base64.StdEncoding.EncodeToString([]byte(k.Marshal()))
}

func object(kind, namespace, name, spec string) string {
	return fmt.Sprintf("apiVersion: kritis.grafeas.io/v1beta1\nkind: %s\nmetadata: {name: %s, namespace: %s}\nspec:\n%s---\n", kind, name, namespace, indent(spec))
}

func indent(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString("  " + line)
	}
	if s == "" {
		return "  {}\n"
	}
	return strings.TrimSuffix(b.String(), "\n") + "\n"
}

func isp(name, spec string) string { return object("ImageSecurityPolicy", "shop", name, spec) }
func gap(name, spec string) string { return object("GenericAttestationPolicy", "shop", name, spec) }

func authority(name string) string {
	return object("AttestationAuthority", "shop", name, fmt.Sprintf("noteReference: projects/p/notes/%s\npublicKeys: [{keyType: PGP, asciiArmoredPgpPublicKey: %s}]", name, armored(keys().pgp)))
}

func parse(t testing.TB, text string) (*kritis.Objects, document.Diagnostics) {
	t.Helper()
	o, diags := kritis.Parse("shop.yaml", []byte(text))
	if diags.HasErrors() || o == nil {
		t.Fatalf("%s\n%s", diags, text)
	}
	return o, diags
}

func compile(t testing.TB, text string, options kritis.Options) (*policy.Ruleset, document.Diagnostics) {
	t.Helper()
	o, _ := parse(t, text)
	rules, diags := o.Compile(options)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return rules, diags
}

// complains checks that a text has one problem with these words, of this severity.
func complains(t *testing.T, text string, severity document.Severity, words ...string) {
	t.Helper()
	o, diags := kritis.Parse("shop.yaml", []byte(text))
	if (o == nil) != (severity == document.Error) {
		t.Errorf("objects %v\n%s", o, diags)
	}
	for _, d := range diags {
		if d.Severity == severity && containsAll(d.String(), words) {
			return
		}
	}
	t.Errorf("%q is not said by\n%s%.2000s", words, diags, text)
}

func containsAll(s string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(s, w) {
			return false
		}
	}
	return true
}

func attestation(note string, k *signature.PublicKey, repository string) evidence.Attestation {
	return evidence.Attestation{
		Origin:     evidence.Origin{Note: note, Occurrence: "projects/p/occurrences/o", Project: "p", KeyID: k.ID(), Fingerprint: k.Fingerprint(), Created: noon},
		Repository: repository,
	}
}

func attestedBy(names ...string) evidence.Image {
	known := evidence.Image{State: evidence.Known}
	for _, name := range names {
		known.Attestations = append(known.Attestations, attestation("projects/p/notes/"+name, keys().pgp, "registry.example.com/shop/app"))
	}
	return known
}

func scanned(findings ...evidence.Finding) evidence.Image {
	return evidence.Image{State: evidence.Known, Scans: []evidence.Scan{{Project: "kritis", Finished: true, Findings: findings}}}
}

func finding(severity int, fixable bool) evidence.Finding {
	return evidence.Finding{Note: "projects/v/notes/CVE-1", Severity: severity, Fixable: fixable}
}

func decided(t testing.TB, rules *policy.Ruleset, namespace, text string, known evidence.Image) decide.Decision {
	t.Helper()
	ref, err := image.Parse(app)
	if err != nil {
		t.Fatal(err)
	}
	req := decide.Request{Namespace: namespace, Images: []decide.ImageUse{{Container: "c", Type: decide.Container, Text: text}}}
	return decide.Decide(req, policy.Set{rules}, evidence.Facts{Images: map[image.Digest]evidence.Image{ref.Digest(): known}}, noon)
}

// allows checks whether app may run in namespace shop.
func allows(t testing.TB, rules *policy.Ruleset, known evidence.Image, want bool) {
	t.Helper()
	if d := decided(t, rules, "shop", app, known); d.Allowed != want {
		t.Errorf("allowed %v, want %v\n%s", d.Allowed, want, decide.Message(d))
	}
}

// says checks the message of a denial.
func says(t testing.TB, d decide.Decision, words ...string) {
	t.Helper()
	message := decide.Message(d)
	if d.Allowed {
		t.Errorf("allowed")
	}
	for _, w := range words {
		if !strings.Contains(message, w) {
			t.Errorf("%q is not in\n%s", w, message)
		}
	}
}
