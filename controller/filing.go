package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/gatehouse-dev/gatehouse/policy/objects"
)

// filing has in the store what is in the cluster.
type filing struct {
	*Controller
	mirror *mirror
	// has are the texts that the store has, nil before it was asked.
	has map[objects.Ref]string
	// applied is told when something was applied that gates are to decide by.
	applied chan struct{}

	mu sync.Mutex
	// fates are what became of the objects that are in the cluster now.
	fates map[objects.Ref]fate
	// round counts what was applied. All gates decide by what was applied up to the round
	// settled.
	round, settled uint64
	// gates is how many there are, and behind are those that are waited for.
	gates  int
	behind []string
	// away says why nothing can be filed.
	away string
}

// A fate is what became of one version of an object.
type fate struct {
	text string
	// round is that by which it was applied. Refused says why the store does not take it,
	// and held why it is not filed though it would.
	round         uint64
	refused, held string
}

func newFiling(c *Controller, m *mirror) *filing {
	return &filing{Controller: c, mirror: m, applied: make(chan struct{}, 1), fates: make(map[objects.Ref]fate)}
}

// file files what has changed in the cluster, and takes away what has gone.
func (f *filing) file(ctx context.Context) error {
	err := f.apply(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	said := f.away
	f.away = ""
	if err != nil && ctx.Err() == nil {
		if f.away = err.Error(); f.away != said {
			f.Logger.Error("objects of the cluster cannot be filed; trying again", "error", err)
		}
	}
	return err
}

func (f *filing) apply(ctx context.Context) error {
	if err := f.ask(ctx); err != nil {
		return err
	}
	there := f.mirror.snapshot()
	f.readings.update(there)
	f.forget(there)
	err := f.make(ctx, f.changes(there))
	f.note(there)
	return err
}

// ask asks the store what it has, once.
func (f *filing) ask(ctx context.Context) error {
	if f.has != nil {
		return nil
	}
	filed, err := f.Store.Filed(ctx)
	if err != nil {
		return fmt.Errorf("reading what is filed: %w", err)
	}
	has := make(map[objects.Ref]string, len(filed))
	for _, text := range filed {
		meta, stripped, err := objects.Strip(text)
		if err != nil {
			return fmt.Errorf("reading what is filed: %w", err)
		}
		has[meta.Ref] = string(stripped)
	}
	f.has = has
	return nil
}

// changes are what has to be changed in the store.
func (f *filing) changes(there map[objects.Ref]*object) []Change {
	var changes []Change
	for _, r := range slices.SortedFunc(maps.Keys(there), objects.Ref.Compare) {
		if f.has[r] == string(there[r].text) || f.fate(r).refused != "" {
			continue
		}
		why, goes := f.heldBack(there[r])
		switch {
		case why == "":
			changes = append(changes, Change{r, there[r].text})
			continue
		case goes:
			changes = append(changes, Change{Ref: r})
		}
		f.mu.Lock()
		f.fates[r] = fate{text: string(there[r].text), held: why}
		f.mu.Unlock()
	}
	for _, r := range f.mirror.gone(slices.SortedFunc(maps.Keys(f.has), objects.Ref.Compare)) {
		changes = append(changes, Change{Ref: r})
	}
	return changes
}

// heldBack says why an object that makes no sense is not filed, "" if it is, and
// whether one that was filed under its name goes. A gate denies what only such a policy
// could let in, and where there is another way to be safe a slip of the pen is not to take
// a namespace down: what was in force before stays, or the other policies hold without it.
func (f *filing) heldBack(o *object) (why string, goes bool) {
	now := f.readings[o.Ref]
	if now == nil || !now.broken() {
		return "", false
	}
	if had := f.has[o.Ref]; had != "" {
		meta, text, err := objects.Strip([]byte(had))
		if err == nil && meta.UID == o.UID && !read(&object{Meta: meta, text: text}).broken() {
			return "the version before it stays in force", false
		}
	}
	for r, other := range f.readings {
		if r.Namespace == o.Namespace && r != o.Ref && isKritisPolicy(r) && isKritisPolicy(o.Ref) && !other.broken() {
			return "the other policies of the namespace hold without it", f.has[o.Ref] != ""
		}
	}
	return "", false
}

// isKritisPolicy reports whether an object of Kritis says what may run.
func isKritisPolicy(r objects.Ref) bool {
	return r.Kind == objects.KindImageSecurityPolicy || r.Kind == objects.KindGenericAttestationPolicy
}

// make makes changes: all at once, so that policies and those whom they name come together.
// If one is refused, they are made one by one, so that it is the only one.
func (f *filing) make(ctx context.Context, changes []Change) error {
	if len(changes) == 0 {
		return nil
	}
	err := f.Store.Apply(ctx, changes)
	switch {
	case err == nil:
		f.took(changes)
		return nil
	case !errors.Is(err, ErrRefused):
		f.writes.WithLabelValues("store", "error").Add(float64(len(changes)))
		return fmt.Errorf("filing %d objects: %w", len(changes), err)
	case len(changes) > 1:
		for _, c := range changes {
			if err := f.make(ctx, []Change{c}); err != nil {
				return err
			}
		}
		return nil
	}
	c := changes[0]
	f.writes.WithLabelValues("store", "error").Inc()
	f.Logger.Error("an object of the cluster is not filed", "object", c.Ref, "error", err)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fates[c.Ref] = fate{text: string(c.Object), refused: err.Error()}
	return nil
}

// took takes in that changes were made.
func (f *filing) took(changes []Change) {
	f.writes.WithLabelValues("store", "ok").Add(float64(len(changes)))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.round++
	for _, c := range changes {
		if len(c.Object) == 0 {
			delete(f.has, c.Ref)
			continue
		}
		f.has[c.Ref] = string(c.Object)
	}
}

// note gives each object that is filed as it is the round by which that was so.
func (f *filing) note(there map[objects.Ref]*object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.round = max(f.round, 1) // of what was filed before this began
	for r, o := range there {
		if f.fates[r].text == "" && f.has[r] == string(o.text) {
			f.fates[r] = fate{text: string(o.text), round: f.round}
		}
	}
	if f.settled < f.round {
		select {
		case f.applied <- struct{}{}:
		default: // told already
		}
	}
}

// forget drops the fates of versions that have gone.
func (f *filing) forget(there map[objects.Ref]*object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.fates, func(r objects.Ref, old fate) bool { return there[r] == nil || string(there[r].text) != old.text })
}

