package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

const (
	plainJSON  = "application/json"
	mergePatch = "application/merge-patch+json"
	applyPatch = "application/apply-patch+yaml" // of which JSON is a part
)

// Conflict reports whether an error says that an object has been changed meanwhile, or
// is there already.
func Conflict(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == http.StatusConflict
}

// Create posts an object to a collection, such as /api/v1/namespaces/shop/pods, and
// decodes what came of it into what is not nil.
func (c *Client) Create(ctx context.Context, object, into any, segments ...string) error {
	return c.write(ctx, call{method: http.MethodPost, contentType: plainJSON, segments: segments}, object, into)
}

// Update replaces an object, or its status when the last segment is that. One that has a
// metadata.resourceVersion replaces that version only; see [Conflict].
func (c *Client) Update(ctx context.Context, object, into any, segments ...string) error {
	return c.write(ctx, call{method: http.MethodPut, contentType: plainJSON, segments: segments}, object, into)
}

// Merge changes the fields of an object that a patch has, and removes those that it has
// null for: a JSON merge patch. The last segment may be status.
func (c *Client) Merge(ctx context.Context, patch, into any, segments ...string) error {
	return c.write(ctx, call{method: http.MethodPatch, contentType: mergePatch, segments: segments}, patch, into)
}

// Apply makes an object have the fields of this one, in the name of a manager, who from
// then on owns them: a server-side apply. What the manager owned and the object does not
// have any more is removed. Fields that are others' are taken from them by force, or are
// a [Conflict].
func (c *Client) Apply(ctx context.Context, manager string, force bool, object, into any, segments ...string) error {
	query := url.Values{"fieldManager": {manager}}
	if force {
		query.Set("force", "true")
	}
	return c.write(ctx, call{method: http.MethodPatch, contentType: applyPatch, query: query, segments: segments}, object, into)
}

// Delete deletes an object. One that is not there is an error that is [NotFound].
func (c *Client) Delete(ctx context.Context, segments ...string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, segments: segments})
	return err
}

func (c *Client) write(ctx context.Context, a call, object, into any) (err error) {
	if a.body, err = json.Marshal(object); err != nil {
		return fmt.Errorf("asking the Kubernetes API server: %w", err)
	}
	text, err := c.do(ctx, a)
	if err != nil || into == nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("reading what the Kubernetes API server answers: %w", err)
	}
	return nil
}
