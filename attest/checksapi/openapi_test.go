package checksapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/attest"
)

// schema is the part of JSON Schema that the document uses.
type schema struct {
	Ref             string             `json:"$ref"`
	Type            string             `json:"type"`
	Format          string             `json:"format"`
	Enum            []string           `json:"enum"`
	ContentEncoding string             `json:"contentEncoding"`
	Items           *schema            `json:"items"`
	Required        []string           `json:"required"`
	Properties      map[string]*schema `json:"properties"`
	Additional      *bool              `json:"additionalProperties"`
	Description     string             `json:"description"`
}

type mediaType struct {
	Schema schema `json:"schema"`
}

type operation struct {
	OperationID string `json:"operationId"`
	RequestBody struct {
		Content map[string]mediaType `json:"content"`
	} `json:"requestBody"`
	Responses map[string]struct {
		Content map[string]mediaType `json:"content"`
	} `json:"responses"`
}

type document struct {
	OpenAPI    string                          `json:"openapi"`
	Paths      map[string]map[string]operation `json:"paths"`
	Components struct {
		Schemas map[string]*schema `json:"schemas"`
	} `json:"components"`
}

func readDocument(t *testing.T) document {
	t.Helper()
	var d document
	if err := json.Unmarshal(openAPI, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTheDocumentHasTheRoutesThatThereAre(t *testing.T) {
	t.Parallel()
	var documented []string
	for path, operations := range readDocument(t).Paths {
		for method := range operations {
			documented = append(documented, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(documented)
	if diff := cmp.Diff(slices.Sorted(maps.Keys((&Handler{}).routes())), documented); diff != "" {
		t.Errorf("routes (-code +document):\n%s", diff)
	}
}

// types are those of the schemas.
var types = map[string]any{
	"CheckRequest": checkRequest{}, "VerificationRequest": verificationRequest{}, "Run": runView{}, "Report": attest.Report{}, "Platform": attest.Platform{},
	"CheckReport": attest.CheckReport{}, "PlatformReport": attest.PlatformReport{}, "Evidence": attest.Evidence{}, "Attestation": attest.Attestation{},
	"Verification": verification{}, "Verified": verified{}, "Catalog": catalog{}, "CatalogCheck": catalogCheck{}, "CatalogGroup": catalogGroup{},
	"Event": attest.Event{}, "Problem": problem{},
}

// enums are the values of the types that have some.
var enums = map[string][]string{
	reflect.TypeFor[attest.Verdict]().Name():   {"PASS", "FAIL", "ERROR"},
	reflect.TypeFor[attest.EventType]().Name(): {"platforms", "started", "checked", "attested", "done"},
	reflect.TypeFor[runState]().Name():         {"RUNNING", "DONE", "FAILED"},
}

func TestTheSchemasAreTheTypes(t *testing.T) {
	t.Parallel()
	schemas := readDocument(t).Components.Schemas
	if diff := cmp.Diff(slices.Sorted(maps.Keys(types)), slices.Sorted(maps.Keys(schemas))); diff != "" {
		t.Errorf("schemas (-code +document):\n%s", diff)
	}
	for name, value := range types {
		s := schemas[name]
		if s == nil {
			continue
		}
		if s.Additional == nil || *s.Additional || s.Description == "" {
			t.Errorf("%s: want a description, and no other properties", name)
		}
		want := map[string]string{}
		var required []string
		of := reflect.TypeOf(value)
		for i := range of.NumField() {
			f := of.Field(i)
			tag, option, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !f.IsExported() {
				continue
			}
			want[tag] = describe(f.Type)
			if option == "" {
				required = append(required, tag)
			}
		}
		got := map[string]string{}
		for property, p := range s.Properties {
			got[property] = p.describe()
			if p.Description == "" && p.Ref == "" {
				t.Errorf("%s.%s has no description", name, property)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-code +document):\n%s", name, diff)
		}
		slices.Sort(required)
		slices.Sort(s.Required)
		if diff := cmp.Diff(required, s.Required); diff != "" {
			t.Errorf("%s, required (-code +document):\n%s", name, diff)
		}
	}
}

// describe is what a schema says of a type of Go.
func describe(t reflect.Type) string {
	for name, value := range types {
		if reflect.TypeOf(value) == t {
			return name
		}
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		return "string date-time"
	case t == reflect.TypeFor[[]byte]():
		return "string base64"
	case t == reflect.TypeFor[string]():
		return "string"
	case enums[t.Name()] != nil:
		return "string " + fmt.Sprint(enums[t.Name()])
	}
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.Int:
		return "integer"
	case reflect.Float64:
		return "number"
	case reflect.Pointer:
		return describe(t.Elem())
	case reflect.Slice:
		return "[]" + describe(t.Elem())
	default:
		return t.String()
	}
}

// describe is the same of a schema. Signatures are texts in Go, and base64 all the same;
// the types of problems are those of the constants.
func (s *schema) describe() string {
	switch {
	case s.Ref != "":
		return strings.TrimPrefix(s.Ref, "#/components/schemas/")
	case s.Type == "array":
		return "[]" + s.Items.describe()
	case s.Format != "":
		return s.Type + " " + s.Format
	case s.ContentEncoding != "" && !strings.HasPrefix(s.Description, "The signature"):
		return s.Type + " " + s.ContentEncoding
	case len(s.Enum) > 0 && s.Enum[0][0] != '#':
		return s.Type + " " + fmt.Sprint(s.Enum)
	}
	return s.Type
}

func TestTheTypesOfProblemsAreDocumented(t *testing.T) {
	t.Parallel()
	want := []string{problemLogin, problemForbidden, problemRequest, problemUnknown, problemNotFound, problemMethod, problemReused, problemBusy, problemInternal}
	if diff := cmp.Diff(want, readDocument(t).Components.Schemas["Problem"].Properties["type"].Enum); diff != "" {
		t.Errorf("types (-code +document):\n%s", diff)
	}
	titles := map[string]bool{}
	for _, p := range want {
		titles[title(p)] = true
	}
	if len(titles) != len(want) {
		t.Errorf("%d titles for %d types", len(titles), len(want))
	}
}

// conforms reports what of an answer the document does not say.
func (d document) conforms(method, path string, status int, contentType string, body []byte) error {
	op, ok := d.Paths[path][strings.ToLower(method)]
	if !ok {
		return fmt.Errorf("no operation")
	}
	response, ok := op.Responses[fmt.Sprint(status)]
	if !ok {
		return fmt.Errorf("no response %d", status)
	}
	content, ok := response.Content[contentType]
	if !ok {
		return fmt.Errorf("response %d has no %q", status, contentType)
	}
	if contentType == "text/event-stream" {
		return nil
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return err
	}
	return d.fits(&content.Schema, value, "")
}

func (d document) fits(s *schema, value any, at string) error {
	if s.Ref != "" {
		s = d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	switch v := value.(type) {
	case map[string]any:
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				return fmt.Errorf("%s lacks %s", at, name)
			}
		}
		for name, inner := range v {
			p := s.Properties[name]
			if p == nil {
				if s.Properties == nil {
					continue
				}
				return fmt.Errorf("%s has %s, which is not in the document", at, name)
			}
			if err := d.fits(p, inner, at+"."+name); err != nil {
				return err
			}
		}
	case []any:
		if s.Type != "array" {
			return fmt.Errorf("%s is an array", at)
		}
		for _, item := range v {
			if err := d.fits(s.Items, item, at+"[]"); err != nil {
				return err
			}
		}
	case string:
		if s.Type != "string" || len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
			return fmt.Errorf("%s is %q", at, v)
		}
	case bool:
		if s.Type != "boolean" {
			return fmt.Errorf("%s is a boolean", at)
		}
	case float64:
		if s.Type != "number" && s.Type != "integer" {
			return fmt.Errorf("%s is a number", at)
		}
	default:
		return fmt.Errorf("%s is null", at)
	}
	return nil
}
