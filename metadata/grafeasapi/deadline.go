package grafeasapi

import (
	"context"
	"errors"
	"net/http"
	"time"
)

type controllerKey struct{}

func withController(ctx context.Context, w http.ResponseWriter) context.Context {
	return context.WithValue(ctx, controllerKey{}, http.NewResponseController(w))
}

// SetWriteDeadline has the stream of an [Extension]'s method hung up on when it is not
// extended before that time. Streams have no deadline otherwise, and one whose client
// takes nothing would stay for ever. It does nothing where that is not supported.
func SetWriteDeadline(ctx context.Context, t time.Time) error {
	c, ok := ctx.Value(controllerKey{}).(*http.ResponseController)
	if !ok {
		return nil
	}
	if err := c.SetWriteDeadline(t); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}
