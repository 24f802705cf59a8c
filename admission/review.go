package admission

import (
	"fmt"
	"strings"

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
		return review{}, fmt.Errorf("decoding the review: %w", err)
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

// subject returns the object of the request; ok is false for one without images.
func (r *request) subject(res groupResource) (s subject, ok bool, err error) {
	if r.read != nil {
		return *r.read, true, nil
	}
	return readSubject(res, r.Object)
}

// hasObject reports whether an object was sent.
func (r *request) hasObject() bool { return r.read != nil || present(r.Object) }

type groupKind struct {
	Group string `json:"group"`
	Kind  string `json:"kind"`
}

type groupResource struct {
	Group    string `json:"group"`
	Resource string `json:"resource"`
}

// String returns "deployments.apps", or "pods" for the core group.
func (r groupResource) String() string {
	if r.Group == "" {
		return r.Resource
	}
	return r.Resource + "." + r.Group
}

type userInfo struct {
	Username string `json:"username"`
}

type objectMeta struct {
	Name              string            `json:"name"`
	GenerateName      string            `json:"generateName"`
	Labels            map[string]string `json:"labels"`
	Annotations       map[string]string `json:"annotations"`
	DeletionTimestamp *string           `json:"deletionTimestamp"`
}

type podTemplate struct {
	Metadata objectMeta `json:"metadata"`
	Spec     podSpec    `json:"spec"`
}

type podSpec struct {
	ServiceAccountName  string      `json:"serviceAccountName"`
	InitContainers      []container `json:"initContainers"`
	Containers          []container `json:"containers"`
	EphemeralContainers []container `json:"ephemeralContainers"`
	Volumes             []volume    `json:"volumes"`
}

type container struct {
	Name  string `json:"name"`
	Image string `json:"image"`
}

type volume struct {
	Name  string `json:"name"`
	Image *struct {
		Reference string `json:"reference"`
	} `json:"image"`
}

// workload is any object of a kind that makes pods from a template.
type workload struct {
	Metadata objectMeta `json:"metadata"`
	// Template is a PodTemplate's.
	Template *podTemplate `json:"template"`
	Spec     struct {
		// Template is a Deployment's and its like; a ReplicationController may lack it.
		Template *podTemplate `json:"template"`
		// JobTemplate is a CronJob's.
		JobTemplate *struct {
			Spec struct {
				Template *podTemplate `json:"template"`
			} `json:"spec"`
		} `json:"jobTemplate"`
	} `json:"spec"`
}

func (w workload) podTemplate() *podTemplate {
	switch {
	case w.Spec.JobTemplate != nil:
		return w.Spec.JobTemplate.Spec.Template
	case w.Spec.Template != nil:
		return w.Spec.Template
	default:
		return w.Template
	}
}

// workloads are the resources whose template is reviewed. A custom resource that
// happens to have one of these names in another group is not among them.
var workloads = map[groupResource]bool{
	{"apps", "deployments"}:        true,
	{"apps", "replicasets"}:        true,
	{"apps", "statefulsets"}:       true,
	{"apps", "daemonsets"}:         true,
	{"extensions", "deployments"}:  true,
	{"extensions", "replicasets"}:  true,
	{"extensions", "daemonsets"}:   true,
	{"batch", "jobs"}:              true,
	{"batch", "cronjobs"}:          true,
	{"", "replicationcontrollers"}: true,
	{"", "podtemplates"}:           true,
}

// kindResources is for senders that name the kind only.
var kindResources = map[groupKind]groupResource{
	{"", "Pod"}:                   {"", "pods"},
	{"apps", "Deployment"}:        {"apps", "deployments"},
	{"apps", "ReplicaSet"}:        {"apps", "replicasets"},
	{"apps", "StatefulSet"}:       {"apps", "statefulsets"},
	{"apps", "DaemonSet"}:         {"apps", "daemonsets"},
	{"batch", "Job"}:              {"batch", "jobs"},
	{"batch", "CronJob"}:          {"batch", "cronjobs"},
	{"", "ReplicationController"}: {"", "replicationcontrollers"},
	{"", "PodTemplate"}:           {"", "podtemplates"},
}

// resource returns what is reviewed, in the version the webhook asked for.
func (r *request) resource() groupResource {
	if r.Resource.Resource != "" {
		return r.Resource
	}
	return kindResources[r.Kind]
}

// subject is what the gate judges: one pod, or the template that will make pods.
type subject struct {
	meta     objectMeta // the reviewed object's own
	template podTemplate
	// isTemplate tells a workload from a pod.
	isTemplate bool
}

// readSubject decodes the object of a resource that has images. ok is false for
// one that has none.
func readSubject(res groupResource, raw jsontext.Value) (s subject, ok bool, err error) {
	return decodeSubject(res, func(v any) error { return json.Unmarshal(raw, v) })
}

func decodeSubject(res groupResource, decode func(any) error) (s subject, ok bool, err error) {
	switch {
	case res == groupResource{"", "pods"}:
		var pod podTemplate
		if err := decode(&pod); err != nil {
			return subject{}, false, fmt.Errorf("decoding %s: %w", res, err)
		}
		return subject{meta: pod.Metadata, template: pod}, true, nil
	case workloads[res]:
		var w workload
		if err := decode(&w); err != nil {
			return subject{}, false, fmt.Errorf("decoding %s: %w", res, err)
		}
		template := w.podTemplate()
		if template == nil {
			template = &podTemplate{}
		}
		return subject{meta: w.Metadata, template: *template, isTemplate: true}, true, nil
	default:
		return subject{}, false, nil
	}
}

// present reports whether an object was sent: not absent and not null.
func present(raw jsontext.Value) bool {
	return len(raw) > 0 && strings.TrimSpace(string(raw[:min(len(raw), 8)])) != "null"
}
