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
	// Code is "OK", or the kind of Error, such as "PERMISSION_DENIED".
	Code  string `json:"code"`
	Error string `json:"error,omitempty"`
	// Took is in seconds.
	Took float64 `json:"took"`
	// Omitted is how many calls before this one were refused for coming too often
	// and have no line: somebody who is told to go away could fill the disk.
	Omitted int `json:"omitted,omitempty"`
}

// exhaustedPerSecond is how many calls that are refused for coming too often get
// a line of their own: enough to see who it is.
const exhaustedPerSecond = 10

// codeOK is what gRPC calls a call without an error.
const codeOK = "OK"

// Calls is a [metadata.Recorder] that appends each call to a log.
type Calls struct {
	log    *Log
	logger *slog.Logger
	lost   func()
	behind atomic.Bool // said already

	exhausted *rate.Limiter
	omitted   atomic.Int64
}

// NewCalls returns a recorder to the log, which is for calls alone. It calls lost
// for each call that could not be recorded because the disk did not keep up.
func NewCalls(log *Log, logger *slog.Logger, lost func()) *Calls {
	return &Calls{log: log, logger: logger, lost: lost, exhausted: rate.NewLimiter(exhaustedPerSecond, exhaustedPerSecond)}
}

// Record hands the call to the log without waiting for the disk. Calls that are
// refused for coming too often have a line each only up to some a second.
func (c *Calls) Record(ctx context.Context, r metadata.CallRecord) {
	if r.Err != nil && metadata.KindOf(r.Err) == metadata.ResourceExhausted && !c.exhausted.AllowN(r.Time, 1) {
		c.omitted.Add(1)
		return
	}
	call := Call{
		ID: NewID(), Time: r.Time.UTC(), Method: short(r.Method), Caller: short(r.Caller.Name), Origin: metadata.OriginOf(ctx),
		Resource: short(r.Resource), Permissions: slices.Clone(r.Permissions), Items: r.Items, Code: codeOK, Took: r.Took.Seconds(),
		Omitted: int(c.omitted.Swap(0)),
	}
	if r.Err != nil {
		call.Code, call.Error = metadata.KindOf(r.Err).String(), short(r.Err.Error())
	}
	if err := c.log.AppendCall(call); err != nil {
		c.lost()
		if !c.behind.Swap(true) {
			c.logger.Error("calls are not recorded until the audit log can be written again", "call", call.ID, "error", err)
		}
		return
	}
	c.behind.Store(false)
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
func (l *Log) AppendCall(c Call) error {
	line, err := json.Marshal(c)
	if err != nil {
		return encoding(err)
	}
	return l.enqueue(line, nil)
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
	if (!f.Since.IsZero() && c.Time.Before(f.Since)) || (!f.Until.IsZero() && !c.Time.Before(f.Until)) {
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
	return query(dir, filter.match, fn)
}
