package conformance

import (
	"context"
	"slices"

	"github.com/gatehouse-dev/gatehouse/gatetest/review"
)

// privileged is a namespace that gates like to exempt.
const privileged = "kube-system"

func exemptionAbuse() Class {
	return Class{
		ID: "B18", Title: "An exemption is taken by whom it is not for",
		Beyond: "Who may label namespaces or write exceptions is a matter of RBAC, and which namespaces are sent to the gate of its webhook configuration.",
		Cases: []Case{
			{
				ID: "B18/break-glass-values", Title: "break-glass markers with other values than true",
				Gain: "A marker that says false overrides the gate by being there.", References: []string{"kritis B3"},
				probes: func(w *world) []probe {
					var list []probe
					for _, m := range w.markers() {
						for _, value := range []string{"false", "", "no", "0", "True", "TRUE", "true ", "yes"} {
							if value != m.value {
								list = append(list, probe{what: m.String() + "=" + clip(value), review: m.on(w.podOf(w.bad()), value), want: denied()})
							}
						}
					}
					return list
				},
			},
			{
				ID: "B18/foreign-break-glass", Title: "the break-glass markers of other gates", needs: []need{needKnownBreakGlass()},
				Gain: "The gate honours markers that its operators do not know of, and nobody is told.",
				probes: func(w *world) []probe {
					var list []probe
					for _, m := range foreignMarkers() {
						if m.key != w.profile.BreakGlass.Label && m.key != w.profile.BreakGlass.Annotation && !slices.Contains(w.sameFamily(), m.key) {
							list = append(list, probe{what: m.String(), review: m.on(w.podOf(w.bad()), "true"), want: denied()})
						}
					}
					return list
				},
			},
			{
				ID: "B18/break-glass-place", Title: "the break-glass marker on a Deployment and not on its pods", needs: []need{needBreakGlass(), needKind("deployments.apps")},
				Gain: "Who may label the Deployment overrides what its pods are held to, and the marker is not where it is looked for.",
				probes: func(w *world) []probe {
					m := w.markers()[0]
					b := withImages(w.begin(kinds()[0]), w.bad())
					if m.label {
						b.Label(m.key, w.profile.BreakGlass.Value)
					} else {
						b.Annotation(m.key, w.profile.BreakGlass.Value)
					}
					return []probe{{what: "on the Deployment", review: b, want: denied()}}
				},
			},
			{
				ID: "B18/break-glass-trace", Title: "glass is broken", needs: []need{needBreakGlass(), needUse()},
				Gain: "An override without a trace is not an emergency exit but a back door.",
				must: "the bad image is let in, and the answer leaves a trace in the audit log or warns",
				try: func(ctx context.Context, t *trial) {
					e := t.ask(ctx, "with the marker", t.markers()[0].on(t.podOf(t.bad()), t.profile.BreakGlass.Value), allowed())
					if e.problem == nil && e.response.Allowed && len(e.response.AuditAnnotations)+len(e.response.Warnings) == 0 {
						t.fail("let in without an audit annotation or a warning")
					}
				},
			},
			{
				ID: "B18/object-namespace", Title: "the object claims another namespace than the request",
				Gain: "Whoever writes kube-system into an object is judged by the rules of kube-system.", References: []string{"kritis B4"},
				probes: func(w *world) []probe {
					claimed := []string{privileged, "", "*"}
					if w.profile.Exempt.Namespace != "" {
						claimed = append(claimed, w.profile.Exempt.Namespace)
					}
					var list []probe
					for _, namespace := range claimed {
						list = append(list, probe{what: "namespace " + clip(namespace), review: w.podOf(w.bad()).ObjectNamespace(namespace), want: denied()})
					}
					return list
				},
			},
			{
				ID: "B18/namespace-look-alikes", Title: "namespaces that are called almost like an exempt one", needs: []need{needExemptNamespace()},
				Gain: "Who may create namespaces creates one that the exemption covers too.",
				probes: func(w *world) []probe {
					exempt := w.profile.Exempt.Namespace
					list := []probe{{what: "the exempt namespace itself", review: review.Pod(exempt, w.name()).Image("c0", w.bad()), want: allowed()}}
					for _, namespace := range []string{exempt + "-evil", "evil-" + exempt, exempt + "2", exempt[:len(exempt)-1]} {
						if namespace != "" {
							list = append(list, probe{what: clip(namespace), review: review.Pod(namespace, w.name()).Image("c0", w.bad()), want: denied()})
						}
					}
					return list
				},
			},
		},
	}
}

// A marker overrides a gate: a label or an annotation of a pod.
type breakGlassMarker struct {
	label      bool
	key, value string
}

func (m breakGlassMarker) String() string {
	if m.label {
		return "label " + m.key
	}
	return "annotation " + m.key
}

func (m breakGlassMarker) on(b *review.Builder, value string) *review.Builder {
	if m.label {
		return b.PodLabel(m.key, value)
	}
	return b.PodAnnotation(m.key, value)
}

// foreignMarkers are those of known gates.
func foreignMarkers() []breakGlassMarker {
	return []breakGlassMarker{
		{true, "image-policy.k8s.io/break-glass", "true"}, {false, "alpha.image-policy.k8s.io/break-glass", "true"}, {false, "kritis.grafeas.io/breakglass", "true"},
		{true, "oracle.image-policy.k8s.io/break-glass", "true"}, {false, "breakglass", "true"}, {true, "break-glass", "true"}, {false, "image-policy.k8s.io/break-glass", "true"},
	}
}

// sameFamily are the keys that belong to the gate's own marker: Binary
// Authorization honours a label and an annotation.
func (w *world) sameFamily() []string {
	family := []string{"image-policy.k8s.io/break-glass", "alpha.image-policy.k8s.io/break-glass"}
	if slices.Contains(family, w.profile.BreakGlass.Label) || slices.Contains(family, w.profile.BreakGlass.Annotation) {
		return family
	}
	return nil
}

// markers are the gate's own, or those of known gates if it has none.
func (w *world) markers() []breakGlassMarker {
	b := w.profile.BreakGlass
	own := breakGlassMarker{b.Label != "", b.Label + b.Annotation, b.Value}
	if own.key == "" {
		return foreignMarkers()
	}
	return append([]breakGlassMarker{own}, slices.DeleteFunc(foreignMarkers(), func(m breakGlassMarker) bool { return m.key == own.key && m.label == own.label })...)
}
