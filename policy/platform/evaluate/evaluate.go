// Package evaluate answers as the evaluate method of Binary Authorization's
// platform policies does: whether the pods of a Kubernetes object conform to one
// policy, image by image and check by check.
//
// It decides nothing. Whoever calls it has decided on every pod by the one policy,
// with package decide like every other door, and what is told here is that decision
// in the words of the API.
package evaluate

import (
	"fmt"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/platform"
)

// A Verdict is CONFORMANT, NON_CONFORMANT or ERROR, or one of the unspecified
// values, which no answer has.
type Verdict string

// The verdicts. Of several, NonConformant is the verdict of all, then Error.
const (
	Conformant    Verdict = "CONFORMANT"
	NonConformant Verdict = "NON_CONFORMANT"
	// Error means that it could not be found out.
	Error Verdict = "ERROR"

	// The zero values of the API's enums, each with a name of its own.
	Unspecified      Verdict = "VERDICT_UNSPECIFIED"
	PodUnspecified   Verdict = "POD_VERDICT_UNSPECIFIED"
	ImageUnspecified Verdict = "IMAGE_VERDICT_UNSPECIFIED"
	CheckUnspecified Verdict = "CHECK_VERDICT_UNSPECIFIED"
)

// worse returns the verdict of what needs both. What is none of the verdicts is an
// error.
func worse(a, b Verdict) Verdict {
	switch {
	case a == NonConformant || b == NonConformant:
		return NonConformant
	case a == Conformant && b == Conformant:
		return Conformant
	}
	return Error
}

// A Response is the API's EvaluateGkePolicyResponse. It is written as JSON.
type Response struct {
	Verdict Verdict     `json:"verdict"`
	Results []PodResult `json:"results"`
}

// A PodResult tells of one pod.
type PodResult struct {
	PodName                  string        `json:"podName,omitempty"`
	KubernetesNamespace      string        `json:"kubernetesNamespace"`
	KubernetesServiceAccount string        `json:"kubernetesServiceAccount"`
	Verdict                  Verdict       `json:"verdict"`
	ImageResults             []ImageResult `json:"imageResults,omitempty"`
}

// An ImageResult tells of one image. It has an Explanation when no check set was
// asked, and else one of the others.
type ImageResult struct {
	ImageURI        string           `json:"imageUri"`
	Verdict         Verdict          `json:"verdict"`
	Explanation     string           `json:"explanation,omitempty"`
	AllowlistResult *AllowlistResult `json:"allowlistResult,omitempty"`
	CheckSetResult  *CheckSetResult  `json:"checkSetResult,omitempty"`
}

// An AllowlistResult tells which pattern of an imageAllowlist let an image by.
type AllowlistResult struct {
	MatchedPattern string `json:"matchedPattern"`
}

// A CheckSetResult tells what a check set said of an image. It has an Explanation
// when the check set has no checks, and else one of the results.
type CheckSetResult struct {
	Index           int64            `json:"index,string"`
	DisplayName     string           `json:"displayName,omitempty"`
	Scope           *Scope           `json:"scope,omitempty"`
	Explanation     string           `json:"explanation,omitempty"`
	AllowlistResult *AllowlistResult `json:"allowlistResult,omitempty"`
	CheckResults    *CheckResults    `json:"checkResults,omitempty"`
}

// A Scope is that of a check set, with one of its fields.
type Scope struct {
	KubernetesServiceAccount string `json:"kubernetesServiceAccount,omitempty"`
	KubernetesNamespace      string `json:"kubernetesNamespace,omitempty"`
}

// CheckResults is an entry for each check of a check set.
type CheckResults struct {
	Results []CheckResult `json:"results"`
}

// A CheckResult tells what a check said of an image.
type CheckResult struct {
	Index            int64             `json:"index,string"`
	DisplayName      string            `json:"displayName,omitempty"`
	Type             string            `json:"type"`
	Explanation      string            `json:"explanation"`
	AllowlistResult  *AllowlistResult  `json:"allowlistResult,omitempty"`
	EvaluationResult *EvaluationResult `json:"evaluationResult,omitempty"`
}

// An EvaluationResult is the verdict of a check that was evaluated.
type EvaluationResult struct {
	Verdict Verdict `json:"verdict"`
}

// A Pod is one that was asked about, and what was decided.
type Pod struct {
	Name string
	// Request is what was asked. Its Namespace is set; that of an object which has
	// none is "default".
	Request decide.Request
	// Decision is what [decide.Decide] answered, by this policy alone.
	Decision decide.Decision
}

// Evaluate tells what p says of the pods, which are those of one object and at least
// one. It fails if a decision is not by p alone, or not on the pod.
func Evaluate(p *platform.Policy, pods []Pod) (Response, error) {
	if p == nil || len(pods) == 0 {
		return Response{}, fmt.Errorf("evaluating a platform policy: there is no policy, or no pod")
	}
	response := Response{Verdict: Conformant}
	for i := range pods {
		result, err := pod(p, &pods[i])
		if err != nil {
			return Response{}, fmt.Errorf("evaluating pod %d %q by %q: %w", i, pods[i].Name, p.Name, err)
		}
		response.Verdict = worse(response.Verdict, result.Verdict)
		response.Results = append(response.Results, result)
	}
	return response, nil
}

