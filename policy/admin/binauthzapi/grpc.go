package binauthzapi

import (
	"context"

	"google.golang.org/protobuf/types/known/emptypb"

	v1 "cloud.google.com/go/binaryauthorization/apiv1/binaryauthorizationpb"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
	"github.com/gatehouse-dev/gatehouse/policy/admin"
)

// The services of v1: they translate, and nothing else.
type (
	server           struct{ svc *admin.Service }
	systemServer     struct{ svc *admin.Service }
	validationServer struct{ svc *admin.Service }
)

// A reader is a method that reads a document by its name, and a writer one that
// replaces it.
type (
	reader func(context.Context, metadata.Caller, string) (admin.Version, error)
	writer func(context.Context, metadata.Caller, string, admin.Change) (admin.Version, error)
)

// read answers with what a reader reads, as the message m.
func read[M message](ctx context.Context, by reader, name string, m M) (M, error) {
	return grafeasapi.Answer(ctx, func(caller metadata.Caller) (M, error) {
		v, err := by(ctx, caller, name)
		if err != nil {
			return m, err
		}
		return m, decode(v.Content, m)
	})
}

// write replaces the document of a name by a message, and answers with m.
func write[M message](ctx context.Context, by writer, name string, body, m M) (M, error) {
	return grafeasapi.Answer(ctx, func(caller metadata.Caller) (M, error) {
		raw, err := encode(body)
		if err != nil {
			return m, err
		}
		v, err := by(ctx, caller, name, admin.Change{Body: raw})
		if err != nil {
			return m, err
		}
		return m, decode(v.Content, m)
	})
}

// into is a writer that creates under a parent.
func (a *API) into(id string) writer {
	return func(ctx context.Context, caller metadata.Caller, parent string, change admin.Change) (admin.Version, error) {
		return a.svc.CreateAttestor(ctx, caller, parent, id, change)
	}
}

// attestors answers with a page of attestors, as messages.
func attestors[M message](ctx context.Context, svc *admin.Service, parent string, size int32, token string, empty func() M) (list []M, next string, err error) {
	type answer struct {
		list []M
		next string
	}
	got, err := grafeasapi.Answer(ctx, func(caller metadata.Caller) (answer, error) {
		page, err := svc.ListAttestors(ctx, caller, parent, size, token)
		if err != nil {
			return answer{}, err
		}
		got := answer{next: page.NextPageToken}
		for _, v := range page.Versions {
			m := empty()
			if err := decode(v.Content, m); err != nil {
				return answer{}, err
			}
			got.list = append(got.list, m)
		}
		return got, nil
	})
	return got.list, got.next, err
}

func remove(ctx context.Context, svc *admin.Service, name string) (*emptypb.Empty, error) {
	return grafeasapi.Answer(ctx, func(caller metadata.Caller) (*emptypb.Empty, error) {
		return &emptypb.Empty{}, svc.DeleteAttestor(ctx, caller, name, false)
	})
}

func (s *server) GetPolicy(ctx context.Context, req *v1.GetPolicyRequest) (*v1.Policy, error) {
	return read(ctx, s.svc.GetPolicy, req.GetName(), &v1.Policy{})
}

func (s *server) UpdatePolicy(ctx context.Context, req *v1.UpdatePolicyRequest) (*v1.Policy, error) {
	return write(ctx, s.svc.UpdatePolicy, req.GetPolicy().GetName(), req.GetPolicy(), &v1.Policy{})
}

func (s *server) CreateAttestor(ctx context.Context, req *v1.CreateAttestorRequest) (*v1.Attestor, error) {
	return write(ctx, New(s.svc).into(req.GetAttestorId()), req.GetParent(), req.GetAttestor(), &v1.Attestor{})
}

func (s *server) GetAttestor(ctx context.Context, req *v1.GetAttestorRequest) (*v1.Attestor, error) {
	return read(ctx, s.svc.GetAttestor, req.GetName(), &v1.Attestor{})
}

func (s *server) UpdateAttestor(ctx context.Context, req *v1.UpdateAttestorRequest) (*v1.Attestor, error) {
	return write(ctx, s.svc.UpdateAttestor, req.GetAttestor().GetName(), req.GetAttestor(), &v1.Attestor{})
}

func (s *server) ListAttestors(ctx context.Context, req *v1.ListAttestorsRequest) (*v1.ListAttestorsResponse, error) {
	list, next, err := attestors(ctx, s.svc, req.GetParent(), req.GetPageSize(), req.GetPageToken(), func() *v1.Attestor { return &v1.Attestor{} })
	if err != nil {
		return nil, err
	}
	return &v1.ListAttestorsResponse{Attestors: list, NextPageToken: next}, nil
}

func (s *server) DeleteAttestor(ctx context.Context, req *v1.DeleteAttestorRequest) (*emptypb.Empty, error) {
	return remove(ctx, s.svc, req.GetName())
}

func (s *systemServer) GetSystemPolicy(ctx context.Context, req *v1.GetSystemPolicyRequest) (*v1.Policy, error) {
	return read(ctx, s.svc.GetSystemPolicy, req.GetName(), &v1.Policy{})
}

func (s *validationServer) ValidateAttestationOccurrence(ctx context.Context, req *v1.ValidateAttestationOccurrenceRequest) (*v1.ValidateAttestationOccurrenceResponse, error) {
	return grafeasapi.Answer(ctx, func(caller metadata.Caller) (*v1.ValidateAttestationOccurrenceResponse, error) {
		return validate(ctx, s.svc, caller, req)
	})
}

// validate is the method of both faces.
func validate(ctx context.Context, svc *admin.Service, caller metadata.Caller, req *v1.ValidateAttestationOccurrenceRequest) (*v1.ValidateAttestationOccurrenceResponse, error) {
	v, err := svc.ValidateAttestation(ctx, caller, req.GetAttestor(), req.GetAttestation(), req.GetOccurrenceNote(), req.GetOccurrenceResourceUri())
	if err != nil {
		return nil, err
	}
	if v.Verified {
		return &v1.ValidateAttestationOccurrenceResponse{Result: v1.ValidateAttestationOccurrenceResponse_VERIFIED}, nil
	}
	return &v1.ValidateAttestationOccurrenceResponse{
		Result: v1.ValidateAttestationOccurrenceResponse_ATTESTATION_NOT_VERIFIABLE, DenialReason: v.DenialReason,
	}, nil
}
