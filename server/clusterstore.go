package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-dev/gatehouse/controller"
	"github.com/gatehouse-dev/gatehouse/feed/feedclient"
	"github.com/gatehouse-dev/gatehouse/policy/admin/adminclient"
)

const (
	// storeTimeout bounds one request to file objects.
	storeTimeout = 30 * time.Second
	// gatesPatience is how long gates are waited for at a time.
	gatesPatience = 5 * time.Second
)

// A clusterStore is where a controller files the objects of its cluster: with the metadata
// service, which tells the gates.
type clusterStore struct {
	client           *adminclient.Client
	feed             *feedclient.Client
	project, cluster string

	mu sync.Mutex
	// written are the revisions of documents that were written, until the feed has told of
	// them.
	written map[string]uint64
}

func (p *parts) newClusterStore(follow *feedclient.Client) (*clusterStore, error) {
	base, client, err := p.metadataHTTP()
	if err != nil {
		return nil, err
	}
	p.onClose(func() error { client.CloseIdleConnections(); return nil })
	return &clusterStore{
		client: adminclient.New(base, client), feed: follow, project: p.cfg.Project, cluster: p.cfg.Cluster, written: make(map[string]uint64),
	}, nil
}

// metadataHTTP is a client of the metadata service's REST face, as [parts.dialFeed] is of
// the other, and the URL of that.
func (p *parts) metadataHTTP() (base string, client *http.Client, err error) {
	f := p.cfg.Admission.Feed
	t, err := f.target(p.cfg.InsecureNoAuth)
	if err != nil {
		return "", nil, err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 2, IdleConnTimeout: idleTimeout}
	base = strings.TrimSuffix(f.Server, "/")
	if path, ok := unixPath(f.Server); ok {
		base = "http://localhost"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", path)
		}
	}
	if t.secure {
		config, err := p.feedTLS(f, t.host)
		if err != nil {
			return "", nil, err
		}
		transport.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			fresh, err := config() // a CA that was replaced counts
			if err != nil {
				return nil, err
			}
			return (&tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTimeout}, Config: fresh}).DialContext(ctx, network, address)
		}
	}
	client = &http.Client{Transport: transport, Timeout: storeTimeout}
	if f.TokenFile != "" {
		client.Transport = bearing{transport, tokenFile{path: f.TokenFile}}
	}
	return base, client, nil
}

// bearing sends a token with each request.
type bearing struct {
	http.RoundTripper
	token tokenFile
}

// RoundTrip implements [http.RoundTripper].
func (b bearing) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := b.token.read()
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	return b.RoundTripper.RoundTrip(r)
}

// Filed implements [controller.Store].
func (s *clusterStore) Filed(ctx context.Context) ([][]byte, error) {
	list, err := s.client.ClusterObjects(ctx, "projects/"+s.project, s.cluster)
	if err != nil {
		return nil, err
	}
	texts := make([][]byte, 0, len(list))
	for _, o := range list {
		texts = append(texts, o.Object)
	}
	return texts, nil
}

// Apply implements [controller.Store].
func (s *clusterStore) Apply(ctx context.Context, changes []controller.Change) error {
	next := make([]adminclient.ObjectChange, 0, len(changes))
	for _, c := range changes {
		if len(c.Object) > 0 {
			next = append(next, adminclient.ObjectChange{Object: c.Object})
			continue
		}
		ref := adminclient.ObjectRef{APIVersion: c.APIVersion, Kind: c.Kind, Namespace: c.Namespace, Name: c.Name}
		next = append(next, adminclient.ObjectChange{Delete: &ref})
	}
	done, err := s.client.ApplyObjects(ctx, "projects/"+s.project, s.cluster, next)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range done {
		if a.Written {
			s.written[a.Document] = a.Revision
		}
	}
	switch adminclient.StatusOf(err) {
	case "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED":
		return fmt.Errorf("%w: %w", controller.ErrRefused, err)
	}
	return err
}

// Behind implements [controller.Store]. Gates of other clusters do not count, nor does
// the controller itself, which follows the feed as they do.
func (s *clusterStore) Behind(ctx context.Context) (gates int, behind []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, gatesPatience)
	defer cancel()
	if err := s.arrived(ctx); err != nil {
		return 0, nil, err
	}
	all, err := s.feed.Barrier(ctx, s.feed.Status().Received)
	if err != nil {
		return 0, nil, err
	}
	for _, g := range all {
		if g.Cluster != s.cluster || strings.HasSuffix(g.Gate, controllerSuffix) {
			continue
		}
		gates++
		if !g.Applied {
			behind = append(behind, g.Gate)
		}
	}
	return gates, behind, nil
}

// arrived returns when the feed has told of all that was written.
func (s *clusterStore) arrived(ctx context.Context) error {
	documents := s.feed.Documents()
	for {
		head := documents.Head()
		missing, err := s.missing(ctx, documents)
		if err != nil || missing == 0 {
			return err
		}
		if err := documents.Wait(ctx, head); err != nil {
			return errors.New("the metadata service has not told yet of what was filed")
		}
	}
}

// missing counts the documents that were written and have not arrived.
func (s *clusterStore) missing(ctx context.Context, documents *feedclient.Documents) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, revision := range s.written {
		d, err := documents.Document(ctx, name)
		if err == nil && d.Revision >= revision {
			delete(s.written, name)
		} else if ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
	return len(s.written), nil
}
