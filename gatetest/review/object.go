package review

import (
	"encoding/json"
	"fmt"
)

// fieldManager is who is said to have made the objects.
const fieldManager = "kubectl-create"

// A kind is a Kubernetes kind that has images, and where it has them.
type kind struct {
	group, name, resource string
	// spec makes the object's members beside its metadata, given the template
	// of a pod: an object of metadata and spec.
	spec func(template object) object
}

func (k kind) apiVersion() string {
	if k.group == "" {
		return "v1"
	}
	return k.group + "/v1"
}

// Pod begins a request to create a pod.
func Pod(namespace, name string) *Builder {
	return build(kind{"", "Pod", "pods", nil}, namespace, name)
}

// Deployment begins a request to create a Deployment.
func Deployment(namespace, name string) *Builder {
	return build(kind{"apps", "Deployment", "deployments", replicated}, namespace, name)
}

// ReplicaSet begins a request to create a ReplicaSet.
func ReplicaSet(namespace, name string) *Builder {
	return build(kind{"apps", "ReplicaSet", "replicasets", replicated}, namespace, name)
}

// StatefulSet begins a request to create a StatefulSet.
func StatefulSet(namespace, name string) *Builder {
	return build(kind{"apps", "StatefulSet", "statefulsets", replicated}, namespace, name)
}

// ReplicationController begins a request to create a ReplicationController.
func ReplicationController(namespace, name string) *Builder {
	return build(kind{"", "ReplicationController", "replicationcontrollers", func(template object) object {
		return object{"spec": object{"replicas": 1, "selector": appLabels(template), "template": template}}
	}}, namespace, name)
}

// DaemonSet begins a request to create a DaemonSet.
func DaemonSet(namespace, name string) *Builder {
	return build(kind{"apps", "DaemonSet", "daemonsets", func(template object) object {
		return object{"spec": object{"selector": object{"matchLabels": appLabels(template)}, "template": template}}
	}}, namespace, name)
}

// Job begins a request to create a Job.
func Job(namespace, name string) *Builder {
	return build(kind{"batch", "Job", "jobs", func(template object) object {
		return object{"spec": job(template)}
	}}, namespace, name)
}

// CronJob begins a request to create a CronJob.
func CronJob(namespace, name string) *Builder {
	return build(kind{"batch", "CronJob", "cronjobs", func(template object) object {
		return object{"spec": object{
			"schedule": "17 4 * * *", "concurrencyPolicy": "Allow", "suspend": false,
			"jobTemplate": object{"metadata": object{}, "spec": job(template)},
		}}
	}}, namespace, name)
}

// PodTemplate begins a request to create a PodTemplate.
func PodTemplate(namespace, name string) *Builder {
	return build(kind{"", "PodTemplate", "podtemplates", func(template object) object {
		return object{"template": template}
	}}, namespace, name)
}

func replicated(template object) object {
	return object{
		"spec":   object{"replicas": 1, "selector": object{"matchLabels": appLabels(template)}, "template": template},
		"status": object{},
	}
}

func job(template object) object {
	if spec, ok := template["spec"].(object); ok {
		spec["restartPolicy"] = "OnFailure"
	}
	return object{"parallelism": 1, "completions": 1, "backoffLimit": 6, "template": template}
}

// appLabels are the labels by which a controller knows its pods.
func appLabels(template object) object {
	metadata, _ := template["metadata"].(object)
	labels, _ := metadata["labels"].(object)
	return object{"app": labels["app"]}
}

// Object returns the object of the request, freshly made.
func (b *Builder) Object() map[string]any {
	o := object{"kind": b.kind.name, "apiVersion": b.kind.apiVersion()}
	var metadata object
	if b.kind.spec == nil { // a pod
		metadata = b.metadata(union(b.usualLabels(), b.labels, b.podLabels), union(b.usualAnnotations(), b.annotations, b.podAnnotations))
		o["spec"] = b.podSpec()
		o["status"] = object{"phase": "Pending", "qosClass": "BestEffort"}
	} else {
		metadata = b.metadata(union(b.labels), union(b.annotations))
		template := object{
			"metadata": prune(object{
				"labels":      union(map[string]string{"app": b.app()}, b.usualLabels(), b.podLabels),
				"annotations": union(b.usualAnnotations(), b.podAnnotations),
			}),
			"spec": b.podSpec(),
		}
		for key, value := range b.kind.spec(template) {
			o[key] = value
		}
	}
	o["metadata"] = metadata
	b.addManagedFields(o)
	for _, edit := range b.edits {
		edit(o)
	}
	return o
}

func (b *Builder) app() string {
	if b.name != "" {
		return b.name
	}
	return b.generateName
}

