package admission

import (
	"errors"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// A Place is where pods would run, as far as a request does not say.
type Place struct {
	Cluster     string // LOCATION.NAME
	TrustDomain string // of the mesh, which Istio identities begin with
}

// Check returns an error if rules are chosen by something that is not known of
// the place: they would silently never match.
func (p Place) Check(rules policy.Set) error {
	if cluster, _ := rules.Needs(); cluster && p.Cluster == "" {
		return errors.New("the policy has clusterAdmissionRules, and which cluster this is was not said: give --cluster LOCATION.NAME")
	}
	return p.CheckMesh(rules)
}

// CheckMesh is Check for all but the cluster.
func (p Place) CheckMesh(rules policy.Set) error {
	if _, istio := rules.Needs(); istio && p.TrustDomain == "" {
		return errors.New("the policy has istioServiceIdentityAdmissionRules, and the trust domain of the mesh was not said: give --istio-trust-domain DOMAIN")
	}
	return nil
}

// request asks for a decision on some images of s.
func (s subject) request(place Place, namespace string, images []decide.ImageUse) decide.Request {
	account := s.account()
	r := decide.Request{Cluster: place.Cluster, Namespace: namespace, ServiceAccount: account, Images: images}
	if place.TrustDomain != "" {
		if account == "" {
			account = "default"
		}
		r.IstioIdentity = place.TrustDomain + "/ns/" + namespace + "/sa/" + account
	}
	m := s.breakGlass()
	r.BreakGlass, r.Justification = m.text, m.reason
	if said := s.meta.Annotations[UnpinnedAnnotation]; said != "" && !s.isTemplate {
		r.Unpinned = said[:min(len(said), 2*maxUnpinned)]
	}
	return r
}

// References returns what the images refer to, without those that refer to nothing.
func References(images []decide.ImageUse) []image.Reference {
	list := make([]image.Reference, 0, len(images))
	for _, u := range images {
		if ref, err := image.Parse(u.Text); err == nil {
			list = append(list, ref)
		}
	}
	return list
}
