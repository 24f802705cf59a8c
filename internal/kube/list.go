package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

const (
	// pageSize is how many objects are asked for at a time, as kubectl does.
	pageSize = 500
	// maxPages is more than any cluster has.
	maxPages = 10_000
)

// listMeta is what is read of a list, and of the refusal of one.
type listMeta struct {
	Metadata struct {
		Continue        string `json:"continue"`
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
}

// List calls fn with each page of a list, such as that at /api/v1/pods: the JSON of the
// server. When reading takes longer than the server can show the list as it was, the rest
// is as it is later.
func (c *Client) List(ctx context.Context, fn func(page []byte) error, segments ...string) error {
	token, resumed := "", false
	for range maxPages {
		query := url.Values{"limit": {strconv.Itoa(pageSize)}}
		if token != "" {
			query.Set("continue", token)
		}
		text, err := c.ask(ctx, query, segments)
		if expired := new(Error); errors.As(err, &expired) && expired.Code == http.StatusGone && expired.next != "" && !resumed {
			token, resumed = expired.next, true
			continue
		}
		if err != nil {
			return err
		}
		resumed = false
		var page listMeta
		if err := json.Unmarshal(text, &page); err != nil {
			return fmt.Errorf("reading what the Kubernetes API server answers: %w", err)
		}
		if err := fn(text); err != nil {
			return err
		}
		if token = page.Metadata.Continue; token == "" {
			return nil
		}
	}
	return fmt.Errorf("the Kubernetes API server has a list that does not end after %d pages", maxPages)
}
