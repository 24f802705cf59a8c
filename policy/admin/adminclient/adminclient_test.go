package adminclient_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/policy/admin/adminclient"
)

// answering serves fixed answers by method and path with query.
func answering(t *testing.T, answers map[string]string) *adminclient.Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, found := answers[r.Method+" "+r.URL.RequestURI()]
		if !found {
			t.Errorf("asked for %s %s", r.Method, r.URL.RequestURI())
		}
		if rest, refused := strings.CutPrefix(text, "409 "); refused {
			w.WriteHeader(http.StatusConflict)
			text = rest
		}
		_, _ = fmt.Fprint(w, text) // the client notices
	}))
	t.Cleanup(server.Close)
	return adminclient.New(server.URL, server.Client())
}

func TestListsAreReadToTheirEnd(t *testing.T) {
	t.Parallel()
	c := answering(t, map[string]string{
		"GET /v1/projects/p/attestors":                                            `{"attestors": [{"name": "a"}], "nextPageToken": "x y"}`,
		"GET /v1/projects/p/attestors?pageToken=x+y":                              `{"attestors": [{"name": "b"}]}`,
		"GET /v1/projects/q/attestors":                                            `{}`,
		"GET /v1/projects/p/policy:listRevisions":                                 `{"revisions": [{"revision": 3}, {"revision": 2}], "nextPageToken": "x"}`,
		"GET /v1/projects/p/policy:listRevisions?pageToken=x":                     `{"revisions": [{"revision": 1, "deleted": true}]}`,
		"GET /v1/projects/p/policy:listRevisions?pageSize=2":                      `{"revisions": [{"revision": 3}, {"revision": 2}], "nextPageToken": "x"}`,
		"GET /v1/projects/p%20p/policy:listRevisions":                             `{"revisions": []}`,
		"PUT /v1/projects/p/policy?comment=why+%3F":                               `{}`,
		"POST /v1/projects/p/attestors?attestorId=a":                              `{}`,
		"DELETE /v1/projects/p/attestors/a?force=true":                            `{}`,
		"POST /v1/projects/p/platforms/gke/policies?comment=c&policyId=x":         `{}`,
		"POST /v1/projects/p/policy:rollback":                                     `{}`,
		"GET /v1/projects/p/platforms/gke/policies/x":                             `{}`,
		"GET /v1/projects/p/platforms/gke/policies/x:listRevisions?pageSize=1000": `{"revisions": []}`,
	})
	ctx := t.Context()
	list, err := c.List(ctx, "projects/p/attestors", "attestors")
	if err != nil || len(list) != 2 || string(list[1]) != `{"name": "b"}` {
		t.Errorf("listed %s, %v", list, err)
	}
	if list, err = c.List(ctx, "projects/q/attestors", "attestors"); err != nil || len(list) != 0 {
		t.Errorf("listed %s, %v", list, err)
	}
	all, err := c.Revisions(ctx, "projects/p/policy", 0)
	if err != nil || len(all) != 3 || !all[2].Deleted {
		t.Errorf("revisions %+v, %v", all, err)
	}
	if some, err := c.Revisions(ctx, "projects/p/policy", 2); err != nil || len(some) != 2 {
		t.Errorf("revisions %+v, %v", some, err)
	}
	if none, err := c.Revisions(ctx, "projects/p p/policy", 0); err != nil || len(none) != 0 {
		t.Errorf("revisions %+v, %v", none, err)
	}
	_, put := c.Put(ctx, "projects/p/policy", []byte("{}"), "why ?")
	_, create := c.Create(ctx, "projects/p/attestors", "attestorId", "a", []byte("{}"), "")
	_, platform := c.Create(ctx, "projects/p/platforms/gke/policies", "policyId", "x", []byte("{}"), "c")
	_, rollback := c.Rollback(ctx, "projects/p/policy", 1, "")
	_, get := c.Get(ctx, "projects/p/platforms/gke/policies/x")
	_, large := c.Revisions(ctx, "projects/p/platforms/gke/policies/x", 5000)
	if err := errors.Join(put, create, platform, rollback, get, large, c.Delete(ctx, "projects/p/attestors/a", true)); err != nil {
		t.Error(err)
	}
}

func TestWhatTheServerRefusesIsToldApart(t *testing.T) {
	t.Parallel()
	c := answering(t, map[string]string{
		"GET /v1/projects/p/policy":    `409 {"code": 10, "message": "m", "error": {"code": 409, "message": "changed", "status": "ABORTED"}}`,
		"GET /v1/projects/q/policy":    `409 <html>a proxy</html>`,
		"GET /v1/projects/p/attestors": `not JSON`,
	})
	_, err := c.Get(t.Context(), "projects/p/policy")
	if adminclient.StatusOf(err) != "ABORTED" || !strings.Contains(err.Error(), "changed") {
		t.Errorf("got %v", err)
	}
	_, err = c.Get(t.Context(), "projects/q/policy")
	if err == nil || adminclient.StatusOf(err) != "" || !strings.Contains(err.Error(), "409") {
		t.Errorf("got %v", err)
	}
	if _, err = c.List(t.Context(), "projects/p/attestors", "attestors"); err == nil || adminclient.StatusOf(err) != "" {
		t.Errorf("got %v", err)
	}
	unreachable := adminclient.New("http://127.0.0.1:1", http.DefaultClient)
	if _, err = unreachable.Get(t.Context(), "projects/p/policy"); err == nil || adminclient.StatusOf(err) != "" {
		t.Errorf("got %v", err)
	}
}
