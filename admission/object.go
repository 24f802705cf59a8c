package admission

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-dev/gatehouse/admission/resource"
	"github.com/gatehouse-dev/gatehouse/decide"
)

type objectMeta struct {
	Name              string            `json:"name"`
	GenerateName      string            `json:"generateName"`
	Labels            map[string]string `json:"labels"`
	Annotations       map[string]string `json:"annotations"`
	DeletionTimestamp *string           `json:"deletionTimestamp"`
	UID               string            `json:"uid"`
	// OwnerReferences are looked at only for who is behind a break-glass.
	OwnerReferences jsontext.Value `json:"ownerReferences"`
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

// A subject is what the gate judges: one pod, a template that will make pods, or the
// images that stand elsewhere in a custom resource.
type subject struct {
	meta     objectMeta // the reviewed object's own
	template podTemplate
	// isTemplate tells all others from a pod.
	isTemplate bool
	// custom is set for a custom resource, whose images are those found, and may be none.
	custom bool
	found  []decide.ImageUse
	// kritis says what Kritis' annotation is worth.
	kritis KritisMode
}

// images lists every image that the kubelet would pull, in the order of the spec.
func (s subject) images() []decide.ImageUse {
	if s.custom {
		return s.found
	}
	return s.template.images()
}

func (t podTemplate) images() []decide.ImageUse {
	spec := t.Spec
	uses := make([]decide.ImageUse, 0, len(spec.InitContainers)+len(spec.Containers)+len(spec.EphemeralContainers))
	add := func(list []container, as decide.ContainerType) {
		for _, c := range list {
			uses = append(uses, decide.ImageUse{Container: c.Name, Type: as, Text: c.Image})
		}
	}
	add(spec.InitContainers, decide.InitContainer)
	add(spec.Containers, decide.Container)
	add(spec.EphemeralContainers, decide.EphemeralContainer)
	for _, v := range spec.Volumes {
		if v.Image != nil {
			uses = append(uses, decide.ImageUse{Container: v.Name, Type: decide.ImageVolume, Text: v.Image.Reference})
		}
	}
	return uses
}

// account returns the service account of the pod, "" for the default one.
func (s subject) account() string {
	if name := s.template.Spec.ServiceAccountName; name != "" {
		return name
	}
	return s.template.Spec.ServiceAccount
}

// runsAs reports whether nothing but images tells s and other apart.
func (s subject) runsAs(other subject) bool {
	return s.account() == other.account() && s.breakGlass() == other.breakGlass()
}

// decodeSubject decodes a pod or a workload. ok is false for what is neither.
func decodeSubject(res groupResource, decode func(any) error) (s subject, ok bool, err error) {
	switch {
	case res == pods:
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
	}
	return subject{}, false, nil
}

// misfit says what a value of the wrong kind is and where, in the words of JSON and
// not in those of Go.
func misfit(err error) error {
	var wrong *json.SemanticError
	if !errors.As(err, &wrong) || wrong.JSONKind == 0 || wrong.Err != nil {
		return err
	}
	at := string(wrong.JSONPointer)
	if at == "" {
		at = "the whole"
	}
	return fmt.Errorf("%.300s is %s, which is not what Kubernetes has there", at, resource.NameOfKind(wrong.JSONKind))
}
