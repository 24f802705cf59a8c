package binauthzapi

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/iam/apiv1/iampb"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	v1 "cloud.google.com/go/binaryauthorization/apiv1/binaryauthorizationpb"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
	"github.com/gatehouse-dev/gatehouse/policy/admin"
)

// A request is one to a method, with what its path says.
type request struct {
	svc    *admin.Service
	caller metadata.Caller
	// name is the resource in the path, or the parent of a collection.
	name string
	parameters
	body []byte
}

// A method answers a request with JSON.
type method struct {
	call func(request, context.Context) ([]byte, error)
	// takes are the query parameters.
	takes []string
	// hasBody says that there is one.
	hasBody bool
}

// A target is what a path leads to: a resource or a collection, and the methods
// that it takes.
type target struct {
	name    string
	beta    bool
	methods map[string]method // by HTTP method
}

// find returns what a path leads to, without methods if that is nothing here.
func find(path string) target {
	rest, beta := strings.CutPrefix(path, "/v1beta1/")
	if !beta {
		var found bool
		if rest, found = strings.CutPrefix(path, "/v1/"); !found {
			return target{}
		}
	}
	name, verb := rest, ""
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		name, verb = rest[:i], rest[i:]
	}
	t := target{name: name, beta: beta}
	switch parts := strings.Split(name, "/"); {
	case slices.Contains(parts, ""):
	case len(parts) == 3 && parts[0] == "projects" && parts[2] == "policy":
		t.methods = policyMethods(verb)
	case len(parts) == 3 && parts[0] == "locations" && parts[2] == "policy":
		t.methods = systemMethods(verb)
	case len(parts) == 3 && parts[0] == "projects" && parts[2] == "attestors" && verb == "":
		t.name, t.methods = strings.Join(parts[:2], "/"), attestorsMethods()
	case len(parts) == 4 && parts[0] == "projects" && parts[2] == "attestors":
		t.methods = attestorMethods(verb)
	case beta || len(parts) < 5 || parts[0] != "projects" || parts[2] != "platforms" || parts[4] != "policies":
	case len(parts) == 5 && verb == "":
		t.name, t.methods = strings.Join(parts[:4], "/"), platformsMethods()
	case len(parts) == 6:
		t.methods = platformMethods(verb)
	}
	return t
}

// Methods returns the HTTP methods that a path takes.
func (a *API) Methods(path string) []string {
	return slices.Sorted(maps.Keys(find(path).methods))
}

// ServeREST answers a request.
func (a *API) ServeREST(ctx context.Context, caller metadata.Caller, r grafeasapi.Request) ([]byte, error) {
	t := find(r.Path)
	m := t.methods[r.Method]
	req := request{svc: a.svc, caller: caller, name: t.name, body: r.Body}
	var err error
	if req.parameters, err = parseParameters(r.Query, m.takes); err != nil {
		return nil, err
	}
	if m.hasBody {
		err = checkBody(r.Body)
	} else {
		err = checkNoBody(r.Body)
	}
	if err != nil {
		return nil, err
	}
	answer, err := m.call(req, ctx)
	if err != nil {
		return nil, err
	}
	return req.shape(answer, t.beta)
}

// shape gives an answer the form that was asked for.
func (r request) shape(answer []byte, beta bool) (_ []byte, err error) {
	if beta && bytes.Contains(answer, []byte(noteV1)) {
		answer, err = transform(answer, asBeta)
	}
	if err == nil && r.numbers {
		answer, err = transform(answer, asNumbers)
	}
	if err == nil && !r.compact {
		answer, err = indented(answer)
	}
	return answer, err
}

func policyMethods(verb string) map[string]method {
	if verb == "" {
		return map[string]method{
			http.MethodGet: {call: reading((*admin.Service).GetPolicy)},
			http.MethodPut: {call: writing((*admin.Service).UpdatePolicy), takes: []string{paramComment}, hasBody: true},
		}
	}
	return firstOf(iamMethods(verb), historyMethods(verb))
}

func systemMethods(verb string) map[string]method {
	if verb == "" {
		return map[string]method{
			http.MethodGet: {call: reading((*admin.Service).GetSystemPolicy)},
			http.MethodPut: {call: writing((*admin.Service).UpdateSystemPolicy), takes: []string{paramComment}, hasBody: true},
		}
	}
	return historyMethods(verb)
}

