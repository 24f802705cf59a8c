package resolve

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// MaxResponse is the most that is read of one answer of a registry, in bytes.
// The OCI distribution specification has registries accept manifests of 4 MiB;
// configurations in the wild stay far below that.
const MaxResponse = 8 << 20

// guard is the one door to the network: it refuses plain HTTP beyond this
// machine and bounds every answer.
type guard struct {
	next http.RoundTripper
	max  int64
}

func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !loopback(req.URL.Hostname()) {
		return nil, fmt.Errorf("%w: %s://%s", ErrInsecure, req.URL.Scheme, req.URL.Host)
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
