package resource_test

import (
	"testing"

	"github.com/gatehouse-dev/gatehouse/admission/resource"
)

func TestKindsOfAResource(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		resource, kind, group, name string
		want                        bool
	}{
		{"pipelines", "", "example.com", "Pipeline", true},
		{"pipelines", "", "example.com", "Pipelines", true},
		{"pipelines", "", "example.org", "Pipeline", false},
		{"pipelines", "", "", "Pipeline", false},
		{"pipelines", "", "example.com", "", false},
		{"proxies", "", "example.com", "Proxy", true},
		{"gateways", "", "example.com", "Gateway", true},
		{"ingresses", "", "example.com", "Ingress", true},
		{"oxen", "", "example.com", "Ox", false},
		{"oxen", "Ox", "example.com", "Ox", true},
		{"oxen", "Ox", "example.com", "ox", false},
		{"pipelines", "Flow", "example.com", "Pipeline", false},
	} {
		r := resource.Resource{Group: "example.com", Resource: row.resource, Kind: row.kind}
		if got := r.IsKind(row.group, row.name); got != row.want {
			t.Errorf("%s %q in %s is of %s: %v", row.kind, row.name, row.group, row.resource, got)
		}
	}
}
