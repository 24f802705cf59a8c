// Package kube is the one client of Kubernetes' API: who it is and where the API server
// is comes from a kubeconfig or from the pod that it runs in, and answers are decoded into
// the few fields that the caller asks for.
package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// maxAnswer bounds an answer, in bytes: etcd has objects of up to 1.5 MiB.
	maxAnswer = 64 << 20
	// timeout bounds a request that has one answer.
	timeout = 30 * time.Second
)

// A Client asks an API server. It is safe for concurrent use.
type Client struct {
	base *url.URL
	http *http.Client
}

// Options say which API server. The zero Options are the pod's own, or else those that
// kubectl would use.
type Options struct {
	// Kubeconfig is a file, and Context one of its contexts, if it is not the current one.
	Kubeconfig, Context string
	UserAgent           string
}

// ErrNoCluster is that no cluster was named, in any way.
var ErrNoCluster = errors.New("no cluster is named: give --kubeconfig FILE, set KUBECONFIG, have a ~/.kube/config, or run in a pod of it")

// Open returns a client. Nothing is asked yet. The error is [ErrNoCluster] if there is
// neither a kubeconfig nor a cluster around.
func Open(o Options) (*Client, error) {
	config, err := o.config()
	if clientcmd.IsEmptyConfig(err) && o.Kubeconfig == "" {
		return nil, ErrNoCluster
	}
	if err != nil {
		return nil, fmt.Errorf("finding the Kubernetes API server: %w", err)
	}
	config.UserAgent = o.UserAgent
	if config.UserAgent == "" {
		config.UserAgent = "gatehouse"
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("connecting to the Kubernetes API server: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("the address of the Kubernetes API server: %w", err)
	}
	return &Client{base, client}, nil
}

func (o Options) config() (*rest.Config, error) {
	if o.Kubeconfig == "" && o.Context == "" && os.Getenv("KUBECONFIG") == "" {
		if config, err := rest.InClusterConfig(); !errors.Is(err, rest.ErrNotInCluster) {
			return config, err
		}
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.Kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: o.Context}).ClientConfig()
}

// An Error is an answer of the API server that is none of what was asked for.
type Error struct {
	Code    int    // of HTTP
	Reason  string // such as "NotFound"
	Message string
	// next is the token to go on with, when that of a list has expired.
	next string
}

func (e *Error) Error() string {
	return fmt.Sprintf("the Kubernetes API server answers %d %s: %s", e.Code, e.Reason, e.Message)
}

// NotFound reports whether an error says that there is no such object.
func NotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == http.StatusNotFound
}

// Get decodes what there is at a path, such as /api/v1/namespaces/shop/pods/web, of which
// each segment may be any text.
func (c *Client) Get(ctx context.Context, into any, query url.Values, segments ...string) error {
	text, err := c.ask(ctx, query, segments)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("reading what the Kubernetes API server answers: %w", err)
	}
	return nil
}

// ask returns what there is at a path.
func (c *Client) ask(ctx context.Context, query url.Values, segments []string) ([]byte, error) {
	return c.do(ctx, call{method: http.MethodGet, query: query, segments: segments})
}

// A call is a request that has one answer.
type call struct {
	method, contentType string
	body                []byte
	query               url.Values
	segments            []string
}

// request makes the request of a call.
func (c *Client) request(ctx context.Context, a call) (*http.Request, error) {
	for _, s := range a.segments {
		if s == "" || s == "." || s == ".." {
			return nil, fmt.Errorf("asking the Kubernetes API server: %q is no name", s)
		}
	}
	target := c.base.JoinPath(escaped(a.segments)...)
	target.RawQuery = a.query.Encode()
	req, err := http.NewRequestWithContext(ctx, a.method, target.String(), bytes.NewReader(a.body))
	if err != nil {
		return nil, err
	}
	if a.contentType != "" {
		req.Header.Set("Content-Type", a.contentType)
	}
	req.Header.Set("Accept", "application/json")
	return req, nil
}

// do sends a request, and returns the answer to one that succeeded.
func (c *Client) do(ctx context.Context, a call) ([]byte, error) {
	text, _, err := c.exchange(ctx, a)
	return text, err
}

// exchange is do, with what the answer has in its header, if there is an answer.
func (c *Client) exchange(ctx context.Context, a call) ([]byte, http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := c.request(ctx, a)
	if err != nil {
		return nil, nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("asking the Kubernetes API server: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // read only
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("reading what the Kubernetes API server answers: %w", err)
	case len(text) > maxAnswer:
		return nil, nil, fmt.Errorf("the Kubernetes API server answers with more than %d bytes", maxAnswer)
	case resp.StatusCode/100 != 2:
		return nil, resp.Header, refusal(resp.StatusCode, text)
	}
	return text, resp.Header, nil
}

func escaped(segments []string) []string {
	all := make([]string, len(segments))
	for i, s := range segments {
		all[i] = url.PathEscape(s)
	}
	return all
}

func refusal(code int, text []byte) error {
	e := Error{Code: code, Reason: http.StatusText(code)}
	var status struct {
		Reason  string `json:"reason"`
		Message string `json:"message"`
		listMeta
	}
	if json.Unmarshal(text, &status) == nil && status.Message != "" {
		e.Message, e.next = status.Message, status.Metadata.Continue
		if status.Reason != "" {
			e.Reason = status.Reason
		}
		return &e
	}
	const most = 200
	e.Message = strings.ToValidUTF8(string(text[:min(len(text), most)]), "")
	return &e
}
