package notify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/gatehouse-dev/gatehouse/notify"
)

// A receiver keeps what it is sent, or fails as it is told.
type receiver struct {
	mu    sync.Mutex
	pages []notify.Page
	at    []time.Time
	tries int
	fail  func(notify.Page) error
}

func (r *receiver) Send(_ context.Context, p notify.Page) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tries++
	if r.fail != nil {
		if err := r.fail(p); err != nil {
			return err
		}
	}
	r.pages, r.at = append(r.pages, p), append(r.at, time.Now())
	return nil
}

func (r *receiver) fails(with func(notify.Page) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = with
}

func (r *receiver) failing(err error) { r.fails(func(notify.Page) error { return err }) }

// taken are the pages so far, and forgets them.
func (r *receiver) taken() []notify.Page {
	r.mu.Lock()
	defer r.mu.Unlock()
	pages := r.pages
	r.pages, r.at = nil, nil
	return pages
}

// tried is how often a page was sent.
func (r *receiver) tried() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tries
}

var errDown = errors.New("connection refused")

func message(key string) notify.Message {
	return notify.Message{Kind: notify.Opened, Key: key, Severity: notify.Critical, Title: "break-glass in " + key}
}

func receivers(named map[string]*receiver) map[string]notify.Receiver {
	all := map[string]notify.Receiver{}
	for name, r := range named {
		all[name] = r
	}
	return all
}

func open(t *testing.T, opts notify.Options) *notify.Outbox {
	t.Helper()
	o, err := notify.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close() }) // more than once is allowed
	return o
}

// running runs the outbox until stop is called.
func running(t *testing.T, o *notify.Outbox) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := o.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	return func() {
		cancel()
		<-ended
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	}
}

func enqueue(t *testing.T, o *notify.Outbox, messages ...notify.Message) {
	t.Helper()
	for _, m := range messages {
		if err := o.Enqueue(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
}

// keys are those of the messages in pages.
func keys(pages []notify.Page) []string {
	var all []string
	for _, p := range pages {
		for _, m := range p.Messages {
			all = append(all, string(m.Kind)+" "+m.Key)
		}
	}
	return all
}

func to(names ...string) []notify.Route { return []notify.Route{{Name: "all", Receivers: names}} }

// after lets time pass, in a bubble.
func after(d time.Duration) { time.Sleep(d); synctest.Wait() }

func TestAMessageIsDeliveredOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir, r := t.TempDir(), new(receiver)
		o := open(t, notify.Options{Dir: dir, Routes: to("a"), Receivers: receivers(map[string]*receiver{"a": r})})
		stop := running(t, o)
		m := message("incident-1")
		m.ID = "one"
		enqueue(t, o, m, m)
		after(time.Minute)
		pages := r.taken()
		want := []notify.Page{{Key: "page/one", Messages: []notify.Message{{
			ID: "one", Kind: notify.Opened, Key: "incident-1", Severity: notify.Critical, Title: "break-glass in incident-1",
			Labels: []notify.Field{}, Fields: []notify.Field{}, Time: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), Count: 1,
		}}}}
		if diff := cmp.Diff(want, pages); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		enqueue(t, o, m)
		stop()

		for range 2 { // at the second start the file has been written anew
			o = open(t, notify.Options{Dir: dir, Routes: to("a"), Receivers: receivers(map[string]*receiver{"a": r})})
			stop = running(t, o)
			enqueue(t, o, m)
			after(time.Minute)
			stop()
			if pages := r.taken(); len(pages) != 0 {
				t.Errorf("again: %v", pages)
			}
		}
	})
}

func TestWhatWaitsIsDeliveredAfterARestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir, r := t.TempDir(), new(receiver)
		opts := notify.Options{Dir: dir, Routes: to("a"), Receivers: receivers(map[string]*receiver{"a": r})}
		o := open(t, opts)
		enqueue(t, o, message("x"), message("y"))
		r.failing(errDown)
		stop := running(t, o)
		after(time.Hour)
		enqueue(t, o, message("z"))
		stop()
		r.failing(nil)
		o = open(t, opts)
		stop = running(t, o)
		after(time.Second) // it has waited long enough
		stop()
		got := keys(r.taken())
		want := []string{"incident.opened x", "incident.opened y", "pager.failed pager/a", "incident.opened z"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

func TestAStormIsAHandfulOfPagesWithCompleteCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const pods, workloads = 10_000, 50
		dir, r := t.TempDir(), new(receiver)
		o := open(t, notify.Options{Dir: dir, Routes: to("a"), Receivers: receivers(map[string]*receiver{"a": r})})
		stop := running(t, o)
		var largest int64
		for i := range pods {
			enqueue(t, o, message(fmt.Sprintf("workload-%d", i%workloads)))
			time.Sleep(time.Minute / pods)
			if info, err := os.Stat(filepath.Join(dir, "outbox")); err != nil {
				t.Fatal(err)
			} else {
				largest = max(largest, info.Size())
			}
		}
		after(10 * time.Minute)
		stop()
		pages := r.taken()
		if n := len(pages); n < 1 || n > 6 {
			t.Errorf("%d pages", n)
		}
		about := map[string]int64{}
		var events int64
		for _, p := range pages {
			events += p.Events()
			for _, m := range p.Messages {
				about[m.Key] += m.Count
			}
		}
		if events != pods || len(about) != workloads || about["workload-7"] != pods/workloads {
			t.Errorf("%d events about %d workloads, %d of them about one", events, len(about), about["workload-7"])
		}
		const most = 2 << 20
		if largest > most {
			t.Errorf("the file had %d bytes", largest)
		}
		t.Logf("%d pages, at most %d bytes on disk", len(pages), largest)
	})
}

func TestOneThatFailsIsLeftForTheNext(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err   error
		tries int
		by    time.Duration // when the next has the page
	}{
		"after some tries":              {errDown, 3, 20 * time.Second},
		"at once if no try can mend it": {&notify.FinalError{Err: errors.New("401 Unauthorized")}, 1, 10*time.Second + 1},
		"not sooner than it asks":       {&notify.BusyError{Err: errors.New("429"), After: 20 * time.Second}, 3, 52 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				first, second := new(receiver), new(receiver)
				first.failing(tc.err)
				changes := make(chan notify.Pager, 10)
				registry := prometheus.NewRegistry()
				o := open(t, notify.Options{
					Dir: t.TempDir(), Routes: to("first", "second"), Receivers: receivers(map[string]*receiver{"first": first, "second": second}),
					OnPager: func(p notify.Pager) { changes <- p }, Registry: registry,
				})
				stop := running(t, o)
				enqueue(t, o, message("x"))
				after(tc.by)
				if got := keys(second.taken()); len(got) != 1 || got[0] != "incident.opened x" || first.tried() != tc.tries {
					t.Fatalf("the next has %v after %d tries of the first", got, first.tried())
				}
				after(15 * time.Second)
				if got := keys(second.taken()); len(got) != 1 || got[0] != "pager.failed pager/first" {
					t.Fatalf("of the failure the next has %v", got)
				}
				if p := <-changes; p.Name != "first" || !errors.Is(p.LastError, tc.err) || p.FailingSince.IsZero() {
					t.Errorf("others were told %+v", p)
				}
				if diff := gauge(registry, "gatehouse_notify_receiver_failing", `receiver="first"`, 1); diff != "" {
					t.Error(diff)
				}

				first.failing(nil)
				after(10 * time.Minute)
				enqueue(t, o, message("y"))
				after(time.Minute)
				if got := keys(first.taken()); len(got) != 2 || got[0] != "incident.opened y" || got[1] != "pager.recovered pager/first" {
					t.Errorf("when it works again it has %v", got)
				}
				if p := <-changes; p.Name != "first" || !p.FailingSince.IsZero() || len(changes) != 0 {
					t.Errorf("others were told %+v, and %d times more", p, len(changes))
				}
				stop()
				for _, p := range o.Pagers() {
					if !p.FailingSince.IsZero() || p.LastDelivery.IsZero() {
						t.Errorf("%+v", p)
					}
				}
			})
		})
	}
}

