package conformance

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
)

const (
	// floodSize is how many reviews a flood has, and floodWidth how many at once.
	floodSize, floodWidth = 400, 50
	// idleConnections are opened at once by whoever does not use them.
	idleConnections = 200
	// stalledReviews wait for a registry at once.
	stalledReviews = 30
)

func availability() Class {
	return Class{
		ID: "B22", Title: "The gate's own availability is attacked",
		Beyond: "How a gate fares when its nodes, its network or its API server are short of anything is not seen from here. The loads are small enough for a gate that is in use.",
		Cases: []Case{
			{
				ID: "B22/flood", Title: "400 reviews, 50 at a time, good and bad", alone: true,
				Gain: "While the gate is busy it is skipped, or nothing can be deployed.",
				must: "every verdict is right and comes in time",
				try: func(ctx context.Context, t *trial) {
					t.flood(ctx, floodSize, floodWidth, func(i int) {
						if i%2 == 0 {
							t.ask(ctx, "a good image", t.podOf(t.good()), allowed())
						} else {
							t.ask(ctx, "a bad image", t.podOf(t.goodName()+"@"+t.strangeDigest()), answered())
						}
					})
				},
			},
			{
				ID: "B22/idle-connections", Title: "200 connections that are opened and not used", alone: true,
				Gain: "Connections that cost the attacker nothing use up the gate's.",
				must: "the good image is admitted and the bad one denied meanwhile",
				try: func(ctx context.Context, t *trial) {
					t.client.close() // what is open already could not be kept out
					var conns []net.Conn
					defer func() {
						for _, c := range conns {
							_ = c.Close()
						}
					}()
					for range idleConnections {
						conn, err := t.client.dial(ctx)
						if err != nil {
							t.note("connection %d: %v", len(conns)+1, err)
							break
						}
						conns = append(conns, conn)
					}
					t.ask(ctx, "meanwhile a good image", t.podOf(t.good()), allowed())
					t.ask(ctx, "meanwhile a bad image", t.podOf(t.bad()), answered())
				},
			},
			{
				ID: "B22/big-reviews", Title: "20 reviews of 2 MB at a time, and the good image", alone: true,
				Gain: "One tenant with big objects starves the others.",
				must: "the big ones are denied, and the good image is admitted meanwhile, in time",
				try: func(ctx context.Context, t *trial) {
					note := make([]byte, 2<<20)
					for i := range note {
						note[i] = 'x'
					}
					t.flood(ctx, 40, 20, func(i int) {
						if i%4 == 0 {
							t.ask(ctx, "a good image", t.podOf(t.good()), allowed())
							return
						}
						t.ask(ctx, "a big review", t.podOf(t.bad()).Annotation("note", string(note)), denied())
					})
				},
			},
			{
				ID: "B22/slow-registry", Title: "30 reviews wait for a registry that does not answer", needs: []need{needRegistry()}, alone: true,
				Gain: "One registry that stalls, which anyone can run, keeps all pods from being judged.",
				must: "the good image is admitted meanwhile, in time",
				try: func(ctx context.Context, t *trial) {
					stalled := make(chan struct{}, stalledReviews)
					repository := t.registry.serve("b22-slow", func(w http.ResponseWriter, req *http.Request) {
						select {
						case stalled <- struct{}{}:
						default:
						}
						stall(w, req)
					})
					done := make(chan struct{})
					go func() {
						defer close(done)
						t.flood(ctx, stalledReviews, stalledReviews, func(i int) {
							t.ask(ctx, "a stalled image", t.podOf(fmt.Sprintf("%s:%d", repository, i)), denied())
						})
					}()
					select { // until the gate waits, or has answered without asking
					case <-stalled:
					case <-done:
						t.note("the gate asked the registry nothing")
					}
					for range 5 {
						t.ask(ctx, "meanwhile a good image", t.podOf(t.good()), allowed())
					}
					<-done
				},
			},
		},
	}
}

// flood calls f n times, width at a time.
func (t *trial) flood(ctx context.Context, n, width int, f func(i int)) {
	var group sync.WaitGroup
	slots := make(chan struct{}, width)
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			f(i)
		})
	}
	group.Wait()
}
