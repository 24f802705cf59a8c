package admission

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/image"
)

// UnpinnedAnnotation is what a [Pinner] leaves on a pod whose tags it could not pin: why.
// It explains a refusal, and nothing else: whoever makes a pod can write it, too.
const UnpinnedAnnotation = "gatehouse.dev/unpinned"

// maxUnpinned bounds what the annotation says, in bytes.
const maxUnpinned = 1024

// maxPinning is how many images of one object are asked for at the same time.
const maxPinning = 16

// A PinMode says what is pinned in a namespace.
type PinMode string

// The modes. Jobs' templates are pinned in none: they cannot be changed afterwards, so
// that who applies the same manifest again would be refused; their pods are.
const (
	PinNothing   PinMode = "none"
	PinPods      PinMode = "pods"
	PinTemplates PinMode = "templates" // and pods
)

// A PinQuestion asks for the digest that is meant by a tag.
type PinQuestion struct {
	// Ref has no digest.
	Ref image.Reference
	// Namespace, ServiceAccount ("default" if the pod names none) and PullSecrets are the
	// pod's: with their credentials its kubelet would pull.
	Namespace, ServiceAccount string
	PullSecrets               []string
}

// PinOptions configure a [Pinner]. Mode, Resolve, Logger and Registry are needed.
type PinOptions struct {
	// Mode says what is pinned in a namespace.
	Mode func(namespace string) PinMode
	// Resolve returns the digest, or why there is none, in words for whoever deploys. It
	// is called concurrently.
	Resolve func(context.Context, PinQuestion) (image.Digest, error)
	// Recorder keeps the record of what was pinned, and of what could not be; nil keeps
	// none. Place is the cluster whose reviews are answered, for it, and Now the clock, by
	// default [time.Now].
	Recorder Recorder
	Place
	Now func() time.Time
	Limits
	Logger   *slog.Logger
	Registry prometheus.Registerer
}

// A Pinner is a mutating webhook that writes the digest beside each tag, so that the
// digest that is judged is the one that runs. It lets everything in: what it cannot pin
// is left as it is, for the gate to refuse. It is safe for concurrent use.
type Pinner struct {
	PinOptions
	door
	pinned *prometheus.CounterVec
}

// NewPinner returns a Pinner.
func NewPinner(o PinOptions) (*Pinner, error) {
	if o.Mode == nil || o.Resolve == nil || o.Logger == nil || o.Registry == nil {
		return nil, errors.New("building the pinner: Mode, Resolve, Logger and Registry are all needed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	d, err := newDoor("mutation", "Reviews that were let in unchanged because pinning their tags panicked.", o.Limits, o.Logger, o.Registry)
	if err != nil {
		return nil, fmt.Errorf("building the pinner: %w", err)
	}
	p := &Pinner{PinOptions: o, door: d, pinned: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_mutation_images_total",
		Help: "Images without a digest that were looked at, by result: pinned or failed.",
	}, []string{"result"})}
	return p, o.Registry.Register(p.pinned)
}

// ServeHTTP answers an AdmissionReview of admission.k8s.io/v1 or v1beta1 in the version
// it came in, with a JSON patch if there is something to pin.
func (p *Pinner) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.serve(w, r, protocol{answer: p.answerReview, deny: letIn})
}

// letIn lets in what could not be read or answered: the gate has its own review of it.
func letIn(body []byte, a answer) (any, bool) {
	in := peekReview(body)
	if in.check() != nil {
		return nil, false
	}
	return in.envelope(answer{allowed: true, warnings: warningLines("tags were not pinned: " + a.message)}), true
}

func (p *Pinner) answerReview(ctx context.Context, body []byte) (any, error) {
	begun := p.Now()
	// Most pods are pinned, and read in one pass as the gate reads them.
	if in, err := readReview(body); err == nil && in.Request.read != nil && in.Request.read.pinned() {
		return in.envelope(answer{allowed: true}), nil
	}
	var plain plainReview
	if err := json.Unmarshal(body, &plain); err != nil {
		return nil, fmt.Errorf("decoding the review: %w", misfit(err))
	}
	in := plain.review()
	if err := in.check(); err != nil {
		return nil, err
	}
	in.Request.place, in.Request.begun = p.Place, begun
	patch, failed, err := p.review(ctx, in.Request)
	if err != nil {
		return nil, err
	}
	a := answer{allowed: true}
	for _, f := range failed {
		a.warnings = append(a.warnings, warningLines("could not pin "+f)...)
	}
	out := in.envelope(a)
	if len(patch) > 0 {
		if out.Response.Patch, err = json.Marshal(patch); err != nil {
			return nil, fmt.Errorf("encoding the patch: %w", err)
		}
		out.Response.PatchType = "JSONPatch"
	}
	return out, nil
}

// pinned reports whether there is nothing to pin, and nothing to take away.
func (s *subject) pinned() bool {
	if _, said := s.meta.Annotations[UnpinnedAnnotation]; said {
		return false
	}
	for _, u := range s.images() {
		if ref, err := image.Parse(u.Text); err == nil && ref.Digest().IsZero() {
			return false
		}
	}
	return true
}

