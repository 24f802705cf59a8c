package admission

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-dev/gatehouse/admission/resource"
	"github.com/gatehouse-dev/gatehouse/decide"
)

const (
	// maxResources bounds the configuration.
	maxResources = 100

	// maxTemplates bounds the pod templates of one object, each of which may have
	// a decision and a record of its own.
	maxTemplates = 50
)

// A Resource says where a kind of custom resource has its images. What it tells is
// early feedback: the pods that come of the object are reviewed in any case.
type Resource = resource.Resource

// Resources are custom resources whose images are reviewed. The zero Resources has
// none.
type Resources struct {
	byName map[groupResource]*customResource
}

type customResource struct {
	Resource
	images, templates []resource.Path
	account           resource.Path
	hasAccount        bool
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
	if name == pods || workloads[name] {
		return nil, errors.New("is reviewed anyway")
	}
	p, err := r.Places()
	if err != nil {
		return nil, err
	}
	return &customResource{Resource: r, images: p.Images, templates: p.PodTemplates, account: p.ServiceAccount, hasAccount: r.ServiceAccount != ""}, nil
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
		err := p.Each(raw, func(place string, v jsontext.Value) error {
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
		err := p.Each(raw, func(place string, v jsontext.Value) error {
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
	if !c.hasAccount {
		return nil
	}
	return c.account.Each(raw, func(place string, v jsontext.Value) (err error) {
		s.template.Spec.ServiceAccountName, err = stringAt(place, v)
		return err
	})
}

func stringAt(place string, v jsontext.Value) (text string, err error) {
	if v.Kind() != '"' {
		return "", fmt.Errorf("%s: want a string, found %s", clip(place), resource.NameOfKind(v.Kind()))
	}
	err = json.Unmarshal(v, &text)
	return text, err
}
