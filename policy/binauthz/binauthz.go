// Package binauthz reads Binary Authorization's language: the policy of a
// project and its attestors, in the YAML or JSON that gcloud, Terraform and the
// REST API write, and compiles them to a [policy.Ruleset].
//
//	p, diags := binauthz.ParsePolicy("policy.yaml", text)
//	attestors, more := binauthz.ParseAttestors("attestors.yaml", keys)
//	rules, missing := p.Compile(attestors)
//
// # Diagnostics
//
// Reading never stops at the first problem. Every problem is a [document.Diagnostic] with
// its line, an error or a warning, and prints as
//
//	policy.yaml:7: error: clusterAdmissionRules: unknown field "evaluationmode"; did you mean "evaluationMode"?
//
// An error means that nothing is returned; a warning means that the text is
// valid and probably not what its writer wants, such as an exempt pattern that
// also covers a neighbour's project. What Binary Authorization ignores or leaves
// open is refused where ignoring it could let something in: unknown fields,
// fields given twice, anchors and aliases, several documents, words in another
// case.
//
// # What is read
//
// Whether a text is JSON or YAML is told from the text and not from its name.
// null stands for an absent field, as in gcloud's exports. Enums may be names or
// numbers. Output-only fields (updateTime, etag) are kept as they are.
//
// A policy has exempt patterns, at most one kind of specific rules (for clusters,
// namespaces, service accounts or Istio identities), and a default rule.
// globalPolicyEvaluationMode ENABLE exempts the system images that GKE itself
// runs ([SystemPolicy]), before anything else is looked at; it is off unless it
// is written down.
//
// Attestors come as a list, as {"attestors": […]}, or as one object, in the v1
// form (userOwnedGrafeasNote) or the v1beta1 form (userOwnedDrydockNote). The id
// of an OpenPGP key is computed from the key, whatever the text says.
//
// # Compiling
//
// A rule that names an attestor that is not there is a warning, and denies until
// it is. [Policy.Compile] never returns nil, since package decide takes nil for
// "no policy is installed", which allows: a nil Policy compiles to a Ruleset that
// denies everything.
package binauthz

import (
	"errors"

	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/names"
)

const (
	// MaxPolicy is the most bytes that the text of a policy may have, 4 MiB: room for
	// ten thousand rules and as many patterns, all spelled out.
	MaxPolicy = 4 << 20
	// MaxAttestors is the most bytes that a list of attestors may have, 4 MiB:
	// room for 1000 OpenPGP keys of the usual 3 to 4 kB.
	MaxAttestors = 4 << 20

	// maxAttestorRefs and maxKeys are the published quotas of Binary
	// Authorization: attestor references in a policy, public keys of an attestor.
	maxAttestorRefs = 200
	maxKeys         = 1000
)

// A reporter reads the text of a policy or of attestors.
type reporter struct {
	*document.Reporter
	attestor func(name string) error // checks the name of one
}

func newReporter(file string) *reporter {
	return &reporter{Reporter: document.New(file), attestor: checkAttestor}
}

func checkAttestor(name string) error { return names.CheckResource(name, "projects", "attestors") }

// CheckCluster checks the name of a cluster, LOCATION.CLUSTER.
func CheckCluster(name string) error {
	_, err := names.ClusterScope(name)
	return err
}

// CheckTrustDomain checks the trust domain of a mesh, such as p.svc.id.goog.
func CheckTrustDomain(domain string) error {
	if !names.IsSubdomain(domain) {
		return errors.New("want a domain name, such as cluster.local")
	}
	return nil
}
