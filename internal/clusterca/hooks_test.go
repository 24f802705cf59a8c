package clusterca

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const wantedText = `
- name: a.gatehouse.dev
  clientConfig: {service: {namespace: gatehouse, name: gatehouse, path: /validate}}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]
  sideEffects: None
  admissionReviewVersions: [v1]
- name: b.gatehouse.dev
  clientConfig: {url: "https://gate.example:8443/validate"}
  sideEffects: None
  timeoutSeconds: 7
  admissionReviewVersions: [v1]
`

func TestTheAnnotationIsRead(t *testing.T) {
	t.Parallel()
	wanted, entries, err := readWebhooks(wantedText)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]entry{{"a.gatehouse.dev", "https://gatehouse.gatehouse.svc:443/validate"}, {"b.gatehouse.dev", "https://gate.example:8443/validate"}}, entries, cmp.AllowUnexported(entry{})); d != "" {
		t.Error(d)
	}
	with := withRoots(wanted, []byte("roots"))
	if config := with[1]["clientConfig"].(map[string]any); config["caBundle"] != "cm9vdHM=" {
		t.Errorf("%v", config)
	}
	if config := wanted[1]["clientConfig"].(map[string]any); config["caBundle"] != nil {
		t.Error("what is wanted was changed")
	}
	full := withDefaults(with, Mutate)
	if d := cmp.Diff(full, withDefaults(full, Mutate)); d != "" {
		t.Errorf("defaults of defaults: %s", d)
	}
	if w := full[1]; w["timeoutSeconds"] != float64(7) || w["reinvocationPolicy"] != "Never" || w["failurePolicy"] != "Fail" {
		t.Errorf("%v", w)
	}
	if with[0]["failurePolicy"] != nil {
		t.Error("what is written was changed")
	}
	for name, tc := range map[string]struct{ text, want string }{
		"nothing":        {"", "0 webhooks"},
		"no list":        {"a: b", "cannot unmarshal"},
		"no YAML":        {"x: [", "annotation " + WebhooksAnnotation},
		"with roots":     {strings.Replace(wantedText, "url:", "caBundle: eA==, url:", 1), "no caBundle"},
		"no address":     {"- {name: x, clientConfig: {}}", `webhook "x"`},
		"far too many":   {strings.Repeat("- {}\n", 100), "100 webhooks"},
		"another kind":   {"- {name: [x]}", "cannot unmarshal"},
		"a strange port": {"- {name: x, clientConfig: {service: {port: https}}}", "cannot unmarshal"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, _, err := readWebhooks(tc.text); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q in it", err, tc.want)
			}
		})
	}
}

func FuzzReadWebhooks(f *testing.F) {
	f.Add(wantedText)
	f.Add("- {clientConfig: {url: x}, rules: [1, {}], 1: 2}")
	f.Fuzz(func(t *testing.T, text string) {
		wanted, entries, err := readWebhooks(text)
		if err != nil {
			return
		}
		if len(wanted) != len(entries) {
			t.Errorf("%d webhooks, and %d addresses", len(wanted), len(entries))
		}
		full := withDefaults(withRoots(wanted, []byte("x")), Gate)
		if d := cmp.Diff(full, withDefaults(full, Gate)); d != "" {
			t.Error(d)
		}
	})
}
