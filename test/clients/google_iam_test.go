package clients

import (
	"context"
	"fmt"
	"testing"

	analysis "cloud.google.com/go/containeranalysis/apiv1"
	analysisbeta "cloud.google.com/go/containeranalysis/apiv1beta1"
	"cloud.google.com/go/iam/apiv1/iampb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// policies is what Google's clients of access policies have in common.
type policies interface {
	SetIamPolicy(context.Context, *iampb.SetIamPolicyRequest, ...gax.CallOption) (*iampb.Policy, error)
	GetIamPolicy(context.Context, *iampb.GetIamPolicyRequest, ...gax.CallOption) (*iampb.Policy, error)
	TestIamPermissions(context.Context, *iampb.TestIamPermissionsRequest, ...gax.CallOption) (*iampb.TestIamPermissionsResponse, error)
	Close() error
}

func TestGoogleAccessPolicies(t *testing.T) {
	t.Parallel()
	g := start(t)
	ctx := t.Context()
	beta := ok[*analysisbeta.ContainerAnalysisV1Beta1Client](t)
	for name, client := range map[string]policies{
		"v1":           ok[*analysis.Client](t)(analysis.NewClient(ctx, g.overGRPC()...)),
		"v1beta1-grpc": beta(analysisbeta.NewContainerAnalysisV1Beta1Client(ctx, g.overGRPC()...)),
		"v1beta1-rest": beta(analysisbeta.NewContainerAnalysisV1Beta1RESTClient(ctx, g.overREST()...)),
	} {
		t.Run(name, func(t *testing.T) {
			defer client.Close()
			policy := ok[*iampb.Policy](t)
			note := "projects/" + name + "/notes/n"
			g.send(t, "POST", "/v1/projects/"+name+"/notes?noteId=n", `{"secret":{}}`, 200)

			if empty := policy(client.GetIamPolicy(ctx, &iampb.GetIamPolicyRequest{Resource: note})); len(empty.GetBindings()) > 0 {
				t.Errorf("a policy that was never set: %v", empty)
			}
			sent := &iampb.Policy{Bindings: []*iampb.Binding{{Role: "roles/containeranalysis.notes.attacher", Members: []string{"user:ada@example.com"}}}}
			set := policy(client.SetIamPolicy(ctx, &iampb.SetIamPolicyRequest{Resource: note, Policy: sent}))
			got := policy(client.GetIamPolicy(ctx, &iampb.GetIamPolicyRequest{Resource: note}))
			if !proto.Equal(got, set) {
				t.Errorf("policy %v, set %v", got, set)
			}
			if fmt.Sprint(got.GetBindings()) != fmt.Sprint(sent.GetBindings()) || len(got.GetEtag()) == 0 {
				t.Errorf("policy %v, sent %v", got, sent)
			}
			// Read, change, write: the second of two who read the same is refused.
			again := &iampb.Policy{Etag: got.GetEtag(), Bindings: []*iampb.Binding{{Role: "roles/containeranalysis.notes.viewer", Members: []string{"user:bob@example.com"}}}}
			policy(client.SetIamPolicy(ctx, &iampb.SetIamPolicyRequest{Resource: note, Policy: again}))
			_, err := client.SetIamPolicy(ctx, &iampb.SetIamPolicyRequest{Resource: note, Policy: again})
			refused(t, err, codes.Aborted)

			asked := []string{"containeranalysis.notes.get", "containeranalysis.notes.attachOccurrence"}
			may := ok[*iampb.TestIamPermissionsResponse](t)(client.TestIamPermissions(ctx, &iampb.TestIamPermissionsRequest{Resource: note, Permissions: asked}))
			if fmt.Sprint(may.GetPermissions()) != fmt.Sprint(asked) {
				t.Errorf("permissions %v of %v, on a server without callers' names", may.GetPermissions(), asked)
			}
			_, err = client.GetIamPolicy(ctx, &iampb.GetIamPolicyRequest{Resource: "projects/" + name + "/notes/none"})
			refused(t, err, codes.NotFound)
			_, err = client.SetIamPolicy(ctx, &iampb.SetIamPolicyRequest{Resource: note, Policy: &iampb.Policy{
				Bindings: []*iampb.Binding{{Role: "roles/none", Members: []string{"user:ada@example.com"}}},
			}})
			refused(t, err, codes.InvalidArgument)
		})
	}
}
