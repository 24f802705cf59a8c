package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/api/kubernetes"
	"github.com/gatehouse-dev/gatehouse/gatetest/controlplane"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
	"github.com/gatehouse-dev/gatehouse/policy/kritis"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// auditEverything has the API server log each request of Gatehouse's, so that they can be
// counted.
const auditEverything = `{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [{"level": "Metadata"}]}`

// A managed cluster is one that a controller looks after, with a metadata service and a gate
// of its own that is registered as its webhook.
type managed struct {
	*cluster
	service    *running
	controller Config
	// patience is how long something may take to become as wanted.
	patience time.Duration
}

// newManaged starts all of it but the controller.
func newManaged(t *testing.T) *managed {
	t.Helper()
	if testing.Short() {
		t.Skip("a Kubernetes control plane is not started in short mode")
	}
	audit := write(t, filepath.Join(t.TempDir(), "audit.yaml"), auditEverything)
	m := &managed{service: start(t, testConfig(t, nil)), patience: kubeBound / 2}
	policy := write(t, filepath.Join(t.TempDir(), "policy.yaml"), kubePolicy)
	m.cluster = newCluster(t, controlplane.Options{AdmissionOnly: true, APIServerFlags: []string{"--audit-policy-file=" + audit}},
		gateConfig(t, "http://"+m.service.Metadata, func(c *Config) { c.Admission.PolicyFiles = []string{policy} }))
	m.controller = gateConfig(t, "http://"+m.service.Metadata, func(c *Config) {
		c.Role, c.Controller.Kubeconfig = ControllerRole, m.Kubeconfig()
		c.Controller.Lease.Namespace = "default"
	})
	return m
}

// define serves the kinds.
func (m *managed) define() {
	m.Helper()
	var all []string
	for _, d := range kubernetes.CRDs() {
		all = append(all, string(d.Text))
	}
	m.must(strings.Join(all, "---\n"), "apply", "-f", "-")
	m.must("", "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
}

// run starts the controller, until the test ends.
func (m *managed) control(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		ended <- Run(ctx, m.controller, discard(), func(Addresses) error { close(started); return nil })
	}()
	select {
	case <-started:
	case err := <-ended:
		t.Fatalf("the controller ended: %v", err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("stopping the controller: %v", err)
		}
	})
}

// requests are those of the controller and the gate that the API server has logged after a
// number of them: verb and resource.
func (m *managed) requests(after int) (list []string, next int) {
	m.Helper()
	text, err := os.ReadFile(m.AuditLog())
	if err != nil {
		m.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var event struct {
			Verb, UserAgent string
			ObjectRef       struct{ Resource, Subresource, Namespace, Name string }
		}
		if json.Unmarshal([]byte(line), &event) != nil || !strings.HasPrefix(event.UserAgent, "gatehouse") {
			continue
		}
		if next++; next > after {
			list = append(list, strings.TrimSuffix(event.Verb+" "+event.ObjectRef.Resource+"/"+event.ObjectRef.Subresource, "/"))
		}
	}
	return list, next
}

// written are the requests of the controller that write, but for its lease.
func (m *managed) written(after int) (list []string, next int) {
	all, next := m.requests(after)
	return slices.DeleteFunc(all, func(r string) bool {
		return strings.HasPrefix(r, "get ") || strings.HasPrefix(r, "list ") || strings.HasPrefix(r, "watch ") || strings.HasSuffix(r, " leases")
	}), next
}

// look reads an object, or a list, of the API server: in much less time than kubectl starts.
func (m *managed) look(path string, into any) {
	m.Helper()
	code, text, err := m.Do(m.Context(), http.MethodGet, path, nil)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("%d %s", code, text)
	}
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		m.Fatalf("reading %s: %v", path, err)
	}
}

