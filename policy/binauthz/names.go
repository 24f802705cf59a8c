package binauthz

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gatehouse-dev/gatehouse/policy"
)

const (
	maxLabel     = 63  // of a DNS label, RFC 1123
	maxSubdomain = 253 // of a DNS name
	maxSegment   = 256 // of a resource name
)

// checkResource checks that name has the form PARENT/*/COLLECTION/*.
func checkResource(name, parent, collection string) error {
	form := fmt.Errorf("%.200q does not have the form %s/*/%s/*", name, parent, collection)
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0] != parent || parts[2] != collection {
		return form
	}
	for _, segment := range []string{parts[1], parts[3]} {
		if !isSegment(segment) {
			return fmt.Errorf("%w: %.100q is not an identifier", form, segment)
		}
	}
	return nil
}

// isPolicyName tells projects/P/policy and, for a system policy, locations/L/policy.
func isPolicyName(name string) bool {
	parts := strings.Split(name, "/")
	return len(parts) == 3 && (parts[0] == "projects" || parts[0] == "locations") && isSegment(parts[1]) && parts[2] == "policy"
}

func isSegment(s string) bool {
	return s != "" && len(s) <= maxSegment && strings.Trim(s, ".") != "" && consistsOf(s, func(c byte) bool {
		return isLower(c) || isDigit(c) || (c >= 'A' && c <= 'Z') || strings.IndexByte("-_.~:%+", c) >= 0
	})
}

// CheckCluster checks the name of a cluster, LOCATION.CLUSTER.
func CheckCluster(name string) error {
	_, err := clusterScope(name)
	return err
}

// CheckTrustDomain checks the trust domain of a mesh, such as p.svc.id.goog.
func CheckTrustDomain(domain string) error {
	if !isSubdomain(domain) {
		return errors.New("want a domain name, such as cluster.local")
	}
	return nil
}

// clusterScope parses a key of clusterAdmissionRules, LOCATION.CLUSTER.
func clusterScope(key string) (policy.Scope, error) {
	location, cluster, ok := strings.Cut(key, ".")
	if !ok || !isLabel(location) || !isLabel(cluster) {
		return policy.Scope{}, errors.New("want LOCATION.NAME, such as us-east1-b.prod")
	}
	return policy.Scope{Cluster: key}, nil
}

// namespaceScope parses a key of kubernetesNamespaceAdmissionRules: what
// Kubernetes allows, and what the API's own pattern does, which forgot digits.
func namespaceScope(key string) (policy.Scope, error) {
	documented := len(key) <= maxSubdomain && consistsOf(key, func(c byte) bool { return isLower(c) || c == '.' || c == '-' })
	if key == "" || (!isLabel(key) && !documented) {
		return policy.Scope{}, errors.New("want the name of a namespace: lower-case letters, digits and \"-\"")
	}
	return policy.Scope{Namespace: key}, nil
}

// accountScope parses a key of kubernetesServiceAccountAdmissionRules,
// NAMESPACE:NAME.
func accountScope(key string) (policy.Scope, error) {
	namespace, name, ok := strings.Cut(key, ":")
	if !ok || !isLabel(namespace) || !isSubdomain(name) {
		return policy.Scope{}, errors.New("want NAMESPACE:SERVICEACCOUNT, such as test-ns:default")
	}
	return policy.Scope{ServiceAccount: key}, nil
}

// istioScope parses a key of istioServiceIdentityAdmissionRules,
// [spiffe://]DOMAIN/ns/NAMESPACE/sa/NAME.
func istioScope(key string) (policy.Scope, error) {
	identity := strings.TrimPrefix(key, "spiffe://")
	parts := strings.Split(identity, "/")
	if len(parts) != 5 || parts[1] != "ns" || parts[3] != "sa" || !isSubdomain(parts[0]) || !isLabel(parts[2]) || !isSubdomain(parts[4]) {
		return policy.Scope{}, errors.New("want spiffe://DOMAIN/ns/NAMESPACE/sa/SERVICEACCOUNT, with or without spiffe://")
	}
	return policy.Scope{IstioIdentity: identity}, nil
}

// isLabel tells a DNS label of RFC 1123, the name of most things in Kubernetes.
func isLabel(s string) bool {
	return s != "" && len(s) <= maxLabel && s[0] != '-' && s[len(s)-1] != '-' &&
		consistsOf(s, func(c byte) bool { return isLower(c) || isDigit(c) || c == '-' })
}

// isSubdomain tells labels that dots join.
func isSubdomain(s string) bool {
	if len(s) > maxSubdomain {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) {
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
