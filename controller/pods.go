package controller

import (
	"context"
	"maps"
	"strconv"

	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

// What Kritis wrote on pods, as labels and as annotations. People select by them.
const (
	invalidKey   = "kritis.grafeas.io/invalidImageSecPolicy"
	invalidLabel = "invalidImageSecPolicy"

	attestationKey  = "kritis.grafeas.io/attestation"
	attestedLabel   = "attested"
	attestedText    = "Previously attested."
	unattestedLabel = "notAttested"
	unattestedText  = "No valid attestations present. This pod will not be able to restart in future"
)

// A finding is what is found of the images of a pod.
type finding struct {
	// unknown is set if it could not be found out.
	unknown bool
	// violating is set if they do not satisfy a policy, and violation is what is said of it.
	violating bool
	violation string
	attested  bool
}

// marks are the labels and annotations of a pod.
type marks struct{ labels, annotations map[string]string }

// marks returns those that a pod is to have that a finding is about.
func (f finding) marks() marks {
	m := marks{map[string]string{attestationKey: unattestedLabel}, map[string]string{attestationKey: unattestedText}}
	if f.attested {
		m.labels[attestationKey], m.annotations[attestationKey] = attestedLabel, attestedText
	}
	if f.violating {
		m.labels[invalidKey], m.annotations[invalidKey] = invalidLabel, f.violation
	}
	return m
}

// violationText says how much is wrong, in Kritis' words for what Kritis had words for.
func violationText(found int, unqualified, unscanned string) string {
	switch {
	case unqualified != "":
		return "found " + strconv.Itoa(found+1) + " CVEs, " + unqualified + " is not a fully qualified image. You can run 'kubectl plugin resolve-tags' to qualify all images with a digest."
	case unscanned != "":
		return "found " + strconv.Itoa(found) + " CVEs, " + unscanned + " has no finished vulnerability scan"
	}
	return "found " + strconv.Itoa(found) + " CVEs"
}

// patch returns the merge patch that gives a pod its marks, nil if it has them. What
// somebody else has written under the keys is removed only with a mark to take its place.
func (p *pod) patch(want marks) map[string]any {
	labels, annotations := difference(p.labels, want.labels), difference(p.annotations, want.annotations)
	if len(labels)+len(annotations) == 0 {
		return nil
	}
	metadata := map[string]any{"uid": p.uid} // a pod of the name that is another one is refused
	if len(labels) > 0 {
		metadata["labels"] = labels
	}
	if len(annotations) > 0 {
		metadata["annotations"] = annotations
	}
	return map[string]any{"metadata": metadata}
}

// difference has what is to be written, and nil for what is to go.
func difference(has, want map[string]string) map[string]any {
	patch := map[string]any{}
	for key, value := range want {
		if now, there := has[key]; !there || now != value {
			patch[key] = value
		}
	}
	for key := range has {
		if _, stays := want[key]; !stays {
			patch[key] = nil
		}
	}
	return patch
}

// mark writes the marks of a pod, and remembers that it has: another look may come before
// the cluster tells.
func (c *Controller) mark(ctx context.Context, m *mirror, p *pod, patch map[string]any, want marks) error {
	r := kube.Resource{Version: "v1", Name: "pods", Namespace: p.Namespace}
	if err := c.Kube.Merge(ctx, patch, nil, r.Path(p.Name)...); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pods[p.Key] == p {
		written := *p
		written.labels, written.annotations = maps.Clone(want.labels), maps.Clone(want.annotations)
		m.pods[p.Key] = &written
	}
	return nil
}
