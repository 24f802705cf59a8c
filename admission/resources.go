package admission

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-dev/gatehouse/decide"
)

const (
	// maxResources and maxPaths bound the configuration: each path is a walk
	// through the object.
	maxResources = 100
	maxPaths     = 16

	// maxTemplates bounds the pod templates of one object, each of which may have
	// a decision and a record of its own.
	maxTemplates = 50
)

// A Resource says where a kind of custom resource has its images. What it tells is
// early feedback: the pods that come of the object are reviewed in any case.
type Resource struct {
	// Group and Resource name it as a webhook's rules do: serving.knative.dev and
	// services. The version is the one that the webhook is registered for.
	Group    string `yaml:"group"`
	Resource string `yaml:"resource"`
	// Images are paths of images, such as spec.steps[*].image.
	Images []string `yaml:"images"`
	// PodTemplates are paths of objects of metadata and spec as in a Deployment, such
	// as spec.template. All images of theirs are judged, for their own service account,
	// and their break-glass marker counts.
	PodTemplates []string `yaml:"podTemplates"`
	// ServiceAccount is the path of the name of the account that Images run as;
	// without one they are judged as of the account default.
	ServiceAccount string `yaml:"serviceAccount"`
}

// Resources are custom resources whose images are reviewed. The zero Resources has
// none.
type Resources struct {
	byName map[groupResource]*customResource
}

type customResource struct {
	images, templates []path
	account           path
}

// NewResources checks a list of custom resources. An error names the resource, the
// path and the column.
func NewResources(list []Resource) (Resources, error) {
	if len(list) > maxResources {
		return Resources{}, fmt.Errorf("%d resources: at most %d are taken", len(list), maxResources)
	}
	all := Resources{byName: make(map[groupResource]*customResource, len(list))}
	var errs []error
	for i, r := range list {
		name := groupResource{r.Group, r.Resource}
		c, err := newCustomResource(name, r)
		if err == nil && all.byName[name] != nil {
			err = errors.New("is listed twice")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("resources[%d] (%q): %w", i, name, err))
			continue
		}
		all.byName[name] = c
	}
	return all, errors.Join(errs...)
}

func newCustomResource(name groupResource, r Resource) (*customResource, error) {
	switch {
	case name.Resource == "" || strings.ContainsAny(name.Resource, "/*"):
		return nil, errors.New("resource: want the plural name of one resource, without a subresource")
	case strings.ContainsAny(name.Group, "/*"):
		return nil, errors.New("group: want the name of one API group, without a version")
	case name == pods || workloads[name]:
		return nil, errors.New("is reviewed anyway")
	case len(r.Images)+len(r.PodTemplates) == 0:
		return nil, errors.New("give images or podTemplates: paths such as spec.template.spec.containers[*].image")
	case len(r.Images)+len(r.PodTemplates) > maxPaths:
		return nil, fmt.Errorf("%d paths: at most %d are taken", len(r.Images)+len(r.PodTemplates), maxPaths)
	case r.ServiceAccount != "" && len(r.Images) == 0:
		return nil, errors.New("serviceAccount is for images; podTemplates have their own")
	}
	c := &customResource{}
	var err error
	if c.images, err = parsePaths("images", r.Images); err != nil {
		return nil, err
	}
	if c.templates, err = parsePaths("podTemplates", r.PodTemplates); err != nil {
		return nil, err
	}
	if r.ServiceAccount == "" {
		return c, nil
	}
	if c.account, err = parsePath(r.ServiceAccount); err != nil {
		return nil, fmt.Errorf("serviceAccount: %q: %w", r.ServiceAccount, err)
	}
	if slices.ContainsFunc(c.account.steps, func(s step) bool { return s.kind != member }) {
		return nil, fmt.Errorf("serviceAccount: %q: want the path of one value", r.ServiceAccount)
	}
	return c, nil
}

func parsePaths(what string, texts []string) ([]path, error) {
	list := make([]path, len(texts))
	for i, text := range texts {
		p, err := parsePath(text)
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %q: %w", what, i, text, err)
		}
		list[i] = p
	}
	return list, nil
}

// has reports whether objects of a resource are reviewed.
func (c Resources) has(res groupResource) bool { return res.builtin() || c.byName[res] != nil }

// subjects returns what is to be judged of an object of a resource that is reviewed.
func (c Resources) subjects(res groupResource, raw jsontext.Value) ([]subject, error) {
	if r := c.byName[res]; r != nil {
		all, err := r.subjects(raw)
		if err != nil {
			return nil, fmt.Errorf("decoding %s: %w", res, err)
		}
		return all, nil
	}
	s, ok, err := decodeSubject(res, func(v any) error { return json.Unmarshal(raw, v) })
	if err != nil || !ok {
		return nil, err
	}
	return []subject{s}, nil
}

// old returns what an object was before an update. One that cannot be read has no
// images that the new one could be compared with, but it may be in deletion.
func (c Resources) old(res groupResource, raw jsontext.Value) ([]subject, objectMeta) {
	if before, err := c.subjects(res, raw); err == nil && len(before) > 0 {
		return before, before[0].meta
	}
	var head struct {
		Metadata objectMeta `json:"metadata"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, objectMeta{}
	}
	return nil, head.Metadata
}

// subjects returns what an object has that is to be judged: the images at paths
// together, and each pod template.
func (c *customResource) subjects(raw jsontext.Value) ([]subject, error) {
	var head struct {
		Metadata objectMeta `json:"metadata"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, misfit(err)
	}
	listed := subject{meta: head.Metadata, isTemplate: true, custom: true}
	// There is no template that could carry a marker but the object itself.
	listed.template.Metadata = head.Metadata
	if err := c.listed(raw, &listed); err != nil {
		return nil, err
	}
	all := []subject{listed}
	for _, p := range c.templates {
		err := p.each(raw, func(place string, v jsontext.Value) error {
			if len(all) > maxTemplates {
				return fmt.Errorf("more than %d pod templates in one object", maxTemplates)
			}
			s := subject{meta: head.Metadata, isTemplate: true, custom: true}
			if err := json.Unmarshal(v, &s.template); err != nil {
				return fmt.Errorf("%s: %w", clip(place), misfit(err))
			}
			for _, u := range s.template.images() {
				if u.Text != "" { // which the controller puts in
					u.Container = place + "/" + u.Container
					s.found = append(s.found, u)
				}
			}
			all = append(all, s)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// listed fills in the images at paths, and whom they run as.
func (c *customResource) listed(raw jsontext.Value, s *subject) error {
	for _, p := range c.images {
		err := p.each(raw, func(place string, v jsontext.Value) error {
			text, err := stringAt(place, v)
			if err != nil || text == "" {
				return err
			}
			if len(s.found) > maxImages {
				return tooMany(len(s.found))
			}
			s.found = append(s.found, decide.ImageUse{Container: place, Type: decide.Container, Text: text})
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(c.account.steps) == 0 {
		return nil
	}
	return c.account.each(raw, func(place string, v jsontext.Value) (err error) {
		s.template.Spec.ServiceAccountName, err = stringAt(place, v)
		return err
	})
}

func stringAt(place string, v jsontext.Value) (text string, err error) {
	if v.Kind() != '"' {
		return "", fmt.Errorf("%s: want a string, found %s", clip(place), nameOfKind(v.Kind()))
	}
	err = json.Unmarshal(v, &text)
	return text, err
}
