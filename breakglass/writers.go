package breakglass

import (
	"context"
	"slices"
	"sync"
)

// maxObjects bounds the objects whose writers are known, some 500 bytes each. Beyond it
// the one that was written or asked for longest ago is forgotten, and the person behind
// its pods not known any more.
const maxObjects = 20_000

// Controllers are who makes pods and workloads of others in a cluster as it comes: those
// of the controller manager, with accounts of their own or without.
func Controllers() []string {
	const account = "system:serviceaccount:kube-system:"
	return []string{
		account + "cronjob-controller", account + "daemon-set-controller", account + "deployment-controller", account + "job-controller",
		account + "replicaset-controller", account + "replication-controller", account + "statefulset-controller",
		"system:kube-controller-manager",
	}
}

// Writers know who wrote objects with a marker. They are safe for concurrent use.
type Writers struct {
	controllers map[string]bool

	mu    sync.Mutex
	byUID map[string]*written
	turn  uint64
	// changed are the UIDs of those that are not on disk yet.
	changed map[string]bool
	more    chan struct{} // closed and replaced when an object was put
}

type written struct {
	Object
	turn uint64 // when it was last of use
}

// NewWriters returns Writers that look behind the users who are controllers.
func NewWriters(controllers []string) *Writers {
	w := &Writers{controllers: map[string]bool{}, byUID: map[string]*written{}, changed: map[string]bool{}, more: make(chan struct{})}
	for _, name := range controllers {
		w.controllers[name] = true
	}
	return w
}

// Put keeps an object in place of what it was before.
func (w *Writers) Put(o Object) {
	if o.UID == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if old := w.byUID[o.UID]; old == nil || !same(old.Object, o) {
		w.changed[o.UID] = true
	}
	w.turn++
	w.byUID[o.UID] = &written{o, w.turn}
	close(w.more)
	w.more = make(chan struct{})
	for len(w.byUID) > maxObjects {
		w.forget()
	}
}

func same(a, b Object) bool {
	return a.Cluster == b.Cluster && a.Namespace == b.Namespace && a.Workload == b.Workload && a.Owner == b.Owner && a.Writer.Name == b.Writer.Name &&
		slices.Equal(a.Writer.Groups, b.Writer.Groups) && slices.Equal(a.Images, b.Images)
}

// forget forgets some that were of no use for the longest time.
func (w *Writers) forget() {
	turns := make([]uint64, 0, len(w.byUID))
	for _, o := range w.byUID {
		turns = append(turns, o.turn)
	}
	slices.Sort(turns)
	oldest := turns[len(turns)/20] // not one by one: it looks at all of them
	for uid, o := range w.byUID {
		if o.turn <= oldest {
			delete(w.byUID, uid)
			delete(w.changed, uid)
		}
	}
}

// Behind returns the person behind a request: who asked, or, if that is a controller, who
// wrote what it acts for, with the images. It also returns the outermost workload that is
// known. known is false if a controller asked and nobody is known.
func (w *Writers) Behind(r *Request) (who User, what Workload, known bool) {
	who, what, missing := w.behind(r)
	return who, what, missing == nil
}

// behind returns what is missing, if the person is not known: the controller whose writer
// nobody has told; its UID is empty if it is not known either.
func (w *Writers) behind(r *Request) (who User, what Workload, missing *Owner) {
	w.mu.Lock()
	defer w.mu.Unlock()
	who, what = r.User, r.Object
	owner := r.Owner
	hash := r.TemplateHash
	for range maxHops {
		if !w.controllers[who.Name] {
			return who, what, nil
		}
		if owner.UID == "" {
			return User{}, what, &Owner{}
		}
		what = outer(owner.Workload, hash)
		o := w.byUID[owner.UID]
		if o == nil || o.Cluster != r.Cluster || o.Namespace != r.Namespace || !o.Wrote(r.Denied) {
			return User{}, what, &owner
		}
		w.turn++
		o.turn = w.turn
		who, what, owner, hash = o.Writer, o.Workload, o.Owner, ""
	}
	return User{}, what, &Owner{}
}

// Await returns an object of a cluster that was written with these images, as soon as there
// is one. When ctx ends it returns what there is, which is zero if nothing is known.
func (w *Writers) Await(ctx context.Context, cluster, uid string, images []string) Object {
	for {
		w.mu.Lock()
		o, more := w.byUID[uid], w.more
		var known Object
		if o != nil && o.Cluster == cluster {
			known = o.Object
		}
		w.mu.Unlock()
		if known.UID != "" && known.Wrote(images) {
			return known
		}
		select {
		case <-more:
		case <-ctx.Done():
			return known
		}
	}
}

// outer returns the Deployment that a replica set is of, as its name says: that ends in the
// hash of the template, which its pods are labelled with.
func outer(w Workload, hash string) Workload {
	if name, ok := cutSuffix(w.Name, "-"+hash); ok && w.Kind == "ReplicaSet" && hash != "" {
		return Workload{"Deployment", name}
	}
	return w
}

func cutSuffix(s, suffix string) (string, bool) {
	if len(s) <= len(suffix) || s[len(s)-len(suffix):] != suffix {
		return s, false
	}
	return s[:len(s)-len(suffix)], true
}

// take returns the objects that are not on disk yet, and considers them so.
func (w *Writers) take() []Object {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []Object
	for uid := range w.changed {
		all = append(all, w.byUID[uid].Object)
	}
	clear(w.changed)
	return all
}

// all returns all objects, those that were of use last coming last.
func (w *Writers) all() []Object {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]*written, 0, len(w.byUID))
	for _, o := range w.byUID {
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b *written) int { return int(a.turn) - int(b.turn) })
	all := make([]Object, len(list))
	for i, o := range list {
		all[i] = o.Object
	}
	return all
}

// again has an object taken once more: it could not be written.
func (w *Writers) again(uid string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byUID[uid] != nil {
		w.changed[uid] = true
	}
}