func attestorsMethods() map[string]method {
	return map[string]method{
		http.MethodGet: {call: listing("attestors", (*admin.Service).ListAttestors), takes: []string{paramPageSize, paramPageToken}},
		http.MethodPost: {call: func(r request, ctx context.Context) ([]byte, error) {
			return content(r.svc.CreateAttestor(ctx, r.caller, r.name, r.values[paramAttestorID], r.change()))
		}, takes: []string{paramAttestorID, paramComment}, hasBody: true},
	}
}

func attestorMethods(verb string) map[string]method {
	switch verb {
	case "":
		return map[string]method{
			http.MethodGet: {call: reading((*admin.Service).GetAttestor)},
			http.MethodPut: {call: writing((*admin.Service).UpdateAttestor), takes: []string{paramComment}, hasBody: true},
			http.MethodDelete: {call: func(r request, ctx context.Context) ([]byte, error) {
				force, err := r.flag(paramForce)
				if err == nil {
					err = r.svc.DeleteAttestor(ctx, r.caller, r.name, force)
				}
				return nothing(err)
			}, takes: []string{paramForce}},
		}
	case ":validateAttestationOccurrence":
		return map[string]method{http.MethodPost: {call: request.validate, hasBody: true}}
	}
	return firstOf(iamMethods(verb), historyMethods(verb))
}

func platformsMethods() map[string]method {
	return map[string]method{
		http.MethodGet: {call: listing("platformPolicies", (*admin.Service).ListPlatformPolicies), takes: []string{paramPageSize, paramPageToken}},
		http.MethodPost: {call: func(r request, ctx context.Context) ([]byte, error) {
			return content(r.svc.CreatePlatformPolicy(ctx, r.caller, r.name, r.values[paramPolicyID], r.change()))
		}, takes: []string{paramPolicyID, paramComment}, hasBody: true},
	}
}

func platformMethods(verb string) map[string]method {
	switch verb {
	case "":
		return map[string]method{
			http.MethodGet: {call: reading((*admin.Service).GetPlatformPolicy)},
			http.MethodPut: {call: writing((*admin.Service).ReplacePlatformPolicy), takes: []string{paramComment}, hasBody: true},
			http.MethodDelete: {call: func(r request, ctx context.Context) ([]byte, error) {
				return nothing(r.svc.DeletePlatformPolicy(ctx, r.caller, r.name, r.values[paramETag]))
			}, takes: []string{paramETag}},
		}
	case ":evaluate":
		return map[string]method{http.MethodPost: {call: request.evaluate, hasBody: true}}
	}
	return historyMethods(verb)
}

func firstOf(all ...map[string]method) map[string]method {
	for _, methods := range all {
		if methods != nil {
			return methods
		}
	}
	return nil
}

// iamMethods are those of access policies.
func iamMethods(verb string) map[string]method {
	switch verb {
	case ":getIamPolicy":
		return map[string]method{http.MethodGet: {call: func(r request, ctx context.Context) ([]byte, error) {
			p, err := r.svc.Metadata().GetIamPolicy(ctx, r.caller, r.name)
			return encoded(p, err)
		}}}
	case ":setIamPolicy":
		return map[string]method{http.MethodPost: {call: request.setIamPolicy, hasBody: true}}
	case ":testIamPermissions":
		return map[string]method{http.MethodPost: {call: request.testIamPermissions, hasBody: true}}
	}
	return nil
}

// historyMethods are those of versions.
func historyMethods(verb string) map[string]method {
	switch verb {
	case ":listRevisions":
		return map[string]method{http.MethodGet: {call: request.revisions, takes: []string{paramPageSize, paramPageToken}}}
	case ":rollback":
		return map[string]method{http.MethodPost: {call: request.rollback, hasBody: true}}
	}
	return nil
}

// reading is a method that reads a document.
func reading(by func(*admin.Service, context.Context, metadata.Caller, string) (admin.Version, error)) func(request, context.Context) ([]byte, error) {
	return func(r request, ctx context.Context) ([]byte, error) { return content(by(r.svc, ctx, r.caller, r.name)) }
}

// writing is a method that replaces one.
func writing(by func(*admin.Service, context.Context, metadata.Caller, string, admin.Change) (admin.Version, error)) func(request, context.Context) ([]byte, error) {
	return func(r request, ctx context.Context) ([]byte, error) {
		return content(by(r.svc, ctx, r.caller, r.name, r.change()))
	}
}

