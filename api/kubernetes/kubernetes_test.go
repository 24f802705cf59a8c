package kubernetes_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/api/kubernetes"
	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
)

// A schema is what is looked at of an OpenAPI schema.
type schema struct {
	Description     string
	Type            string
	Format          string
	Properties      map[string]*schema
	Items           *schema
	Values          *schema `yaml:"additionalProperties"`
	Enum            []any
	MaxLength       int  `yaml:"maxLength"`
	MaxItems        int  `yaml:"maxItems"`
	MaxProperties   int  `yaml:"maxProperties"`
	PreserveUnknown bool `yaml:"x-kubernetes-preserve-unknown-fields"`
}

type definition struct {
	Metadata struct{ Name string }
	Spec     struct {
		Group string
		Names struct {
			Kind, Plural string
			ShortNames   []string `yaml:"shortNames"`
			Categories   []string
		}
		Versions []struct {
			Name   string
			Schema struct {
				OpenAPI *schema `yaml:"openAPIV3Schema"`
			}
			Subresources map[string]any
			Columns      []struct{ Description string } `yaml:"additionalPrinterColumns"`
		}
	}
}

func definitions(t *testing.T) []definition {
	t.Helper()
	var all []definition
	for _, c := range kubernetes.CRDs() {
		var d definition
		if err := yaml.Unmarshal(c.Text, &d); err != nil {
			t.Fatalf("%s: %v", c.File, err)
		}
		if want := d.Spec.Group + "_" + d.Spec.Names.Plural + ".yaml"; c.File != want {
			t.Errorf("%s: it defines what %s should", c.File, want)
		}
		if d.Spec.Group == "gatehouse.dev" {
			all = append(all, d)
		}
	}
	return all
}

// TestEveryFieldIsDescribedAndBounded: people read kubectl explain, and the API server
// tells the cost of a rule from the bounds.
func TestEveryFieldIsDescribedAndBounded(t *testing.T) {
	t.Parallel()
	all := definitions(t)
	if len(all) != 8 {
		t.Errorf("%d kinds", len(all))
	}
	short := map[string]string{}
	for _, d := range all {
		v := d.Spec.Versions[0]
		if v.Subresources["status"] == nil || len(v.Columns) < 3 || len(d.Spec.Names.Categories) != 1 || d.Spec.Names.Categories[0] != "gatehouse" {
			t.Errorf("%s: %+v", d.Metadata.Name, d.Spec.Names)
		}
		for _, name := range d.Spec.Names.ShortNames {
			if short[name] != "" {
				t.Errorf("%s and %s are both %s", short[name], d.Spec.Names.Kind, name)
			}
			short[name] = d.Spec.Names.Kind
		}
		for _, c := range v.Columns {
			if c.Description == "" {
				t.Errorf("%s: a column has no description", d.Metadata.Name)
			}
		}
		for name, s := range v.Schema.OpenAPI.Properties {
			if name == "spec" || name == "status" {
				checkSchema(t, d.Spec.Names.Kind+"."+name, s)
			}
		}
	}
}

func checkSchema(t *testing.T, path string, s *schema) {
	t.Helper()
	if s.Description == "" && !strings.HasSuffix(path, "[]") {
		t.Errorf("%s has no description", path)
	}
	switch s.Type {
	case "string":
		if s.MaxLength == 0 && len(s.Enum) == 0 && s.Format != "date-time" {
			t.Errorf("%s has no bound", path)
		}
	case "array":
		if s.MaxItems == 0 {
			t.Errorf("%s has no bound", path)
		}
		checkSchema(t, path+"[]", s.Items)
	case "object":
		for name, p := range s.Properties {
			checkSchema(t, path+"."+name, p)
		}
		if s.Values != nil {
			if s.MaxProperties == 0 {
				t.Errorf("%s has no bound", path)
			}
			checkSchema(t, path+"{}", s.Values)
		}
	case "":
		if !s.PreserveUnknown {
			t.Errorf("%s has no type", path)
		}
	}
}

func documented(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("../../docs/kubernetes-kinds.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for i, block := range strings.Split(string(raw), "```yaml\n") {
		if i > 0 {
			text, _, _ := strings.Cut(block, "```")
			blocks = append(blocks, text)
		}
	}
	return strings.Join(blocks, "---\n")
}

// object is one in YAML: a name, in namespace shop if it is to have one, and its spec in
// flow style.
func object(kind, spec string) string {
	namespace := ""
	if !strings.HasPrefix(kind, "Cluster") && kind != "Delegation" {
		namespace = ", namespace: shop"
	}
	return fmt.Sprintf("apiVersion: gatehouse.dev/v1beta1\nkind: %s\nmetadata: {name: x%s}\nspec: %s\n", kind, namespace, spec)
}

