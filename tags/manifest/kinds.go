package manifest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gatehouse-dev/gatehouse/admission/resource"
)

// maxResources bounds the configuration.
const maxResources = 100

// Kinds says where objects have their images, by API group and kind. All versions of a
// group are taken for the same. Make one with [NewKinds]; it does not change.
type Kinds struct {
	builtin map[groupKind]kind
	custom  []customKind
}

type groupKind struct{ group, kind string }

// A kind is where its objects have images, and what else they have.
type kind struct {
	places *place
	// fields are those of the object itself. What stands beside them is read by nobody,
	// and people put there what they share by anchors. nil stands for all.
	fields map[string]bool
}

type customKind struct {
	resource resource.Resource
	kind
}

// A place is a node of the tree of all paths that lead to images. The nil place leads
// nowhere.
type place struct {
	members  map[string]*place
	each     *place // every member
	items    *place // every item of a list
	hasImage bool   // an image stands here
}

// podPlaces are the images in the spec of a pod.
var podPlaces = []string{
	"initContainers[*].image", "containers[*].image", "ephemeralContainers[*].image", "volumes[*].image.reference",
}

// specs are where the kinds of Kubernetes have the spec of their pods.
var specs = map[string][]groupKind{
	"spec":                                {{"", "Pod"}},
	"template.spec":                       {{"", "PodTemplate"}},
	"spec.template.spec":                  {{"", "ReplicationController"}, {"apps", "Deployment"}, {"apps", "ReplicaSet"}, {"apps", "StatefulSet"}, {"apps", "DaemonSet"}, {"batch", "Job"}, {"extensions", "Deployment"}, {"extensions", "ReplicaSet"}, {"extensions", "DaemonSet"}},
	"spec.jobTemplate.spec.template.spec": {{"batch", "CronJob"}},
}

// NewKinds returns the kinds of Kubernetes and those that are configured.
func NewKinds(custom []resource.Resource) (*Kinds, error) {
	k := &Kinds{builtin: map[groupKind]kind{}}
	for path, kinds := range specs {
		root := &place{}
		for _, in := range podPlaces {
			if err := root.lay(path + "." + in); err != nil {
				return nil, err
			}
		}
		top, _, _ := strings.Cut(path, ".")
		for _, gk := range kinds {
			k.builtin[gk] = kind{places: root, fields: map[string]bool{"apiVersion": true, "kind": true, "metadata": true, "status": true, top: true}}
		}
	}
	if len(custom) > maxResources {
		return nil, fmt.Errorf("%d resources: at most %d are taken", len(custom), maxResources)
	}
	seen := map[groupKind]bool{}
	var errs []error
	for i, r := range custom {
		name := groupKind{r.Group, r.Resource}
		places, err := layCustom(r)
		if err == nil && seen[name] {
			err = errors.New("is listed twice")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("resources[%d] (%q): %w", i, strings.TrimSuffix(r.Resource+"."+r.Group, "."), err))
		}
		seen[name] = true
		k.custom = append(k.custom, customKind{resource: r, kind: kind{places: places}})
	}
	return k, errors.Join(errs...)
}

func layCustom(r resource.Resource) (*place, error) {
	paths, err := r.Places()
	if err != nil {
		return nil, err
	}
	root := &place{}
	for _, p := range paths.Images {
		root.laySteps(p.Steps()).hasImage = true
	}
	for _, p := range paths.PodTemplates {
		template := root.laySteps(p.Steps())
		for _, in := range podPlaces {
			if err := template.lay("spec." + in); err != nil {
				return nil, err
			}
		}
	}
	return root, nil
}

// lay adds the place of an image.
func (p *place) lay(path string) error {
	parsed, err := resource.ParsePath(path)
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	p.laySteps(parsed.Steps()).hasImage = true
	return nil
}

// laySteps adds places and returns the last.
func (p *place) laySteps(steps []resource.Step) *place {
	for _, s := range steps {
		next := &p.items
		switch s.Kind {
		case resource.AnyMember:
			next = &p.each
		case resource.Member:
			child := p.members[s.Name]
			if p.members == nil {
				p.members = map[string]*place{}
			}
			next = &child
			if child == nil {
				child = &place{}
				p.members[s.Name] = child
			}
		}
		if *next == nil {
			*next = &place{}
		}
		p = *next
	}
	return p
}

// of returns where objects of a kind have their images. ok is false for kinds that are
// not known.
func (k *Kinds) of(group, name string) (found kind, ok bool) {
	if found, ok = k.builtin[groupKind{group, name}]; ok {
		return found, true
	}
	for _, c := range k.custom {
		if c.resource.IsKind(group, name) {
			return c.kind, true
		}
	}
	return kind{}, false
}

// near returns a kind of Kubernetes that differs from a name in its case or group only,
// as "Deployment of apps".
func (k *Kinds) near(name string) (string, bool) {
	best := ""
	for gk := range k.builtin {
		if !strings.EqualFold(gk.kind, name) {
			continue
		}
		text := gk.kind
		if gk.group != "" {
			text += " of " + gk.group
		}
		if best == "" || text < best { // apps goes before extensions, which is no more
			best = text
		}
	}
	return best, best != ""
}
