package feed_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/feed"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

func opening(gate string) *gatehousev1.Open {
	return &gatehousev1.Open{Project: "p", Cluster: "here.test", Gate: gate}
}

// only lets callers do what is listed, and the writer everything.
func only(given map[string][]string) metadata.Authorizer {
	return metadata.AuthorizerFunc(func(_ context.Context, caller metadata.Caller, p metadata.Permission, resource string) error {
		if caller == writer {
			return nil
		}
		for _, g := range given[caller.Name] {
			if g == string(p)+" "+resource {
				return nil
			}
		}
		return fmt.Errorf("%s lacks %s on %s", caller.Name, p, resource)
	})
}

func TestWhoMayWatchWhat(t *testing.T) {
	t.Parallel()
	s := startWith(t, feed.Options{}, only(map[string][]string{
		"gate":     {"gatehouse.feed.watch projects/p"},
		"wide":     {"gatehouse.feed.watch projects/p", "gatehouse.feed.watch projects/q"},
		"narrow":   {"gatehouse.feed.watch projects/p", "notes.listOccurrences projects/q/notes/n", "occurrences.list projects/q", "binaryauthorization.attestors.get projects/q/attestors/a"},
		"elsewher": {"gatehouse.feed.watch projects/q"},
	}))
	own := &gatehousev1.Interest{Notes: []string{note}, Projects: []string{"p"}, Scans: []string{"p"}}
	for name, test := range map[string]struct {
		caller   string
		interest *gatehousev1.Interest
		want     codes.Code
	}{
		"nothing, of nobody":            {"stranger", nil, codes.PermissionDenied},
		"nothing, of another project":   {"elsewher", nil, codes.PermissionDenied},
		"its project":                   {"gate", own, codes.OK},
		"a note elsewhere":              {"gate", &gatehousev1.Interest{Notes: []string{"projects/q/notes/n"}}, codes.PermissionDenied},
		"a project elsewhere":           {"gate", &gatehousev1.Interest{Projects: []string{"q"}}, codes.PermissionDenied},
		"scans elsewhere":               {"gate", &gatehousev1.Interest{Scans: []string{"q"}}, codes.PermissionDenied},
		"an attestor elsewhere":         {"gate", &gatehousev1.Interest{Documents: []string{"projects/q/attestors/a"}}, codes.PermissionDenied},
		"all of it, watching there too": {"wide", &gatehousev1.Interest{Notes: []string{"projects/q/notes/n"}, Projects: []string{"q"}, Scans: []string{"q"}, Documents: []string{"projects/q/attestors/a"}}, codes.OK},
		"all of it, reading it":         {"narrow", &gatehousev1.Interest{Notes: []string{"projects/q/notes/n"}, Projects: []string{"q"}, Scans: []string{"q"}, Documents: []string{"projects/q/attestors/a"}}, codes.OK},
		"another note, reading but one": {"narrow", &gatehousev1.Interest{Notes: []string{"projects/q/notes/m"}}, codes.PermissionDenied},
		"a policy elsewhere":            {"wide", &gatehousev1.Interest{Documents: []string{"projects/q/policy"}}, codes.InvalidArgument},
		"what is no note":               {"gate", &gatehousev1.Interest{Notes: []string{"projects/p/notes"}}, codes.InvalidArgument},
		"what is no project":            {"gate", &gatehousev1.Interest{Projects: []string{"p/q"}}, codes.InvalidArgument},
		"more than anyone needs":        {"gate", &gatehousev1.Interest{Notes: make([]string, 5000)}, codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Asked for when the stream is opened, on it, and in a look-up: the answer is one.
			open := opening("g")
			open.Interest = test.interest
			stream := s.watch(test.caller, open)
			if test.want == codes.OK {
				stream.welcome()
			} else {
				stream.endsWith("when it is opened", test.want)
			}
			_, err := gatehousev1.NewFeedClient(connect(t, s.addr, test.caller)).Lookup(t.Context(), &gatehousev1.LookupRequest{Project: "p", Interest: test.interest, Digests: []string{digest(1).String()}})
			if got := status.Code(err); got != test.want {
				t.Errorf("a look-up: %v, want %v", err, test.want)
			}
			if size := len(test.interest.GetNotes()) + len(test.interest.GetProjects()) + len(test.interest.GetScans()) + len(test.interest.GetDocuments()); test.caller != "gate" || size != 1 {
				return
			}
			later := s.watch(test.caller, opening("g"))
			later.welcome()
			later.send(want(1, test.interest))
			part := later.until(func(m *gatehousev1.WatchResponse) bool { return m.GetPart().GetId() == 1 }).GetPart()
			if got := codes.Code(uint32(part.GetCode())); got != test.want || !part.GetLast() {
				t.Errorf("later: %v", part)
			}
		})
	}
}

