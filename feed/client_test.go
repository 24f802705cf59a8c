package feed_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/feed"
	"github.com/gatehouse-dev/gatehouse/feed/feedclient"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// facts are what an index tells of some digests.
func facts(t testing.TB, x *index.Index, n int) map[image.Digest]evidence.Image {
	var refs []image.Reference
	for i := range n {
		refs = append(refs, ref(t, digest(i)))
	}
	return x.Collect(t.Context(), refs).Images
}

// resting returns what a decision may rest on while some keys are trusted. Until the next
// change an index has facts by the keys of before too, and tells which statements those
// did not sign: which ones, the moment of the change decides.
func resting(images map[image.Digest]evidence.Image, trust index.Trust) map[image.Digest]evidence.Image {
	rest := make(map[image.Digest]evidence.Image, len(images))
	for d, img := range images {
		counts := make(map[string]evidence.Attestation)
		for _, a := range img.Attestations {
			for _, authority := range []string{a.Note, "projects/" + a.Project} {
				if slices.ContainsFunc(trust[authority], func(k *signature.PublicKey) bool { return k.Fingerprint() == a.Fingerprint }) {
					as := fmt.Sprint(authority, a.Fingerprint)
					counts[as] = evidence.Attestation{Origin: evidence.Origin{Note: authority, KeyID: a.KeyID, Fingerprint: a.Fingerprint}, Repository: a.Repository}
				}
			}
		}
		img.Attestations, img.Rejected = nil, nil
		for _, as := range slices.Sorted(maps.Keys(counts)) {
			img.Attestations = append(img.Attestations, counts[as])
		}
		rest[d] = img
	}
	return rest
}

// TestAGateElsewhereKnowsTheSame as one beside the store, whatever happens there, and
// however often the server goes and comes: everything, if both have heard of the same
// when the trusted keys change, and if not, all that a decision may rest on.
func TestAGateElsewhereKnowsTheSame(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 7))
			s := start(t, feed.Options{})
			second := newSigner(t)
			trusts := []index.Trust{
				s.trust(),
				{note: {s.signer.PublicKey(), second.PublicKey()}},
				{"projects/p": {second.PublicKey()}, note: {s.signer.PublicKey()}},
			}
			far := s.indexOf(s.follow("far"), trusts[0])
			near := index.New(s.Service, discard())
			if err := errors.Join(near.SetTrust(t.Context(), trusts[0]), near.SetScope(t.Context(), []string{"p"})); err != nil {
				t.Fatal(err)
			}
			background(t, near.Run)
			const images = 8
			var live []*grafeas.Occurrence
			trusted, racing := trusts[0], seed%2 == 1
			known := func(x *index.Index) map[image.Digest]evidence.Image {
				if all := facts(t, x, images); !racing {
					return all
				} else {
					return resting(all, trusted)
				}
			}
			arrived := func() bool { return far.Position() == s.Head() && near.Position() == s.Head() }
			same := func(step int) {
				t.Helper()
				defer func() {
					if t.Failed() {
						t.Logf("near and far, at %d and %d of %d:\n%s", near.Position(), far.Position(), s.Head(), cmp.Diff(known(near), known(far), cmp.AllowUnexported(image.Digest{})))
					}
				}()
				eventually(t, fmt.Sprintf("step %d: both know the same", step), func() bool {
					return arrived() && cmp.Equal(known(near), known(far), cmp.AllowUnexported(image.Digest{}))
				})
			}
			for step := range 120 {
				d := digest(rng.IntN(images))
				switch n := rng.IntN(12); {
				case n < 3 && len(live) > 0:
					i := rng.IntN(len(live))
					s.delete(live[i])
					live = slices.Delete(live, i, i+1)
				case n < 5:
					live = append(live, s.create(discovery(d, []grafeas.DiscoveryOccurrence_AnalysisStatus{
						grafeas.DiscoveryOccurrence_FINISHED_SUCCESS, grafeas.DiscoveryOccurrence_PENDING, grafeas.DiscoveryOccurrence_FINISHED_FAILED,
					}[rng.IntN(3)])))
				case n < 6:
					live = append(live, s.create(&grafeas.Occurrence{ResourceUri: uri(d), NoteName: "projects/p/notes/CVE-1", Details: &grafeas.Occurrence_Vulnerability{
						Vulnerability: &grafeas.VulnerabilityOccurrence{EffectiveSeverity: grafeas.Severity(rng.IntN(6)), PackageIssue: []*grafeas.VulnerabilityOccurrence_PackageIssue{{
							AffectedCpeUri: "cpe:/o:debian:debian_linux:12", AffectedPackage: "x", AffectedVersion: &grafeas.Version{Kind: grafeas.Version_MINIMUM}, FixedVersion: &grafeas.Version{Kind: grafeas.Version_MAXIMUM},
						}}},
					}}))
				case n < 7:
					kind := []grafeas.NoteKind{grafeas.NoteKind_VULNERABILITY, grafeas.NoteKind_SECRET}[rng.IntN(2)]
					if _, err := s.UpdateNote(t.Context(), writer, scanner, func(n *grafeas.Note) (*grafeas.Note, error) {
						n = proto.CloneOf(n)
						n.GetDiscovery().AnalysisKind = kind
						return n, nil
					}); err != nil {
						t.Fatal(err)
					}
				case n < 8:
					trust := trusts[rng.IntN(len(trusts))]
					if trusted = trust; !racing {
						eventually(t, "both have heard of the same", arrived)
					}
					if err := errors.Join(near.SetTrust(t.Context(), trust), far.SetTrust(t.Context(), trust)); err != nil && metadata.KindOf(err) != metadata.Unavailable {
						t.Fatal(err)
					} else if err != nil {
						eventually(t, "the keys are set", func() bool { return far.SetTrust(t.Context(), trust) == nil })
					}
				case n < 9 && step%3 == 0:
					s.stop()
					s.server = serve(t, s.Service, feed.Options{}, s.addr)
				default:
					by := s.signer
					if rng.IntN(2) == 0 {
						by = second
					}
					parent := []string{"projects/p", "projects/p/locations/l", "projects/q"}[rng.IntN(3)]
					o, err := s.CreateOccurrence(t.Context(), writer, parent, attestation(t, by, []string{note, "projects/p/notes/other"}[rng.IntN(2)], d))
					if err == nil {
						live = append(live, o)
					} else if metadata.KindOf(err) != metadata.AlreadyExists { // keys sign the same in the same way
						t.Fatal(err)
					}
				}
				if step%20 == 19 {
					same(step)
				}
			}
		})
	}
}

