package transfer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/gatehouse-dev/gatehouse/internal/bounded"
)

// A Server is where a Grafeas API is, and how to get in.
type Server struct {
	Address string // HOST:PORT of its gRPC and REST API
	// TLS is implied by the files of certificates.
	TLS                       bool
	CAFile, CertFile, KeyFile string
	// TokenFile has a bearer token; User and PasswordFile are for basic credentials.
	TokenFile, User, PasswordFile string
	// InsecurePlaintext allows no TLS to other machines.
	InsecurePlaintext bool
}

const (
	maxSecretBytes = 64 << 10
	maxPEMBytes    = 1 << 20
	// maxReceived is more than the 4 MiB of gRPC's default: servers answer pages of
	// a thousand messages, however large those are.
	maxReceived = 64 << 20
)

// Connect returns a connection to the server, which is made at its first call.
func (s Server) Connect() (*grpc.ClientConn, error) {
	secure, err := s.secure()
	if err != nil {
		return nil, err
	}
	transport := insecure.NewCredentials()
	if secure {
		cfg, err := s.tlsConfig()
		if err != nil {
			return nil, err
		}
		transport = credentials.NewTLS(cfg)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDisableServiceConfig(), // it could bring retries that create twice
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReceived)),
	}
	header, err := s.authorization()
	if err != nil {
		return nil, err
	}
	if header != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(authorization{header, secure}))
	}
	return grpc.NewClient(s.Address, opts...)
}

// HTTP returns a client of the server's REST API, and the URL that it is at.
// Redirects are not followed: they would take the credentials elsewhere.
func (s Server) HTTP() (client *http.Client, base string, err error) {
	secure, err := s.secure()
	if err != nil {
		return nil, "", err
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	base = "http://" + s.Address
	if secure {
		base = "https://" + s.Address
		transport.ForceAttemptHTTP2 = true
		if transport.TLSClientConfig, err = s.tlsConfig(); err != nil {
			return nil, "", err
		}
	}
	header, err := s.authorization()
	if err != nil {
		return nil, "", err
	}
	return &http.Client{
		Transport:     authorized{header, transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, base, nil
}

// secure reports whether to use TLS, without which nothing goes to other machines
// unless that was asked for.
func (s Server) secure() (bool, error) {
	host, _, err := net.SplitHostPort(s.Address)
	if err != nil {
		return false, fmt.Errorf("server %q: want HOST:PORT of its API: %w", s.Address, err)
	}
	secure := s.TLS || s.CAFile != "" || s.CertFile != "" || s.KeyFile != ""
	if !secure && !loopback(host) && !s.InsecurePlaintext {
		return false, fmt.Errorf("server %q is another machine: give --tls or --ca-file; --insecure-plaintext sends everything, passwords too, unprotected", s.Address)
	}
	return secure, nil
}

// authorized adds the credentials to each request.
type authorized struct {
	header string
	next   http.RoundTripper
}

func (a authorized) RoundTrip(r *http.Request) (*http.Response, error) {
	if a.header != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", a.header)
	}
	return a.next.RoundTrip(r)
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

func (s Server) tlsConfig() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CAFile != "" {
		text, err := bounded.ReadFile(s.CAFile, maxPEMBytes)
		if err != nil {
			return nil, fmt.Errorf("reading --ca-file: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--ca-file %q has no certificate in PEM", s.CAFile)
		}
	}
	if (s.CertFile == "") != (s.KeyFile == "") {
		return nil, errors.New("--cert-file and --key-file: give both or neither")
	}
	if s.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("reading --cert-file and --key-file: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// authorization returns the header of that name, "" if none is wanted.
func (s Server) authorization() (string, error) {
	switch {
	case (s.User == "") != (s.PasswordFile == ""):
		return "", errors.New("--user and --password-file: give both or neither")
	case s.User != "" && s.TokenFile != "":
		return "", errors.New("--token-file and --user: give one of them")
	case s.TokenFile != "":
		token, err := secret("--token-file", s.TokenFile)
		return "Bearer " + token, err
	case s.User != "":
		password, err := secret("--password-file", s.PasswordFile)
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(s.User+":"+password)), err
	}
	return "", nil
}

func secret(flag, file string) (string, error) {
	text, err := bounded.ReadFile(file, maxSecretBytes)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", flag, err)
	}
	value := strings.TrimRight(string(text), "\r\n")
	if value == "" || strings.ContainsAny(value, "\r\n") {
		return "", fmt.Errorf("%s %q: want one line", flag, file)
	}
	return value, nil
}

// authorization are credentials that go with each call. Without TLS they go only
// where [Server.Connect] let them.
type authorization struct {
	header string
	secure bool
}

func (a authorization) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": a.header}, nil
}

func (a authorization) RequireTransportSecurity() bool { return a.secure }