func (b *Builder) metadata(labels, annotations object) object {
	m := object{
		"name": b.name, "generateName": b.generateName, "namespace": b.objectNamespace,
		"uid":        uuid("object", b.kind.name, b.namespace, b.name, b.generateName),
		"generation": 1, "creationTimestamp": objectTime,
		"labels": labels, "annotations": annotations,
	}
	if len(b.owners) > 0 {
		m["ownerReferences"] = b.owners
	}
	if b.operation == "UPDATE" || b.operation == "DELETE" {
		m["resourceVersion"] = "4711"
	}
	if b.deleting {
		m["deletionTimestamp"] = objectTime
		m["deletionGracePeriodSeconds"] = 30
	}
	return prune(m)
}

// usualLabels are the labels of a realistic pod.
func (b *Builder) usualLabels() map[string]string {
	if !b.realistic {
		return nil
	}
	return map[string]string{
		"app.kubernetes.io/name": b.app(), "app.kubernetes.io/instance": b.app() + "-prod",
		"app.kubernetes.io/part-of": "shop", "app.kubernetes.io/version": "2.14.3",
		"app.kubernetes.io/managed-by": "Helm", "pod-template-hash": "7d9c6b8f54",
	}
}

// usualAnnotations are the annotations of a realistic pod.
func (b *Builder) usualAnnotations() map[string]string {
	if !b.realistic {
		return nil
	}
	return map[string]string{
		"prometheus.io/scrape": "true", "prometheus.io/port": "9102",
		"kubectl.kubernetes.io/restartedAt": objectTime,
	}
}

// prune removes empty strings and empty maps, which an API server leaves out.
func prune(o object) object {
	for key, value := range o {
		switch value := value.(type) {
		case string:
			if value == "" {
				delete(o, key)
			}
		case object:
			if len(value) == 0 {
				delete(o, key)
			}
		}
	}
	return o
}

// addManagedFields records who set which field, as an API server does. It is a
// third of what a gate is sent, and has to be passed over quickly.
func (b *Builder) addManagedFields(o object) {
	fields := object{}
	for key, value := range o {
		switch key {
		case "spec", "template":
			set := fieldsOf(value)
			delete(set, ".") // every object has one
			fields["f:"+key] = set
		case "metadata":
			metadata, _ := value.(object)
			set := object{}
			for _, name := range []string{"annotations", "generateName", "labels"} {
				if v, ok := metadata[name]; ok {
					set["f:"+name] = fieldsOf(v)
				}
			}
			fields["f:metadata"] = set
		}
	}
	metadata, ok := o["metadata"].(object)
	if !ok {
		return
	}
	entry := object{
		"manager": fieldManager, "operation": "Update", "apiVersion": b.kind.apiVersion(),
		"time": objectTime, "fieldsType": "FieldsV1", "fieldsV1": fields,
	}
	if b.subresource != "" {
		entry["subresource"] = b.subresource
	}
	metadata["managedFields"] = []object{entry}
}

// fieldsOf returns the set of the fields of a value, in the notation of FieldsV1:
// "f:" and a name, "k:" and the key of a list's item, "." for the thing itself.
func fieldsOf(value any) object {
	fields := object{}
	switch value := value.(type) {
	case object:
		for key, v := range value {
			if fromAdmission(key) {
				continue
			}
			set := fieldsOf(v)
			if key == "containers" { // every pod has them
				delete(set, ".")
			}
			fields["f:"+key] = set
		}
	case []object:
		for _, item := range value {
			key, err := json.Marshal(object{"name": item["name"]})
			if err != nil || item["name"] == nil {
				continue
			}
			fields["k:"+string(key)] = fieldsOf(item)
		}
	}
	if len(fields) > 0 {
		fields["."] = object{}
	}
	return fields
}

// fromAdmission reports whether a field is one that admission fills in, after
// the managed fields were written.
func fromAdmission(field string) bool {
	switch field {
	case "volumes", "volumeMounts", "tolerations", "priority", "preemptionPolicy", "serviceAccount", "serviceAccountName":
		return true
	}
	return false
}

func mount(name, path string, readOnly bool) object {
	m := object{"name": name, "mountPath": path}
	if readOnly {
		m["readOnly"] = true
	}
	return m
}

func tokenVolume(name string) object {
	return object{"name": name, "projected": object{
		"defaultMode": 420,
		"sources": []object{
			{"serviceAccountToken": object{"expirationSeconds": 3607, "path": "token"}},
			{"configMap": object{"name": "kube-root-ca.crt", "items": []object{{"key": "ca.crt", "path": "ca.crt"}}}},
			{"downwardAPI": object{"items": []object{{"path": "namespace", "fieldRef": object{
				"apiVersion": "v1", "fieldPath": "metadata.namespace",
			}}}}},
		},
	}}
}

func toleration(key string) object {
	return object{"key": "node.kubernetes.io/" + key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
}

func tokenVolumeName(pod string) string {
	return fmt.Sprintf("kube-api-access-%.5s", uuid("token", pod))
}
