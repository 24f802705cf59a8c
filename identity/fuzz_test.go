package identity

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/limit"
)

// FuzzTokens checks that what is accepted is what stands there.
func FuzzTokens(f *testing.F) {
	hash := strings.Repeat("0a", 32)
	for _, seed := range []string{"", "ci:" + hash, "# x\n\nci@shop:" + hash + "," + strings.Repeat("1", 64) + "\r\n", "a:b:" + hash, "ci", ":", "ci:" + hash[1:], "\xff:" + hash, "*:" + hash} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tokens, err := parseTokens([]byte(text))
		if err != nil {
			return
		}
		if len(tokens) == 0 {
			t.Errorf("%q has no tokens and is accepted", text)
		}
		seen := make(map[string]bool)
		for _, tok := range tokens {
			h := hex.EncodeToString(tok.hash[:])
			if checkName(tok.name) != nil || seen[h] || !strings.Contains(text, tok.name+":") || !strings.Contains(strings.ToLower(text), h) {
				t.Errorf("%q: %q %s", text, tok.name, h)
			}
			seen[h] = true
		}
	})
}

// FuzzUsers checks that every accepted hash can be compared with in bounded time.
func FuzzUsers(f *testing.F) {
	hash := "$2a$04$" + strings.Repeat("a", 53)
	for _, seed := range []string{"", "ada:" + hash, "# x\nada:" + hash + "\nbob:" + hash, "ada:$2y$31$" + strings.Repeat("a", 53), "ada:" + hash[1:], "ada:x", "ada"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		users, _, err := parseUsers([]byte(text))
		if err == nil && len(users) == 0 {
			t.Errorf("%q has no users and is accepted", text)
		}
		for name, hash := range users {
			cost, err := bcryptCost(hash)
			if err != nil || cost > maxCost || checkName(name) != nil || strings.Contains(name, ":") {
				t.Errorf("%q: user %q, cost %d, %v", text, name, cost, err)
			}
		}
	})
}

// FuzzAuthorization checks that no header but the right one gets in.
func FuzzAuthorization(f *testing.F) {
	line, err := TokenLine("ci", strings.Repeat("t", 20))
	if err != nil {
		f.Fatal(err)
	}
	tokens := new(bearer)
	if _, err := tokens.load([]byte(line)); err != nil {
		f.Fatal(err)
	}
	who := &Identity{enabled: true, header: []Authenticator{tokens}, challenge: []string{"Bearer"}, failures: limit.New(1e6, 1e6, time.Now)}
	for _, seed := range []string{"", "Bearer " + strings.Repeat("t", 20), "bearer  x", "Bearer", "Basic Og==", "Bearer \xff", "Bearer ="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["Authorization"] = []string{header}
		caller, err := who.Identify(r)
		scheme, rest, _ := strings.Cut(header, " ")
		right := strings.EqualFold(scheme, "bearer") && strings.Trim(rest, " ") == strings.Repeat("t", 20)
		if (err == nil) != right || (caller.Name == "ci") != right {
			t.Errorf("%q: %q, %v", header, caller.Name, err)
		}
	})
}

// FuzzCommonName checks that a name from a certificate is one that a file could have.
func FuzzCommonName(f *testing.F) {
	for _, seed := range []string{"", "ci", "*", ReservedCaller, "spiffe://a/b", "a b", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		cert := &x509.Certificate{Subject: pkix.Name{CommonName: name}}
		caller, err := authenticateCertificate(&tls.ConnectionState{
			PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}},
		})
		if err == nil && (caller.Name != name || checkName(name) != nil || strings.Contains(name, "://")) {
			t.Errorf("%q: %q", name, caller.Name)
		}
		if err != nil && caller.Name != "" {
			t.Errorf("%q is refused and named %q", name, caller.Name)
		}
	})
}
