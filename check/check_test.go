package check_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/image"
)

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func mustParse(t *testing.T, s string) image.Reference {
	t.Helper()
	ref, err := image.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func input(t *testing.T) *check.Input {
	return &check.Input{Image: mustParse(t, "registry.example/app@"+digest)}
}

func passes(context.Context, *check.Input) (check.Result, error) { return check.Pass(), nil }

// verdicts puts outcomes into words.
func verdicts(outcomes []check.Outcome) []string {
	var words []string
	for _, o := range outcomes {
		words = append(words, fmt.Sprintf("%s %v %s %v", o.Check, o.Result.Passed(), o.Result.Reason(), o.Err))
	}
	return words
}

func TestRunnerAnswersInTheOrderAsked(t *testing.T) {
	t.Parallel()
	second := make(chan struct{})
	checks := []check.Check{
		{Name: "a", Run: func(context.Context, *check.Input) (check.Result, error) {
			<-second // finishes after b
			return check.Pass(), nil
		}},
		{Name: "b", Run: func(context.Context, *check.Input) (check.Result, error) {
			close(second)
			return check.Fail("bad %s", "luck"), nil
		}},
		{Name: "c", Run: func(context.Context, *check.Input) (check.Result, error) {
			return check.Pass(), errors.New("could not tell")
		}},
		{Name: "d", Run: func(context.Context, *check.Input) (check.Result, error) { return check.Result{}, nil }},
	}
	got := verdicts(check.Runner{}.Run(t.Context(), input(t), checks))
	want := []string{"a true  <nil>", "b false bad luck <nil>", "c false  could not tell", "d false  <nil>"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

func TestB4_APanicFailsItsCheckOnly(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	runner := check.Runner{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	got := runner.Run(t.Context(), input(t), []check.Check{
		{Name: "bad", Run: func(context.Context, *check.Input) (check.Result, error) {
			var record *struct{ field int }
			return check.Fail("%d", record.field), nil
		}},
		{Name: "good", Run: passes},
	})
	if got[0].Err == nil || got[0].Result.Passed() || got[0].Check != "bad" {
		t.Errorf("the check that panicked: %+v", got[0])
	}
	if !got[1].Result.Passed() {
		t.Errorf("the check beside it: %+v", got[1])
	}
	if !strings.Contains(log.String(), "nil pointer") || !strings.Contains(log.String(), "check_test.go") {
		t.Errorf("the log does not say what happened and where:\n%s", log.String())
	}
}

func TestB12_TheDeadlineIsHonoured(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		start := time.Now()
		got := check.Runner{Grace: time.Second}.Run(ctx, input(t), []check.Check{
			{Name: "deaf", Run: func(context.Context, *check.Input) (check.Result, error) {
				<-release
				return check.Pass(), nil
			}},
			{Name: "polite", Run: func(ctx context.Context, _ *check.Input) (check.Result, error) {
				<-ctx.Done()
				return check.Fail("ran out of time"), nil
			}},
			{Name: "quick", Run: passes},
		})
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %v, want the deadline and the grace", took)
		}
		if !errors.Is(got[0].Err, context.DeadlineExceeded) || got[0].Result.Passed() {
			t.Errorf("the check that does not listen: %+v", got[0])
		}
		if got[1].Result.Reason() != "ran out of time" {
			t.Errorf("the check that listens: %+v", got[1])
		}
		if !got[2].Result.Passed() {
			t.Errorf("the check that was done before: %+v", got[2])
		}
	})
}

func TestRunnerDoesNotWaitOutTheGraceForNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		got := check.Runner{}.Run(ctx, input(t), []check.Check{{Name: "a", Run: func(ctx context.Context, _ *check.Input) (check.Result, error) {
			return check.Result{}, ctx.Err()
		}}})
		if !errors.Is(got[0].Err, context.Canceled) || time.Since(start) != 0 {
			t.Errorf("after %v: %+v", time.Since(start), got[0])
		}
	})
}

func TestRunnerBoundsHowManyRunAtOnce(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int32
	checks := make([]check.Check, 20)
	for i := range checks {
		checks[i] = check.Check{Name: fmt.Sprint(i), Run: func(context.Context, *check.Input) (check.Result, error) {
			n := now.Add(1)
			defer now.Add(-1)
			for {
				if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
					return check.Pass(), nil
				}
			}
		}}
	}
	got := check.Runner{Parallel: 3}.Run(t.Context(), input(t), checks)
	if most.Load() > 3 {
		t.Errorf("%d checks ran at once, want at most 3", most.Load())
	}
	for i, o := range got {
		if o.Check != fmt.Sprint(i) || !o.Result.Passed() {
			t.Errorf("outcome %d: %+v", i, o)
		}
	}
}

func TestRunnerRefusesAnImageWithoutDigest(t *testing.T) {
	t.Parallel()
	in := &check.Input{Image: mustParse(t, "registry.example/app:v1")}
	got := check.Runner{}.Run(t.Context(), in, []check.Check{{Name: "a", Run: passes}})
	if !errors.Is(got[0].Err, image.ErrNoDigest) || got[0].Result.Passed() {
		t.Errorf("outcome: %+v", got[0])
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"diy": true, "is_shopify": true, "a.b-c": true, "0": true,
		"": false, "A": false, "a/b": false, "-a": false, "..": false, "a b": false, strings.Repeat("a", 129): false,
	} {
		if err := (check.Check{Name: name, Run: passes}).Validate(); (err == nil) != ok {
			t.Errorf("a check named %q: %v", name, err)
		}
	}
	if err := (check.Check{Name: "a"}).Validate(); err == nil {
		t.Error("a check with nothing to run is valid")
	}
}
