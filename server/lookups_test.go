package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

func digestOf(i int) image.Digest { return image.DigestOf([]byte(fmt.Sprint(i))) }

// asked is a service that answers when it is let.
type asked struct {
	mu     sync.Mutex
	rounds [][]image.Digest
	begun  chan struct{} // a value for each round that begins
	let    chan error    // each lets one answer
}

func newAsked() *asked { return &asked{begun: make(chan struct{}, 1000), let: make(chan error)} }

func (a *asked) ask(ctx context.Context, digests []image.Digest) (map[image.Digest]evidence.Image, error) {
	a.mu.Lock()
	a.rounds = append(a.rounds, digests)
	a.mu.Unlock()
	a.begun <- struct{}{}
	select {
	case err := <-a.let:
		if err != nil {
			return nil, err
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	images := make(map[image.Digest]evidence.Image)
	for _, d := range digests {
		images[d] = evidence.Image{State: evidence.Known}
	}
	return images, nil
}

// TestADigestIsAskedForOnceForAllWhoWait, and who comes later is not given the answer to
// a question of before him.
func TestADigestIsAskedForOnceForAllWhoWait(t *testing.T) {
	t.Parallel()
	a := newAsked()
	l := &lookups{ask: a.ask}
	var wg sync.WaitGroup
	get := func(digests ...image.Digest) {
		wg.Go(func() {
			images, err := l.of(t.Context(), digests)
			if err != nil || len(images) != len(digests) {
				t.Errorf("got %d of %d, error %v", len(images), len(digests), err)
			}
		})
	}
	// All that may be under way is.
	for i := range maxRunning {
		get(digestOf(i))
		<-a.begun
	}
	// What comes now waits, all in one round, though the first is being asked for.
	var joined []*round
	for range 50 {
		rounds, err := l.join(t.Context(), []image.Digest{digestOf(0), digestOf(100), digestOf(0), digestOf(101)})
		if err != nil || len(rounds) != 1 {
			t.Fatal(rounds, err)
		}
		joined = append(joined, rounds[0])
	}
	for range maxRunning + 1 {
		a.let <- nil
	}
	wg.Wait()
	for _, r := range joined {
		if <-r.done; r != joined[0] || len(r.images) != 3 {
			t.Errorf("round %p, the first was %p: %v", r, joined[0], r.images)
		}
	}
	if n := len(a.rounds); n != maxRunning+1 {
		t.Errorf("%d questions, want %d", n, maxRunning+1)
	}
}

func TestAFailureIsToldAndNotKept(t *testing.T) {
	t.Parallel()
	a := newAsked()
	l := &lookups{ask: a.ask}
	away := metadata.Errorf(metadata.Unavailable, "away")
	go func() { a.let <- away; a.let <- nil }()
	if _, err := l.of(t.Context(), []image.Digest{digestOf(1)}); !errors.Is(err, away) {
		t.Errorf("got %v", err)
	}
	if images, err := l.of(t.Context(), []image.Digest{digestOf(1)}); err != nil || images[digestOf(1)].State != evidence.Known {
		t.Errorf("the next time: %v, %v", images, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.of(ctx, []image.Digest{digestOf(1)}); metadata.KindOf(err) != metadata.Unavailable && metadata.KindOf(err) != metadata.DeadlineExceeded {
		t.Errorf("without an answer in time: %v", err)
	}
}

func TestManyDigestsAreAskedForInRounds(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	most := 0
	l := &lookups{ask: func(_ context.Context, digests []image.Digest) (map[image.Digest]evidence.Image, error) {
		mu.Lock()
		defer mu.Unlock()
		most = max(most, len(digests))
		images := make(map[image.Digest]evidence.Image)
		for _, d := range digests {
			images[d] = evidence.Image{State: evidence.Known}
		}
		return images, nil
	}}
	var digests []image.Digest
	for i := range 3*maxRound + 1 {
		digests = append(digests, digestOf(i))
	}
	images, err := l.of(t.Context(), append(digests, digests...))
	if err != nil || len(images) != len(digests) || most > maxRound {
		t.Errorf("%d images, at most %d at once, error %v", len(images), most, err)
	}
}

// TestWhatIsMissing: only what may be there by now is asked for, and what is known to be
// wrong does not become unknown.
func TestWhatIsMissing(t *testing.T) {
	t.Parallel()
	known := evidence.Facts{Images: map[image.Digest]evidence.Image{digestOf(1): {State: evidence.Known}, digestOf(2): {State: evidence.Unavailable}}}
	of := func(d image.Digest, verdict decide.Verdict, codes ...decide.Code) decide.ImageDecision {
		i := decide.ImageDecision{Digest: d, Verdict: verdict}
		for _, c := range codes {
			r := decide.Reason{Code: c, Verdict: decide.DENY}
			if c == decide.CodeAttested {
				r.Verdict = decide.ALLOW
			}
			i.Reasons = append(i.Reasons, r)
		}
		return i
	}
	one := digestOf(1)
	for name, test := range map[string]struct {
		images         []decide.ImageDecision
		asked, unknown bool
	}{
		"allowed":                    {[]decide.ImageDecision{of(one, decide.ALLOW, decide.CodeAttested)}, false, false},
		"not attested":               {[]decide.ImageDecision{of(one, decide.DENY, decide.CodeAttested, decide.CodeNotAttested)}, true, true},
		"always denied":              {[]decide.ImageDecision{of(one, decide.DENY, decide.CodeAlwaysDeny)}, false, false},
		"vulnerable":                 {[]decide.ImageDecision{of(one, decide.DENY, decide.CodeVulnerable)}, false, false},
		"not attested, vulnerable":   {[]decide.ImageDecision{of(one, decide.DENY, decide.CodeNotAttested, decide.CodeVulnerable)}, true, false},
		"the same in two containers": {[]decide.ImageDecision{of(one, decide.DENY, decide.CodeNotAttested), of(one, decide.DENY, decide.CodeStale)}, true, false},
		"not in a trusted place":     {[]decide.ImageDecision{of(one, decide.DENY, decide.CodeNotAttested, decide.CodeNotTrusted)}, true, true},
		"unavailable already":        {[]decide.ImageDecision{of(digestOf(2), decide.INDETERMINATE, decide.CodeEvidenceUnavailable)}, false, false},
		"without a digest":           {[]decide.ImageDecision{of(image.Digest{}, decide.DENY, decide.CodeNoDigest)}, false, false},
	} {
		digests, unknown := missing(&decide.Decision{Images: test.images}, known)
		if asked := len(digests) == 1; len(digests) > 1 || asked != test.asked || unknown[one] != test.unknown {
			t.Errorf("%s: asked for %v, unknown %v", name, digests, unknown)
		}
	}
}
