package metadata

import (
	"context"
	"sync/atomic"
)

// An origin is what is known of a request beside its caller.
type origin struct {
	address  string
	recorded atomic.Bool
}

type originKey struct{}

// WithOrigin returns a context for one request, which says where it comes from: the
// address of the other end. It is for the record alone, and decides nothing.
func WithOrigin(ctx context.Context, address string) context.Context {
	return context.WithValue(ctx, originKey{}, &origin{address: address})
}

// OriginOf returns where a request comes from, "" if that is not known.
func OriginOf(ctx context.Context) string {
	if o, ok := ctx.Value(originKey{}).(*origin); ok {
		return o.address
	}
	return ""
}

// Recorded reports whether the request of the context has become a call, or was
// given to [Service.Refused]. A transport that answers one that has not with an
// error calls that.
func Recorded(ctx context.Context) bool {
	o, ok := ctx.Value(originKey{}).(*origin)
	return ok && o.recorded.Load()
}

func markRecorded(ctx context.Context) {
	if o, ok := ctx.Value(originKey{}).(*origin); ok {
		o.recorded.Store(true)
	}
}
