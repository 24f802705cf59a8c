package feed_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/feed"
	"github.com/gatehouse-dev/gatehouse/feed/feedclient"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	note    = "projects/p/notes/vetted"
	scanner = "projects/p/notes/scan"
)

var writer = metadata.Caller{Name: "writer"}

// A recorder keeps the record of calls.
type recorder struct {
	mu    sync.Mutex
	calls []metadata.CallRecord
}

func (r *recorder) Record(_ context.Context, c metadata.CallRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, c)
}

// of returns the calls of some methods.
func (r *recorder) of(methods ...string) []metadata.CallRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []metadata.CallRecord
	for _, c := range r.calls {
		for _, m := range methods {
			if c.Method == m {
				found = append(found, c)
			}
		}
	}
	return found
}

// A system is a metadata service whose feed is served on a real socket. The caller of a
// request is who its header says.
type system struct {
	*metadata.Service
	t        testing.TB
	store    metadata.Store
	recorded *recorder
	signer   signature.Signer
	server
}

// A server serves the feed of a service.
type server struct {
	addr string
	stop func()
}

func start(t testing.TB, opts feed.Options) *system { return startWith(t, opts, nil) }

func startWith(t testing.TB, opts feed.Options, auth metadata.Authorizer) *system {
	t.Helper()
	s := &system{t: t, store: memory.New(), recorded: &recorder{}, signer: newSigner(t)}
	t.Cleanup(func() { _ = s.store.Close() })
	s.open(auth)
	for id, n := range map[string]*grafeas.Note{
		"vetted": {Type: &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{}}},
		"other":  {Type: &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{}}},
		"scan":   {Type: &grafeas.Note_Discovery{Discovery: &grafeas.DiscoveryNote{AnalysisKind: grafeas.NoteKind_VULNERABILITY}}},
		"CVE-1": {Type: &grafeas.Note_Vulnerability{Vulnerability: &grafeas.VulnerabilityNote{
			Details: []*grafeas.VulnerabilityNote_Detail{{AffectedCpeUri: "cpe:/o:debian:debian_linux:12", AffectedPackage: "x"}},
		}}},
	} {
		if _, err := s.CreateNote(t.Context(), writer, "projects/p", id, n); err != nil {
			t.Fatal(err)
		}
	}
	s.server = serve(t, s.Service, opts, "127.0.0.1:0")
	return s
}

// open opens the service over the store.
func (s *system) open(auth metadata.Authorizer) {
	s.t.Helper()
	if auth == nil {
		auth = metadata.InsecureAllowAll()
	}
	svc, err := metadata.NewService(s.t.Context(), s.store, metadata.Options{Authorizer: auth, Recorder: s.recorded})
	if err != nil {
		s.t.Fatal(err)
	}
	s.Service = svc
}

func serve(t testing.TB, svc *metadata.Service, opts feed.Options, addr string) server {
	t.Helper()
	if opts.Beat == 0 {
		opts.Beat = 50 * time.Millisecond
	}
	f, err := feed.New(svc, opts)
	if err != nil {
		t.Fatal(err)
	}
	handler, stop := grafeasapi.NewHandler(svc, grafeasapi.Options{Extensions: []grafeasapi.Extension{f}, Identify: func(r *http.Request) (metadata.Caller, error) {
		return metadata.Caller{Name: r.Header.Get("Caller")}, nil
	}})
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	h := &http.Server{Handler: handler, Protocols: &protocols}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(listener) }()
	var once sync.Once
	end := func() {
		once.Do(func() {
			f.Stop()
			_ = h.Close()
			stop()
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		})
	}
	t.Cleanup(end)
	return server{listener.Addr().String(), end}
}

type as string

func (a as) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"caller": string(a)}, nil
}
func (as) RequireTransportSecurity() bool { return false }

// connect returns a connection of a caller.
func connect(t testing.TB, addr, caller string, more ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(as(caller)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(feedclient.MaxMessage)),
	}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// follow returns a client that follows until the test ends.
func (s *system) follow(name string) *feedclient.Client {
	s.t.Helper()
	return follow(s.t, connect(s.t, s.addr, "gate"), name, nil)
}

func follow(t testing.TB, conn grpc.ClientConnInterface, name string, state *feedclient.State) *feedclient.Client {
	t.Helper()
	c, err := feedclient.New(feedclient.Options{Conn: conn, Project: "p", Cluster: "here.test", Gate: name, Logger: discard()})
	if err != nil {
		t.Fatal(err)
	}
	if state != nil {
		c.Restore(*state)
	}
	background(t, c.Run)
	return c
}

// background runs a part until the test ends.
func background(t testing.TB, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// indexOf returns an index that follows a client.
func (s *system) indexOf(c *feedclient.Client, trust index.Trust) *index.Index {
	s.t.Helper()
	synced(s.t, c)
	x := index.New(c.Evidence(), discard())
	if err := x.SetTrust(s.t.Context(), trust); err != nil {
		s.t.Fatal(err)
	}
	if err := x.SetScope(s.t.Context(), []string{"p"}); err != nil {
		s.t.Fatal(err)
	}
	background(s.t, x.Run)
	return x
}

func synced(t testing.TB, c *feedclient.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := c.Synced(ctx); err != nil {
		t.Fatalf("%v: %+v", err, c.Status())
	}
}

// eventually demands that something comes about.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline, tick := time.After(20*time.Second), time.NewTicker(2*time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never: %s", what)
		}
	}
}

