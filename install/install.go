package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

// namespaceObject is the namespace of an installation. Its pods keep to the strictest of
// Kubernetes' standards, and so must all others in it.
func namespaceObject(o Options) Object {
	return Object{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{
		"name": o.Namespace,
		"labels": map[string]any{
			labelName: "gatehouse", labelInstance: o.Name, "app.kubernetes.io/part-of": "gatehouse",
			"pod-security.kubernetes.io/enforce": "restricted",
		},
	}}
}

// All returns all objects of an installation, with its namespace: what is applied.
func All(o Options) ([]Object, error) {
	objects, err := Render(o)
	if err != nil {
		return nil, err
	}
	return append([]Object{namespaceObject(o)}, objects...), nil
}

// A plan is what an installation is about to do.
type plan struct {
	options Options
	objects []Object
	// before are the objects as they are in the cluster, nil where there is none.
	before []Object
}

// Check finds everything that would stop an installation, and writes nothing.
func (c *Cluster) Check(ctx context.Context, o Options) error {
	_, err := c.plan(ctx, o)
	return err
}

func (c *Cluster) plan(ctx context.Context, o Options) (*plan, error) {
	objects, err := All(o)
	if err != nil {
		return nil, err
	}
	p := &plan{options: o, objects: objects}
	if err := c.checkVersion(ctx); err != nil {
		return nil, err
	}
	if err := c.checkRights(ctx, objects, "get", "list", "create", "patch", "delete"); err != nil {
		return nil, err
	}
	if err := c.look(ctx, p); err != nil {
		return nil, err
	}
	if err := c.try(ctx, p); err != nil {
		return nil, err
	}
	return p, nil
}

// look reads what is there of the objects, and refuses to write over what is others'.
func (c *Cluster) look(ctx context.Context, p *plan) error {
	var errs []error
	kept := p.objects[:0:0]
	for _, o := range p.objects {
		now, err := c.live(ctx, o)
		if err != nil {
			return err
		}
		if o.Kind() == "Namespace" && now != nil && !isOf(now, p.options.Name) {
			continue // somebody else's, who lets it be used
		}
		if now != nil && o.Kind() != "CustomResourceDefinition" { // which outlive who made them
			errs = append(errs, p.takesOver(now))
		}
		if at := elsewhere(now, p.options.Namespace); at != "" && isOf(now, p.options.Name) {
			errs = append(errs, fmt.Errorf("%s: the installation %q is in namespace %q: say --namespace %s, or give this one another --name", o, p.options.Name, at, at))
		}
		kept, p.before = append(kept, o), append(p.before, now)
	}
	p.objects = kept
	return errors.Join(errs...)
}

func (p *plan) takesOver(now Object) error {
	if release := now.annotation(annotationHelm); release != "" {
		return fmt.Errorf("%s is of the Helm release %q: use helm upgrade, or uninstall it first", now, release)
	}
	if !isOf(now, p.options.Name) {
		return fmt.Errorf("%s is there and is not of an installation called %q: give another --name, or remove it", now, p.options.Name)
	}
	return nil
}

// elsewhere returns the namespace that a binding for the whole cluster is for, "" if it is
// the given one. Two installations of one name share what is in no namespace, so the second
// would take its rights and its webhooks from the first.
func elsewhere(binding Object, namespace string) string {
	if binding.Kind() != "ClusterRoleBinding" {
		return ""
	}
	subjects, _ := binding["subjects"].([]any)
	for _, s := range subjects {
		subject, _ := s.(map[string]any)
		if at := text(subject, "namespace"); at != "" && at != namespace {
			return at
		}
	}
	return ""
}

func isOf(o Object, name string) bool {
	labels, _ := o.metadata()["labels"].(map[string]any)
	return text(labels, labelName) == "gatehouse" && text(labels, labelInstance) == name
}

