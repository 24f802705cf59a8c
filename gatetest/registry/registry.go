// Package registry is a container registry on loopback, and a builder of real
// images from files, for tests and demonstrations. Neither needs a network, a
// daemon or a container runtime.
//
// In a test:
//
//	reg := registry.New(t)
//	img, err := registry.GoBinaryImage(binary, registry.ImageOptions{User: "65532"})
//	…
//	ref, err := reg.Push(t.Context(), "shop/web:1", img) // 127.0.0.1:PORT/shop/web@sha256:…
//
// Other programs use [Serve]. The registry speaks the OCI distribution
// specification 1.1 with the referrers API, over plain HTTP, which clients
// accept for 127.0.0.1, or over TLS ([WithTLS]), and lets everybody in or asks
// for a password ([WithBasicAuth]). It counts requests, so that a test can show
// that something asks no registry.
//
// Manifests and tags are kept in memory and end with the registry; blobs may be
// kept on disk ([WithDisk]).
package registry

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/gatehouse-dev/gatehouse/image"
)

const (
	// headerBound ends connections that never say what they want.
	headerBound = 10 * time.Second
	// drainBound is what requests under way have to end in at a shutdown.
	drainBound = 5 * time.Second
)

// An Option changes what a registry is.
type Option func(*config)

type config struct {
	dir            string
	user, password string
	tls            bool
}

// WithDisk keeps blobs in dir, which is made if it does not exist, and not in memory.
func WithDisk(dir string) Option { return func(c *config) { c.dir = dir } }

// WithTLS serves HTTPS with a certificate of its own, see [Registry.CertificatePEM].
func WithTLS() Option { return func(c *config) { c.tls = true } }

// WithBasicAuth lets in only who gives this name and password.
func WithBasicAuth(user, password string) Option {
	return func(c *config) { c.user, c.password = user, password }
}

// A Registry is a running registry.
type Registry struct {
	host        string
	server      *http.Server
	served      chan struct{} // closed when serving has ended
	err         error         // why; valid once served is closed
	requests    atomic.Int64
	auth        authn.Authenticator
	transport   *http.Transport
	certificate []byte
}

// New starts a registry on a free loopback port that ends with the test.
func New(t testing.TB, opts ...Option) *Registry {
	t.Helper()
	r, err := start("127.0.0.1:0", opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("closing the registry: %v", err)
		}
	})
	return r
}

// Serve runs a registry at addr, such as "127.0.0.1:5000", with its blobs in
// dir, or in memory if dir is "", until ctx ends. It calls ready once, when the
// registry can be used; ready may be nil.
func Serve(ctx context.Context, addr, dir string, ready func(*Registry), opts ...Option) error {
	r, err := start(addr, append([]Option{WithDisk(dir)}, opts...))
	if err != nil {
		return err
	}
	if ready != nil {
		ready(r)
	}
	select {
	case <-ctx.Done():
		return r.Close()
	case <-r.served:
		return r.err
	}
}

func start(addr string, opts []Option) (*Registry, error) {
	var c config
	for _, opt := range opts {
		opt(&c)
	}
	r := &Registry{served: make(chan struct{}), auth: authn.Anonymous}
	handler, err := r.handler(c)
	if err != nil {
		return nil, fmt.Errorf("starting a registry: %w", err)
	}
	listener, err := net.Listen("tcp", addr) //nolint:noctx // binding loopback does not block
	if err != nil {
		return nil, fmt.Errorf("starting a registry: %w", err)
	}
	r.host = listener.Addr().String()
	r.transport = &http.Transport{MaxIdleConnsPerHost: 8}
	if c.tls {
		certificate, err := newCertificate(listener.Addr())
		if err != nil {
			_ = listener.Close()
			return nil, fmt.Errorf("starting a registry: %w", err)
		}
		r.certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Leaf.Raw})
		roots := x509.NewCertPool()
		roots.AddCert(certificate.Leaf)
		r.transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
	}
	silent := log.New(io.Discard, "", 0)
	r.server = &http.Server{Handler: handler, ReadHeaderTimeout: headerBound, ErrorLog: silent}
	go func() {
		defer close(r.served)
		if err := r.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			r.err = fmt.Errorf("serving a registry at %s: %w", r.host, err)
		}
	}()
	return r, nil
}

