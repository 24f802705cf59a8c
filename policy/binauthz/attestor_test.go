package binauthz_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// testKeys are made once per run, for tests.
type testKeys struct{ pgp, p256, ed25519 *signature.PublicKey }

var keys = sync.OnceValue(func() testKeys {
	check := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	private, err := signature.GeneratePGP("Test Attestor", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), rand.Reader)
	check(err)
	pgp, err := signature.ParsePGPSigner(private, nil)
	check(err)
	k := testKeys{pgp: pgp.PublicKey()}
	for alg, to := range map[signature.Algorithm]**signature.PublicKey{signature.ECDSAP256SHA256: &k.p256, signature.Ed25519: &k.ed25519} {
		private, err := signature.GeneratePKIX(alg, rand.Reader)
		check(err)
		signer, err := signature.ParsePKIXSigner(private, alg, "")
		check(err)
		*to = signer.PublicKey()
	}
	return k
})

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

type object = map[string]any

func pgpObject(id string) object {
	return object{"comment": "made for tests", "id": id, "asciiArmoredPgpPublicKey": keys().pgp.Marshal()}
}

func pkixObject(id string, algorithm any) object {
	return object{"id": id, "pkixPublicKey": object{"publicKeyPem": keys().p256.Marshal(), "signatureAlgorithm": algorithm}}
}

func attestorObject(name string, publicKeys ...object) object {
	return object{
		"name":                 "projects/p/attestors/" + name,
		"userOwnedGrafeasNote": object{"noteReference": "projects/p/notes/" + name, "publicKeys": publicKeys, "delegationServiceAccountEmail": "x@y"},
		"updateTime":           "2024-05-12T05:34:29.325967Z", "etag": `"x"`, "description": "d",
	}
}

func parseAttestors(t *testing.T, text string) []binauthz.Attestor {
	t.Helper()
	list, diags := binauthz.ParseAttestors("attestors.json", []byte(text))
	if len(diags) != 0 {
		t.Fatalf("%s\n%s", diags, text)
	}
	return list
}

