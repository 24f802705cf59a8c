package conformance

import (
	"slices"

	"github.com/gatehouse-dev/gatehouse/gatetest/review"
)

// A kind is a resource beside pods that has images, and how a review of it begins.
type kind struct {
	name  string
	begin func(namespace, name string) *review.Builder
}

func kinds() []kind {
	return []kind{
		{"deployments.apps", review.Deployment}, {"replicasets.apps", review.ReplicaSet}, {"statefulsets.apps", review.StatefulSet},
		{"daemonsets.apps", review.DaemonSet}, {"jobs.batch", review.Job}, {"cronjobs.batch", review.CronJob},
		{"replicationcontrollers", review.ReplicationController}, {"podtemplates", review.PodTemplate},
	}
}

func kindNames() []string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}

// workloads are the kinds that the gate reviews, by the profile.
func (w *world) workloads() []kind {
	return slices.DeleteFunc(kinds(), func(k kind) bool { return !slices.Contains(w.profile.Kinds, k.name) })
}

// begin begins a review that creates an object of a kind.
func (w *world) begin(k kind) *review.Builder { return k.begin(w.profile.Namespace, w.name()) }

func needRegistry() need {
	return need{"the hostile registry (--registry-listen), where the gate denies what nobody has signed", func(w *world) bool { return w.registry != nil }}
}

// needOriginal is for lies about the good image, which the registry has to have.
func needOriginal() need {
	return need{"the good image in a registry that the suite can read", func(w *world) bool { return w.registry != nil && w.registry.hasOriginal() }}
}

func needKind(name string) need {
	return need{"a gate that reviews " + name + " (kinds)", func(w *world) bool { return slices.Contains(w.profile.Kinds, name) }}
}

func needWorkloads() need {
	return need{"a gate that reviews workloads (kinds)", func(w *world) bool { return len(w.profile.Kinds) > 0 }}
}

func needExemptImage() need {
	return need{"an exempt image (exempt.image)", func(w *world) bool { return w.profile.Exempt.Image != "" }}
}

func needExemptNamespace() need {
	return need{"an exempt namespace (exempt.namespace)", func(w *world) bool { return w.profile.Exempt.Namespace != "" }}
}

func needBreakGlass() need {
	return need{"a break-glass marker (breakGlass)", func(w *world) bool { return w.profile.BreakGlass.Label+w.profile.BreakGlass.Annotation != "" }}
}

// needKnownBreakGlass keeps the suite from breaking glass without leave.
func needKnownBreakGlass() need {
	return need{"to know the break-glass marker, or that there is none (breakGlass)", func(w *world) bool {
		b := w.profile.BreakGlass
		return b.None || b.Label+b.Annotation != ""
	}}
}

func needUse() need {
	return need{"leave to break glass, which may set off alarms (breakGlass.use)", func(w *world) bool { return w.profile.BreakGlass.Use }}
}

func needGoodTag() need {
	return need{"a tag of the good image (good.tag)", func(w *world) bool { return w.profile.Good.Tag != "" }}
}

func needV1Beta1() need {
	return need{"a gate that speaks v1beta1 (versions)", func(w *world) bool { return slices.Contains(w.profile.Versions, v1beta1) }}
}

func needDenied(class string) need {
	return need{"images of yours that the gate denies (denied, class " + class + "): the suite has no keys to make such evidence", func(w *world) bool {
		return slices.ContainsFunc(w.profile.Denied, func(d ProfileDenied) bool { return d.Class == class })
	}}
}
