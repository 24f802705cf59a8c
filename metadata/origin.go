package metadata

import "context"

type originKey struct{}

// WithOrigin returns a context that says where a call comes from: the address of
// the other end. It is for the record alone, and decides nothing.
func WithOrigin(ctx context.Context, address string) context.Context {
	return context.WithValue(ctx, originKey{}, address)
}

// OriginOf returns where a call comes from, "" if that is not known.
func OriginOf(ctx context.Context) string {
	address, _ := ctx.Value(originKey{}).(string)
	return address
}
