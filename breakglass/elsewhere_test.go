package breakglass_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/breakglass"
)

// from is a use that a gate elsewhere has sent: the nth of its log.
func from(gate string, n int64, r audit.Record) audit.Record {
	r.Origin = &audit.Origin{Gate: gate, Caller: "gates", After: audit.Position{Segment: "log of " + gate, Offset: n}}
	return r
}

func TestGatesOfAClusterHaveOneIncident(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	var all []audit.Record
	for n := range int64(10) {
		for _, gate := range []string{"a", "b", "c"} {
			all = append(all, from(gate, n+1, used("web", 1, "ann")))
		}
	}
	d.happens(all...)
	if i := d.one(); i.Uses != 30 || i.Pods != 30 || len(i.Gates) != 3 {
		t.Errorf("got %+v", i)
	}
	t.Run("however often they are sent", func(t *testing.T) {
		d.happens(all...)
		if i := d.one(); i.Uses != 30 {
			t.Errorf("%d uses", i.Uses)
		}
		d.close()
		d.open()
		d.happens(all[15:]...)
		d.happens(from("a", 11, used("web", 1, "bob")))
		if i := d.one(); i.Uses != 31 || len(i.People) != 2 {
			t.Errorf("after a restart: %+v", i)
		}
		if at := d.Through(all[0].Origin); at.Offset != 11 {
			t.Errorf("the log of a is here up to %v", at)
		}
	})
	t.Run("with the id that it has in each of them", func(t *testing.T) {
		other := openDesk(t)
		other.happens(used("web", 1, "carl"))
		if a, b := d.one().ID, other.one().ID; a != b {
			t.Errorf("%s and %s", a, b)
		}
	})
}

func TestWhatTheServiceSaysOfAnIncidentCountsHere(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	d.happens(used("web", 1, "ann"))
	k := d.Unresolved()[0]
	at := d.one().Logged
	hear := func(state breakglass.State, at audit.Position) breakglass.Incident {
		t.Helper()
		if err := d.Hear(k, breakglass.Standing{State: state, Told: true, Who: "eve", Text: "I look", At: at, Heard: d.clock.now()}); err != nil {
			t.Fatal(err)
		}
		return d.all()[0]
	}
	if i := hear(breakglass.StateAcknowledged, audit.Position{}); i.State != breakglass.StateOpen {
		t.Error("it was of use since, and is acknowledged")
	}
	i := hear(breakglass.StateAcknowledged, at)
	if last := i.History[len(i.History)-1]; i.State != breakglass.StateAcknowledged || last.Who != "eve" || last.Text != "I look" {
		t.Errorf("got %+v", i)
	}
	d.clock.add(breakglass.DefaultEscalateAfter)
	if err := d.Escalate(); err != nil {
		t.Fatal(err)
	}
	if i := d.one(); i.Escalations != 0 {
		t.Error("it is acknowledged, and escalates")
	}
	if i := hear(breakglass.StateOpen, at); i.State != breakglass.StateOpen {
		t.Errorf("got %+v", i)
	}
	if i := hear("", at); i.State != breakglass.StateOpen {
		t.Error("the service does not know it, and it is not open")
	}
	if i := hear(breakglass.StateResolved, at); i.State != breakglass.StateResolved || len(d.Unresolved()) != 0 {
		t.Errorf("got %+v", i)
	}
}

func TestWhatIsNotToldYetHoldsUpNothing(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	d.pager.answer = func(i breakglass.Incident) error {
		if i.Workload.Name == "web" {
			return breakglass.ErrNotYet
		}
		return breakglass.ErrElsewhere
	}
	d.happens(used("web", 1, "ann"), used("api", 1, "ann"))
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- d.Incidents.Run(ctx) }()
	told := func() (left int) {
		for _, i := range d.all() {
			left += len(i.Untold)
			if i.Called {
				t.Errorf("%s is called for", i.Workload)
			}
		}
		return left
	}
	for deadline := time.Now().Add(10 * time.Second); told() != 1 && time.Now().Before(deadline); {
		<-d.pager.took // it is asked again and again
	}
	if n := told(); n != 1 {
		t.Errorf("%d events are not told, want that of web", n)
	}
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

func TestAReceiverThatFailsIsAnIncident(t *testing.T) {
	t.Parallel()
	d := openDesk(t)
	since := noon.Add(-time.Minute)
	failing := breakglass.ReceiverState{Name: "am", FailingSince: since, Why: "connection refused"}
	fine := breakglass.ReceiverState{Name: "mail"}
	look := func(states ...breakglass.ReceiverState) {
		t.Helper()
		if err := d.Receivers(states, 5*time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	look(failing, fine)
	if n := len(d.all()); n != 0 {
		t.Fatalf("%d incidents before its time", n)
	}
	d.clock.add(5 * time.Minute)
	look(failing, fine)
	look(failing, fine)
	if i := d.one(); i.Kind != breakglass.Receiver || i.Key() != "pager/am" || i.State != breakglass.StateOpen || i.Said != "connection refused" {
		t.Errorf("got %+v", i)
	}
	d.clock.add(breakglass.DefaultEscalateAfter)
	if err := d.Escalate(); err != nil {
		t.Fatal(err)
	}
	if i := d.one(); i.Escalations != 1 {
		t.Error("nobody looks, and it does not escalate")
	}
	d.close()
	d.open()
	look(breakglass.ReceiverState{Name: "am"}, fine) // it has not been tried since the start
	if i := d.one(); i.State != breakglass.StateOpen {
		t.Error("it is over, and the receiver was not seen to work")
	}
	look(breakglass.ReceiverState{Name: "am", Worked: d.clock.now()}, fine)
	if i := d.one(); i.State != breakglass.StateResolved {
		t.Errorf("it works, and: %+v", i)
	}
	d.clock.add(time.Hour)
	look(breakglass.ReceiverState{Name: "mail", FailingSince: noon})
	look() // mail is not there any more
	for _, i := range d.all() {
		if i.State != breakglass.StateResolved {
			t.Errorf("got %+v", i)
		}
	}
	if err := d.CloseOver(t.Context()); err != nil || errors.Is(err, breakglass.ErrOver) {
		t.Error(err)
	}
}
