package breakglass

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Mode is a way to be permitted to break glass.
type Mode string

// The modes.
const (
	// Open permits everybody who may create pods, as the systems do that this replaces.
	Open Mode = "open"
	// RBAC permits whom the API server lets do the verb "breakglass" on workloads of
	// gatehouse.dev in the namespace.
	RBAC Mode = "rbac"
	// ByGrant permits what a grant covers while it lasts.
	ByGrant Mode = "grant"
)

// What an API server is asked about: the verb on the resource, of which the name is the
// workload's.
const (
	Verb     = "breakglass"
	APIGroup = "gatehouse.dev"
	Resource = "workloads"
)

const (
	// accessTimeout bounds the question to the API server: it waits itself for the answer
	// to the review, for 10 s as it comes.
	accessTimeout = 3 * time.Second
	// elsewhereTimeout bounds the question who wrote a workload, which another gate may be
	// about to tell.
	elsewhereTimeout = 1500 * time.Millisecond
	// accessShare is how much of the time that is left may be used to ask: the record has
	// to be written yet.
	accessShare = 2
	// accessKept is how long an answer is used again, so that a storm asks once.
	accessKept = 10 * time.Second
	maxAnswers = 4096
)

// Access asks who may do what; an API server does.
type Access interface {
	// MayBreakGlass asks whether the user may do the verb in the namespace, to the workload
	// of that name. Why is what the API server said about it.
	MayBreakGlass(ctx context.Context, who User, namespace, workload string) (may bool, why string, err error)
}

// A WriterSource knows what other gates of the cluster have seen written.
type WriterSource interface {
	// Writer returns who wrote an object with a marker and these images; zero if nobody
	// knows. It returns before ctx ends.
	Writer(ctx context.Context, uid string, images []string) (Object, error)
}

// Options configure a [Warden].
type Options struct {
	// Modes permit one after the other; one that permits is enough. None permits nothing.
	Modes []Mode
	// Writers tell the person behind a controller.
	Writers *Writers
	// Elsewhere is asked by RBAC when Writers do not know; nil: nobody is.
	Elsewhere WriterSource
	// Access is asked by RBAC, and AllowUnasked permits when it cannot be.
	Access       Access
	AllowUnasked bool
	// Grants are asked by ByGrant.
	Grants *Grants
	// RequireReason refuses who does not say why.
	RequireReason bool
	Now           func() time.Time
	Logger        *slog.Logger
}

// A Warden says who may break glass. It is safe for concurrent use.
type Warden struct {
	Options

	mu      sync.Mutex
	answers map[question]verdict
	asking  map[question]*asked
}

type question struct{ who, namespace, workload string }

type verdict struct {
	may  bool
	why  string
	till time.Time
}

// asked is a question that is under way.
type asked struct {
	done chan struct{}
	verdict
	err error
}

