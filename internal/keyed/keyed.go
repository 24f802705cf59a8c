// Package keyed is a lock for each of any number of things, by their names.
package keyed

import (
	"context"
	"sync"
)

// A Lock is a lock for each key. It holds no more keys than there are callers
// that have or wait for one. The zero Lock is ready to use.
type Lock struct {
	mu    sync.Mutex
	locks map[string]*shared
}

type shared struct {
	turn  chan struct{} // full while it is held
	users int           // guarded by the mutex of the Lock
}

// Lock waits for the lock of a key, and returns what gives it back. The error is
// that of the context.
func (k *Lock) Lock(ctx context.Context, key string) (unlock func(), err error) {
	l := k.join(key)
	select {
	case l.turn <- struct{}{}:
		return func() {
			<-l.turn
			k.leave(key, l)
		}, nil
	case <-ctx.Done():
		k.leave(key, l)
		return nil, context.Cause(ctx)
	}
}

func (k *Lock) join(key string) *shared {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.locks == nil {
		k.locks = map[string]*shared{}
	}
	l := k.locks[key]
	if l == nil {
		l = &shared{turn: make(chan struct{}, 1)}
		k.locks[key] = l
	}
	l.users++
	return l
}

func (k *Lock) leave(key string, l *shared) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(k.locks, key)
	}
}
