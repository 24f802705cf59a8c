package breakglass

import (
	"context"
	"slices"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit"
)

// maxOrigins bounds the files of logs elsewhere whose positions are remembered.
const maxOrigins = 4096

// originOf names a file of a log of whoever calls.
func originOf(o *audit.Origin) string { return o.Caller + "\x00" + o.After.Segment }

// moves notes a record of a log elsewhere, and reports whether it is new.
func (s *Incidents) moves(o *audit.Origin) bool {
	name := originOf(o)
	known := s.origins[name]
	if known != nil && !known.After.Before(o.After) {
		return false
	}
	s.origins[name] = &origin{After: o.After, Heard: s.Now().UTC()}
	s.moved[name] = true
	if len(s.origins) > maxOrigins {
		s.forgetOrigins()
	}
	return true
}

// forgetOrigins forgets some that were heard longest ago.
func (s *Incidents) forgetOrigins() {
	var times []time.Time
	for _, o := range s.origins {
		times = append(times, o.Heard)
	}
	slices.SortFunc(times, time.Time.Compare)
	oldest := times[len(times)/20]
	for name, o := range s.origins {
		if !o.Heard.After(oldest) {
			delete(s.origins, name)
			delete(s.moved, name)
		}
	}
}

// Through returns how far the records of a file of a log elsewhere are on disk here, and
// counted.
func (s *Incidents) Through(o *audit.Origin) audit.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.origins[originOf(o)]; known != nil {
		return known.After
	}
	return audit.Position{}
}

// AwaitOrigin returns when the records of a file of a log elsewhere are on disk here up to
// a position, or with ctx's error.
func (s *Incidents) AwaitOrigin(ctx context.Context, o *audit.Origin) error {
	for {
		if err := s.CatchUp(); err != nil {
			return err
		}
		s.mu.Lock()
		at, known := s.at, s.origins[originOf(o)]
		done := known != nil && !known.After.Before(o.After)
		s.mu.Unlock()
		if done {
			s.wake()
			return nil
		}
		if err := s.Log.Wait(ctx, at); err != nil {
			return err
		}
	}
}

// Stands returns how the incidents of a key stand here, for who is elsewhere.
func (s *Incidents) Stands(k Key) Standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.current[k]
	if i == nil {
		i = s.lastResolved(k)
	}
	if i == nil {
		return Standing{}
	}
	st := Standing{State: i.State, Told: len(i.Untold) == 0}
	for _, e := range slices.Backward(i.History) {
		if e.What != EventEscalated {
			st.Who, st.Text, st.Time = e.Who, e.Text, e.Time
			break
		}
	}
	return st
}

// Unresolved are the keys of the incidents of break-glass that are not resolved.
func (s *Incidents) Unresolved() []Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []Key
	for k, i := range s.current {
		if i.Kind == Glass {
			keys = append(keys, k)
		}
	}
	return keys
}

// Hear is told how an incident stands at the service. It is put into the same state here,
// unless it was of use since.
func (s *Incidents) Hear(k Key, st Standing) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.current[k]
	if i == nil {
		delete(s.standings, k)
		return nil
	}
	s.standings[k] = st
	if st.At.Before(i.Logged) || st.State == i.State || st.State == "" {
		return nil
	}
	e := Event{Time: s.Now().UTC(), Who: cut(st.Who, maxUsername), Text: cut(st.Text, maxComment)}
	switch st.State {
	case StateOpen:
		i.State, e.Kind = StateOpen, EventReopened
		s.call(i, e)
	case StateAcknowledged:
		e.Kind = EventAcknowledged
		s.become(i, st.State, e)
	case StateResolved:
		e.Kind = EventResolved
		s.become(i, st.State, e)
		delete(s.standings, k)
	}
	return s.write()
}
