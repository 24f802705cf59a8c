package breakglass

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/decide"
)

const (
	// DefaultEscalateAfter is how long an incident waits for somebody to look.
	DefaultEscalateAfter = 15 * time.Minute
	// DefaultForgottenAfter is how long one that was acknowledged may stay so.
	DefaultForgottenAfter = 24 * time.Hour
	// maxIncidents bounds those that are kept, some 3 kB each. Beyond it what is resolved is
	// dropped, the oldest first; and once all are open, further ones are one together.
	maxIncidents = 5000
	// keptResolved is how long one that is resolved is kept.
	keptResolved = 90 * 24 * time.Hour
	// batch is how many lines are applied before they are written.
	batch = 2000
	// checkEvery is how often it is looked at what has come to its time, and lookEvery
	// whether an image is allowed now, or gone.
	checkEvery = time.Second
	lookEvery  = 10 * time.Second
	// retryAfter is how long a pager or a disk that failed is left alone.
	retryAfter = 5 * time.Second
	maxComment = 1024
)

// A Pager is told of what happens to incidents.
type Pager interface {
	// Page takes an event of an incident, as it is by now, and returns when it will be told
	// whatever happens. It is called again until it returns nil or [ErrElsewhere], and then
	// with the same event, of which i.Key and e.ID tell.
	Page(ctx context.Context, i Incident, e Event) error
}

// ErrElsewhere says that somebody else tells of an event, or nobody has to.
var ErrElsewhere = errors.New("it is told elsewhere")

// ErrNotYet says that it is not known yet who tells of an event: Page is to be called again
// in a while.
var ErrNotYet = errors.New("it is not known yet who tells of it")

// A Reviewer tells whether an incident's matter is over.
type Reviewer interface {
	// Over returns why: that the image is allowed by now, or is not there any more; "" if it
	// is not over, or nobody can tell.
	Over(ctx context.Context, i Incident) (why string, err error)
}

// IncidentOptions configure [Incidents].
type IncidentOptions struct {
	// Dir is where the journal is.
	Dir string
	// Log is the audit log that the incidents are made from.
	Log     *audit.Log
	Writers *Writers
	// Pager and Reviewer may be nil.
	Pager    Pager
	Reviewer Reviewer
	// EscalateAfter and ForgottenAfter default to [DefaultEscalateAfter] and
	// [DefaultForgottenAfter].
	EscalateAfter, ForgottenAfter time.Duration
	Now                           func() time.Time
	Logger                        *slog.Logger
}

// Incidents are made from the audit log, and say what became of it. They are safe for
// concurrent use.
type Incidents struct {
	IncidentOptions

	mu      sync.Mutex
	hold    *audit.Hold
	at      audit.Position
	written audit.Position // the position that is on disk
	byID    map[string]*Incident
	current map[Key]*Incident // those that further uses belong to
	changed map[string]bool   // not on disk yet
	dropped []string
	// origins are by who sends, and the file of his log. Those that have moved are not on
	// disk yet.
	origins map[string]*origin
	moved   map[string]bool
	// standings are what a service elsewhere says.
	standings map[Key]Standing
	journal   *journal

	// poke wakes who looks at what has come to its time.
	poke chan struct{}
}

// ErrNoIncident says that there is no incident of that id.
var ErrNoIncident = errors.New("there is no such incident")

// ErrOver says that the incident is resolved already.
var ErrOver = errors.New("the incident is resolved already")

