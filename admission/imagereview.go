package admission

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/names"
)

const (
	imageReviewVersion = "imagepolicy.k8s.io/v1alpha1"
	imageReviewKind    = "ImageReview"

	// ClusterPathValue is the wildcard of [http.ServeMux] patterns in which
	// [Gate.ImageReviews] finds the cluster that asks, LOCATION.NAME.
	ClusterPathValue = "cluster"
)

// imageReviews is what they are called in records and metrics.
var imageReviews = groupResource{"imagepolicy.k8s.io", "imagereviews"}

// An imageReview is what the API server's ImagePolicyWebhook plugin sends. It says
// neither who asks, nor the pod's name, labels and service account, nor which
// images ran before, nor image volumes, nor whether it is a dry run.
type imageReview struct {
	APIVersion string         `json:"apiVersion"`
	Kind       string         `json:"kind"`
	Spec       jsontext.Value `json:"spec"`
}

type imageReviewSpec struct {
	Containers []struct {
		Image string `json:"image"`
	} `json:"containers"`
	// Annotations are those of the pod whose key contains ".image-policy.k8s.io/".
	Annotations map[string]string `json:"annotations"`
	Namespace   string            `json:"namespace"`
}

type imageReviewAnswer struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Status     imageReviewStatus `json:"status"`
}

type imageReviewStatus struct {
	Allowed          bool              `json:"allowed"`
	Reason           string            `json:"reason,omitempty"`
	AuditAnnotations map[string]string `json:"auditAnnotations,omitempty"`
}

// ImageReviews answers ImageReviews of imagepolicy.k8s.io/v1alpha1, of the cluster
// in [ClusterPathValue] or else the gate's own. Policies that have rules by service
// account or Istio identity cannot be decided with what an ImageReview says, and deny
// there.
func (g *Gate) ImageReviews() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		place := g.Place
		if cluster := r.PathValue(ClusterPathValue); cluster != "" {
			if _, err := names.ClusterScope(cluster); err != nil {
				http.Error(w, fmt.Sprintf("cluster %.100q: %v", cluster, err), http.StatusNotFound)
				return
			}
			place.Cluster = cluster
		}
		g.serve(w, r, protocol{
			answer: func(ctx context.Context, body []byte) (any, error) { return g.answerImages(ctx, body, place) },
			deny: func(body []byte, a answer) (any, bool) {
				return imageAnswer(a), peekReview(body).Kind == imageReviewKind
			},
			misunderstood: g.unread,
		})
	})
}

func (g *Gate) answerImages(ctx context.Context, body []byte, place Place) (any, error) {
	begun := g.Now()
	var in imageReview
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, fmt.Errorf("decoding the image review: %w", misfit(err))
	}
	if in.APIVersion != imageReviewVersion || in.Kind != imageReviewKind {
		return nil, fmt.Errorf("reading the image review: want apiVersion %q and kind %q", imageReviewVersion, imageReviewKind)
	}
	req := &request{Resource: imageReviews, place: place, begun: begun}
	s, err := in.read(req)
	if err != nil {
		return imageAnswer(g.misunderstood(req, err)), nil
	}
	return imageAnswer(g.judge(ctx, req, part{s, s.found}, podless(g.Rules()))), nil
}

// read returns what is asked, and notes in req where. What an API server may send one
// day and is not understood here could be an image, and is refused.
func (in imageReview) read(req *request) (subject, error) {
	var spec imageReviewSpec
	if err := json.Unmarshal(in.Spec, &spec, json.RejectUnknownMembers(true)); err != nil {
		return subject{}, fmt.Errorf("decoding the spec of the image review: %w", misfit(err))
	}
	req.Namespace = spec.Namespace
	switch {
	case spec.Namespace == "":
		return subject{}, errors.New("the image review has no namespace")
	case len(spec.Containers) == 0:
		return subject{}, errors.New("the image review has no containers")
	case len(spec.Containers) > maxImages:
		return subject{}, tooMany(len(spec.Containers))
	}
	s := subject{custom: true}
	s.template.Metadata.Annotations = spec.Annotations
	for _, c := range spec.Containers {
		s.found = append(s.found, decide.ImageUse{Text: c.Image})
	}
	return s, nil
}

// podless returns the policies as far as they can be asked about a pod of which only
// namespace and images are known. In place of one that has rules by what is not known
// stands one that exempts what it exempts, and denies all else.
func podless(set policy.Set) policy.Set {
	asked := set
	for i, rules := range set {
		if rules == nil || !slices.ContainsFunc(rules.Rules, needsPod) {
			continue
		}
		if &asked[0] == &set[0] {
			asked = slices.Clone(set)
		}
		asked[i] = &policy.Ruleset{
			Name: rules.Name, Dialect: rules.Dialect, Source: rules.Source, Version: rules.Version, Exempt: rules.Exempt,
			Rules: []policy.Rule{{ID: undecidable, Evaluation: policy.AlwaysDeny}},
		}
	}
	return asked
}

// undecidable is the rule that stands for those by what is not known.
const undecidable = "rule for image reviews: the policy has rules by service account or Istio identity, which the API server's ImagePolicyWebhook plugin does not send; register the admission webhook instead"

func needsPod(r policy.Rule) bool { return r.Scope.ServiceAccount != "" || r.Scope.IstioIdentity != "" }

func imageAnswer(a answer) *imageReviewAnswer {
	return &imageReviewAnswer{APIVersion: imageReviewVersion, Kind: imageReviewKind, Status: imageReviewStatus{
		Allowed: a.allowed, Reason: strings.TrimSpace(a.message), AuditAnnotations: a.annotations,
	}}
}
