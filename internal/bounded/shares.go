package bounded

import (
	"net"
	"net/netip"
	"sync"
)

// Shares divide a capacity among sources, so that none starves the others: a
// source may hold as much as is left free then, and the first thing it asks for. One
// alone gets half of the capacity, n greedy ones get an (n+1)th each, and as much is
// left for who comes next. They are safe for concurrent use.
type Shares struct {
	capacity int64

	mu   sync.Mutex
	held int64
	by   map[string]int64 // only of sources that hold something
}

// NewShares returns Shares of a capacity.
func NewShares(capacity int64) *Shares {
	return &Shares{capacity: capacity, by: make(map[string]int64)}
}

// A Refusal says who took too much.
type Refusal int

// The refusals: none; the source has its share; all sources together hold nearly
// everything.
const (
	Granted Refusal = iota
	OverShare
	Exhausted
)

// Acquire takes n for a source, which must be given back by [Shares.Release] if,
// and only if, it was Granted.
func (s *Shares) Acquire(source string, n int64) Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	free, held := s.capacity-s.held, s.by[source]
	switch {
	case n > free:
		return Exhausted
	case held == 0 || held+n <= free-n:
		s.held += n
		s.by[source] = held + n
		return Granted
	}
	return OverShare
}

// Release gives back what was granted.
func (s *Shares) Release(source string, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held -= n
	if s.by[source] -= n; s.by[source] <= 0 {
		delete(s.by, source)
	}
}

// Held returns how much of the capacity is taken.
func (s *Shares) Held() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// Source returns who is at the other end of a connection, given its address: the IP
// address, of IPv6 the /64 network, since one machine has as many of those addresses
// as it likes.
func Source(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	network, err := addr.Prefix(64)
	if err != nil {
		return addr.String()
	}
	return network.String()
}
