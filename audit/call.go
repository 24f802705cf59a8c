package audit

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// A Call is one line of the log of calls to the metadata API. It has a folder of
// its own: there are far more of them than decisions, and they are kept for
// another time.
type Call struct {
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
	// Method is of the API, such as "CreateNote"; of a REST request that was
	// refused at the door it is its HTTP method and path.
	Method string `json:"method"`
	// Caller is empty for one who is anonymous or could not prove who he is, and
	// Origin is the address that the call came from.
	Caller      string                `json:"caller"`
	Origin      string                `json:"origin,omitempty"`
	Resource    string                `json:"resource,omitempty"`
	Permissions []metadata.Permission `json:"permissions,omitempty"`
	// Items is how many messages a batch had.
	Items int `json:"items,omitempty"`
	// Phase is "intent" for a call that is about to change policy, which is on disk before
	// it does, and "outcome" for what became of it, which has the same ID. An intent without
	// an outcome is of a process that was killed: the change may have been made or not. It is
	// "" for all other calls.
	Phase string `json:"phase,omitempty"`
	// Changes are what an intent is about.
	Changes []metadata.PolicyEdit `json:"changes,omitempty"`
	// Code is "OK", or the kind of Error, such as "PERMISSION_DENIED". An intent has none.
	Code  string `json:"code"`
	Error string `json:"error,omitempty"`
	// Took is in seconds.
	Took float64 `json:"took"`
	// Omitted is how many calls before this one were refused for coming too often
	// and have no line: somebody who is told to go away could fill the disk.
	Omitted int `json:"omitted,omitempty"`
	// Replica is the process that was called.
	Replica string `json:"replica,omitempty"`
	// Lost is set for a method "lost", which stands for records that are missing.
	Lost *Lost `json:"lost,omitempty"`
}

// The phases of calls that change policy.
const (
	PhaseIntent  = "intent"
	PhaseOutcome = "outcome"
)

// exhaustedPerSecond is how many calls that are refused for coming too often get
// a line of their own: enough to see who it is.
const exhaustedPerSecond = 10

// codeOK is what gRPC calls a call without an error.
const codeOK = "OK"

// Calls is a [metadata.Recorder] that appends each call to a log. What changes policy is
// on disk before it does.
type Calls struct {
	log *Log
	CallOptions

	exhausted *rate.Limiter
	omitted   atomic.Int64
}

// CallOptions configure [Calls].
type CallOptions struct {
	// AllowUnrecorded lets policy be changed while that cannot be recorded. It is logged.
	AllowUnrecorded bool
	Logger          *slog.Logger
}

// NewCalls returns a recorder to the log, which is for calls alone.
func NewCalls(log *Log, o CallOptions) *Calls {
	return &Calls{log: log, CallOptions: o, exhausted: rate.NewLimiter(exhaustedPerSecond, exhaustedPerSecond)}
}

// Record hands the call to the log without waiting for the disk. Calls that are
// refused for coming too often have a line each only up to some a second.
func (c *Calls) Record(ctx context.Context, r metadata.CallRecord) {
	if r.Err != nil && metadata.KindOf(r.Err) == metadata.ResourceExhausted && !c.exhausted.AllowN(r.Time, 1) {
		c.omitted.Add(1)
		return
	}
	call := lineOf(ctx, r)
	call.Code, call.Omitted = codeOK, int(c.omitted.Swap(0))
	if r.Err != nil {
		call.Code, call.Error = metadata.KindOf(r.Err).String(), short(r.Err.Error())
	}
	if call.ID = r.Intent; call.ID != "" {
		call.Phase = PhaseOutcome
	} else {
		call.ID = NewID()
	}
	_ = c.log.AppendCall(call) // what is lost is counted and told of by the log
}

// Intend returns once it is on disk that a call is about to change policy, with the id of
// that record: one for each try of a call. Its error says that it is not, and the change
// must not be made.
func (c *Calls) Intend(ctx context.Context, r metadata.CallRecord, edits []metadata.PolicyEdit) (id string, err error) {
	call := lineOf(ctx, r)
	if call.ID = r.Intent; call.ID == "" {
		call.ID = NewID()
	}
	call.Phase, call.Changes = PhaseIntent, edits
	err = c.log.await(ctx, func(done chan error) error { return c.log.appendCall(call, done) })
	if err == nil || !c.AllowUnrecorded {
		return call.ID, err
	}
	c.Logger.Error("policy is changed although that cannot be recorded before", "call", call.ID, "method", call.Method, "caller", call.Caller, "resource", call.Resource, "error", err)
	_ = c.log.AppendCall(call) // for when it can; what is lost is counted and told of by the log
	return call.ID, nil
}

func lineOf(ctx context.Context, r metadata.CallRecord) Call {
	return Call{
		Time: r.Time.UTC(), Method: short(r.Method), Caller: short(r.Caller.Name), Origin: metadata.OriginOf(ctx),
		Resource: short(r.Resource), Permissions: slices.Clone(r.Permissions), Items: r.Items, Took: r.Took.Seconds(),
	}
}

// short bounds what a caller put into his call.
func short(s string) string {
	if len(s) <= keptOfField {
		return s
	}
	return strings.ToValidUTF8(s[:keptOfField], "")
}

// AppendCall hands a call to the writer without waiting for the disk. It fails
// with [ErrFull] or [ErrClosed].
func (l *Log) AppendCall(c Call) error { return l.appendCall(c, nil) }

func (l *Log) appendCall(c Call, done chan error) error {
	if c.Replica == "" {
		c.Replica = l.Replica
	}
	line, err := json.Marshal(c)
	if err != nil {
		return encoding(err)
	}
	return l.enqueue(line, done)
}

// A CallFilter selects calls; a field that is empty selects all.
type CallFilter struct {
	Since, Until time.Time
	// Method, Caller and Code are compared without regard to case.
	Method, Caller, Code string
	// Resource selects calls about a resource whose name contains it.
	Resource string
}

func (f CallFilter) match(c Call) bool {
	if !within(c.Time, f.Since, f.Until) {
		return false
	}
	for _, field := range [...]struct{ want, got string }{{f.Method, c.Method}, {f.Caller, c.Caller}, {f.Code, c.Code}} {
		if field.want != "" && !strings.EqualFold(field.want, field.got) {
			return false
		}
	}
	return strings.Contains(c.Resource, f.Resource)
}

// QueryCalls is [Query] for a log of calls.
func QueryCalls(dir string, filter CallFilter, fn func(Call) error) error {
	return Source{Dir: dir}.Calls(filter, fn)
}
