package attest

import (
	"context"
	"time"
)

// The methods of a [RunRecord].
const (
	MethodCheck  = "check"
	MethodVerify = "verify"
)

// A RunRecord is what came of a request, for the audit record. Requests that a
// transport refuses are recorded too.
type RunRecord struct {
	Method  string
	Request Request
	Started time.Time
	Took    time.Duration
	// Report is nil for a verification, and for a request that was refused.
	Report *Report
	// Response is that of a verification.
	Response *Response
	// Err is why the request was refused.
	Err error
}

// A Recorder keeps the record of requests. It is called at the same time from many
// goroutines, and must not block.
type Recorder interface {
	RecordRun(ctx context.Context, r RunRecord)
}

// Refused records a request that a transport has refused.
func (a *Authority) Refused(ctx context.Context, method string, req Request, err error) {
	a.record(ctx, RunRecord{Method: method, Request: req, Started: a.now(), Err: err})
}

func (a *Authority) record(ctx context.Context, r RunRecord) {
	if a.Recorder != nil {
		a.Recorder.RecordRun(ctx, r)
	}
}
