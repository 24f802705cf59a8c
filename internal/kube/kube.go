// Package kube is the one client of Kubernetes' API: it lists objects, with the
// credentials of a kubeconfig, and nothing else. It knows no kinds: what it returns is
// the JSON that the server sent.
package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	osexec "os/exec"
	"strconv"
	"strings"
	"time"
)

const (
	// pageSize is how many objects are asked for at a time, as kubectl does.
	pageSize = 500

	// maxPage bounds an answer: 500 objects at etcd's limit of 1.5 MiB do not occur,
	// and those that do are of a few kilobytes.
	maxPage = 256 << 20

	// maxPages is more than any cluster has.
	maxPages = 10_000

	// timeout bounds one answer, and a plugin for credentials.
	timeout = 60 * time.Second
)

// A Client asks one API server as one user. It is safe for concurrent use.
type Client struct {
	base   string
	http   *http.Client
	header http.Header
}

// Open returns a Client for a context of a kubeconfig. An empty file is what kubectl
// would read, an empty name the current context. A plugin for credentials is run once;
// what it says goes to stderr.
func Open(ctx context.Context, file, name string, stderr io.Writer) (*Client, error) {
	c, err := readConfig(file)
	if err != nil {
		return nil, err
	}
	of, as, err := c.choose(name)
	if err != nil {
		return nil, err
	}
	return newClient(ctx, of, as, stderr)
}

func newClient(ctx context.Context, of cluster, as user, stderr io.Writer) (*Client, error) {
	base, err := url.Parse(of.Server)
	if err != nil || base.Host == "" || (base.Scheme != "https" && base.Scheme != "http") {
		return nil, fmt.Errorf("the cluster's server is %q: want https://HOST:PORT", of.Server)
	}
	switch {
	case as.AuthProvider.Kind != 0:
		return nil, errors.New("the user has an auth-provider, which Kubernetes no longer knows; use exec, or pipe: kubectl get pods -A -o json | gatehouse … -")
	case as.As != "":
		return nil, errors.New("the user acts as another (as), which is not supported; pipe instead: kubectl get pods -A -o json | gatehouse … -")
	}
	settings := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: of.TLSServerName, InsecureSkipVerify: of.Insecure} //nolint:gosec // as the kubeconfig says
	if settings.RootCAs, err = roots(of); err != nil {
		return nil, err
	}
	if as.Exec != nil {
		if err := as.Exec.run(ctx, of, &as, stderr); err != nil {
			return nil, err
		}
	}
	if settings.Certificates, err = as.certificates(); err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: settings, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	if of.ProxyURL != "" {
		proxy, err := url.Parse(of.ProxyURL)
		if err != nil {
			return nil, fmt.Errorf("the cluster's proxy-url: %w", err)
		}
		transport.Proxy = http.ProxyURL(proxy)
	}
	client := &Client{base: strings.TrimSuffix(of.Server, "/"), header: http.Header{"Accept": {"application/json"}}}
	// Credentials are for this server, and go nowhere that it would send them.
	client.http = &http.Client{Transport: transport, Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return client, as.authorize(client.header, base.Scheme == "https")
}

func roots(of cluster) (*x509.CertPool, error) {
	pem, err := given(of.CAText, of.CA)
	if err != nil || pem == nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("the cluster's certificate authority has no certificate")
	}
	return pool, nil
}

// given returns what stands in a kubeconfig in base64, or else in the file it names.
func given(text, file string) ([]byte, error) {
	if text != "" {
		data, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("data in the kubeconfig: %w", err)
		}
		return data, nil
	}
	if file == "" {
		return nil, nil
	}
	return readBounded(file)
}

func (u *user) certificates() ([]tls.Certificate, error) {
	cert, err := given(u.CertText, u.Cert)
	if err != nil || cert == nil {
		return nil, err
	}
	key, err := given(u.KeyText, u.Key)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("the user's certificate: %w", err)
	}
	return []tls.Certificate{pair}, nil
}

func (u *user) authorize(h http.Header, secure bool) error {
	token := u.Token
	if u.TokenFile != "" {
		data, err := readBounded(u.TokenFile)
		if err != nil {
			return err
		}
		token = strings.TrimSpace(string(data))
	}
	switch {
	case token != "":
		h.Set("Authorization", "Bearer "+token)
	case u.Username != "":
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username+":"+u.Password)))
	}
	if h.Get("Authorization") != "" && !secure {
		return errors.New("the cluster's server is asked without TLS, and the user's token or password would be readable on the way")
	}
	return nil
}

