package binauthzapi

import (
	"context"

	"google.golang.org/protobuf/types/known/emptypb"

	v1beta1 "cloud.google.com/go/binaryauthorization/apiv1beta1/binaryauthorizationpb"

	"github.com/gatehouse-dev/gatehouse/policy/admin"
)

// The services of v1beta1, which differ from those of v1 in the name of one field.
type (
	betaServer       struct{ svc *admin.Service }
	betaSystemServer struct{ svc *admin.Service }
)

func (s *betaServer) GetPolicy(ctx context.Context, req *v1beta1.GetPolicyRequest) (*v1beta1.Policy, error) {
	return read(ctx, s.svc.GetPolicy, req.GetName(), &v1beta1.Policy{})
}

func (s *betaServer) UpdatePolicy(ctx context.Context, req *v1beta1.UpdatePolicyRequest) (*v1beta1.Policy, error) {
	return write(ctx, s.svc.UpdatePolicy, req.GetPolicy().GetName(), req.GetPolicy(), &v1beta1.Policy{})
}

func (s *betaServer) CreateAttestor(ctx context.Context, req *v1beta1.CreateAttestorRequest) (*v1beta1.Attestor, error) {
	return write(ctx, New(s.svc).into(req.GetAttestorId()), req.GetParent(), req.GetAttestor(), &v1beta1.Attestor{})
}

func (s *betaServer) GetAttestor(ctx context.Context, req *v1beta1.GetAttestorRequest) (*v1beta1.Attestor, error) {
	return read(ctx, s.svc.GetAttestor, req.GetName(), &v1beta1.Attestor{})
}

func (s *betaServer) UpdateAttestor(ctx context.Context, req *v1beta1.UpdateAttestorRequest) (*v1beta1.Attestor, error) {
	return write(ctx, s.svc.UpdateAttestor, req.GetAttestor().GetName(), req.GetAttestor(), &v1beta1.Attestor{})
}

func (s *betaServer) ListAttestors(ctx context.Context, req *v1beta1.ListAttestorsRequest) (*v1beta1.ListAttestorsResponse, error) {
	list, next, err := attestors(ctx, s.svc, req.GetParent(), req.GetPageSize(), req.GetPageToken(), func() *v1beta1.Attestor { return &v1beta1.Attestor{} })
	if err != nil {
		return nil, err
	}
	return &v1beta1.ListAttestorsResponse{Attestors: list, NextPageToken: next}, nil
}

func (s *betaServer) DeleteAttestor(ctx context.Context, req *v1beta1.DeleteAttestorRequest) (*emptypb.Empty, error) {
	return remove(ctx, s.svc, req.GetName())
}

func (s *betaSystemServer) GetSystemPolicy(ctx context.Context, req *v1beta1.GetSystemPolicyRequest) (*v1beta1.Policy, error) {
	return read(ctx, s.svc.GetSystemPolicy, req.GetName(), &v1beta1.Policy{})
}
