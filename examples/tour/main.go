// Command tour shows Gatehouse's main job on real input, through its public
// interfaces only: it builds programs, pushes them as images into a registry,
// records what a pipeline knows about them, has them checked and attested, and
// lets the gate decide on pods.
//
// Run it from the root of the repository, with make run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		_, _ = fmt.Fprintln(os.Stderr, "tour:", err)
		os.Exit(1)
	}
}

// options are what the tour is told.
type options struct {
	gatehouse string
	source    string
	cluster   bool
	once      bool
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	var o options
	flags := flag.NewFlagSet("tour", flag.ContinueOnError)
	flags.StringVar(&o.gatehouse, "gatehouse", "bin/gatehouse", "the product")
	flags.StringVar(&o.source, "source", "examples/images", "folder with the programs to make images of")
	flags.BoolVar(&o.cluster, "cluster", false, "decide for a real Kubernetes API server")
	flags.BoolVar(&o.once, "once", false, "end when everything has been shown")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.gatehouse, err = filepath.Abs(o.gatehouse); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "gatehouse-tour-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	// What was started is stopped in the opposite order, whatever happens.
	t := &tour{options: o, screen: screen{out: out, begin: time.Now()}, dir: dir}
	defer func() { err = errors.Join(err, t.stop()) }()
	return t.run(ctx)
}

type tour struct {
	options
	screen
	dir   string
	stops []func() error

	registry host
	images   images
	server   addresses
	client   clients
}

func (t *tour) onStop(f func() error) { t.stops = append(t.stops, f) }

func (t *tour) stop() error {
	var errs []error
	for i := len(t.stops) - 1; i >= 0; i-- {
		errs = append(errs, t.stops[i]())
	}
	return errors.Join(errs...)
}

func (t *tour) run(ctx context.Context) error {
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Push three images into a registry", t.push},
		{"Start Gatehouse", t.serve},
		{"Record what the pipeline knows, through the Grafeas API", t.recordFacts},
		{"Check the images and attest what passes, through Voucher's API", t.checkImages},
		{"Ask the gate", t.askGate},
		{"Look at the record", t.showAudit},
	} {
		t.heading(step.title)
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.title, err)
		}
	}
	return t.finish(ctx)
}

// finish tells what to try next, and waits.
func (t *tour) finish(ctx context.Context) error {
	if t.once {
		t.heading("Try next: make run, which leaves Gatehouse running for these, in another terminal")
	} else {
		t.heading("Try next, in another terminal")
	}
	gate := t.gatehouse
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, gate); err == nil {
			gate = rel
		}
	}
	t.command("%s verify --server http://%s %s", gate, t.server.Attestor, t.images.good.ref)
	t.command("%s check --server http://%s --check snakeoil %s", gate, t.server.Attestor, t.images.vulnerable.ref)
	t.command("%s policy lint %s", gate, t.policyFile())
	t.command("%s audit --data %s --verdict DENY", gate, t.dataDir())
	t.command("curl -s 'http://%s/v1/projects/default/occurrences?filter=kind%%3D%%22ATTESTATION%%22'", t.server.Metadata)
	if t.once {
		return nil
	}
	t.say("\nGatehouse is running, with its data in %s until it stops. Ctrl-C ends it.", t.dataDir())
	select {
	case <-ctx.Done():
		return nil
	case <-t.server.exited:
		return errors.New("gatehouse has stopped; see its log above")
	}
}
