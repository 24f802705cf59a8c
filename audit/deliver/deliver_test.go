package deliver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/audit/deliver"
	"github.com/gatehouse-dev/gatehouse/decide"
)

// peer is a sink in memory.
type peer struct {
	mu      sync.Mutex
	got     []deliver.Entry
	sends   int
	answer  func(send int, entries []deliver.Entry) error
	changed chan struct{}
}

func newPeer() *peer { return &peer{changed: make(chan struct{}, 1)} }

func (p *peer) Send(_ context.Context, entries []deliver.Entry) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sends++
	defer func() {
		select {
		case p.changed <- struct{}{}:
		default:
		}
	}()
	if p.answer != nil {
		if err := p.answer(p.sends, entries); err != nil {
			return err
		}
	}
	p.got = append(p.got, entries...)
	return nil
}

func (p *peer) Close() error { return nil }

func (p *peer) names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var names []string
	for _, e := range p.got {
		if e.Decision != nil {
			names = append(names, e.Decision.Name)
		}
	}
	return names
}

// await returns when done holds, after one of the peer's sends.
func (p *peer) await(t *testing.T, done func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for !done() {
		select {
		case <-p.changed:
		case <-limit:
			t.Fatalf("it did not come to pass; the peer has %q", p.names())
		}
	}
}