// try has the API server judge all objects, and keep none. What belongs into a namespace
// that is still to be made cannot be tried, nor can bindings to roles that are.
func (c *Cluster) try(ctx context.Context, p *plan) error {
	var space Object
	err := c.Client.Get(ctx, &space, nil, "api", "v1", "namespaces", p.options.Namespace)
	if err != nil && !kube.NotFound(err) {
		return err
	}
	var errs []error
	for _, o := range p.objects {
		if o.Namespace() != "" && space == nil || o.Kind() == "RoleBinding" || o.Kind() == "ClusterRoleBinding" {
			continue
		}
		k, err := kindOfObject(o)
		if err != nil {
			return err
		}
		err = c.Client.TryApply(ctx, manager, c.Force, o, k.in(o.Namespace()).Segments(o.Name())...)
		switch {
		case kube.NotFound(err):
			err = fmt.Errorf("the cluster has no kind %s of %s: it has to be installed first", k.name, k.apiVersion)
		case kube.Conflict(err):
			err = fmt.Errorf("%s: somebody else has set what is set here; --force-conflicts takes it over: %w", o, err)
		case err != nil:
			err = fmt.Errorf("%s: %w", o, err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Install applies an installation, and takes away what earlier values had and these have
// not. Nothing is written if there is a reason not to. It may be called again at any time,
// also after it was stopped halfway, and then goes on.
func (c *Cluster) Install(ctx context.Context, o Options) ([]Change, error) {
	p, err := c.plan(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("nothing was changed:\n%w", err)
	}
	var changes []Change
	for i, object := range p.objects {
		change, err := c.apply(ctx, object, p.before[i])
		if err != nil {
			return changes, fmt.Errorf("%w\nthe same command goes on from here", err)
		}
		c.say("%s %s", change.Object, change.Change)
		changes = append(changes, change)
	}
	pruned, err := c.prune(ctx, p)
	return append(changes, pruned...), err
}

func (c *Cluster) apply(ctx context.Context, o, before Object) (Change, error) {
	k, err := kindOfObject(o)
	if err != nil {
		return Change{}, err
	}
	var after Object
	if err := c.Client.Apply(ctx, manager, c.Force, o, &after, k.in(o.Namespace()).Segments(o.Name())...); err != nil {
		return Change{}, fmt.Errorf("applying %s: %w", o, err)
	}
	change := Change{o.String(), o.Namespace(), "created"}
	if before != nil {
		change.Change = "changed"
		if before.metadata()["resourceVersion"] == after.metadata()["resourceVersion"] {
			change.Change = "unchanged"
		}
	}
	return change, nil
}

// prune takes away what belongs to the installation and is not in it any more.
func (c *Cluster) prune(ctx context.Context, p *plan) ([]Change, error) {
	var changes []Change
	for _, k := range slices.Backward(kinds()) {
		if k.name == "Namespace" || k.name == "CustomResourceDefinition" {
			continue
		}
		found, err := c.ours(ctx, k, p.options.Name, p.options.Namespace)
		if isForbidden(err) { // a kind that this installation does not use
			continue
		}
		if err != nil {
			return changes, err
		}
		for _, o := range found {
			if slices.ContainsFunc(p.objects, func(wanted Object) bool { return wanted.String() == o.String() }) {
				continue
			}
			change, err := c.remove(ctx, k, o)
			if err != nil {
				return changes, err
			}
			changes = append(changes, change)
		}
	}
	return changes, nil
}

// Wait returns when everything that an installation runs is there and its webhooks are in
// force.
func (c *Cluster) Wait(ctx context.Context, o Options) error {
	objects, err := Render(o)
	if err != nil {
		return err
	}
	return c.wait(ctx, func(ctx context.Context) (string, error) {
		for _, object := range objects {
			if waiting, err := c.waitingFor(ctx, object); waiting != "" || err != nil {
				return waiting, err
			}
		}
		return "", nil
	})
}

// waitingFor says what an object lacks, "" if nothing.
func (c *Cluster) waitingFor(ctx context.Context, o Object) (string, error) {
	switch o.Kind() {
	case "Deployment", "StatefulSet", "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration":
	default:
		return "", nil
	}
	now, err := c.live(ctx, o)
	switch {
	case err != nil:
		return "", err
	case now == nil:
		return o.String() + " is not there", nil
	case o.Kind() == "Deployment" || o.Kind() == "StatefulSet":
		return podsMissing(now), nil
	}
	return webhooksMissing(now)
}

func podsMissing(o Object) string {
	want := integer(field(o, "spec", "replicas"))
	if integer(field(o, "status", "observedGeneration")) < integer(o.metadata()["generation"]) {
		return o.String() + " has not been seen by its controller"
	}
	ready := min(integer(field(o, "status", "updatedReplicas")), integer(field(o, "status", "availableReplicas")))
	if ready < want {
		return fmt.Sprintf("%s has %d of %d pods; kubectl describe pods -n %s -l %s=%s", o, ready, want, o.Namespace(), "app.kubernetes.io/component", field(o, "metadata", "labels", "app.kubernetes.io/component"))
	}
	return ""
}

// webhooksMissing compares what is in force with what is wanted, but for the roots.
func webhooksMissing(o Object) (string, error) {
	var wanted []map[string]any
	if err := unmarshal([]byte(o.annotation(annotationWebhooks)), &wanted); err != nil {
		return "", fmt.Errorf("%s: annotation %s: %w", o, annotationWebhooks, err)
	}
	inForce, _ := o["webhooks"].([]any)
	if len(inForce) < len(wanted) {
		return fmt.Sprintf("%s has %d of %d webhooks in force; the controller adds them when they answer", o, len(inForce), len(wanted)), nil
	}
	for i, w := range wanted {
		now, _ := inForce[i].(map[string]any)
		if now["name"] != w["name"] || !same(now["matchConditions"], w["matchConditions"]) || now["failurePolicy"] != w["failurePolicy"] {
			return fmt.Sprintf("%s: webhook %v is not in force as it should be", o, w["name"]), nil
		}
	}
	return "", nil
}

func same(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}
