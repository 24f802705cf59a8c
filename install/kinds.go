package install

import (
	"fmt"
	"slices"

	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

// A kind is where objects of a kind are in Kubernetes' API.
type kind struct {
	apiVersion, name, resource string
	namespaced                 bool
}

// kinds are those that the chart has, in the order in which they are applied. They are
// taken away in the other: so first of all what makes API servers ask.
func kinds() []kind {
	return []kind{
		{"v1", "Namespace", "namespaces", false},
		{"apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", false},
		{"v1", "ServiceAccount", "serviceaccounts", true},
		{"rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", false},
		clusterRoleBindings(),
		{"rbac.authorization.k8s.io/v1", "Role", "roles", true},
		{"rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", true},
		{"networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", true},
		{"v1", "Secret", "secrets", true},
		{"v1", "ConfigMap", "configmaps", true},
		{"coordination.k8s.io/v1", "Lease", "leases", true},
		{"cert-manager.io/v1", "Issuer", "issuers", true},
		{"cert-manager.io/v1", "Certificate", "certificates", true},
		{"monitoring.coreos.com/v1", "PrometheusRule", "prometheusrules", true},
		{"monitoring.coreos.com/v1", "ServiceMonitor", "servicemonitors", true},
		{"v1", "Service", "services", true},
		{"policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", true},
		{"apps/v1", "Deployment", "deployments", true},
		{"apps/v1", "StatefulSet", "statefulsets", true},
		{"admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", false},
		{"admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", false},
	}
}

func clusterRoleBindings() kind {
	return kind{"rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", false}
}

// group returns the API group, "" for the core's.
func (k kind) group() string { return kube.Collection{APIVersion: k.apiVersion}.Group() }

// extra reports whether objects of a kind are only in some installations: those of
// cert-manager and of the Prometheus operator.
func (k kind) extra() bool {
	return k.group() == "cert-manager.io" || k.group() == "monitoring.coreos.com"
}

// in returns where the objects of a kind are, for an installation in a namespace.
func (k kind) in(namespace string) kube.Collection {
	c := kube.Collection{APIVersion: k.apiVersion, Resource: k.resource}
	if k.namespaced {
		c.Namespace = namespace
	}
	return c
}

func kindOfObject(o Object) (kind, error) {
	if i := rank(o); i >= 0 {
		return kinds()[i], nil
	}
	return kind{}, fmt.Errorf("%s: objects of %v %s are not known", o, o["apiVersion"], o.Kind())
}

func rank(o Object) int {
	return slices.IndexFunc(kinds(), func(k kind) bool { return k.name == o.Kind() && k.apiVersion == o["apiVersion"] })
}