func newSigner(t testing.TB) signature.Signer {
	t.Helper()
	pem, err := signature.GeneratePKIX("ECDSA_P256_SHA256", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.ParsePKIXSigner(pem, "ECDSA_P256_SHA256", "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *system) trust() index.Trust {
	return index.Trust{note: {s.signer.PublicKey()}}
}

func digest(i int) image.Digest { return image.DigestOf([]byte(fmt.Sprint(i))) }

func uri(d image.Digest) string { return "https://reg.test/app@" + d.String() }

func ref(t testing.TB, d image.Digest) image.Reference {
	t.Helper()
	r, err := image.Parse("reg.test/app@" + d.String())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// attestation signs a statement about a digest.
func attestation(t testing.TB, s signature.Signer, note string, d image.Digest) *grafeas.Occurrence {
	t.Helper()
	payload := signature.NewPayload("reg.test/app", d, signature.TypeBinauthz)
	sig, err := s.Sign(t.Context(), payload)
	if err != nil {
		t.Fatal(err)
	}
	return &grafeas.Occurrence{ResourceUri: uri(d), NoteName: note, Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
		SerializedPayload: payload, Signatures: []*grafeas.Signature{{Signature: sig, PublicKeyId: s.KeyID()}},
	}}}
}

func discovery(d image.Digest, status grafeas.DiscoveryOccurrence_AnalysisStatus) *grafeas.Occurrence {
	return &grafeas.Occurrence{ResourceUri: uri(d), NoteName: scanner, Details: &grafeas.Occurrence_Discovery{
		Discovery: &grafeas.DiscoveryOccurrence{AnalysisStatus: status},
	}}
}

func (s *system) create(o *grafeas.Occurrence) *grafeas.Occurrence {
	s.t.Helper()
	return s.createIn("projects/p", o)
}

func (s *system) createIn(parent string, o *grafeas.Occurrence) *grafeas.Occurrence {
	s.t.Helper()
	o, err := s.CreateOccurrence(s.t.Context(), writer, parent, o)
	if err != nil {
		s.t.Fatal(err)
	}
	return o
}

func (s *system) attest(d image.Digest) *grafeas.Occurrence {
	s.t.Helper()
	return s.create(attestation(s.t, s.signer, note, d))
}

func (s *system) delete(o *grafeas.Occurrence) {
	s.t.Helper()
	if err := s.DeleteOccurrence(s.t.Context(), writer, o.GetName()); err != nil {
		s.t.Fatal(err)
	}
}

// document writes a revision.
func (s *system) document(name, content string, revision uint64) {
	s.t.Helper()
	err := s.store.Apply(s.t.Context(), metadata.Mutation{WriteDocument: &metadata.DocumentWrite{Document: metadata.Document{
		Name: name, Content: []byte(content), Revision: revision, Author: "w", Time: time.Unix(1_790_000_000+int64(revision), 0).UTC(),
	}}})
	if err != nil {
		s.t.Fatal(err)
	}
}

func attested(img evidence.Image) bool { return len(img.Attestations) > 0 }

func collect(t testing.TB, x *index.Index, d image.Digest) evidence.Image {
	t.Helper()
	return x.Collect(t.Context(), []image.Reference{ref(t, d)}).Images[d]
}

// A raw gate is a stream without a client.
type raw struct {
	t testing.TB
	grpc.BidiStreamingClient[gatehousev1.WatchRequest, gatehousev1.WatchResponse]
}

// watch opens a stream as a caller.
func (s *system) watch(caller string, open *gatehousev1.Open, more ...grpc.DialOption) raw {
	s.t.Helper()
	stream, err := gatehousev1.NewFeedClient(connect(s.t, s.addr, caller, more...)).Watch(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	r := raw{s.t, stream}
	if open != nil {
		r.send(&gatehousev1.WatchRequest{Kind: &gatehousev1.WatchRequest_Open{Open: open}})
	}
	return r
}

func (r raw) send(m *gatehousev1.WatchRequest) {
	r.t.Helper()
	if err := r.Send(m); err != nil && !errors.Is(err, io.EOF) {
		r.t.Fatal(err)
	}
}

// until returns the first message for which the function returns true.
func (r raw) until(is func(*gatehousev1.WatchResponse) bool) *gatehousev1.WatchResponse {
	r.t.Helper()
	for {
		m, err := r.Recv()
		if err != nil {
			r.t.Fatal(err)
		}
		if is(m) {
			return m
		}
	}
}

func (r raw) welcome() *gatehousev1.Welcome {
	r.t.Helper()
	return r.until(func(m *gatehousev1.WatchResponse) bool { return m.GetWelcome() != nil }).GetWelcome()
}

// ends returns how the stream ends.
func (r raw) ends() *status.Status {
	r.t.Helper()
	for {
		if _, err := r.Recv(); err != nil {
			return status.Convert(err)
		}
	}
}

func (r raw) endsWith(what string, code codes.Code) {
	r.t.Helper()
	if st := r.ends(); st.Code() != code {
		r.t.Errorf("%s: the stream ended with %v, want %v", what, st, code)
	}
}

func applied(seq uint64) *gatehousev1.WatchRequest {
	return &gatehousev1.WatchRequest{Kind: &gatehousev1.WatchRequest_Applied{Applied: &gatehousev1.Applied{Seq: seq}}}
}

func want(id uint64, i *gatehousev1.Interest) *gatehousev1.WatchRequest {
	return &gatehousev1.WatchRequest{Kind: &gatehousev1.WatchRequest_Want{Want: &gatehousev1.Want{Id: id, Interest: i}}}
}
