package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// A Version is what an API server says of itself.
type Version struct {
	// GitVersion is such as "v1.37.2", and Major and Minor are its parts, if they are
	// numbers: providers add to them.
	GitVersion, Major, Minor string
	// Clock is the time there, to the second; zero if it does not say.
	Clock time.Time
}

// Version asks the API server for its version.
func (c *Client) Version(ctx context.Context) (Version, error) {
	text, header, err := c.exchange(ctx, call{method: http.MethodGet, segments: []string{"version"}})
	if err != nil {
		return Version{}, err
	}
	var v Version
	if err := json.Unmarshal(text, &v); err != nil {
		return Version{}, fmt.Errorf("reading what the Kubernetes API server answers: %w", err)
	}
	v.Clock, _ = http.ParseTime(header.Get("Date")) // zero otherwise
	return v, nil
}

// TryCreate asks what would come of posting an object to a collection: a server-side dry
// run. It returns the warnings that the answer has.
func (c *Client) TryCreate(ctx context.Context, object any, segments ...string) (warnings []string, err error) {
	body, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("asking the Kubernetes API server: %w", err)
	}
	_, header, err := c.exchange(ctx, call{method: http.MethodPost, contentType: plainJSON, query: url.Values{"dryRun": {"All"}}, body: body, segments: segments})
	return header.Values("Warning"), err
}

// Text returns what there is at a path, as it is. So are pods asked, through the API
// server: api, v1, namespaces, NS, pods, POD:PORT, proxy, and the path there.
func (c *Client) Text(ctx context.Context, segments ...string) ([]byte, error) {
	return c.ask(ctx, nil, segments)
}
