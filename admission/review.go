package admission

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-dev/gatehouse/decide"
)

// maxImages bounds the images of one object. No person writes as many, and each
// costs a look-up, a reason and a part of the record.
const maxImages = 500

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
	ServiceAccount      string      `json:"serviceAccount"` // its old name
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

// podTemplate returns the template that the controller of a resource uses, and
// never another that the object may hold besides.
func (w workload) podTemplate(res groupResource) *podTemplate {
	switch res.Resource {
	case "cronjobs":
		if w.Spec.JobTemplate == nil {
			return nil
		}
		return w.Spec.JobTemplate.Spec.Template
	case "podtemplates":
		return w.Template
	default:
		return w.Spec.Template
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
	{"extensions", "Deployment"}:  {"extensions", "deployments"},
	{"extensions", "ReplicaSet"}:  {"extensions", "replicasets"},
	{"extensions", "DaemonSet"}:   {"extensions", "daemonsets"},
}

// imageless are the subresources whose objects are of another kind and bring no
// image: they change a number, a node, or talk to what runs.
var imageless = map[string]bool{
	"attach": true, "binding": true, "eviction": true, "exec": true, "log": true,
	"portforward": true, "proxy": true, "scale": true, "status": true,
}

// A question is what a request asks the gate to judge.
type question struct {
	subject subject
	images  []decide.ImageUse
	// pass is set when there is nothing to judge, and event then says why, for
	// the record; it is "" when that is worth none.
	pass  bool
	event string
}

// question reads what is to be judged. The error says what cannot be understood,
// which must not be let in.
func (r *request) question() (question, error) {
	if r.Operation == "DELETE" || r.Operation == "CONNECT" {
		return question{pass: true}, nil
	}
	res := r.resource()
	if res.Resource == "" {
		return question{}, fmt.Errorf("the review says neither a resource nor a kind that is known (%q)", clip(r.Kind.Kind))
	}
	if r.SubResource != "" && kindResources[r.Kind] != res {
		if !imageless[r.SubResource] {
			return question{}, fmt.Errorf("subresource %q of %s with an object of kind %q is not understood", clip(r.SubResource), res, clip(r.Kind.Kind))
		}
		return question{pass: true}, nil
	}
	if !r.hasObject() {
		return question{}, fmt.Errorf("the review of %s %s has no object", clip(r.Operation), res)
	}
	now, ok, err := r.subject(res)
	if err != nil {
		return question{}, err
	}
	if !ok {
		return question{pass: true}, nil
	}
	q := question{subject: now, images: now.images()}
	if len(now.template.Spec.Containers) == 0 {
		return question{}, fmt.Errorf("the object (%s) has no containers: Kubernetes would not take it either", res)
	}
	if len(q.images) > maxImages {
		return question{}, fmt.Errorf("%d images in one object, more than the %d that are judged at once", len(q.images), maxImages)
	}
	if r.Operation != "UPDATE" || !present(r.OldObject) {
		return q, nil
	}
	return q, q.compare(r, res)
}

// compare looks at what an update changes.
func (q *question) compare(r *request, res groupResource) error {
	old, _, err := readSubject(res, r.OldObject)
	if err != nil {
		return fmt.Errorf("old object: %w", err)
	}
	before := old.images()
	switch {
	case old.meta.DeletionTimestamp != nil:
		q.pass, q.event = true, eventDeleting
	case sameImages(before, q.images):
		q.pass, q.event = true, eventUnchanged
	case r.SubResource == "ephemeralcontainers":
		// The rest of the pod runs already and does not change here.
		ran := make(map[decide.ImageUse]bool, len(before))
		for _, u := range before {
			ran[u] = true
		}
		q.images = slices.DeleteFunc(q.images, func(u decide.ImageUse) bool { return ran[u] })
	}
	return nil
}

// clip shortens what came from outside for a message.
func clip(s string) string { return s[:min(len(s), 100)] }

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

// misfit says what a value of the wrong kind is and where, in the words of JSON and
// not in those of Go.
func misfit(err error) error {
	var wrong *json.SemanticError
	if !errors.As(err, &wrong) || wrong.JSONKind == 0 || wrong.Err != nil {
		return err
	}
	kind := "a " + wrong.JSONKind.String()
	switch wrong.JSONKind {
	case jsontext.KindBeginObject:
		kind = "an object"
	case jsontext.KindBeginArray:
		kind = "an array"
	case jsontext.KindTrue, jsontext.KindFalse:
		kind = "a boolean"
	case jsontext.KindNull:
		kind = "null"
	}
	at := string(wrong.JSONPointer)
	if at == "" {
		at = "the whole"
	}
	return fmt.Errorf("%.300s is %s, which is not what Kubernetes has there", at, kind)
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
			return subject{}, false, fmt.Errorf("decoding %s: %w", res, misfit(err))
		}
		return subject{meta: pod.Metadata, template: pod}, true, nil
	case workloads[res]:
		var w workload
		if err := decode(&w); err != nil {
			return subject{}, false, fmt.Errorf("decoding %s: %w", res, misfit(err))
		}
		template := w.podTemplate(res)
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
