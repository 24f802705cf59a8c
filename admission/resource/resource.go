// Package resource says where objects of custom resources have their images: a
// [Resource] is one entry of the configuration, and [Path] the small language that its
// places are written in. The gate walks reviews by it, and resolve-tags manifests.
package resource

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxPaths bounds the paths of one resource: each is a walk through the object.
const maxPaths = 16

// A Resource says where a kind of custom resource has its images.
type Resource struct {
	// Group and Resource name it as a webhook's rules do: serving.knative.dev and
	// services. The version is the one that the webhook is registered for.
	Group    string `yaml:"group"`
	Resource string `yaml:"resource"`
	// Kind is what manifests call it. It is needed where Resource is not the plural that
	// English makes of it, as services of Service; the gate does not ask.
	Kind string `yaml:"kind"`
	// Images are paths of images, such as spec.steps[*].image.
	Images []string `yaml:"images"`
	// PodTemplates are paths of objects of metadata and spec as in a Deployment, such
	// as spec.template. All images of theirs count, for their own service account, and so
	// does their break-glass marker.
	PodTemplates []string `yaml:"podTemplates"`
	// ServiceAccount is the path of the name of the account that Images run as;
	// without one they are judged as of the account default.
	ServiceAccount string `yaml:"serviceAccount"`
}

// Places are the paths of a Resource, parsed. ServiceAccount is the zero Path when
// there is none.
type Places struct {
	Images, PodTemplates []Path
	ServiceAccount       Path
}

// Places parses the paths. An error names the field, the path and the column.
func (r Resource) Places() (Places, error) {
	switch {
	case r.Resource == "" || strings.ContainsAny(r.Resource, "/*"):
		return Places{}, errors.New("resource: want the plural name of one resource, without a subresource")
	case strings.ContainsAny(r.Group, "/*"):
		return Places{}, errors.New("group: want the name of one API group, without a version")
	case len(r.Images)+len(r.PodTemplates) == 0:
		return Places{}, errors.New("give images or podTemplates: paths such as spec.template.spec.containers[*].image")
	case len(r.Images)+len(r.PodTemplates) > maxPaths:
		return Places{}, fmt.Errorf("%d paths: at most %d are taken", len(r.Images)+len(r.PodTemplates), maxPaths)
	case r.ServiceAccount != "" && len(r.Images) == 0:
		return Places{}, errors.New("serviceAccount is for images; podTemplates have their own")
	}
	var p Places
	var err error
	if p.Images, err = parsePaths("images", r.Images); err != nil {
		return Places{}, err
	}
	if p.PodTemplates, err = parsePaths("podTemplates", r.PodTemplates); err != nil {
		return Places{}, err
	}
	if r.ServiceAccount == "" {
		return p, nil
	}
	if p.ServiceAccount, err = ParsePath(r.ServiceAccount); err != nil {
		return Places{}, fmt.Errorf("serviceAccount: %q: %w", r.ServiceAccount, err)
	}
	if slices.ContainsFunc(p.ServiceAccount.steps, func(s Step) bool { return s.Kind != Member }) {
		return Places{}, fmt.Errorf("serviceAccount: %q: want the path of one value", r.ServiceAccount)
	}
	return p, nil
}

func parsePaths(what string, texts []string) ([]Path, error) {
	list := make([]Path, len(texts))
	for i, text := range texts {
		p, err := ParsePath(text)
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %q: %w", what, i, text, err)
		}
		list[i] = p
	}
	return list, nil
}

// IsKind reports whether objects that call themselves kind, of API group group, are of
// this resource: by Kind, or else by the plural.
func (r Resource) IsKind(group, kind string) bool {
	if group != r.Group || kind == "" {
		return false
	}
	if r.Kind != "" {
		return kind == r.Kind
	}
	name := strings.ToLower(kind)
	stem, y := strings.CutSuffix(name, "y")
	return r.Resource == name+"s" || r.Resource == name+"es" || r.Resource == name || (y && r.Resource == stem+"ies")
}