// OpenIncidents reads what was known when the process ended. [Incidents.Run] goes on from
// there.
func OpenIncidents(o IncidentOptions) (*Incidents, error) {
	if o.Dir == "" || o.Log == nil || o.Writers == nil || o.Now == nil || o.Logger == nil {
		return nil, errors.New("opening incidents: Dir, Log, Writers, Now and Logger are needed")
	}
	o.EscalateAfter = cmp.Or(o.EscalateAfter, DefaultEscalateAfter)
	o.ForgottenAfter = cmp.Or(o.ForgottenAfter, DefaultForgottenAfter)
	s := &Incidents{
		IncidentOptions: o, byID: map[string]*Incident{}, current: map[Key]*Incident{}, changed: map[string]bool{}, origins: map[string]*origin{}, moved: map[string]bool{}, standings: map[Key]Standing{}, poke: make(chan struct{}, 1),
	}
	j, err := openJournal(o.Dir, func(e *entry) {
		s.at = e.At
		for _, i := range e.Incidents {
			s.put(i)
		}
		for _, id := range e.Dropped {
			s.drop(id)
		}
		for _, object := range e.Objects {
			s.Writers.Put(object)
		}
		maps.Copy(s.origins, e.Origins)
	})
	if err != nil {
		return nil, err
	}
	_ = s.Writers.take() // they are on disk
	s.dropped, s.journal, s.written = nil, j, s.at
	s.hold = s.Log.Hold("break-glass incidents", s.at)
	return s, nil
}

// Close closes the journal. What it lacks follows from the audit log.
func (s *Incidents) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at != s.written {
		s.written = audit.Position{} // where it goes on is worth a line
	}
	return errors.Join(s.write(), s.journal.close())
}

func (s *Incidents) put(i *Incident) {
	s.byID[i.ID] = i
	if i.closed() {
		delete(s.standings, i.Same())
	}
	if k := i.Same(); !i.closed() {
		s.current[k] = i
	} else if was := s.current[k]; was != nil && was.ID == i.ID {
		delete(s.current, k)
	}
}

func (s *Incidents) drop(id string) {
	i := s.byID[id]
	if i == nil {
		return
	}
	delete(s.byID, id)
	delete(s.changed, id)
	if was := s.current[i.Same()]; was == i {
		delete(s.current, i.Same())
	}
	s.dropped = append(s.dropped, id)
}

