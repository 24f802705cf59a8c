package kube

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// candidate runs for election until the test ends, or it is stopped.
type candidate struct {
	leads atomic.Bool
	terms atomic.Int32
	stop  func()
	ended chan struct{}
}

func run(t *testing.T, client *Client, identity string, all *atomic.Int32) *candidate {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := &candidate{ended: make(chan struct{}), stop: cancel}
	go func() {
		defer close(c.ended)
		err := client.Elect(ctx, Election{Namespace: "gatehouse", Name: "lease", Identity: identity}, func(ctx context.Context) error {
			if n := all.Add(1); n > 1 {
				t.Errorf("%d lead at a time", n)
			}
			c.leads.Store(true)
			c.terms.Add(1)
			<-ctx.Done()
			c.leads.Store(false)
			all.Add(-1)
			return ctx.Err()
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-c.ended })
	return c
}

// cut is a server that one of several clients cannot reach any more.
type cut struct {
	*fake
	broken atomic.Bool
}

func (c *cut) client() *Client {
	client := c.fake.client()
	client.http.Transport = c
	return client
}

// RoundTrip implements [http.RoundTripper].
func (c *cut) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.broken.Load() {
		return nil, errors.New("no route to host")
	}
	return c.fake.RoundTrip(r)
}

func TestOneOfSeveralLeads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, all := newFake(), new(atomic.Int32)
		first := run(t, f.client(), "first", all)
		synctest.Wait()
		second := run(t, f.client(), "second", all)
		time.Sleep(time.Hour)
		synctest.Wait()
		if !first.leads.Load() || second.leads.Load() || first.terms.Load() != 1 {
			t.Fatal("who leads changes though nothing has happened")
		}
		// One that ends gives the lease back, and the other need not wait until it has run out.
		first.stop()
		<-first.ended
		time.Sleep(defaultTry + time.Millisecond)
		synctest.Wait()
		if !second.leads.Load() {
			t.Error("nobody leads after the leader has ended")
		}
	})
}

// TestALeaderThatIsCutOff stops before another begins.
func TestALeaderThatIsCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, all := &cut{fake: newFake()}, new(atomic.Int32)
		first := run(t, f.client(), "first", all)
		synctest.Wait()
		second := run(t, f.fake.client(), "second", all)
		time.Sleep(time.Minute)
		f.broken.Store(true)
		time.Sleep(defaultGiveUp + time.Millisecond)
		synctest.Wait()
		if first.leads.Load() {
			t.Error("a leader that cannot renew the lease goes on")
		}
		time.Sleep(defaultLeaseTime)
		synctest.Wait()
		if !second.leads.Load() {
			t.Error("nobody has taken the lease that ran out")
		}
		f.broken.Store(false)
		time.Sleep(time.Hour)
		synctest.Wait()
		if first.leads.Load() || !second.leads.Load() {
			t.Error("the first takes the lease back")
		}
	})
}

// TestALeaderThatDies without a word is followed by another, once the lease has run out.
func TestALeaderThatDies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, all := newFake(), new(atomic.Int32)
		f.objects["lease"] = map[string]any{
			"metadata": map[string]any{"namespace": "gatehouse", "name": "lease", "resourceVersion": "1"},
			"spec":     map[string]any{"holderIdentity": "dead", "leaseDurationSeconds": 15, "renewTime": time.Now().UTC().Format(microTime)},
		}
		heir := run(t, f.client(), "heir", all)
		time.Sleep(defaultLeaseTime - time.Second)
		synctest.Wait()
		if heir.leads.Load() {
			t.Fatal("the lease was taken before it had run out")
		}
		time.Sleep(defaultTry + 2*time.Second)
		synctest.Wait()
		if !heir.leads.Load() {
			t.Fatal("nobody leads")
		}
		spec := f.objects["lease"]["spec"].(map[string]any)
		if spec["holderIdentity"] != "heir" || spec["leaseTransitions"] != 1.0 {
			t.Errorf("the lease says %v", spec)
		}
	})
}

// TestClocksThatDisagree do not matter: a lease that was renewed an hour ago by the clock
// of its holder is not taken while it changes, and one that was renewed in the future is
// taken when it does not.
func TestClocksThatDisagree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, all := newFake(), new(atomic.Int32)
		skewed := func(by time.Duration) {
			f.set(func() {
				f.version++
				f.objects["lease"] = map[string]any{
					"metadata": map[string]any{"namespace": "gatehouse", "name": "lease", "resourceVersion": time.Now().String()},
					"spec":     map[string]any{"holderIdentity": "skewed", "leaseDurationSeconds": 15, "renewTime": time.Now().Add(by).UTC().Format(microTime)},
				}
			})
		}
		skewed(-time.Hour)
		other := run(t, f.client(), "other", all)
		for range 30 {
			time.Sleep(defaultTry)
			skewed(-time.Hour)
		}
		synctest.Wait()
		if other.leads.Load() {
			t.Fatal("a lease that is renewed was taken from one whose clock is slow")
		}
		skewed(time.Hour)
		time.Sleep(defaultLeaseTime + 2*defaultTry)
		synctest.Wait()
		if !other.leads.Load() {
			t.Error("a lease that is not renewed is not taken from one whose clock was fast")
		}
	})
}

func TestWhatEndsAnElection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, broken := newFake(), errors.New("broken")
		err := f.client().Elect(t.Context(), Election{Namespace: "n", Name: "lease", Identity: "me"}, func(context.Context) error { return broken })
		if !errors.Is(err, broken) {
			t.Errorf("a leader that fails: %v", err)
		}
		if holder := f.objects["lease"]["spec"].(map[string]any)["holderIdentity"]; holder != nil {
			t.Errorf("the lease is still that of %v", holder)
		}
		err = f.client().Elect(t.Context(), Election{Namespace: "n", Name: "lease", Identity: "me", Try: time.Hour}, nil)
		if err == nil || !strings.Contains(err.Error(), "shorter") {
			t.Errorf("times that make no sense: %v", err)
		}
		if err := f.client().Elect(t.Context(), Election{Name: "lease", Identity: "me"}, nil); err == nil {
			t.Error("an election without a place")
		}
	})
}

// TestALeaseStaysWhoseItWas: an installer takes away what it knows by labels and annotations.
func TestALeaseStaysWhoseItWas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, all := newFake(), new(atomic.Int32)
		labels, annotations := map[string]any{"app.kubernetes.io/instance": "gatehouse"}, map[string]any{"meta.helm.sh/release-name": "gatehouse"}
		installed := map[string]any{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": map[string]any{
			"namespace": "gatehouse", "name": "lease", "labels": labels, "annotations": annotations,
		}}
		if err := f.client().Create(t.Context(), installed, nil, "apis", "coordination.k8s.io", "v1", "namespaces", "gatehouse", "leases"); err != nil {
			t.Fatal(err)
		}
		c := run(t, f.client(), "me", all)
		time.Sleep(time.Minute)
		c.stop()
		<-c.ended
		if c.terms.Load() != 1 {
			t.Fatalf("it led %d times", c.terms.Load())
		}
		meta := f.objects["lease"]["metadata"].(map[string]any)
		if d := cmp.Diff([]any{labels, annotations}, []any{meta["labels"], meta["annotations"]}); d != "" {
			t.Error(d)
		}
	})
}
