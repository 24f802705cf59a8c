package admission

import (
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The types below hold what the gate reads of an AdmissionReview and of the
// objects in it, and nothing else. They are decoded case-sensitively and with
// duplicate names refused, so that the gate can never read another image than
// the API server will store.

type review struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Request    *request `json:"request"`
}

// A request is decoded in one pass as API servers write it, with what tells the
// type of the object before the object ([request.UnmarshalJSONFrom]).
type request struct {
	UID         string         `json:"uid"`
	Kind        groupKind      `json:"kind"`
	Resource    groupResource  `json:"resource"`
	SubResource string         `json:"subResource"`
	Name        string         `json:"name"`
	Namespace   string         `json:"namespace"`
	Operation   string         `json:"operation"`
	UserInfo    userInfo       `json:"userInfo"`
	Object      jsontext.Value `json:"object"`
	OldObject   jsontext.Value `json:"oldObject"`
	DryRun      bool           `json:"dryRun"`

	// place is where its pods would run.
	place Place
	// begun is when the gate began to read it.
	begun time.Time
	// read is the object when it was decoded on the way, and Object then empty.
	read *subject
}

// plainReview is decoded in two passes: for senders with another order, and to
// tell an object of a wrong type, which is denied, from text that is no review.
type plainReview struct {
	APIVersion string        `json:"apiVersion"`
	Kind       string        `json:"kind"`
	Request    *plainRequest `json:"request"`
}

type plainRequest request

// readReview decodes a review.
func readReview(body []byte) (review, error) {
	var in review
	if err := json.Unmarshal(body, &in); err == nil {
		return in, in.check()
	}
	var plain plainReview
	if err := json.Unmarshal(body, &plain); err != nil {
		return review{}, fmt.Errorf("decoding the review: %w", misfit(err))
	}
	in = plain.review()
	return in, in.check()
}

func (p plainReview) review() review {
	return review{p.APIVersion, p.Kind, (*request)(p.Request)}
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (r *request) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if dec.PeekKind() != '{' {
		return json.UnmarshalDecode(dec, (*plainRequest)(r))
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return err
		}
		if err := r.readMember(name.String(), dec); err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

func (r *request) readMember(name string, dec *jsontext.Decoder) error {
	switch name {
	case "uid":
		return json.UnmarshalDecode(dec, &r.UID)
	case "kind":
		return json.UnmarshalDecode(dec, &r.Kind)
	case "resource":
		return json.UnmarshalDecode(dec, &r.Resource)
	case "subResource":
		return json.UnmarshalDecode(dec, &r.SubResource)
	case "name":
		return json.UnmarshalDecode(dec, &r.Name)
	case "namespace":
		return json.UnmarshalDecode(dec, &r.Namespace)
	case "operation":
		return json.UnmarshalDecode(dec, &r.Operation)
	case "userInfo":
		return json.UnmarshalDecode(dec, &r.UserInfo)
	case "object":
		return r.readObject(dec)
	case "oldObject":
		return json.UnmarshalDecode(dec, &r.OldObject)
	case "dryRun":
		return json.UnmarshalDecode(dec, &r.DryRun)
	default:
		return dec.SkipValue()
	}
}

// readObject decodes the object if what it is has been read before it.
func (r *request) readObject(dec *jsontext.Decoder) error {
	res := r.Resource
	if dec.PeekKind() != '{' || res.Resource == "" {
		return json.UnmarshalDecode(dec, &r.Object)
	}
	s, ok, err := decodeSubject(res, func(v any) error { return json.UnmarshalDecode(dec, v) })
	if err != nil {
		return err
	}
	if !ok {
		return json.UnmarshalDecode(dec, &r.Object)
	}
	r.read = &s
	return nil
}

// subjects returns what the object has that is to be judged.
func (r *request) subjects(res groupResource, custom Resources) ([]subject, error) {
	if r.read != nil {
		return []subject{*r.read}, nil
	}
	return custom.subjects(res, r.Object)
}

// hasObject reports whether an object was sent.
func (r *request) hasObject() bool { return r.read != nil || present(r.Object) }

// userInfo is who asks the API server. What only break-glass needs is decoded when it does.
type userInfo struct {
	Username string         `json:"username"`
	UID      string         `json:"uid"`
	Groups   jsontext.Value `json:"groups"`
	Extra    jsontext.Value `json:"extra"`
}

// resource returns what is reviewed, in the version the webhook asked for.
func (r *request) resource() groupResource {
	if r.Resource.Resource != "" {
		return r.Resource
	}
	return kindResources[r.Kind]
}

// clip shortens what came from outside for a message.
func clip(s string) string { return s[:min(len(s), 100)] }

// present reports whether an object was sent: not absent and not null.
func present(raw jsontext.Value) bool {
	return len(raw) > 0 && strings.TrimSpace(string(raw[:min(len(raw), 8)])) != "null"
}
