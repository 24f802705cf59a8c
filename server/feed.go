package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/gatehouse-dev/gatehouse/feed/feedclient"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
)

const (
	// dialTimeout bounds one try to connect, and dialEvery how long the next one waits.
	dialTimeout = 5 * time.Second
	dialEvery   = 3 * time.Second
	// A connection that says nothing is asked whether it is there.
	aliveAfter, aliveWithin = 20 * time.Second, 10 * time.Second

	maxTokenFile = 16 << 10
)

// validateRole refuses settings of parts that a role does not run, and a gate that
// could not reach its service, or would send secrets that everybody can read.
func (c *Config) validateRole() error {
	f := c.Admission.Feed
	switch c.Role {
	case AllRoles:
		if f.CopyInterval = 0; f != (FeedConfig{}) {
			return errors.New("admission.feed is for a gate or a controller that runs alone: set role: admission, or leave it out")
		}
		return nil
	case MutateRole:
		if c.Mutate.Address == "" {
			c.Mutate.Address = defaultMutateAddress
		}
		if len(c.Admission.HintSignersFiles) == 0 {
			return nil
		}
		if _, err := f.target(c.InsecureNoAuth); err != nil {
			return fmt.Errorf("rollout hints are told by a metadata service: %w", err)
		}
		return nil
	case AdmissionRole, ControllerRole:
	default:
		return fmt.Errorf("role %q: want %q, %q, %q, %q, or none for all roles", c.Role, AdmissionRole, AttestorRole, MutateRole, ControllerRole)
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for what, given := range map[string]bool{
		"store": c.Store != (StoreConfig{}), "identity": c.Identity.Enabled() || len(c.Identity.Rules) > 0, "metadata.tls": c.Metadata.TLS != (TLSConfig{}),
		"attestor": c.Attestor.ConfigFile != "",
	} {
		if given {
			bad("role %s does not run what %s is for: leave it out", c.Role, what)
		}
	}
	if _, err := f.target(c.InsecureNoAuth); err != nil {
		errs = append(errs, err)
	}
	if (f.CertFile == "") != (f.KeyFile == "") {
		bad("admission.feed certFile and keyFile: give both or neither")
	}
	if f.CopyInterval <= 0 || f.MaxSilence < 0 {
		bad("admission.feed.copyInterval and maxSilence are times, such as 30s")
	}
	return errors.Join(errs...)
}

// A feedTarget is where a metadata service is.
type feedTarget struct {
	dial   string // for gRPC
	host   string // that its certificate is for
	secure bool
}

func (f FeedConfig) target(insecureToo bool) (feedTarget, error) {
	if f.Server == "" {
		return feedTarget{}, errors.New("admission.feed has no server: give the address of the metadata service, such as https://gatehouse.example:8080")
	}
	if path, ok := unixPath(f.Server); ok {
		return feedTarget{dial: "unix://" + path, host: "localhost"}, checkUnixPath(path)
	}
	u, err := url.Parse(f.Server)
	if err != nil || u.Host == "" || u.Port() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Scheme != "https" && u.Scheme != "http" {
		return feedTarget{}, fmt.Errorf("admission.feed server %q: want https://HOST:PORT, unix:///path, or http://HOST:PORT on loopback", f.Server)
	}
	t := feedTarget{dial: "dns:///" + u.Host, host: u.Hostname(), secure: u.Scheme == "https"}
	if !t.secure && !isLoopback(u.Hostname()) && !insecureToo {
		return feedTarget{}, fmt.Errorf("admission.feed server %q is not on loopback, and whoever is on the way could make this gate let anything in: use https", f.Server)
	}
	return t, nil
}

// dialFeed returns a connection to the metadata service, which is made when it is used.
func (p *parts) dialFeed() (*grpc.ClientConn, error) {
	f := p.cfg.Admission.Feed
	t, err := f.target(p.cfg.InsecureNoAuth)
	if err != nil {
		return nil, err
	}
	transport := insecure.NewCredentials()
	if t.secure {
		config, err := p.feedTLS(f, t.host)
		if err != nil {
			return nil, err
		}
		if _, err := config(); err != nil {
			return nil, err
		}
		transport = freshTLS{TransportCredentials: credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12}), config: config}
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: dialTimeout, Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: dialEvery}}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: aliveAfter, Timeout: aliveWithin}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(feedclient.MaxMessage)),
	}
	if f.TokenFile != "" {
		token := tokenFile{path: f.TokenFile, secure: t.secure}
		if _, err := token.read(); err != nil {
			return nil, err
		}
		options = append(options, grpc.WithPerRPCCredentials(token))
	}
	conn, err := grpc.NewClient(t.dial, options...)
	if err != nil {
		return nil, fmt.Errorf("connecting to the metadata service %s: %w", f.Server, err)
	}
	return conn, nil
}

// feedTLS returns what makes the TLS of each connection.
func (p *parts) feedTLS(f FeedConfig, host string) (func() (*tls.Config, error), error) {
	var own *certificate
	if f.CertFile != "" {
		var err error
		if own, err = openCertificate(feedCertificate, f.CertFile, f.KeyFile, p.logger); err != nil {
			return nil, err
		}
		p.certificates = append(p.certificates, own)
	}
	return func() (*tls.Config, error) {
		config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
		if f.CAFile != "" {
			var err error
			if config.RootCAs, err = readRoots(f.CAFile); err != nil {
				return nil, err
			}
		}
		if own != nil {
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own.pair.Load(), nil }
		}
		return config, nil
	}, nil
}

func readRoots(path string) (*x509.CertPool, error) {
	text, err := bounded.ReadFile(path, maxPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the CA of the metadata service: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("reading the CA of the metadata service from %s: there is no PEM certificate in it", path)
	}
	return pool, nil
}

// freshTLS makes the TLS of each connection anew, so that a CA that was replaced counts.
type freshTLS struct {
	credentials.TransportCredentials
	config func() (*tls.Config, error)
}

// ClientHandshake is of [credentials.TransportCredentials].
func (f freshTLS) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config, err := f.config()
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, conn)
}

// Clone is of [credentials.TransportCredentials].
func (f freshTLS) Clone() credentials.TransportCredentials { return f }

// A tokenFile proves who the gate is by a token, which may be replaced at any time.
type tokenFile struct {
	path   string
	secure bool
}

func (f tokenFile) read() (string, error) {
	raw, err := bounded.ReadFile(f.path, maxTokenFile)
	if err != nil {
		return "", fmt.Errorf("reading the token of the gate: %w", err)
	}
	token := strings.TrimSpace(string(raw))
	if token == "" {
		return "", fmt.Errorf("reading the token of the gate: %s is empty", f.path)
	}
	return token, nil
}

// GetRequestMetadata is of [credentials.PerRPCCredentials].
func (f tokenFile) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := f.read()
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity is of [credentials.PerRPCCredentials]. What is in the clear
// stays on this machine, or was called insecure by its owner.
func (f tokenFile) RequireTransportSecurity() bool { return f.secure }

// gateName is what the server calls this gate.
func (f FeedConfig) gateName() string {
	if f.Gate != "" {
		return f.Gate
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "gate"
	}
	return name
}