func (r *Registry) handler(c config) (http.Handler, error) {
	opts := []registry.Option{
		registry.Logger(log.New(io.Discard, "", 0)),
		registry.WithReferrersSupport(true),
	}
	if c.dir != "" {
		if err := os.MkdirAll(c.dir, 0o755); err != nil {
			return nil, err
		}
		opts = append(opts, registry.WithBlobHandler(registry.NewDiskBlobHandler(c.dir)))
	}
	inner := registry.New(opts...)
	if c.user != "" {
		r.auth = authn.FromConfig(authn.AuthConfig{Username: c.user, Password: c.password})
		inner = requirePassword(inner, c.user, c.password)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.requests.Add(1)
		inner.ServeHTTP(w, req)
	}), nil
}

func requirePassword(inner http.Handler, user, password string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		u, p, _ := req.BasicAuth()
		known := subtle.ConstantTimeCompare([]byte(u), []byte(user)) & subtle.ConstantTimeCompare([]byte(p), []byte(password))
		if known != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="gatetest"`)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
			return
		}
		inner.ServeHTTP(w, req)
	})
}

// Host returns the registry's part of a reference, such as "127.0.0.1:5000".
func (r *Registry) Host() string { return r.host }

// Requests returns how many requests the registry has received.
func (r *Registry) Requests() int64 { return r.requests.Load() }

// CertificatePEM returns the certificate to trust, or nil without [WithTLS].
func (r *Registry) CertificatePEM() []byte { return r.certificate }

// ClientOptions are what go-containerregistry's remote package needs to reach
// this registry: credentials and trust.
func (r *Registry) ClientOptions() []remote.Option {
	return []remote.Option{remote.WithAuth(r.auth), remote.WithTransport(r.transport)}
}

// Close ends the registry and returns why it ended before, if it did.
func (r *Registry) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainBound)
	defer cancel()
	r.transport.CloseIdleConnections()
	err := r.server.Shutdown(ctx)
	if err != nil {
		err = r.server.Close()
	}
	<-r.served
	return errors.Join(r.err, err)
}

// Push stores an image, or an index of images, under a repository and
// optionally a tag, such as "shop/web" or "shop/web:1", and returns the
// reference by which it can be decided: HOST/shop/web@sha256:….
func (r *Registry) Push(ctx context.Context, repository string, content remote.Taggable) (image.Reference, error) {
	ref, err := r.push(ctx, repository, content)
	if err != nil {
		return image.Reference{}, fmt.Errorf("pushing %q to the registry at %s: %w", repository, r.host, err)
	}
	return ref, nil
}

func (r *Registry) push(ctx context.Context, repository string, content remote.Taggable) (image.Reference, error) {
	ref, err := image.Parse(r.host + "/" + repository)
	if err != nil {
		return image.Reference{}, err
	}
	manifest, err := content.RawManifest()
	if err != nil {
		return image.Reference{}, err
	}
	digested := ref.WithDigest(image.DigestOf(manifest))
	target := ref.String()
	if ref.Tag() == "" {
		target = digested.String()
	}
	parsed, err := name.ParseReference(target)
	if err != nil {
		return image.Reference{}, err
	}
	options := append(r.ClientOptions(), remote.WithContext(ctx))
	switch content := content.(type) {
	case v1.Image:
		err = remote.Write(parsed, content, options...)
	case v1.ImageIndex:
		err = remote.WriteIndex(parsed, content, options...)
	default:
		err = remote.Put(parsed, content, options...)
	}
	return digested, err
}

// Tag makes a tag of ref's repository point to its digest, in place of what it
// pointed to before.
func (r *Registry) Tag(ctx context.Context, ref image.Reference, tag string) error {
	err := func() error {
		digest, err := name.NewDigest(ref.String())
		if err != nil {
			return err
		}
		options := append(r.ClientOptions(), remote.WithContext(ctx))
		descriptor, err := remote.Get(digest, options...)
		if err != nil {
			return err
		}
		return remote.Tag(digest.Tag(tag), descriptor, options...)
	}()
	if err != nil {
		return fmt.Errorf("tagging %q as %q: %w", ref, strings.TrimSpace(tag), err)
	}
	return nil
}
