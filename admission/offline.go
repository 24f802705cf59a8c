package admission

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/decide"
)

// ReadRequest makes a decision's request from a file: an AdmissionReview, or a
// Kubernetes object as people write it, in YAML or JSON. An object is judged in
// its own metadata.namespace ("default" if it has none), since a file has no
// other; a review is judged in the namespace of its request.
func ReadRequest(data []byte) (decide.Request, error) {
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
		return decide.Request{}, fmt.Errorf("decoding: %w", err)
	}
	if head.Kind == "AdmissionReview" {
		in, err := readReview(data)
		if err != nil {
			return decide.Request{}, err
		}
		if !in.Request.hasObject() {
			return decide.Request{}, errors.New("the review has no object")
		}
		return requestOf(in.Request.resource(), in.Request.Namespace, in.Request.subject)
	}
	res, ok := kindResources[groupKind{groupOf(head.APIVersion), head.Kind}]
	if !ok {
		return decide.Request{}, fmt.Errorf("%s %q has no images that Gatehouse knows of: want a Pod, a workload that makes pods, or an AdmissionReview", head.APIVersion, head.Kind)
	}
	namespace := head.Metadata.Namespace
	if namespace == "" {
		namespace = "default"
	}
	return requestOf(res, namespace, func(res groupResource) (subject, bool, error) { return readSubject(res, data) })
}

func requestOf(res groupResource, namespace string, read func(groupResource) (subject, bool, error)) (decide.Request, error) {
	s, ok, err := read(res)
	if err != nil {
		return decide.Request{}, err
	}
	if !ok {
		return decide.Request{}, fmt.Errorf("%s have no images that Gatehouse knows of", res)
	}
	return s.request("", namespace, s.images()), nil
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
	var doc map[string]any
	for doc == nil {
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			return nil, errors.New("there is no object in it")
		} else if err != nil {
			return nil, fmt.Errorf("decoding YAML: %w", err)
		}
	}
	var next any
	for {
		if err := dec.Decode(&next); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("decoding YAML: %w", err)
		}
		if next != nil {
			return nil, errors.New("more than one object in it: decide on one at a time")
		}
	}
	out, err := stdjson.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("turning YAML into JSON: %w", err)
	}
	return out, nil
}
