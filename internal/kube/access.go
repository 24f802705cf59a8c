package kube

import "context"

// An Access is what somebody wants to do.
type Access struct {
	// User, UID, Groups and Extra are whom an API server has authenticated.
	User, UID string
	Groups    []string
	Extra     map[string][]string
	// Verb is what he wants to do to the Resource of Group called Name in Namespace.
	Verb, Group, Resource, Namespace, Name string
}

type subjectAccessReview struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Spec       accessSpec   `json:"spec"`
	Status     accessStatus `json:"status,omitzero"`
}

type accessSpec struct {
	ResourceAttributes map[string]string   `json:"resourceAttributes"`
	User               string              `json:"user,omitempty"`
	Groups             []string            `json:"groups,omitempty"`
	Extra              map[string][]string `json:"extra,omitempty"`
	UID                string              `json:"uid,omitempty"`
}

type accessStatus struct {
	Allowed         bool   `json:"allowed"`
	Denied          bool   `json:"denied"`
	Reason          string `json:"reason"`
	EvaluationError string `json:"evaluationError"`
}

// May asks whether the access is allowed, and why: a SubjectAccessReview, which whoever
// has the ClusterRole system:auth-delegator may create.
func (c *Client) May(ctx context.Context, a Access) (may bool, why string, err error) {
	review := subjectAccessReview{APIVersion: "authorization.k8s.io/v1", Kind: "SubjectAccessReview", Spec: accessSpec{
		User: a.User, UID: a.UID, Groups: a.Groups, Extra: a.Extra,
		ResourceAttributes: map[string]string{"verb": a.Verb, "group": a.Group, "resource": a.Resource, "namespace": a.Namespace, "name": a.Name},
	}}
	var answer subjectAccessReview
	if err := c.Create(ctx, review, &answer, "apis", "authorization.k8s.io", "v1", "subjectaccessreviews"); err != nil {
		return false, "", err
	}
	why = answer.Status.Reason
	if why == "" {
		why = answer.Status.EvaluationError
	}
	return answer.Status.Allowed && !answer.Status.Denied, why, nil
}