// statusOf is what the controller has written on an object: its conditions, STATUS REASON by
// type, and the rest.
func (m *managed) statusOf(kind, namespace, name string) (conditions map[string]string, rest map[string]any) {
	m.Helper()
	var object struct {
		Status map[string]any `json:"status"`
	}
	m.look("/apis/kritis.grafeas.io/v1beta1/namespaces/"+namespace+"/"+kind+"/"+name, &object)
	conditions = map[string]string{}
	list, _ := object.Status["conditions"].([]any)
	for _, c := range list {
		c := c.(map[string]any)
		conditions[fmt.Sprint(c["type"])] = strings.TrimSpace(fmt.Sprint(c["status"], " ", c["reason"], " ", c["message"]))
	}
	rest = maps.Clone(object.Status)
	delete(rest, "conditions")
	return conditions, rest
}

// marksOf are the labels and annotations of Kritis that a pod has.
func (m *managed) marksOf(namespace, name string) map[string]string {
	m.Helper()
	var pod struct {
		Metadata struct{ Labels, Annotations map[string]string }
	}
	m.look("/api/v1/namespaces/"+namespace+"/pods/"+name, &pod)
	marks := map[string]string{}
	for what, of := range map[string]map[string]string{"label ": pod.Metadata.Labels, "annotation ": pod.Metadata.Annotations} {
		for key, value := range of {
			if short, ours := strings.CutPrefix(key, "kritis.grafeas.io/"); ours {
				marks[what+short] = value
			}
		}
	}
	return marks
}

// becomes waits until something is as wanted, and shows the difference if it does not.
func becomes[T any](m *managed, what string, want T, get func() T) {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), m.patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		d := cmp.Diff(want, get())
		if d == "" {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			m.Errorf("%s (-want +got):\n%s", what, d)
			return
		}
	}
}

// scanned files that an image was scanned, and what was found: severities by CVE.
func (m *managed) scanned(ref string, found map[string]string) {
	m.Helper()
	api := m.service.api()
	code, _, text := api.do("", http.MethodPost, "/v1/projects/kritis/notes?noteId=scanner", `{"discovery":{"analysisKind":"VULNERABILITY"}}`)
	if code != http.StatusOK && code != http.StatusConflict {
		m.Fatal(text)
	}
	for cve, severity := range found {
		code, _, text := api.do("", http.MethodPost, "/v1/projects/kritis/notes?noteId="+cve, `{"vulnerability":{"severity":"`+severity+`","details":[{"affectedCpeUri":"cpe:/o:x:y:1","affectedPackage":"p","affectedVersionStart":{"kind":"MINIMUM"}}]}}`)
		if code != http.StatusOK && code != http.StatusConflict {
			m.Fatal(text)
		}
		api.expect("", http.MethodPost, "/v1/projects/kritis/occurrences", `{"resourceUri":"https://`+ref+`","noteName":"projects/kritis/notes/`+cve+`","vulnerability":{"effectiveSeverity":"`+severity+
			`","packageIssue":[{"affectedCpeUri":"cpe:/o:x:y:1","affectedPackage":"p","affectedVersion":{"kind":"NORMAL","name":"1"},"fixedCpeUri":"cpe:/o:x:y:1","fixedPackage":"p","fixedVersion":{"kind":"NORMAL","name":"2"}}]}}`, 200)
	}
	api.expect("", http.MethodPost, "/v1/projects/kritis/occurrences", `{"resourceUri":"https://`+ref+`","noteName":"projects/kritis/notes/scanner","discovery":{"analysisStatus":"FINISHED_SUCCESS"}}`, 200)
}

// TestKritisInACluster is all that needs an API server, on one.
func TestKritisInACluster(t *testing.T) {
	t.Parallel()
	m := newManaged(t)
	m.define()
	if !t.Run("objects of both dialects survive the API server whole and mean the same", m.dialects) {
		return
	}
	t.Run("what Kritis misread in silence is refused", m.misread)
	t.Run("objects are written as the client says", m.writes)
	m.control(t)
	t.Run("objects are filed and told what became of them", m.filed)
	t.Run("pods are marked", m.marked)
}

