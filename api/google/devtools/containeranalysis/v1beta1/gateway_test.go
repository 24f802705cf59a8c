package containeranalysis_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"cloud.google.com/go/iam/apiv1/iampb"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	v1 "google.golang.org/genproto/googleapis/devtools/containeranalysis/v1"

	gatewayv1 "github.com/gatehouse-dev/gatehouse/api/google/devtools/containeranalysis/v1"
	"github.com/gatehouse-dev/gatehouse/api/google/devtools/containeranalysis/v1beta1"
)

// A server notes what it is asked.
type server struct{ asked string }

func (s *server) SetIamPolicy(_ context.Context, r *iampb.SetIamPolicyRequest) (*iampb.Policy, error) {
	s.asked = "set " + r.GetResource() + " " + string(r.GetPolicy().GetEtag())
	return &iampb.Policy{}, nil
}

func (s *server) GetIamPolicy(_ context.Context, r *iampb.GetIamPolicyRequest) (*iampb.Policy, error) {
	s.asked = "get " + r.GetResource()
	return &iampb.Policy{}, nil
}

func (s *server) TestIamPermissions(_ context.Context, r *iampb.TestIamPermissionsRequest) (*iampb.TestIamPermissionsResponse, error) {
	s.asked = "test " + r.GetResource() + " " + strings.Join(r.GetPermissions(), ",")
	return &iampb.TestIamPermissionsResponse{}, nil
}

func (s *server) GetVulnerabilityOccurrencesSummary(_ context.Context, r *v1.GetVulnerabilityOccurrencesSummaryRequest) (*v1.VulnerabilityOccurrencesSummary, error) {
	s.asked = "summary " + r.GetParent() + " " + r.GetFilter()
	return &v1.VulnerabilityOccurrencesSummary{}, nil
}

// TestPaths asks both versions' gateways at each path: the imports that the
// generator reads are cut, and a number in them may be wrong.
func TestPaths(t *testing.T) {
	for _, tc := range []struct{ method, path, body, want string }{
		{"POST", "/v1/projects/p/notes/n:setIamPolicy", `{"policy": {"etag": "ZXRhZw=="}}`, "set projects/p/notes/n etag"},
		{"POST", "/v1/projects/p/occurrences/o:setIamPolicy", `{}`, "set projects/p/occurrences/o "},
		{"POST", "/v1/projects/p/notes/n:getIamPolicy", `{}`, "get projects/p/notes/n"},
		{"POST", "/v1/projects/p/occurrences/o:getIamPolicy", `{}`, "get projects/p/occurrences/o"},
		{"POST", "/v1/projects/p/notes/n:testIamPermissions", `{"permissions": ["a", "b"]}`, "test projects/p/notes/n a,b"},
		{"POST", "/v1/projects/p/occurrences/o:testIamPermissions", `{}`, "test projects/p/occurrences/o "},
		{"GET", "/v1/projects/p/occurrences:vulnerabilitySummary?filter=f", ``, "summary projects/p f"},

		{"POST", "/v1beta1/projects/p/notes/n:setIamPolicy", `{"policy": {"etag": "ZXRhZw=="}}`, "set projects/p/notes/n etag"},
		{"POST", "/v1beta1/projects/p/occurrences/o:setIamPolicy", `{}`, "set projects/p/occurrences/o "},
		{"POST", "/v1beta1/projects/p/locations/l/notes/n:setIamPolicy", `{}`, "set projects/p/locations/l/notes/n "},
		{"POST", "/v1beta1/projects/p/locations/l/occurrences/o:setIamPolicy", `{}`, "set projects/p/locations/l/occurrences/o "},
		{"POST", "/v1beta1/projects/p/notes/n:getIamPolicy", `{}`, "get projects/p/notes/n"},
		{"POST", "/v1beta1/projects/p/occurrences/o:getIamPolicy", `{}`, "get projects/p/occurrences/o"},
		{"POST", "/v1beta1/projects/p/locations/l/notes/n:getIamPolicy", `{}`, "get projects/p/locations/l/notes/n"},
		{"POST", "/v1beta1/projects/p/locations/l/occurrences/o:getIamPolicy", `{}`, "get projects/p/locations/l/occurrences/o"},
		{"POST", "/v1beta1/projects/p/notes/n:testIamPermissions", `{"permissions": ["a", "b"]}`, "test projects/p/notes/n a,b"},
		{"POST", "/v1beta1/projects/p/occurrences/o:testIamPermissions", `{}`, "test projects/p/occurrences/o "},
		{"POST", "/v1beta1/projects/p/locations/l/notes/n:testIamPermissions", `{}`, "test projects/p/locations/l/notes/n "},
		{"POST", "/v1beta1/projects/p/locations/l/occurrences/o:testIamPermissions", `{}`, "test projects/p/locations/l/occurrences/o "},
	} {
		t.Run(tc.method+" "+tc.path, func(t *testing.T) {
			var s server
			mux := runtime.NewServeMux()
			if err := gatewayv1.RegisterContainerAnalysisHandlerServer(t.Context(), mux, &s); err != nil {
				t.Fatal(err)
			}
			if err := containeranalysis.RegisterContainerAnalysisV1Beta1HandlerServer(t.Context(), mux, &s); err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), tc.method, tc.path, strings.NewReader(tc.body)))
			if w.Code != http.StatusOK || s.asked != tc.want {
				t.Errorf("status %d, asked %q, want %q; %s", w.Code, s.asked, tc.want, w.Body)
			}
		})
	}
}
