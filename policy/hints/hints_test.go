package hints_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/hints"
	"github.com/gatehouse-dev/gatehouse/signature"
)

func publicKey(t testing.TB) *signature.PublicKey {
	t.Helper()
	pem, err := signature.GeneratePKIX(signature.ECDSAP256SHA256, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.ParsePKIXSigner(pem, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return s.PublicKey()
}

// fileOf is a file with one signer.
func fileOf(t testing.TB, k *signature.PublicKey, more string) string {
	t.Helper()
	pem, err := json.Marshal(k.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`hintSigners:
- name: projects/shop/hintSigners/release
  noteReference: projects/shop/notes/rollout-hints
  publicKeys:
  - pkixPublicKey: {publicKeyPem: %s, signatureAlgorithm: ECDSA_P256_SHA256}
%s`, pem, more)
}

func TestASignerIsAPolicyOfItsOwn(t *testing.T) {
	t.Parallel()
	k := publicKey(t)
	for more, want := range map[string]*policy.Rule{
		"":                                     nil,
		"  require: nothing\n":                 nil,
		"  require: deny\n":                    {Checks: []policy.Check{{Condition: policy.Hinted{Note: "projects/shop/notes/rollout-hints"}}}},
		"  require: warn\n  unhinted: allow\n": {DryRun: true, Checks: []policy.Check{{Condition: policy.Hinted{Note: "projects/shop/notes/rollout-hints", UnhintedAllowed: true}}}},
		"  require: deny\n  unhinted: \"deny\"\n": {Checks: []policy.Check{{Condition: policy.Hinted{Note: "projects/shop/notes/rollout-hints"}}}},
	} {
		list, found := hints.Parse("h.yaml", []byte(fileOf(t, k, more)))
		if len(found) > 0 || len(list) != 1 || list[0].Keys[0].Fingerprint() != k.Fingerprint() {
			t.Fatalf("%q: %v, %v", more, list, found)
		}
		rules := list[0].Compile()
		if (rules == nil) != (want == nil) {
			t.Fatalf("%q: compiled to %+v", more, rules)
		}
		if want == nil {
			continue
		}
		if got := rules.Rules[0]; rules.Dialect != policy.RolloutHints || got.DryRun != want.DryRun || got.Checks[0].Condition != want.Checks[0].Condition || got.Evaluation != policy.RequireChecks {
			t.Errorf("%q: %+v", more, got)
		}
	}
	list, found := hints.Parse("h.yaml", []byte(fileOf(t, k, "  require: deny\n  exemptImages: [\"registry.k8s.io/**\"]\n")))
	if len(found) > 0 {
		t.Fatal(found)
	}
	if _, ok := list[0].Compile().Exempts("registry.k8s.io/pause:3", "", time.Time{}); !ok {
		t.Error("an exempt image is not exempt")
	}
}

func TestWhatASignersFileMayNotSay(t *testing.T) {
	t.Parallel()
	good := fileOf(t, publicKey(t), "  require: deny\n")
	for what, c := range map[string]struct{ from, to, says string }{
		"an unknown field":       {"require: deny", "requires: deny", `unknown field "requires"`},
		"an unknown requirement": {"require: deny", "require: refuse", "require"},
		"no keys":                {"publicKeys:", "publicKeyz:", "publicKeyz"},
		"a note of no project":   {"projects/shop/notes/rollout-hints", "rollout-hints", "noteReference"},
		"a name of an attestor":  {"hintSigners/release", "attestors/release", "name"},
		"a key that is none":     {"BEGIN PUBLIC KEY", "BEGIN PUBLIC", "pkixPublicKey"},
		"a pattern that is none": {"require: deny", "exemptImages: ['a*b']", "exemptImages"},
		"nothing":                {good, "hintSigners: []\n", "missing, or empty"},
		"a signer twice":         {good, good + strings.TrimPrefix(good, "hintSigners:\n"), "given twice"},
	} {
		text := strings.Replace(good, c.from, c.to, 1)
		if text == good {
			t.Fatalf("%s: nothing changed", what)
		}
		list, found := hints.Parse("h.yaml", []byte(text))
		if list != nil || !found.HasErrors() || !strings.Contains(found.String(), c.says) || !strings.Contains(found.String(), "h.yaml:") {
			t.Errorf("%s: %v, %v", what, list, found)
		}
	}
}

// One key is never both attestor and signer of hints, whatever it is called.
func TestKeysAndNotesAreApart(t *testing.T) {
	t.Parallel()
	k, other := publicKey(t), publicKey(t)
	list, found := hints.Parse("h.yaml", []byte(fileOf(t, k, "")))
	if len(found) > 0 {
		t.Fatal(found)
	}
	for what, c := range map[string]struct {
		attesting map[string][]*signature.PublicKey
		says      string
	}{
		"the same key":   {map[string][]*signature.PublicKey{"projects/shop/notes/qa": {other, k}}, "never both"},
		"in a project":   {map[string][]*signature.PublicKey{"projects/shop": {k}}, "never both"},
		"the same note":  {map[string][]*signature.PublicKey{"projects/shop/notes/rollout-hints": {other}}, "a note of their own"},
		"nothing shared": {map[string][]*signature.PublicKey{"projects/shop/notes/qa": {other}}, ""},
	} {
		found := hints.Apart(list, c.attesting)
		if (c.says == "") != (len(found) == 0) || !strings.Contains(found.String(), c.says) {
			t.Errorf("%s: %v", what, found)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(fileOf(f, publicKey(f), "  require: warn\n")))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, found := hints.Parse("f", data)
		if list != nil && found.HasErrors() {
			t.Fatal("signers and errors")
		}
		for i := range list {
			_ = list[i].Compile()
		}
	})
}
