package kube

import (
	"context"
	"slices"
)

type tokenReview struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Spec       tokenReviewSpec   `json:"spec"`
	Status     tokenReviewStatus `json:"status,omitzero"`
}

type tokenReviewSpec struct {
	Token     string   `json:"token"`
	Audiences []string `json:"audiences"`
}

type tokenReviewStatus struct {
	Authenticated bool     `json:"authenticated"`
	Audiences     []string `json:"audiences"`
	Error         string   `json:"error"`
	User          struct {
		Username string `json:"username"`
	} `json:"user"`
}

// ReviewToken asks whom a token proves to an audience: a TokenReview, which whoever has
// the ClusterRole system:auth-delegator may create. The user is "" when it proves nobody,
// and then there is a reason.
func (c *Client) ReviewToken(ctx context.Context, token, audience string) (user, why string, err error) {
	review := tokenReview{APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview", Spec: tokenReviewSpec{Token: token, Audiences: []string{audience}}}
	var answer tokenReview
	if err := c.Create(ctx, review, &answer, "apis", "authentication.k8s.io", "v1", "tokenreviews"); err != nil {
		return "", "", err
	}
	s := answer.Status
	switch {
	case !s.Authenticated && s.Error != "":
		return "", s.Error, nil
	case !s.Authenticated:
		return "", "it is not known there", nil
	case !slices.Contains(s.Audiences, audience):
		// An API server that knows nothing of audiences says yes to any.
		return "", "it is for another audience than " + audience, nil
	case s.User.Username == "":
		return "", "it is nobody's", nil
	}
	return s.User.Username, "", nil
}
