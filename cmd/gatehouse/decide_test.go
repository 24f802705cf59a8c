package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const decidePolicy = `kubernetesNamespaceAdmissionRules:
  trial: {evaluationMode: ALWAYS_DENY, enforcementMode: DRYRUN_AUDIT_LOG_ONLY}
admissionWhitelistPatterns:
- namePattern: registry.k8s.io/**
defaultAdmissionRule:
  evaluationMode: REQUIRE_ATTESTATION
  enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG
  requireAttestationsBy: [projects/p/attestors/ci]
`

// offline is a folder with what policy decide reads.
type offline struct {
	t   *testing.T
	dir string
	ref image.Reference
}

func newOffline(t *testing.T, signer signature.Signer, key map[string]any) offline {
	t.Helper()
	ref, err := image.Parse("reg.test/shop/web@" + image.DigestOf([]byte("web")).String())
	if err != nil {
		t.Fatal(err)
	}
	o := offline{t, t.TempDir(), ref}
	o.write("policy.yaml", decidePolicy)
	o.writeJSON("attestors.json", []any{map[string]any{
		"name":                 "projects/p/attestors/ci",
		"userOwnedGrafeasNote": map[string]any{"noteReference": "projects/p/notes/ci", "publicKeys": []any{key}},
	}})
	payload := signature.NewPayload("reg.test/shop/web", ref.Digest(), signature.TypeBinauthz)
	sig, err := signer.Sign(t.Context(), payload)
	if err != nil {
		t.Fatal(err)
	}
	o.writeJSON("occurrences.json", []any{map[string]any{
		"name": "projects/p/occurrences/1", "noteName": "projects/p/notes/ci", "kind": "ATTESTATION", "resourceUri": ref.ResourceURI(),
		"attestation": map[string]any{
			"serializedPayload": base64.StdEncoding.EncodeToString(payload),
			"signatures":        []any{map[string]any{"publicKeyId": signer.KeyID(), "signature": base64.StdEncoding.EncodeToString(sig)}},
		},
	}})
	return o
}

func (o offline) write(name, text string) {
	o.t.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, name), []byte(text), 0o600); err != nil {
		o.t.Fatal(err)
	}
}

func (o offline) writeJSON(name string, v any) {
	o.t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		o.t.Fatal(err)
	}
	o.write(name, string(text))
}

type decided struct {
	Allowed           bool
	Verdict, Override string
	Images            []struct {
		Image, Verdict string
		Reasons        []struct{ Code, Message string }
	}
}

// decide runs the command on a pod, which must exit with want, and returns what
// it printed.
func (o offline) decide(want int, object string, flags ...string) decided {
	o.t.Helper()
	args := append([]string{"policy", "decide", "--policy", filepath.Join(o.dir, "policy.yaml"), "-"}, flags...)
	var stdout, stderr bytes.Buffer
	if got := run(o.t.Context(), args, strings.NewReader(object), &stdout, &stderr); got != want {
		o.t.Fatalf("exit status %d, want %d\n%s%s", got, want, stdout.Bytes(), stderr.Bytes())
	}
	var d decided
	if want == exitUnknown {
		if stderr.Len() == 0 || stdout.Len() != 0 {
			o.t.Errorf("an error printed %q, and %q on standard error", stdout.Bytes(), stderr.Bytes())
		}
		return d
	}
	if err := json.Unmarshal(stdout.Bytes(), &d); err != nil {
		o.t.Fatalf("%v in %s", err, stdout.Bytes())
	}
	return d
}

func (o offline) trusted() []string {
	return []string{"--attestors", filepath.Join(o.dir, "attestors.json"), "--occurrences", filepath.Join(o.dir, "occurrences.json")}
}

func podOf(namespace string, images ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: %s}\nspec:\n  containers:\n", namespace)
	for i, img := range images {
		fmt.Fprintf(&b, "  - {name: c%d, image: %q}\n", i, img)
	}
	return b.String()
}

func TestPolicyDecide(t *testing.T) {
	t.Parallel()
	pkixPEM, err := signature.GeneratePKIX("ECDSA_P256_SHA256", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkix, err := signature.ParsePKIXSigner(pkixPEM, "ECDSA_P256_SHA256", "")
	if err != nil {
		t.Fatal(err)
	}
	armored, err := signature.GeneratePGP("CI <ci@example.test>", time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pgp, err := signature.ParsePGPSigner(armored, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]offline{
		"PKIX": newOffline(t, pkix, map[string]any{"id": pkix.KeyID(), "pkixPublicKey": map[string]any{"publicKeyPem": pkix.PublicKey().Marshal(), "signatureAlgorithm": "EC_SIGN_P256_SHA256"}}),
		"PGP":  newOffline(t, pgp, map[string]any{"asciiArmoredPgpPublicKey": pgp.PublicKey().Marshal()}),
	} {
		t.Run(name, func(t *testing.T) {
			o.t = t
			good := o.ref.String()
			if d := o.decide(exitYes, podOf("shop", good), o.trusted()...); d.Verdict != "ALLOW" || d.Images[0].Reasons[0].Code != "ATTESTED" {
				t.Errorf("attested: %+v", d)
			}
			if d := o.decide(exitNo, podOf("shop", good)); d.Images[0].Verdict != "DENY" {
				t.Errorf("with nobody trusted: %+v", d)
			}
			other := "reg.test/shop/web@" + image.DigestOf([]byte("other")).String()
			d := o.decide(exitNo, podOf("shop", good, other, "registry.k8s.io/pause:3.9", "reg.test/shop/web:1"), o.trusted()...)
			var verdicts, codes []string
			for _, img := range d.Images {
				verdicts, codes = append(verdicts, img.Verdict), append(codes, img.Reasons[0].Code)
			}
			if got := strings.Join(verdicts, " ") + " " + strings.Join(codes, " "); got != "ALLOW DENY ALLOW DENY ATTESTED NOT_ATTESTED EXEMPT NO_DIGEST" {
				t.Errorf("one entry an image, with reasons: %s", got)
			}
			if d := o.decide(exitYes, podOf("trial", other), o.trusted()...); d.Override != "DRY_RUN" || d.Verdict != "DENY" {
				t.Errorf("dry run: %+v", d)
			}
		})
	}
}

func TestPolicyDecideThatCannotTellExitsTwo(t *testing.T) {
	t.Parallel()
	o := offline{t: t, dir: t.TempDir()}
	o.write("policy.yaml", decidePolicy)
	o.write("bad.json", `[{"name": "projects/p/attestors/ci", "userOwnedGrafeasNote": {"noteReference": "projects/p/notes/ci", "publicKeys": [{"pkixPublicKey": {"publicKeyPem": "x"}}]}}]`)
	o.write("number.json", `7`)
	file := func(name string) string { return filepath.Join(o.dir, name) }
	o.decide(exitUnknown, "kind: Service\napiVersion: v1\n")
	o.decide(exitUnknown, "{")
	o.decide(exitUnknown, podOf("shop", "x"), "--attestors", file("bad.json"))
	o.decide(exitUnknown, podOf("shop", "x"), "--attestors", file("absent.json"))
	o.decide(exitUnknown, podOf("shop", "x"), "--occurrences", file("number.json"))
	o.write("policy.yaml", "defaultAdmissionRule: {}\n")
	o.decide(exitUnknown, podOf("shop", "x"))
}