// A patchOp is an operation of RFC 6902.
type patchOp struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitzero"`
}

// A pinObject has what is read of a pod, or of an object that makes pods.
type pinObject struct {
	Metadata struct {
		Annotations     map[string]string `json:"annotations"`
		OwnerReferences []struct {
			Controller bool `json:"controller"`
		} `json:"ownerReferences"`
	} `json:"metadata"`
	Spec struct {
		pinSpec     `json:",inline"`
		Template    pinTemplate `json:"template"`
		JobTemplate struct {
			Spec struct {
				Template pinTemplate `json:"template"`
			} `json:"spec"`
		} `json:"jobTemplate"`
	} `json:"spec"`
	Template pinTemplate `json:"template"`
}

type pinTemplate struct {
	Spec pinSpec `json:"spec"`
}

type pinSpec struct {
	ServiceAccountName  string      `json:"serviceAccountName"`
	ServiceAccount      string      `json:"serviceAccount"`
	ImagePullSecrets    []pinSecret `json:"imagePullSecrets"`
	InitContainers      []container `json:"initContainers"`
	Containers          []container `json:"containers"`
	EphemeralContainers []container `json:"ephemeralContainers"`
	Volumes             []volume    `json:"volumes"`
}

type pinSecret struct {
	Name string `json:"name"`
}

// A place in an object where an image is written.
type imagePlace struct {
	path string // JSON Pointer
	list string // of the spec
	name string // of the container or volume
	text string
}

// places returns where images are in a spec at a pointer.
func (s *pinSpec) places(at string) []imagePlace {
	var all []imagePlace
	add := func(list string, containers []container) {
		for i, c := range containers {
			all = append(all, imagePlace{at + "/" + list + "/" + strconv.Itoa(i) + "/image", list, c.Name, c.Image})
		}
	}
	add("initContainers", s.InitContainers)
	add("containers", s.Containers)
	add("ephemeralContainers", s.EphemeralContainers)
	for i, v := range s.Volumes {
		if v.Image != nil {
			all = append(all, imagePlace{at + "/volumes/" + strconv.Itoa(i) + "/image/reference", "volumes", v.Name, v.Image.Reference})
		}
	}
	return all
}

// review returns the patch of an object, and what could not be pinned.
func (p *Pinner) review(ctx context.Context, req *request) (patch []patchOp, failed []string, err error) {
	res, mode := req.resource(), p.Mode(req.Namespace)
	subresource := req.SubResource == "" || (res == pods && req.SubResource == "ephemeralcontainers")
	if req.Operation != "CREATE" && req.Operation != "UPDATE" || !subresource || !present(req.Object) || !pinnable(res, mode) {
		return nil, nil, nil
	}
	var now, before pinObject
	if err := json.Unmarshal(req.Object, &now); err != nil {
		return nil, nil, fmt.Errorf("decoding %s: %w", res, misfit(err))
	}
	if res != pods && slices.ContainsFunc(now.Metadata.OwnerReferences, func(o struct {
		Controller bool `json:"controller"`
	}) bool {
		return o.Controller
	}) {
		// Its controller compares it with what it wanted, and would make another.
		return nil, nil, nil
	}
	spec, at := now.spec(res)
	places := spec.places(at)
	if res == pods && req.Operation == "UPDATE" && present(req.OldObject) {
		// What the pod has already runs, or waits to be pulled as it was judged.
		if err := json.Unmarshal(req.OldObject, &before); err != nil {
			return nil, nil, fmt.Errorf("decoding the old %s: %w", res, misfit(err))
		}
		old, _ := before.spec(res)
		had := old.places(at)
		places = slices.DeleteFunc(places, func(now imagePlace) bool {
			return slices.ContainsFunc(had, func(old imagePlace) bool {
				return old.list == now.list && old.name == now.name && old.text == now.text
			})
		})
	}
	if len(places) > maxImages {
		return nil, nil, tooMany(len(places))
	}
	found := p.pin(ctx, questionOf(req.Namespace, spec), places)
	patch, failed = patched(found, places)
	p.record(req, found)
	if res == pods && req.SubResource == "" && (req.Operation == "CREATE" || len(failed) > 0) {
		patch = append(patch, explain(now.Metadata.Annotations, failed)...)
	}
	return patch, failed, nil
}

// pinnable reports whether a resource is changed in a mode.
func pinnable(res groupResource, mode PinMode) bool {
	switch mode {
	case PinPods:
		return res == pods
	case PinTemplates:
		return res == pods || workloads[res] && res.Resource != "jobs"
	}
	return false
}

// spec returns the spec of the pods that an object is or makes, and its pointer.
func (o *pinObject) spec(res groupResource) (*pinSpec, string) {
	switch {
	case res == pods:
		return &o.Spec.pinSpec, "/spec"
	case res.Resource == "cronjobs":
		return &o.Spec.JobTemplate.Spec.Template.Spec, "/spec/jobTemplate/spec/template/spec"
	case res.Resource == "podtemplates":
		return &o.Template.Spec, "/template/spec"
	}
	return &o.Spec.Template.Spec, "/spec/template/spec"
}

