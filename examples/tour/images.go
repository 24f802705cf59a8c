package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gatehouse-dev/gatehouse/gatetest/registry"
	"github.com/gatehouse-dev/gatehouse/gatetest/vuln"
	"github.com/gatehouse-dev/gatehouse/image"
)

// host is the registry: HOST:PORT.
type host string

type images struct{ good, root, vulnerable, fixed picture }

// A picture is an image of the tour and what its build knows of it.
type picture struct {
	title    string
	tag      string // as it was pushed: HOST/shop/NAME:TAG
	ref      image.Reference
	findings []vuln.Finding
}

// push builds the programs and pushes them as images.
func (t *tour) push(ctx context.Context) error {
	reg, err := t.startRegistry(ctx)
	if err != nil {
		return err
	}
	t.registry = host(reg.Host())
	t.say("  registry at %s (go-containerregistry's, in this process: it needs no download)", t.registry)
	records, err := vuln.ReadRecords(os.DirFS(filepath.Join(t.source, "osv")))
	if err != nil {
		return err
	}
	for _, p := range []struct {
		to                  *picture
		title, source, name string
		user                string
		flags               []string
	}{
		{&t.images.good, "a good one", "good", "web:1", "65532", nil},
		{&t.images.root, "one that runs as root", "root", "tool:1", "", nil},
		{&t.images.vulnerable, "one with a known vulnerability", "vulnerable", "greeter:1", "65532", nil},
		{&t.images.fixed, "its fix, for later", "vulnerable", "greeter:2", "65532", []string{"-modfile=../good/go.mod"}},
	} {
		binary := filepath.Join(t.dir, "programs", p.name)
		if err := registry.BuildGo(ctx, filepath.Join(t.source, p.source), binary, p.flags...); err != nil {
			return err
		}
		modules, err := vuln.ModulesOf(binary)
		if err != nil {
			return err
		}
		findings, err := vuln.Match(modules, records)
		if err != nil {
			return err
		}
		img, err := registry.GoBinaryImage(binary, registry.ImageOptions{User: p.user})
		if err != nil {
			return err
		}
		ref, err := reg.Push(ctx, "shop/"+p.name, img)
		if err != nil {
			return err
		}
		*p.to = picture{title: p.title, tag: reg.Host() + "/shop/" + p.name, ref: ref, findings: findings}
		t.say("  pushed %-16s %s", "shop/"+p.name, p.title)
		t.say("         %s", ref.Digest())
	}
	return nil
}

func (t *tour) startRegistry(ctx context.Context) (*registry.Registry, error) {
	ctx, cancel := context.WithCancel(ctx)
	started, ended := make(chan *registry.Registry, 1), make(chan error, 1)
	go func() {
		ended <- registry.Serve(ctx, "127.0.0.1:0", filepath.Join(t.dir, "registry"), func(r *registry.Registry) { started <- r })
	}()
	select {
	case r := <-started:
		t.onStop(func() error { cancel(); return <-ended })
		return r, nil
	case err := <-ended:
		cancel()
		return nil, fmt.Errorf("starting the registry: %w", err)
	}
}