func gauge(registry *prometheus.Registry, name, labels string, want float64) string {
	families, err := registry.Gather()
	if err != nil {
		return err.Error()
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var text []string
			for _, l := range m.GetLabel() {
				text = append(text, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			if strings.Join(text, ",") == labels {
				if got := m.GetGauge().GetValue() + m.GetCounter().GetValue(); got != want {
					return fmt.Sprintf("%s{%s} is %g, want %g", name, labels, got, want)
				}
				return ""
			}
		}
	}
	return fmt.Sprintf("there is no %s{%s}", name, labels)
}

func TestOneThatFailsIsLeftAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := new(receiver), new(receiver)
		first.failing(errDown)
		route := notify.Route{Name: "all", Receivers: []string{"first", "second"}, GroupWait: time.Second, PagesPerHour: 3600, Burst: 1000}
		o := open(t, notify.Options{Dir: t.TempDir(), Routes: []notify.Route{route}, Receivers: receivers(map[string]*receiver{"first": first, "second": second})})
		stop := running(t, o)
		for i := range 600 {
			enqueue(t, o, message(fmt.Sprint(i)))
			after(2 * time.Second)
		}
		stop()
		if n := first.tried(); n < 5 || n > 20 {
			t.Errorf("in 20 minutes it was tried %d times", n)
		}
		if n := len(second.taken()); n < 500 {
			t.Errorf("the next has %d pages", n)
		}
	})
}

func TestABriefFailureIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := new(receiver), new(receiver)
		failed := 0
		first.fails(func(notify.Page) error {
			if failed++; failed > 2 {
				return nil
			}
			return errDown
		})
		o := open(t, notify.Options{Dir: t.TempDir(), Routes: to("first", "second"), Receivers: receivers(map[string]*receiver{"first": first, "second": second})})
		stop := running(t, o)
		enqueue(t, o, message("x"))
		after(time.Minute)
		stop()
		if got := keys(first.taken()); len(got) != 1 || second.tried() != 0 {
			t.Errorf("it has %v, and the next was tried %d times", got, second.tried())
		}
	})
}

func TestWhileAllFailWhatComesIsGathered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := new(receiver), new(receiver)
		first.failing(errDown)
		second.failing(errDown)
		o := open(t, notify.Options{Dir: t.TempDir(), Routes: to("first", "second"), Receivers: receivers(map[string]*receiver{"first": first, "second": second})})
		stop := running(t, o)
		for i := range 300 {
			enqueue(t, o, message(fmt.Sprintf("w%d", i%3)))
			after(12 * time.Second)
		}
		tries := first.tried() + second.tried()
		if tries > 60 {
			t.Errorf("in an hour they were tried %d times", tries)
		}
		second.failing(nil)
		after(10 * time.Minute)
		stop()
		pages := second.taken()
		if len(pages) == 0 || pages[0].Events() != 302 || len(pages[0].Messages) != 5 {
			t.Fatalf("the first page is %+v", pages)
		}
	})
}

func TestOneBadMessageDoesNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := new(receiver), new(receiver)
		refuse := func(p notify.Page) error {
			for _, m := range p.Messages {
				if m.Key == "poison" {
					return &notify.FinalError{Err: errors.New("400 Bad Request"), Content: true}
				}
			}
			return nil
		}
		first.fails(refuse)
		second.fails(refuse)
		o := open(t, notify.Options{Dir: t.TempDir(), Routes: to("first", "second"), Receivers: receivers(map[string]*receiver{"first": first, "second": second})})
		stop := running(t, o)
		for i := range 50 {
			enqueue(t, o, message(fmt.Sprint(i)))
		}
		enqueue(t, o, message("poison"))
		after(20 * time.Minute)
		enqueue(t, o, message("later"))
		after(24 * time.Hour)
		pages := append(first.taken(), second.taken()...)
		if got := len(keys(pages)); got != 51 || len(pages) > 8 {
			t.Errorf("%d messages in %d pages: %v", got, len(pages), keys(pages))
		}
		if n := first.tried(); n > 60 {
			t.Errorf("in a day it was tried %d times", n)
		}
		first.fails(nil)
		after(2 * time.Hour)
		stop()
		if got := keys(first.taken()); len(got) != 1 || got[0] != "incident.opened poison" {
			t.Errorf("what was refused is lost: %s", got)
		}
	})
}

func TestOneBadMessageDoesNotHoldUpOthersWhileOneIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := new(receiver), new(receiver)
		second.fails(func(p notify.Page) error {
			if slices.Contains(keys([]notify.Page{p}), "incident.opened poison") {
				return &notify.FinalError{Err: errors.New("400 Bad Request"), Content: true}
			}
			return nil
		})
		first.failing(errDown)
		o := open(t, notify.Options{Dir: t.TempDir(), Routes: to("first", "second"), Receivers: receivers(map[string]*receiver{"first": first, "second": second})})
		stop := running(t, o)
		enqueue(t, o, message("a"), message("poison"), message("b"))
		after(time.Hour)
		first.failing(nil)
		if got := keys(second.taken()); len(got) != 3 { // and the failure
			t.Errorf("while the first is away: %v", got)
		}
		after(2 * time.Hour)
		stop()
		if got := keys(first.taken()); len(got) == 0 || got[0] != "incident.opened poison" {
			t.Errorf("when it is back: %v", got)
		}
	})
}

func TestOneThatRefusesEverythingHasFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := new(receiver), new(receiver)
		first.failing(&notify.FinalError{Err: errors.New("400 Bad Request"), Content: true})
		o := open(t, notify.Options{Dir: t.TempDir(), Routes: to("first", "second"), Receivers: receivers(map[string]*receiver{"first": first, "second": second})})
		stop := running(t, o)
		for i := range 4 {
			enqueue(t, o, message(fmt.Sprint(i)))
			after(15 * time.Second)
		}
		after(time.Hour)
		stop()
		got := keys(second.taken())
		if len(got) != 5 || !strings.Contains(strings.Join(got, " "), "pager.failed pager/first") {
			t.Errorf("the next has %v", got)
		}
	})
}

func TestPagesAreLimitedAndWhatWaitsGoesTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := new(receiver)
		route := notify.Route{Name: "all", Receivers: []string{"a"}, GroupWait: time.Second, PagesPerHour: 6, Burst: 2}
		o := open(t, notify.Options{Dir: t.TempDir(), Routes: []notify.Route{route}, Receivers: receivers(map[string]*receiver{"a": r})})
		stop := running(t, o)
		for i := range 360 {
			enqueue(t, o, message(fmt.Sprint(i)))
			after(10 * time.Second)
		}
		after(30 * time.Minute)
		stop()
		pages := r.taken()
		// 2 at once, 6 an hour, and what is left after that.
		if n, events := len(pages), len(keys(pages)); n < 8 || n > 12 || events != 360 {
			t.Errorf("%d pages about %d events", n, events)
		}
	})
}

func TestWhenThereIsNoRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir, r := t.TempDir(), new(receiver)
		var log bytes.Buffer
		registry := prometheus.NewRegistry()
		opts := notify.Options{
			Dir: dir, Routes: to("a"), Receivers: receivers(map[string]*receiver{"a": r}), MaxMessages: 4, Registry: registry,
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		}
		o := open(t, opts)
		with := func(key string, s notify.Severity) notify.Message {
			m := message(key)
			m.Severity = s
			return m
		}
		enqueue(t, o, with("w1", notify.Warning), with("e1", notify.Error), with("w2", notify.Warning), with("c1", notify.Critical))
		enqueue(t, o, with("c2", notify.Critical), with("w3", notify.Warning))
		if err := o.Enqueue(t.Context(), with("i1", notify.Info)); !errors.Is(err, notify.ErrNoRoom) {
			t.Errorf("the least of all: %v", err)
		}
		if n := strings.Count(log.String(), "a message is lost"); n != 3 {
			t.Errorf("the log tells of %d:\n%s", n, &log)
		}
		if diff := gauge(registry, "gatehouse_notify_dropped_total", `severity="warning"`, 2); diff != "" {
			t.Error(diff)
		}
		if n := testutil.CollectAndCount(registry, "gatehouse_notify_outbox_messages"); n != 1 {
			t.Errorf("%d gauges", n)
		}
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}

		opts.Registry = nil
		o = open(t, opts)
		stop := running(t, o)
		after(time.Minute)
		enqueue(t, o, message("later"))
		after(time.Minute)
		stop()
		pages := r.taken()
		if len(pages) != 2 || pages[0].Dropped != 3 || pages[1].Dropped != 0 || !strings.Contains(pages[0].Headline(), "lost for want of room: 3") {
			t.Fatalf("%+v", pages)
		}
		want := []string{"incident.opened e1", "incident.opened c1", "incident.opened c2", "incident.opened w3"}
		if diff := cmp.Diff(want, keys(pages[:1])); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}

		o = open(t, opts)
		stop = running(t, o)
		enqueue(t, o, message("restarted"))
		after(time.Minute)
		stop()
		if pages := r.taken(); len(pages) != 1 || pages[0].Dropped != 0 {
			t.Errorf("what was told of is told again: %+v", pages)
		}
	})
}

func TestBytesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		o := open(t, notify.Options{Dir: dir, Routes: to("a"), Receivers: receivers(map[string]*receiver{"a": {}}), MaxBytes: 100_000})
		for i := range 1000 {
			m := message(fmt.Sprint(i))
			m.Fields = []notify.Field{{Name: notify.Why, Value: strings.Repeat("because ", 1000)}}
			enqueue(t, o, m)
			info, err := os.Stat(filepath.Join(dir, "outbox"))
			if err != nil {
				t.Fatal(err)
			}
			if most := int64(2*100_000 + 1<<20 + 10_000); info.Size() > most {
				t.Fatalf("%d bytes on disk", info.Size())
			}
		}
	})
}

func TestSeveralOfAKeyAndKindBecomeOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := new(receiver)
		o := open(t, notify.Options{Dir: t.TempDir(), Routes: to("a"), Receivers: receivers(map[string]*receiver{"a": r})})
		stop := running(t, o)
		first, second, other := message("x"), message("x"), message("x")
		first.ID, first.Count, first.Fields = "1", 3, []notify.Field{{Name: "pods", Value: "3"}}
		second.ID, second.Count, second.Severity, second.Fields = "2", 4, notify.Warning, []notify.Field{{Name: "pods", Value: "7"}}
		other.Kind = notify.Resolved
		enqueue(t, o, first)
		after(time.Second)
		enqueue(t, o, second, other, second)
		after(time.Minute)
		stop()
		pages := r.taken()
		if len(pages) != 1 || len(pages[0].Messages) != 2 {
			t.Fatalf("%+v", pages)
		}
		m := pages[0].Messages[0]
		if m.ID != "1" || m.Count != 7 || m.Severity != notify.Critical || m.Fields[0].Value != "7" || m.Time.Second() != 0 {
			t.Errorf("%+v", m)
		}
	})
}

func TestAPageAboutSeveralMattersEndsWithTheLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir, r := t.TempDir(), new(receiver)
		opts := notify.Options{Dir: dir, Routes: to("a"), Receivers: receivers(map[string]*receiver{"a": r})}
		o := open(t, opts)
		stop := running(t, o)
		enqueue(t, o, message("x"), message("y"))
		after(time.Minute)
		page := r.taken()[0].Key
		end := func(key string) notify.Message {
			return notify.Message{Kind: notify.Closed, Key: key, Severity: notify.Info, Title: "gone"}
		}
		enqueue(t, o, end("x"))
		after(time.Minute)
		stop()
		if got := keys(r.taken()); len(got) != 1 {
			t.Errorf("after the first: %v", got)
		}
		o = open(t, opts)
		stop = running(t, o)
		enqueue(t, o, end("y"))
		after(10 * time.Minute)
		stop()
		if got := keys(r.taken()); len(got) != 2 || got[1] != "incident.closed "+page {
			t.Errorf("after the last: %v, want %s closed", got, page)
		}
	})
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		oncall, chat, shop := new(receiver), new(receiver), new(receiver)
		all := receivers(map[string]*receiver{"oncall": oncall, "chat": chat, "shop": shop})
		o := open(t, notify.Options{Dir: dir, Receivers: all, Routes: []notify.Route{
			{Name: "people", Receivers: []string{"oncall"}, MinSeverity: notify.Error, Kinds: []notify.Kind{notify.Opened, notify.Escalated}, Continue: true},
			{Name: "shop", Receivers: []string{"shop"}, Labels: map[string]string{"namespace": "shop"}},
			{Name: "rest", Receivers: []string{"chat"}},
		}})
		stop := running(t, o)
		mild, shops, ended := message("mild"), message("shops"), message("ended")
		mild.Severity = notify.Warning
		shops.Labels = []notify.Field{{Name: "cluster", Value: "c"}, {Name: "namespace", Value: "shop"}}
		ended.Kind = notify.Resolved
		enqueue(t, o, mild, shops, ended)
		after(time.Minute)
		for name, tc := range map[string]struct {
			r    *receiver
			want []string
		}{
			"oncall": {oncall, []string{"incident.opened shops"}},
			"shop":   {shop, []string{"incident.opened shops"}},
			"chat":   {chat, []string{"incident.opened mild", "incident.resolved ended"}},
		} {
			if diff := cmp.Diff(tc.want, keys(tc.r.taken())); diff != "" {
				t.Errorf("%s: -want +got:\n%s", name, diff)
			}
		}
		shop.failing(errDown)
		enqueue(t, o, shops)
		after(time.Second)
		stop()

		// A route that is no longer there leaves what it had to those that are.
		o = open(t, notify.Options{Dir: dir, Receivers: all, Routes: []notify.Route{{Name: "new", Receivers: []string{"chat"}}}})
		stop = running(t, o)
		after(time.Minute)
		stop()
		if got := keys(chat.taken()); len(got) == 0 || got[0] != "incident.opened shops" {
			t.Errorf("after the routes have changed: %v", got)
		}
	})
}

