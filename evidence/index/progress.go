package index

import (
	"context"
	"sync"
)

// progress is how far the feed has been applied, and a way to wait for more.
type progress struct {
	mu      sync.Mutex
	at      uint64
	advance chan struct{} // closed and replaced when at grows
}

func (p *progress) init(at uint64) { p.at, p.advance = at, make(chan struct{}) }

func (p *progress) position() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at
}

// reach tells that everything up to at has been applied.
func (p *progress) reach(at uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at > p.at {
		p.at = at
		close(p.advance)
		p.advance = make(chan struct{})
	}
}

// restart tells that nothing has been applied any more.
func (p *progress) restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = 0
}

// waitFor returns when everything up to at has been applied, or with ctx's error.
func (p *progress) waitFor(ctx context.Context, at uint64) error {
	for {
		p.mu.Lock()
		reached, advance := p.at >= at, p.advance
		p.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-advance:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