// Run follows the audit log, escalates, closes and pages until ctx ends.
func (s *Incidents) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { s.attend(ctx) })
	tasks.Go(func() { s.lookOver(ctx) })
	for ctx.Err() == nil {
		s.mu.Lock()
		at := s.at
		s.mu.Unlock()
		err := s.Log.Wait(ctx, at)
		if err == nil {
			err = s.CatchUp()
		}
		if err == nil {
			s.wake()
			continue
		}
		if ctx.Err() == nil {
			s.Logger.Error("incidents cannot be made from the audit log; trying again", "error", err)
			sleep(ctx, retryAfter)
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func (s *Incidents) wake() {
	select {
	case s.poke <- struct{}{}:
	default: // woken already
	}
}

// CatchUp applies what the audit log has.
func (s *Incidents) CatchUp() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	end, err := s.Log.Lines(s.at, func(line []byte, next audit.Position) error {
		s.at = next
		s.apply(line)
		if n++; n%batch == 0 {
			return s.write()
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.at = end
	if err := s.write(); err != nil {
		return err
	}
	s.hold.Set(s.at)
	return nil
}

// What lines that count have, and most lines have not.
var marked, sent = []byte(`"breakGlass":`), []byte(`"origin":`)

// Counts reports whether a line of the audit log tells of a marker of break-glass.
func Counts(line []byte) bool { return bytes.Contains(line, marked) }

// apply applies one line of the audit log.
func (s *Incidents) apply(line []byte) {
	if !Counts(line) && !bytes.Contains(line, sent) {
		return
	}
	var r audit.Record
	if err := json.Unmarshal(line, &r); err != nil {
		s.Logger.Error("a line of the audit log cannot be read, and is passed over", "error", err)
		return
	}
	if r.Origin != nil && !s.moves(r.Origin) {
		return // it has come before
	}
	if r.DryRun { // nothing has come of it
		return
	}
	if b := r.BreakGlass; b != nil && len(b.Object) > 0 && b.Refused == "" {
		var o Object
		if json.Unmarshal(b.Object, &o) == nil {
			s.Writers.Put(o)
		}
	}
	for _, u := range usesOf(&r) {
		s.use(u)
	}
}

// use counts a use, and opens an incident if there is none.
func (s *Incidents) use(u use) {
	k := u.key()
	i := s.current[k]
	if i == nil && s.full() {
		r := *u.record
		r.BreakGlass, r.Cluster, r.Namespace = &audit.BreakGlass{Kind: "(more)", Name: "(more)", Permit: permitOf(u.record)}, "", "(more)"
		u.record = &r
		u.image = &decide.ImageDecision{Image: "(many)", Verdict: u.image.Verdict}
		k = u.key()
		i = s.current[k]
	}
	opened := i == nil
	if opened {
		i = u.incident()
		i.Before = s.before(k)
		i.ID = s.newID(k, i.Before)
		s.byID[i.ID], s.current[k] = i, i
	}
	stranger := i.add(u)
	i.Logged = s.at
	switch {
	case opened:
		s.call(i, Event{Kind: EventOpened, Time: i.First, Who: i.People[0].Name})
	case stranger && i.State == StateAcknowledged:
		i.State = StateOpen
		s.call(i, Event{Kind: EventReopened, Time: i.Last, Who: i.People[len(i.People)-1].Name, Text: "somebody else broke glass since it was acknowledged"})
	}
	s.changed[i.ID] = true
}

func permitOf(r *audit.Record) string {
	if r.BreakGlass != nil {
		return r.BreakGlass.Permit
	}
	return string(Open)
}

// call notes an event after which somebody has to come: he has as long as he would have
// had, however late the process heard of it.
func (s *Incidents) call(i *Incident, e Event) {
	i.NextEscalation = s.Now().UTC().Add(s.EscalateAfter)
	e.At = s.at
	i.note(e)
	s.changed[i.ID] = true
}

// newID returns an id that no incident has.
func (s *Incidents) newID(k Key, before string) string {
	id := incidentID(k, before)
	for s.byID[id] != nil {
		id = incidentID(k, id)
	}
	return id
}

// before returns the last incident of the key that was resolved.
func (s *Incidents) before(k Key) string {
	if last := s.lastResolved(k); last != nil {
		return last.ID
	}
	return ""
}

func (s *Incidents) lastResolved(k Key) (last *Incident) {
	for _, i := range s.byID {
		if i.closed() && i.Same() == k && (last == nil || i.First.After(last.First)) {
			last = i
		}
	}
	return last
}

// full reports whether no incident can be opened; it drops what was resolved.
func (s *Incidents) full() bool {
	if len(s.byID) < maxIncidents {
		return false
	}
	var over []*Incident
	for _, i := range s.byID {
		if i.closed() && len(i.Untold) == 0 {
			over = append(over, i)
		}
	}
	slices.SortFunc(over, func(a, b *Incident) int { return a.Last.Compare(b.Last) })
	for _, i := range over[:min(len(over), maxIncidents/20)] {
		s.drop(i.ID)
	}
	return len(s.byID) >= maxIncidents
}

// write puts on disk what has changed, and how far the log was read. The position alone is
// worth a write for each file of the log.
func (s *Incidents) write() error {
	objects := s.Writers.take()
	if len(s.changed) == 0 && len(s.dropped) == 0 && len(objects) == 0 && len(s.moved) == 0 && s.at.Segment == s.written.Segment {
		return nil
	}
	e := &entry{At: s.at, Dropped: s.dropped, Objects: objects}
	for id := range s.changed {
		e.Incidents = append(e.Incidents, s.byID[id])
	}
	for name := range s.moved {
		if e.Origins == nil {
			e.Origins = map[string]*origin{}
		}
		e.Origins[name] = s.origins[name]
	}
	var err error
	if s.journal.large() {
		err = s.journal.replace(s.whole())
	} else {
		err = s.journal.append(e)
	}
	if err != nil {
		for _, o := range objects {
			s.Writers.again(o.UID)
		}
		return err
	}
	clear(s.changed)
	clear(s.moved)
	s.dropped, s.written = nil, s.at
	return nil
}

// whole is everything, in entries of some size.
func (s *Incidents) whole() []*entry {
	const each = 500
	var all []*entry
	next := &entry{At: s.at, Origins: s.origins}
	flush := func() { all, next = append(all, next), &entry{At: s.at} }
	for _, i := range s.sorted() {
		if next.Incidents = append(next.Incidents, i); len(next.Incidents) >= each {
			flush()
		}
	}
	for _, o := range s.Writers.all() {
		if next.Objects = append(next.Objects, o); len(next.Objects) >= each {
			flush()
		}
	}
	flush()
	return all
}

// sorted returns all, the newest first.
func (s *Incidents) sorted() []*Incident {
	all := make([]*Incident, 0, len(s.byID))
	for _, i := range s.byID {
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b *Incident) int { return cmp.Or(b.First.Compare(a.First), cmp.Compare(b.ID, a.ID)) })
	return all
}

// A Filter selects incidents; a field that is empty selects all.
type Filter struct {
	State     State
	Namespace string
	// Text selects those whose workload, image or person contains it.
	Text string
}

// Match reports whether the filter selects an incident.
func (f Filter) Match(i *Incident) bool {
	if f.State != "" && i.State != f.State || f.Namespace != "" && i.Namespace != f.Namespace {
		return false
	}
	return f.Text == "" || strings.Contains(i.Workload.String(), f.Text) || strings.Contains(i.Image, f.Text) ||
		slices.ContainsFunc(i.People, func(p Person) bool { return strings.Contains(p.Name, f.Text) })
}

// List returns those that a filter selects, the newest first, after the one of an id if
// that is not empty, and at most limit.
func (s *Incidents) List(f Filter, after string, limit int) (list []Incident, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.sorted()
	if n := slices.IndexFunc(all, func(i *Incident) bool { return i.ID == after }); n >= 0 {
		all = all[n+1:]
	}
	for _, i := range all {
		if !f.Match(i) {
			continue
		}
		if len(list) == limit {
			return list, true
		}
		list = append(list, i.Clone())
	}
	return list, false
}

// Get returns one.
func (s *Incidents) Get(id string) (Incident, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.byID[id]; i != nil {
		return i.Clone(), nil
	}
	return Incident{}, ErrNoIncident
}

// Acknowledge says that somebody looks. It is on disk when it returns.
func (s *Incidents) Acknowledge(id, who, comment string) (Incident, error) {
	return s.turn(id, EventAcknowledged, StateAcknowledged, who, comment)
}

// Resolve says that it is over. It is on disk when it returns. Another use opens another.
func (s *Incidents) Resolve(id, who, comment string) (Incident, error) {
	return s.turn(id, EventResolved, StateResolved, who, comment)
}

func (s *Incidents) turn(id string, what EventKind, to State, who, comment string) (Incident, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.byID[id]
	switch {
	case i == nil:
		return Incident{}, ErrNoIncident
	case i.closed():
		return Incident{}, ErrOver
	}
	was := i.Clone()
	s.become(i, to, Event{Kind: what, Time: s.Now().UTC(), Who: cut(who, maxUsername), Text: cut(comment, maxComment)})
	if err := s.write(); err != nil {
		s.put(&was)
		return Incident{}, err
	}
	s.wake()
	return i.Clone(), nil
}

// become puts an incident into another state.
func (s *Incidents) become(i *Incident, to State, e Event) {
	i.State = to
	i.NextEscalation = time.Time{}
	if to == StateAcknowledged {
		i.NextEscalation = e.Time.Add(s.ForgottenAfter)
	}
	i.note(e)
	s.put(i)
	s.changed[i.ID] = true
}

// OldestOpen returns when glass was first broken for the oldest incident that nobody has
// acknowledged; zero if there is none.
func (s *Incidents) OldestOpen() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	var oldest time.Time
	for _, i := range s.byID {
		if i.State == StateOpen && (oldest.IsZero() || i.First.Before(oldest)) {
			oldest = i.First
		}
	}
	return oldest
}

// Counts are the incidents in each state.
func (s *Incidents) Counts() map[State]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := map[State]int{StateOpen: 0, StateAcknowledged: 0, StateResolved: 0}
	for _, i := range s.byID {
		n[i.State]++
	}
	return n
}