func (f *filing) fate(r objects.Ref) fate {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fates[r]
}

// A standing is how far an object has come to gates.
type standing struct {
	filed, inForce bool
	// refused is set if the store does not take it, and held if it is not filed though it
	// would; why says what is missing.
	refused, held bool
	why           string
}

// standing says how far a version of an object has come.
func (f *filing) standing(o *object) standing {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := f.fates[o.Ref]
	switch {
	case known.text == string(o.text) && known.refused != "":
		return standing{refused: true, why: known.refused}
	case known.text == string(o.text) && known.held != "":
		return standing{held: true, why: known.held}
	case known.text != string(o.text) && f.away != "":
		return standing{why: f.away}
	case known.text != string(o.text):
		return standing{why: "it is being filed"}
	case known.round <= f.settled && f.gates == 0:
		return standing{filed: true, why: "no gate is connected to the metadata service"}
	case known.round <= f.settled:
		return standing{filed: true, inForce: true}
	case len(f.behind) > 0:
		return standing{filed: true, why: "not all gates have told that they decide by it: " + strings.Join(f.behind, ", ")}
	}
	return standing{filed: true, why: "gates are being told"}
}

// watchGates finds out when gates decide by what was applied.
func (f *filing) watchGates(ctx context.Context) {
	for sleep(ctx, f.Interval, f.applied) {
		for !f.lookAtGates(ctx) {
			if !sleep(ctx, again, nil) {
				return
			}
		}
	}
}

// lookAtGates reports whether all gates decide by what was applied.
func (f *filing) lookAtGates(ctx context.Context) bool {
	f.mu.Lock()
	round := f.round
	f.mu.Unlock()
	gates, behind, err := f.Store.Behind(ctx)
	if err != nil {
		behind = []string{"it cannot be found out which: " + err.Error()}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	before := fmt.Sprint(f.settled, f.gates > 0, f.behind)
	if f.behind = behind; err == nil {
		f.gates = gates
	}
	done := err == nil && len(behind) == 0
	if done {
		f.settled = max(f.settled, round)
	}
	if fmt.Sprint(f.settled, f.gates > 0, f.behind) != before {
		f.mirror.poke()
	}
	return done && gates > 0
}