type world struct {
	t        *testing.T
	dir      string
	log      *audit.Log
	registry *prometheus.Registry
	said     *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), registry: prometheus.NewRegistry(), said: new(syncBuffer)}
	log, err := audit.Open(filepath.Join(w.dir, "audit"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	w.log = log
	return w
}

func (w *world) record(names ...string) {
	w.t.Helper()
	for _, name := range names {
		if err := w.log.AppendSync(w.t.Context(), audit.Record{ID: audit.NewID(), Time: time.Now(), Event: "admission", Name: name}); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) open(s deliver.Sink, change func(*deliver.Options)) *deliver.Follower {
	w.t.Helper()
	w.registry = prometheus.NewRegistry()
	metrics, err := deliver.NewMetrics(w.registry)
	if err != nil {
		w.t.Fatal(err)
	}
	o := deliver.Options{
		Name: "peer", Dir: filepath.Join(w.dir, "sinks"), Sink: s, Sources: map[deliver.Log]deliver.Source{deliver.Decisions: w.log},
		Pause: time.Millisecond, Logger: slog.New(slog.NewTextHandler(w.said, nil)), Metrics: metrics,
	}
	if change != nil {
		change(&o)
	}
	f, err := deliver.Open(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

// run runs the follower until stop is called.
func (w *world) run(f *deliver.Follower) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("Run: %v", err)
		}
	}
	w.t.Cleanup(stop)
	return stop
}

// metric is the value of a metric of the sink, of a reason if there is one.
func (w *world) metric(name, reason string) float64 {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["sink"] == "peer" && labels["reason"] == reason {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	w.t.Fatalf("there is no metric %s", name)
	return 0
}

func drain(t *testing.T, f *deliver.Follower) {
	t.Helper()
	if err := f.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestRecordsArriveInOrderAndOnce(t *testing.T) {
	t.Parallel()
	w, p := newWorld(t), newPeer()
	w.record("a", "b")
	stop := w.run(w.open(p, nil))
	p.await(t, func() bool { return len(p.names()) == 2 })
	w.record("c")
	p.await(t, func() bool { return len(p.names()) == 3 })
	stop()
	w.record("d")
	f := w.open(p, nil) // as after a restart
	drain(t, f)
	if diff := cmp.Diff([]string{"a", "b", "c", "d"}, p.names()); diff != "" {
		t.Errorf("want each once (-want +got):\n%s", diff)
	}
	if got := w.metric("gatehouse_audit_sink_delivered_total", ""); got != 1 {
		t.Errorf("delivered since the restart: %v", got)
	}
	if f.Lag() != 0 || f.Behind() != 0 {
		t.Errorf("it has all, and is %v and %d bytes behind", f.Lag(), f.Behind())
	}
}

func TestAPeerThatWasAwayGetsAllAndOneLineIsLogged(t *testing.T) {
	t.Parallel()
	w, p := newWorld(t), newPeer()
	p.answer = func(send int, _ []deliver.Entry) error {
		if send <= 4 {
			return errors.New("connection refused")
		}
		return nil
	}
	w.record("a", "b")
	f := w.open(p, nil)
	w.run(f)
	w.record("c")
	p.await(t, func() bool { return len(p.names()) == 3 })
	if diff := cmp.Diff([]string{"a", "b", "c"}, p.names()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := strings.Count(w.said.String(), "does not take records"); n != 1 {
		t.Errorf("an outage was logged %d times:\n%s", n, w.said)
	}
	if got := w.metric("gatehouse_audit_sink_failures_total", ""); got != 4 {
		t.Errorf("failures: %v, want 4", got)
	}
}

func TestTheLagIsThatOfTheOldestThatWaits(t *testing.T) {
	t.Parallel()
	w, p := newWorld(t), newPeer()
	p.answer = func(int, []deliver.Entry) error { return errors.New("away") }
	if err := w.log.AppendSync(t.Context(), audit.Record{ID: audit.NewID(), Time: time.Now().Add(-time.Hour)}); err != nil {
		t.Fatal(err)
	}
	f := w.open(p, nil)
	if err := f.Drain(t.Context()); err == nil {
		t.Fatal("a peer that is away has taken all")
	}
	if lag := f.Lag(); lag < time.Hour || lag > 2*time.Hour {
		t.Errorf("lag %v, want an hour", lag)
	}
	if got := w.metric("gatehouse_audit_sink_lag_bytes", ""); got == 0 {
		t.Error("it is no byte behind")
	}
}

func TestAKillBeforeThePositionIsKeptSendsAgainUnderTheSameID(t *testing.T) {
	t.Parallel()
	w, p := newWorld(t), newPeer()
	w.record("a")
	drain(t, w.open(p, nil))
	path := filepath.Join(w.dir, "sinks", "peer.json")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w.record("b")
	drain(t, w.open(p, nil))
	if err := os.WriteFile(path, before, 0o600); err != nil { // the process was killed after it sent
		t.Fatal(err)
	}
	drain(t, w.open(p, nil))
	if diff := cmp.Diff([]string{"a", "b", "b"}, p.names()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if p.got[1].ID != p.got[2].ID || p.got[0].ID == p.got[1].ID {
		t.Errorf("ids %q, %q, %q", p.got[0].ID, p.got[1].ID, p.got[2].ID)
	}
}

func TestAFailedTryDoesNotMoveThePosition(t *testing.T) {
	t.Parallel()
	w, p := newWorld(t), newPeer()
	w.record("a")
	p.answer = func(int, []deliver.Entry) error { return errors.New("away") }
	if err := w.open(p, nil).Drain(t.Context()); err == nil {
		t.Fatal("want an error")
	}
	p.answer = nil
	drain(t, w.open(p, nil))
	if diff := cmp.Diff([]string{"a"}, p.names()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// refuses refuses batches with a record of this name.
func refuses(name string, short bool) func(int, []deliver.Entry) error {
	return func(_ int, entries []deliver.Entry) error {
		for _, e := range entries {
			if e.Decision.Name == name && (short || !e.Short) {
				return &deliver.RefusedError{Err: fmt.Errorf("record %s is poison", name)}
			}
		}
		return nil
	}
}

func TestWhatIsRefusedForeverDoesNotBlockWhatFollows(t *testing.T) {
	t.Parallel()
	w, p := newWorld(t), newPeer()
	w.record("a", "b", "poison", "c", "d")
	p.answer = refuses("poison", true)
	drain(t, w.open(p, nil))
	if diff := cmp.Diff([]string{"a", "b", "c", "d"}, p.names()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := w.metric("gatehouse_audit_sink_lost_total", "refused"); got != 1 {
		t.Errorf("lost: %v, want 1", got)
	}
	if !strings.Contains(w.said.String(), "record poison is poison") {
		t.Errorf("nobody was told:\n%s", w.said)
	}
}

func TestWhatIsTooLargeIsShortened(t *testing.T) {
	t.Parallel()
	w, p := newWorld(t), newPeer()
	p.answer = refuses("large", false)
	d := decide.Decision{Allowed: true, Verdict: decide.ALLOW, Summary: "fine", Images: []decide.ImageDecision{{Image: "registry.example/large"}}}
	if err := w.log.AppendSync(t.Context(), audit.Record{ID: "1", Name: "large", Time: time.Now(), Decision: &d}); err != nil {
		t.Fatal(err)
	}
	w.record("next")
	drain(t, w.open(p, nil))
	if diff := cmp.Diff([]string{"large", "next"}, p.names()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	e := p.got[0]
	if !e.Short || e.ID != "1" || !e.Decision.Truncated || len(e.Decision.Decision.Images) != 0 || bytes.Contains(e.Line, []byte("registry.example")) {
		t.Errorf("it was not shortened: %+v, %s", e, e.Line)
	}
	if w.metric("gatehouse_audit_sink_shortened_total", "") != 1 || w.metric("gatehouse_audit_sink_lost_total", "refused") != 0 {
		t.Error("it is not counted as shortened")
	}
}

func TestAPeerThatRefusesAllIsNotGivenAllAtOnce(t *testing.T) {
	t.Parallel()
	w, p := newWorld(t), newPeer()
	for i := range 20 {
		w.record(fmt.Sprint(i))
	}
	p.answer = func(int, []deliver.Entry) error { return &deliver.RefusedError{Err: errors.New("bad request")} }
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := w.open(p, func(o *deliver.Options) { o.Pause = time.Hour }).Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if lost := w.metric("gatehouse_audit_sink_lost_total", "refused"); lost != 5 {
		t.Errorf("%v records were given up without a pause, want 5", lost)
	}
}

func TestWhatAPeerRejectsWithoutSayingWhichIsCounted(t *testing.T) {
	t.Parallel()
	w, p := newWorld(t), newPeer()
	w.record("a", "b", "c")
	p.answer = func(int, []deliver.Entry) error {
		return &deliver.LostError{Records: 2, Err: errors.New("two are bad")}
	}
	drain(t, w.open(p, nil))
	if w.metric("gatehouse_audit_sink_lost_total", "refused") != 2 || w.metric("gatehouse_audit_sink_delivered_total", "") != 1 || p.sends != 1 {
		t.Errorf("lost and delivered are wrong, or it was sent %d times", p.sends)
	}
}

func TestALineThatCannotBeReadIsCountedOnce(t *testing.T) {
	t.Parallel()
	w, p := newWorld(t), newPeer()
	w.record("a")
	if err := w.log.Close(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(w.dir, "audit")
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		f, err := os.OpenFile(filepath.Join(dir, file.Name()), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("{\"id\":\"2\",\"time\"\n[]\n{}\n"); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if w.log, err = audit.Open(dir, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	w.record("b")
	p.answer = func(send int, _ []deliver.Entry) error {
		if send == 1 {
			return errors.New("away")
		}
		return nil
	}
	f := w.open(p, nil)
	if err := f.Drain(t.Context()); err == nil {
		t.Fatal("want an error")
	}
	drain(t, f)
	if diff := cmp.Diff([]string{"a", "b"}, p.names()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := w.metric("gatehouse_audit_sink_lost_total", "unreadable"); got != 3 {
		t.Errorf("%v lines are counted, want 3", got)
	}
}

func TestANewSinkBeginsWhereItIsTold(t *testing.T) {
	t.Parallel()
	w, p := newWorld(t), newPeer()
	w.record("before")
	now := func(o *deliver.Options) { o.FromNow = true }
	w.open(p, now)
	w.record("after")
	drain(t, w.open(p, now))
	if diff := cmp.Diff([]string{"after"}, p.names()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestADamagedPositionGivesAllAgain(t *testing.T) {
	t.Parallel()
	w, p := newWorld(t), newPeer()
	w.record("a")
	drain(t, w.open(p, nil))
	if err := os.WriteFile(filepath.Join(w.dir, "sinks", "peer.json"), []byte(`{"decisions":{"seg`), 0o600); err != nil {
		t.Fatal(err)
	}
	drain(t, w.open(p, nil))
	if diff := cmp.Diff([]string{"a", "a"}, p.names()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	entry := func(namespace string, d *decide.Decision) deliver.Entry {
		return deliver.Entry{Log: deliver.Decisions, Decision: &audit.Record{Namespace: namespace, Decision: d}}
	}
	denied := &decide.Decision{Verdict: decide.DENY}
	broken := &decide.Decision{Verdict: decide.DENY, Allowed: true, BreakGlass: "label", Override: decide.BreakGlass}
	call := deliver.Entry{Log: deliver.Calls, Call: &audit.Call{}}
	for name, c := range map[string]struct {
		filter   deliver.Filter
		yes, not []deliver.Entry
	}{
		"none":        {deliver.Filter{}, []deliver.Entry{entry("a", nil), call}, nil},
		"logs":        {deliver.Filter{Logs: []deliver.Log{deliver.Calls}}, []deliver.Entry{call}, []deliver.Entry{entry("a", denied)}},
		"verdicts":    {deliver.Filter{Verdicts: []string{"DENY"}}, []deliver.Entry{entry("a", denied)}, []deliver.Entry{entry("a", nil), entry("a", &decide.Decision{Verdict: decide.ALLOW}), call}},
		"break-glass": {deliver.Filter{OnlyBreakGlass: true}, []deliver.Entry{entry("a", broken)}, []deliver.Entry{entry("a", denied), call}},
		"namespaces":  {deliver.Filter{Namespaces: []string{"shop-*"}}, []deliver.Entry{entry("shop-web", nil)}, []deliver.Entry{entry("shop", denied), call}},
		"both":        {deliver.Filter{Namespaces: []string{"a"}, Verdicts: []string{"DENY"}}, []deliver.Entry{entry("a", denied)}, []deliver.Entry{entry("b", denied), entry("a", nil)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, e := range c.yes {
				if !c.filter.Selects(e) {
					t.Errorf("%+v is left out", e.Decision)
				}
			}
			for _, e := range c.not {
				if c.filter.Selects(e) {
					t.Errorf("%+v is selected", e.Decision)
				}
			}
		})
	}
}

func TestSeverities(t *testing.T) {
	t.Parallel()
	of := func(d decide.Decision) deliver.Severity {
		return deliver.Entry{Decision: &audit.Record{Decision: &d}}.Severity()
	}
	got := map[string]deliver.Severity{
		"allow":        of(decide.Decision{Allowed: true, Verdict: decide.ALLOW}),
		"deny":         of(decide.Decision{}),
		"dry run":      of(decide.Decision{Allowed: true, Override: decide.DryRun}),
		"fail open":    of(decide.Decision{Allowed: true, Override: decide.FailOpen}),
		"break-glass":  of(decide.Decision{Allowed: true, Override: decide.BreakGlass, BreakGlass: "label"}),
		"not needed":   of(decide.Decision{Allowed: true, Verdict: decide.ALLOW, BreakGlass: "label"}),
		"refused":      deliver.Entry{Decision: &audit.Record{Event: "refused", Error: "no"}}.Severity(),
		"lost":         deliver.Entry{Decision: &audit.Record{Lost: &audit.Lost{}}}.Severity(),
		"forbidden":    deliver.Entry{Call: &audit.Call{Code: "PERMISSION_DENIED"}}.Severity(),
		"fine":         deliver.Entry{Call: &audit.Call{Code: "OK"}}.Severity(),
		"not attested": deliver.Entry{Run: &audit.Run{}}.Severity(),
	}
	if diff := cmp.Diff(map[string]deliver.Severity{
		"allow": deliver.Info, "deny": deliver.Warning, "dry run": deliver.Notice, "fail open": deliver.Warning, "break-glass": deliver.Alert, "not needed": deliver.Notice,
		"refused": deliver.Warning, "lost": deliver.Error, "forbidden": deliver.Warning, "fine": deliver.Info, "not attested": deliver.Notice,
	}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheTwoPhasesOfACallHaveIDsOfTheirOwn(t *testing.T) {
	t.Parallel()
	ids := map[string]bool{}
	for _, phase := range []string{"", audit.PhaseIntent, audit.PhaseOutcome} {
		line, err := json.Marshal(audit.Call{ID: "1", Phase: phase})
		if err != nil {
			t.Fatal(err)
		}
		e, err := deliver.Parse(deliver.Calls, line)
		if err != nil {
			t.Fatal(err)
		}
		ids[e.ID] = true
	}
	if len(ids) != 3 {
		t.Errorf("ids %v", ids)
	}
}

func FuzzALineStaysOneLineThatSaysTheSame(f *testing.F) {
	f.Add("a\nb", "\x1b[31m\u202e\u009b\u2028")
	f.Add("\xff\xfe", `"]\`)
	f.Fuzz(func(t *testing.T, name, user string) {
		want := audit.Record{ID: "1", Name: name, User: user}
		line, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(line, &want); err != nil { // broken UTF-8 is mended there
			t.Fatal(err)
		}
		e, err := deliver.Parse(deliver.Decisions, line)
		if err != nil {
			t.Fatal(err)
		}
		for what, text := range map[string][]byte{"line": e.Line, "ASCII": deliver.ASCII(e.Line)} {
			for _, r := range string(text) {
				if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u202e' || what == "ASCII" && r > 0x7f {
					t.Errorf("%s has %q", what, r)
				}
			}
			var got audit.Record
			if err := json.Unmarshal(text, &got); err != nil || got.Name != want.Name || got.User != want.User {
				t.Errorf("%s says %q and %q, want %q and %q, error %v", what, got.Name, got.User, want.Name, want.User, err)
			}
		}
		if strings.ContainsAny(e.Text(), "\n\r\x1b") || strings.ContainsAny(e.Shortened().Text(), "\n\r\x1b") {
			t.Errorf("text %q", e.Text())
		}
	})
}
