package feed

import (
	"context"
	"fmt"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	gatehousev1 "github.com/gatehouse-dev/gatehouse/api/gatehouse/v1"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// snapshots sends the documents, and then what the gate asks for, one after the other.
func (w *watcher) snapshots(ctx context.Context) error {
	if err := w.documents(ctx); err != nil {
		return err
	}
	for {
		select {
		case want := <-w.wants:
			if err := w.snapshot(ctx, want); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// documents sends those that every gate of the project follows.
func (w *watcher) documents(ctx context.Context) error {
	p := &parts{w: w}
	if err := w.document(ctx, p, systemPolicy); err != nil {
		return err
	}
	_, err := w.s.svc.Documents(ctx, projectName(w.key.project)+"/", func(d *metadata.Document) error { return p.document(ctx, d) })
	if err != nil {
		return err
	}
	w.mu.RLock()
	var others []string
	for name := range w.interest.documents {
		others = append(others, name)
	}
	w.mu.RUnlock()
	for _, name := range others {
		if err := w.document(ctx, p, name); err != nil {
			return err
		}
	}
	return p.end(ctx)
}

// document sends the newest revision of a document, which may be its deletion.
func (w *watcher) document(ctx context.Context, p *parts, name string) error {
	switch d, err := w.s.svc.Document(ctx, name); {
	case err == nil:
		return p.document(ctx, d)
	case metadata.KindOf(err) != metadata.NotFound:
		return err
	}
	return nil // there never was one
}

// snapshot answers a want. Only an error of the stream is one.
func (w *watcher) snapshot(ctx context.Context, want *gatehousev1.Want) error {
	w.mu.RLock()
	p := &parts{w: w, id: want.GetId(), credit: w.credits[want.GetId()]}
	w.mu.RUnlock()
	defer func() {
		w.mu.Lock()
		delete(w.credits, want.GetId())
		w.mu.Unlock()
	}()
	var err error
	switch asked := want.GetInterest(); {
	case len(asked.GetNotes()) > 0:
		_, err = w.s.svc.NoteOccurrences(ctx, asked.GetNotes()[0], func(o *grafeas.Occurrence) error { return p.occurrence(ctx, o) })
	case len(asked.GetProjects()) > 0:
		_, err = w.s.svc.ProjectOccurrences(ctx, asked.GetProjects()[0], statements, func(o *grafeas.Occurrence) error { return p.occurrence(ctx, o) })
	case len(asked.GetScans()) > 0:
		_, err = w.s.svc.ProjectSummaries(ctx, asked.GetScans()[0], func(s *metadata.Summary) error { return p.summary(ctx, s) })
	case len(asked.GetDocuments()) > 0:
		err = w.document(ctx, p, asked.GetDocuments()[0])
	}
	if err == nil {
		err = p.end(ctx)
	}
	if err != nil && ctx.Err() == nil && !p.broken {
		return w.refuse(want.GetId(), err)
	}
	return err
}

// parts sends a snapshot in parts.
type parts struct {
	w      *watcher
	id     uint64
	credit chan struct{} // a place for each part that was taken in; nil: they are few
	sent   int
	part   gatehousev1.Part
	bytes  int
	items  int
	broken bool // the stream is
}

func (p *parts) occurrence(ctx context.Context, o *grafeas.Occurrence) error {
	if !statements.Has(o.GetKind()) {
		return nil
	}
	raw, err := proto.Marshal(o)
	if err != nil {
		return fmt.Errorf("encoding occurrence %q: %w", o.GetName(), err)
	}
	return p.add(ctx, len(raw), func() { p.part.Occurrences = append(p.part.Occurrences, raw) })
}

func (p *parts) summary(ctx context.Context, from *metadata.Summary) error {
	s, err := p.w.s.summaryOf(ctx, from, "")
	if err != nil {
		return err
	}
	p.w.knowScanners(s)
	return p.add(ctx, proto.Size(s), func() { p.part.Summaries = append(p.part.Summaries, s) })
}

func (p *parts) document(ctx context.Context, d *metadata.Document) error {
	m := documentOf(d)
	return p.add(ctx, proto.Size(m), func() { p.part.Documents = append(p.part.Documents, m) })
}

// add adds a thing, after what is there if that would get too large with it.
func (p *parts) add(ctx context.Context, size int, add func()) error {
	if p.items > 0 && (p.bytes+size > maxMessage || p.items >= maxItems) {
		if err := p.flush(ctx, false); err != nil {
			return err
		}
	}
	add()
	p.bytes, p.items = p.bytes+size, p.items+1
	return nil
}

func (p *parts) end(ctx context.Context) error { return p.flush(ctx, true) }

// flush waits until the gate has taken in most of what was sent before.
func (p *parts) flush(ctx context.Context, last bool) error {
	if p.credit != nil && p.sent >= window {
		select {
		case <-p.credit:
		case <-ctx.Done():
			p.broken = true
			return ctx.Err()
		}
	}
	m := &gatehousev1.Part{Id: p.id, Occurrences: p.part.Occurrences, Summaries: p.part.Summaries, Documents: p.part.Documents, Last: last}
	p.part, p.bytes, p.items = gatehousev1.Part{}, 0, 0
	p.sent++
	if err := p.w.sendPart(m); err != nil {
		p.broken = true
		return err
	}
	return nil
}
