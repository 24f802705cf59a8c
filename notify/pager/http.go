package pager

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/notify"
)

const (
	// maxAnswer bounds what is read of an answer, and maxExcerpt what is shown of it,
	// in bytes.
	maxAnswer  = 64 << 10
	maxExcerpt = 200
)

// HTTP is how to reach a receiver over HTTP.
type HTTP struct {
	// CAFile has the certificates that the receiver's is issued by; those of the system
	// if it is empty.
	CAFile string `yaml:"caFile"`
	// InsecureHTTP allows http:// off loopback.
	InsecureHTTP bool `yaml:"insecureHTTP"`
}

// client returns one that follows no redirects: they would take the page, and what
// proves who sends it, to somebody else.
func (h HTTP) client() (*http.Client, error) {
	config, err := tlsConfig(h.CAFile)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = config
	transport.MaxIdleConnsPerHost = 1
	return &http.Client{
		Transport:     witness{transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

func tlsConfig(caFile string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return config, nil
	}
	pem, err := bounded.ReadFile(caFile, maxCA)
	if err != nil {
		return nil, fmt.Errorf("reading caFile: %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading caFile: there is no certificate in %s", caFile)
	}
	return config, nil
}

// timed bounds each try.
type timed struct {
	notify.Receiver
	timeout time.Duration
}

// Send sends a page within the timeout.
func (t timed) Send(ctx context.Context, p notify.Page) error {
	ctx, cancel := context.WithTimeoutCause(ctx, t.timeout, fmt.Errorf("no answer within %v", t.timeout))
	defer cancel()
	err := t.Receiver.Send(ctx, p)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	return err
}

// A seen is what came back for a request, whatever the library that sent it makes of
// it. Their errors have the URL in them, which may be a secret, and say little.
type seen struct {
	err     error
	status  string
	code    int
	after   time.Duration
	excerpt string
}

type seenKey struct{}

// witness notes what comes back, and bounds it.
type witness struct{ base http.RoundTripper }

// RoundTrip sends a request.
func (w witness) RoundTrip(r *http.Request) (*http.Response, error) {
	s, _ := r.Context().Value(seenKey{}).(*seen)
	if s == nil {
		s = new(seen)
	}
	*s = seen{}
	resp, err := w.base.RoundTrip(r)
	if err != nil {
		s.err = err
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	err = errors.Join(err, resp.Body.Close())
	if err != nil {
		s.err = err
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	s.status, s.code, s.excerpt = resp.Status, resp.StatusCode, notify.Line(string(body), maxExcerpt)
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		s.after = time.Duration(min(seconds, 24*60*60)) * time.Second
	}
	return resp, nil
}

// exchange has a library, or post, send one request with the context, and judges what
// comes back. secret is not shown.
func exchange(ctx context.Context, secret string, send func(context.Context) error) error {
	s := new(seen)
	err := send(context.WithValue(ctx, seenKey{}, s))
	switch {
	case err == nil && s.code/100 == 2:
		return nil
	case s.err != nil:
		return s.err
	case s.code == 0:
		return &notify.FinalError{Err: errors.New(hide(fmt.Sprintf("the page could not be written: %v", err), secret))}
	}
	failure := errors.New(hide(strings.TrimSuffix(fmt.Sprintf("answers %s: %s", notify.Line(s.status, maxExcerpt), s.excerpt), ": "), secret))
	switch s.code {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return &notify.FinalError{Err: failure, Content: true}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return &notify.BusyError{Err: failure, After: s.after}
	case http.StatusRequestTimeout, http.StatusTooEarly:
		return failure
	}
	if s.code/100 == 3 || s.code/100 == 4 {
		return &notify.FinalError{Err: failure}
	}
	return failure
}

// hide takes a secret out of a text that a receiver wrote. Of a URL the path and its
// parts are secrets too.
func hide(text, secret string) string {
	if secret == "" {
		return text
	}
	secrets := []string{secret}
	if u, err := url.Parse(secret); err == nil && u.Host != "" {
		secrets = append(secrets, u.RequestURI(), u.Path)
		secrets = append(secrets, strings.FieldsFunc(u.RequestURI(), func(r rune) bool { return strings.ContainsRune("/?&=", r) })...)
	}
	for _, s := range secrets {
		const shortest = 6 // what is shorter is no secret, and may be a word
		if len(s) >= shortest {
			text = strings.ReplaceAll(text, s, "(secret)")
		}
	}
	return text
}

// post posts JSON.
func post(ctx context.Context, c *http.Client, to string, header http.Header, secret string, body any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return &notify.FinalError{Err: err}
	}
	return postText(ctx, c, to, header, secret, text)
}

func postText(ctx context.Context, c *http.Client, to string, header http.Header, secret string, text []byte) error {
	return exchange(ctx, secret, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(text))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		for name, values := range header {
			req.Header[name] = values
		}
		resp, err := c.Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
}