// writes are what internal/kube does to objects, by a real server.
func (m *managed) writes(t *testing.T) {
	client, err := kube.Open(kube.Options{Kubeconfig: m.Kubeconfig()})
	if err != nil {
		t.Fatal(err)
	}
	type configMap struct {
		APIVersion string            `json:"apiVersion"`
		Kind       string            `json:"kind"`
		Metadata   map[string]any    `json:"metadata"`
		Data       map[string]string `json:"data,omitempty"`
	}
	ctx, all := t.Context(), kube.Resource{Version: "v1", Name: "configmaps", Namespace: "shop"}
	with := func(meta map[string]any, data map[string]string) configMap {
		meta["name"] = "c"
		return configMap{"v1", "ConfigMap", meta, data}
	}
	var now configMap
	same := func(what string, err error, want map[string]string) {
		t.Helper()
		if d := cmp.Diff(want, now.Data, cmpopts.EquateEmpty()); err != nil || d != "" {
			t.Errorf("%s: %v %s", what, err, d)
		}
		now.Data = nil
	}
	same("created", client.Create(ctx, with(map[string]any{}, map[string]string{"a": "1"}), &now, all.Path()...), map[string]string{"a": "1"})
	first := now.Metadata["resourceVersion"]
	if err := client.Create(ctx, with(map[string]any{}, nil), nil, all.Path()...); !kube.Conflict(err) {
		t.Errorf("created again: %v", err)
	}
	same("merged", client.Merge(ctx, map[string]any{"data": map[string]any{"a": nil, "b": "2"}}, &now, all.Path("c")...), map[string]string{"b": "2"})
	if err := client.Update(ctx, with(map[string]any{"resourceVersion": first}, nil), nil, all.Path("c")...); !kube.Conflict(err) {
		t.Errorf("a version was replaced that is not there any more: %v", err)
	}
	same("applied", client.Apply(ctx, "one", false, with(map[string]any{}, map[string]string{"x": "1", "y": "1"}), &now, all.Path("c")...), map[string]string{"b": "2", "x": "1", "y": "1"})
	if err := client.Apply(ctx, "two", false, with(map[string]any{}, map[string]string{"x": "2"}), nil, all.Path("c")...); !kube.Conflict(err) {
		t.Errorf("what is another manager's was taken without force: %v", err)
	}
	same("applied by force", client.Apply(ctx, "two", true, with(map[string]any{}, map[string]string{"x": "2"}), &now, all.Path("c")...), map[string]string{"b": "2", "x": "2", "y": "1"})
	same("applied with less", client.Apply(ctx, "one", false, with(map[string]any{}, nil), &now, all.Path("c")...), map[string]string{"b": "2", "x": "2"})
	if err := client.Delete(ctx, all.Path("c")...); err != nil {
		t.Error(err)
	}
	if err := client.Delete(ctx, all.Path("c")...); !kube.NotFound(err) {
		t.Errorf("deleted again: %v", err)
	}
}