func pod(p *platform.Policy, asked *Pod) (PodResult, error) {
	req, d := &asked.Request, &asked.Decision
	switch {
	case req.Namespace == "":
		return PodResult{}, fmt.Errorf("its namespace is not known")
	case d.Dialect != policy.PlatformPolicy || len(d.Policies) > 0 || d.Policy != p.Name:
		return PodResult{}, fmt.Errorf("the decision is not by this platform policy alone")
	case len(d.Images) != len(req.Images):
		return PodResult{}, fmt.Errorf("the decision is on %d images, and the pod has %d", len(d.Images), len(req.Images))
	}
	set, err := checkSetOf(p, d.Rule)
	if err != nil {
		return PodResult{}, err
	}
	result := PodResult{PodName: asked.Name, KubernetesNamespace: req.Namespace, KubernetesServiceAccount: req.ServiceAccount, Verdict: Conformant}
	if result.KubernetesServiceAccount == "" {
		result.KubernetesServiceAccount = "default"
	}
	for i := range d.Images {
		img, err := imageResult(p, set, &d.Images[i])
		if err != nil {
			return PodResult{}, fmt.Errorf("image %.200q: %w", req.Images[i].Text, err)
		}
		result.Verdict = worse(result.Verdict, img.Verdict)
		result.ImageResults = append(result.ImageResults, img)
	}
	return result, nil
}

// checkSetOf returns the index of the check set that is called rule in decisions, or
// -1 if the policy has none.
func checkSetOf(p *platform.Policy, rule string) (int, error) {
	if len(p.CheckSets) == 0 && rule == p.RuleID(-1) {
		return -1, nil
	}
	for i := range p.CheckSets {
		if p.RuleID(i) == rule {
			return i, nil
		}
	}
	return 0, fmt.Errorf("the decision is by %.200q, which the policy does not have", rule)
}

func imageResult(p *platform.Policy, set int, id *decide.ImageDecision) (ImageResult, error) {
	result := ImageResult{ImageURI: id.Image, Verdict: Conformant}
	exemption := id.Exemption
	switch {
	case exemption != "" && listed(p.Allow, exemption):
		result.AllowlistResult = &AllowlistResult{exemption}
		return result, nil
	case set < 0:
		result.Explanation = "The policy has no check sets, and so allows every image"
		return result, nil
	}
	s := &p.CheckSets[set]
	of := &CheckSetResult{Index: int64(set), DisplayName: s.DisplayName, Scope: scopeOf(s.Scope)}
	result.CheckSetResult = of
	switch {
	case exemption != "":
		of.AllowlistResult = &AllowlistResult{exemption}
	case len(s.Checks) == 0:
		of.Explanation = "The check set has no checks, and so allows every image"
	default:
		of.CheckResults = &CheckResults{}
		for i := range s.Checks {
			check, verdict := checkResult(&s.Checks[i], i, id.Reasons)
			of.CheckResults.Results = append(of.CheckResults.Results, check)
			result.Verdict = worse(result.Verdict, verdict)
		}
	}
	if (result.Verdict == Conformant) != (id.Verdict == decide.ALLOW) {
		return ImageResult{}, fmt.Errorf("the decision is %v, and its reasons amount to %s", id.Verdict, result.Verdict)
	}
	return result, nil
}

func listed(list []platform.AllowPattern, text string) bool {
	for _, p := range list {
		if p.Pattern.String() == text {
			return true
		}
	}
	return false
}

func scopeOf(s policy.Scope) *Scope {
	if s == (policy.Scope{}) {
		return nil
	}
	return &Scope{KubernetesServiceAccount: s.ServiceAccount, KubernetesNamespace: s.Namespace}
}

func checkResult(check *platform.Check, index int, reasons []decide.Reason) (CheckResult, Verdict) {
	reason := reasonOf(index, check, reasons)
	result := CheckResult{Index: int64(index), DisplayName: check.DisplayName, Type: check.Of.Type(), Explanation: reason.Explanation()}
	if reason.Code == decide.CodeExempt {
		result.AllowlistResult = &AllowlistResult{reason.Exemption}
		return result, Conformant
	}
	verdict := verdictOf(reason)
	result.EvaluationResult = &EvaluationResult{verdict}
	return result, verdict
}

// reasonOf returns what a check says. That evidence could not be read is told once
// for an image, and is true of every check that has nothing else to say.
func reasonOf(index int, check *platform.Check, reasons []decide.Reason) *decide.Reason {
	missing := decide.Reason{Verdict: decide.INDETERMINATE, Code: decide.CodeEvidenceUnavailable, Message: "The check was not evaluated"}
	for i := range reasons {
		r := &reasons[i]
		switch {
		case r.Check != nil && r.Check.Index == index:
			return r
		case r.Code == decide.CodeEvidenceUnavailable:
			missing = *r
		}
	}
	missing.Check = &decide.CheckRef{Index: index, Name: check.DisplayName, Type: check.Of.Type()}
	return &missing
}

func verdictOf(r *decide.Reason) Verdict {
	switch {
	case r.Verdict == decide.ALLOW:
		return Conformant
	case r.Erred():
		return Error
	}
	return NonConformant
}
