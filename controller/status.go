package controller

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/kube"
	"github.com/gatehouse-dev/gatehouse/policy/objects"
)

// The conditions of an object, and the reasons that they have.
const (
	accepted = "Accepted"
	inForce  = "InForce"
	degraded = "Degraded"
	ready    = "Ready"

	isTrue  = "True"
	isFalse = "False"

	reasonValid      = "Valid"
	reasonInvalid    = "Invalid"
	reasonRefused    = "Refused"
	reasonGates      = "GatesDecideByIt"
	reasonWaiting    = "Waiting"
	reasonNotFiled   = "NotFiled"
	reasonNotInForce = "NotInForce"
	reasonHeldBack   = "HeldBack"
	reasonWhole      = "AllOfItCounts"

	// maxMessage bounds what a condition says, which the definitions of the kinds do too.
	maxMessage = 4 << 10
	// maxUnusable is how many keys a status names.
	maxUnusable = 100
)

// status is what is written on an object.
type status struct {
	ObservedGeneration int64         `json:"observedGeneration,omitempty"`
	Conditions         []condition   `json:"conditions,omitempty"`
	UsableKeys         *int          `json:"usableKeys"`
	UnusableKeys       []unusableKey `json:"unusableKeys"`
	Images             *imageCount   `json:"images"`
	LastEvaluated      *time.Time    `json:"lastEvaluated"`
}

type condition struct {
	Type               string    `json:"type"`
	Status             string    `json:"status"`
	ObservedGeneration int64     `json:"observedGeneration,omitempty"`
	LastTransitionTime time.Time `json:"lastTransitionTime"`
	Reason             string    `json:"reason"`
	Message            string    `json:"message"`
}

type unusableKey struct {
	Index   int    `json:"index"`
	ID      string `json:"id,omitempty"`
	Message string `json:"message"`
}

type imageCount struct {
	Total     int `json:"total"`
	Satisfied int `json:"satisfied"`
}

// A judgement is what there is to say of an object by itself, and of those it names.
type judgement struct {
	// problems say why it cannot be understood, partly what of it counts for nothing, and
	// remarks what it may not mean as it is written.
	problems, partly, remarks []string
	// reason is that of partly, as one word.
	reason string
	// keys are those of somebody who attests, nil for another object.
	keys *keyCount
	// images are those that a policy was held against, nil for another object.
	images *imageCount
}

type keyCount struct {
	usable   int
	unusable []unusableKey
}

// next is the status of an object, after the one that it has.
func (o *object) next(j judgement, s standing, now time.Time) status {
	next := status{ObservedGeneration: o.Generation, Images: j.images}
	if j.keys != nil {
		next.UsableKeys, next.UnusableKeys = &j.keys.usable, j.keys.unusable[:min(len(j.keys.unusable), maxUnusable)]
	}
	say := func(kind string, holds bool, reason, message string) {
		word := isFalse
		if holds {
			word = isTrue
		}
		next.Conditions = append(next.Conditions, condition{
			Type: kind, Status: word, ObservedGeneration: o.Generation, LastTransitionTime: now.UTC().Truncate(time.Second), Reason: reason, Message: clip(message),
		})
	}
	valid := len(j.problems) == 0 && !s.refused
	switch {
	case len(j.problems) > 0:
		say(accepted, false, reasonInvalid, strings.Join(j.problems, "\n"))
	case s.refused:
		say(accepted, false, reasonRefused, "the metadata service does not take it: "+s.why)
	default:
		say(accepted, true, reasonValid, strings.Join(j.remarks, "\n"))
	}
	switch {
	case s.held:
		say(inForce, false, reasonHeldBack, s.why)
	case !valid && s.inForce:
		say(inForce, true, reasonGates, "no image satisfies it")
	case !valid:
		say(inForce, false, reasonNotInForce, "it is not accepted")
	case s.inForce:
		say(inForce, true, reasonGates, "")
	case s.filed:
		say(inForce, false, reasonWaiting, s.why)
	default:
		say(inForce, false, reasonNotFiled, s.why)
	}
	if len(j.partly) > 0 {
		say(degraded, true, j.reason, strings.Join(j.partly, "\n"))
	} else {
		say(degraded, false, reasonWhole, "")
	}
	for _, c := range next.Conditions {
		if bad := c.Status == isTrue; bad == (c.Type == degraded) {
			say(ready, false, c.Reason, c.Message)
			break
		}
	}
	if len(next.Conditions) == 3 {
		say(ready, true, reasonGates, "")
	}
	next.keep(o.status)
	if j.images != nil {
		at := now.UTC().Truncate(time.Second)
		next.LastEvaluated = &at
	}
	return next
}

// keep takes over what others have written, and since when conditions are as they are.
func (s *status) keep(had status) {
	for _, c := range had.Conditions {
		i := slices.IndexFunc(s.Conditions, func(o condition) bool { return o.Type == c.Type })
		switch {
		case i < 0:
			s.Conditions = append(s.Conditions, c)
		case s.Conditions[i].Status == c.Status:
			s.Conditions[i].LastTransitionTime = c.LastTransitionTime
		}
	}
	slices.SortFunc(s.Conditions, func(a, b condition) int { return strings.Compare(a.Type, b.Type) })
}

// due reports whether a status has to be written over another: when it says something
// else, or when it was last evaluated long ago.
func (s status) due(had status, interval time.Duration) bool {
	old := had.LastEvaluated
	a, b := s.settled(), had.settled()
	if !reflect.DeepEqual(a, b) {
		return true
	}
	return s.LastEvaluated != nil && (old == nil || s.LastEvaluated.Sub(*old) >= interval)
}

// settled is a status without the time that passes, in one form.
func (s status) settled() status {
	s.LastEvaluated = nil
	if len(s.UnusableKeys) == 0 {
		s.UnusableKeys = nil
	}
	s.Conditions = slices.Clone(s.Conditions)
	for i := range s.Conditions {
		s.Conditions[i].LastTransitionTime = s.Conditions[i].LastTransitionTime.UTC()
	}
	slices.SortFunc(s.Conditions, func(a, b condition) int { return strings.Compare(a.Type, b.Type) })
	return s
}

// writeStatus writes the status of an object, if it is still the same one, and remembers it.
func (c *Controller) writeStatus(ctx context.Context, m *mirror, o *object, s status) error {
	k, _ := objects.KindOf(o.APIVersion, o.Kind)
	r := kube.Resource{Group: k.Group, Version: objects.Version, Name: k.Plural, Namespace: o.Namespace}
	patch := map[string]any{"metadata": map[string]string{"uid": o.UID}, "status": s}
	if err := c.Kube.Merge(ctx, patch, nil, r.Path(o.Name, "status")...); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.objects[o.Ref] == o {
		written := *o
		written.status = s
		m.objects[o.Ref] = &written
	}
	return nil
}

// gone reports whether an object could not be written because it is not there, or another
// is in its place.
func gone(err error) bool { return kube.NotFound(err) || kube.Conflict(err) }

// clip shortens what a condition says.
func clip(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessage], "") + "…"
}