// TestALookupTellsWhatThereIsNow, in the words of the index.
func TestALookupTellsWhatThereIsNow(t *testing.T) {
	t.Parallel()
	s := start(t, feed.Options{})
	c := s.follow("g")
	x := s.indexOf(c, index.Trust{note: {s.signer.PublicKey()}, "projects/p": {s.signer.PublicKey()}})
	s.attest(digest(1))
	s.createIn("projects/q", attestation(t, s.signer, note, digest(1)))
	s.create(discovery(digest(1), grafeas.DiscoveryOccurrence_FINISHED_SUCCESS))
	s.create(discovery(digest(2), grafeas.DiscoveryOccurrence_PENDING))
	s.createIn("projects/q", attestation(t, s.signer, "projects/p/notes/other", digest(2))) // of no interest
	digests := []image.Digest{digest(1), digest(2), digest(3)}
	var texts []string
	for _, d := range digests {
		texts = append(texts, d.String())
	}
	found, err := c.Evidence().Lookup(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "everything has arrived", func() bool { return x.Position() == s.Head() })
	got := x.About(digests, found.Occurrences, found.Summaries, found.Scanners)
	want := make(map[image.Digest]evidence.Image)
	for _, d := range digests {
		want[d] = collect(t, x, d)
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(image.Digest{})); d != "" {
		t.Errorf("(-index +lookup):\n%s", d)
	}
	if len(want[digest(1)].Attestations) == 0 || len(want[digest(1)].Scans) == 0 || len(want[digest(2)].Scans) == 0 || len(want[digest(2)].Attestations) != 0 {
		t.Errorf("there is nothing to compare: %+v", want)
	}
	// A server that is away says so, and does not say that there is nothing.
	s.stop()
	if _, err := c.Evidence().Lookup(t.Context(), texts); metadata.KindOf(err) != metadata.Unavailable {
		t.Errorf("without a server: %v", err)
	}
}

