// Package breakglassapi is the network face of package breakglass on the metadata port:
//
//	GET    /v1/projects/P/breakGlassIncidents?state=&namespace=&text=&pageSize=&pageToken=
//	GET    /v1/projects/P/breakGlassIncidents/ID
//	POST   /v1/projects/P/breakGlassIncidents/ID:acknowledge   {"comment": "…"}
//	POST   /v1/projects/P/breakGlassIncidents/ID:resolve       {"comment": "…"}
//	GET    /v1/projects/P/breakGlassGrants
//	POST   /v1/projects/P/breakGlassGrants                     a signed grant
//	DELETE /v1/projects/P/breakGlassGrants/ID
//
// Incidents are those of the gate in the same process, and of gates elsewhere that tell
// what they let in, by the services Audit and Incidents of package gatehouse.v1. Grants
// are documents of the project: they reach all its gates.
package breakglassapi

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"google.golang.org/grpc"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/breakglass"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
)

const (
	incidents = "breakGlassIncidents"
	grants    = "breakGlassGrants"
)

// Options configure an [API].
type Options struct {
	Service *metadata.Service
	// Project is the one whose gate runs here.
	Project   string
	Incidents *breakglass.Incidents
	Grants    *breakglass.Grants
	// Log takes what gates elsewhere have decided, and Tells is set if somebody is told of
	// incidents.
	Log   *audit.Log
	Tells bool
}

// An API is a [grafeasapi.Extension].
type API struct{ Options }

var _ grafeasapi.Extension = (*API)(nil)

// New returns an API.
func New(o Options) *API { return &API{o} }

// Register registers the services for gates elsewhere. People use REST.
func (a *API) Register(rpc grpc.ServiceRegistrar) {
	gates := &gateAPI{API: a, turns: map[[2]string]*turn{}}
	gatehousev1.RegisterAuditServer(rpc, gates)
	gatehousev1.RegisterIncidentsServer(rpc, gates)
}

// A target is what a path leads to.
type target struct {
	project, collection, id, verb string
}

// find reads a path; the zero target is nothing here.
func find(path string) target {
	parts := strings.Split(strings.TrimPrefix(path, "/v1/"), "/")
	if !strings.HasPrefix(path, "/v1/") || len(parts) < 3 || len(parts) > 4 || parts[0] != "projects" || slices.Contains(parts, "") {
		return target{}
	}
	t := target{project: parts[1], collection: parts[2]}
	if len(parts) == 4 {
		t.id, t.verb, _ = strings.Cut(parts[3], ":")
	}
	if t.collection != incidents && t.collection != grants {
		return target{}
	}
	return t
}

type method func(*API, context.Context, metadata.Caller, target, grafeasapi.Request) (any, error)

func (t target) methods() map[string]method {
	switch {
	case t.collection == incidents && t.id == "":
		return map[string]method{http.MethodGet: (*API).list}
	case t.collection == incidents && t.verb == "":
		return map[string]method{http.MethodGet: (*API).get}
	case t.collection == incidents && (t.verb == "acknowledge" || t.verb == "resolve"):
		return map[string]method{http.MethodPost: (*API).turn}
	case t.collection == grants && t.id == "":
		return map[string]method{http.MethodGet: (*API).grants, http.MethodPost: (*API).grant}
	case t.collection == grants && t.verb == "":
		return map[string]method{http.MethodDelete: (*API).revoke}
	}
	return nil
}

// Methods returns the HTTP methods that a path takes.
func (a *API) Methods(path string) []string { return slices.Sorted(maps.Keys(find(path).methods())) }

// ServeREST answers a request.
func (a *API) ServeREST(ctx context.Context, caller metadata.Caller, r grafeasapi.Request) ([]byte, error) {
	t := find(r.Path)
	answer, err := t.methods()[r.Method](a, ctx, caller, t, r)
	if err != nil {
		return nil, err
	}
	return json.Marshal(answer, json.Deterministic(true))
}

func (t target) parent() string { return "projects/" + t.project }

func (t target) name() string { return t.parent() + "/" + t.collection + "/" + t.id }

// here returns nil for the project whose gate runs here.
func (a *API) here(t target) error {
	if t.project != a.Project || a.Incidents == nil {
		return metadata.Errorf(metadata.NotFound, "the incidents of project %q are not kept here; this is the gate of %q", t.project, a.Project)
	}
	// What was answered before is told, however soon after.
	if err := a.Incidents.CatchUp(); err != nil {
		return metadata.Errorf(metadata.Unavailable, "incidents cannot be made from the audit log: %w", err)
	}
	return nil
}

