// Package names knows the names that policies of every dialect hold: resources of
// Google's APIs, things in Kubernetes, and the scopes that they stand for.
package names

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-dev/gatehouse/policy"
)

const (
	maxLabel     = 63  // of a DNS label, RFC 1123
	maxSubdomain = 253 // of a DNS name
	maxSegment   = 256 // of a resource name
)

// CheckResource checks that name has the form PARENT/*/COLLECTION/*.
func CheckResource(name, parent, collection string) error {
	form := fmt.Errorf("%.200q does not have the form %s/*/%s/*", name, parent, collection)
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0] != parent || parts[2] != collection {
		return form
	}
	for _, segment := range []string{parts[1], parts[3]} {
		if !IsSegment(segment) {
			return fmt.Errorf("%w: %.100q is not an identifier", form, segment)
		}
	}
	return nil
}

// IsPolicy tells projects/P/policy and, for a system policy, locations/L/policy.
func IsPolicy(name string) bool {
	parts := strings.Split(name, "/")
	return len(parts) == 3 && (parts[0] == "projects" || parts[0] == "locations") && IsSegment(parts[1]) && parts[2] == "policy"
}

// IsSegment tells what may stand between the slashes of a resource's name.
func IsSegment(s string) bool {
	return s != "" && len(s) <= maxSegment && strings.Trim(s, ".") != "" && consistsOf(s, func(c byte) bool {
		return isLower(c) || isDigit(c) || (c >= 'A' && c <= 'Z') || strings.IndexByte("-_.~:%+", c) >= 0
	})
}

// ClusterScope parses a key of clusterAdmissionRules, LOCATION.CLUSTER.
func ClusterScope(key string) (policy.Scope, error) {
	location, cluster, ok := strings.Cut(key, ".")
	if !ok || !IsLabel(location) || !IsLabel(cluster) {
		return policy.Scope{}, errors.New("want LOCATION.NAME, such as us-east1-b.prod")
	}
	return policy.Scope{Cluster: key}, nil
}

// NamespaceScope parses a key of kubernetesNamespaceAdmissionRules: what
// Kubernetes allows, and what the API's own pattern does, which forgot digits.
func NamespaceScope(key string) (policy.Scope, error) {
	documented := len(key) <= maxSubdomain && consistsOf(key, func(c byte) bool { return isLower(c) || c == '.' || c == '-' })
	if key == "" || (!IsLabel(key) && !documented) {
		return policy.Scope{}, errors.New("want the name of a namespace: lower-case letters, digits and \"-\"")
	}
	return policy.Scope{Namespace: key}, nil
}

// AccountScope parses a key of kubernetesServiceAccountAdmissionRules,
// NAMESPACE:NAME.
func AccountScope(key string) (policy.Scope, error) {
	namespace, name, ok := strings.Cut(key, ":")
	if !ok || !IsLabel(namespace) || !IsSubdomain(name) {
		return policy.Scope{}, errors.New("want NAMESPACE:SERVICEACCOUNT, such as test-ns:default")
	}
	return policy.Scope{ServiceAccount: key}, nil
}

// IstioScope parses a key of istioServiceIdentityAdmissionRules,
// [spiffe://]DOMAIN/ns/NAMESPACE/sa/NAME.
func IstioScope(key string) (policy.Scope, error) {
	identity := strings.TrimPrefix(key, "spiffe://")
	parts := strings.Split(identity, "/")
	if len(parts) != 5 || parts[1] != "ns" || parts[3] != "sa" || !IsSubdomain(parts[0]) || !IsLabel(parts[2]) || !IsSubdomain(parts[4]) {
		return policy.Scope{}, errors.New("want spiffe://DOMAIN/ns/NAMESPACE/sa/SERVICEACCOUNT, with or without spiffe://")
	}
	return policy.Scope{IstioIdentity: identity}, nil
}

// CheckProject checks that name is projects/*, with the ID of a project and not
// its number.
func CheckProject(name string) error {
	id, ok := strings.CutPrefix(name, "projects/")
	switch {
	case !ok || !IsSegment(id):
		return fmt.Errorf("%.200q does not have the form projects/*", name)
	case IsNumber(id):
		return fmt.Errorf("%.100q is a project number; write the project's ID", id)
	}
	return nil
}

// IsNumber tells the number of a project from its ID.
func IsNumber(project string) bool { return project != "" && consistsOf(project, isDigit) }

// IsLabel tells a DNS label of RFC 1123, the name of most things in Kubernetes.
func IsLabel(s string) bool {
	return s != "" && len(s) <= maxLabel && s[0] != '-' && s[len(s)-1] != '-' &&
		consistsOf(s, func(c byte) bool { return isLower(c) || isDigit(c) || c == '-' })
}

// IsSubdomain tells labels that dots join.
func IsSubdomain(s string) bool {
	if len(s) > maxSubdomain {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !IsLabel(label) {
			return false
		}
	}
	return true
}

func consistsOf(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

func isLower(c byte) bool { return c >= 'a' && c <= 'z' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// IsSharedRegistry tells a registry in which everyone can have a place.
func IsSharedRegistry(host string) bool {
	return strings.HasSuffix(host, "-docker.pkg.dev") || slices.Contains([]string{
		"asia.gcr.io", "docker.io", "eu.gcr.io", "gcr.io", "ghcr.io", "index.docker.io", "public.ecr.aws", "quay.io",
		"registry-1.docker.io", "registry.gitlab.com", "us.gcr.io",
	}, host)
}

// IsSharedForge tells a host of source code in which everyone can have a place.
func IsSharedForge(host string) bool {
	return slices.Contains([]string{"bitbucket.org", "codeberg.org", "gist.github.com", "github.com", "gitlab.com", "source.cloud.google.com"}, host)
}
