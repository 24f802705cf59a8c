package resolve

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
)

// MaxResponse is the most that is read of one answer of a registry, in bytes.
// The OCI distribution specification has registries accept manifests of 4 MiB;
// configurations in the wild stay far below that.
const MaxResponse = 8 << 20

const (
	// maxRedirects is how often one request is redirected, the number of Go's
	// own client. Registries redirect to their blob store, once.
	maxRedirects = 10
	// maxRequests bounds the requests of one call. The widest index that is
	// read needs two of each of its images, a redirect for each, and logins.
	maxRequests = 500
)

// budget is what one call may still ask of registries. The client library
// replaces the limit that Go's client has, and it logs in and retries by itself,
// so that requests are counted where they leave.
type budget struct {
	mu                  sync.Mutex
	requests, redirects int
	registry            destination            // that is asked
	sent                map[string]destination // credentials, and where each belongs
}

type budgetKey struct{}

func withBudget(ctx context.Context) context.Context {
	return context.WithValue(ctx, budgetKey{}, &budget{})
}

// spend counts a request, and refuses it when there have been too many.
func (b *budget) spend(req *http.Request) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests++
	if b.redirects++; req.Response == nil { // not the follow-up of a redirect
		b.redirects = 0
	}
	switch {
	case b.redirects > maxRedirects:
		return fmt.Errorf("%w: more than %d times from one request", ErrEndless, maxRedirects)
	case b.requests > maxRequests:
		return fmt.Errorf("%w: more than %d requests for one image", ErrEndless, maxRequests)
	}
	return nil
}

// guard is the one door to the network: it refuses plain HTTP beyond this
// machine, keeps credentials where they belong, and bounds every answer and how many
// are asked for.
type guard struct {
	next     http.RoundTripper
	max      int64
	services map[string]string // hosts that may be sent a registry's credentials
}

func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !loopback(req.URL.Hostname()) {
		return nil, fmt.Errorf("%w: %s://%s", ErrInsecure, req.URL.Scheme, req.URL.Host)
	}
	if b, ok := req.Context().Value(budgetKey{}).(*budget); ok {
		if err := b.spend(req); err != nil {
			return nil, err
		}
		var err error
		if req, err = b.lead(req, g.services); err != nil {
			return nil, err
		}
	}
	resp, err := g.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if req.Method != http.MethodHead && resp.ContentLength > g.max {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrTooLarge, resp.ContentLength, g.max)
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: g.max}
	return resp, nil
}

// boundedBody fails, rather than ends, when more comes than is allowed: a
// shortened answer must not pass for a whole one.
type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		return 0, ErrTooLarge
	}
	b.left -= int64(n)
	return n, err
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