func TestAWatchIsRecordedWhenItBeginsAndWhenItEnds(t *testing.T) {
	t.Parallel()
	s := startWith(t, feed.Options{}, only(map[string][]string{"gate": {"gatehouse.feed.watch projects/p"}}))
	s.watch("stranger", opening("x")).endsWith("a stranger", codes.PermissionDenied)
	stream := s.watch("gate", opening("g"))
	stream.welcome()
	if calls := s.recorded.of("Watch", "WatchEnd"); len(calls) != 2 || calls[0].Err == nil || calls[1].Err != nil {
		t.Fatalf("recorded %+v", calls)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	stream.ends()
	eventually(t, "the end is recorded", func() bool { return len(s.recorded.of("WatchEnd")) == 1 })
	for _, c := range s.recorded.of("Watch", "WatchEnd")[1:] {
		if c.Caller.Name != "gate" || c.Resource != "projects/p" || c.Err != nil {
			t.Errorf("recorded %+v", c)
		}
	}
}

// TestWhatAGateSendsIsChecked: a stream with what makes no sense ends, and says why.
func TestWhatAGateSendsIsChecked(t *testing.T) {
	t.Parallel()
	s := start(t, feed.Options{})
	unknown := protowire.AppendTag(nil, 99, protowire.VarintType)
	unknown = protowire.AppendVarint(unknown, 1)
	with := func(m proto.Message, change func()) { m.ProtoReflect().SetUnknown(unknown); change() }
	noGate, spaces, newer := opening(""), opening("a b"), opening("g")
	with(newer, func() {})
	noProject := opening("g")
	noProject.Project = "p/q"
	for name, test := range map[string]struct {
		open *gatehousev1.Open
		then []*gatehousev1.WatchRequest
		want codes.Code
	}{
		"no name":               {noGate, nil, codes.InvalidArgument},
		"a name with spaces":    {spaces, nil, codes.InvalidArgument},
		"a field of the future": {newer, nil, codes.Unimplemented},
		"no project":            {noProject, nil, codes.InvalidArgument},
		"something else first":  {nil, []*gatehousev1.WatchRequest{applied(1)}, codes.InvalidArgument},
		"nothing":               {opening("g"), []*gatehousev1.WatchRequest{{}}, codes.Unimplemented},
		"opened twice":          {opening("g"), []*gatehousev1.WatchRequest{{Kind: &gatehousev1.WatchRequest_Open{Open: opening("g")}}}, codes.Unimplemented},
		"wants two at once":     {opening("g"), []*gatehousev1.WatchRequest{want(1, &gatehousev1.Interest{Notes: []string{note, note}})}, codes.InvalidArgument},
		"wants nothing":         {opening("g"), []*gatehousev1.WatchRequest{want(1, nil)}, codes.InvalidArgument},
		"an id used again": {opening("g"), []*gatehousev1.WatchRequest{
			want(1, &gatehousev1.Interest{Notes: []string{note}}), want(1, &gatehousev1.Interest{Projects: []string{"p"}}),
		}, codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stream := s.watch("gate", test.open)
			for _, m := range test.then {
				stream.send(m)
			}
			stream.endsWith(name, test.want)
		})
	}
}

func TestAGateThatAsksForTooMuchIsCutOff(t *testing.T) {
	t.Parallel()
	s := start(t, feed.Options{})
	stream := s.watch("gate", opening("g"))
	stream.welcome()
	go func() {
		for i := range uint64(20_000) {
			if stream.Send(want(i+1, &gatehousev1.Interest{Notes: []string{fmt.Sprintf("projects/p/notes/n%d", i)}})) != nil {
				return
			}
		}
	}()
	stream.endsWith("20,000 wants", codes.ResourceExhausted)
}

