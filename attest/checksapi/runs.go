package checksapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-dev/gatehouse/attest"
)

const (
	// KeepFor is how long a run is known after it has ended.
	KeepFor = time.Hour
	// MaxRuns is how many runs that have ended are known.
	MaxRuns = 1000
	// keepAlive is how often a stream says something, so that nothing on the way takes
	// it for dead.
	keepAlive = 15 * time.Second
)

// A runState is how far a run is.
type runState string

const (
	stateRunning runState = "RUNNING"
	stateDone    runState = "DONE"
	// stateFailed is that of a run that could not be begun: its configuration changed.
	stateFailed runState = "FAILED"
)

// runView is a run as it is told.
type runView struct {
	ID      string         `json:"id"`
	State   runState       `json:"state"`
	Created time.Time      `json:"createTime"`
	Report  *attest.Report `json:"report,omitempty"`
	Error   string         `json:"error,omitempty"`
}

// run is one run, and what has happened in it.
type run struct {
	id      string
	caller  attest.Caller
	created time.Time
	now     func() time.Time

	mu     sync.Mutex
	events []attest.Event
	more   chan struct{} // closed when there is another event, or the end
	ended  time.Time
	report *attest.Report
	err    error
}

// tell adds an event.
func (r *run) tell(e attest.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	close(r.more)
	r.more = make(chan struct{})
}

func (r *run) finish(report *attest.Report, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended, r.report, r.err = r.now(), report, err
	close(r.more)
	r.more = make(chan struct{})
}

func (r *run) view() runView {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := runView{ID: r.id, State: stateRunning, Created: r.created, Report: r.report}
	switch {
	case r.err != nil:
		v.State, v.Error = stateFailed, r.err.Error()
	case r.report != nil:
		v.State = stateDone
	}
	return v
}

// after returns the events after the first n, whether that is all, and what is closed
// when there are more.
func (r *run) after(n int) (events []attest.Event, done bool, more <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.events[min(n, len(r.events)):], !r.ended.IsZero(), r.more
}

// wait returns when the run has ended, or with the error of ctx.
func (r *run) wait(ctx context.Context) error {
	for {
		_, done, more := r.after(0)
		if done {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// runs are those that are known.
type runs struct {
	now     func() time.Time
	closing context.Context
	close   context.CancelFunc

	mu    sync.Mutex
	byID  map[string]*run
	byKey map[runKey]*keyed
	order []*run // the oldest first
}

// runKey is an idempotency key of a caller.
type runKey struct {
	caller attest.Caller
	key    string
}

type keyed struct {
	request checkRequest
	run     *run
}

func newRuns(now func() time.Time) *runs {
	closing, cancel := context.WithCancel(context.Background())
	return &runs{now: now, closing: closing, close: cancel, byID: map[string]*run{}, byKey: map[runKey]*keyed{}}
}

// start returns the run of an idempotency key, or begins one.
func (r *runs) start(caller attest.Caller, key string, request checkRequest, begin func(*run) error) (one *run, existed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget()
	at := keyOf(caller, key)
	if k := r.byKey[at]; k != nil && key != "" {
		if k.request != request {
			return nil, false, &problem{Type: problemReused, Status: http.StatusUnprocessableEntity, Detail: "this Idempotency-Key was sent with another request; use a new one for each"}
		}
		return k.run, true, nil
	}
	id, err := uuid.NewRandom() // cannot be guessed
	if err != nil {
		return nil, false, fmt.Errorf("naming a run: %w", err)
	}
	one = &run{id: id.String(), caller: caller, created: r.now().UTC(), now: r.now, more: make(chan struct{})}
	if err := begin(one); err != nil {
		return nil, false, err
	}
	r.byID[one.id] = one
	r.order = append(r.order, one)
	if key != "" {
		r.byKey[at] = &keyed{request, one}
	}
	return one, false, nil
}

func keyOf(caller attest.Caller, key string) runKey {
	if caller.Name != "" {
		caller.Address = "" // pipelines run on one machine today, and on another tomorrow
	}
	return runKey{caller, key}
}

// forget forgets the runs that ended too long ago, and the oldest when there are too
// many.
func (r *runs) forget() {
	kept, tooMany := r.order[:0], len(r.order)-MaxRuns+1 // and room for one
	for i, one := range r.order {
		one.mu.Lock()
		ended := one.ended
		one.mu.Unlock()
		if !ended.IsZero() && (i < tooMany || r.now().Sub(ended) >= KeepFor) {
			delete(r.byID, one.id)
			for at, k := range r.byKey {
				if k.run == one {
					delete(r.byKey, at)
				}
			}
			continue
		}
		kept = append(kept, one)
	}
	clear(r.order[len(kept):])
	r.order = kept
}

func (r *runs) find(id string, caller attest.Caller) *run {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget()
	one := r.byID[id]
	if one == nil || !sameCaller(one.caller, caller) {
		return nil
	}
	return one
}

// stream writes the events of a run after the first n, until it has ended.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, one *run, n int) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(w)
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	for {
		events, done, more := one.after(n)
		for _, e := range events {
			n++
			if !h.event(w, n, string(e.Type), e) {
				return
			}
		}
		if done {
			h.event(w, n+1, string(attest.EventDone), one.view())
			return
		}
		if err := out.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return
		}
		select {
		case <-more:
		case <-alive.C:
			if _, err := fmt.Fprint(w, ": still at it\n\n"); err != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

// event writes an event, and reports whether somebody may read it.
func (h *Handler) event(w http.ResponseWriter, id int, kind string, content any) bool {
	text, err := json.Marshal(content)
	if err != nil {
		h.Logger.Error("encoding an event", "error", err)
		return false
	}
	_, err = fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", id, kind, text)
	return err == nil
}
