package metadata

import (
	"context"
	"time"
)

// A Call is a call of a method of another API over the same store while it runs.
// See [Do].
type Call struct{ c *call }

// Do runs fn as a call of a method of another API over the service's store, with
// what the service's own methods have: it is recorded and logged once, whatever
// becomes of it, and reaches the store after it has asked whether the caller may.
// The resource is what the caller says that the call is about, before anything is
// checked.
func Do[T any](ctx context.Context, s *Service, caller Caller, method, resource string, fn func(*Call) (T, error)) (T, error) {
	return do(ctx, s, caller, method, resource, func(c *call) (T, error) { return fn(&Call{c}) })
}

// Caller returns who calls.
func (c *Call) Caller() Caller { return c.c.caller }

// Need returns nil if the caller has the permission on the resource, by the
// [Authorizer] or by the access policy of the resource, or else the refusal.
func (c *Call) Need(ctx context.Context, permission Permission, resource string) error {
	return c.c.need(ctx, permission, resource)
}

// Reads says that the call changes nothing, whatever its permission is called: the log
// then has it at the level of what only reads.
func (c *Call) Reads() { c.c.reads = true }

// Store returns the store. To ask for it before any permission is a fault, and
// panics.
func (c *Call) Store() Store { return c.c.store() }

// Now returns the time by the service's clock.
func (c *Call) Now() time.Time { return c.c.s.now() }

// Project returns nil if the project of that id was created.
func (c *Call) Project(ctx context.Context, id string) error {
	found, err := c.Store().Project(ctx, id)
	if err == nil && !found {
		err = ProjectMissing(id)
	}
	return err
}

// A List is a list of which a page is asked for.
type List struct {
	// Method and Parent are what its page tokens are bound to.
	Method, Parent string
	// PageSize 0 means [DefaultPageSize]; below 0 or above [MaxPageSize] is refused.
	PageSize  int32
	PageToken string
}

// Page returns how many items the page has, and the position to begin after, ""
// for the first page.
func (c *Call) Page(l List) (size int, after string, err error) {
	if size, err = pageSize(l.PageSize); err != nil || l.PageToken == "" {
		return size, "", err
	}
	after, err = c.c.s.tokens.decode(l.listing(), l.PageToken)
	return size, after, err
}

// NextPageToken returns the token of the page that begins after a position.
func (c *Call) NextPageToken(l List, position string) string {
	return c.c.s.tokens.encode(l.listing(), position)
}

func (l List) listing() listing { return listing{l.Method, l.Parent, ""} }

// UntilUnchanged repeats an update of what has the name, for as long as it fails
// with Aborted because somebody else has changed that meanwhile. Those of one
// process wait in turn.
func UntilUnchanged[T any](ctx context.Context, c *Call, name string, update func() (T, error)) (T, error) {
	return untilUnchanged(ctx, c.c.s, name, update)
}
