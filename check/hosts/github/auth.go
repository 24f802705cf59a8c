package github

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-dev/gatehouse/check/hosts"
)

const (
	// jwtLife is how long a proof of the app is good, of at most ten minutes; it is dated
	// back by jwtSkew, since the clocks differ.
	jwtLife = 5 * time.Minute
	jwtSkew = time.Minute
	// renewBefore is how long before its end, an hour after it was made, a token is
	// replaced.
	renewBefore = 5 * time.Minute
	// maxToken bounds the answer with a token.
	maxToken = 1 << 20
)

// Auth is how we prove who we are: a Token, or an App. The zero Auth asks as anybody.
type Auth struct {
	Token string
	App   App
}

// An App is an installation of a GitHub App.
type App struct {
	ID, Installation string
	// PrivateKey is the app's, in PEM.
	PrivateKey string
}

// authorizer returns what adds the credentials to requests for the API.
func (a Auth) authorizer(api string) (func(*http.Request) error, error) {
	switch {
	case a.Token != "" && a.App != App{}:
		return nil, errors.New("credentials for GitHub: both a token and an app are given")
	case a.App != App{}:
		return a.App.authorizer(api)
	}
	return func(req *http.Request) error {
		if a.Token != "" {
			req.Header.Set("Authorization", "Bearer "+a.Token)
		}
		return nil
	}, nil
}

func (a App) authorizer(api string) (func(*http.Request) error, error) {
	key, err := parseRSA(a.PrivateKey)
	if err != nil {
		return nil, err
	}
	for what, s := range map[string]string{"_app_id": a.ID, "_installation_id": a.Installation} {
		if _, err := strconv.ParseUint(s, 10, 63); err != nil {
			return nil, fmt.Errorf("credentials for GitHub: %s %q is no number", what, s)
		}
	}
	i := &installation{id: a.ID, key: key, url: api + "app/installations/" + a.Installation + "/access_tokens", turn: make(chan struct{}, 1)}
	if i.client, err = hosts.NewClient(api, i.prove); err != nil {
		return nil, err
	}
	return func(req *http.Request) error {
		token, err := i.token(req.Context())
		if err == nil {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		return err
	}, nil
}

func parseRSA(text string) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("credentials for GitHub: the app's private_key is no PEM")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("credentials for GitHub: the app's private_key cannot be read")
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("credentials for GitHub: the app's private_key is no RSA key")
	}
	return key, nil
}

// An installation gets tokens for what an app was installed on.
type installation struct {
	id     string
	key    *rsa.PrivateKey
	url    string
	client *http.Client
	turn   chan struct{} // one asks, and the others wait for what it gets

	mu      sync.Mutex
	current string
	until   time.Time
}

func (i *installation) valid() (string, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.current, i.current != "" && time.Until(i.until) > renewBefore
}

// token returns a token that is good for a while yet.
func (i *installation) token(ctx context.Context) (string, error) {
	if token, ok := i.valid(); ok {
		return token, nil
	}
	select {
	case i.turn <- struct{}{}:
		defer func() { <-i.turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if token, ok := i.valid(); ok {
		return token, nil
	}
	token, until, err := i.request(ctx)
	if err != nil {
		return "", fmt.Errorf("getting a token for GitHub App %s: %w", i.id, err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.current, i.until = token, until
	return token, nil
}

func (i *installation) request(ctx context.Context) (string, time.Time, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, i.url, nil)
	if err != nil {
		return "", time.Time{}, err
	}
	req.Header.Set("Accept", "application/vnd.github+json")
	req.Header.Set("User-Agent", hosts.UserAgent)
	resp, err := i.client.Do(req)
	if err != nil {
		return "", time.Time{}, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxToken))
	_ = resp.Body.Close()
	if err != nil {
		return "", time.Time{}, err
	}
	if resp.StatusCode != http.StatusCreated {
		return "", time.Time{}, fmt.Errorf("status %s; see that the app is installed, and that the key is one of its own", resp.Status)
	}
	var answer struct {
		Token   string    `json:"token"`
		Expires time.Time `json:"expires_at"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Token == "" {
		return "", time.Time{}, errors.New("the answer has no token")
	}
	return answer.Token, answer.Expires, nil
}

// prove adds a proof that we are the app: a JWT signed with its key.
func (i *installation) prove(req *http.Request) error {
	now := time.Now()
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." +
		encode(fmt.Appendf(nil, `{"iat":%d,"exp":%d,"iss":%q}`, now.Add(-jwtSkew).Unix(), now.Add(jwtLife).Unix(), i.id))
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", strings.Join([]string{"Bearer", text + "." + encode(sig)}, " "))
	return nil
}
