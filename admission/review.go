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
}

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
	switch {
	case res == groupResource{"", "pods"}:
		var pod podTemplate
		if err := json.Unmarshal(raw, &pod); err != nil {
			return subject{}, false, fmt.Errorf("decoding %s: %w", res, err)
		}
		return subject{meta: pod.Metadata, template: pod}, true, nil
	case workloads[res]:
		var w workload
		if err := json.Unmarshal(raw, &w); err != nil {
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
