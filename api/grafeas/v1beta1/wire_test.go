package grafeasbeta_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	projectv1 "github.com/gatehouse-dev/gatehouse/api/grafeas/v1/project"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/project"
)

// TestWireIsUpstreams compares every field, enum value and method with a table
// made from upstream's descriptors: a slip in api/proto would go unseen until a
// client of another make lost data.
func TestWireIsUpstreams(t *testing.T) {
	table, err := os.ReadFile("testdata/wire.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(table)), "\n")

	w := wire{seen: map[string]bool{}}
	w.file(grafeasbeta.File_gatehouse_grafeas_v1beta1_grafeas_proto)
	w.file(project.File_gatehouse_grafeas_v1beta1_project_proto)
	w.file(projectv1.File_gatehouse_grafeas_v1_project_proto)
	slices.Sort(w.lines)
	slices.Sort(want)
	if diff := cmp.Diff(want, w.lines); diff != "" {
		t.Errorf("the compiled descriptors are not what upstream has on the wire (-upstream +ours):\n%s", diff)
	}
}

// A wire gathers descriptors as lines, one fact each.
type wire struct {
	seen  map[string]bool
	lines []string
}

func (w *wire) add(format string, args ...any) {
	w.lines = append(w.lines, fmt.Sprintf(format, args...))
}

// file adds a file and what it imports of Grafeas.
func (w *wire) file(f protoreflect.FileDescriptor) {
	if w.seen[f.Path()] || !strings.HasPrefix(string(f.Package()), "grafeas.") {
		return
	}
	w.seen[f.Path()] = true
	for i := range f.Imports().Len() {
		w.file(f.Imports().Get(i).FileDescriptor)
	}
	for i := range f.Services().Len() {
		w.service(f.Services().Get(i))
	}
	for i := range f.Messages().Len() {
		w.message(f.Messages().Get(i))
	}
	for i := range f.Enums().Len() {
		w.enum(f.Enums().Get(i))
	}
}

func (w *wire) message(m protoreflect.MessageDescriptor) {
	if m.IsMapEntry() {
		return
	}
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		line := fmt.Sprintf("%s #%d %s", f.FullName(), f.Number(), typeOf(f))
		if f.HasJSONName() && f.JSONName() != camel(string(f.Name())) {
			line += " json=" + f.JSONName()
		}
		if f.ContainingOneof() != nil {
			line += " oneof=" + string(f.ContainingOneof().Name())
		}
		w.lines = append(w.lines, line)
	}
	for i := range m.Messages().Len() {
		w.message(m.Messages().Get(i))
	}
	for i := range m.Enums().Len() {
		w.enum(m.Enums().Get(i))
	}
}

func typeOf(f protoreflect.FieldDescriptor) string {
	var name string
	switch {
	case f.IsMap():
		return "map"
	case f.Message() != nil:
		name = string(f.Message().FullName())
	case f.Enum() != nil:
		name = string(f.Enum().FullName())
	default:
		name = f.Kind().String()
	}
	if f.IsList() {
		return "repeated " + name
	}
	return name
}

// camel returns the JSON name that a field has by default.
func camel(name string) string {
	words := strings.Split(name, "_")
	for i, word := range words[1:] {
		words[i+1] = strings.ToUpper(word[:1]) + word[1:]
	}
	return strings.Join(words, "")
}

func (w *wire) enum(e protoreflect.EnumDescriptor) {
	for i := range e.Values().Len() {
		v := e.Values().Get(i)
		w.add("%s %s = %d", e.FullName(), v.Name(), v.Number())
	}
}

func (w *wire) service(s protoreflect.ServiceDescriptor) {
	for i := range s.Methods().Len() {
		m := s.Methods().Get(i)
		rule, _ := proto.GetExtension(m.Options().(*descriptorpb.MethodOptions), annotations.E_Http).(*annotations.HttpRule)
		line := fmt.Sprintf("/%s/%s %s -> %s %s", s.FullName(), m.Name(), m.Input().FullName(), m.Output().FullName(), binding(rule))
		located := strings.Replace(binding(rule), "projects/*", "projects/*/locations/*", 1)
		for _, more := range rule.GetAdditionalBindings() {
			if binding(more) == located {
				line += " and at locations"
			} else {
				line += " and " + binding(more)
			}
		}
		w.lines = append(w.lines, line)
	}
}

func binding(rule *annotations.HttpRule) string {
	var s string
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		s = "GET " + p.Get
	case *annotations.HttpRule_Post:
		s = "POST " + p.Post
	case *annotations.HttpRule_Patch:
		s = "PATCH " + p.Patch
	case *annotations.HttpRule_Delete:
		s = "DELETE " + p.Delete
	}
	if rule.GetBody() != "" {
		s += " body " + rule.GetBody()
	}
	return s
}