type page struct {
	Incidents     []breakglass.Incident `json:"breakGlassIncidents"`
	NextPageToken string                `json:"nextPageToken,omitempty"`
}

func (a *API) list(ctx context.Context, caller metadata.Caller, t target, r grafeasapi.Request) (any, error) {
	return metadata.Do(ctx, a.Service, caller, "ListBreakGlassIncidents", t.parent(), func(c *metadata.Call) (any, error) {
		if err := c.Need(ctx, metadata.BreakGlassIncidentsList, t.parent()); err != nil {
			return nil, err
		}
		if err := a.here(t); err != nil {
			return nil, err
		}
		q, err := parameters(r.Query, "state", "namespace", "text", "pageSize", "pageToken")
		if err != nil {
			return nil, err
		}
		f := breakglass.Filter{State: breakglass.State(q.Get("state")), Namespace: q.Get("namespace"), Text: q.Get("text")}
		if f.State != "" && f.State != breakglass.StateOpen && f.State != breakglass.StateAcknowledged && f.State != breakglass.StateResolved {
			return nil, metadata.Errorf(metadata.InvalidArgument, "state %q: want open, acknowledged or resolved", cut(q.Get("state")))
		}
		l := metadata.List{Method: "ListBreakGlassIncidents", Parent: t.parent(), PageToken: q.Get("pageToken")}
		if s := q.Get("pageSize"); s != "" {
			n, err := strconv.ParseInt(s, 10, 32)
			if err != nil {
				return nil, metadata.Errorf(metadata.InvalidArgument, "pageSize %q is no number", cut(s))
			}
			l.PageSize = int32(n)
		}
		size, after, err := c.Page(l)
		if err != nil {
			return nil, err
		}
		list, more := a.Incidents.List(f, after, size)
		p := page{Incidents: list}
		if more {
			p.NextPageToken = c.NextPageToken(l, list[len(list)-1].ID)
		}
		return p, nil
	})
}

func (a *API) get(ctx context.Context, caller metadata.Caller, t target, r grafeasapi.Request) (any, error) {
	return metadata.Do(ctx, a.Service, caller, "GetBreakGlassIncident", t.name(), func(c *metadata.Call) (any, error) {
		if err := c.Need(ctx, metadata.BreakGlassIncidentsGet, t.parent()); err != nil {
			return nil, err
		}
		if err := a.here(t); err != nil {
			return nil, err
		}
		if _, err := parameters(r.Query); err != nil {
			return nil, err
		}
		i, err := a.Incidents.Get(t.id)
		return i, refusal(t, err)
	})
}

// turn acknowledges or resolves.
func (a *API) turn(ctx context.Context, caller metadata.Caller, t target, r grafeasapi.Request) (any, error) {
	name, do := "AcknowledgeBreakGlassIncident", (*breakglass.Incidents).Acknowledge
	if t.verb == "resolve" {
		name, do = "ResolveBreakGlassIncident", (*breakglass.Incidents).Resolve
	}
	return metadata.Do(ctx, a.Service, caller, name, t.name(), func(c *metadata.Call) (any, error) {
		if err := c.Need(ctx, metadata.BreakGlassIncidentsUpdate, t.parent()); err != nil {
			return nil, err
		}
		if err := a.here(t); err != nil {
			return nil, err
		}
		if _, err := parameters(r.Query); err != nil {
			return nil, err
		}
		var body struct {
			Comment string `json:"comment"`
			// By is who says so where nobody is asked who he is.
			By string `json:"by"`
		}
		if len(r.Body) > 0 {
			if err := json.Unmarshal(r.Body, &body, json.RejectUnknownMembers(true)); err != nil {
				return nil, metadata.Errorf(metadata.InvalidArgument, "reading the request: %w", err)
			}
		}
		who := caller.Name
		if who == "" && body.By != "" {
			who = body.By + " (not proved)"
		}
		i, err := do(a.Incidents, t.id, who, body.Comment)
		return i, refusal(t, err)
	})
}

func refusal(t target, err error) error {
	switch {
	case errors.Is(err, breakglass.ErrNoIncident):
		return metadata.Errorf(metadata.NotFound, "incident %q does not exist", cut(t.id))
	case errors.Is(err, breakglass.ErrOver):
		return metadata.Errorf(metadata.FailedPrecondition, "incident %q is resolved already", cut(t.id))
	case err != nil:
		return metadata.Errorf(metadata.Unavailable, "the incident could not be written: %w", err)
	}
	return nil
}

