// Package voucherclient asks an attestor that speaks Voucher's HTTP API, ours or
// Voucher itself, to check an image or to say what it is attested.
//
//	c, err := voucherclient.New("https://attestor.example", voucherclient.WithBasicAuth(user, password))
//	response, err := c.Check(ctx, ref, "all")
//	if err == nil && !response.Success { … }
//
// That an image did not pass is no error: it is a response whose Success is
// false. An answer is a response only when its status is 200 and its type JSON.
package voucherclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/image"
)

const (
	// UserAgent is what attestors see in their logs.
	UserAgent = "gatehouse"

	// maxResponse bounds an answer, in bytes. One holds a signature and a list
	// of vulnerabilities for each check.
	maxResponse = 16 << 20
	// maxText bounds what is shown of an answer that is an error.
	maxText = 1 << 10
)

// A Client asks one attestor. Make it with [New]. It is safe for concurrent use.
type Client struct {
	base               *url.URL
	http               *http.Client
	username, password string
	userAgent          string
}

// An Option changes how a [Client] asks.
type Option func(*Client)

// WithBasicAuth sets the user name and the password that are sent.
func WithBasicAuth(username, password string) Option {
	return func(c *Client) { c.username, c.password = username, password }
}

// WithHTTPClient sets what carries the requests, for a proxy, a certificate
// authority, or another way to say who is asking. Redirects are refused in any
// case: a redirected question would be asked without its image.
func WithHTTPClient(h *http.Client) Option { return func(c *Client) { c.http = h } }

// WithUserAgent replaces [UserAgent].
func WithUserAgent(s string) Option { return func(c *Client) { c.userAgent = s } }

// New returns a client of the attestor at a URL such as "https://host:8000".
// One without scheme is taken for https. The client has no time limit of its
// own: bound the context.
func New(attestor string, options ...Option) (*Client, error) {
	if attestor == "" {
		return nil, errors.New("the URL of the attestor is empty")
	}
	if !strings.Contains(attestor, "://") {
		attestor = "https://" + attestor
	}
	base, err := url.Parse(attestor)
	if err != nil {
		// The cause would quote a password in the URL.
		return nil, errors.New("the URL of the attestor cannot be parsed; write it like https://host:8000")
	}
	if (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" || base.RawQuery != "" || base.Fragment != "" {
		return nil, fmt.Errorf("the URL of the attestor %q: write it like https://host:8000", base.Redacted())
	}
	c := &Client{base: base, http: http.DefaultClient, userAgent: UserAgent}
	if base.User != nil {
		c.username = base.User.Username()
		c.password, _ = base.User.Password()
		base.User = nil // it would show in errors
	}
	for _, o := range options {
		o(c)
	}
	direct := *c.http
	direct.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http = &direct
	return c, nil
}

// Check has the attestor run the check or group of this name on the image, and
// attest what passes.
func (c *Client) Check(ctx context.Context, ref image.Reference, name string) (attest.Response, error) {
	return c.ask(ctx, "checking", ref, name)
}

// Verify has the attestor say which checks of this name the image is attested.
func (c *Client) Verify(ctx context.Context, ref image.Reference, name string) (attest.Response, error) {
	return c.ask(ctx, "verifying", ref, name, "verify")
}

func (c *Client) ask(ctx context.Context, doing string, ref image.Reference, name string, more ...string) (attest.Response, error) {
	response, err := c.post(ctx, ref, append([]string{name}, more...))
	if err != nil {
		return attest.Response{}, fmt.Errorf("%s %q with %s: %w", doing, ref, c.base, err)
	}
	if response.Image != ref.String() {
		return attest.Response{}, fmt.Errorf("%s %q with %s: the answer is about another image, %q", doing, ref, c.base, clip(response.Image))
	}
	return response, nil
}

func (c *Client) post(ctx context.Context, ref image.Reference, path []string) (attest.Response, error) {
	if err := ref.RequireDigest(); err != nil {
		return attest.Response{}, err
	}
	if err := check.ValidateName(path[0]); err != nil {
		return attest.Response{}, err
	}
	body, err := json.Marshal(map[string]string{"image_url": ref.String()})
	if err != nil {
		return attest.Response{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.JoinPath(path...).String(), bytes.NewReader(body))
	if err != nil {
		return attest.Response{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", c.userAgent)
	if c.username != "" {
		req.SetBasicAuth(c.username, c.password)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // the rest has been said
		}
		return attest.Response{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	return read(resp)
}

// read tells an answer from an error by status and type, and both must say so.
func read(resp *http.Response) (attest.Response, error) {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode != http.StatusOK || kind != "application/json" {
		return attest.Response{}, refusal(resp, kind)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	if err != nil {
		return attest.Response{}, fmt.Errorf("reading the answer: %w", err)
	}
	if len(data) > maxResponse {
		return attest.Response{}, fmt.Errorf("the answer is longer than %d bytes", maxResponse)
	}
	var response attest.Response
	if err := json.Unmarshal(data, &response); err != nil {
		return attest.Response{}, fmt.Errorf("reading the answer: %w", err)
	}
	return response, nil
}

func refusal(resp *http.Response, kind string) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxText)) // what there is
	said := strings.TrimSpace(strings.ToValidUTF8(string(text), "?"))
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return &StatusError{resp.StatusCode, said, "; give the user name and password of the attestor"}
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return &StatusError{resp.StatusCode, fmt.Sprintf("it redirects to %q; use that URL", clip(resp.Header.Get("Location"))), ""}
	case resp.StatusCode == http.StatusOK:
		return &StatusError{resp.StatusCode, fmt.Sprintf("the answer is of type %q and not JSON; is this the URL of an attestor?", clip(kind)), ""}
	case said == "":
		said = http.StatusText(resp.StatusCode)
	}
	return &StatusError{resp.StatusCode, said, ""}
}

// A StatusError is an answer that is no response.
type StatusError struct {
	// Status is the HTTP status.
	Status int
	text   string
	hint   string
}

// Said is what the attestor said.
func (e *StatusError) Said() string { return e.text }

func (e *StatusError) Error() string {
	return fmt.Sprintf("the attestor answered %d: %s%s", e.Status, e.text, e.hint)
}

func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
