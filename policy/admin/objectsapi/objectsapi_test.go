package objectsapi_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
	"github.com/gatehouse-dev/gatehouse/policy/admin"
	"github.com/gatehouse-dev/gatehouse/policy/admin/adminclient"
	"github.com/gatehouse-dev/gatehouse/policy/admin/objectsapi"
)

// serve serves project p to a caller who has the role.
func serve(t *testing.T, role string) *adminclient.Client {
	t.Helper()
	permissions, known := metadata.PermissionsOf(role)
	if !known {
		t.Fatalf("there is no role %q", role)
	}
	store := memory.New()
	t.Cleanup(func() { _ = store.Close() })
	svc, err := metadata.NewService(t.Context(), store, metadata.Options{Projects: []string{"p"}, Authorizer: metadata.AuthorizerFunc(
		func(_ context.Context, _ metadata.Caller, p metadata.Permission, _ string) error {
			for _, may := range permissions {
				if may == p {
					return nil
				}
			}
			return fmt.Errorf("%s may not", role)
		})})
	if err != nil {
		t.Fatal(err)
	}
	policies, err := admin.New(svc, admin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	handler, closeHandler := grafeasapi.NewHandler(svc, grafeasapi.Options{Extensions: []grafeasapi.Extension{objectsapi.New(policies)}})
	server := httptest.NewServer(handler)
	t.Cleanup(func() { server.Close(); closeHandler() })
	return adminclient.New(server.URL, server.Client())
}

func policyObject(i int, filling string) adminclient.ObjectChange {
	return adminclient.ObjectChange{Object: fmt.Appendf(nil, `{"apiVersion": "gatehouse.dev/v1beta1", "kind": "Policy", "metadata": {"name": "p%d", "namespace": "shop"}, "spec": {"x": %q}}`, i, filling)}
}

// TestTheControllerFilesObjects, more than fit into one request, and nobody else does.
func TestTheControllerFilesObjects(t *testing.T) {
	t.Parallel()
	c := serve(t, "clusterController")
	var changes []adminclient.ObjectChange
	for i := range 520 {
		filling := ""
		if i < 2 {
			filling = strings.Repeat("x", 2<<20)
		}
		changes = append(changes, policyObject(i, filling))
	}
	done, err := c.ApplyObjects(t.Context(), "projects/p", "", changes)
	if err != nil || len(done) != len(changes) || !done[519].Written {
		t.Fatalf("%d done, %v", len(done), err)
	}
	changes[5] = adminclient.ObjectChange{Delete: &adminclient.ObjectRef{APIVersion: "gatehouse.dev/v1beta1", Kind: "Policy", Namespace: "shop", Name: "p5"}}
	if done, err = c.ApplyObjects(t.Context(), "projects/p", "", changes); err != nil || !done[5].Written || done[6].Written {
		t.Fatalf("%+v, %v", done[5:7], err)
	}
	all, err := c.ClusterObjects(t.Context(), "projects/p", "")
	if err != nil || len(all) != 519 || !strings.Contains(string(all[0].Object), `"kind":"Policy"`) || all[0].Revision != 1 {
		t.Errorf("%d are there, %v", len(all), err)
	}
	if others, err := c.ClusterObjects(t.Context(), "projects/p", "us-east1-b.prod"); err != nil || len(others) != 0 {
		t.Errorf("%d are of another cluster, %v", len(others), err)
	}
	zero := uint64(0)
	changes[7].Revision = &zero
	if _, err = c.ApplyObjects(t.Context(), "projects/p", "", changes[7:8]); adminclient.StatusOf(err) != "ABORTED" {
		t.Errorf("got %v", err)
	}
	for _, role := range []string{"viewer", "editor", "gate", "admin", "binaryauthorization.policyAdmin"} {
		if _, err := serve(t, role).ApplyObjects(t.Context(), "projects/p", "", changes[:1]); adminclient.StatusOf(err) != "PERMISSION_DENIED" {
			t.Errorf("%s files them: %v", role, err)
		}
	}
}

func TestRequestsAreStrict(t *testing.T) {
	t.Parallel()
	api := objectsapi.New(nil)
	for _, path := range []string{"/v1/projects/p/clusterObjects/x", "/v1beta1/projects/p/clusterObjects", "/v1/projects//clusterObjects", "/v1/projects/p/policy"} {
		if methods := api.Methods(path); len(methods) != 0 {
			t.Errorf("%s takes %v", path, methods)
		}
	}
	for name, r := range map[string]grafeasapi.Request{
		"a parameter":     {Method: "GET", Path: "/v1/projects/p/clusterObjects", Query: "filter=x"},
		"a size":          {Method: "GET", Path: "/v1/projects/p/clusterObjects", Query: "pageSize=x"},
		"a field":         {Method: "POST", Path: "/v1/projects/p/clusterObjects:apply", Body: []byte(`{"changes": [], "x": 1}`)},
		"neither":         {Method: "POST", Path: "/v1/projects/p/clusterObjects:apply", Body: []byte(`{"changes": [{}]}`)},
		"both":            {Method: "POST", Path: "/v1/projects/p/clusterObjects:apply", Body: []byte(`{"changes": [{"object": {}, "delete": {}}]}`)},
		"a field of case": {Method: "POST", Path: "/v1/projects/p/clusterObjects:apply", Body: []byte(`{"Changes": []}`)},
	} {
		if _, err := api.ServeREST(t.Context(), metadata.Caller{}, r); metadata.KindOf(err) != metadata.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}
