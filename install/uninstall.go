package install

import (
	"context"
	"fmt"
	"slices"

	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

// Left is what an uninstall does not take away.
type Left struct {
	// Object is KIND/NAME, and Namespace where it is, if it is in one.
	Object    string `json:"object"`
	Namespace string `json:"namespace,omitempty"`
	// Why says what it is good for.
	Why string `json:"why"`
}

// volumes are what the server's data is on. They are made for it, and not applied.
func volumes() kind { return kind{"v1", "PersistentVolumeClaim", "persistentvolumeclaims", true} }

// Uninstall takes an installation away: the webhook configurations first, so that nothing
// that follows can hold the cluster up, whether a gate answers or not. Definitions of
// kinds, the server's data and the namespace stay, unless purge takes them too. It may be
// called again at any time.
func (c *Cluster) Uninstall(ctx context.Context, name, namespace string, purge bool) ([]Change, []Left, error) {
	if err := (Options{Name: name, Namespace: namespace}).checkNames(); err != nil {
		return nil, nil, err
	}
	if err := c.isHere(ctx, name, namespace); err != nil {
		return nil, nil, err
	}
	order := slices.Collect(func(yield func(kind) bool) {
		for _, k := range slices.Backward(kinds()) {
			if k.name == "CustomResourceDefinition" && !yield(volumes()) || !yield(k) {
				return
			}
		}
	})
	var changes []Change
	var left []Left
	for _, k := range order {
		found, err := c.ours(ctx, k, name, namespace)
		if err != nil {
			if isForbidden(err) && k.extra() {
				continue // there are none that this installation has made
			}
			return changes, left, err
		}
		for _, o := range found {
			if release := o.annotation(annotationHelm); release != "" && !c.Force {
				if k.name == "CustomResourceDefinition" { // which Helm has left
					left = append(left, Left{o.String(), o.Namespace(), reason(k)})
					continue
				}
				return changes, left, fmt.Errorf("%s is of the Helm release %q: helm uninstall %s --namespace %s, or --force to take it away all the same", o, release, release, namespace)
			}
			if why := reason(k); why != "" && !purge {
				left = append(left, Left{o.String(), o.Namespace(), why})
				continue
			}
			change, err := c.remove(ctx, k, o)
			if err != nil {
				return changes, left, err
			}
			changes = append(changes, change)
		}
	}
	return changes, left, nil
}

// isHere refuses to take what the whole cluster has from an installation in another namespace.
func (c *Cluster) isHere(ctx context.Context, name, namespace string) error {
	bindings, err := c.ours(ctx, clusterRoleBindings(), name, namespace)
	if err != nil {
		return err
	}
	for _, o := range bindings {
		if at := elsewhere(o, namespace); at != "" {
			return fmt.Errorf("the installation %q is in namespace %q: say --namespace %s", name, at, at)
		}
	}
	return nil
}

// reason says why an uninstall leaves objects of a kind, "" if it does not.
func reason(k kind) string {
	switch k.name {
	case "CustomResourceDefinition":
		return "with it all objects of its kind would go"
	case "PersistentVolumeClaim":
		return "the store: attestations, policies, and the record of decisions"
	case "Namespace":
		return "what others have put into it would go with it"
	}
	return ""
}

func (c *Cluster) remove(ctx context.Context, k kind, o Object) (Change, error) {
	err := c.Client.Delete(ctx, k.in(o.Namespace()).Segments(o.Name())...)
	if err != nil && !kube.NotFound(err) {
		return Change{}, fmt.Errorf("deleting %s: %w", o, err)
	}
	c.say("%s deleted", o)
	return Change{o.String(), o.Namespace(), "deleted"}, nil
}
