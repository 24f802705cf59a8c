package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

const (
	// manager owns the fields that are applied.
	manager = "gatehouse"

	// Of Kubernetes 1.30 and later: matchConditions of webhooks are stable.
	wantMajor, wantMinor = 1, 30

	labelName     = "app.kubernetes.io/name"
	labelInstance = "app.kubernetes.io/instance"
	// annotationHelm is on what a Helm release has applied.
	annotationHelm = "meta.helm.sh/release-name"
	// annotationWebhooks is what a webhook configuration is to have in force.
	annotationWebhooks = "gatehouse.dev/webhooks"

	defaultPoll = time.Second
	// sayAgain is how long nothing is said while the same is waited for.
	sayAgain = 30 * time.Second
)

// A Cluster is where something is installed.
type Cluster struct {
	// Client is who does it, and where.
	Client *kube.Client
	// Say is told of progress, a line at a time; nil is nobody.
	Say func(line string)
	// Force takes fields from whoever else has set them; otherwise that is a reason not to
	// begin. It also uninstalls what Helm has installed.
	Force bool
	// Poll is how often the cluster is looked at while something is waited for. Default 1s.
	Poll time.Duration
}

func (c *Cluster) say(format string, args ...any) {
	if c.Say != nil {
		c.Say(fmt.Sprintf(format, args...))
	}
}

// A Change is what became of an object.
type Change struct {
	// Object is KIND/NAME, and Namespace where it is, if it is in one.
	Object    string `json:"object"`
	Namespace string `json:"namespace,omitempty"`
	// Change is "created", "changed", "unchanged" or "deleted".
	Change string `json:"change"`
}

// live returns an object as it is in the cluster, nil if it is not there.
func (c *Cluster) live(ctx context.Context, o Object) (Object, error) {
	k, err := kindOfObject(o)
	if err != nil {
		return nil, err
	}
	var now Object
	err = c.Client.Get(ctx, &now, nil, k.in(o.Namespace()).Segments(o.Name())...)
	if kube.NotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o, err)
	}
	return now, nil
}

// ours lists the objects of a kind that belong to an installation.
func (c *Cluster) ours(ctx context.Context, k kind, name, namespace string) ([]Object, error) {
	var list struct {
		Items []Object `json:"items"`
	}
	query := url.Values{"labelSelector": {labelName + "=gatehouse," + labelInstance + "=" + name}}
	err := c.Client.Get(ctx, &list, query, k.in(namespace).Segments()...)
	if kube.NotFound(err) { // there is no such kind in this cluster
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", k.resource, err)
	}
	for _, o := range list.Items { // of which a list does not say it
		o["kind"], o["apiVersion"] = k.name, k.apiVersion
	}
	return list.Items, nil
}

// checkVersion refuses API servers that do not know what is applied.
func (c *Cluster) checkVersion(ctx context.Context) error {
	var version struct {
		Major      string `json:"major"`
		Minor      string `json:"minor"`
		GitVersion string `json:"gitVersion"`
	}
	if err := c.Client.Get(ctx, &version, nil, "version"); err != nil {
		return fmt.Errorf("asking for the version of Kubernetes: %w", err)
	}
	major, majorErr := strconv.Atoi(version.Major)
	minor, minorErr := strconv.Atoi(strings.TrimRight(version.Minor, "+")) // as some services write it
	if majorErr != nil || minorErr != nil || major < wantMajor || major == wantMajor && minor < wantMinor {
		return fmt.Errorf("the API server is Kubernetes %s: want %d.%d or later, which knows matchConditions of webhooks", version.GitVersion, wantMajor, wantMinor)
	}
	return nil
}

// checkRights asks whether the user may do what an installation needs.
func (c *Cluster) checkRights(ctx context.Context, objects []Object, verbs ...string) error {
	type place struct{ group, resource, namespace string }
	asked := map[place]bool{}
	var errs []error
	for _, o := range objects {
		k, err := kindOfObject(o)
		if err != nil {
			return err
		}
		at := place{k.group(), k.resource, o.Namespace()}
		if asked[at] {
			continue
		}
		asked[at] = true
		for _, verb := range verbs {
			may, why, err := c.Client.MayI(ctx, kube.Access{Verb: verb, Group: at.group, Resource: at.resource, Namespace: at.namespace})
			if err != nil {
				return fmt.Errorf("asking what may be done: %w", err)
			}
			if !may {
				errs = append(errs, fmt.Errorf("you may not %s %s%s%s", verb, qualified(at.resource, at.group), inNamespace(at.namespace), because(why)))
			}
		}
	}
	return errors.Join(errs...)
}

func qualified(resource, group string) string {
	if group == "" {
		return resource
	}
	return resource + "." + group
}

func inNamespace(namespace string) string {
	if namespace == "" {
		return ""
	}
	return " in namespace " + namespace
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

func isForbidden(err error) bool {
	var e *kube.Error
	return errors.As(err, &e) && e.Code == http.StatusForbidden
}

// wait calls done until it says that there is nothing to wait for any more. What it waits
// for is said when it changes.
func (c *Cluster) wait(ctx context.Context, done func(context.Context) (waitingFor string, err error)) error {
	poll := c.Poll
	if poll <= 0 {
		poll = defaultPoll
	}
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	said, begun, last := "", time.Now(), time.Now()
	for {
		waiting, err := done(ctx)
		if err == nil && waiting == "" {
			return nil
		}
		if err != nil {
			waiting = err.Error()
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w, waiting for: %s", context.Cause(ctx), said)
		}
		if waiting != said {
			said, last = waiting, time.Now()
			c.say("waiting: %s", waiting)
		} else if time.Since(last) >= sayAgain {
			last = time.Now()
			c.say("still waiting, for %v: %s", time.Since(begun).Round(time.Second), waiting)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w, waiting for: %s", context.Cause(ctx), said)
		case <-ticker.C:
		}
	}
}

// field returns what there is at a path of members, nil if there is nothing.
func field(o map[string]any, path ...string) any {
	var at any = o
	for _, name := range path {
		m, _ := at.(map[string]any)
		at = m[name]
	}
	return at
}

func integer(v any) int {
	switch v := v.(type) {
	case float64:
		return int(v)
	case json.Number:
		n, _ := v.Int64() // 0 is not what is wanted
		return int(n)
	}
	return 0
}
