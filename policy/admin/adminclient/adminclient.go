// Package adminclient is a client of Binary Authorization's API as package
// binauthzapi serves it: policies, attestors, their history and rollback.
package adminclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxAnswer bounds an answer: a page of documents is smaller.
const maxAnswer = 64 << 20

// A Client speaks to one server. It is safe for concurrent use.
type Client struct {
	base string
	http *http.Client
}

// New returns a Client of the server at a URL such as "http://127.0.0.1:8080". The
// HTTP client brings TLS and credentials.
func New(base string, client *http.Client) *Client { return &Client{base: base, http: client} }

// An Error is the server's refusal.
type Error struct {
	// Status is its word, such as "NOT_FOUND".
	Status  string
	Message string
}

// Error returns the word and the text.
func (e *Error) Error() string { return e.Status + ": " + e.Message }

// StatusOf returns the word of a refusal, "" for any other error.
func StatusOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return ""
}

// A Revision is one version of a document.
type Revision struct {
	Revision   uint64         `json:"revision"`
	CreateTime time.Time      `json:"createTime"`
	Author     string         `json:"author,omitempty"`
	Comment    string         `json:"comment,omitempty"`
	ETag       string         `json:"etag,omitempty"`
	Deleted    bool           `json:"deleted,omitzero"`
	Content    jsontext.Value `json:"content,omitzero"`
}

// Get returns the document of a name, such as "projects/p/policy", as JSON.
func (c *Client) Get(ctx context.Context, name string) ([]byte, error) {
	return c.call(ctx, http.MethodGet, name, nil, nil)
}

// Put replaces the document of a name.
func (c *Client) Put(ctx context.Context, name string, body []byte, comment string) ([]byte, error) {
	return c.call(ctx, http.MethodPut, name, query("comment", comment), body)
}

// Create creates a document in a collection, such as "projects/p/attestors", with
// the id in the named parameter, if it is not the service that gives ids.
func (c *Client) Create(ctx context.Context, collection, parameter, id string, body []byte, comment string) ([]byte, error) {
	q := query("comment", comment)
	if parameter != "" {
		q.Set(parameter, id)
	}
	return c.call(ctx, http.MethodPost, collection, q, body)
}

// Delete deletes the document of a name; force is for attestors that are in use.
func (c *Client) Delete(ctx context.Context, name string, force bool) error {
	q := url.Values{}
	if force {
		q.Set("force", "true")
	}
	_, err := c.call(ctx, http.MethodDelete, name, q, nil)
	return err
}

// List returns all documents of a collection, which answers name by its last
// segment.
func (c *Client) List(ctx context.Context, collection, field string) ([]jsontext.Value, error) {
	var all []jsontext.Value
	for token := ""; ; {
		raw, err := c.call(ctx, http.MethodGet, collection, query("pageToken", token), nil)
		if err != nil {
			return nil, err
		}
		var page map[string]jsontext.Value
		if err := json.Unmarshal(raw, &page); err != nil {
			return nil, malformed(err)
		}
		var some []jsontext.Value
		if page[field] != nil {
			if err := json.Unmarshal(page[field], &some); err != nil {
				return nil, malformed(err)
			}
		}
		all, token = append(all, some...), ""
		if page["nextPageToken"] != nil {
			if err := json.Unmarshal(page["nextPageToken"], &token); err != nil {
				return nil, malformed(err)
			}
		}
		if token == "" {
			return all, nil
		}
	}
}

// Revisions returns the newest versions of the document of a name, newest first,
// at most limit of them; 0 is all.
func (c *Client) Revisions(ctx context.Context, name string, limit int) ([]Revision, error) {
	const most = 1000 // on a page
	var all []Revision
	for token := ""; ; {
		q := query("pageToken", token)
		if limit > 0 {
			q.Set("pageSize", strconv.Itoa(min(limit-len(all), most)))
		}
		raw, err := c.call(ctx, http.MethodGet, name+":listRevisions", q, nil)
		if err != nil {
			return nil, err
		}
		var page struct {
			Revisions     []Revision `json:"revisions"`
			NextPageToken string     `json:"nextPageToken"`
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			return nil, malformed(err)
		}
		all = append(all, page.Revisions...)
		if token = page.NextPageToken; token == "" || limit > 0 && len(all) >= limit {
			return all, nil
		}
	}
}

// Rollback makes the content of a version the newest one.
func (c *Client) Rollback(ctx context.Context, name string, revision uint64, comment string) ([]byte, error) {
	body, err := json.Marshal(map[string]any{"revision": revision, "comment": comment})
	if err != nil {
		return nil, err
	}
	return c.call(ctx, http.MethodPost, name+":rollback", nil, body)
}

// query has a parameter unless it is empty.
func query(name, value string) url.Values {
	q := url.Values{}
	if value != "" {
		q.Set(name, value)
	}
	return q
}

// call makes a request and returns the answer, or why there is none.
func (c *Client) call(ctx context.Context, method, name string, q url.Values, body []byte) ([]byte, error) {
	target := c.base + "/v1/" + (&url.URL{Path: name}).EscapedPath()
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the server: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // read only
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the server's answer: %w", err)
	case len(text) > maxAnswer:
		return nil, fmt.Errorf("the server's answer has more than %d bytes", maxAnswer)
	case resp.StatusCode == http.StatusOK:
		return text, nil
	}
	return nil, refusal(resp.Status, text)
}

// refusal reads an error. One in another shape is not of this API.
func refusal(status string, text []byte) error {
	var e struct {
		Error struct {
			Message string `json:"message"`
			Status  string `json:"status"`
		} `json:"error"`
	}
	if err := json.Unmarshal(text, &e); err != nil || e.Error.Status == "" {
		return fmt.Errorf("the server answered %s, and not in the words of this API", status)
	}
	return &Error{Status: e.Error.Status, Message: e.Error.Message}
}

func malformed(err error) error { return fmt.Errorf("reading the server's answer: %w", err) }
