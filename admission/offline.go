package admission

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json"
	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/decide"
)

// ReadRequest makes a decision's request from a file: an AdmissionReview, or a
// Kubernetes object as people write it, in YAML or JSON. An object is judged in
// its own metadata.namespace ("default" if it has none), since a file has no
// other; a review is judged as it would be at the door. When that is not at all,
// because it changes no image, the request has no images.
func ReadRequest(data []byte, place Place) (decide.Request, error) {
	data, err := toJSON(data)
	if err != nil {
		return decide.Request{}, err
	}
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Namespace string `json:"namespace"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return decide.Request{}, fmt.Errorf("decoding: %w", misfit(err))
	}
	if head.Kind == "AdmissionReview" {
		in, err := readReview(data)
		if err != nil {
			return decide.Request{}, err
		}
		return in.Request.ask(place)
	}
	if head.APIVersion == "" || head.Kind == "" {
		return decide.Request{}, errors.New("it needs both apiVersion and kind: want a Pod, a workload that makes pods, or an AdmissionReview")
	}
	kind := groupKind{groupOf(head.APIVersion), head.Kind}
	if _, ok := kindResources[kind]; !ok {
		return decide.Request{}, fmt.Errorf("%s %q has no images that Gatehouse knows of: want a Pod, a workload that makes pods, or an AdmissionReview", head.APIVersion, head.Kind)
	}
	namespace := head.Metadata.Namespace
	if namespace == "" {
		namespace = "default"
	}
	return (&request{Kind: kind, Namespace: namespace, Operation: "CREATE", Object: data}).ask(place)
}

func (r *request) ask(place Place) (decide.Request, error) {
	q, err := r.question(Resources{}, KritisIgnored)
	switch {
	case err != nil:
		return decide.Request{}, err
	case q.pass:
		return decide.Request{Cluster: place.Cluster, Namespace: r.Namespace}, nil
	}
	return q.parts[0].subject.request(place, r.Namespace, q.parts[0].images), nil // no pod or workload has more than one
}

// groupOf returns the group of an apiVersion: "apps" of "apps/v1", "" of "v1".
func groupOf(apiVersion string) string {
	if i := bytes.IndexByte([]byte(apiVersion), '/'); i >= 0 {
		return apiVersion[:i]
	}
	return ""
}

// toJSON turns one YAML document, or JSON, into JSON. JSON is passed through as
// it is, so that it is decoded as strictly as on the wire.
func toJSON(data []byte) ([]byte, error) {
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '{' {
		return trimmed, nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc any
	for {
		var next any
		if err := dec.Decode(&next); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, yamlError(err)
		}
		switch {
		case next != nil && doc != nil:
			return nil, errors.New("more than one object in it: decide on one at a time")
		case next != nil:
			doc = next
		}
	}
	switch doc.(type) {
	case map[string]any:
	case nil:
		return nil, errors.New("there is no object in it")
	default:
		return nil, errors.New("it is YAML, but no object: want a Pod, a workload that makes pods, or an AdmissionReview")
	}
	out, err := stdjson.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("turning YAML into JSON: %w", err)
	}
	return out, nil
}

// yamlError puts what the parser says into one line.
func yamlError(err error) error {
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "yaml: "), "unmarshal errors:")
	return errors.New("decoding YAML: " + strings.Join(strings.Fields(text), " "))
}
