package breakglass

import (
	"fmt"
	"time"
)

// A ReceiverState is how a way to people does.
type ReceiverState struct {
	Name string
	// FailingSince is zero while it works, as far as is known, and Why is the last error.
	FailingSince time.Time
	Why          string
	// Worked is when it was last seen to work; zero if it was not since the start.
	Worked time.Time
}

func (s *ReceiverState) workload() Workload {
	return Workload{Kind: "Receiver", Name: cut(s.Name, maxUsername)}
}

// Receivers opens an incident for each receiver that has failed for some time, and closes
// those of receivers that work again, or are not there any more.
func (s *Incidents) Receivers(states []ReceiverState, after time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Now().UTC()
	there := map[Key]bool{}
	for _, r := range states {
		k := keyOf("", string(Receiver), r.workload(), "")
		there[k] = true
		i := s.current[k]
		switch {
		case r.FailingSince.IsZero() && i != nil && r.Worked.After(i.First):
			s.become(i, StateResolved, Event{Kind: EventClosed, Time: now, Text: "it works again"})
		case !r.FailingSince.IsZero() && i == nil && now.Sub(r.FailingSince) >= after && !s.full():
			s.failing(k, r, now)
		case !r.FailingSince.IsZero() && i != nil:
			i.Last, i.Said = now, cut(r.Why, maxPolicyText) // as it was, when something else is written
		}
	}
	for k, i := range s.current {
		if i.Kind == Receiver && !there[k] {
			s.become(i, StateResolved, Event{Kind: EventClosed, Time: now, Text: "it is not configured any more"})
		}
	}
	s.wake()
	return s.write()
}

func (s *Incidents) failing(k Key, r ReceiverState, now time.Time) {
	i := &Incident{
		Kind: Receiver, State: StateOpen, Workload: r.workload(), First: r.FailingSince.UTC(), Last: now, Said: cut(r.Why, maxPolicyText), Before: s.before(k),
	}
	i.ID = s.newID(k, i.Before)
	s.byID[i.ID], s.current[k] = i, i
	s.call(i, Event{Kind: EventOpened, Time: now, Text: fmt.Sprintf("nobody is told over it since %s: %s", i.First.Format(time.RFC3339), i.Said)})
}
