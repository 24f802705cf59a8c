package admission

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/gatehouse-dev/gatehouse/decide"
)

// maxImages bounds the images of one object. No person writes as many, and each
// costs a look-up, a reason and a part of the record.
const maxImages = 500

func tooMany(n int) error {
	return fmt.Errorf("%d images in one object, more than the %d that are judged at once", n, maxImages)
}

// A question is what a request asks the gate to judge.
type question struct {
	// parts are decided on one by one, and all must be allowed.
	parts []part
	// pass is set when there is nothing to judge, and event then says why, for
	// the record; it is "" when that is worth none.
	pass  bool
	event string
}

// A part is some images that run under one account.
type part struct {
	subject subject
	images  []decide.ImageUse
}

// question reads what is to be judged. The error says what cannot be understood,
// which must not be let in.
func (r *request) question(custom Resources, kritis KritisMode) (question, error) {
	if r.Operation == "DELETE" || r.Operation == "CONNECT" {
		return question{pass: true}, nil
	}
	res := r.resource()
	if res.Resource == "" {
		return question{}, fmt.Errorf("the review says neither a resource nor a kind that is known (%q)", clip(r.Kind.Kind))
	}
	if r.SubResource != "" && kindResources[r.Kind] != res {
		if !imageless[r.SubResource] {
			return question{}, fmt.Errorf("subresource %q of %s with an object of kind %q is not understood", clip(r.SubResource), clip(res.String()), clip(r.Kind.Kind))
		}
		return question{pass: true}, nil
	}
	if !r.hasObject() {
		return question{}, fmt.Errorf("the review of %s %s has no object", clip(r.Operation), clip(res.String()))
	}
	if !custom.has(res) {
		return question{pass: true}, nil
	}
	var before []subject
	if r.Operation == "UPDATE" && present(r.OldObject) {
		var meta objectMeta
		if before, meta = custom.old(res, r.OldObject); meta.DeletionTimestamp != nil {
			return question{pass: true, event: eventDeleting}, nil
		}
	}
	now, err := r.subjects(res, custom)
	if err != nil {
		return question{}, err
	}
	for _, list := range [][]subject{before, now} {
		for i := range list {
			list[i].kritis = kritis
		}
	}
	return toJudge(res, now, before, r.SubResource == "ephemeralcontainers")
}

// toJudge returns what is left to judge of an object, given what it was before; only
// the images that were added, or else all of them once one has changed.
func toJudge(res groupResource, now, before []subject, onlyAdded bool) (question, error) {
	parts, count := make([]part, len(now)), 0
	for i, s := range now {
		parts[i] = part{subject: s, images: s.images()}
		count += len(parts[i].images)
	}
	var ran []decide.ImageUse
	if before != nil {
		ran = imagesOf(before)
		if sameImages(imagesOf(now), ran) && !asksAnew(now, before) {
			return question{pass: true, event: eventUnchanged}, nil
		}
	}
	if count > maxImages {
		return question{}, tooMany(count)
	}
	var q question
	for _, p := range parts {
		if !p.subject.custom && len(p.subject.template.Spec.Containers) == 0 {
			return question{}, fmt.Errorf("the object (%s) has no containers: Kubernetes would not take it either", res)
		}
		if onlyAdded {
			// The rest of the pod runs already and does not change here.
			p.images = slices.DeleteFunc(p.images, func(u decide.ImageUse) bool { return slices.Contains(ran, u) })
		}
		if len(p.images) > 0 {
			q.add(p)
		}
	}
	// A custom resource may leave its images to its controller.
	q.pass = len(q.parts) == 0
	return q, nil
}

// asksAnew reports whether a template asks to break glass that did not, or did for
// another reason: pods will come of it, and whose they are is found by who wrote that.
// A pod runs already, and a marker on it now is for nothing.
func asksAnew(now, before []subject) bool {
	for i, s := range now {
		m := s.breakGlass()
		if s.isTemplate && m.text != "" && (i >= len(before) || before[i].breakGlass() != m) {
			return true
		}
	}
	return false
}

// add adds images to those that run under the same account, or else as a part of
// their own.
func (q *question) add(p part) {
	for i := range q.parts {
		if q.parts[i].subject.runsAs(p.subject) {
			q.parts[i].images = append(q.parts[i].images, p.images...)
			return
		}
	}
	q.parts = append(q.parts, p)
}

func imagesOf(list []subject) []decide.ImageUse {
	var all []decide.ImageUse
	for _, s := range list {
		all = append(all, s.images()...)
	}
	return all
}

func sameImages(a, b []decide.ImageUse) bool {
	if len(a) != len(b) {
		return false
	}
	byPlace := func(x, y decide.ImageUse) int {
		return cmp.Or(cmp.Compare(x.Type, y.Type), cmp.Compare(x.Container, y.Container), cmp.Compare(x.Text, y.Text))
	}
	return slices.Equal(slices.SortedFunc(slices.Values(a), byPlace), slices.SortedFunc(slices.Values(b), byPlace))
}
