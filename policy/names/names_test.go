package names_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/names"
)

func TestNames(t *testing.T) {
	t.Parallel()
	project := func(name string) bool { return names.CheckProject(name) == nil }
	attestor := func(name string) bool { return names.CheckResource(name, "projects", "attestors") == nil }
	for what, test := range map[string]struct {
		is      func(string) bool
		yes, no []string
	}{
		"project":  {project, []string{"projects/p", "projects/example.com:p", "projects/p-1"}, []string{"", "p", "projects/", "projects/1", "projects/a/b", "projects/..", "projects/a b", "Projects/p"}},
		"resource": {attestor, []string{"projects/p/attestors/a", "projects/1/attestors/A_b"}, []string{"", "a", "projects/p/notes/a", "projects/p/attestors/", "projects//attestors/a", "projects/p/attestors/a/b", "projects/../attestors/a"}},
		"policy":   {names.IsPolicy, []string{"projects/p/policy", "locations/global/policy"}, []string{"", "policy", "projects/p/policies", "folders/p/policy", "projects//policy"}},
		"number":   {names.IsNumber, []string{"0", "123"}, []string{"", "1a", "-1"}},
		"label":    {names.IsLabel, []string{"a", "a-1", strings.Repeat("a", 63)}, []string{"", "-a", "a-", "A", "a.b", strings.Repeat("a", 64)}},
		"registry": {names.IsSharedRegistry, []string{"gcr.io", "us-docker.pkg.dev", "docker.io"}, []string{"", "registry.example", "gcr.io.example"}},
		"forge":    {names.IsSharedForge, []string{"github.com"}, []string{"", "git.example"}},
	} {
		for _, s := range test.yes {
			if !test.is(s) {
				t.Errorf("%q is no %s", s, what)
			}
		}
		for _, s := range test.no {
			if test.is(s) {
				t.Errorf("%q is a %s", s, what)
			}
		}
	}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	for text, test := range map[string]struct {
		parse func(string) (policy.Scope, error)
		want  policy.Scope
	}{
		"us-east1-b.prod":       {names.ClusterScope, policy.Scope{Cluster: "us-east1-b.prod"}},
		"prod":                  {names.ClusterScope, policy.Scope{}},
		"shop":                  {names.NamespaceScope, policy.Scope{Namespace: "shop"}},
		"a.b":                   {names.NamespaceScope, policy.Scope{Namespace: "a.b"}},
		"Shop":                  {names.NamespaceScope, policy.Scope{}},
		"shop:web.v1":           {names.AccountScope, policy.Scope{ServiceAccount: "shop:web.v1"}},
		"shop:":                 {names.AccountScope, policy.Scope{}},
		"spiffe://d/ns/n/sa/s":  {names.IstioScope, policy.Scope{IstioIdentity: "d/ns/n/sa/s"}},
		"d/ns/n/sa/s":           {names.IstioScope, policy.Scope{IstioIdentity: "d/ns/n/sa/s"}},
		"https://d/ns/n/sa/s":   {names.IstioScope, policy.Scope{}},
		"spiffe://d/ns/n/sa/s/": {names.IstioScope, policy.Scope{}},
	} {
		if got, err := test.parse(text); got != test.want || (err == nil) != (test.want != policy.Scope{}) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}