func TestAGateGoesOnOnlyFromAHistoryThatThisStoreHas(t *testing.T) {
	t.Parallel()
	s := start(t, feed.Options{})
	for i := range 20 {
		s.attest(digest(i))
	}
	open := opening("g")
	open.Interest = &gatehousev1.Interest{Notes: []string{note}}
	at := s.watch("gate", open).welcome().GetPosition()
	for range 3 {
		s.attest(digest(int(s.Head()) + 100))
	}
	for name, test := range map[string]struct {
		position *gatehousev1.Position
		resumed  bool
	}{
		"the position that was told": {at, true},
		"of another history":         {&gatehousev1.Position{Seq: at.GetSeq(), Mark: []byte("0123456789abcdef")}, false},
		"without a mark":             {&gatehousev1.Position{Seq: at.GetSeq()}, false},
		"beyond the end":             {&gatehousev1.Position{Seq: at.GetSeq() + 1000, Mark: at.GetMark()}, false},
		"the mark of another":        {&gatehousev1.Position{Seq: at.GetSeq() - 1, Mark: at.GetMark()}, false},
		"none":                       {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open := opening("g")
			open.Interest, open.Position = &gatehousev1.Interest{Notes: []string{note}}, test.position
			stream := s.watch("gate", open)
			welcome := stream.welcome()
			if welcome.GetResumed() != test.resumed || !test.resumed && welcome.GetPosition().GetSeq() != s.Head() {
				t.Errorf("welcomed with %v", welcome)
			}
			if !test.resumed {
				return
			}
			seen, after := 0, at.GetSeq()
			for seen < 3 {
				c := stream.until(func(m *gatehousev1.WatchResponse) bool { return m.GetChanges() != nil }).GetChanges()
				if c.GetAfter() != after {
					t.Fatalf("changes after %d, want those after %d", c.GetAfter(), after)
				}
				seen, after = seen+len(c.GetChanges()), c.GetThrough().GetSeq()
			}
			if seen != 3 {
				t.Errorf("%d changes, want 3", seen)
			}
		})
	}
}

// TestASlowGateKeepsNobodyWaiting: one that takes nothing is hung up on; one that takes
// messages and applies none gets so many and no more. Meanwhile writes are as fast as
// ever, and another gate is told everything.
func TestASlowGateKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	s := start(t, feed.Options{Stall: 5 * time.Second})
	open := opening("deaf")
	open.Interest = &gatehousev1.Interest{Notes: []string{note}}
	const window = 64 << 10
	deaf := s.watch("deaf", open, grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window)) // never receives
	lazy := s.watch("gate", proto.CloneOf(open))
	lazy.welcome()
	var got, heard atomic.Int64
	go func() {
		for m, err := lazy.Recv(); err == nil; m, err = lazy.Recv() {
			if len(m.GetChanges().GetChanges()) > 0 {
				got.Add(1)
			}
			if m.GetBeat() != nil {
				heard.Add(1)
			}
		}
	}()
	x := s.indexOf(s.follow("quick"), s.trust())
	big := strings.Repeat("x", 60<<10)
	const n = 400
	for i := range n {
		o := attestation(t, s.signer, note, digest(i))
		o.Remediation = big
		s.create(o)
	}
	eventually(t, "the quick gate has everything", func() bool { return attested(collect(t, x, digest(n-1))) })
	eventually(t, "the gate that takes nothing is hung up on", func() bool {
		return slices.ContainsFunc(s.recorded.of("WatchEnd"), func(c metadata.CallRecord) bool { return c.Caller.Name == "deaf" })
	})
	if st := deaf.ends(); st.Code() == codes.OK {
		t.Errorf("the gate that takes nothing was told that all is well: %v", st)
	}
	const ahead = 64
	messages := func() int { return int(got.Load()) }
	eventually(t, "the lazy gate has what it gets", func() bool { return messages() >= ahead })
	beats := heard.Load()
	eventually(t, "the lazy gate has heard of the server since", func() bool { return heard.Load() > beats+2 })
	if n := messages(); n != ahead {
		t.Errorf("a gate that applies nothing got %d messages, want %d", n, ahead)
	}
	lazy.send(&gatehousev1.WatchRequest{Kind: &gatehousev1.WatchRequest_Took{Took: &gatehousev1.Took{}}})
	eventually(t, "one was taken, and another comes", func() bool { return messages() == ahead+1 })
}