// listing is a method that lists documents, in a field of that name.
func listing(field string, by func(*admin.Service, context.Context, metadata.Caller, string, int32, string) (admin.Page, error)) func(request, context.Context) ([]byte, error) {
	return func(r request, ctx context.Context) ([]byte, error) {
		size, token, err := r.page()
		if err != nil {
			return nil, err
		}
		page, err := by(r.svc, ctx, r.caller, r.name, size, token)
		if err != nil {
			return nil, err
		}
		answer := map[string]any{}
		var list []jsontext.Value
		for _, v := range page.Versions {
			list = append(list, v.Content)
		}
		if list != nil {
			answer[field] = list
		}
		if page.NextPageToken != "" {
			answer["nextPageToken"] = page.NextPageToken
		}
		return json.Marshal(answer, json.Deterministic(true))
	}
}

func (r request) change() admin.Change {
	return admin.Change{Body: r.body, Comment: r.values[paramComment]}
}

func content(v admin.Version, err error) ([]byte, error) { return v.Content, err }

// nothing is the answer of a method that has nothing to tell.
func nothing(err error) ([]byte, error) { return []byte("{}"), err }

// encoded is a message of Google's as the answer.
func encoded(m proto.Message, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return protojson.Marshal(m)
}

func (r request) validate(ctx context.Context) ([]byte, error) {
	req := &v1.ValidateAttestationOccurrenceRequest{}
	if err := decodeMessage(r.body, req); err != nil {
		return nil, err
	}
	if given := req.GetAttestor(); given != "" && given != r.name {
		return nil, metadata.Errorf(metadata.InvalidArgument, "request is invalid: [attestor is %q, and %q in the path]", clip(given), clip(r.name))
	}
	req.Attestor = r.name
	answer, err := validate(ctx, r.svc, r.caller, req)
	return encoded(answer, err)
}

func (r request) evaluate(ctx context.Context) ([]byte, error) {
	var body struct {
		Resource jsontext.Value `json:"resource"`
	}
	if err := decodeBody(r.body, &body); err != nil {
		return nil, err
	}
	return r.svc.EvaluatePlatformPolicy(ctx, r.caller, r.name, body.Resource)
}

func (r request) setIamPolicy(ctx context.Context) ([]byte, error) {
	req := &iampb.SetIamPolicyRequest{}
	if err := decodeMessage(r.body, req); err != nil {
		return nil, err
	}
	if len(req.GetUpdateMask().GetPaths()) > 0 {
		return nil, metadata.Errorf(metadata.InvalidArgument, "updateMask is not served: access policies are replaced whole")
	}
	return encoded(r.svc.Metadata().SetIamPolicy(ctx, r.caller, r.name, req.GetPolicy()))
}

func (r request) testIamPermissions(ctx context.Context) ([]byte, error) {
	req := &iampb.TestIamPermissionsRequest{}
	if err := decodeMessage(r.body, req); err != nil {
		return nil, err
	}
	have, err := r.svc.Metadata().TestIamPermissions(ctx, r.caller, r.name, req.GetPermissions())
	return encoded(&iampb.TestIamPermissionsResponse{Permissions: have}, err)
}

// A revision is a version in an answer of :listRevisions.
type revision struct {
	Revision   uint64         `json:"revision"`
	CreateTime string         `json:"createTime"`
	Author     string         `json:"author,omitempty"`
	Comment    string         `json:"comment,omitempty"`
	ETag       string         `json:"etag,omitempty"`
	Deleted    bool           `json:"deleted,omitzero"`
	Content    jsontext.Value `json:"content,omitzero"`
}

func (r request) revisions(ctx context.Context) ([]byte, error) {
	size, token, err := r.page()
	if err != nil {
		return nil, err
	}
	page, err := r.svc.ListVersions(ctx, r.caller, r.name, size, token)
	if err != nil {
		return nil, err
	}
	answer := struct {
		Revisions     []revision `json:"revisions"`
		NextPageToken string     `json:"nextPageToken,omitempty"`
	}{NextPageToken: page.NextPageToken}
	for _, v := range page.Versions {
		answer.Revisions = append(answer.Revisions, revision{
			Revision: v.Revision, CreateTime: v.Time.Format(time.RFC3339Nano), Author: v.Author, Comment: v.Comment,
			ETag: v.ETag, Deleted: v.Deleted(), Content: v.Content,
		})
	}
	return json.Marshal(answer)
}

func (r request) rollback(ctx context.Context) ([]byte, error) {
	var body struct {
		Revision uint64 `json:"revision"`
		ETag     string `json:"etag"`
		Comment  string `json:"comment"`
	}
	if err := decodeBody(r.body, &body); err != nil {
		return nil, err
	}
	return content(r.svc.Rollback(ctx, r.caller, r.name, body.Revision, body.ETag, body.Comment))
}