// samples are objects as people wrote them for Kritis, of the dialects of its last version,
// of v0.2.x, of before June 2019, and as Kritis itself writes them.
func samples(t *testing.T) map[string]string {
	t.Helper()
	armor := pgpKey(t)
	return map[string]string{
		"ImageSecurityPolicy": `
apiVersion: kritis.grafeas.io/v1beta1
kind: ImageSecurityPolicy
metadata: {name: shop-isp, namespace: dialects}
spec:
  imageAllowlist: ["registry.example.com/shop/debug:v1"]
  attestationAuthorityName: shop-scan
  privateKeySecretName: shop-scan-key
  packageVulnerabilityRequirements:
    maximumSeverity: MEDIUM
    maximumFixUnavailableSeverity: HIGH
    allowlistCVEs: ["projects/goog-vulnz/notes/CVE-2021-0001"]
`,
		"ImageSecurityPolicy of v0.2.x": `
apiVersion: kritis.grafeas.io/v1beta1
kind: ImageSecurityPolicy
metadata: {name: former-isp, namespace: dialects}
spec:
  imageWhitelist: ["gcr.io/a/b@sha256:` + strings.Repeat("a", 64) + `"]
  attestationAuthorityNames: [one, two]
  packageVulnerabilityRequirements:
    maximumSeverity: SEVERITY_UNSPECIFIED
    maximumFixNotAvailableSeverity: ALLOW_ALL
    whitelistCVEs: ["providers/goog-vulnz/notes/CVE-2017-1000082", "CVE-1"]
`,
		"ImageSecurityPolicy with lists that are empty": `
apiVersion: kritis.grafeas.io/v1beta1
kind: ImageSecurityPolicy
metadata: {name: bare-isp, namespace: dialects}
spec:
  imageAllowlist:
  packageVulnerabilityRequirements: {maximumSeverity: "", allowlistCVEs: }
`,
		"GenericAttestationPolicy": `
apiVersion: kritis.grafeas.io/v1beta1
kind: GenericAttestationPolicy
metadata: {name: shop-gap, namespace: dialects}
spec:
  attestationAuthorityNames: [ci-built, qa-passed]
  admissionAllowlistPatterns: [{namePattern: "registry.example.com/sidecars/*"}]
`,
		"AttestationAuthority": `
apiVersion: kritis.grafeas.io/v1beta1
kind: AttestationAuthority
metadata: {name: ci-built, namespace: dialects}
spec:
  noteReference: projects/shop-meta/notes/ci-built
  publicKeys:
  - keyType: PGP
    keyId: 0123456789ABCDEF0123456789ABCDEF01234567
    asciiArmoredPgpPublicKey: ` + armor + `
    pkixPublicKey: {publicKeyPem: "", signatureAlgorithm: ""}
`,
		"AttestationAuthority as Kritis writes it": `
apiVersion: kritis.grafeas.io/v1beta1
kind: AttestationAuthority
metadata: {name: qa-passed, namespace: dialects}
spec:
  noteReference: v1alpha1/projects/shop-meta
  publicKeys: [{KeyType: PGP, asciiArmoredPgpPublicKey: ` + armor + `}]
`,
		"AttestationAuthority of v0.2.x": `
apiVersion: kritis.grafeas.io/v1beta1
kind: AttestationAuthority
metadata: {name: one, namespace: dialects}
spec:
  noteReference: projects/shop-meta
  privateKeySecretName: foo
  publicKeyData: ` + armor + `
  policyType: attestation
`,
		"BuildPolicy": `
apiVersion: kritis.grafeas.io/v1beta1
kind: BuildPolicy
metadata: {name: from-main, namespace: dialects}
spec:
  attestationAuthorityName: ci-built
  privateKeySecretName: ci-built-key
  buildRequirements: {builtFrom: '^https://source\.developers\.google\.com/p/shop/r/web:main$'}
`,
		"BuildPolicy as Kritis writes it": `
apiVersion: kritis.grafeas.io/v1beta1
kind: BuildPolicy
metadata: {name: upper, namespace: dialects}
spec:
  AttestationAuthorityName: ci-built
  PrivateKeySecretName: ci-built-key
  BuildRequirements: {BuiltFrom: '^https://source$'}
`,
		"KritisConfig": `
apiVersion: kritis.grafeas.io/v1beta1
kind: KritisConfig
metadata: {name: cluster}
spec: {metadataBackend: grafeas, cronInterval: 30m, serverAddr: ":8443", grafeas: {addr: "grafeas-server:443"}}
`,
	}
}