func TestAttestorsAreReadInEveryForm(t *testing.T) {
	t.Parallel()
	a, b := attestorObject("a", pgpObject("")), attestorObject("b", pkixObject("", "ECDSA_P256_SHA256"))
	beta := object{"name": "projects/p/attestors/a", "userOwnedDrydockNote": a["userOwnedGrafeasNote"]}
	indented := strings.ReplaceAll(strings.TrimSpace(keys().p256.Marshal()), "\n", "\n        ")
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"a list":          {jsonOf(t, []any{a, b}), []string{"projects/p/attestors/a", "projects/p/attestors/b"}},
		"an answer":       {jsonOf(t, object{"attestors": []any{b, a}, "nextPageToken": ""}), []string{"projects/p/attestors/b", "projects/p/attestors/a"}},
		"an empty answer": {"{}", []string{}},
		"an empty list":   {"[]", []string{}},
		"one object":      {jsonOf(t, a), []string{"projects/p/attestors/a"}},
		"v1beta1":         {jsonOf(t, []any{beta}), []string{"projects/p/attestors/a"}},
		"yaml": {"- name: projects/p/attestors/a\n  userOwnedGrafeasNote:\n    noteReference: projects/p/notes/a\n    publicKeys:\n    - pkixPublicKey:\n        signatureAlgorithm: EC_SIGN_P256_SHA256\n        publicKeyPem: |\n        " +
			"  " + strings.ReplaceAll(indented, "\n", "\n  ") + "\n", []string{"projects/p/attestors/a"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := []string{}
			for _, a := range parseAttestors(t, test.text) {
				got = append(got, a.Name)
				if a.Note != "projects/p/notes/"+a.Name[len(a.Name)-1:] || len(a.Keys) != 1 || a.Line == 0 {
					t.Errorf("got %+v", a)
				}
			}
			if !cmp.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestKeyIDs(t *testing.T) {
	t.Parallel()
	const kms = "//cloudkms.googleapis.com/v1/projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/1"
	withInner := pkixObject(kms, 9)
	withInner["pkixPublicKey"].(object)["keyId"] = kms
	for name, test := range map[string]struct {
		key  object
		want string
	}{
		"OpenPGP, computed":      {pgpObject(""), keys().pgp.ID()},
		"OpenPGP, right":         {pgpObject(keys().pgp.ID()), keys().pgp.ID()},
		"PKIX, computed":         {pkixObject("", "ECDSA_P256_SHA256"), keys().p256.ID()},
		"PKIX, given":            {pkixObject(kms, "EC_SIGN_P256_SHA256"), kms},
		"PKIX, given twice":      {withInner, kms},
		"PKIX, enum as a number": {pkixObject("", 9), keys().p256.ID()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list := parseAttestors(t, jsonOf(t, attestorObject("a", test.key)))
			if got := list[0].Keys[0].ID(); got != test.want {
				t.Errorf("id %q, want %q", got, test.want)
			}
		})
	}
	if !strings.HasPrefix(keys().p256.ID(), "ni:///sha-256;") || len(keys().pgp.ID()) != 40 {
		t.Errorf("computed ids %q, %q", keys().p256.ID(), keys().pgp.ID())
	}
}

func TestAttestorProblems(t *testing.T) {
	t.Parallel()
	change := func(f func(a, note object)) string {
		a := attestorObject("a", pgpObject(""))
		f(a, a["userOwnedGrafeasNote"].(object))
		return jsonOf(t, a)
	}
	key := func(k object) string { return jsonOf(t, attestorObject("a", k)) }
	many := make([]object, 1001)
	for i := range many {
		many[i] = object{}
	}
	wrongInner := pkixObject("a", 9)
	wrongInner["pkixPublicKey"].(object)["keyId"] = "b"
	both := pkixObject("", 9)
	both["asciiArmoredPgpPublicKey"] = keys().pgp.Marshal()
	for name, test := range map[string]struct {
		text, want string
		warning    bool
	}{
		"empty":                {text: "", want: "the document is empty"},
		"text":                 {text: "hello", want: "want a list of attestors, and this is text"},
		"list of text":         {text: "- a\n", want: "attestor must be an object, and is text"},
		"null entry":           {text: "[null]", want: "attestor must be an object, and is null"},
		"unknown field":        {text: change(func(a, _ object) { a["keys"] = 1 }), want: "attestor: unknown field \"keys\""},
		"no name":              {text: change(func(a, _ object) { delete(a, "name") }), want: "name is missing"},
		"name of another form": {text: change(func(a, _ object) { a["name"] = "a" }), want: "does not have the form projects/*/attestors/*"},
		"no note":              {text: `{"name": "projects/p/attestors/a"}`, want: "userOwnedGrafeasNote is missing"},
		"two notes":            {text: change(func(a, n object) { a["userOwnedDrydockNote"] = n }), want: "give one of them"},
		"no note reference":    {text: change(func(_, n object) { delete(n, "noteReference") }), want: "noteReference is missing"},
		"note of another form": {text: change(func(_, n object) { n["noteReference"] = "n" }), want: "does not have the form projects/*/notes/*"},
		"note by number":       {text: change(func(_, n object) { n["noteReference"] = "projects/123/notes/n" }), want: "\"123\" is a project number"},
		"former note spelling": {text: change(func(_, n object) { n["noteReference"] = "providers/p/notes/n" }), want: "write \"projects/p/notes/n\"", warning: true},
		"no keys":              {text: change(func(_, n object) { n["publicKeys"] = []any{} }), want: "has no public keys", warning: true},
		"keys are null":        {text: change(func(_, n object) { n["publicKeys"] = nil }), want: "has no public keys", warning: true},
		"too many keys":        {text: change(func(_, n object) { n["publicKeys"] = many }), want: "1001 public keys, more than the 1000"},
		"one name twice":       {text: "[" + jsonOf(t, attestorObject("a", pgpObject(""))) + ",\n" + jsonOf(t, attestorObject("a", pgpObject(""))) + "]", want: ":2: error: attestor \"projects/p/attestors/a\" is given twice, first at line 1"},
		"a page of many":       {text: `{"attestors": [], "nextPageToken": "x"}`, want: "only the first page"},
		"key twice":            {text: jsonOf(t, attestorObject("a", pgpObject(""), pgpObject(""))), want: "is given twice"},
		"key without material": {text: key(object{"id": "x"}), want: "asciiArmoredPgpPublicKey or pkixPublicKey is missing"},
		"key of both kinds":    {text: key(both), want: "exclude each other"},
		"unknown key field":    {text: key(object{"pem": "x"}), want: "unknown field \"pem\""},
		"OpenPGP, another id":  {text: key(pgpObject("abc")), want: "id \"abc\" is replaced by the fingerprint", warning: true},
		"OpenPGP, broken":      {text: key(object{"asciiArmoredPgpPublicKey": "x"}), want: "asciiArmoredPgpPublicKey: "},
		"PKIX, no algorithm":   {text: key(object{"pkixPublicKey": object{"publicKeyPem": "x"}}), want: "needs both"},
		"PKIX, unspecified":    {text: key(pkixObject("", "SIGNATURE_ALGORITHM_UNSPECIFIED")), want: "signatureAlgorithm: "},
		"PKIX, zero":           {text: key(pkixObject("", 0)), want: "signatureAlgorithm: "},
		"PKIX, unknown":        {text: key(pkixObject("", "MD5")), want: "signatureAlgorithm: "},
		"PKIX, wrong type":     {text: key(pkixObject("", true)), want: "signatureAlgorithm must be the name"},
		"PKIX, wrong curve":    {text: key(pkixObject("", "ECDSA_P384_SHA384")), want: "pkixPublicKey: "},
		"PKIX, broken":         {text: key(object{"pkixPublicKey": object{"publicKeyPem": "x", "signatureAlgorithm": 9}}), want: "pkixPublicKey: "},
		"PKIX, id is no URI":   {text: key(pkixObject("a b%", 9)), want: "pkixPublicKey: "},
		"PKIX, other inner id": {text: key(wrongInner), want: "keyId \"b\" must be left out or be the id of the key, \"a\""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list, diags := binauthz.ParseAttestors("attestors.json", []byte(test.text))
			if diags.HasErrors() == test.warning || (list == nil) == test.warning {
				t.Errorf("list %v, want a warning: %v", list, test.warning)
			}
			if !strings.Contains(diags.String(), test.want) {
				t.Errorf("got\n%swant\n%s", diags, test.want)
			}
		})
	}
}

func FuzzParseAttestors(f *testing.F) {
	f.Add([]byte(`[]`))
	f.Add([]byte(`{"attestors":[{"name":"projects/p/attestors/a","userOwnedGrafeasNote":{"noteReference":"projects/p/notes/a","publicKeys":[]}}]}`))
	b, err := json.Marshal([]any{attestorObject("a", pgpObject("")), attestorObject("b", pkixObject("x", 9))})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("- name: projects/p/attestors/a\n  userOwnedDrydockNote: {noteReference: providers/p/notes/a}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, diags := binauthz.ParseAttestors("a", data)
		if (list == nil) != diags.HasErrors() {
			t.Fatalf("list %v with diagnostics\n%s", list, diags)
		}
		for _, a := range list {
			if !strings.HasPrefix(a.Name, "projects/") || !strings.HasPrefix(a.Note, "projects/") {
				t.Errorf("attestor %q with note %q", a.Name, a.Note)
			}
			for _, k := range a.Keys {
				if k == nil || k.ID() == "" || k.Fingerprint() == (signature.Fingerprint{}) {
					t.Errorf("attestor %q has a key without id or fingerprint", a.Name)
				}
			}
		}
		for _, d := range diags {
			if strings.ContainsAny(fmt.Sprint(d), "\n\x00\x1b") {
				t.Errorf("diagnostic %q", d)
			}
		}
	})
}