const (
	rule     = "{evaluationMode: ALWAYS_DENY, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}"
	admits   = "{binaryAuthorization: {defaultAdmissionRule: " + rule + "}}"
	asks     = "{binaryAuthorization: {defaultAdmissionRule: {evaluationMode: REQUIRE_ATTESTATION, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}}}"
	platform = "{gkePolicy: {checkSets: [{checks: [%s]}]}}"
	pkixKey  = "pkixPublicKey: {publicKeyPem: x, signatureAlgorithm: ED25519}"
)

// refused are objects that the definitions refuse, and what they say.
func refused() [][3]string {
	return [][3]string{
		{"Policy", "{}", "exactly one of binaryAuthorization and gkePolicy is required"},
		{"ClusterPolicy", strings.Replace(admits, "}}}", "}}, gkePolicy: {checkSets: [{checks: [{alwaysDeny: true}]}]}}", 1), "exactly one of binaryAuthorization and gkePolicy is required"},
		{"ClusterPolicy", asks, "REQUIRE_ATTESTATION needs requireAttestationsBy"},
		{"Policy", strings.Replace(admits, "LOG}", "LOG, requireAttestationsBy: [a]}", 1), "the other modes exclude it"},
		{"Policy", strings.Replace(admits, "defaultA", "kubernetesServiceAccountAdmissionRules: {'shop:a': "+rule+"}, istioServiceIdentityAdmissionRules: {i: "+rule+"}, defaultA", 1), "a policy may have one kind of specific rules"},
		{"ClusterPolicy", strings.Replace(admits, "{b", "{namespaces: ['team-*', 'No'], b", 1), "spec.namespaces[1]"},
		{"ClusterPolicy", strings.Replace(admits, "{b", "{namespaces: [a, a], b", 1), "Duplicate value"},
		{"Policy", "{binaryAuthorization: {}}", "spec.binaryAuthorization.defaultAdmissionRule: Required value"},
		{"Policy", "{misspelt: 1, gkePolicy: {checkSets: [{checks: [{alwaysDeny: true}]}]}}", `unknown field "spec.misspelt"`},
		{"Policy", strings.Replace(admits, "defaultA", "clusterAdmissionRules: {}, defaultA", 1), `unknown field "spec.binaryAuthorization.clusterAdmissionRules"`},
		{"Policy", strings.Replace(admits, "defaultA", "kubernetesNamespaceAdmissionRules: {}, defaultA", 1), `unknown field "spec.binaryAuthorization.kubernetesNamespaceAdmissionRules"`},
		{"Policy", fmt.Sprintf(platform, "{}"), "a check needs exactly one of"},
		{"Policy", fmt.Sprintf(platform, "{alwaysDeny: false}"), "alwaysDeny"},
		{"Policy", fmt.Sprintf(platform, "{alwaysDeny: true, imageFreshnessCheck: {maxUploadAgeDays: 1}}"), "a check needs exactly one of"},
		{"Policy", "{gkePolicy: {checkSets: []}}", "should have at least 1 items"},
		{"ClusterPolicy", "{gkePolicy: {checkSets: [{scope: {kubernetesNamespace: a, kubernetesServiceAccount: 'a:b'}, checks: [{alwaysDeny: true}]}]}}", "exclude each other"},
		{"Attestor", "{noteReference: n}", "spec.noteReference"},
		{"ClusterAttestor", "{noteReference: projects/p/notes/n, publicKeys: [{}]}", "exactly one of asciiArmoredPgpPublicKey and pkixPublicKey is required"},
		{"ClusterAttestor", "{noteReference: projects/p/notes/n, publicKeys: [{" + pkixKey + ", asciiArmoredPgpPublicKey: x}]}", "exactly one of asciiArmoredPgpPublicKey and pkixPublicKey is required"},
		{"Exemption", "{images: [a], reason: r}", "spec.expires: Required value"},
		{"Exemption", "{images: [a], expires: '2026-12-01T00:00:00Z'}", "spec.reason: Required value"},
		{"Exemption", "{reason: r, expires: '2026-12-01T00:00:00Z'}", "exactly one of images and dryRun is required"},
		{"Exemption", "{images: [a], dryRun: true, reason: r, expires: '2026-12-01T00:00:00Z'}", "exactly one of images and dryRun is required"},
		{"Exemption", "{images: [a], reason: r, expires: tomorrow}", "spec.expires"},
		{"ClusterExemption", "{images: [a], dryRun: true, reason: r}", "exactly one of images and dryRun is required"},
		{"ClusterExemption", "{images: [], reason: r}", "should have at least 1 items"},
		{"Delegation", "{namespaces: ['*']}", "one of exemptions and dryRun is required"},
		{"Delegation", "{namespaces: [], dryRun: {maxDuration: 1h}}", "should have at least 1 items"},
		{"Delegation", "{namespaces: ['*'], dryRun: {maxDuration: 0h}}", "dryRun.maxDuration must be more than nothing"},
		{"Delegation", "{namespaces: ['*'], exemptions: {images: [a], maxDuration: 0s}}", "exemptions.maxDuration must be more than nothing"},
		{"Delegation", "{namespaces: ['*'], dryRun: {maxDuration: long}}", "spec.dryRun.maxDuration"},
		{"RolloutHint", "{noteReference: projects/p/notes/n, resourceUri: u, attestation: {serializedPayload: eA==, signatures: []}}", "should have at least 1 items"},
	}
}

