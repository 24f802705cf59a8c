package kritis_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/kritis"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const smallISP = `apiVersion: kritis.grafeas.io/v1beta1
kind: ImageSecurityPolicy
metadata: {name: a, namespace: shop}
spec: {imageAllowlist: [x]}
`

func toJSON(t *testing.T, text string) string {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestObjectsAreReadInEveryForm(t *testing.T) {
	t.Parallel()
	one := toJSON(t, smallISP)
	for name, text := range map[string]string{
		"YAML":        smallISP,
		"stream":      "---\n---\n# c\n---\n" + smallISP + "---\n",
		"CRLF":        strings.ReplaceAll(smallISP, "\n", "\r\n"),
		"JSON":        one,
		"List":        `{"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": [` + one + `]}`,
		"typed list":  `{"apiVersion": "kritis.grafeas.io/v1beta1", "kind": "ImageSecurityPolicyList", "items": [` + one + `]}`,
		"array":       "[" + one + "]",
		"empty lists": `{"apiVersion": "v1", "kind": "List", "items": null}` + "\n---\n" + smallISP,
		"as exported": strings.Replace(smallISP, "{name: a, namespace: shop}", `
  name: a
  namespace: shop
  uid: u
  resourceVersion: "1"
  generation: 1
  creationTimestamp: "2020-01-01T00:00:00Z"
  labels: {a: b}
  annotations: {a: b}
  managedFields: [{fieldsV1: {"f:spec": {".": {}}}}]
  finalizers: []
  ownerReferences: []
  selfLink: x`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, diags := parse(t, text)
			if len(diags) > 0 || len(o.ImageSecurityPolicies) != 1 || o.ImageSecurityPolicies[0].Allowlist[0].Text != "x" {
				t.Errorf("%+v\n%s", o, diags)
			}
		})
	}
}

func TestWhatIsNotKritisIsSkippedAndNamed(t *testing.T) {
	t.Parallel()
	secret := "apiVersion: v1\nkind: Secret\nmetadata: {name: key, namespace: shop}\ndata: &anchor {private: c2VjcmV0}\nstringData: *anchor\nstringData: again\n"
	o, diags := parse(t, secret+"---\n"+smallISP)
	want := `shop.yaml:1: warning: "Secret shop/key (v1)" is of no kind that is read here, and is skipped` + "\n"
	if diff := cmp.Diff(want, diags.String()); diff != "" {
		t.Error(diff)
	}
	if len(o.ImageSecurityPolicies) != 1 {
		t.Errorf("%+v", o)
	}
	if all := fmt.Sprintf("%+v", *o); strings.Contains(all, "c2VjcmV0") {
		t.Error("the secret was kept")
	}
	_, diags = parse(t, strings.Repeat(secret+"---\n", 30)+smallISP)
	if len(diags) != 21 || !strings.Contains(diags[20].Message, "and 10 more objects are of no kind") {
		t.Errorf("%d: %s", len(diags), diags)
	}
}

// TestWhatIsRefused has texts with one mistake each.
func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	wrap := func(kind, spec string) string { return object(kind, "shop", "x", spec) }
	many := func(kind string) string {
		text := ""
		for i := range 101 {
			text += object(kind, "shop", fmt.Sprint("n", i), "{}")
		}
		return text
	}
	pgp := armored(keys().pgp)
	pkix := strings.ReplaceAll(keys().p256.Marshal(), "\n", "\n      ")
	aa := func(key string) string {
		return wrap("AttestationAuthority", "noteReference: projects/p/notes/n\npublicKeys:\n- "+key+"\n")
	}
	goodPKIX := "keyType: PKIX\n  pkixPublicKey:\n    signatureAlgorithm: ecdsa-p256-sha256\n    publicKeyPem: |\n      " + pkix
	for name, test := range map[string]struct{ text, want string }{
		"empty":                  {"", "the document is empty"},
		"too large":              {strings.Repeat("#", kritis.MaxText+1), "more than the 4194304 allowed"},
		"too many":               {"[" + strings.Repeat(toJSON(t, smallISP)+",", kritis.MaxObjects) + toJSON(t, smallISP) + "]", "more than 10000 objects"},
		"too many in all":        {strings.Repeat("["+strings.Repeat(toJSON(t, "{apiVersion: v1, kind: X}")+",", kritis.MaxObjects/2)+"]\n---\n", 3), "more than 10000 objects"},
		"too many documents":     {strings.Repeat("---\n", kritis.MaxObjects+2), "more than 10000 YAML documents"},
		"nothing of Kritis":      {"apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n", "shop.yaml:1: error: no object in it is of a kind that is read here"},
		"empty List":             {`{"apiVersion":"v1","kind":"List","items":[]}`, "no object in it is of a kind that is read here"},
		"text":                   {"hello", "want an object of Kubernetes, and this is text"},
		"no kind":                {"apiVersion: kritis.grafeas.io/v1beta1\n", "needs both apiVersion and kind"},
		"no apiVersion":          {"kind: ImageSecurityPolicy\n", "needs both apiVersion and kind"},
		"kind twice":             {"kind: Secret\n" + smallISP, "needs both apiVersion and kind, each once"},
		"group of the docs":      {strings.Replace(smallISP, "grafeas.io", "github.com", 1), "no Kritis has ever served this group; write kritis.grafeas.io/v1beta1"},
		"version":                {strings.Replace(smallISP, "v1beta1", "v1", 1), "the only version is kritis.grafeas.io/v1beta1"},
		"kind":                   {strings.Replace(smallISP, "Policy", "Polcy", 1), `kind "ImageSecurityPolcy" is none of Kritis' kinds`},
		"list in a list":         {`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"List","items":[]}]}`, "a List within a list"},
		"array in an array":      {`[[]]`, "want an object of Kubernetes, and this is a list"},
		"list without items":     {`{"apiVersion":"v1","kind":"List"}`, "a List needs items"},
		"list of text":           {`{"apiVersion":"v1","kind":"List","items":"x"}`, "a List needs items"},
		"field of the object":    {smallISP + "sepc: {}\n", `unknown field "sepc"`},
		"anchor":                 {strings.Replace(smallISP, "[x]", "&a [x]", 1), "anchors and aliases are not accepted"},
		"field twice":            {smallISP + "spec: {}\n", `"spec" is given twice`},
		"no metadata":            {"apiVersion: kritis.grafeas.io/v1beta1\nkind: KritisConfig\nspec: {}\n", "metadata is missing"},
		"no spec":                {"apiVersion: kritis.grafeas.io/v1beta1\nkind: KritisConfig\nmetadata: {name: a}\n", "spec is missing"},
		"spec is a list":         {"apiVersion: kritis.grafeas.io/v1beta1\nkind: KritisConfig\nmetadata: {name: a}\nspec: []\n", "must be an object, and is a list"},
		"no namespace":           {strings.Replace(smallISP, ", namespace: shop", "", 1), "metadata.namespace is missing"},
		"misspelt namespace":     {strings.Replace(smallISP, "namespace", "namespaces", 1), `unknown field "namespaces"; did you mean "namespace"?`},
		"bad namespace":          {strings.Replace(smallISP, "namespace: shop", "namespace: a.b", 1), `metadata.namespace "a.b" is not the name of a namespace`},
		"bad name":               {strings.Replace(smallISP, "name: a,", "name: A,", 1), `metadata.name "A" is not a name`},
		"same object twice":      {smallISP + "---\n" + smallISP, "shop.yaml:6: error: ImageSecurityPolicy shop/a is given twice, first at line 1"},
		"block of the docs":      {wrap("ImageSecurityPolicy", "packageVulnerabilityPolicy: {}"), "a mistake of Kritis' documentation, and Kritis ignores it: write packageVulnerabilityRequirements"},
		"both allow-lists":       {wrap("ImageSecurityPolicy", "imageWhitelist: []\nimageAllowlist: []"), "imageWhitelist is the former name of imageAllowlist; give one of them"},
		"misspelt allow-list":    {wrap("ImageSecurityPolicy", "imageAllowList: [a]"), `did you mean "imageAllowlist"?`},
		"empty allowed image":    {wrap("ImageSecurityPolicy", `imageAllowlist: [""]`), "an entry is empty"},
		"number as image":        {wrap("ImageSecurityPolicy", `imageAllowlist: [1]`), "must be text, and is a number; put it in quotes"},
		"both authorities":       {wrap("ImageSecurityPolicy", "attestationAuthorityName: a\nattestationAuthorityNames: [b]"), "give one of them"},
		"bad authority":          {wrap("ImageSecurityPolicy", "attestationAuthorityName: projects/p/notes/n"), "is not the name of an attestation authority"},
		"too many authorities":   {wrap("GenericAttestationPolicy", "attestationAuthorityNames: ["+strings.Repeat("a,", 101)+"]"), "101 entries, more than the 100 allowed"},
		"severity in lower case": {wrap("ImageSecurityPolicy", "packageVulnerabilityRequirements: {maximumSeverity: low}"), `"low" is not one of BLOCK_ALL, MINIMAL, LOW, MEDIUM, HIGH, CRITICAL, ALLOW_ALL; did you mean "LOW"?`},
		"other severity":         {wrap("ImageSecurityPolicy", "packageVulnerabilityRequirements: {maximumFixUnavailableSeverity: BAD}"), `maximumFixUnavailableSeverity: "BAD" is not one of`},
		"misspelt threshold":     {wrap("ImageSecurityPolicy", "packageVulnerabilityRequirements: {maxSeverity: LOW}"), `unknown field "maxSeverity"`},
		"both thresholds":        {wrap("ImageSecurityPolicy", "packageVulnerabilityRequirements: {maximumFixNotAvailableSeverity: LOW, maximumFixUnavailableSeverity: LOW}"), "give one of them"},
		"empty pattern":          {wrap("GenericAttestationPolicy", `admissionAllowlistPatterns: [{namePattern: ""}]`), "it is empty"},
		"no pattern":             {wrap("GenericAttestationPolicy", `admissionAllowlistPatterns: [{}]`), "namePattern is missing"},
		"pattern is text":        {wrap("GenericAttestationPolicy", `admissionAllowlistPatterns: [x]`), "must be an object, and is text"},
		"too many patterns":      {wrap("GenericAttestationPolicy", "admissionAllowlistPatterns: ["+strings.Repeat("{namePattern: a},", 1001)+"]"), "1001 entries, more than"},
		"too many images":        {wrap("ImageSecurityPolicy", "imageAllowlist: ["+strings.Repeat("a,", 10001)+"]"), "10001 entries, more than the 10000 allowed"},
		"too many GAPs":          {many("GenericAttestationPolicy"), "shop.yaml:601: error: GenericAttestationPolicy shop/n100: more than the 100 allowed in a namespace"},
		"too many ISPs":          {many("ImageSecurityPolicy"), "shop.yaml:601: error: ImageSecurityPolicy shop/n100: more than the 100 allowed in a namespace"},
		"no note":                {wrap("AttestationAuthority", "publicKeys: []"), "noteReference is missing"},
		"bad note":               {wrap("AttestationAuthority", "noteReference: projects//notes/n"), "does not have the form projects/*/notes/*"},
		"note of a number":       {wrap("AttestationAuthority", "noteReference: projects/12/notes/n"), "is a project number"},
		"both kinds of keys":     {wrap("AttestationAuthority", "noteReference: projects/p/notes/n\npublicKeys: []\npublicKeyData: "+pgp), "give one of them"},
		"no key type":            {aa("asciiArmoredPgpPublicKey: " + pgp), "keyType must be PGP or PKIX"},
		"key type":               {aa("{keyType: pgp, asciiArmoredPgpPublicKey: " + pgp + "}"), `keyType must be PGP or PKIX, and is "pgp"`},
		"both key types":         {aa("{keyType: PGP, KeyType: PGP, asciiArmoredPgpPublicKey: " + pgp + "}"), "give one of them"},
		"PGP without a key":      {aa("{keyType: PGP}"), "needs asciiArmoredPgpPublicKey"},
		"PGP with PKIX":          {aa("{keyType: PGP, asciiArmoredPgpPublicKey: " + pgp + ", pkixPublicKey: {publicKeyPem: x}}"), "a PGP key has no pkixPublicKey"},
		"damaged PGP":            {aa("{keyType: PGP, asciiArmoredPgpPublicKey: Cg==}"), "asciiArmoredPgpPublicKey: "},
		"PKIX without a key":     {aa("{keyType: PKIX}"), "needs pkixPublicKey"},
		"PKIX with PGP":          {aa("asciiArmoredPgpPublicKey: x\n  " + goodPKIX), "a PKIX key has no asciiArmoredPgpPublicKey"},
		"PKIX without algorithm": {aa("{keyType: PKIX, pkixPublicKey: {publicKeyPem: x}}"), "needs both publicKeyPem and signatureAlgorithm"},
		"algorithm":              {aa(strings.Replace(goodPKIX, "ecdsa-p256-sha256", "rot13", 1)), "signatureAlgorithm: "},
		"key of other algorithm": {aa(strings.Replace(goodPKIX, "ecdsa-p256-sha256", "ecdsa-p384-sha384", 1)), "pkixPublicKey: "},
		"PKIX id":                {aa(goodPKIX + "\n  keyId: a b"), "URI reference"},
		"field of a key":         {aa("{keyType: PGP, comment: x, asciiArmoredPgpPublicKey: " + pgp + "}"), `unknown field "comment"`},
		"key twice":              {aa("{keyType: PGP, asciiArmoredPgpPublicKey: " + pgp + "}\n- {keyType: PGP, asciiArmoredPgpPublicKey: " + pgp + "}"), "is given twice, first at line"},
		"too many keys":          {wrap("AttestationAuthority", "noteReference: projects/p/notes/n\npublicKeys: ["+strings.Repeat("{},", 1001)+"]"), "1001 public keys, more than the 1000 allowed"},
		"build policy":           {wrap("BuildPolicy", "buildRequirements: {builtFrom: ^a$}"), "attestationAuthorityName is missing"},
		"expression":             {wrap("BuildPolicy", "attestationAuthorityName: a\nbuildRequirements: {builtFrom: '('}"), "builtFrom: "},
		"long expression":        {wrap("BuildPolicy", "attestationAuthorityName: a\nbuildRequirements: {builtFrom: "+strings.Repeat("a", 5000)+"}"), "more than the 4096 allowed"},
		"misspelt signing block": {wrap("VulnzSigningPolicy", "imageVulnerabilityRequirement: {}"), `did you mean "imageVulnerabilityRequirements"?`},
		"threshold of the ISP":   {wrap("VulnzSigningPolicy", "imageVulnerabilityRequirements: {maximumSeverity: LOW}"), `unknown field "maximumSeverity"`},
		"backend":                {wrap("KritisConfig", "metadataBackend: redis"), `"redis" is not one of containerAnalysis, grafeas`},
		"interval":               {wrap("KritisConfig", "cronInterval: -1h"), "is not a duration"},
		"no address":             {wrap("KritisConfig", "metadataBackend: grafeas"), "needs grafeas.addr"},
		"two configurations":     {wrap("KritisConfig", "{}") + object("KritisConfig", "shop", "y", "{}"), "there can be only one, and another is at line 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			complains(t, test.text, document.Error, test.want)
		})
	}
}

