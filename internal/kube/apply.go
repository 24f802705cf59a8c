package kube

import (
	"context"
	"net/http"
	"net/url"
	"strings"
)

// A Collection is where objects of a kind are: /apis/GROUP/VERSION/namespaces/NAMESPACE/RESOURCE,
// and /api/v1/… for the core's.
type Collection struct {
	// APIVersion is GROUP/VERSION, or v1.
	APIVersion string
	// Namespace is "" for objects that are in none, and for those of all namespaces.
	Namespace string
	// Resource is the plural, such as pods.
	Resource string
}

// Group returns the API group, "" for the core's.
func (c Collection) Group() string {
	group, _, ok := strings.Cut(c.APIVersion, "/")
	if !ok {
		return ""
	}
	return group
}

// Segments are those of the path of the collection, or of what is in it by its name.
func (c Collection) Segments(name ...string) []string {
	path := append([]string{"apis"}, strings.Split(c.APIVersion, "/")...)
	if c.Group() == "" {
		path[0] = "api"
	}
	if c.Namespace != "" {
		path = append(path, "namespaces", c.Namespace)
	}
	return append(append(path, c.Resource), name...)
}

// TryApply is [Client.Apply] of which nothing is kept: the API server does everything else,
// and says what is wrong.
func (c *Client) TryApply(ctx context.Context, manager string, force bool, object any, segments ...string) error {
	query := url.Values{"fieldManager": {manager}, "dryRun": {"All"}}
	if force {
		query.Set("force", "true")
	}
	return c.write(ctx, call{method: http.MethodPatch, contentType: applyPatch, query: query, segments: segments}, object, nil)
}

// MayI asks whether the client's user may do something, whoever Access says he is, and
// what the API server says to it.
func (c *Client) MayI(ctx context.Context, a Access) (may bool, why string, err error) {
	review := subjectAccessReview{APIVersion: "authorization.k8s.io/v1", Kind: "SelfSubjectAccessReview", Spec: accessSpec{
		ResourceAttributes: map[string]string{"verb": a.Verb, "group": a.Group, "resource": a.Resource, "namespace": a.Namespace, "name": a.Name},
	}}
	var answer subjectAccessReview
	if err := c.Create(ctx, review, &answer, "apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"); err != nil {
		return false, "", err
	}
	return answer.Status.Allowed && !answer.Status.Denied, answer.Status.Reason, nil
}