// TestPartsWaitForTheGate: no more of a snapshot is under way than the gate has room for,
// and changes go on between.
func TestPartsWaitForTheGate(t *testing.T) {
	t.Parallel()
	s := start(t, feed.Options{})
	big := strings.Repeat("x", 100<<10)
	for i := range 60 {
		o := attestation(t, s.signer, note, digest(i))
		o.Remediation = big
		s.create(o)
	}
	stream := s.watch("gate", opening("g"))
	stream.welcome()
	stream.send(want(7, &gatehousev1.Interest{Notes: []string{note}}))
	parts, occurrences := 0, 0
	take := func(m *gatehousev1.WatchResponse) bool {
		if m.GetPart().GetId() == 7 {
			parts, occurrences = parts+1, occurrences+len(m.GetPart().GetOccurrences())
		}
		return m.GetPart().GetId() == 7 && m.GetPart().GetLast()
	}
	beats := 0
	stream.until(func(m *gatehousev1.WatchResponse) bool {
		take(m)
		if parts == 4 && m.GetBeat() != nil {
			beats++
		}
		return beats == 3
	})
	if parts != 4 {
		t.Fatalf("%d parts are under way, want 4", parts)
	}
	s.attest(digest(1000)) // told among the parts
	stream.until(func(m *gatehousev1.WatchResponse) bool { take(m); return len(m.GetChanges().GetChanges()) == 1 })
	for range 100 {
		stream.send(&gatehousev1.WatchRequest{Kind: &gatehousev1.WatchRequest_Took{Took: &gatehousev1.Took{Id: 7}}})
		stream.send(&gatehousev1.WatchRequest{Kind: &gatehousev1.WatchRequest_Took{Took: &gatehousev1.Took{Id: 8}}}) // which nobody reads
	}
	for last := parts; ; last = parts {
		m := stream.until(func(m *gatehousev1.WatchResponse) bool { return m.GetPart().GetId() == 7 })
		if take(m) {
			break
		}
		if parts == last {
			t.Fatal("no part came")
		}
		stream.send(&gatehousev1.WatchRequest{Kind: &gatehousev1.WatchRequest_Took{Took: &gatehousev1.Took{Id: 7}}})
	}
	if occurrences < 60 || occurrences > 61 {
		t.Errorf("%d occurrences in the snapshot, want 60", occurrences)
	}
}

