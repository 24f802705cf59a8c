package grafeasapi

import (
	"context"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	containeranalysis "google.golang.org/genproto/googleapis/devtools/containeranalysis/v1"
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	companiongateway "github.com/gatehouse-dev/gatehouse/api/google/devtools/containeranalysis/v1"
	betacompanion "github.com/gatehouse-dev/gatehouse/api/google/devtools/containeranalysis/v1beta1"
	gateway "github.com/gatehouse-dev/gatehouse/api/grafeas/v1"
	projects "github.com/gatehouse-dev/gatehouse/api/grafeas/v1/project"
	beta "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1"
	betaprojects "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/project"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/v1beta1"
)

// services are all that is served, over one metadata service.
type services struct {
	v1            *server
	beta          *betaServer
	projects      *projectServer
	betaProjects  *betaProjectServer
	companion     *companionServer
	betaCompanion *betaCompanionServer
}

func newServices(svc *metadata.Service) *services {
	inBeta := svc.As(v1beta1.Dialect())
	return &services{
		v1:            &server{svc: svc},
		beta:          &betaServer{svc: inBeta},
		projects:      &projectServer{svc: svc},
		betaProjects:  &betaProjectServer{svc: inBeta},
		companion:     &companionServer{iamServer{svc: svc}},
		betaCompanion: &betaCompanionServer{iamServer: iamServer{svc: inBeta}},
	}
}

// register makes a gRPC server serve them, with health and reflection.
func (s *services) register(rpc *grpc.Server) *health.Server {
	grafeas.RegisterGrafeasServer(rpc, s.v1)
	beta.RegisterGrafeasV1Beta1Server(rpc, s.beta)
	projects.RegisterProjectsServer(rpc, s.projects)
	betaprojects.RegisterProjectsServer(rpc, s.betaProjects)
	containeranalysis.RegisterContainerAnalysisServer(rpc, s.companion)
	betacompanion.RegisterContainerAnalysisV1Beta1Server(rpc, s.betaCompanion)
	state := health.NewServer()
	for name := range rpc.GetServiceInfo() {
		state.SetServingStatus(name, grpc_health_v1.HealthCheckResponse_SERVING)
	}
	grpc_health_v1.RegisterHealthServer(rpc, state)
	reflection.Register(rpc)
	return state
}

// route makes a gateway serve them. Registering fails only where it dials, and
// these are called in process.
func (s *services) route(mux *runtime.ServeMux) {
	ctx := context.Background()
	_ = gateway.RegisterGrafeasHandlerServer(ctx, mux, s.v1)
	_ = beta.RegisterGrafeasV1Beta1HandlerServer(ctx, mux, s.beta)
	_ = projects.RegisterProjectsHandlerServer(ctx, mux, s.projects)
	_ = betaprojects.RegisterProjectsHandlerServer(ctx, mux, s.betaProjects)
	_ = companiongateway.RegisterContainerAnalysisHandlerServer(ctx, mux, s.companion)
	_ = betacompanion.RegisterContainerAnalysisV1Beta1HandlerServer(ctx, mux, s.betaCompanion)
}
