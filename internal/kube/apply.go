package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// A Collection is where objects of a kind are: /apis/GROUP/VERSION/namespaces/NAMESPACE/RESOURCE,
// /api/v1/… for the core's.
type Collection struct {
	APIVersion, Namespace, Resource string
}

// Group returns the API group, "" for the core's.
func (c Collection) Group() string {
	group, _, ok := strings.Cut(c.APIVersion, "/")
	if !ok {
		return ""
	}
	return group
}

// Segments are those of the collection's path, and of an object's in it.
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

// Apply options.
type ApplyOptions struct {
	// Manager is whose fields the object's are. Force takes them from other managers.
	Manager string
	Force   bool
	// DryRun has the API server do everything but keep it.
	DryRun bool
}

// Apply has an object be as it is given, and made if it is not there: server-side apply.
func (c *Client) Apply(ctx context.Context, object, into any, in Collection, name string, o ApplyOptions) error {
	query := url.Values{"fieldManager": {o.Manager}}
	if o.Force {
		query.Set("force", "true")
	}
	if o.DryRun {
		query.Set("dryRun", "All")
	}
	body, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("asking the Kubernetes API server: %w", err)
	}
	text, err := c.send(ctx, http.MethodPatch, "application/apply-patch+yaml", body, query, in.Segments(name))
	if err != nil || into == nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("reading what the Kubernetes API server answers: %w", err)
	}
	return nil
}

// Delete takes an object away; one that is not there is no error. What belongs to it is
// taken away after it.
func (c *Client) Delete(ctx context.Context, in Collection, name string) error {
	_, err := c.send(ctx, http.MethodDelete, "", nil, url.Values{"propagationPolicy": {"Background"}}, in.Segments(name))
	if NotFound(err) {
		return nil
	}
	return err
}

// send makes a request that changes something.
func (c *Client) send(ctx context.Context, method, contentType string, body []byte, query url.Values, segments []string) ([]byte, error) {
	for _, s := range segments {
		if s == "" || s == "." || s == ".." {
			return nil, fmt.Errorf("asking the Kubernetes API server: %q is no name", s)
		}
	}
	target := c.base.JoinPath(escaped(segments)...)
	target.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	text, err := c.do(req, http.StatusOK)
	// An object that was made, and one that goes once its finalizers have.
	if e := (*Error)(nil); errors.As(err, &e) && (e.Code == http.StatusCreated || e.Code == http.StatusAccepted) {
		return text, nil
	}
	return text, err
}

// MayI asks whether whoever the client is may do something, and why not.
func (c *Client) MayI(ctx context.Context, a Access) (may bool, why string, err error) {
	review := map[string]any{"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": accessSpec{
		ResourceAttributes: map[string]string{"verb": a.Verb, "group": a.Group, "resource": a.Resource, "namespace": a.Namespace, "name": a.Name},
	}}
	var answer subjectAccessReview
	if err := c.Create(ctx, review, &answer, "apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"); err != nil {
		return false, "", err
	}
	return answer.Status.Allowed && !answer.Status.Denied, answer.Status.Reason, nil
}
