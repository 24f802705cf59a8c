// Package binauthzapi is the network face of package admin: Binary Authorization's
// API as gRPC and as REST, versions v1 and v1beta1. It is an extension of package
// grafeasapi, on whose port it is served, because clients know both by one host,
// and because who calls, how much and how often is decided there once for all.
//
// gRPC is Google's published services, by Google's own stubs. REST is written over
// the documents themselves and not over those stubs, which do not know all that a
// document may say. Beside what Google has there are
//
//	GET  …:listRevisions?pageSize=&pageToken=      the history, newest first
//	POST …:rollback {"revision": 3, "etag": "…"}   an earlier version once more
//	PUT  /v1/locations/L/policy                    another system policy
//	?comment=TEXT                                  with a write, for the history
//	?force=true                                    deletes an attestor that is in use
//
// of a policy, an attestor or a platform policy, "…" being its name.
//
// Bodies are one JSON object, in lowerCamelCase, with enums by name or number. What
// the API has no field for is refused, with its place; so is a field in another
// case, or one that is given twice. Output-only fields are ignored. Query
// parameters that would change the answer and are not served (fields, key, …) are
// refused, and others that are not known are ignored.
package binauthzapi

import (
	"google.golang.org/grpc"

	v1 "cloud.google.com/go/binaryauthorization/apiv1/binaryauthorizationpb"
	v1beta1 "cloud.google.com/go/binaryauthorization/apiv1beta1/binaryauthorizationpb"

	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
	"github.com/gatehouse-dev/gatehouse/policy/admin"
)

// An API serves a policy service. It is a [grafeasapi.Extension].
type API struct{ svc *admin.Service }

var _ grafeasapi.Extension = (*API)(nil)

// New returns the API of a policy service.
func New(svc *admin.Service) *API { return &API{svc: svc} }

// Register registers the gRPC services of both versions.
func (a *API) Register(rpc grpc.ServiceRegistrar) {
	v1.RegisterBinauthzManagementServiceV1Server(rpc, &server{svc: a.svc})
	v1.RegisterSystemPolicyV1Server(rpc, &systemServer{svc: a.svc})
	v1.RegisterValidationHelperV1Server(rpc, &validationServer{svc: a.svc})
	v1beta1.RegisterBinauthzManagementServiceV1Beta1Server(rpc, &betaServer{svc: a.svc})
	v1beta1.RegisterSystemPolicyV1Beta1Server(rpc, &betaSystemServer{svc: a.svc})
}
