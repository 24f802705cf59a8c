// Package limit bounds how often each of many callers may do something.
package limit

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// maxBuckets bounds a limiter's memory. Who has not been seen for longest is
	// forgotten first, and begins anew with a full bucket.
	maxBuckets = 10_000
)

// A Limiter has a token bucket for each key.
type Limiter struct {
	rate  rate.Limit
	burst int
	now   func() time.Time

	mu      sync.Mutex
	buckets map[string]*list.Element // of *bucket
	recent  *list.List               // most recently used first
}

type bucket struct {
	key    string
	tokens *rate.Limiter
}

// New returns a Limiter that lets each key do something so often on the average, and
// burst times at once.
func New(perSecond float64, burst int, now func() time.Time) *Limiter {
	return &Limiter{rate: rate.Limit(perSecond), burst: burst, now: now, buckets: make(map[string]*list.Element), recent: list.New()}
}

// Take takes a token of the key's bucket. If there is none it takes nothing, and
// tells when there will be one.
func (l *Limiter) Take(key string) (wait time.Duration, ok bool) {
	now := l.now()
	reserved := l.bucket(key).ReserveN(now, 1)
	if wait = reserved.DelayFrom(now); wait == 0 {
		return 0, true
	}
	reserved.CancelAt(now)
	return wait, false
}

func (l *Limiter) bucket(key string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.buckets[key]; ok {
		l.recent.MoveToFront(e)
		return e.Value.(*bucket).tokens
	}
	if l.recent.Len() >= maxBuckets {
		oldest := l.recent.Back()
		delete(l.buckets, oldest.Value.(*bucket).key)
		l.recent.Remove(oldest)
	}
	b := &bucket{key: key, tokens: rate.NewLimiter(l.rate, l.burst)}
	l.buckets[key] = l.recent.PushFront(b)
	return b.tokens
}

// ipv6Site is how much of an IPv6 address tells one caller from another: whoever
// has an address has at least 64 bits of them.
const ipv6Site = 64

// AddressOf returns what of a remote address is counted: the IP, without the
// port. A unix socket has none, and all its callers are counted as one.
func AddressOf(remote string) string {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return "local"
	}
	addr := ap.Addr().Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	prefix, err := addr.Prefix(ipv6Site)
	if err != nil {
		return addr.String()
	}
	return prefix.String()
}

// PerSecond returns how often each key may on the average.
func (l *Limiter) PerSecond() float64 { return float64(l.rate) }