func TestRoutesThatAreRefused(t *testing.T) {
	t.Parallel()
	good := notify.Route{Name: "all", Receivers: []string{"a"}}
	for name, tc := range map[string]struct {
		change func(*notify.Route)
		want   string
	}{
		"no name":             {func(r *notify.Route) { r.Name = "" }, "want a name"},
		"nobody":              {func(r *notify.Route) { r.Receivers = nil }, "want receivers"},
		"unknown receiver":    {func(r *notify.Route) { r.Receivers = []string{"b"} }, `there is no receiver "b"`},
		"receiver twice":      {func(r *notify.Route) { r.Receivers = []string{"a", "a"} }, "twice"},
		"severity":            {func(r *notify.Route) { r.MinSeverity = "bad" }, "minSeverity"},
		"kind":                {func(r *notify.Route) { r.Kinds = []notify.Kind{"opened"} }, "kind"},
		"label":               {func(r *notify.Route) { r.Labels = map[string]string{"A-B": "c"} }, "label"},
		"wait":                {func(r *notify.Route) { r.GroupWait = 2 * time.Hour }, "groupWait"},
		"negative":            {func(r *notify.Route) { r.PagesPerHour = -1 }, "pagesPerHour"},
		"some are not told":   {func(r *notify.Route) { r.MinSeverity = notify.Error }, "must take everything"},
		"the last goes on":    {func(r *notify.Route) { r.Continue = true }, "must take everything"},
		"the last takes some": {func(r *notify.Route) { r.Kinds = notify.Kinds()[:1] }, "must take everything"},
	} {
		r := good
		tc.change(&r)
		if err := notify.CheckRoutes([]notify.Route{r}, []string{"a"}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, tc.want)
		}
	}
	if err := notify.CheckRoutes([]notify.Route{good, good}, []string{"a"}); err == nil || !strings.Contains(err.Error(), "has this name") {
		t.Errorf("two of a name: %v", err)
	}
	if err := notify.CheckRoutes([]notify.Route{good}, []string{"a"}); err != nil {
		t.Error(err)
	}
}

func TestMessagesThatAreRefused(t *testing.T) {
	t.Parallel()
	o := open(t, notify.Options{Dir: t.TempDir(), Routes: to("a"), Receivers: receivers(map[string]*receiver{"a": {}})})
	for name, change := range map[string]func(*notify.Message){
		"kind":           func(m *notify.Message) { m.Kind = "x" },
		"severity":       func(m *notify.Message) { m.Severity = "" },
		"no key":         func(m *notify.Message) { m.Key = "" },
		"a key of lines": func(m *notify.Message) { m.Key = "a\nb" },
		"id":             func(m *notify.Message) { m.ID = strings.Repeat("x", 101) },
		"count":          func(m *notify.Message) { m.Count = -1 },
		"label":          func(m *notify.Message) { m.Labels = []notify.Field{{Name: "A", Value: "b"}} },
		"a label twice":  func(m *notify.Message) { m.Labels = []notify.Field{{Name: "a", Value: "b"}, {Name: "a", Value: "b"}} },
		"our label":      func(m *notify.Message) { m.Labels = []notify.Field{{Name: "severity", Value: "b"}} },
	} {
		m := message("k")
		change(&m)
		if err := o.Enqueue(t.Context(), m); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestAReceiverThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		second := new(receiver)
		o := open(t, notify.Options{Dir: t.TempDir(), Routes: to("hangs", "second"), Receivers: map[string]notify.Receiver{"hangs": hanging{}, "second": second}})
		stop := running(t, o)
		enqueue(t, o, message("x"))
		after(5 * time.Minute)
		stop()
		if got := keys(second.taken()); len(got) == 0 || got[0] != "incident.opened x" {
			t.Errorf("the next has %v", got)
		}
	})
}

type hanging struct{}

func (hanging) Send(ctx context.Context, _ notify.Page) error { <-ctx.Done(); return ctx.Err() }