// questionOf returns what is asked for every image of a spec.
func questionOf(namespace string, spec *pinSpec) PinQuestion {
	q := PinQuestion{Namespace: namespace, ServiceAccount: spec.ServiceAccountName}
	if q.ServiceAccount == "" {
		q.ServiceAccount = spec.ServiceAccount
	}
	if q.ServiceAccount == "" {
		q.ServiceAccount = "default"
	}
	for _, s := range spec.ImagePullSecrets {
		if s.Name != "" {
			q.PullSecrets = append(q.PullSecrets, s.Name)
		}
	}
	return q
}

// A pinning is what came of one reference, wherever it is written.
type pinning struct {
	text   string
	ref    image.Reference
	digest image.Digest
	err    error
}

// pin asks for every reference once.
func (p *Pinner) pin(ctx context.Context, q PinQuestion, places []imagePlace) []*pinning {
	var all []*pinning
	for _, at := range places {
		ref, err := image.Parse(at.text)
		if err != nil || !ref.Digest().IsZero() || pinningOf(all, at.text) != nil {
			continue // the gate says what is wrong with what is no reference
		}
		all = append(all, &pinning{text: at.text, ref: ref})
	}
	if len(all) == 0 {
		return nil
	}
	ctx, cancel := pinBudget(ctx)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(maxPinning)
	for _, found := range all {
		group.Go(func() error {
			one := q
			one.Ref = found.ref
			found.digest, found.err = p.ask(ctx, one)
			return nil
		})
	}
	_ = group.Wait() // none of them fails
	for _, found := range all {
		result := "pinned"
		if found.err != nil {
			result = "failed"
		}
		p.pinned.WithLabelValues(result).Inc()
	}
	return all
}

func pinningOf(all []*pinning, text string) *pinning {
	for _, found := range all {
		if found.text == text {
			return found
		}
	}
	return nil
}

// patched returns the operations that write the digests, and what could not be pinned.
func patched(all []*pinning, places []imagePlace) (patch []patchOp, failed []string) {
	for _, found := range all {
		if found.err != nil {
			failed = append(failed, found.text+": "+found.err.Error())
		}
	}
	for _, at := range places {
		if found := pinningOf(all, at.text); found != nil && found.err == nil {
			patch = append(patch, patchOp{"replace", at.path, pinnedText(found.ref, found.digest)})
		}
	}
	return patch, failed
}

// record writes down what was pinned, and what not. The gate has its own record of what
// becomes of it; here nobody waits for one.
func (p *Pinner) record(req *request, all []*pinning) {
	if p.Recorder == nil || len(all) == 0 {
		return
	}
	r := newRecord(req, eventPinned, p.Now())
	for _, found := range all {
		one := audit.Pinned{Image: clip(found.text)}
		if found.err != nil {
			one.Error = clip(found.err.Error())
		} else {
			one.Digest = found.digest.String()
		}
		r.Pinned = append(r.Pinned, one)
	}
	if err := p.Recorder.Append(r); err != nil { // it is counted, and told of, by who keeps it
		p.Logger.Debug("recording what was pinned", "record", r.ID, "error", err)
	}
}

// ask asks for one image, and takes a panic for an answer that did not come: what others
// have said counts.
func (p *Pinner) ask(ctx context.Context, q PinQuestion) (d image.Digest, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			p.panics.Inc()
			p.Logger.Error("resolving a tag panicked", "image", q.Ref.String(), "panic", fmt.Sprint(cause))
			d, err = image.Digest{}, errors.New("internal error; the log of the webhook has its cause")
		}
	}()
	d, err = p.Resolve(ctx, q)
	switch {
	case err == nil && d.IsZero():
		return d, errors.New("nobody says which digest it is")
	case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return d, fmt.Errorf("not in time: %w", err)
	}
	return d, err
}

// pinBudget leaves a part of the time that a request has for the answer.
func pinBudget(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithTimeout(ctx, defaultTimeout)
	}
	return context.WithTimeout(ctx, time.Until(deadline)*3/4)
}

// pinnedText writes the digest behind the reference, as it stands there.
func pinnedText(ref image.Reference, d image.Digest) string {
	return ref.String() + "@" + d.String()
}

// explain says on the pod why tags are left, and takes away what somebody else has said.
func explain(annotations map[string]string, failed []string) []patchOp {
	path := "/metadata/annotations/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(UnpinnedAnnotation)
	_, there := annotations[UnpinnedAnnotation]
	switch {
	case len(failed) == 0 && there:
		return []patchOp{{Op: "remove", Path: path}}
	case len(failed) == 0:
		return nil
	}
	text := strings.ToValidUTF8(strings.Join(failed, "\n"), "")
	if len(text) > maxUnpinned {
		text = strings.ToValidUTF8(text[:maxUnpinned], "") + "…"
	}
	if annotations == nil {
		return []patchOp{{"add", "/metadata/annotations", map[string]string{UnpinnedAnnotation: text}}}
	}
	return []patchOp{{"add", path, text}}
}
