package breakglass

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// attend escalates what nobody looks at, and tells the pager what it has not been told.
func (s *Incidents) attend(ctx context.Context) {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.poke:
		}
		if err := s.Escalate(); err != nil {
			s.Logger.Error("incidents cannot be written; trying again", "error", err)
			sleep(ctx, retryAfter)
			continue
		}
		if err := s.tell(ctx); err != nil && ctx.Err() == nil {
			s.Logger.Error("the pager does not take what happened to incidents; trying again", "error", err)
			sleep(ctx, retryAfter)
		}
	}
}

// Escalate calls again for what has waited for too long, and drops what was over long ago.
func (s *Incidents) Escalate() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Now().UTC()
	for id, i := range s.byID {
		switch {
		case i.closed():
			if len(i.Untold) == 0 && now.Sub(i.History[len(i.History)-1].Time) > keptResolved {
				s.drop(id)
			}
		case i.NextEscalation.IsZero() || now.Before(i.NextEscalation):
		case i.State == StateAcknowledged:
			i.State = StateOpen
			s.call(i, Event{Kind: EventReopened, Time: now, Text: "it was acknowledged, and not resolved since"})
		default:
			i.Escalations++
			s.call(i, Event{Kind: EventEscalated, Time: now, Text: fmt.Sprintf("nobody has acknowledged it for %s", now.Sub(i.lastCall()).Round(time.Second))})
			// Each time it waits twice as long, up to a day.
			wait := s.EscalateAfter << min(i.Escalations, 10)
			i.NextEscalation = now.Add(min(wait, 24*time.Hour))
		}
	}
	return s.write()
}

// lastCall is since when somebody is called.
func (i *Incident) lastCall() time.Time {
	for n := len(i.History) - 1; n >= 0; n-- {
		if k := i.History[n].What; k == EventOpened || k == EventReopened {
			return i.History[n].Time
		}
	}
	return i.First
}

// tell tells the pager of each incident what it has not been told, those first that wait
// for the longest time. What it took is on disk afterwards; a crash in between has it told
// again. What it does not take yet holds up no other incident.
func (s *Incidents) tell(ctx context.Context) error {
	for _, id := range s.waiting() {
		if err := s.tellOf(ctx, id); err != nil && !errors.Is(err, ErrNotYet) {
			return err
		}
	}
	return nil
}

func (s *Incidents) tellOf(ctx context.Context, id string) error {
	for {
		i, e, found := s.untold(id)
		if !found {
			return nil
		}
		called := false
		if s.Pager != nil {
			err := s.Pager.Page(ctx, i, e)
			if err != nil && !errors.Is(err, ErrElsewhere) {
				return err
			}
			called = err == nil && e.Kind.Calls()
		}
		if err := s.told(i.ID, e, called); err != nil {
			return err
		}
	}
}

// waiting are the incidents with events that were not told, the oldest event first.
func (s *Incidents) waiting() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*Incident
	for _, i := range s.byID {
		if len(i.Untold) > 0 {
			all = append(all, i)
		}
	}
	slices.SortFunc(all, func(a, b *Incident) int { return a.Untold[0].Time.Compare(b.Untold[0].Time) })
	ids := make([]string, len(all))
	for n, i := range all {
		ids[n] = i.ID
	}
	return ids
}

// untold returns the oldest event that was not told of an incident.
func (s *Incidents) untold(id string) (Incident, Event, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.byID[id]
	if i == nil || len(i.Untold) == 0 {
		return Incident{}, Event{}, false
	}
	c := i.Clone()
	if standing, ok := s.standings[i.Same()]; ok {
		c.Standing = &standing
	}
	return c, i.Untold[0], true
}

func (s *Incidents) told(id string, e Event, called bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.byID[id]; i != nil && len(i.Untold) > 0 && i.Untold[0].ID == e.ID {
		i.Untold = i.Untold[1:]
		i.Called = i.Called || called
		s.changed[id] = true
	}
	return s.write()
}

// lookOver closes what is over.
func (s *Incidents) lookOver(ctx context.Context) {
	if s.Reviewer == nil {
		return
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.CloseOver(ctx); err != nil && ctx.Err() == nil {
			s.Logger.Warn("whether incidents are over cannot be told; trying again", "error", err)
		}
	}
}

// CloseOver closes the incidents whose matter is over, as the reviewer says.
func (s *Incidents) CloseOver(ctx context.Context) error {
	s.mu.Lock()
	var open []Incident
	for _, i := range s.sorted() {
		if !i.closed() && i.Kind == Glass {
			open = append(open, i.Clone())
		}
	}
	s.mu.Unlock()
	var failed error
	for _, i := range open {
		why, err := s.Reviewer.Over(ctx, i)
		if err != nil {
			failed = err
		}
		if why == "" || err != nil {
			continue
		}
		if err := s.closeOne(&i, why); err != nil {
			return err
		}
	}
	s.wake()
	return failed
}

// closeOne closes an incident, unless it was of use meanwhile.
func (s *Incidents) closeOne(seen *Incident, why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.byID[seen.ID]
	if i == nil || i.closed() || i.Uses != seen.Uses {
		return nil
	}
	s.become(i, StateResolved, Event{Kind: EventClosed, Time: s.Now().UTC(), Text: why})
	return s.write()
}