// NewWarden returns a Warden.
func NewWarden(o Options) (*Warden, error) {
	var errs []error
	if o.Writers == nil || o.Now == nil || o.Logger == nil {
		errs = append(errs, errors.New("Writers, Now and Logger are needed"))
	}
	for _, m := range o.Modes {
		switch {
		case m == RBAC && o.Access == nil:
			errs = append(errs, errors.New("rbac needs an API server to ask"))
		case m == ByGrant && o.Grants == nil:
			errs = append(errs, errors.New("grant needs grants"))
		case m != Open && m != RBAC && m != ByGrant:
			errs = append(errs, fmt.Errorf("mode %q: want %q, %q or %q", m, Open, RBAC, ByGrant))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("breakglass: %w", err)
	}
	return &Warden{Options: o, answers: map[question]verdict{}, asking: map[question]*asked{}}, nil
}

// Identify returns the person behind a request, and the workload that it is about. known
// is false if nobody is.
func (w *Warden) Identify(r *Request) (who User, what Workload, known bool) {
	return w.Writers.Behind(r)
}

// KeepsWriters reports whether it matters who wrote an object, so that it has to be on
// disk before the object is let in.
func (w *Warden) KeepsWriters() bool { return slices.Contains(w.Modes, RBAC) }

// Wrote is told of an object with a marker that was let in and recorded.
func (w *Warden) Wrote(o Object) { w.Writers.Put(o) }

// Rule says whether glass may be broken for a request that policy does not allow.
func (w *Warden) Rule(ctx context.Context, r *Request) Ruling {
	if w.RequireReason && strings.TrimSpace(r.Reason) == "" {
		return Ruling{Refused: "no reason is given; add the annotation gatehouse.dev/break-glass-justification beside the marker"}
	}
	var refused []string
	for _, m := range w.Modes {
		var got Ruling
		switch m {
		case Open:
			got = Ruling{Allowed: true, Permit: string(Open)}
		case ByGrant:
			got = w.byGrant(r)
		case RBAC:
			got = w.byRBAC(ctx, r)
		}
		if got.Allowed {
			return got
		}
		refused = append(refused, got.Refused)
	}
	return Ruling{Refused: cmp.Or(strings.Join(refused, "; "), "nobody may")}
}

func (w *Warden) byGrant(r *Request) Ruling {
	_, what, _ := w.Identify(r)
	g, why := w.Grants.Covering(Scope{Cluster: r.Cluster, Namespace: r.Namespace, Workload: what, Images: r.Denied}, w.Now())
	if g == nil {
		return Ruling{Refused: why}
	}
	return Ruling{Allowed: true, Permit: "grant " + g.ID + " of " + strings.Join(g.Signers, " and ")}
}

func (w *Warden) byRBAC(ctx context.Context, r *Request) Ruling {
	who, what, known := w.find(ctx, r)
	switch {
	case r.User.Name == "":
		return Ruling{Refused: "the API server's ImagePolicyWebhook plugin does not say who asks, and so nobody can be permitted by RBAC"}
	case !known:
		return Ruling{Refused: fmt.Sprintf("%q asks, and who wrote the images and the marker of %s is not known; write its template once more, for example with another justification", r.User.Name, what)}
	}
	v, err := w.ask(ctx, who, r.Namespace, what.Name)
	switch {
	case err != nil && w.AllowUnasked:
		w.Logger.Error("break-glass is permitted unasked: the API server cannot be asked", "user", who.Name, "namespace", r.Namespace, "error", err)
		return Ruling{Allowed: true, Permit: "rbac (not asked)"}
	case err != nil:
		return Ruling{Refused: fmt.Sprintf("whether %q may could not be asked: %v", who.Name, err)}
	case !v.may:
		why := ""
		if v.why != "" {
			why = " (" + cut(v.why, 300) + ")"
		}
		return Ruling{Refused: fmt.Sprintf("%q may not do the verb %s on %s.%s in namespace %q%s", who.Name, Verb, Resource, APIGroup, r.Namespace, why)}
	}
	return Ruling{Allowed: true, Permit: string(RBAC)}
}

// find is Identify that asks what other gates have seen, too: the template may have been
// written through one of them. What it is told it keeps.
func (w *Warden) find(ctx context.Context, r *Request) (who User, what Workload, known bool) {
	ctx, cancel := context.WithTimeout(ctx, patience(ctx, elsewhereTimeout))
	defer cancel()
	for range maxHops {
		who, what, missing := w.Writers.behind(r)
		if missing == nil || missing.UID == "" || w.Elsewhere == nil {
			return who, what, missing == nil
		}
		o, err := w.Elsewhere.Writer(ctx, missing.UID, r.Denied)
		if err != nil {
			w.Logger.Warn("who wrote a workload cannot be asked of the service", "workload", missing.String(), "namespace", r.Namespace, "error", err)
		}
		if o.UID != missing.UID || !o.Wrote(r.Denied) {
			return who, what, false
		}
		w.Writers.Put(o)
	}
	return w.Identify(r)
}

// patience is how long something may be waited for: the record has to be written yet.
func patience(ctx context.Context, most time.Duration) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return min(most, time.Until(end)/accessShare)
	}
	return most
}

// ask asks the API server, or returns what it said not long ago. Who asks the same at the
// same time gets one answer. What could not be asked is not kept.
func (w *Warden) ask(ctx context.Context, who User, namespace, workload string) (verdict, error) {
	q := question{fmt.Sprintf("%q %q %q %q", who.Name, who.UID, who.Groups, who.Extra), namespace, workload}
	w.mu.Lock()
	now := w.Now()
	if v, ok := w.answers[q]; ok && now.Before(v.till) {
		w.mu.Unlock()
		return v, nil
	}
	a, found := w.asking[q]
	if !found {
		a = &asked{done: make(chan struct{})}
		w.asking[q] = a
		// It goes on when this one's time is over: others wait for it too.
		go w.put(context.WithoutCancel(ctx), a, q, who)
	}
	w.mu.Unlock()
	late := time.NewTimer(patience(ctx, accessTimeout))
	defer late.Stop()
	select {
	case <-a.done:
		return a.verdict, a.err
	case <-ctx.Done():
		return verdict{}, ctx.Err()
	case <-late.C:
		return verdict{}, errors.New("the API server does not answer in time")
	}
}

// put puts a question to the API server.
func (w *Warden) put(ctx context.Context, a *asked, q question, who User) {
	ctx, cancel := context.WithTimeout(ctx, accessTimeout)
	defer cancel()
	a.may, a.why, a.err = w.Access.MayBreakGlass(ctx, who, q.namespace, q.workload)
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.asking, q)
	if a.err == nil {
		if len(w.answers) >= maxAnswers {
			clear(w.answers)
		}
		a.till = w.Now().Add(accessKept)
		w.answers[q] = a.verdict
	}
	close(a.done)
}
