package server

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-dev/gatehouse/audit/deliver"
	"github.com/gatehouse-dev/gatehouse/audit/sink"
)

// sinksDir is the folder of how far each audit sink is.
const sinksDir = "audit-sinks"

// drainSinks is how long a server that ends hands on what its logs still have. What is left
// is handed on by the next one, if it has the same data folder.
const drainSinks = 5 * time.Second

// sinks are the places that audit records are handed on to.
type sinks struct {
	sources   map[deliver.Log]deliver.Source
	followers []*deliver.Follower
}

// follow has the sinks that are opened later follow a log.
func (s *sinks) follow(log deliver.Log, source deliver.Source) {
	if s.sources == nil {
		s.sources = map[deliver.Log]deliver.Source{}
	}
	s.sources[log] = source
}

// SinkOptions are what the audit sinks of a server need.
func (c *Config) SinkOptions(logger *slog.Logger) sink.Options {
	host, err := os.Hostname()
	if err != nil {
		host = "" // it is told to people, no more
	}
	return sink.Options{Place: sink.Place{Project: c.Project, Cluster: c.Cluster, Host: host}, Stdout: os.Stdout, Now: time.Now, Logger: logger}
}

// checkSinks reports whether the sinks could be opened.
func checkSinks(cfg Config, logger *slog.Logger) error {
	for i := range cfg.Audit.Sinks {
		s, err := cfg.Audit.Sinks[i].Open(cfg.SinkOptions(logger))
		if err != nil {
			return err
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
	return nil
}

// openSinks opens the sinks, once the logs are open.
func (p *parts) openSinks() error {
	configs := p.cfg.Audit.Sinks
	if len(configs) == 0 {
		return nil
	}
	if p.cfg.Data == "" {
		return errors.New("audit.sinks follow the log in the data folder, and there is none: give --data DIR")
	}
	metrics, err := deliver.NewMetrics(p.registry)
	if err != nil {
		return err
	}
	for i := range configs {
		c := &configs[i]
		s, err := c.Open(p.cfg.SinkOptions(p.logger))
		if err != nil {
			return err
		}
		f, err := deliver.Open(deliver.Options{
			Name: c.Name, Dir: filepath.Join(p.cfg.Data, sinksDir), Sink: s, Filter: c.Filter(), Sources: p.sinks.sources,
			FromNow: c.FromNow(), Timeout: c.Timeout, Logger: p.logger, Metrics: metrics,
		})
		if err != nil {
			return errors.Join(err, s.Close())
		}
		p.sinks.followers = append(p.sinks.followers, f)
	}
	return nil
}

// runSinks hands on what is recorded, until ctx ends.
func (p *parts) runSinks(ctx context.Context, group *errgroup.Group) {
	for _, f := range p.sinks.followers {
		group.Go(func() error { return f.Run(ctx) })
	}
}

// closeSinks hands on what the logs have got since, and closes the sinks.
func (p *parts) closeSinks() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainSinks)
	defer cancel()
	var group errgroup.Group
	for _, f := range p.sinks.followers {
		group.Go(func() error {
			if err := f.Drain(ctx); err != nil {
				p.logger.Warn("an audit sink has not taken all records", "bytes behind", f.Behind(), "error", err)
			}
			return f.Close()
		})
	}
	return group.Wait()
}
