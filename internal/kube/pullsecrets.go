package kube

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
)

const (
	// maxPullSecrets bounds the secrets that are read for one pod.
	maxPullSecrets = 32
	// maxEntries bounds the registries in one of them.
	maxEntries = 1000
)

// A Login is what a registry takes.
type Login struct {
	Username, Password, IdentityToken, RegistryToken string
}

// PullSecrets are the logins that the kubelet would use for a pod, in its order.
type PullSecrets struct {
	entries []entry
}

type entry struct {
	host, prefix string // of the path
	login        Login
}

// secret is what is read of a Secret.
type secret struct {
	Type string            `json:"type"`
	Data map[string][]byte `json:"data"`
}

// PullSecretsOf reads the pull secrets that a pod names, and those of its service account.
// A secret that is not there is left out, as the kubelet does. The error never says what
// is in one.
func (c *Client) PullSecretsOf(ctx context.Context, namespace, account string, names []string) (*PullSecrets, error) {
	var sa struct {
		ImagePullSecrets []struct {
			Name string `json:"name"`
		} `json:"imagePullSecrets"`
	}
	err := c.Get(ctx, &sa, nil, "api", "v1", "namespaces", namespace, "serviceaccounts", account)
	if err != nil && !NotFound(err) {
		return nil, fmt.Errorf("reading service account %q: %w", account, err)
	}
	for _, s := range sa.ImagePullSecrets {
		names = append(names, s.Name)
	}
	var found PullSecrets
	var read []string
	for _, name := range names {
		if name == "" || slices.Contains(read, name) {
			continue
		}
		if read = append(read, name); len(read) > maxPullSecrets {
			return nil, fmt.Errorf("the pod and its service account name more than %d pull secrets", maxPullSecrets)
		}
		var s secret
		err := c.Get(ctx, &s, url.Values{}, "api", "v1", "namespaces", namespace, "secrets", name)
		if NotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading pull secret %q: %w", name, err)
		}
		if err := found.add(s); err != nil {
			return nil, fmt.Errorf("pull secret %q: %w", name, err)
		}
	}
	// The longest path first; of equals the one that was named first.
	slices.SortStableFunc(found.entries, func(a, b entry) int { return len(b.prefix) - len(a.prefix) })
	return &found, nil
}

// dockerConfig is the form of both types of pull secrets.
type dockerConfig struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

var errPullSecret = errors.New("it is no docker configuration")

func (p *PullSecrets) add(s secret) error {
	auths := make(map[string]dockerConfig)
	switch s.Type {
	case "kubernetes.io/dockerconfigjson":
		var file struct {
			Auths map[string]dockerConfig `json:"auths"`
		}
		if json.Unmarshal(s.Data[".dockerconfigjson"], &file) != nil { // whose error might quote it
			return errPullSecret
		}
		auths = file.Auths
	case "kubernetes.io/dockercfg":
		if json.Unmarshal(s.Data[".dockercfg"], &auths) != nil {
			return errPullSecret
		}
	default:
		return fmt.Errorf("its type is %.100q, and not one of pull secrets", s.Type)
	}
	if len(auths) > maxEntries {
		return fmt.Errorf("it has %d registries, more than %d", len(auths), maxEntries)
	}
	for key, a := range auths {
		login := Login{a.Username, a.Password, a.IdentityToken, a.RegistryToken}
		if a.Auth != "" {
			raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(a.Auth))
			user, password, ok := strings.Cut(string(raw), ":")
			if err != nil || !ok {
				return errPullSecret
			}
			login.Username, login.Password = user, password
		}
		host, prefix := registryOf(key)
		p.entries = append(p.entries, entry{host, prefix, login})
	}
	slices.SortStableFunc(p.entries, func(a, b entry) int { return strings.Compare(a.host, b.host) }) // and not by chance
	return nil
}

// registryOf reads the key of a login: a host, a URL, or either with a path.
func registryOf(key string) (host, prefix string) {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, prefix, _ = strings.Cut(strings.TrimSuffix(key, "/"), "/")
	if prefix == "v1" || prefix == "v2" { // of the API, as docker login writes it
		prefix = ""
	}
	return hub(strings.ToLower(host)), prefix
}

// hub returns the one name of Docker Hub's registry.
func hub(host string) string {
	if host == "docker.io" || host == "registry-1.docker.io" {
		return "index.docker.io"
	}
	return host
}

// For returns the logins for a repository of a registry, that of the longest path first.
// A host in a secret may have * in place of a label, as the kubelet allows.
func (p *PullSecrets) For(registry, repository string) []Login {
	var logins []Login
	for _, e := range p.entries {
		if hostFits(e.host, hub(strings.ToLower(registry))) && pathFits(e.prefix, repository) {
			logins = append(logins, e.login)
		}
	}
	return logins
}

func hostFits(pattern, host string) bool {
	if pattern == host {
		return true
	}
	want, got := strings.Split(pattern, "."), strings.Split(host, ".")
	if len(want) != len(got) || !strings.Contains(pattern, "*") {
		return false
	}
	for i := range want {
		if ok, err := path.Match(want[i], got[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

func pathFits(prefix, repository string) bool {
	return prefix == "" || repository == prefix || strings.HasPrefix(repository, strings.TrimSuffix(prefix, "/")+"/")
}
