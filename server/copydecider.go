package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/feed/feedclient"
	"github.com/gatehouse-dev/gatehouse/feed/lastgood"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// ErrNoCopy says that a gate has left no copy.
var ErrNoCopy = errors.New("there is no copy of a gate's evidence")

// A CopyDecider decides by the copy that a gate of the admission role keeps in its data
// folder, without that gate, and without asking anybody.
type CopyDecider struct {
	// Written is when the copy was finished.
	Written time.Time

	index *index.Index
	rules policy.Set
	place admission.Place
}

// ReadCopy reads the copy of the gate that cfg is of. The gate may be running. The error
// is [ErrNoCopy] if it has left none.
func ReadCopy(ctx context.Context, cfg Config, logger *slog.Logger) (*CopyDecider, error) {
	folder, err := lastgood.OpenForReading(filepath.Join(cfg.Data, "gate"), cfg.Project, cfg.Cluster)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s", ErrNoCopy, cfg.Data)
	}
	if err != nil {
		return nil, err
	}
	conn, err := nobody()
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // nothing was sent
	client, err := feedclient.New(feedclient.Options{Conn: conn, Project: cfg.Project, Cluster: cfg.Cluster, Gate: "copy", Logger: logger})
	if err != nil {
		return nil, err
	}
	x := index.New(client.Evidence(), logger)
	c, err := folder.Read(x)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s", ErrNoCopy, cfg.Data)
	}
	if err != nil {
		return nil, err
	}
	client.Restore(c.State)
	ps, err := newPolicies(cfg, "", client.Documents(), x, logger, prometheus.NewRegistry())
	if err != nil {
		return nil, err
	}
	if err := ps.start(ctx); err != nil {
		return nil, fmt.Errorf("putting in force what the copy has: %w", err)
	}
	return &CopyDecider{Written: c.Written, index: x, rules: ps.current(), place: cfg.place()}, nil
}

// nobody is a connection on which every call fails at once.
func nobody() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///nobody", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			return nil, errors.New("a copy is read without its metadata service")
		}))
}

// DecidePull judges what a node is about to pull.
func (c *CopyDecider) DecidePull(ctx context.Context, p admission.Pull, now time.Time) (decide.Decision, error) {
	return admission.DecidePull(ctx, p, admission.Options{
		Rules: func() policy.Set { return c.rules }, Evidence: c.index, Place: c.place, Now: func() time.Time { return now },
	})
}
