package resolvetags

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/gatehouse-dev/gatehouse/tags/manifest"
)

// A document of an input that is worked on.
type document[T any] struct {
	in     input
	first  bool // of its input
	text   manifest.Text
	done   chan struct{} // closed when result is there
	result T
	err    error // of reading, and then there is nothing else
}

// eachDocument reads documents, works on a few at the same time, and uses what comes of
// each in their order. A few documents are in memory, whatever the inputs have.
func eachDocument[T any](ctx context.Context, inputs []input, work func(manifest.Text) T, use func(*document[T]) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue := make(chan *document[T], runtime.GOMAXPROCS(0))
	put := func(d *document[T]) bool {
		select {
		case queue <- d:
			return true
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		defer close(queue)
		for _, in := range inputs {
			err := readDocuments(in, func(t manifest.Text, first bool) bool {
				d := &document[T]{in: in, first: first, text: t, done: make(chan struct{})}
				go func() {
					defer close(d.done)
					d.result = work(d.text)
				}()
				return put(d)
			})
			if err != nil {
				put(&document[T]{err: fmt.Errorf("reading %s: %w", in.name, err)})
				return
			}
		}
	}()
	for d := range queue {
		if d.err != nil {
			return d.err
		}
		select {
		case <-d.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := use(d); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// readDocuments reads an input until use returns false.
func readDocuments(in input, use func(t manifest.Text, first bool) bool) error {
	f, err := in.open()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	first := true
	for docs := manifest.NewReader(f); ; first = false {
		t, err := docs.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !use(t, first) {
			return nil
		}
	}
}