func TestDocumentsArriveAsTheyChange(t *testing.T) {
	t.Parallel()
	s := start(t, feed.Options{})
	s.document("projects/p/policy", "one", 1)
	s.document("projects/p/attestors/a", "a", 1)
	s.document("projects/q/attestors/b", "b", 1)
	s.document("projects/q/policy", "secret", 1)
	s.document("locations/global/policy", "system", 1)
	c := s.follow("g")
	docs := c.Documents()
	content := func(name string) string {
		t.Helper()
		d, err := docs.Document(t.Context(), name)
		if err != nil {
			return metadata.KindOf(err).String()
		}
		return string(d.Content)
	}
	for name, want := range map[string]string{
		"projects/p/policy": "one", "projects/p/attestors/a": "a", "projects/p/attestors/none": "NOT_FOUND", "locations/global/policy": "system",
		"projects/q/attestors/b": "b", "projects/q/policy": "INVALID_ARGUMENT",
	} {
		if got := content(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	at := docs.Head()
	s.document("projects/p/policy", "two", 2)
	s.document("projects/q/attestors/b", "b2", 2)
	s.document("projects/q/policy", "more secrets", 2)
	eventually(t, "the changes have arrived", func() bool { return content("projects/p/policy") == "two" && content("projects/q/attestors/b") == "b2" })
	changes, err := docs.Changes(t.Context(), at, 100)
	if err != nil || len(changes) != 2 {
		t.Errorf("changes %v, error %v", changes, err)
	}
	// What happens while the server is away is told when it is back: what is gone, too.
	s.stop()
	eventually(t, "the client knows", func() bool { return !c.Status().Connected })
	s.document("projects/p/policy", "three", 3)
	s.document("projects/p/attestors/a", "", 2)
	at = docs.Head()
	s.server = serve(t, s.Service, feed.Options{}, s.addr)
	if err := docs.Wait(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all has arrived", func() bool {
		return content("projects/p/policy") == "three" && content("projects/p/attestors/a") == "" || content("projects/p/attestors/a") == "NOT_FOUND"
	})
	var names []string
	if _, err := docs.Documents(t.Context(), "projects/p/", func(d *metadata.Document) error { names = append(names, d.Name); return nil }); err != nil || !slices.Equal(names, []string{"projects/p/policy"}) {
		t.Errorf("there are %v, error %v", names, err)
	}
}

// TestAServerThatWasSetBack has another history, though its numbers are the same: nothing
// of before is believed.
func TestAServerThatWasSetBack(t *testing.T) {
	t.Parallel()
	s := start(t, feed.Options{})
	c := s.follow("g")
	x := s.indexOf(c, s.trust())
	for i := range 10 {
		s.attest(digest(i))
	}
	eventually(t, "everything has arrived", func() bool { return attested(collect(t, x, digest(9))) })
	s.stop()
	back := start(t, feed.Options{})
	back.stop()
	back.signer = s.signer
	for i := range 12 {
		back.attest(digest(100 + i))
	}
	serve(t, back.Service, feed.Options{}, s.addr)
	eventually(t, "the gate knows what there is now", func() bool { return attested(collect(t, x, digest(111))) })
	if attested(collect(t, x, digest(3))) {
		t.Error("the gate believes what is not there any more")
	}
	if n := c.Status().Resets; n != 1 {
		t.Errorf("%d resets", n)
	}
}

// A fake server says what a test tells it to.
type fake struct {
	gatehousev1.FeedServer
	mu    sync.Mutex
	opens []*gatehousev1.Open
	// streams are what each stream sends, after the welcome; then it waits for the end.
	streams []func(grpc.BidiStreamingServer[gatehousev1.WatchRequest, gatehousev1.WatchResponse]) error
}

func (f *fake) Watch(stream grpc.BidiStreamingServer[gatehousev1.WatchRequest, gatehousev1.WatchResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.opens = append(f.opens, first.GetOpen())
	var say func(grpc.BidiStreamingServer[gatehousev1.WatchRequest, gatehousev1.WatchResponse]) error
	if n := len(f.opens); n <= len(f.streams) {
		say = f.streams[n-1]
	}
	f.mu.Unlock()
	if say != nil {
		if err := say(stream); err != nil {
			return err
		}
	}
	<-stream.Context().Done()
	return nil
}

func (f *fake) opened() []*gatehousev1.Open {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.opens)
}

// serve returns a client that follows the fake.
func (f *fake) serve(t *testing.T, state *feedclient.State) *feedclient.Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rpc := grpc.NewServer()
	gatehousev1.RegisterFeedServer(rpc, f)
	go func() { _ = rpc.Serve(listener) }()
	t.Cleanup(rpc.Stop)
	return follow(t, connect(t, listener.Addr().String(), "gate"), "g", state)
}

