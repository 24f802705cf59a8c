package feedclient

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// window is how many parts the server may send ahead, and one more for the error that
// may end them.
const window = 4 + 1

// A session is a stream while it stands.
type session struct {
	c      *Client
	stream grpc.BidiStreamingClient[gatehousev1.WatchRequest, gatehousev1.WatchResponse]

	// at is where it began, and head the server's when it did.
	at, head uint64
	// documents are being received until they are documented.
	documents  []*metadata.Document
	documented bool

	sending sync.Mutex

	mu       sync.Mutex
	last     uint64
	readings map[uint64]chan *gatehousev1.Part
	done     chan struct{}
	err      error
}

func newSession(c *Client, stream grpc.BidiStreamingClient[gatehousev1.WatchRequest, gatehousev1.WatchResponse]) *session {
	return &session{c: c, stream: stream, readings: make(map[uint64]chan *gatehousev1.Part), done: make(chan struct{})}
}

// send sends a message. That the stream has ended, receiving tells.
func (s *session) send(m *gatehousev1.WatchRequest) {
	s.sending.Lock()
	defer s.sending.Unlock()
	_ = s.stream.Send(m)
}

func (s *session) close() {
	s.sending.Lock()
	defer s.sending.Unlock()
	_ = s.stream.CloseSend()
}

func (s *session) took(id uint64) {
	s.send(&gatehousev1.WatchRequest{Kind: &gatehousev1.WatchRequest_Took{Took: &gatehousev1.Took{Id: id}}})
}

// end tells those who read that the stream has ended.
func (s *session) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done:
	default:
		s.err = err
		close(s.done)
	}
}

// part gives a part to whoever asked for it.
func (s *session) part(p *gatehousev1.Part) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	to, ok := s.readings[p.GetId()]
	if !ok {
		return metadata.Errorf(metadata.Internal, "the metadata service sends a part that nobody asked for")
	}
	select {
	case to <- p:
	default:
		return metadata.Errorf(metadata.ResourceExhausted, "the metadata service sends more parts than it may")
	}
	if p.GetLast() {
		delete(s.readings, p.GetId())
	}
	return nil
}

// read asks for one thing, and calls take with its parts.
func (s *session) read(ctx context.Context, k kind, name string, take func(*gatehousev1.Part) error) error {
	asked := &gatehousev1.Interest{}
	switch k {
	case aNote:
		asked.Notes = []string{name}
	case aProject:
		asked.Projects = []string{name}
	case aScan:
		asked.Scans = []string{name}
	case aDocument:
		asked.Documents = []string{name}
	}
	id, parts := s.ask(asked)
	for {
		p, err := s.next(ctx, parts)
		if err == nil && p.GetCode() != 0 {
			err = metadata.Errorf(metadata.KindOfCode(codes.Code(uint32(p.GetCode()))), "the metadata service does not tell of %q: %s", name, p.GetError())
		}
		if err == nil {
			err = take(p)
		}
		if p.GetLast() {
			return err
		}
		if err != nil {
			// The rest arrives all the same, and others wait behind it.
			go s.drain(id, parts)
			return err
		}
		s.took(id)
	}
}

// ask sends a want; ids grow in the order of sending.
func (s *session) ask(asked *gatehousev1.Interest) (id uint64, parts chan *gatehousev1.Part) {
	s.sending.Lock()
	defer s.sending.Unlock()
	parts = make(chan *gatehousev1.Part, window)
	s.mu.Lock()
	s.last++
	id = s.last
	s.readings[id] = parts
	s.mu.Unlock()
	_ = s.stream.Send(&gatehousev1.WatchRequest{Kind: &gatehousev1.WatchRequest_Want{Want: &gatehousev1.Want{Id: id, Interest: asked}}})
	return id, parts
}

func (s *session) next(ctx context.Context, parts <-chan *gatehousev1.Part) (*gatehousev1.Part, error) {
	select {
	case p := <-parts:
		return p, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.done:
		s.mu.Lock()
		defer s.mu.Unlock()
		return nil, metadata.Errorf(metadata.Unavailable, "the metadata service has gone: %w", s.err)
	}
}

func (s *session) drain(id uint64, parts <-chan *gatehousev1.Part) {
	for {
		s.took(id)
		p, err := s.next(context.Background(), parts)
		if err != nil || p.GetLast() {
			return
		}
	}
}
