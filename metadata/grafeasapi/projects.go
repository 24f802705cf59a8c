package grafeasapi

import (
	"context"

	"google.golang.org/protobuf/types/known/emptypb"

	projects "github.com/gatehouse-dev/gatehouse/api/grafeas/v1/project"
	betaprojects "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/project"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// A projectServer is the Projects service of v1, and a betaProjectServer that of
// v1beta1: the same, by another name.
type (
	projectServer struct {
		projects.UnimplementedProjectsServer
		svc *metadata.Service
	}
	betaProjectServer struct {
		betaprojects.UnimplementedProjectsServer
		svc *metadata.Service
	}
)

// createProject creates the project that a request names, if it names one.
func createProject(ctx context.Context, svc *metadata.Service, caller metadata.Caller, given bool, name string) error {
	if !given {
		return metadata.Errorf(metadata.InvalidArgument, "a project must be specified")
	}
	return svc.CreateProject(ctx, caller, name)
}

func (s *projectServer) CreateProject(ctx context.Context, req *projects.CreateProjectRequest) (*projects.Project, error) {
	return answer(ctx, func(caller metadata.Caller) (*projects.Project, error) {
		p := req.GetProject()
		return &projects.Project{Name: p.GetName()}, createProject(ctx, s.svc, caller, p != nil, p.GetName())
	})
}

func (s *projectServer) GetProject(ctx context.Context, req *projects.GetProjectRequest) (*projects.Project, error) {
	return answer(ctx, func(caller metadata.Caller) (*projects.Project, error) {
		return &projects.Project{Name: req.GetName()}, s.svc.GetProject(ctx, caller, req.GetName())
	})
}

func (s *projectServer) ListProjects(ctx context.Context, req *projects.ListProjectsRequest) (*projects.ListProjectsResponse, error) {
	return answer(ctx, func(caller metadata.Caller) (*projects.ListProjectsResponse, error) {
		page, err := s.svc.ListProjects(ctx, caller, metadata.ListRequest{Filter: req.GetFilter(), PageSize: req.GetPageSize(), PageToken: req.GetPageToken()})
		list := views(page.Names, func(name string) *projects.Project { return &projects.Project{Name: name} })
		return &projects.ListProjectsResponse{Projects: list, NextPageToken: page.NextPageToken}, err
	})
}

func (s *projectServer) DeleteProject(ctx context.Context, req *projects.DeleteProjectRequest) (*emptypb.Empty, error) {
	return answer(ctx, func(caller metadata.Caller) (*emptypb.Empty, error) {
		return &emptypb.Empty{}, s.svc.DeleteProject(ctx, caller, req.GetName())
	})
}

func (s *betaProjectServer) CreateProject(ctx context.Context, req *betaprojects.CreateProjectRequest) (*betaprojects.Project, error) {
	return answer(ctx, func(caller metadata.Caller) (*betaprojects.Project, error) {
		p := req.GetProject()
		return &betaprojects.Project{Name: p.GetName()}, createProject(ctx, s.svc, caller, p != nil, p.GetName())
	})
}

func (s *betaProjectServer) GetProject(ctx context.Context, req *betaprojects.GetProjectRequest) (*betaprojects.Project, error) {
	return answer(ctx, func(caller metadata.Caller) (*betaprojects.Project, error) {
		return &betaprojects.Project{Name: req.GetName()}, s.svc.GetProject(ctx, caller, req.GetName())
	})
}

func (s *betaProjectServer) ListProjects(ctx context.Context, req *betaprojects.ListProjectsRequest) (*betaprojects.ListProjectsResponse, error) {
	return answer(ctx, func(caller metadata.Caller) (*betaprojects.ListProjectsResponse, error) {
		page, err := s.svc.ListProjects(ctx, caller, metadata.ListRequest{Filter: req.GetFilter(), PageSize: req.GetPageSize(), PageToken: req.GetPageToken()})
		list := views(page.Names, func(name string) *betaprojects.Project { return &betaprojects.Project{Name: name} })
		return &betaprojects.ListProjectsResponse{Projects: list, NextPageToken: page.NextPageToken}, err
	})
}

func (s *betaProjectServer) DeleteProject(ctx context.Context, req *betaprojects.DeleteProjectRequest) (*emptypb.Empty, error) {
	return answer(ctx, func(caller metadata.Caller) (*emptypb.Empty, error) {
		return &emptypb.Empty{}, s.svc.DeleteProject(ctx, caller, req.GetName())
	})
}
