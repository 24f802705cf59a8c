package kritis_test

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/kritis"
)

func node(t *testing.T, text string) *yaml.Node {
	t.Helper()
	root := document.New("x").Load([]byte(text), kritis.MaxText)
	if root == nil {
		t.Fatal("no tree")
	}
	return root
}

const head = "apiVersion: kritis.grafeas.io/v1beta1\nmetadata: {name: x, namespace: shop}\n"

// TestReadTakesOneObject: what cannot be read is satisfied by nothing, and what demands
// nothing is not there.
func TestReadTakesOneObject(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"kind: ImageSecurityPolicy\nspec: {}\nstatus: {conditions: []}\n":          "isp",
		"kind: ImageSecurityPolicy\nspec: {misspelt: 1}\n":                         `isp: ImageSecurityPolicy: unknown field "misspelt"`,
		"kind: ImageSecurityPolicy\n":                                              "isp: ImageSecurityPolicy: spec is missing",
		"kind: GenericAttestationPolicy\nspec: {misspelt: 1}\n":                    `gap: GenericAttestationPolicy: unknown field "misspelt"`,
		"kind: AttestationAuthority\nspec: {noteReference: 7}\n":                   "",
		"kind: AttestationAuthority\nspec: {noteReference: projects/p/notes/n}\n":  "aa",
		"kind: KritisConfig\nspec: {cronInterval: never}\n":                        "",
		"kind: BuildPolicy\nspec: {buildRequirements: {builtFrom: '('}}\nextra: 1": "",
	} {
		o, _ := kritis.Read("f", node(t, head+text))
		got := ""
		for _, p := range o.ImageSecurityPolicies {
			got += "isp" + because(p.Unreadable)
		}
		for _, p := range o.GenericAttestationPolicies {
			got += "gap" + because(p.Unreadable)
		}
		for range o.AttestationAuthorities {
			got += "aa"
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
		if o.Demands() != (strings.HasPrefix(want, "isp") || strings.HasPrefix(want, "gap")) {
			t.Errorf("%s: demands %v", text, o.Demands())
		}
	}
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

func TestAKeyThatCannotBeUsedIsLeftOut(t *testing.T) {
	t.Parallel()
	o, found := kritis.Read("f", node(t, head+`kind: AttestationAuthority
spec:
  noteReference: projects/p/notes/n
  publicKeys:
  - {keyType: PGP, keyId: ABC, asciiArmoredPgpPublicKey: bm9uZQ==}
  - {keyType: ODD}
  - {keyType: PKIX, keyId: "k", pkixPublicKey: {publicKeyPem: none, signatureAlgorithm: ED25519}}
`))
	if found.HasErrors() || len(o.AttestationAuthorities) != 1 {
		t.Fatal(found)
	}
	a := o.AttestationAuthorities[0]
	if len(a.Keys) != 0 || len(a.Unusable) != 3 || a.Unusable[0].ID != "ABC" || a.Unusable[2].Index != 2 || a.Unusable[2].ID != "k" || a.Unusable[1].Why == "" {
		t.Errorf("got %+v", a.Unusable)
	}
	if _, strict := kritis.Parse("f", []byte(head+"kind: AttestationAuthority\nspec: {noteReference: projects/p/notes/n, publicKeys: [{keyType: ODD}]}")); !strict.HasErrors() {
		t.Error("a file with such a key is taken")
	}
}

// TestAllPoliciesOfANamespaceIncludesTheUnreadable: where all must be satisfied, one that
// cannot be read is satisfied by nothing.
func TestAllPoliciesOfANamespaceIncludesTheUnreadable(t *testing.T) {
	t.Parallel()
	o := kritis.Unreadable("GenericAttestationPolicy", kritis.Meta{Namespace: "shop", Name: "x"}, "why")
	rules, _ := o.Compile(kritis.Options{Policies: kritis.AllPolicies})
	found := false
	for c := range (policy.Set{rules}).Conditions() {
		n, never := c.(policy.Never)
		found = found || never && n.Why == "why"
	}
	if !found {
		t.Errorf("got %+v", rules.Rules)
	}
}