// TestAnAPIServerTakesTheDefinitions, what the documentation shows, and refuses what it
// should.
func TestAnAPIServerTakesTheDefinitions(t *testing.T) {
	t.Parallel()
	cp := controlplane.New(t, controlplane.Options{})
	apply := func(ctx context.Context, text string, more ...string) (string, error) {
		_, stderr, err := cp.Kubectl(ctx, strings.NewReader(text), append([]string{"apply", "-f", "-"}, more...)...)
		return stderr, err
	}
	var names []string
	for _, c := range kubernetes.CRDs() {
		if stderr, err := apply(t.Context(), string(c.Text)); err != nil {
			t.Fatalf("%s: %s", c.File, stderr)
		}
		var d definition
		if err := yaml.Unmarshal(c.Text, &d); err != nil {
			t.Fatal(err)
		}
		names = append(names, "crd/"+d.Metadata.Name)
	}
	if _, stderr, err := cp.Kubectl(t.Context(), nil, append([]string{"wait", "--timeout=60s", "--for=condition=Established"}, names...)...); err != nil {
		t.Fatal(stderr)
	}
	for _, ns := range []string{"shop", "team-pay"} {
		if _, stderr, err := cp.Kubectl(t.Context(), nil, "create", "namespace", ns); err != nil {
			t.Fatal(stderr)
		}
	}
	t.Run("what the documentation shows", func(t *testing.T) {
		if stderr, err := apply(t.Context(), documented(t)); err != nil {
			t.Error(stderr)
		}
		stdout, stderr, err := cp.Kubectl(t.Context(), nil, "get", "gatehouse", "-A")
		if err != nil || !strings.Contains(stdout, "old-billing") || !strings.Contains(stdout, "2026-12-06T12:00:00Z") {
			t.Errorf("kubectl get gatehouse: %s%s", stdout, stderr)
		}
	})
	t.Run("what is refused", func(t *testing.T) {
		for _, c := range refused() {
			stderr, err := apply(t.Context(), object(c[0], c[1]), "--dry-run=server")
			if err == nil || !strings.Contains(stderr, c[2]) {
				t.Errorf("%s %s: %s; want %s", c[0], c[1], stderr, c[2])
			}
		}
	})
	t.Run("kubectl explain", func(t *testing.T) {
		for path, want := range map[string]string{
			"clusterpolicy":               "A pod must be allowed by every policy that is in force where it runs.",
			"exemption.spec.expires":      "When it ends.",
			"delegation.spec.exemptions":  "Each pattern of an Exemption must cover only what one of these does.",
			"rollouthint.spec":            "The note of the signer, projects/P/notes/N.",
			"attestor.spec.publicKeys":    "An OpenPGP key, in ASCII armour.",
			"policies.gatehouse.dev.spec": "What is demanded, in the words of Binary Authorization or of its platform policies.",
		} {
			stdout, stderr, err := cp.Kubectl(t.Context(), nil, "explain", path)
			if flat := strings.Join(strings.Fields(stdout), " "); err != nil || !strings.Contains(flat, want) {
				t.Errorf("%s: %s%s", path, stdout, stderr)
			}
		}
	})
	t.Run("status apart from spec", func(t *testing.T) {
		const patch = `{"status": {"observedGeneration": 1, "usableKeys": 1, "unusableKeys": [{"index": 1, "message": "m"}], "conditions": [{"type": "Ready", "status": "False", "observedGeneration": 1, "lastTransitionTime": "2026-11-30T12:00:00Z", "reason": "KeyUnusable", "message": "m"}]}}`
		if _, stderr, err := cp.Kubectl(t.Context(), nil, "patch", "clusterattestor", "built-by-ci", "--subresource=status", "--type=merge", "-p", patch); err != nil {
			t.Fatal(stderr)
		}
		stdout, stderr, err := cp.Kubectl(t.Context(), nil, "get", "clusterattestor", "built-by-ci", "-o", "wide")
		if err != nil || !strings.Contains(stdout, "False") || !strings.Contains(stdout, "projects/shop/notes/built-by-ci") {
			t.Errorf("%s%s", stdout, stderr)
		}
	})
}
