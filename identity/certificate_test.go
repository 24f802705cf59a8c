package identity_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/identity"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

func TestTheNameInACertificate(t *testing.T) {
	t.Parallel()
	spiffe := &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/shop/sa/ci"}
	common := pkix.Name{CommonName: "common"}
	for name, tc := range map[string]struct {
		cert         *x509.Certificate
		caller, text string
	}{
		"URI first":            {&x509.Certificate{Subject: common, URIs: []*url.URL{spiffe}, DNSNames: []string{"a", "b"}}, "spiffe://cluster.local/ns/shop/sa/ci", ""},
		"then DNS":             {&x509.Certificate{Subject: common, DNSNames: []string{"CI.shop.example"}, EmailAddresses: []string{"a@b"}}, "ci.shop.example", ""},
		"then mail":            {&x509.Certificate{Subject: common, EmailAddresses: []string{"ci@shop"}}, "ci@shop", ""},
		"then the common name": {&x509.Certificate{Subject: common}, "common", ""},
		"two URIs":             {&x509.Certificate{URIs: []*url.URL{spiffe, spiffe}}, "", "2 subject names"},
		"two DNS names":        {&x509.Certificate{Subject: common, DNSNames: []string{"a", "b"}}, "", "2 subject names"},
		"a wildcard":           {&x509.Certificate{DNSNames: []string{"*.shop"}}, "", "wildcard"},
		"an address":           {&x509.Certificate{Subject: common, IPAddresses: []net.IP{{127, 0, 0, 1}}}, "", "address of a machine"},
		"no name":              {&x509.Certificate{}, "", "no name"},
		"posing as a URI":      {&x509.Certificate{Subject: pkix.Name{CommonName: "spiffe://cluster.local/ns/shop/sa/ci"}}, "", "looks like a URI"},
		"posing as the server": {&x509.Certificate{Subject: pkix.Name{CommonName: identity.ReservedCaller}}, "", "the server's own"},
		"posing as everybody":  {&x509.Certificate{Subject: pkix.Name{CommonName: "*"}}, "", "stands for all"},
		"with a space":         {&x509.Certificate{Subject: pkix.Name{CommonName: "ci shop"}}, "", "white space"},
		"not of UTF-8":         {&x509.Certificate{Subject: pkix.Name{CommonName: "ci\xff"}}, "", "UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			who := open(t, identity.Config{MTLS: true, Rules: everybody}, identity.Options{})
			r := request()
			r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{tc.cert}, VerifiedChains: [][]*x509.Certificate{{tc.cert}}}
			caller, err := who.Identify(r)
			if caller.Name != tc.caller || (err == nil) != (tc.text == "") || err != nil && !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%q, %v", caller.Name, err)
			}
		})
	}
}

func TestACertificateCountsOnlyIfItWasVerified(t *testing.T) {
	t.Parallel()
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: "ci"}}
	verified := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
	both := identity.Config{MTLS: true, BearerTokensFile: write(t, "tokens", "ada:"+hashOf(goodToken)), Rules: everybody}
	for name, tc := range map[string]struct {
		cfg           identity.Config
		state         *tls.ConnectionState
		authorization []string
		caller        string
	}{
		"verified":                             {both, verified, nil, "ci"},
		"not verified":                         {both, &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}, nil, ""},
		"none":                                 {both, &tls.ConnectionState{}, nil, ""},
		"no TLS":                               {both, nil, nil, ""},
		"a token counts before a certificate":  {both, verified, []string{"Bearer " + goodToken}, "ada"},
		"a wrong token is not made good by it": {both, verified, []string{"Bearer wrong"}, ""},
		"nor an empty header":                  {both, verified, []string{""}, ""},
		"nor one that nobody here understands": {identity.Config{MTLS: true, Rules: everybody}, verified, []string{"Bearer wrong"}, ""},
		"mtls is not configured":               {identity.Config{BearerTokensFile: both.BearerTokensFile, Rules: everybody}, verified, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			who := open(t, tc.cfg, identity.Options{})
			r := request(tc.authorization...)
			r.TLS = tc.state
			caller, err := who.Identify(r)
			if caller.Name != tc.caller || (err == nil) != (tc.caller != "") || err != nil && metadata.KindOf(err) != metadata.Unauthenticated {
				t.Errorf("%q, %v", caller.Name, err)
			}
		})
	}
}