type sending = grpc.BidiStreamingServer[gatehousev1.WatchRequest, gatehousev1.WatchResponse]

func says(messages ...*gatehousev1.WatchResponse) func(sending) error {
	return func(stream sending) error {
		for _, m := range messages {
			if err := stream.Send(m); err != nil {
				return err
			}
		}
		return nil
	}
}

func position(seq uint64) *gatehousev1.Position {
	return &gatehousev1.Position{Seq: seq, Mark: fmt.Appendf(nil, "mark %d", seq)}
}

func welcome(seq uint64, resumed bool) *gatehousev1.WatchResponse {
	return &gatehousev1.WatchResponse{Kind: &gatehousev1.WatchResponse_Welcome{Welcome: &gatehousev1.Welcome{Position: position(seq), Resumed: resumed, Head: seq}}}
}

func noDocuments() *gatehousev1.WatchResponse {
	return &gatehousev1.WatchResponse{Kind: &gatehousev1.WatchResponse_Part{Part: &gatehousev1.Part{Last: true}}}
}

func changes(after, through uint64, seqs ...uint64) *gatehousev1.WatchResponse {
	m := &gatehousev1.Changes{After: after, Through: position(through), Head: through}
	for _, seq := range seqs {
		raw, err := proto.Marshal(&grafeas.Occurrence{Name: fmt.Sprintf("projects/p/occurrences/%d", seq), Kind: grafeas.NoteKind_ATTESTATION})
		if err != nil {
			panic(err)
		}
		m.Changes = append(m.Changes, &gatehousev1.Change{Seq: seq, Op: gatehousev1.Change_CREATED, Kind: &gatehousev1.Change_Occurrence{Occurrence: raw}})
	}
	return &gatehousev1.WatchResponse{Kind: &gatehousev1.WatchResponse_Changes{Changes: m}}
}

// taken reads everything that a follower of evidence is told, up to a number.
func taken(t *testing.T, c *feedclient.Client, after, through uint64) (seqs []uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	e := c.Evidence()
	for after < through {
		if err := e.Wait(ctx, after); err != nil {
			t.Fatalf("%v: %+v", err, c.Status())
		}
		list, err := e.Changes(ctx, after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			if after = c.Seq; c.Occurrence != nil {
				seqs = append(seqs, c.Seq)
			}
		}
	}
	return seqs
}

// TestAGapIsNotSteppedOver: what is missing is asked for again, and nothing is told twice.
func TestAGapIsNotSteppedOver(t *testing.T) {
	t.Parallel()
	f := &fake{streams: []func(sending) error{
		says(welcome(10, false), noDocuments(), changes(10, 13, 11, 13), changes(15, 17, 16)),                     // 14 and 15 are lost
		says(welcome(13, true), noDocuments(), changes(13, 15, 14, 15), changes(15, 17, 16), changes(16, 18, 18)), // an overlap
		says(welcome(17, true), noDocuments(), changes(17, 18, 18), changes(18, 20)),
	}}
	c := f.serve(t, nil)
	synced(t, c)
	if got := taken(t, c, 10, 20); !slices.Equal(got, []uint64{11, 13, 14, 15, 16, 18}) {
		t.Errorf("told of %v", got)
	}
	opens := f.opened()
	if len(opens) != 3 || opens[0].GetPosition() != nil || !proto.Equal(opens[1].GetPosition(), position(13)) || !proto.Equal(opens[2].GetPosition(), position(17)) {
		t.Errorf("opened with %v", opens)
	}
	if p, ok := c.PositionAt(17); !ok || string(p.Mark) != "mark 17" {
		t.Errorf("position %v, %v", p, ok)
	}
}

