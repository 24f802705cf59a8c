package admission

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/decide"
)

const (
	// maxObjects bounds the objects of one text: those of a cluster are fewer.
	maxObjects = 1_000_000

	// maxLists bounds lists in lists.
	maxLists = 4
)

// Manifests is what a text holds: a stream of YAML documents or of JSON values, each an
// object of Kubernetes, a list of them, or an AdmissionReview.
type Manifests struct {
	Objects []Object
	// Passed counts the objects that bring no image that Gatehouse knows of, by what
	// they are, such as "v1 ConfigMap"; "" is for documents that are no objects.
	Passed map[string]int
	// Unknown are the custom resources among them with a field "image" or "images"
	// somewhere: most likely their paths were not given.
	Unknown map[string]int
}

// An Object is one that brings images.
type Object struct {
	// Line is where its document begins; 0 is not known.
	Line      int
	Kind      string
	Namespace string
	Name      string
	// Requests are what a gate would be asked about its pods: one for each account that
	// they run as. What a template leaves out, such as an image that somebody else puts
	// in, is not in them.
	Requests []decide.Request
}

// ReadManifests finds the images in a text, in the objects that a gate with the same
// custom resources would review. Unlike the gate it takes what is not whole, such as a
// patch, for what is in it.
// Objects are judged in their own metadata.namespace, "default" if they have none.
func ReadManifests(data []byte, place Place, custom Resources) (Manifests, error) {
	r := manifestReader{place: place, custom: custom, found: Manifests{Passed: map[string]int{}, Unknown: map[string]int{}}}
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '{' {
		err := r.json(trimmed)
		if syntax := new(jsontext.SyntacticError); !errors.As(err, &syntax) {
			return r.found, err
		}
		// It may be YAML in flow style, which begins the same.
		again := manifestReader{place: place, custom: custom, found: Manifests{Passed: map[string]int{}, Unknown: map[string]int{}}}
		if again.yaml(data) == nil {
			return again.found, nil
		}
		return r.found, err
	}
	err := r.yaml(data)
	return r.found, err
}

type manifestReader struct {
	place  Place
	custom Resources
	found  Manifests
	count  int
}

// json reads values that follow each other.
func (r *manifestReader) json(data []byte) error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(data))
	for {
		raw, err := dec.ReadValue()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			at := dec.InputOffset()
			if syntax := new(jsontext.SyntacticError); errors.As(err, &syntax) {
				at = syntax.ByteOffset
			}
			return atLine(1+bytes.Count(data[:min(int(at), len(data))], []byte("\n")), fmt.Errorf("decoding JSON: %w", err))
		}
		if err := r.object(raw, 0, "", 0); err != nil {
			return err
		}
	}
}

func (r *manifestReader) yaml(data []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return yamlError(err)
		}
		var value any
		if err := doc.Decode(&value); err != nil {
			return yamlError(err)
		}
		line := doc.Line
		if len(doc.Content) > 0 {
			line = doc.Content[0].Line
		}
		if _, ok := value.(map[string]any); !ok {
			if value != nil {
				r.found.Passed[""]++
			}
			continue
		}
		raw, err := stdjson.Marshal(value)
		if err != nil {
			return fmt.Errorf("line %d: turning YAML into JSON: %w", line, err)
		}
		if err := r.object(raw, line, "", 0); err != nil {
			return err
		}
	}
}

// heading is what tells one object from others.
type heading struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Namespace    string `json:"namespace"`
		Name         string `json:"name"`
		GenerateName string `json:"generateName"`
	} `json:"metadata"`
}