// pgpKey is a public key as an AttestationAuthority has it.
func pgpKey(t *testing.T) string {
	t.Helper()
	private, err := signature.GeneratePGP("test", time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.ParsePGPSigner(private, nil)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString([]byte(s.PublicKey().Marshal()))
}

// dialects are B12: the schemas of Kritis dropped what policies said.
func (m *managed) dialects(t *testing.T) {
	m.must("", "create", "namespace", "dialects")
	for name, text := range samples(t) {
		var written struct {
			Kind     string
			Metadata struct{ Name string }
			Spec     any
		}
		if err := yaml.Unmarshal([]byte(text), &written); err != nil {
			t.Fatal(err)
		}
		m.must(text, "apply", "-f", "-")
		back := m.must("", "get", written.Kind, "-n", "dialects", written.Metadata.Name, "-o", "json")
		var read struct{ Spec any }
		if err := yaml.Unmarshal([]byte(back), &read); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(withoutNulls(written.Spec), withoutNulls(read.Spec)); d != "" {
			t.Errorf("%s is not what it was (-want +got):\n%s", name, d)
		}
		before, _ := kritis.Parse("sample", []byte(text))
		after, found := kritis.Parse("sample", []byte(back))
		if before == nil || after == nil {
			t.Errorf("%s cannot be read: %v", name, found)
			continue
		}
		if before, after := compiled(before), compiled(after); before != after {
			t.Errorf("%s means something else: %s, and was %s", name, after, before)
		}
		if d := cmp.Diff(before, after, cmpopts.IgnoreFields(kritis.Meta{}, "Line"), cmpopts.IgnoreFields(kritis.Entry{}, "Line"), cmpopts.IgnoreFields(kritis.Threshold{}, "Line"),
			cmpopts.IgnoreFields(kritis.Pattern{}, "Line"), cmpopts.IgnoreFields(kritis.AttestationAuthority{}, "NoteLine"),
			cmp.Comparer(func(a, b *signature.PublicKey) bool { return a.Fingerprint() == b.Fingerprint() }),
			cmp.Comparer(func(a, b image.Pattern) bool { return a.String() == b.String() }),
			cmp.Transformer("text", func(p kritis.BuildPolicy) string { return p.Authority.Text + p.Source.String() })); d != "" {
			t.Errorf("%s says something else (-want +got):\n%s", name, d)
		}
	}
}

// withoutNulls drops what kubectl does not send, and Kritis took for nothing.
func withoutNulls(value any) any {
	if fields, ok := value.(map[string]any); ok {
		maps.DeleteFunc(fields, func(_ string, v any) bool { return v == nil })
		for name, v := range fields {
			fields[name] = withoutNulls(v)
		}
	}
	return value
}

// compiled tells what rulesets demand.
func compiled(o *kritis.Objects) string {
	rules, _ := o.Compile(kritis.Options{})
	return rules.Version
}

func (m *managed) misread(t *testing.T) {
	object := func(kind, spec string) string {
		return "apiVersion: kritis.grafeas.io/v1beta1\nkind: " + kind + "\nmetadata: {name: wrong, namespace: dialects}\nspec: " + spec + "\n"
	}
	for name, tc := range map[string]struct{ text, want string }{
		"the block of the documentation":      {object("ImageSecurityPolicy", "{packageVulnerabilityPolicy: {maximumSeverity: LOW}}"), "packageVulnerabilityRequirements"},
		"a severity in lower case":            {object("ImageSecurityPolicy", "{packageVulnerabilityRequirements: {maximumSeverity: low}}"), "Unsupported value"},
		"two spellings of a limit":            {object("ImageSecurityPolicy", "{packageVulnerabilityRequirements: {maximumFixNotAvailableSeverity: LOW, maximumFixUnavailableSeverity: LOW}}"), "give one of them"},
		"authorities of both dialects":        {object("ImageSecurityPolicy", "{attestationAuthorityName: a, attestationAuthorityNames: [b]}"), "give one of them"},
		"a misspelt field":                    {object("ImageSecurityPolicy", "{imageAllowList: [a]}"), "unknown field"},
		"an empty pattern":                    {object("GenericAttestationPolicy", "{admissionAllowlistPatterns: [{namePattern: \"\"}]}"), "namePattern"},
		"a note without a project":            {object("AttestationAuthority", "{noteReference: ci}"), "noteReference"},
		"no note":                             {object("AttestationAuthority", "{publicKeys: []}"), "noteReference"},
		"a key of no type":                    {object("AttestationAuthority", "{noteReference: projects/p/notes/n, publicKeys: [{asciiArmoredPgpPublicKey: x}]}"), "keyType"},
		"a key of an unknown type":            {object("AttestationAuthority", "{noteReference: projects/p/notes/n, publicKeys: [{keyType: pgp, asciiArmoredPgpPublicKey: x}]}"), "Unsupported value"},
		"a PKIX key with armour":              {object("AttestationAuthority", "{noteReference: projects/p/notes/n, publicKeys: [{keyType: PKIX, asciiArmoredPgpPublicKey: x}]}"), "pkixPublicKey"},
		"keys of both dialects":               {object("AttestationAuthority", "{noteReference: projects/p/notes/n, publicKeyData: x, publicKeys: []}"), "give one of them"},
		"a build policy without an authority": {object("BuildPolicy", "{privateKeySecretName: x}"), "attestationAuthorityName"},
		"a config without an address":         {object("KritisConfig", "{metadataBackend: grafeas}"), "needs grafeas.addr"},
		"an interval that is none":            {object("KritisConfig", "{cronInterval: hourly}"), "duration"},
		"an interval of nothing":              {object("KritisConfig", "{cronInterval: 0s}"), "duration"},
	} {
		if ok, said := m.run(tc.text, "apply", "-f", "-"); ok || !strings.Contains(said, tc.want) {
			t.Errorf("%s: applied %v: %s", name, ok, said)
		}
	}
}

// shopObjects are an authority with one key of two that can be used, and policies.
func shopObjects(armor string) string {
	return `
apiVersion: kritis.grafeas.io/v1beta1
kind: AttestationAuthority
metadata: {name: ci, namespace: shop}
spec:
  noteReference: projects/shop-meta/notes/ci
  publicKeys:
  - {keyType: PGP, asciiArmoredPgpPublicKey: ` + armor + `}
  - {keyType: PGP, keyId: broken, asciiArmoredPgpPublicKey: "Cg=="}
---
apiVersion: kritis.grafeas.io/v1beta1
kind: ImageSecurityPolicy
metadata: {name: isp, namespace: shop}
spec:
  attestationAuthorityName: ci
  imageAllowlist: ["registry.test/debug:v1"]
  packageVulnerabilityRequirements: {maximumSeverity: MEDIUM}
---
apiVersion: kritis.grafeas.io/v1beta1
kind: GenericAttestationPolicy
metadata: {name: gap, namespace: shop}
spec: {attestationAuthorityNames: [ci]}
`
}

func (m *managed) filed(t *testing.T) {
	m.must(shopObjects(pgpKey(t)), "apply", "-f", "-")
	inForce := map[string]string{"Accepted": "True Valid", "InForce": "True GatesDecideByIt", "Degraded": "False AllOfItCounts", "Ready": "True GatesDecideByIt"}
	conditions := func(kind, name string) func() map[string]string {
		return func() map[string]string { c, _ := m.statusOf(kind, "shop", name); return c }
	}
	becomes(m, "the policy is in force", inForce, conditions("imagesecuritypolicies", "isp"))
	becomes(m, "an authority with a key that cannot be used", "True KeyUnusable", func() string {
		c, _ := m.statusOf("attestationauthorities", "shop", "ci")
		return strings.Join(strings.Fields(c["Degraded"])[:min(2, len(strings.Fields(c["Degraded"])))], " ")
	})
	_, rest := m.statusOf("attestationauthorities", "shop", "ci")
	keys, _ := rest["unusableKeys"].([]any)
	if rest["usableKeys"] != 1.0 || len(keys) != 1 || keys[0].(map[string]any)["index"] != 1.0 || rest["observedGeneration"] != 1.0 {
		t.Errorf("the authority says %v", rest)
	}
	if text := m.service.api().expect("", http.MethodGet, "/v1/projects/default/clusterObjects?pageSize=1000", "", 200); strings.Count(text, `"kind":"ImageSecurityPolicy"`) != 4 || strings.Contains(text, "usableKeys") {
		t.Errorf("filed are %s", text)
	}

	// A version that cannot be understood is told on itself, and the one before it stays.
	generation := m.must("", "get", "isp", "-n", "shop", "isp", "-o", "jsonpath={.metadata.generation}")
	m.must("", "patch", "isp", "-n", "shop", "isp", "--type=merge", "-p", `{"spec":{"attestationAuthorityName":"Not_A_Name"}}`)
	becomes(m, "a broken version", []string{"False Invalid", "False HeldBack the version before it stays in force"}, func() []string {
		c, _ := m.statusOf("imagesecuritypolicies", "shop", "isp")
		return []string{strings.Join(strings.Fields(c["Accepted"])[:2], " "), c["InForce"]}
	})
	becomes(m, "its neighbour", inForce, conditions("genericattestationpolicies", "gap"))
	text := m.service.api().expect("", http.MethodGet, "/v1/projects/default/clusterObjects?pageSize=1000", "", 200)
	if strings.Contains(text, "Not_A_Name") || generation != "1" {
		t.Errorf("a broken version was filed over a good one: %s", text)
	}
	m.must("", "patch", "isp", "-n", "shop", "isp", "--type=merge", "-p", `{"spec":{"attestationAuthorityName":"ci"}}`)
	becomes(m, "the policy is mended", inForce, conditions("imagesecuritypolicies", "isp"))

	// What is deleted is taken away.
	m.must("", "delete", "namespace", "dialects", "--wait=false")
	m.must("", "delete", "isp,gap,aa,buildpolicies", "--all", "-n", "dialects")
	becomes(m, "what is gone is taken away", 1, func() int {
		return strings.Count(m.service.api().expect("", http.MethodGet, "/v1/projects/default/clusterObjects?pageSize=1000", "", 200), `"kind":"ImageSecurityPolicy"`)
	})
}

// pinned is an image of the registry by its digest.
func pinned(name string) string {
	return "registry.test/" + name + "@" + image.DigestOf([]byte(name)).String()
}

func (m *managed) marked(t *testing.T) {
	const unattested = "No valid attestations present. This pod will not be able to restart in future"
	bare := map[string]string{"label attestation": "notAttested", "annotation attestation": unattested}
	violating := func(text string) map[string]string {
		all := maps.Clone(bare)
		all["label invalidImageSecPolicy"], all["annotation invalidImageSecPolicy"] = "invalidImageSecPolicy", text
		return all
	}
	m.must("", "create", "namespace", "other")
	m.scanned(pinned("clean"), nil)
	m.scanned(pinned("bad"), map[string]string{"CVE-1": "HIGH", "CVE-2": "CRITICAL", "CVE-3": "LOW"})
	pods := map[string]string{"clean": pinned("clean"), "bad": pinned("bad"), "unscanned": pinned("unscanned"), "tag": "registry.test/web:1", "allowed": "registry.test/debug:v1"}
	for name, ref := range pods {
		m.must(podOf(name, ref, "", ""), "create", "-f", "-")
	}
	// Another namespace has a policy that no image satisfies: B9.
	m.must(strings.NewReplacer("namespace: shop", "namespace: other", "maximumSeverity: MEDIUM", "maximumSeverity: BLOCK_ALL").Replace(shopObjects(pgpKey(t))), "apply", "-f", "-")
	m.must(strings.Replace(podOf("free", pinned("bad"), "", ""), "namespace: shop", "namespace: open", 1), "create", "-f", "-")

	const unqualified = "found 1 CVEs, registry.test/web:1 is not a fully qualified image. You can run 'kubectl plugin resolve-tags' to qualify all images with a digest."
	want := map[string]map[string]string{
		"clean": bare, "bad": violating("found 2 CVEs"), "tag": violating(unqualified), "allowed": bare,
		"unscanned": violating("found 0 CVEs, " + pinned("unscanned") + " has no finished vulnerability scan"),
	}
	all := func() map[string]map[string]string {
		got := map[string]map[string]string{}
		for name := range pods {
			got[name] = m.marksOf("shop", name)
		}
		return got
	}
	becomes(m, "the marks of pods", want, all)
	if marks := m.marksOf("open", "free"); len(marks) > 0 {
		t.Errorf("a pod of a namespace without policies: %v", marks)
	}
	becomes(m, "how many images satisfy the policy", map[string]any{"total": 5.0, "satisfied": 2.0}, func() map[string]any {
		_, rest := m.statusOf("imagesecuritypolicies", "shop", "isp")
		images, _ := rest["images"].(map[string]any)
		return images
	})

	for kind, name := range map[string]string{"imagesecuritypolicies": "isp", "genericattestationpolicies": "gap", "attestationauthorities": "ci"} {
		becomes(m, "the other namespace's "+name+" is in force", "True GatesDecideByIt", func() string { c, _ := m.statusOf(kind, "other", name); return c["InForce"] })
	}
	t.Run("and nothing is written again", func(t *testing.T) {
		_, before := m.written(0)
		for range 3 { // each has the controller look again
			m.scanned(pinned("nobody has this"), nil)
			m.must(podOf("more", pinned("clean"), "", ""), "create", "-f", "-")
			becomes(m, "another pod", bare, func() map[string]string { return m.marksOf("shop", "more") })
			m.must("", "delete", "pod", "-n", "shop", "more", "--force", "--grace-period=0")
		}
		if list, _ := m.written(before); !slices.Equal(list, []string{"patch pods", "patch pods", "patch pods"}) {
			t.Errorf("written were %q, want the three new pods", list)
		}
		if d := cmp.Diff(want, all()); d != "" {
			t.Error(d)
		}
	})
	t.Run("a mark that is wrong any more goes", func(t *testing.T) {
		m.scanned(pinned("unscanned"), nil)
		becomes(m, "the image was scanned", bare, func() map[string]string { return m.marksOf("shop", "unscanned") })
		m.must("", "label", "pod", "-n", "shop", "clean", "kritis.grafeas.io/attestation-", "kritis.grafeas.io/invalidImageSecPolicy=invalidImageSecPolicy")
		becomes(m, "somebody else changed the labels", bare, func() map[string]string { return m.marksOf("shop", "clean") })
	})
	t.Run("the gate's own webhook lets it be written", func(t *testing.T) {
		m.register()
		m.denied(podOf("denied", pinned("bad"), "", ""), "create", "-f", "-") // kubePolicy demands attestations
		m.must("", "patch", "isp", "-n", "shop", "isp", "--type=merge", "-p", `{"spec":{"packageVulnerabilityRequirements":{"maximumSeverity":"BLOCK_ALL"}}}`)
		becomes(m, "a stricter policy", violating("found 3 CVEs"), func() map[string]string { return m.marksOf("shop", "bad") })
	})
	t.Run("admissions and pods cost the API server no reads", m.uncounted)
	t.Run("one pass, and its exit", m.once)
	t.Run("without the policy nothing is left", func(t *testing.T) {
		m.must("", "delete", "isp", "-n", "shop", "isp")
		becomes(m, "the marks of a namespace without an ImageSecurityPolicy", map[string]string{}, func() map[string]string { return m.marksOf("shop", "bad") })
	})
}

// uncounted are B25: neither an admission nor a pod has the API server read.
func (m *managed) uncounted(t *testing.T) {
	const n = 20
	_, before := m.requests(0)
	create := func(namespace, name, image string) int {
		t.Helper()
		code, _, err := m.Do(t.Context(), http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods", map[string]any{
			"metadata": map[string]string{"name": name}, "spec": map[string]any{"containers": []map[string]string{{"name": "main", "image": image}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	for i := range n {
		if code := create("open", fmt.Sprint("many-", i), pinned("clean")); code != http.StatusCreated {
			t.Fatalf("a pod that is let in: %d", code)
		}
		if code := create("shop", "no", pinned("bad")); code != http.StatusForbidden {
			t.Fatalf("the gate is not asked: %d", code)
		}
	}
	list, _ := m.requests(before)
	for _, r := range list {
		if !strings.HasSuffix(r, " leases") && !strings.HasPrefix(r, "patch ") {
			t.Errorf("asked for %q", r)
		}
	}
}

// once is gatehouse controller --run-cron.
func (m *managed) once(t *testing.T) {
	cfg := m.controller
	cfg.Data, cfg.Admission.Feed.Gate = filepath.Join(t.TempDir(), "once"), "once"
	r, err := RunOnce(t.Context(), cfg, discard())
	if err != nil || r.Policies < 3 || r.Pods != 5 || r.Violating != 2 || r.Unknown != 0 || r.Written != 0 {
		t.Errorf("the pass: %+v, %v", r, err)
	}
	cfg.Controller.Kubeconfig = write(t, filepath.Join(t.TempDir(), "kubeconfig"), "{}")
	if _, err := RunOnce(t.Context(), cfg, discard()); err == nil {
		t.Error("no cluster, and no error")
	}
}