// TestWhatAServerSaysIsChecked: a stream that makes no sense ends, and what is known
// stays.
func TestWhatAServerSaysIsChecked(t *testing.T) {
	t.Parallel()
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1)
	with := func(m *gatehousev1.WatchResponse, in proto.Message) *gatehousev1.WatchResponse {
		in.ProtoReflect().SetUnknown(unknown)
		return m
	}
	change := func(c *gatehousev1.Change) *gatehousev1.WatchResponse {
		return &gatehousev1.WatchResponse{Kind: &gatehousev1.WatchResponse_Changes{Changes: &gatehousev1.Changes{After: 11, Through: position(12), Changes: []*gatehousev1.Change{c}}}}
	}
	part := func(p *gatehousev1.Part) *gatehousev1.WatchResponse {
		return &gatehousev1.WatchResponse{Kind: &gatehousev1.WatchResponse_Part{Part: p}}
	}
	newer := changes(11, 12, 12)
	for name, bad := range map[string]*gatehousev1.WatchResponse{
		"nothing":                      {},
		"a kind of the future":         with(&gatehousev1.WatchResponse{}, &gatehousev1.WatchResponse{}),
		"a change of a new kind":       change(&gatehousev1.Change{Seq: 12, Op: gatehousev1.Change_CREATED}),
		"a change of a new field":      with(newer, newer.GetChanges().GetChanges()[0]),
		"an operation of the future":   change(&gatehousev1.Change{Seq: 12, Op: 9, Kind: &gatehousev1.Change_Occurrence{}}),
		"garbage":                      change(&gatehousev1.Change{Seq: 12, Op: gatehousev1.Change_CREATED, Kind: &gatehousev1.Change_Occurrence{Occurrence: []byte("\xff\xff")}}),
		"a summary of nothing":         change(&gatehousev1.Change{Seq: 12, Op: gatehousev1.Change_CREATED, Kind: &gatehousev1.Change_Summary{}}),
		"a summary without bounds":     change(&gatehousev1.Change{Seq: 12, Op: gatehousev1.Change_CREATED, Kind: &gatehousev1.Change_Summary{Summary: &gatehousev1.Summary{Parent: "projects/p", Findings: make([]*gatehousev1.Finding, 5000)}}}),
		"a scan without an id":         change(&gatehousev1.Change{Seq: 12, Op: gatehousev1.Change_CREATED, Kind: &gatehousev1.Change_Summary{Summary: &gatehousev1.Summary{Parent: "projects/p", Scans: []*gatehousev1.Scan{{}}}}}),
		"changes of before":            changes(10, 11, 11),
		"changes that go back":         changes(11, 5),
		"a change beyond the end":      changes(11, 12, 13),
		"changes in another order":     changes(11, 14, 13, 12),
		"a part that nobody asked for": part(&gatehousev1.Part{Id: 3}),
		"the documents twice":          noDocuments(),
		"another welcome":              welcome(11, true),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fake{streams: []func(sending) error{
				says(welcome(10, false), noDocuments(), changes(10, 11, 11), bad),
				says(welcome(11, true), noDocuments(), changes(11, 12, 12)),
			}}
			c := f.serve(t, nil)
			synced(t, c)
			if got := taken(t, c, 10, 12); !slices.Equal(got, []uint64{11, 12}) {
				t.Errorf("told of %v", got)
			}
			if opens := f.opened(); len(opens) != 2 || opens[1].GetPosition().GetSeq() != 11 {
				t.Errorf("opened with %v", opens)
			}
		})
	}
	for name, bad := range map[string]*gatehousev1.WatchResponse{
		"resumed from somewhere else": welcome(7, true), "no position": {Kind: &gatehousev1.WatchResponse_Welcome{Welcome: &gatehousev1.Welcome{}}}, "no welcome": noDocuments(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fake{streams: []func(sending) error{says(bad), says(welcome(10, true), noDocuments(), changes(10, 11, 11))}}
			c := f.serve(t, &feedclient.State{Position: feedclient.Position{Seq: 10, Mark: []byte("mark 10")}})
			if got := taken(t, c, 10, 11); !slices.Equal(got, []uint64{11}) || c.Status().Resets != 0 {
				t.Errorf("told of %v, %+v", got, c.Status())
			}
		})
	}
	t.Run("greetings and beats of the future", func(t *testing.T) {
		t.Parallel()
		hello, beat := welcome(10, false), &gatehousev1.Beat{Head: 12}
		f := &fake{streams: []func(sending) error{says(
			with(hello, hello.GetWelcome()), noDocuments(),
			with(&gatehousev1.WatchResponse{Kind: &gatehousev1.WatchResponse_Beat{Beat: beat}}, beat), changes(10, 11, 11),
		)}}
		c := f.serve(t, nil)
		synced(t, c)
		if got := taken(t, c, 10, 11); !slices.Equal(got, []uint64{11}) || len(f.opened()) != 1 {
			t.Errorf("told of %v", got)
		}
	})
}

