package controller

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"unique"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
	"github.com/gatehouse-dev/gatehouse/policy/objects"
)

// A mirror is what is in the cluster, as far as followers have told.
type mirror struct {
	// wake is told when anything has changed.
	wake chan struct{}

	mu      sync.Mutex
	objects map[objects.Ref]*object
	pods    map[kube.Key]*pod
	// read are the kinds that were listed, and readPods is set when pods were. Of missing
	// kinds the cluster has no definition: they have no objects, and what is filed of them
	// stays. Kinds is how many there are.
	read, missing map[objects.Kind]bool
	readPods      bool
	kinds         int
	// unreadable are objects that are there and make no sense at all.
	unreadable map[objects.Ref]bool
}

// An object is a policy, or what belongs to one.
type object struct {
	objects.Meta
	// text is the object as [objects.Strip] returns it.
	text []byte
	// status is what the object says of itself.
	status status
}

// A pod is what is kept of one.
type pod struct {
	kube.Key
	uid string
	// images are the texts of its images, each once, and sorted.
	images []string
	// labels and annotations are those of [keys] that it has.
	labels, annotations map[string]string
}

func newMirror(kinds int) *mirror {
	return &mirror{
		wake: make(chan struct{}, 1), objects: make(map[objects.Ref]*object), pods: make(map[kube.Key]*pod), read: make(map[objects.Kind]bool), missing: make(map[objects.Kind]bool), unreadable: make(map[objects.Ref]bool), kinds: kinds,
	}
}

// changed is called with the lock held.
func (m *mirror) changed() {
	select {
	case m.wake <- struct{}{}:
	default: // told already
	}
}

// setObject takes in a version of an object. What the controller itself has written of its
// status is no change.
func (m *mirror) setObject(k objects.Kind, o kube.Object) error {
	meta, text, err := objects.Strip(o.JSON)
	if err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.objects, refOf(k, o.Key))
		m.unreadable[refOf(k, o.Key)] = true
		return err
	}
	var told struct {
		Status status `json:"status"`
	}
	if err := json.Unmarshal(o.JSON, &told); err != nil {
		told.Status = status{} // of another version of this program, and written anew
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.unreadable, meta.Ref)
	before := m.objects[meta.Ref]
	m.objects[meta.Ref] = &object{Meta: meta, text: text, status: told.Status}
	if before == nil || string(before.text) != string(text) {
		m.changed()
	}
	return nil
}

func (m *mirror) goneObject(k objects.Kind, key kube.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, refOf(k, key))
	delete(m.unreadable, refOf(k, key))
	m.changed()
}

func refOf(k objects.Kind, key kube.Key) objects.Ref {
	return objects.Ref{APIVersion: k.APIVersion(), Kind: k.Kind, Namespace: key.Namespace, Name: key.Name}
}

// lacks takes in that the cluster has no definition of a kind.
func (m *mirror) lacks(k objects.Kind) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.missing[k] = true
	m.changed()
}

func (m *mirror) listed(k objects.Kind) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.read[k] = true
	delete(m.missing, k)
	m.changed()
}

// setPod takes in a version of a pod. What bears on it are its images, and the labels and
// annotations that are written on it.
func (m *mirror) setPod(o kube.Object, place admission.Place) error {
	p, err := readPod(o, place)
	if err != nil {
		m.gonePod(o.Key)
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.pods[p.Key]
	if p.images == nil {
		delete(m.pods, p.Key)
		if before != nil {
			m.changed()
		}
		return nil
	}
	m.pods[p.Key] = p
	if before == nil || before.uid != p.uid || !slices.Equal(before.images, p.images) || !maps.Equal(before.labels, p.labels) || !maps.Equal(before.annotations, p.annotations) {
		m.changed()
	}
	return nil
}

// readPod reads a pod; one that is about to go has no images.
func readPod(o kube.Object, place admission.Place) (*pod, error) {
	var told struct {
		Kind     string `json:"kind"`
		Metadata struct {
			DeletionTimestamp *string           `json:"deletionTimestamp"`
			Labels            map[string]string `json:"labels"`
			Annotations       map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(o.JSON, &told); err != nil {
		return nil, fmt.Errorf("reading the pod: %w", err)
	}
	p := &pod{Key: o.Key, uid: o.UID, labels: ours(told.Metadata.Labels), annotations: ours(told.Metadata.Annotations)}
	if told.Metadata.DeletionTimestamp != nil {
		return p, nil
	}
	text := o.JSON
	if told.Kind == "" { // of a list
		text = append([]byte(`{"apiVersion":"v1","kind":"Pod",`), text[1:]...)
	}
	request, err := admission.ReadRequest(text, place)
	if err != nil {
		return nil, err
	}
	p.images = textsOf(request.Images)
	return p, nil
}

// ours are the labels, or annotations, that are written on pods; nil is none.
func ours(all map[string]string) map[string]string {
	var some map[string]string
	for _, key := range []string{invalidKey, attestationKey} {
		if value, there := all[key]; there {
			if some == nil {
				some = make(map[string]string)
			}
			some[key] = strings.Clone(value)
		}
	}
	return some
}

// textsOf are the texts of images, each once, in their order. Many pods have the same, of
// which one is kept in memory.
func textsOf(uses []decide.ImageUse) []string {
	texts := make([]string, 0, len(uses))
	for _, u := range uses {
		texts = append(texts, unique.Make(u.Text).Value())
	}
	slices.Sort(texts)
	return slices.Clip(slices.Compact(texts))
}

func (m *mirror) gonePod(key kube.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pods, key)
	m.changed()
}

func (m *mirror) listedPods() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.readPods = true
	m.changed()
}

// complete reports whether everything was read.
func (m *mirror) complete() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	both := 0
	for k := range m.missing {
		if m.read[k] { // before its definition was taken away
			both++
		}
	}
	return m.readPods && len(m.read)+len(m.missing)-both == m.kinds
}

// snapshot returns the objects.
func (m *mirror) snapshot() map[objects.Ref]*object {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.objects)
}

// gone returns those of some objects that are surely not in the cluster.
func (m *mirror) gone(refs []objects.Ref) []objects.Ref {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(refs), func(r objects.Ref) bool {
		k, known := objects.KindOf(r.APIVersion, r.Kind)
		return !known || !m.read[k] || m.missing[k] || m.objects[r] != nil || m.unreadable[r]
	})
}

// byNamespace returns the pods of namespaces.
func (m *mirror) byNamespace() map[string][]*pod {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[string][]*pod)
	for _, p := range m.pods {
		all[p.Namespace] = append(all[p.Namespace], p)
	}
	return all
}

// poke has everything looked at again.
func (m *mirror) poke() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed()
}
