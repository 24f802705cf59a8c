package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

// AttestConfig is who attests what ImageSecurityPolicies let in.
type AttestConfig struct {
	// CAFile has what the certificates of the signers are issued by; those of the system if
	// it is empty. TokenFile has a bearer token for them. Both are read for each request.
	CAFile    string `yaml:"caFile"`
	TokenFile string `yaml:"tokenFile"`
	// Signers are asked, one for an authority. With none nothing is attested.
	Signers []AttestSigner `yaml:"signers"`
}

// AttestSigner is a signer of Kritis (section kritisSigner of the server that it is of),
// which checks an image by a policy of its own before it signs.
type AttestSigner struct {
	// Authority is NAMESPACE/NAME of an AttestationAuthority, whose note and key the signer
	// has.
	Authority string `yaml:"authority"`
	// Server is https://HOST:PORT, or http://HOST:PORT on loopback.
	Server string `yaml:"server"`
}

const (
	// attestTimeout bounds a request: the image was scanned, or it would not be asked for.
	attestTimeout   = 10 * time.Second
	maxAttestAnswer = 1 << 20
)

func (a *AttestConfig) validate(insecureToo bool) error {
	var errs []error
	seen := map[string]bool{}
	for _, s := range a.Signers {
		namespace, name, ok := strings.Cut(s.Authority, "/")
		u, err := url.Parse(s.Server)
		switch {
		case !ok || namespace == "" || name == "" || strings.Contains(name, "/"):
			errs = append(errs, fmt.Errorf("controller.attest: authority %q: want NAMESPACE/NAME of an AttestationAuthority", s.Authority))
		case seen[s.Authority]:
			errs = append(errs, fmt.Errorf("controller.attest: authority %q is given twice", s.Authority))
		case err != nil || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Scheme != "https" && u.Scheme != "http":
			errs = append(errs, fmt.Errorf("controller.attest: server %q: want https://HOST:PORT, or http://HOST:PORT on loopback", s.Server))
		case u.Scheme == "http" && !isLoopback(u.Hostname()) && !insecureToo:
			errs = append(errs, fmt.Errorf("controller.attest: server %q is not on loopback: use https", s.Server))
		}
		seen[s.Authority] = true
	}
	return errors.Join(errs...)
}

// askingSigners has signers attest images.
type askingSigners struct {
	client  *http.Client
	token   tokenFile
	servers map[kube.Key]string
}

// newAskingSigners returns nil if there is no signer.
func (p *parts) newAskingSigners() *askingSigners {
	a := p.cfg.Controller.Attest
	if len(a.Signers) == 0 {
		return nil
	}
	s := &askingSigners{token: tokenFile{path: a.TokenFile}, servers: make(map[kube.Key]string)}
	for _, signer := range a.Signers {
		namespace, name, _ := strings.Cut(signer.Authority, "/")
		s.servers[kube.Key{Namespace: namespace, Name: name}] = strings.TrimSuffix(signer.Server, "/")
	}
	transport := &http.Transport{IdleConnTimeout: idleTimeout}
	transport.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
		if a.CAFile != "" {
			if config.RootCAs, err = readRoots(a.CAFile); err != nil {
				return nil, err
			}
		}
		return (&tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTimeout}, Config: config}).DialContext(ctx, network, address)
	}
	s.client = &http.Client{
		Transport: transport, Timeout: attestTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token is for nobody else
	}
	p.onClose(func() error { transport.CloseIdleConnections(); return nil })
	return s
}

// Signs implements [controller.Attestor].
func (s *askingSigners) Signs(authority kube.Key) bool { return s.servers[authority] != "" }

// Attest implements [controller.Attestor].
func (s *askingSigners) Attest(ctx context.Context, authority kube.Key, ref image.Reference) error {
	body, err := json.Marshal(map[string]string{"image": ref.String()})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.servers[authority]+"/check-and-sign", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	if s.token.path != "" {
		token, err := s.token.read()
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := s.client.Do(r)
	if err != nil {
		return fmt.Errorf("asking the signer of %s/%s: %w", authority.Namespace, authority.Name, err)
	}
	defer func() { _ = resp.Body.Close() }() // read only
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAttestAnswer))
	if err != nil {
		return fmt.Errorf("reading the answer of the signer of %s/%s: %w", authority.Namespace, authority.Name, err)
	}
	var answer struct{ Status, Message string }
	if json.Unmarshal(text, &answer) != nil || resp.StatusCode != http.StatusOK || answer.Status != "signed" {
		return fmt.Errorf("the signer of %s/%s has not attested %q: %s, %.300q %.300q", authority.Namespace, authority.Name, ref, resp.Status, answer.Status, answer.Message)
	}
	return nil
}
