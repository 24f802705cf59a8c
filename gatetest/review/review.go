// Package review builds admission requests as a Kubernetes API server sends
// them, for tests and benchmarks of a gate that have no API server:
//
//	body := review.Pod("shop", "web-0").Image("web", "registry.test/web@sha256:…").Review()
//
//	old := review.Pod("shop", "web-0").Image("web", was)
//	body := review.Pod("shop", "web-0").Image("web", is).Update(old).DryRun().Review()
//
// The workload kinds are built the same way; their images go where each kind
// has its pod template. [Builder.Realistic] adds what pods of real services
// carry: three containers then make 8.9 kB.
//
// Equal calls build equal bytes: ids and times are derived from the names.
// What the objects look like was read off Kubernetes 1.37.
package review

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
)

// objectTime is when every object was made.
const objectTime = "2026-01-02T03:04:05Z"

// A Builder makes one admission request. Its methods change it and return it,
// so that calls can be chained. The zero Builder is of no use: begin with [Pod]
// or another kind.
type Builder struct {
	kind      kind
	namespace string // of the request
	name      string

	objectNamespace string
	generateName    string
	labels          map[string]string
	annotations     map[string]string
	podLabels       map[string]string
	podAnnotations  map[string]string
	owners          []object
	deleting        bool

	containers, initContainers, ephemeralContainers []container
	imageVolumes                                    []container
	serviceAccount                                  string
	realistic                                       bool
	edits                                           []func(map[string]any)

	apiVersion  string
	uid         string
	operation   string
	subresource string
	dryRun      bool
	user        userInfo
	old         *Builder
}

type object = map[string]any

type container struct{ name, image string }

type userInfo struct {
	Username string              `json:"username"`
	UID      string              `json:"uid,omitempty"`
	Groups   []string            `json:"groups,omitempty"`
	Extra    map[string][]string `json:"extra,omitempty"`
}

func build(k kind, namespace, name string) *Builder {
	return &Builder{
		kind: k, namespace: namespace, objectNamespace: namespace, name: name,
		labels: map[string]string{}, annotations: map[string]string{},
		podLabels: map[string]string{}, podAnnotations: map[string]string{},
		apiVersion: "admission.k8s.io/v1",
		operation:  "CREATE",
		user: userInfo{
			Username: "jane@example.com",
			Groups:   []string{"developers", "system:authenticated"},
		},
	}
}

// Image adds a container.
func (b *Builder) Image(name, image string) *Builder {
	b.containers = append(b.containers, container{name, image})
	return b
}

// InitImage adds an init container.
func (b *Builder) InitImage(name, image string) *Builder {
	b.initContainers = append(b.initContainers, container{name, image})
	return b
}

// EphemeralImage adds an ephemeral container, as kubectl debug does. Together
// with [Builder.Update] and Subresource("ephemeralcontainers") that is the
// request which adds one.
func (b *Builder) EphemeralImage(name, image string) *Builder {
	b.ephemeralContainers = append(b.ephemeralContainers, container{name, image})
	return b
}

// ImageVolume adds a volume whose content is an image.
func (b *Builder) ImageVolume(name, reference string) *Builder {
	b.imageVolumes = append(b.imageVolumes, container{name, reference})
	return b
}

// Label sets a label of the object.
func (b *Builder) Label(key, value string) *Builder {
	b.labels[key] = value
	return b
}

// Annotation sets an annotation of the object.
func (b *Builder) Annotation(key, value string) *Builder {
	b.annotations[key] = value
	return b
}

// PodLabel sets a label of the pod: in the template of a workload, and on the
// object itself when that is a pod.
func (b *Builder) PodLabel(key, value string) *Builder {
	b.podLabels[key] = value
	return b
}

// PodAnnotation sets an annotation of the pod, as [Builder.PodLabel] does.
func (b *Builder) PodAnnotation(key, value string) *Builder {
	b.podAnnotations[key] = value
	return b
}

// ServiceAccount sets who the pod runs as.
func (b *Builder) ServiceAccount(name string) *Builder {
	b.serviceAccount = name
	return b
}

// Owner adds a controller to the object's ownerReferences. Whoever makes an
// object may write there what they like.
func (b *Builder) Owner(apiVersion, kind, name string) *Builder {
	b.owners = append(b.owners, object{
		"apiVersion": apiVersion, "kind": kind, "name": name, "uid": uuid("owner", kind, name),
		"controller": true, "blockOwnerDeletion": true,
	})
	return b
}

// ObjectNamespace sets the namespace that the object itself claims, while the
// request's, which counts, stays.
func (b *Builder) ObjectNamespace(namespace string) *Builder {
	b.objectNamespace = namespace
	return b
}

// GenerateName leaves the naming to the API server: the object has this prefix
// and, as older servers send it, no name.
func (b *Builder) GenerateName(prefix string) *Builder {
	b.generateName, b.name = prefix, ""
	return b
}

// Deleting marks the object as being deleted.
func (b *Builder) Deleting() *Builder {
	b.deleting = true
	return b
}

