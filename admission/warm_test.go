package admission_test

import (
	"context"
	"crypto/rand"
	"net"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// counted is a source of evidence that counts what a store elsewhere would be asked.
// Head is what is known of it here, and does no I/O.
type counted struct {
	index.Source
	asked atomic.Int64
}

func (c *counted) Changes(ctx context.Context, after uint64, limit int) ([]metadata.Change, error) {
	c.asked.Add(1)
	return c.Source.Changes(ctx, after, limit)
}

func (c *counted) NoteOccurrences(ctx context.Context, note string, fn func(*grafeas.Occurrence) error) (uint64, error) {
	c.asked.Add(1)
	return c.Source.NoteOccurrences(ctx, note, fn)
}

func (c *counted) ProjectOccurrences(ctx context.Context, project string, kinds metadata.Kinds, fn func(*grafeas.Occurrence) error) (uint64, error) {
	c.asked.Add(1)
	return c.Source.ProjectOccurrences(ctx, project, kinds, fn)
}

func (c *counted) ProjectSummaries(ctx context.Context, project string, fn func(*metadata.Summary) error) (uint64, error) {
	c.asked.Add(1)
	return c.Source.ProjectSummaries(ctx, project, fn)
}

func (c *counted) ResourceSummary(ctx context.Context, parent metadata.Parent, resource metadata.Key) (*metadata.Summary, error) {
	c.asked.Add(1)
	return c.Source.ResourceSummary(ctx, parent, resource)
}

// counting is a listener that counts the connections that it takes.
type counting struct {
	net.Listener
	taken atomic.Int64
}

func (l *counting) Accept() (net.Conn, error) {
	l.taken.Add(1)
	return l.Listener.Accept()
}

// TestAWarmGateAsksNobody: an index that has read what there is answers from memory,
// what it has heard of and what it has not; nothing is recorded before it is answered
// but a used break-glass; and all reviews come over the connection that is there.
// What a whole server does of reads and writes is counted in package server.
func TestAWarmGateAsksNobody(t *testing.T) {
	t.Parallel()
	store := memory.New()
	t.Cleanup(func() { _ = store.Close() })
	svc, err := metadata.NewService(t.Context(), store, metadata.Options{Authorizer: metadata.InsecureAllowAll()})
	if err != nil {
		t.Fatal(err)
	}
	pem, err := signature.GeneratePKIX(signature.ECDSAP256SHA256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signature.ParsePKIXSigner(pem, signature.ECDSAP256SHA256, "")
	if err != nil {
		t.Fatal(err)
	}
	source := &counted{Source: svc}
	x := index.New(source, discard())
	if err := x.SetTrust(t.Context(), index.Trust{note: {signer.PublicKey()}}); err != nil {
		t.Fatal(err)
	}
	f := newGate(t, ruleset(false), func(o *admission.Options) { o.Evidence, o.Logger = x, discard() })
	listener := &counting{}
	f.Server = httptest.NewUnstartedServer(f.gate)
	listener.Listener = f.Listener
	f.Listener = listener
	f.StartTLS()
	t.Cleanup(f.Close)

	f.post(t, reviewOf(pod(good), nil))
	asked, taken := source.asked.Load(), listener.taken.Load()
	if asked == 0 {
		t.Fatal("the source was never asked: this test counts nothing")
	}
	for range 50 {
		f.post(t, reviewOf(pod(good, bad, tagged), nil))
		f.post(t, reviewOf(pod(bad), func(r object) { r["operation"], r["oldObject"] = "UPDATE", pod(bad) }))
	}
	if got := source.asked.Load(); got != asked {
		t.Errorf("the source was asked %d times", got-asked)
	}
	if got := listener.taken.Load(); got != taken {
		t.Errorf("%d connections were opened", got-taken)
	}
	if f.recorder.synced != 0 {
		t.Errorf("%d answers waited for a disk", f.recorder.synced)
	}
}
