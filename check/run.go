package check

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

const (
	// defaultParallel is how many checks run at once. They mostly wait.
	defaultParallel = 16
	// defaultGrace is how long a check may take to return once its time is up,
	// so that it can say itself what it was waiting for.
	defaultGrace = time.Second
)

// An Outcome is what came of one check.
type Outcome struct {
	Check   string
	Result  Result
	Err     error // the check could not tell; Result did not pass
	Elapsed time.Duration
}

// A Runner runs checks. The zero Runner is ready to use.
type Runner struct {
	// Parallel is how many checks run at once; 0 means 16.
	Parallel int
	// Grace is how long a check may overrun the deadline before it is left
	// behind; 0 means a second.
	Grace time.Duration
	// Logger is told of checks that panic; nil means no one is.
	Logger *slog.Logger
}

// Run runs the checks concurrently and returns one outcome for each, in the
// order given. A check that panics, or does not return when ctx is done, has an
// error for an outcome; the others are not affected.
func (r Runner) Run(ctx context.Context, in *Input, checks []Check) []Outcome {
	parallel := r.Parallel
	if parallel <= 0 {
		parallel = defaultParallel
	}
	turns := make(chan struct{}, parallel)
	results := make([]chan Outcome, len(checks))
	for i, c := range checks {
		// One slot, so that a check that was left behind can end.
		results[i] = make(chan Outcome, 1)
		go func() {
			select {
			case turns <- struct{}{}:
				defer func() { <-turns }()
				results[i] <- r.run(ctx, in, c)
			case <-ctx.Done():
				results[i] <- Outcome{Check: c.Name, Err: fmt.Errorf("check %q did not get to run: %w", c.Name, context.Cause(ctx))}
			}
		}()
	}
	return r.collect(ctx, checks, results)
}

// collect waits for the outcomes, and past the deadline no longer than Grace.
func (r Runner) collect(ctx context.Context, checks []Check, results []chan Outcome) []Outcome {
	grace := r.Grace
	if grace <= 0 {
		grace = defaultGrace
	}
	overdue, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	unwatch := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			stop()
		case <-overdue.Done():
		}
	})
	defer unwatch()
	outcomes := make([]Outcome, len(checks))
	for i := range checks {
		select {
		case outcomes[i] = <-results[i]:
		case <-overdue.Done():
			select {
			case outcomes[i] = <-results[i]:
			default:
				outcomes[i] = Outcome{Check: checks[i].Name, Err: fmt.Errorf("check %q did not finish: %w", checks[i].Name, context.Cause(ctx))}
			}
		}
	}
	return outcomes
}

func (r Runner) run(ctx context.Context, in *Input, c Check) (o Outcome) {
	start := time.Now()
	defer func() {
		if p := recover(); p != nil {
			if r.Logger != nil {
				r.Logger.ErrorContext(ctx, "check panicked", "check", c.Name, "image", in.Image.String(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			}
			o = Outcome{Check: c.Name, Err: fmt.Errorf("check %q failed inside; this is a bug in Gatehouse, and its log says more", c.Name)}
		}
		o.Elapsed = time.Since(start)
	}()
	if err := in.Image.RequireDigest(); err != nil {
		return Outcome{Check: c.Name, Err: err}
	}
	result, err := c.Run(ctx, in)
	if err != nil {
		result = Result{}
	}
	return Outcome{Check: c.Name, Result: result, Err: err}
}
