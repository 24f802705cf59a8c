// Package objectsapi is the network face, on the metadata port, of the objects of
// clusters that policy is made from:
//
//	GET  /v1/projects/P/clusterObjects?pageSize=&pageToken=   those of all clusters
//	POST /v1/projects/P/clusterObjects:apply                  files some, and takes others away, all or none
//
// Who files them is the controller in the cluster; gates get them by the feed.
package objectsapi

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/grpc"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
	"github.com/gatehouse-dev/gatehouse/policy/admin"
	"github.com/gatehouse-dev/gatehouse/policy/objects"
)

// An API is a [grafeasapi.Extension].
type API struct{ svc *admin.Service }

var _ grafeasapi.Extension = (*API)(nil)

// New returns the API of a policy service.
func New(svc *admin.Service) *API { return &API{svc: svc} }

// Register registers nothing: there is REST alone.
func (a *API) Register(grpc.ServiceRegistrar) {}

type method func(*API, context.Context, metadata.Caller, string, grafeasapi.Request) (any, error)

// find returns the project that a path is about, and the methods that it takes.
func find(path string) (parent string, methods map[string]method) {
	parts := strings.Split(strings.TrimPrefix(path, "/v1/"), "/")
	if !strings.HasPrefix(path, "/v1/") || len(parts) != 3 || parts[0] != "projects" || parts[1] == "" {
		return "", nil
	}
	parent = parts[0] + "/" + parts[1]
	switch parts[2] {
	case "clusterObjects":
		return parent, map[string]method{http.MethodGet: (*API).list}
	case "clusterObjects:apply":
		return parent, map[string]method{http.MethodPost: (*API).apply}
	}
	return "", nil
}

// Methods returns the HTTP methods that a path takes.
func (a *API) Methods(path string) []string {
	_, methods := find(path)
	return slices.Sorted(maps.Keys(methods))
}

// ServeREST answers a request.
func (a *API) ServeREST(ctx context.Context, caller metadata.Caller, r grafeasapi.Request) ([]byte, error) {
	parent, methods := find(r.Path)
	answer, err := methods[r.Method](a, ctx, caller, parent, r)
	if err != nil {
		return nil, err
	}
	return json.Marshal(answer, json.Deterministic(true))
}

// An object is a filed object in an answer.
type object struct {
	Document string         `json:"document"`
	Revision uint64         `json:"revision"`
	Cluster  string         `json:"cluster,omitempty"`
	Object   jsontext.Value `json:"object"`
}

func (a *API) list(ctx context.Context, caller metadata.Caller, parent string, r grafeasapi.Request) (any, error) {
	q, err := parameters(r.Query, "pageSize", "pageToken")
	if err != nil {
		return nil, err
	}
	size := int64(0)
	if s := q.Get("pageSize"); s != "" {
		if size, err = strconv.ParseInt(s, 10, 32); err != nil {
			return nil, metadata.Errorf(metadata.InvalidArgument, "pageSize %.50q is no number", s)
		}
	}
	page, err := a.svc.ListObjects(ctx, caller, parent, int32(size), q.Get("pageToken")) //nolint:gosec // parsed as of 32 bits
	if err != nil {
		return nil, err
	}
	answer := struct {
		Objects       []object `json:"clusterObjects"`
		NextPageToken string   `json:"nextPageToken,omitempty"`
	}{Objects: []object{}, NextPageToken: page.NextPageToken}
	for _, o := range page.Objects {
		answer.Objects = append(answer.Objects, object{o.Document, o.Revision, o.Cluster, o.Object})
	}
	return answer, nil
}

// A change is one in a request: an object, or what is to go.
type change struct {
	Object   jsontext.Value `json:"object"`
	Delete   *objects.Ref   `json:"delete"`
	UID      string         `json:"uid"`
	Revision *uint64        `json:"revision"`
}

type applied struct {
	Document string `json:"document"`
	Revision uint64 `json:"revision"`
	Written  bool   `json:"written"`
}

func (a *API) apply(ctx context.Context, caller metadata.Caller, parent string, r grafeasapi.Request) (any, error) {
	if _, err := parameters(r.Query); err != nil {
		return nil, err
	}
	var body struct {
		Cluster string   `json:"cluster"`
		Changes []change `json:"changes"`
	}
	if err := json.Unmarshal(r.Body, &body, json.RejectUnknownMembers(true)); err != nil {
		return nil, metadata.Errorf(metadata.InvalidArgument, "reading the request: %w", err)
	}
	changes := make([]admin.ObjectChange, len(body.Changes))
	for i, c := range body.Changes {
		if (c.Object == nil) == (c.Delete == nil) {
			return nil, metadata.Errorf(metadata.InvalidArgument, "changes[%d]: want either object or delete", i)
		}
		changes[i] = admin.ObjectChange{Object: c.Object, UID: c.UID, Revision: c.Revision}
		if c.Delete != nil {
			changes[i].Delete = *c.Delete
		}
	}
	done, err := a.svc.ApplyObjects(ctx, caller, parent, body.Cluster, changes)
	if err != nil {
		return nil, err
	}
	answer := struct {
		Applied []applied `json:"applied"`
	}{Applied: []applied{}}
	for _, d := range done {
		answer.Applied = append(answer.Applied, applied(d))
	}
	return answer, nil
}

// parameters returns those of a query, none of which may be unknown or given twice.
func parameters(text string, known ...string) (url.Values, error) {
	query, err := url.ParseQuery(text)
	if err != nil {
		return nil, metadata.Errorf(metadata.InvalidArgument, "reading the query: %w", err)
	}
	for name, values := range query {
		if !slices.Contains(known, name) || len(values) > 1 {
			return nil, metadata.Errorf(metadata.InvalidArgument, "query parameter %.50q is unknown here, or given twice", name)
		}
	}
	return query, nil
}