// TestAServerWithoutAFeed is older, and the gate says so.
func TestAServerWithoutAFeed(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rpc := grpc.NewServer()
	go func() { _ = rpc.Serve(listener) }()
	t.Cleanup(rpc.Stop)
	c := follow(t, connect(t, listener.Addr().String(), "gate"), "g", nil)
	eventually(t, "the gate says why", func() bool { return metadata.KindOf(c.Status().Err) == metadata.Unimplemented })
}

// TestARefusedReadSaysWhy, and leaves the stream as it is.
func TestARefusedReadSaysWhy(t *testing.T) {
	t.Parallel()
	s := startWith(t, feed.Options{}, only(map[string][]string{"gate": {"gatehouse.feed.watch projects/p"}}))
	c := s.follow("g")
	synced(t, c)
	_, err := c.Evidence().NoteOccurrences(t.Context(), "projects/q/notes/n", func(*grafeas.Occurrence) error { return nil })
	if metadata.KindOf(err) != metadata.PermissionDenied {
		t.Errorf("a note of another project: %v", err)
	}
	stop := errors.New("enough")
	for i := range 30 {
		s.attest(digest(i))
	}
	if _, err := c.Evidence().NoteOccurrences(t.Context(), note, func(*grafeas.Occurrence) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("stopped by the reader: %v", err)
	}
	n := 0
	if _, err := c.Evidence().NoteOccurrences(t.Context(), note, func(*grafeas.Occurrence) error { n++; return nil }); err != nil || n != 30 {
		t.Errorf("%d occurrences, error %v", n, err)
	}
	if st := c.Status(); st.Sessions != 1 || !st.Connected {
		t.Errorf("status %+v", st)
	}
}

// BenchmarkSnapshot reads the statements under a note over the wire, and prints how many
// a second, by processor time of a bare read of the store.
func BenchmarkSnapshot(b *testing.B) {
	const n = 20_000
	s := start(b, feed.Options{})
	batch := make([]*grafeas.Occurrence, 0, 500)
	for i := range n {
		batch = append(batch, attestation(b, s.signer, note, digest(i)))
		if len(batch) == cap(batch) {
			if _, err := s.BatchCreateOccurrences(b.Context(), writer, "projects/p", batch); err != nil {
				b.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	c := s.follow("bench")
	synced(b, c)
	var wire, load time.Duration
	for b.Loop() {
		begun := time.Now()
		got := 0
		if _, err := c.Evidence().NoteOccurrences(b.Context(), note, func(*grafeas.Occurrence) error { got++; return nil }); err != nil || got != n {
			b.Fatal(got, err)
		}
		wire += time.Since(begun)
		begun = time.Now()
		x := index.New(c.Evidence(), discard())
		if err := x.SetTrust(b.Context(), s.trust()); err != nil {
			b.Fatal(err)
		}
		load += time.Since(begun)
	}
	b.ReportMetric(float64(n*b.N)/wire.Seconds(), "read/s")
	b.ReportMetric(float64(n*b.N)/load.Seconds(), "verified/s")
}
