package attest

import (
	"context"
	"sync"
)

// keyedLock is a lock for each key. It holds no more keys than there are callers
// that have or wait for one. The zero keyedLock is ready to use.
type keyedLock struct {
	mu    sync.Mutex
	locks map[string]*sharedLock
}

type sharedLock struct {
	turn  chan struct{} // full while it is held
	users int           // guarded by the mutex of the keyedLock
}

// lock waits for the lock of a key, and returns what gives it back. The error is
// that of the context.
func (k *keyedLock) lock(ctx context.Context, key string) (unlock func(), err error) {
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

func (k *keyedLock) join(key string) *sharedLock {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.locks == nil {
		k.locks = map[string]*sharedLock{}
	}
	l := k.locks[key]
	if l == nil {
		l = &sharedLock{turn: make(chan struct{}, 1)}
		k.locks[key] = l
	}
	l.users++
	return l
}

func (k *keyedLock) leave(key string, l *sharedLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(k.locks, key)
	}
}
