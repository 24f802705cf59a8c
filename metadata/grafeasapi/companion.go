package grafeasapi

import (
	"context"

	"cloud.google.com/go/iam/apiv1/iampb"
	containeranalysis "google.golang.org/genproto/googleapis/devtools/containeranalysis/v1"

	betacompanion "github.com/gatehouse-dev/gatehouse/api/google/devtools/containeranalysis/v1beta1"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// An iamServer is what Google's services beside Grafeas have in common: access
// policies of notes and occurrences.
type iamServer struct {
	svc *metadata.Service
}

// A companionServer is Google's service beside Grafeas v1.
type companionServer struct{ iamServer }

// A betaCompanionServer is Google's service beside Grafeas v1beta1, as far as it
// is about access policies.
type betaCompanionServer struct {
	iamServer
	betacompanion.UnsafeContainerAnalysisV1Beta1Server // all methods are there
}

var (
	_ containeranalysis.ContainerAnalysisServer    = (*companionServer)(nil)
	_ betacompanion.ContainerAnalysisV1Beta1Server = (*betaCompanionServer)(nil)
)

func (s *iamServer) SetIamPolicy(ctx context.Context, req *iampb.SetIamPolicyRequest) (*iampb.Policy, error) {
	return answer(ctx, func(caller metadata.Caller) (*iampb.Policy, error) {
		for _, path := range req.GetUpdateMask().GetPaths() {
			if path != "bindings" && path != "etag" && path != "*" {
				return nil, metadata.Errorf(metadata.InvalidArgument, "update mask path %q: of an access policy, bindings and etag can be set", clipped(path))
			}
		}
		return s.svc.SetIamPolicy(ctx, caller, req.GetResource(), req.GetPolicy())
	})
}

func (s *iamServer) GetIamPolicy(ctx context.Context, req *iampb.GetIamPolicyRequest) (*iampb.Policy, error) {
	return answer(ctx, func(caller metadata.Caller) (*iampb.Policy, error) {
		return s.svc.GetIamPolicy(ctx, caller, req.GetResource())
	})
}

func (s *iamServer) TestIamPermissions(ctx context.Context, req *iampb.TestIamPermissionsRequest) (*iampb.TestIamPermissionsResponse, error) {
	return answer(ctx, func(caller metadata.Caller) (*iampb.TestIamPermissionsResponse, error) {
		have, err := s.svc.TestIamPermissions(ctx, caller, req.GetResource(), req.GetPermissions())
		return &iampb.TestIamPermissionsResponse{Permissions: have}, err
	})
}

func (s *companionServer) GetVulnerabilityOccurrencesSummary(ctx context.Context, req *containeranalysis.GetVulnerabilityOccurrencesSummaryRequest) (*containeranalysis.VulnerabilityOccurrencesSummary, error) {
	return answer(ctx, func(caller metadata.Caller) (*containeranalysis.VulnerabilityOccurrencesSummary, error) {
		counts, err := s.svc.VulnerabilitySummary(ctx, caller, req.GetParent(), req.GetFilter())
		return &containeranalysis.VulnerabilityOccurrencesSummary{Counts: views(counts, func(c metadata.ResourceCount) *containeranalysis.VulnerabilityOccurrencesSummary_FixableTotalByDigest {
			return &containeranalysis.VulnerabilityOccurrencesSummary_FixableTotalByDigest{
				ResourceUri: c.ResourceURI, Severity: c.Severity, FixableCount: c.Fixable, TotalCount: c.Total,
			}
		})}, err
	})
}
