package conformance

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxAnswer bounds what is read of an answer; an API server reads 3 MiB.
	maxAnswer = 3 << 20
	// maxConnections bounds what the suite keeps open to a gate.
	maxConnections = 256
)

// A client talks to the gate as an API server does: POST over HTTP/1.1 and TLS,
// with the timeout in the query, and gives up after it.
type client struct {
	url     *url.URL
	http    *http.Client
	tls     *tls.Config
	timeout time.Duration
}

func newClient(o Options, timeout time.Duration) (*client, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, fmt.Errorf("reading the gate's URL: %w", err)
	}
	if u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("the gate's URL %q: want https://HOST[:PORT]/PATH, which is all that API servers take", u.Redacted())
	}
	query := u.Query()
	query.Set("timeout", timeout.String())
	u.RawQuery = query.Encode()
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots, ServerName: o.ServerName, NextProtos: []string{"http/1.1"}}
	if config.ServerName == "" {
		config.ServerName = u.Hostname()
	}
	if o.Certificate != nil {
		config.Certificates = []tls.Certificate{*o.Certificate}
	}
	transport := &http.Transport{TLSClientConfig: config, MaxConnsPerHost: maxConnections, MaxIdleConnsPerHost: 16, DisableCompression: true}
	return &client{
		url: u, tls: config, timeout: timeout,
		// A webhook that redirects is an error to an API server.
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

func (c *client) close() { c.http.CloseIdleConnections() }

// An exchange is a review sent and what came back.
type exchange struct {
	status      int
	contentType string
	body        []byte
	took        time.Duration
	response    response
	envelope    envelope
	// problem says why an API server could not use the answer, and would apply the
	// webhook's failurePolicy; nil if it could.
	problem error
	// unreached is set when nobody answered the connection.
	unreached bool
}

// The types below are what the suite reads of an answer.

type envelope struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Response   *response `json:"response"`
}

type response struct {
	UID     string `json:"uid"`
	Allowed bool   `json:"allowed"`
	Status  *struct {
		Message string `json:"message"`
		Reason  string `json:"reason"`
		Code    int    `json:"code"`
	} `json:"status"`
	Patch            []byte            `json:"patch"`
	PatchType        string            `json:"patchType"`
	AuditAnnotations map[string]string `json:"auditAnnotations"`
	Warnings         []string          `json:"warnings"`
}

// said is every text of the answer that people get to see.
func (r response) said() []string {
	list := append([]string{}, r.Warnings...)
	if r.Status != nil {
		list = append(list, r.Status.Message, r.Status.Reason)
	}
	for key, value := range r.AuditAnnotations {
		list = append(list, key, value)
	}
	return list
}

// post sends a review, and reads the answer as an API server does.
func (c *client) post(ctx context.Context, body []byte, header http.Header) exchange {
	return c.stream(ctx, bytes.NewReader(body), int64(len(body)), header, body)
}

// stream sends length bytes of body (-1: as many as there are, in chunks). asked is
// the review in it, by which the answer is judged.
func (c *client) stream(ctx context.Context, body io.Reader, length int64, header http.Header, asked []byte) exchange {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	start := time.Now()
	e := c.roundTrip(ctx, body, length, header)
	e.took = time.Since(start)
	if e.problem == nil {
		e.problem = e.read(asked)
	}
	return e
}

func (c *client) roundTrip(ctx context.Context, body io.Reader, length int64, header http.Header) (e exchange) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url.String(), body)
	if err != nil {
		e.problem = err
		return e
	}
	req.ContentLength = length
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "gatehouse-conformance/"+Version)
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := c.http.Do(req)
	if err != nil {
		dial := (*net.OpError)(nil)
		e.unreached = errors.As(err, &dial) && dial.Op == "dial"
		e.problem = c.worded(err)
		return e
	}
	defer func() { _ = resp.Body.Close() }()
	e.status, e.contentType = resp.StatusCode, resp.Header.Get("Content-Type")
	e.body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		e.problem = c.worded(err)
	case len(e.body) > maxAnswer:
		e.problem = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	case e.status < 200 || e.status > 206:
		e.problem = fmt.Errorf("HTTP status %d: %s", e.status, clip(string(e.body)))
	}
	return e
}

// worded turns an error of the client into one without the URL in it.
func (c *client) worded(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", c.timeout)
	}
	var at *url.Error
	if errors.As(err, &at) {
		err = at.Err
	}
	return fmt.Errorf("no answer: %w", err)
}

// read decodes the answer and returns why an API server would not take it.
func (e *exchange) read(asked []byte) error {
	if err := json.Unmarshal(e.body, &e.envelope, jsontext.AllowDuplicateNames(true)); err != nil {
		return fmt.Errorf("the answer is not an AdmissionReview: %w", err)
	}
	if e.envelope.Response == nil {
		return errors.New("the answer has no response")
	}
	e.response = *e.envelope.Response
	version, uid := sent(asked)
	switch {
	case version != apiVersion(v1): // API servers do not look at the envelopes of v1beta1
		return nil
	case e.envelope.APIVersion != version || e.envelope.Kind != "AdmissionReview":
		return fmt.Errorf("the answer is of %q, %q and not of the review's version and kind", clip(e.envelope.APIVersion), clip(e.envelope.Kind))
	case e.response.UID != uid:
		return fmt.Errorf("the answer is for uid %q and not for the review's", clip(e.response.UID))
	case len(e.response.Patch) > 0 && e.response.PatchType != "JSONPatch":
		return errors.New("the answer has a patch without patchType JSONPatch")
	}
	return nil
}

// sent returns the version and the uid of a review, "" for one that is broken on
// purpose, to which nothing can be compared.
func sent(review []byte) (version, uid string) {
	var in struct {
		APIVersion string `json:"apiVersion"`
		Request    struct {
			UID string `json:"uid"`
		} `json:"request"`
	}
	if err := json.Unmarshal(review, &in, jsontext.AllowDuplicateNames(true)); err != nil {
		return "", ""
	}
	return in.APIVersion, in.Request.UID
}

func apiVersion(version string) string { return "admission.k8s.io/" + version }

// dial opens a TLS connection to the gate, for what HTTP clients do not do.
func (c *client) dial(ctx context.Context) (net.Conn, error) {
	address := c.url.Host
	if c.url.Port() == "" {
		address = net.JoinHostPort(c.url.Hostname(), "443")
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return (&tls.Dialer{Config: c.tls}).DialContext(ctx, "tcp", address)
}

// head is the beginning of a POST as text, up to the headers that differ.
func (c *client) head() string {
	return "POST " + c.url.RequestURI() + " HTTP/1.1\r\nHost: " + c.url.Host + "\r\nContent-Type: application/json\r\n"
}

// newUID returns an id that no other review has.
func newUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// clip shortens what came from outside, and takes out what a terminal would obey.
func clip(s string) string {
	const most = 200
	s = strings.ToValidUTF8(s, "\uFFFD")
	cut := len(s) > most
	if cut {
		s = strings.ToValidUTF8(s[:most], "")
	}
	s = fmt.Sprintf("%+q", strings.TrimSpace(s))
	s = s[1 : len(s)-1]
	if cut {
		s += "…"
	}
	return s
}