func (a *API) grants(ctx context.Context, caller metadata.Caller, t target, r grafeasapi.Request) (any, error) {
	return metadata.Do(ctx, a.Service, caller, "ListBreakGlassGrants", t.parent(), func(c *metadata.Call) (any, error) {
		if err := c.Need(ctx, metadata.BreakGlassGrantsList, t.parent()); err != nil {
			return nil, err
		}
		if _, err := parameters(r.Query); err != nil {
			return nil, err
		}
		// Whoever trusts other grantors elsewhere sees them otherwise; this gate's word is all
		// there is here.
		var all struct {
			Grants []breakglass.GrantState `json:"breakGlassGrants"`
		}
		for _, s := range a.Grants.States(c.Now()) {
			if strings.HasPrefix(s.Source, breakglass.GrantsOf(t.project)) || t.project == a.Project && !strings.HasPrefix(s.Source, "projects/") {
				all.Grants = append(all.Grants, s)
			}
		}
		return all, nil
	})
}

// grant files a grant, whoever signed it: gates verify that as it arrives.
func (a *API) grant(ctx context.Context, caller metadata.Caller, t target, r grafeasapi.Request) (any, error) {
	return metadata.Do(ctx, a.Service, caller, "CreateBreakGlassGrant", t.parent(), func(c *metadata.Call) (any, error) {
		if err := c.Need(ctx, metadata.BreakGlassGrantsCreate, t.parent()); err != nil {
			return nil, err
		}
		if _, err := parameters(r.Query); err != nil {
			return nil, err
		}
		s, err := breakglass.ParseSignedGrant(r.Body)
		var g breakglass.Grant
		if err == nil {
			g, err = s.Grant()
		}
		if err != nil {
			return nil, metadata.Errorf(metadata.InvalidArgument, "%w", err)
		}
		if !g.Ends.After(c.Now()) {
			return nil, metadata.Errorf(metadata.InvalidArgument, "the grant has ended at %s", g.Ends.UTC().Format(time.RFC3339))
		}
		if err := c.Project(ctx, t.project); err != nil {
			return nil, err
		}
		t.id = g.ID
		return g, a.write(ctx, c, t, r.Body, g.Reason)
	})
}

func (a *API) revoke(ctx context.Context, caller metadata.Caller, t target, r grafeasapi.Request) (any, error) {
	return metadata.Do(ctx, a.Service, caller, "DeleteBreakGlassGrant", t.name(), func(c *metadata.Call) (any, error) {
		if err := c.Need(ctx, metadata.BreakGlassGrantsDelete, t.parent()); err != nil {
			return nil, err
		}
		if _, err := parameters(r.Query); err != nil {
			return nil, err
		}
		return struct{}{}, a.write(ctx, c, t, nil, "")
	})
}

// write adds a revision: a grant is written once, and may get signatures until it counts.
func (a *API) write(ctx context.Context, c *metadata.Call, t target, content []byte, comment string) error {
	_, err := metadata.UntilUnchanged(ctx, c, t.name(), func() (struct{}, error) {
		now, err := c.Store().Document(ctx, t.name(), 0)
		if metadata.KindOf(err) == metadata.NotFound {
			now, err = &metadata.Document{}, nil
		}
		switch {
		case err != nil:
			return struct{}{}, err
		case content == nil && now.Deleted():
			return struct{}{}, metadata.DocumentMissing(t.name())
		}
		return struct{}{}, c.Store().Apply(ctx, metadata.Mutation{WriteDocument: &metadata.DocumentWrite{Document: metadata.Document{
			Name: t.name(), Content: content, Revision: now.Revision + 1, Author: c.Caller().Name, Time: c.Now().UTC().Truncate(time.Microsecond), Comment: comment,
		}}})
	})
	return err
}

// parameters reads a query that may have these, each once.
func parameters(query string, known ...string) (url.Values, error) {
	q, err := url.ParseQuery(query)
	if err != nil {
		return nil, metadata.Errorf(metadata.InvalidArgument, "query: %w", err)
	}
	for name, values := range q {
		if !slices.Contains(known, name) {
			return nil, metadata.Errorf(metadata.InvalidArgument, "query parameter %q is not served", cut(name))
		}
		if len(values) > 1 {
			return nil, metadata.Errorf(metadata.InvalidArgument, "query parameter %q is given twice", name)
		}
	}
	return q, nil
}

func cut(s string) string { return strings.ToValidUTF8(s[:min(len(s), 100)], "") }
