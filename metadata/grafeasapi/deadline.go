package grafeasapi

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

type answerKey struct{}

// An openAnswer is the answer to a request until its handler has returned, which may be
// before the method has: then nobody may touch it any more.
type openAnswer struct {
	mu      sync.Mutex
	control *http.ResponseController // nil afterwards
}

// withAnswer returns a context for a request, and what is called when its handler
// returns.
func withAnswer(ctx context.Context, w http.ResponseWriter) (of context.Context, done func()) {
	a := &openAnswer{control: http.NewResponseController(w)}
	return context.WithValue(ctx, answerKey{}, a), func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.control = nil
	}
}

// SetWriteDeadline has the stream of an [Extension]'s method hung up on when it is not
// extended before that time. Streams have no deadline otherwise, and one whose client
// takes nothing would stay for ever. It does nothing where that is not supported.
func SetWriteDeadline(ctx context.Context, t time.Time) error {
	a, ok := ctx.Value(answerKey{}).(*openAnswer)
	if !ok {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.control == nil {
		return context.Canceled
	}
	if err := a.control.SetWriteDeadline(t); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}