func TestBarrier(t *testing.T) {
	t.Parallel()
	s := start(t, feed.Options{Remember: time.Hour})
	ask := func(seq uint64, within time.Duration) *gatehousev1.BarrierResponse {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		answer, err := gatehousev1.NewFeedClient(connect(t, s.addr, "recall")).Barrier(ctx, &gatehousev1.BarrierRequest{Project: "p", Seq: seq})
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	const long, short = 20 * time.Second, 4 * time.Second
	if answer := ask(s.Head(), long); !answer.GetComplete() || len(answer.GetGates()) != 0 {
		t.Errorf("without gates: %v", answer)
	}
	s.attest(digest(1))
	one, two := s.watch("gate", opening("one")), s.watch("gate", opening("two"))
	one.welcome()
	two.welcome()
	other := opening("elsewhere")
	other.Project = "q"
	s.watch("gate", other).welcome()
	seq := s.Head()
	one.send(applied(seq))
	answer := ask(seq, short)
	if answer.GetComplete() || len(answer.GetGates()) != 2 || answer.GetGates()[0].GetApplied() != seq || answer.GetGates()[1].GetGate() != "two" || answer.GetGates()[1].GetApplied() != 0 || !answer.GetGates()[1].GetConnected() {
		t.Errorf("one of two has applied it: %v", answer)
	}
	done := make(chan *gatehousev1.BarrierResponse)
	go func() { done <- ask(seq, long) }()
	two.send(applied(seq))
	if answer := <-done; !answer.GetComplete() {
		t.Errorf("both have applied it: %v", answer)
	}

	// One that dies may still decide by what it had; one that takes leave does not.
	stream, err := gatehousev1.NewFeedClient(connect(t, s.addr, "gate")).Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	three := raw{t, stream}
	three.send(&gatehousev1.WatchRequest{Kind: &gatehousev1.WatchRequest_Open{Open: opening("three")}})
	three.welcome()
	three.send(applied(seq))
	if answer := ask(seq, long); !answer.GetComplete() || len(answer.GetGates()) != 3 {
		t.Errorf("three have applied it: %v", answer)
	}
	if err := three.CloseSend(); err != nil {
		t.Fatal(err)
	}
	three.ends()
	eventually(t, "the third gate is gone", func() bool { return len(s.recorded.of("WatchEnd")) == 1 })
	answer = ask(seq, short)
	if g := answer.GetGates(); answer.GetComplete() || len(g) != 3 || g[1].GetGate() != "three" || g[1].GetConnected() || g[1].GetApplied() != seq {
		t.Errorf("one is gone without a word: %v", answer)
	}
	again := s.watch("gate", opening("three"))
	again.welcome()
	again.send(applied(seq))
	if answer := ask(seq, long); !answer.GetComplete() {
		t.Errorf("it has come back: %v", answer)
	}
	again.send(&gatehousev1.WatchRequest{Kind: &gatehousev1.WatchRequest_Leave{Leave: &gatehousev1.Leave{}}})
	if err := again.CloseSend(); err != nil {
		t.Fatal(err)
	}
	again.ends()
	if answer := ask(seq, long); !answer.GetComplete() || len(answer.GetGates()) != 2 {
		t.Errorf("it has taken leave: %v", answer)
	}
	if _, err := gatehousev1.NewFeedClient(connect(t, s.addr, "recall")).Barrier(t.Context(), &gatehousev1.BarrierRequest{Project: "p", Seq: s.Head() + 1}); status.Code(err) != codes.OutOfRange {
		t.Errorf("for a change that is still to come: %v", err)
	}
}

// TestStreamsEndWithTheServerAndWithTheirLife, and gates come back.
func TestStreamsEndWithTheServerAndWithTheirLife(t *testing.T) {
	t.Parallel()
	s := start(t, feed.Options{Life: 50 * time.Millisecond})
	s.watch("gate", opening("g")).endsWith("after its life", codes.Unavailable)
	client := s.follow("lives-on")
	eventually(t, "a second session", func() bool { return client.Status().Sessions > 2 })
	if n := client.Status().Resets; n != 0 {
		t.Errorf("%d resets", n)
	}
	long := start(t, feed.Options{})
	stream := long.watch("gate", opening("g"))
	stream.welcome()
	go long.stop()
	if st := stream.ends(); st.Code() != codes.Unavailable {
		t.Errorf("when the server stops: %v", st)
	}
}

// TestWhatIsNotOfInterestIsNotToldButPassed: the position moves on, so that a gate is not
// behind for what it does not need.
func TestWhatIsNotOfInterestIsNotToldButPassed(t *testing.T) {
	t.Parallel()
	s := start(t, feed.Options{})
	x := s.indexOf(s.follow("g"), index.Trust{})
	if err := x.SetScope(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	stream := s.watch("gate", opening("raw"))
	stream.welcome()
	for i := range 50 {
		s.createIn("projects/q", attestation(t, s.signer, note, digest(i)))
		s.createIn("projects/q", discovery(digest(i), grafeas.DiscoveryOccurrence_PENDING))
	}
	eventually(t, "the index is where the store is", func() bool { return x.Position() == s.Head() })
	for through := uint64(0); through < s.Head(); {
		c := stream.until(func(m *gatehousev1.WatchResponse) bool { return m.GetChanges() != nil }).GetChanges()
		if len(c.GetChanges()) > 0 {
			t.Fatalf("told of %v", c.GetChanges()[0])
		}
		through = c.GetThrough().GetSeq()
	}
}
