package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// authenticateCertificate names the caller after the certificate that the
// listener has verified. What it has not verified proves nothing.
func authenticateCertificate(state *tls.ConnectionState) (metadata.Caller, error) {
	switch {
	case state == nil || len(state.PeerCertificates) == 0:
		return metadata.Caller{}, errors.New("the connection has no client certificate, and the request no credentials")
	case len(state.VerifiedChains) == 0:
		return metadata.Caller{}, errors.New("the client certificate was not verified")
	}
	name, err := certificateName(state.VerifiedChains[0][0])
	if err != nil {
		return metadata.Caller{}, fmt.Errorf("client certificate: %w", err)
	}
	return metadata.Caller{Name: name}, nil
}

// certificateName picks the name, in the order of the package comment.
func certificateName(c *x509.Certificate) (string, error) {
	uris := make([]string, len(c.URIs))
	for n, u := range c.URIs {
		uris[n] = u.String()
	}
	for _, kind := range []struct {
		what  string
		names []string
	}{{"URI", uris}, {"DNS name", c.DNSNames}, {"mail address", c.EmailAddresses}} {
		switch {
		case len(kind.names) == 0:
			continue
		case len(kind.names) > 1:
			return "", fmt.Errorf("it has %d subject names of the kind %s, which say nothing about which one calls; have one issued with a single name", len(kind.names), kind.what)
		}
		return checkSubject(kind.names[0], kind.what)
	}
	if len(c.IPAddresses) > 0 {
		return "", errors.New("it is for an address of a machine, which is no caller's name; have one issued with a URI")
	}
	return checkSubject(c.Subject.CommonName, "common name")
}

func checkSubject(name, kind string) (string, error) {
	if kind == "DNS name" {
		name = strings.ToLower(name)
	}
	if kind != "URI" && strings.Contains(name, "://") {
		return "", fmt.Errorf("its %s %q looks like a URI and is none", kind, clip(name))
	}
	if strings.HasPrefix(name, "*.") {
		return "", fmt.Errorf("its %s %q is a wildcard, and names nobody", kind, clip(name))
	}
	return name, checkName(name)
}

// clip shortens text from outside before it goes into an error.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