// Realistic adds what the pods of real services carry: environment, resources,
// a probe, mounts, security contexts, labels and annotations.
func (b *Builder) Realistic() *Builder {
	b.realistic = true
	return b
}

// Edit changes the finished object: for requests that no API server sends, and
// for fields that this package does not know.
func (b *Builder) Edit(edit func(object map[string]any)) *Builder {
	b.edits = append(b.edits, edit)
	return b
}

// Update makes the request one to change old's object into this one.
func (b *Builder) Update(old *Builder) *Builder {
	b.operation, b.old = "UPDATE", old
	return b
}

// Delete makes the request one to delete the object: it is the old object then,
// and there is no new one.
func (b *Builder) Delete() *Builder {
	b.operation = "DELETE"
	return b
}

// Subresource makes the request one for a part of the object, such as
// "ephemeralcontainers", "status" or "scale".
func (b *Builder) Subresource(name string) *Builder {
	b.subresource = name
	return b
}

// DryRun makes the request one that will not be stored.
func (b *Builder) DryRun() *Builder {
	b.dryRun = true
	return b
}

// User sets who asks. [Pod] and the others begin with a person in the group
// "developers".
func (b *Builder) User(name string, groups ...string) *Builder {
	b.user = userInfo{Username: name, Groups: groups}
	return b
}

// UID sets the id of the request, which a response must repeat.
func (b *Builder) UID(uid string) *Builder {
	b.uid = uid
	return b
}

// V1Beta1 sends the request in the older version of the protocol.
func (b *Builder) V1Beta1() *Builder {
	b.apiVersion = "admission.k8s.io/v1beta1"
	return b
}

type groupVersionKind struct {
	Group   string `json:"group"`
	Version string `json:"version"`
	Kind    string `json:"kind"`
}

type groupVersionResource struct {
	Group    string `json:"group"`
	Version  string `json:"version"`
	Resource string `json:"resource"`
}

// A request has its members in the order in which an API server sends them.
type request struct {
	UID                string               `json:"uid"`
	Kind               groupVersionKind     `json:"kind"`
	Resource           groupVersionResource `json:"resource"`
	SubResource        string               `json:"subResource,omitempty"`
	RequestKind        groupVersionKind     `json:"requestKind"`
	RequestResource    groupVersionResource `json:"requestResource"`
	RequestSubResource string               `json:"requestSubResource,omitempty"`
	Name               string               `json:"name,omitempty"`
	Namespace          string               `json:"namespace,omitempty"`
	Operation          string               `json:"operation"`
	UserInfo           userInfo             `json:"userInfo"`
	Object             object               `json:"object"`
	OldObject          object               `json:"oldObject"`
	DryRun             bool                 `json:"dryRun"`
	Options            object               `json:"options"`
}

// Review returns the AdmissionReview as JSON. It panics when [Builder.Edit] put
// something into the object that JSON cannot say.
func (b *Builder) Review() []byte {
	r := request{
		UID:                b.RequestUID(),
		Kind:               groupVersionKind{b.kind.group, "v1", b.kind.name},
		Resource:           groupVersionResource{b.kind.group, "v1", b.kind.resource},
		SubResource:        b.subresource,
		RequestSubResource: b.subresource,
		Name:               b.name,
		Namespace:          b.namespace,
		Operation:          b.operation,
		UserInfo:           b.user,
		DryRun:             b.dryRun,
		Options:            b.options(),
	}
	r.RequestKind, r.RequestResource = r.Kind, r.Resource
	if b.operation == "DELETE" {
		r.OldObject = b.Object()
	} else {
		r.Object = b.Object()
	}
	if b.old != nil {
		r.OldObject = b.old.Object()
	}
	body, err := json.Marshal(struct {
		Kind       string  `json:"kind"`
		APIVersion string  `json:"apiVersion"`
		Request    request `json:"request"`
	}{"AdmissionReview", b.apiVersion, r})
	if err != nil {
		panic(fmt.Sprintf("review: an edit made an object that is not JSON: %v", err))
	}
	return body
}

// RequestUID returns the id of the request, which a response must repeat.
func (b *Builder) RequestUID() string {
	if b.uid != "" {
		return b.uid
	}
	return uuid("request", b.operation, b.subresource, b.kind.name, b.namespace, b.name, b.generateName)
}

func (b *Builder) options() object {
	kinds := map[string]string{"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}
	options := object{"kind": kinds[b.operation], "apiVersion": "meta.k8s.io/v1"}
	if b.operation != "DELETE" {
		options["fieldManager"] = fieldManager
		options["fieldValidation"] = "Strict"
	}
	return options
}

// uuid derives an id from what it is the id of.
func uuid(of ...string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", of))
	sum[6] = sum[6]&0x0f | 0x40 // version 4
	sum[8] = sum[8]&0x3f | 0x80 // variant of RFC 9562
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// union returns the entries of all maps, as a value of an object; nil when
// there is none.
func union(all ...map[string]string) object {
	out := object{}
	for _, m := range all {
		for key, value := range m {
			out[key] = value
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
