package hosts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/gatehouse-dev/gatehouse/check/builds"
)

const (
	// UserAgent is what hosts see in their logs.
	UserAgent = "gatehouse"
	// maxResponse is the most that is read of one answer, in bytes. A comparison of
	// commits is the longest, with the changes of up to 300 files.
	maxResponse = 32 << 20
	// MaxPages bounds how far a list is read, in pages of [PageSize].
	MaxPages = 50
	// PageSize is the longest page that the hosts give.
	PageSize = 100
)

// NewClient returns a client for the API at a URL. authorize adds to a request what proves
// who asks; it is called for that host only, whatever that redirects to. Plain HTTP is
// used on loopback addresses only, and every answer is bounded.
func NewClient(api string, authorize func(*http.Request) error) (*http.Client, error) {
	u, err := url.Parse(api)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("API %q of a source code host: it is no URL", builds.Clip(api))
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return nil, fmt.Errorf("API %q of a source code host: credentials are sent over HTTPS only", builds.Clip(api))
	}
	return &http.Client{Transport: &transport{host: u.Host, scheme: u.Scheme, authorize: authorize, next: http.DefaultTransport}}, nil
}

type transport struct {
	scheme, host string
	authorize    func(*http.Request) error
	next         http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	switch {
	case req.URL.Host == t.host && req.URL.Scheme == t.scheme:
		if err := t.authorize(req); err != nil {
			return nil, err
		}
	case req.URL.Scheme != "https" && !loopback(req.URL.Hostname()):
		return nil, fmt.Errorf("redirected to %q, which is not HTTPS", builds.Clip(req.URL.Host))
	}
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxResponse}
	return resp, nil
}

// boundedBody fails, rather than ends, when more comes than is allowed.
type boundedBody struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("the answer is longer than %d bytes", maxResponse)
	}
	return n, err
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// Explain says what was asked of which host, and what came of it.
func Explain(host, about string, err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("asking %s about %s: it did not answer in time: %w", host, about, context.DeadlineExceeded)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("asking %s about %s: %w", host, about, context.Canceled)
	case errors.Is(err, ErrNotFound):
		return fmt.Errorf("asking %s about %s: %w", host, about, ErrNotFound)
	}
	return fmt.Errorf("asking %s about %s: %w", host, about, &brief{err})
}

// brief shortens what an error says: it is partly what the host chose to answer.
type brief struct{ cause error }

// Error implements error.
func (b *brief) Error() string {
	return builds.Clip(strings.Join(strings.Fields(strings.ToValidUTF8(b.cause.Error(), "?")), " "))
}

// Unwrap returns the whole.
func (b *brief) Unwrap() error { return b.cause }