// TestBothDialectsMeanTheSame has each former form, the form of today, and the warning.
func TestBothDialectsMeanTheSame(t *testing.T) {
	t.Parallel()
	note := "noteReference: projects/p/notes/x\n"
	pgp := armored(keys().pgp)
	now := note + "publicKeys: [{keyType: PGP, asciiArmoredPgpPublicKey: " + pgp + "}]"
	for name, test := range map[string]struct{ kind, former, now, warning string }{
		"allow-list": {"ImageSecurityPolicy", "imageWhitelist: [a]", "imageAllowlist: [a]", "imageWhitelist is its name before June 2019"},
		"CVEs": {
			"ImageSecurityPolicy", "packageVulnerabilityRequirements: {whitelistCVEs: [projects/p/notes/C]}",
			"packageVulnerabilityRequirements: {allowlistCVEs: [projects/p/notes/C]}", "whitelistCVEs is its name before June 2019",
		},
		"threshold": {
			"ImageSecurityPolicy", "packageVulnerabilityRequirements: {maximumFixNotAvailableSeverity: LOW}",
			"packageVulnerabilityRequirements: {maximumFixUnavailableSeverity: LOW}", "is its name in v0.2.x",
		},
		"authorities":       {"ImageSecurityPolicy", "attestationAuthorityNames: [a]", "attestationAuthorityName: a", "attestationAuthorityNames is of v0.2.x; an attestation by any one"},
		"note of documents": {"AttestationAuthority", strings.Replace(strings.Replace(now, "/notes/x", "", 1), "projects/", "v1alpha1/projects/", 1), now, `"v1alpha1/projects/p" is of v0.2.x; it is read as "projects/p/notes/x"`},
		"note of project":   {"AttestationAuthority", strings.Replace(now, "/notes/x", "", 1), now, `"projects/p" is of v0.2.x; it is read as "projects/p/notes/x"`},
		"providers":         {"AttestationAuthority", strings.Replace(now, "projects", "providers", 1), now, "is a former spelling"},
		"key data":          {"AttestationAuthority", note + "privateKeySecretName: s\npolicyType: p\npublicKeyData: " + pgp, now, "publicKeyData is of v0.2.x"},
		"CVE of provider": {
			"ImageSecurityPolicy", "packageVulnerabilityRequirements: {allowlistCVEs: [providers/p/notes/C]}",
			"packageVulnerabilityRequirements: {allowlistCVEs: [projects/p/notes/C]}", "is a former spelling",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			former, now := object(test.kind, "shop", "x", test.former), object(test.kind, "shop", "x", test.now)
			complains(t, former, document.Warning, test.warning)
			a, _ := parse(t, former)
			b, diags := parse(t, now)
			if len(diags) > 0 {
				t.Error(diags)
			}
			ra, _ := a.Compile(kritis.Options{})
			rb, _ := b.Compile(kritis.Options{})
			if ra.Version != rb.Version {
				t.Errorf("compiled differently: %+v and %+v", a, b)
			}
			if len(a.AttestationAuthorities) > 0 {
				x, y := a.AttestationAuthorities[0], b.AttestationAuthorities[0]
				if x.Note != y.Note || x.Keys[0].Fingerprint() != y.Keys[0].Fingerprint() || x.Released == (name == "providers") || y.Released {
					t.Errorf("%+v\n%+v", x, y)
				}
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	pgp := armored(keys().pgp)
	for name, test := range map[string]struct {
		text  string
		words []string
	}{
		"bare CVE":          {isp("a", "packageVulnerabilityRequirements: {allowlistCVEs: [CVE-2021-1]}"), []string{"allows nothing, in Kritis as here", "projects/PROJECT/notes/CVE-2021-1"}},
		"unspecified":       {isp("a", "packageVulnerabilityRequirements: {maximumSeverity: SEVERITY_UNSPECIFIED}"), []string{"here it is BLOCK_ALL"}},
		"no authority":      {gap("a", "{}"), []string{"names no attestation authority", "only what its patterns cover"}},
		"authority twice":   {gap("a", "attestationAuthorityNames: [x, x]"), []string{"is given twice, first at line 5"}},
		"two stars":         {gap("a", "attestationAuthorityNames: [x]\nadmissionAllowlistPatterns: [{namePattern: gcr.io/p/**}]"), []string{"covers no image"}},
		"star in between":   {gap("a", "attestationAuthorityNames: [x]\nadmissionAllowlistPatterns: [{namePattern: gcr.io/*/x}]"), []string{"covers no image"}},
		"key id":            {object("AttestationAuthority", "shop", "a", "noteReference: projects/p/notes/n\npublicKeys: [{keyType: PGP, keyId: AB, asciiArmoredPgpPublicKey: "+pgp+"}]"), []string{`keyId "AB" is not the fingerprint`, keys().pgp.ID()}},
		"no keys":           {object("AttestationAuthority", "shop", "a", "noteReference: projects/p/notes/n"), []string{"nothing is attested by it"}},
		"not anchored":      {object("BuildPolicy", "shop", "a", "attestationAuthorityName: x\nbuildRequirements: {builtFrom: '^a|b$'}"), []string{"matches anywhere"}},
		"anchored at end":   {object("BuildPolicy", "shop", "a", "attestationAuthorityName: x\nbuildRequirements: {builtFrom: 'a$'}"), []string{"matches anywhere"}},
		"anchored at start": {object("BuildPolicy", "shop", "a", "attestationAuthorityName: x\nbuildRequirements: {builtFrom: '^a'}"), []string{"matches anywhere"}},
		"every source":      {object("BuildPolicy", "shop", "a", "attestationAuthorityName: x"), []string{"builds of every source"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			complains(t, test.text, document.Warning, test.words...)
		})
	}
	for name, text := range map[string]string{
		"policies":  isp("a", "imageAllowlist: [x]\nprivateKeySecretName: s\nattestationAuthorityName: b\npackageVulnerabilityRequirements: {maximumSeverity: ''}"),
		"authority": authority("a"),
		"KeyType":   strings.Replace(authority("a"), "keyType", "KeyType", 1),
		"empty pkix": strings.Replace(authority("a"), "keyType: PGP", "keyType: PGP, pkixPublicKey: {publicKeyPem: ''}", 1) +
			strings.Replace(authority("b"), "keyType: PGP", "keyType: PGP, pkixPublicKey: {}, keyId: "+keys().pgp.ID(), 1),
		"build":  object("BuildPolicy", "shop", "a", "attestationAuthorityName: x\nprivateKeySecretName: s\nbuildRequirements: {builtFrom: '^(?:a|b)$|^(c)$'}"),
		"VSP":    object("VulnzSigningPolicy", "", "a", "imageVulnerabilityRequirements: {allowlistCVEs: [projects/p/notes/C]}"),
		"config": object("KritisConfig", "kritis", "a", "metadataBackend: containerAnalysis"),
	} {
		if _, diags := parse(t, text); len(diags) > 0 {
			t.Errorf("%s: %s", name, diags)
		}
	}
}

// TestKritisB19AlgorithmWords: the word that Kritis misspelt and the right one, which
// Kritis refused, are both read.
func TestKritisB19AlgorithmWords(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"rsa-pss-4096s-ha256", "rsa-pss-4096-sha256", "RSA_PSS_4096_SHA256"} {
		key := "keyType: PKIX\n  pkixPublicKey:\n    signatureAlgorithm: " + word + "\n    publicKeyPem: |\n      " + strings.ReplaceAll(keys().rsa4096.Marshal(), "\n", "\n      ")
		o, diags := parse(t, object("AttestationAuthority", "shop", "a", "noteReference: projects/p/notes/n\npublicKeys:\n- "+key))
		if len(diags) > 0 {
			t.Fatal(diags)
		}
		if k := o.AttestationAuthorities[0].Keys[0]; k.Algorithm() != signature.RSAPSS4096SHA256 || k.ID() != keys().rsa4096.ID() {
			t.Errorf("%s: %s %s", word, k.Algorithm(), k.ID())
		}
	}
}

// TestKritisB21WordsOfItsOwnTypes: Kritis' types write KeyType and the fields of a
// BuildPolicy in upper case.
func TestKritisB21WordsOfItsOwnTypes(t *testing.T) {
	t.Parallel()
	o, diags := parse(t, object("BuildPolicy", "shop", "a", "AttestationAuthorityName: x\nPrivateKeySecretName: s\nBuildRequirements: {BuiltFrom: '^a$'}")+
		strings.Replace(authority("x"), "keyType", "KeyType", 1))
	if len(diags) > 0 || len(o.AttestationAuthorities[0].Keys) != 1 {
		t.Error(diags)
	}
	if p := o.BuildPolicies[0]; p.Authority.Text != "x" || !p.Covers("a") || p.Covers("b") {
		t.Errorf("%+v", p)
	}
}

func TestBuildPolicyMatchesAnywhere(t *testing.T) {
	t.Parallel()
	o, _ := parse(t, object("BuildPolicy", "shop", "a", "attestationAuthorityName: x\nbuildRequirements: {builtFrom: 'shop/r'}")+
		object("BuildPolicy", "shop", "b", "attestationAuthorityName: x"))
	if p := o.BuildPolicies[0]; !p.Covers("https://source.developers.google.com/p/shop/r/web:main") || p.Covers("https://x") || p.Name != "a" || p.Namespace != "shop" || p.Line != 1 {
		t.Errorf("%+v", p)
	}
	if !o.BuildPolicies[1].Covers("") {
		t.Error("a policy without builtFrom does not cover everything")
	}
}

func TestKritisConfigHasItsDefaults(t *testing.T) {
	t.Parallel()
	o, _ := parse(t, object("KritisConfig", "x", "a", "{}"))
	want := kritis.KritisConfig{Meta: kritis.Meta{Name: "a", File: "shop.yaml", Line: 1}, CronInterval: time.Hour, ServerAddress: ":443"}
	if diff := cmp.Diff(&want, o.Config); diff != "" {
		t.Error(diff)
	}
	o, _ = parse(t, object("KritisConfig", "x", "a", "metadataBackend: grafeas\ncronInterval: 30m\nserverAddr: ':8443'\ngrafeas: {addr: 'g:443'}"))
	want = kritis.KritisConfig{Meta: want.Meta, GrafeasBackend: true, GrafeasAddress: "g:443", CronInterval: 30 * time.Minute, ServerAddress: ":8443"}
	if diff := cmp.Diff(&want, o.Config); diff != "" {
		t.Error(diff)
	}
}

func TestLinesAndPlacesAreKept(t *testing.T) {
	t.Parallel()
	o, _ := parse(t, isp("a", "imageAllowlist:\n- x\npackageVulnerabilityRequirements:\n  maximumSeverity: LOW\n  maximumFixUnavailableSeverity: SEVERITY_UNSPECIFIED\n  allowlistCVEs:\n  - projects/p/notes/C\nattestationAuthorityName: aa\nprivateKeySecretName: s")+
		gap("g", "attestationAuthorityNames:\n- aa\nadmissionAllowlistPatterns:\n- namePattern: x*"))
	want := kritis.ImageSecurityPolicy{
		Meta:        kritis.Meta{Namespace: "shop", Name: "a", File: "shop.yaml", Line: 1},
		Allowlist:   []kritis.Entry{{Text: "x", Line: 6}},
		Authorities: []kritis.Entry{{Text: "aa", Line: 12}},
		PrivateKey:  true,
		Requirements: kritis.Requirements{
			MaxFixable:   kritis.Threshold{Severity: policy.Low, Line: 8},
			MaxUnfixable: kritis.Threshold{Severity: policy.BlockAll, UnspecifiedOnly: true, Line: 9},
			AllowedCVEs:  []kritis.Entry{{Text: "projects/p/notes/C", Line: 11}},
		},
	}
	if diff := cmp.Diff(want, o.ImageSecurityPolicies[0]); diff != "" {
		t.Error(diff)
	}
	g := o.GenericAttestationPolicies[0]
	if g.Line != 15 || g.Authorities[0] != (kritis.Entry{Text: "aa", Line: 20}) || g.Patterns[0].Line != 22 || g.Patterns[0].Pattern.String() != "x*" {
		t.Errorf("%+v", g)
	}
}

func TestMergeNamesBothPlacesOfADuplicate(t *testing.T) {
	t.Parallel()
	all := isp("a", "{}") + gap("a", "attestationAuthorityNames: [a]") + authority("a") + object("BuildPolicy", "shop", "a", "attestationAuthorityName: a") +
		object("VulnzSigningPolicy", "shop", "a", "{}") + object("KritisConfig", "", "a", "{}")
	first, _ := kritis.Parse("one.yaml", []byte(all))
	second, _ := kritis.Parse("two.yaml", []byte(all))
	merged, diags := kritis.Merge(first, nil, second)
	if merged != nil || len(diags) != 6 {
		t.Fatalf("%v %s", merged, diags)
	}
	for i, want := range []string{
		"two.yaml:1: error: ImageSecurityPolicy shop/a is given twice, first at one.yaml:1",
		"GenericAttestationPolicy shop/a is given twice", "AttestationAuthority shop/a is given twice", "BuildPolicy shop/a is given twice",
		"VulnzSigningPolicy a is given twice", "KritisConfig: there can be only one",
	} {
		if !strings.Contains(diags[i].String(), want) {
			t.Errorf("%s\nwant %s", diags[i], want)
		}
	}
	other, _ := kritis.Parse("two.yaml", []byte(object("ImageSecurityPolicy", "other", "a", "{}")+object("GenericAttestationPolicy", "shop", "b", "{}")))
	merged, diags = kritis.Merge(first, other)
	if len(diags) > 0 || len(merged.ImageSecurityPolicies) != 2 || len(merged.GenericAttestationPolicies) != 2 || merged.Config == nil ||
		len(merged.AttestationAuthorities) != 1 || len(merged.BuildPolicies) != 1 || len(merged.VulnzSigningPolicies) != 1 {
		t.Errorf("%+v %s", merged, diags)
	}
}

func TestMergeIsBounded(t *testing.T) {
	t.Parallel()
	var many []kritis.VulnzSigningPolicy
	for i := range kritis.MaxObjects {
		many = append(many, kritis.VulnzSigningPolicy{Meta: kritis.Meta{Name: fmt.Sprint("a", i), File: "f", Line: 1}})
	}
	all := &kritis.Objects{VulnzSigningPolicies: many}
	if merged, diags := kritis.Merge(all); merged == nil || len(diags) > 0 {
		t.Error(diags)
	}
	one, _ := parse(t, smallISP)
	if merged, diags := kritis.Merge(all, one, one); merged != nil || !strings.Contains(diags.String(), "more than 10000 objects") {
		t.Error(diags)
	}
	var crowd []kritis.ImageSecurityPolicy
	for i := range 101 {
		crowd = append(crowd, kritis.ImageSecurityPolicy{Meta: kritis.Meta{Namespace: "shop", Name: fmt.Sprint("a", i), File: "f", Line: 1}})
	}
	if merged, diags := kritis.Merge(&kritis.Objects{ImageSecurityPolicies: crowd[:50]}, &kritis.Objects{ImageSecurityPolicies: crowd[50:]}); merged != nil || !strings.Contains(diags.String(), "more than the 100 allowed in a namespace") {
		t.Error(diags)
	}
	if merged, diags := kritis.Merge(all, all); merged != nil || len(diags) != 100 {
		t.Errorf("%d problems", len(diags))
	}
}

func FuzzParse(f *testing.F) {
	f.Add(smallISP)
	f.Add(isp("a", "imageWhitelist: [x]\npackageVulnerabilityRequirements: {maximumSeverity: LOW, whitelistCVEs: [CVE-1]}\nattestationAuthorityNames: [a]"))
	f.Add(gap("a", "attestationAuthorityNames: [x]\nadmissionAllowlistPatterns: [{namePattern: a*}]"))
	f.Add(authority("a"))
	f.Add(object("BuildPolicy", "shop", "a", "attestationAuthorityName: x\nbuildRequirements: {builtFrom: 'a|^b'}"))
	f.Add(object("KritisConfig", "", "a", "metadataBackend: grafeas\ngrafeas: {addr: x}"))
	f.Add(`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"kritis.grafeas.io/v1beta1","kind":"VulnzSigningPolicy","metadata":{"name":"a"},"spec":{}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		o, diags := kritis.Parse("f", []byte(text))
		if (o == nil) != diags.HasErrors() {
			t.Fatalf("%v with %s", o, diags)
		}
		for _, d := range diags {
			if d.Line < 1 || d.Message == "" {
				t.Errorf("%+v", d)
			}
		}
		merged, twice := kritis.Merge(o)
		if len(twice) > 0 {
			t.Fatal(twice)
		}
		for _, options := range []kritis.Options{{}, {Authorities: kritis.AnyAuthority, Policies: kritis.AllPolicies, DefaultDeny: true}} {
			rules, _ := merged.Compile(options)
			if n := len(rules.Rules); n == 0 || rules.Rules[n-1].Scope != (policy.Scope{}) || rules.Version == "" {
				t.Errorf("%+v", rules)
			}
			if i, diags := merged.Import(kritis.ImportOptions{Options: options}); i == nil {
				if !strings.Contains(diags.String(), "references to attestors") {
					t.Error(diags)
				}
			} else {
				enforced(t, i)
			}
			for name, a := range rules.Attestors {
				if name != a.Name || a.Note == "" || !a.MatchRepository {
					t.Errorf("%q: %+v", name, a)
				}
			}
		}
	})
}
