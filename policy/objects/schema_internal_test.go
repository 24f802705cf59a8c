package objects

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/api/kubernetes"
	"github.com/gatehouse-dev/gatehouse/policy/document"
)

// A schema is what is looked at of an OpenAPI schema.
type schema struct {
	Type       string
	Properties map[string]*schema
	Items      *schema
	Values     *schema `yaml:"additionalProperties"`
	Enum       []any
}

// schemas are those of the specs of Gatehouse's kinds.
func schemas(t *testing.T) map[string]*schema {
	t.Helper()
	all := map[string]*schema{}
	for _, c := range kubernetes.CRDs() {
		var d struct {
			Spec struct {
				Group string
				Names struct{ Kind string }

				Versions []struct {
					Schema struct {
						OpenAPI *schema `yaml:"openAPIV3Schema"`
					}
				}
			}
		}
		if err := yaml.Unmarshal(c.Text, &d); err != nil {
			t.Fatal(err)
		}
		if d.Spec.Group == Group {
			all[d.Spec.Names.Kind] = d.Spec.Versions[0].Schema.OpenAPI.Properties["spec"]
		}
	}
	return all
}

// each calls fn with values of the schema that have one field at every level, for all
// fields there are, and with what the last of them is called.
func each(s *schema, path string, fn func(value any, path string)) {
	switch s.Type {
	case "object":
		if s.Values != nil {
			each(s.Values, path+"{}", func(v any, below string) { fn(map[string]any{keyOf(path): v}, below) })
			return
		}
		fn(map[string]any{}, path)
		for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
			each(s.Properties[name], path+"."+name, func(v any, path string) { fn(map[string]any{name: v}, path) })
		}
	case "array":
		each(s.Items, path+"[]", func(v any, path string) { fn([]any{v}, path) })
	case "boolean":
		fn(true, path)
	case "integer":
		fn(1, path)
	default:
		if len(s.Enum) > 0 {
			fn(s.Enum[0], path)
			return
		}
		fn("x", path)
	}
}

// keyOf is what a key of the map may be.
func keyOf(path string) string {
	switch {
	case strings.HasSuffix(path, ".kubernetesServiceAccountAdmissionRules"):
		return "shop:web"
	case strings.HasSuffix(path, ".istioServiceIdentityAdmissionRules"):
		return "mesh.example/ns/shop/sa/web"
	}
	return "shop"
}

// places puts down which schema each node of a tree is of.
func places(n *yaml.Node, s *schema, path string, at map[*yaml.Node]string, of map[string]*schema) {
	if s == nil {
		return
	}
	at[n], of[path] = path, s
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if s.Values != nil {
				places(n.Content[i+1], s.Values, path+"{}", at, of)
			} else {
				places(n.Content[i+1], s.Properties[n.Content[i].Value], path+"."+n.Content[i].Value, at, of)
			}
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			places(item, s.Items, path+"[]", at, of)
		}
	}
}

// TestSchemaAndParserKnowTheSameFields: what the definitions have is read, and what is
// read stands in them.
func TestSchemaAndParserKnowTheSameFields(t *testing.T) {
	t.Parallel()
	// Those of the dialects that objects do not have: see reader.excluded.
	excluded := []string{"clusterAdmissionRules", "name", "etag", "updateTime"}
	all := schemas(t)
	if len(all) != 8 {
		t.Fatalf("%d kinds", len(all))
	}
	for kind, s := range all {
		read := map[string][]string{}
		of := map[string]*schema{}
		each(s, "spec", func(spec any, path string) {
			raw, err := json.Marshal(map[string]any{"spec": spec})
			if err != nil {
				t.Fatal(err)
			}
			r := document.New("x")
			root := r.Load(raw, MaxObject)
			at := map[*yaml.Node]string{}
			places(document.Peek(root, "spec"), s, "spec", at, of)
			r.OnFields = func(n *yaml.Node, known []string) {
				if path := at[n]; path != "" {
					read[path] = slices.Clone(known)
				}
			}
			namespace := ""
			if k, _ := KindOf(Group+"/"+Version, kind); k.Namespaced {
				namespace = "shop"
			}
			o := &Object{Meta: Meta{Ref: Ref{APIVersion: Group + "/" + Version, Kind: kind, Namespace: namespace, Name: "x"}}}
			o.read(r, root)
			for _, p := range o.Problems {
				if strings.Contains(p.Message, "unknown field") || strings.Contains(p.Message, "use a ClusterPolicy") {
					t.Errorf("%s: %s is in the definition, and not read: %s", kind, path, p.Message)
				}
			}
		})
		for path, s := range of {
			if s.Type != "object" || s.Values != nil || len(s.Properties) == 0 {
				continue
			}
			known := slices.DeleteFunc(read[path], func(f string) bool {
				return path == "spec.binaryAuthorization" && slices.Contains(excluded, f) ||
					kind == KindPolicy && (f == "kubernetesNamespaceAdmissionRules" || f == "kubernetesNamespace")
			})
			slices.Sort(known)
			if has := slices.Sorted(maps.Keys(s.Properties)); !slices.Equal(known, has) {
				t.Errorf("%s: %s has %v in the definition, and %v are read", kind, path, has, known)
			}
		}
	}
}
