package install

import "testing"

// FuzzRender: whatever values are given, they are refused or give objects of kinds that are
// known, each with a name.
func FuzzRender(f *testing.F) {
	for _, seed := range []string{"{}", "gate: {replicas: 5}", "mutate: {enabled: true}", "certificates: {provider: cert-manager}", "breakGlass: {modes: [rbac]}", "gate: null", "server: {replicas: 2}", "a: &a [*a]", "webhook: {customRules: [{}]}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		values, err := ParseValues([]byte(text))
		if err != nil {
			return
		}
		objects, err := Render(Options{Name: "g", Namespace: "n", Values: values})
		if err != nil {
			return
		}
		for _, o := range objects {
			if _, err := kindOfObject(o); err != nil || o.Name() == "" {
				t.Errorf("%s: %v", o, err)
			}
		}
	})
}