// object reads one object. listed is the apiVersion and the kind that the list it
// stands in gives to its items, "" if it stands in none.
func (r *manifestReader) object(raw jsontext.Value, line int, listed string, depth int) error {
	if r.count++; r.count > maxObjects {
		return fmt.Errorf("more than %d objects", maxObjects)
	}
	var h heading
	if err := json.Unmarshal(raw, &h); err != nil {
		return atLine(line, fmt.Errorf("decoding: %w", misfit(err)))
	}
	if h.APIVersion == "" && h.Kind == "" {
		h.APIVersion, h.Kind, _ = strings.Cut(listed, " ")
	}
	switch {
	case h.APIVersion == "" || h.Kind == "":
		r.found.Passed[""]++
		return nil
	case h.Kind == "AdmissionReview":
		return atLine(line, r.review(raw, line))
	case strings.HasSuffix(h.Kind, "List"):
		return r.list(raw, h, line, depth)
	}
	res, ok := r.resource(groupKind{groupOf(h.APIVersion), h.Kind})
	if !ok {
		r.pass(raw, h)
		return nil
	}
	found := Object{Line: line, Kind: h.Kind, Namespace: h.Metadata.Namespace, Name: h.Metadata.Name}
	if found.Name == "" {
		found.Name = h.Metadata.GenerateName
	}
	if found.Namespace == "" {
		found.Namespace = "default"
	}
	subjects, err := r.custom.subjects(res, raw)
	if err != nil {
		return atLine(line, fmt.Errorf("%s %.100s/%.100s: %w", h.Kind, found.Namespace, found.Name, err))
	}
	for _, s := range subjects {
		if images := s.images(); len(images) > 0 {
			found.Requests = append(found.Requests, s.request(r.place, found.Namespace, images))
		}
	}
	if len(found.Requests) == 0 {
		r.pass(raw, h)
		return nil
	}
	r.found.Objects = append(r.found.Objects, found)
	return nil
}

// list reads the items of any list, such as v1 List, or PodList as the API answers.
func (r *manifestReader) list(raw jsontext.Value, h heading, line, depth int) error {
	var body struct {
		Items []jsontext.Value `json:"items"`
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		return atLine(line, fmt.Errorf("decoding %.100s: %w", h.Kind, misfit(err)))
	}
	if depth == maxLists {
		return atLine(line, fmt.Errorf("lists in lists, deeper than %d", maxLists))
	}
	items := h.APIVersion + " " + strings.TrimSuffix(h.Kind, "List")
	if h.Kind == "List" {
		items = "" // its items say what they are
	}
	for _, item := range body.Items {
		if err := r.object(item, line, items, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// review reads an AdmissionReview: all images of its object, also those that an update
// does not change.
func (r *manifestReader) review(raw jsontext.Value, line int) error {
	in, err := readReview(raw)
	if err != nil {
		return err
	}
	res := in.Request.resource()
	if !in.Request.hasObject() || !r.custom.has(res) {
		r.found.Passed["AdmissionReview of "+clip(res.String())]++
		return nil
	}
	subjects, err := in.Request.subjects(res, r.custom)
	if err != nil {
		return err
	}
	found := Object{Line: line, Kind: "AdmissionReview of " + clip(res.String()), Namespace: in.Request.Namespace, Name: in.Request.Name}
	for _, s := range subjects {
		found.Requests = append(found.Requests, s.request(r.place, found.Namespace, s.images()))
	}
	r.found.Objects = append(r.found.Objects, found)
	return nil
}

// pass counts an object that brings no image that is known.
func (r *manifestReader) pass(raw jsontext.Value, h heading) {
	what := clip(h.APIVersion) + " " + clip(h.Kind)
	r.found.Passed[what]++
	group := groupOf(h.APIVersion)
	ofOthers := strings.Contains(group, ".") && !strings.HasSuffix(group, ".k8s.io")
	if ofOthers && (bytes.Contains(raw, []byte(`"image"`)) || bytes.Contains(raw, []byte(`"images"`))) {
		r.found.Unknown[what]++
	}
}

// resource returns the resource of a kind, if objects of it bring images. Should two
// custom resources be of one kind, it is the first by name.
func (r *manifestReader) resource(kind groupKind) (groupResource, bool) {
	if res, ok := kindResources[kind]; ok {
		return res, true
	}
	found := groupResource{}
	for res, c := range r.custom.byName {
		if c.IsKind(kind.Group, kind.Kind) && (found.Resource == "" || res.Resource < found.Resource) {
			found = res
		}
	}
	return found, found.Resource != ""
}

func atLine(line int, err error) error {
	if err == nil || line == 0 {
		return err
	}
	return fmt.Errorf("line %d: %w", line, err)
}