// run runs the command, and fills in the credentials that it prints.
func (e *exec) run(ctx context.Context, of cluster, as *user, stderr io.Writer) error {
	if !strings.HasPrefix(e.APIVersion, "client.authentication.k8s.io/") {
		return fmt.Errorf("the user's exec has apiVersion %q: want client.authentication.k8s.io/v1", e.APIVersion)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	spec := map[string]any{"interactive": false}
	if e.ProvideInfo {
		ca, err := given(of.CAText, of.CA)
		if err != nil {
			return err
		}
		spec["cluster"] = map[string]any{"server": of.Server, "certificate-authority-data": ca, "tls-server-name": of.TLSServerName, "insecure-skip-tls-verify": of.Insecure}
	}
	info, err := json.Marshal(map[string]any{"apiVersion": e.APIVersion, "kind": "ExecCredential", "spec": spec})
	if err != nil {
		return err
	}
	command := osexec.CommandContext(ctx, e.Command, e.Args...)
	command.Env = append(os.Environ(), "KUBERNETES_EXEC_INFO="+string(info))
	for _, v := range e.Env {
		command.Env = append(command.Env, v.Name+"="+v.Value)
	}
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, stderr
	if err := command.Run(); err != nil {
		err = fmt.Errorf("running %q for the user's credentials: %w", e.Command, err)
		if e.InstallHint != "" && errors.Is(err, osexec.ErrNotFound) {
			err = fmt.Errorf("%w\n%s", err, e.InstallHint)
		}
		return err
	}
	var answer struct {
		Status struct {
			Token string `json:"token"`
			Cert  string `json:"clientCertificateData"`
			Key   string `json:"clientKeyData"`
		} `json:"status"`
	}
	if out.Len() > maxConfig {
		return fmt.Errorf("%q printed more than %d bytes", e.Command, maxConfig)
	}
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		return fmt.Errorf("%q printed no ExecCredential: %w", e.Command, err)
	}
	if answer.Status.Token == "" && answer.Status.Cert == "" {
		return fmt.Errorf("%q printed an ExecCredential without token or certificate", e.Command)
	}
	as.Token, as.TokenFile = answer.Status.Token, ""
	if answer.Status.Cert != "" {
		as.CertText = base64.StdEncoding.EncodeToString([]byte(answer.Status.Cert))
		as.KeyText = base64.StdEncoding.EncodeToString([]byte(answer.Status.Key))
	}
	return nil
}

// A StatusError is the server's refusal.
type StatusError struct {
	Code    int
	Message string
	// next is the token to go on with, if the one that was sent has expired.
	next string
}

// Error returns the code and what the server says.
func (e *StatusError) Error() string {
	return fmt.Sprintf("the API server answers %d: %s", e.Code, e.Message)
}

// meta is what is read of a list, and of a refusal.
type meta struct {
	Message  string `json:"message"`
	Metadata struct {
		Continue string `json:"continue"`
	} `json:"metadata"`
}

// List calls fn with each page of a list, such as that of "/api/v1/pods": the JSON of
// the server. When reading takes longer than the server can show the list as it was,
// the rest is as it is later. Each page is bounded, and so is their number.
func (c *Client) List(ctx context.Context, path string, fn func(page []byte) error) error {
	token, resumed := "", false
	for range maxPages {
		query := url.Values{"limit": {strconv.Itoa(pageSize)}}
		if token != "" {
			query.Set("continue", token)
		}
		body, err := c.get(ctx, path+"?"+query.Encode())
		if refused := new(StatusError); errors.As(err, &refused) && refused.Code == http.StatusGone && refused.next != "" && !resumed {
			token, resumed = refused.next, true
			continue
		}
		if err != nil {
			return fmt.Errorf("listing %s: %w", path, err)
		}
		resumed = false
		if err := fn(body); err != nil {
			return err
		}
		var page meta
		if err := json.Unmarshal(body, &page); err != nil {
			return fmt.Errorf("listing %s: the answer is no list: %w", path, err)
		}
		if token = page.Metadata.Continue; token == "" {
			return nil
		}
	}
	return fmt.Errorf("listing %s: it does not end after %d pages", path, maxPages)
}

func (c *Client) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header = c.header.Clone()
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end, or given up
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPage+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > maxPage:
		return nil, fmt.Errorf("an answer of more than %d bytes", maxPage)
	case resp.StatusCode == http.StatusOK:
		return body, nil
	}
	var said meta
	if json.Unmarshal(body, &said) != nil || said.Message == "" {
		said.Message = fmt.Sprintf("%.200q", body)
	}
	return nil, &StatusError{Code: resp.StatusCode, Message: fmt.Sprintf("%.500s", said.Message), next: said.Metadata.Continue}
}
