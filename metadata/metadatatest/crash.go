package metadatatest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	crashWriters = 4
	crashBatch   = 5
	crashNote    = "projects/provider/notes/scan"
)

// WriteUntil creates occurrences in batches and one by one, deletes some, writes
// revisions of a document, and tells on out what was acknowledged ("+ name…", "=
// document revision"), what it is about to delete ("? name") and what it has
// deleted ("- name"), each in one write, until ctx is done or a call fails. A patient one goes on after errors of kind Unavailable.
// [Promises] hold the store to what was told.
func WriteUntil(ctx context.Context, s metadata.Store, out io.Writer, patient bool) error {
	svc, err := metadata.NewService(ctx, s, metadata.Options{Authorizer: metadata.InsecureAllowAll()})
	if err != nil {
		return err
	}
	note := &grafeas.Note{Type: &grafeas.Note_Secret{Secret: &grafeas.SecretNote{}}}
	_, err = svc.CreateNote(ctx, metadata.Caller{}, "projects/provider", "scan", note)
	if err != nil && metadata.KindOf(err) != metadata.AlreadyExists {
		return err
	}
	var group errgroup.Group
	for writer := range crashWriters {
		group.Go(func() error {
			for n := 0; ctx.Err() == nil; n++ {
				err := writeOnce(ctx, s, svc, out, fmt.Sprintf("%d.%p.%d.%d", os.Getpid(), s, writer, n))
				if away := patient && metadata.KindOf(err) == metadata.Unavailable; err != nil && !away {
					return err
				}
			}
			return ctx.Err()
		})
	}
	return group.Wait()
}

func writeOnce(ctx context.Context, s metadata.Store, svc *metadata.Service, out io.Writer, id string) error {
	batch := make([]*grafeas.Occurrence, crashBatch)
	for i := range batch {
		batch[i] = &grafeas.Occurrence{
			ResourceUri: fmt.Sprintf("https://r/%s@sha256:%064x", id, i),
			NoteName:    crashNote,
			Remediation: id, // names the batch
			Details:     &grafeas.Occurrence_Secret{Secret: &grafeas.SecretOccurrence{}},
		}
	}
	single := batch[0]
	created, err := svc.BatchCreateOccurrences(ctx, metadata.Caller{}, "projects/p", batch)
	if err != nil {
		return err
	}
	line := "+"
	for _, o := range created {
		line += " " + o.GetName()
	}
	if _, err := fmt.Fprintln(out, line); err != nil {
		return err
	}
	single.Remediation = "single"
	o, err := svc.CreateOccurrence(ctx, metadata.Caller{}, "projects/p", single)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "+ %s\n? %s\n", o.GetName(), o.GetName()); err != nil {
		return err
	}
	if err := svc.DeleteOccurrence(ctx, metadata.Caller{}, o.GetName()); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, "-", o.GetName()); err != nil {
		return err
	}
	return writeRevision(ctx, s, out, id)
}

// writeRevision adds one to a document of the writer's own, or deletes it.
func writeRevision(ctx context.Context, s metadata.Store, out io.Writer, id string) error {
	name := "projects/" + id[:strings.LastIndexByte(id, '.')] + "/policy"
	next := uint64(1)
	newest, err := s.Document(ctx, name, 0)
	switch {
	case err == nil:
		next = newest.Revision + 1
	case metadata.KindOf(err) != metadata.NotFound:
		return err
	}
	content := id
	if next%4 == 0 {
		content = ""
	}
	if err := s.Apply(ctx, writeDocument(name, next, content)); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "=", name, next)
	return err
}

// Promises are what writers have told about each name, in the words of
// [WriteUntil]. They may be used concurrently.
type Promises struct {
	mu    sync.Mutex
	lines int
	told  map[string]byte // '+', '?' or '-'
	// documents are the newest revisions that were acknowledged.
	documents map[string]uint64
	grown     chan struct{} // closed, and replaced, with each line
}

// NewPromises returns none.
func NewPromises() *Promises {
	return &Promises{told: map[string]byte{}, documents: map[string]uint64{}, grown: make(chan struct{})}
}

// Write takes lines, whole ones.
func (p *Promises) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if words[0] == "=" {
			p.documents[words[1]], _ = strconv.ParseUint(words[2], 10, 64) // 0 would be noticed
			words = words[:1]
		}
		for _, name := range words[1:] {
			p.told[name] = words[0][0]
		}
		p.lines++
	}
	close(p.grown)
	p.grown = make(chan struct{})
	return len(text), nil
}

// Await returns when more lines were told than by now.
func (p *Promises) Await(ctx context.Context, more int) error {
	p.mu.Lock()
	until := p.lines + more
	for p.lines < until {
		grown := p.grown
		p.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
		p.mu.Lock()
	}
	p.mu.Unlock()
	return nil
}

// Kill starts a process that runs WriteUntil, and kills it once it has told so
// many lines; it goes on writing up to that very moment.
func (p *Promises) Kill(cmd *exec.Cmd, lines int) error {
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	read := 0
	for scanner := bufio.NewScanner(stdout); scanner.Scan(); read++ {
		if read == lines {
			if err := cmd.Process.Kill(); err != nil { // SIGKILL
				return err
			}
		}
		if _, err := p.Write(scanner.Bytes()); err != nil {
			return err
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != -1 || read < lines {
		return fmt.Errorf("the writer ended by itself after %d lines: %w\n%s", read, err, stderr.String())
	}
	return nil
}

// Verify checks that the store keeps what was promised, that each batch is whole,
// and that all ways to find an occurrence and the feed agree. Nobody may write.
func (p *Promises) Verify(t testing.TB, s metadata.Store) {
	t.Helper()
	p.mu.Lock()
	told, documents := maps.Clone(p.told), maps.Clone(p.documents)
	p.mu.Unlock()
	for name, revision := range documents {
		if newest, err := s.Document(t.Context(), name, 0); err != nil || revision == 0 || newest.Revision < revision {
			t.Errorf("revision %d of %s was acknowledged, and is lost: the newest is %+v, %v", revision, name, newest, err)
		}
	}
	byParent := listAll(t, s, metadata.OccurrenceQuery{Parent: project})
	for name, mark := range told {
		switch _, found := byParent[name]; {
		case mark == '+' && !found:
			t.Errorf("%s was acknowledged, and is lost", name)
		case mark == '-' && found:
			t.Errorf("%s was deleted, and is back", name)
		}
	}
	batches := map[string]int{}
	for name, o := range byParent {
		if o.GetRemediation() != "single" {
			batches[o.GetRemediation()]++
		}
		keys := metadata.KeysOf(o)
		for _, q := range []metadata.OccurrenceQuery{{Resources: []metadata.Key{keys.Resource}}, {Resources: []metadata.Key{keys.Resource}, Subjects: []metadata.Key{keys.Subject}}} {
			q.Parent = project
			if _, found := listAll(t, s, q)[name]; !found {
				t.Errorf("%s is missing in an index", name)
			}
		}
	}
	for id, n := range batches {
		if n != crashBatch {
			t.Errorf("of batch %s there are %d occurrences, want %d", id, n, crashBatch)
		}
	}
	note, err := metadata.ParseNoteName(crashNote)
	must(t, err)
	if n := len(listAll(t, s, metadata.OccurrenceQuery{Note: note})); n != len(byParent) {
		t.Errorf("%d occurrences by note, %d by parent", n, len(byParent))
	}
	verifyFeed(t, s, byParent)
}

// verifyFeed replays the whole feed, which must give what is stored.
func verifyFeed(t testing.TB, s metadata.Store, stored map[string]*grafeas.Occurrence) {
	t.Helper()
	live := map[string]bool{}
	revisions := map[string][]*metadata.Document{}
	var seq uint64
	for {
		changes, err := s.Changes(t.Context(), seq, 1000)
		must(t, err)
		if len(changes) == 0 {
			break
		}
		for _, c := range changes {
			if seq++; c.Seq != seq {
				t.Fatalf("change %d follows %d", c.Seq, seq-1)
			}
			if c.Document != nil {
				revisions[c.Document.Name] = append(revisions[c.Document.Name], c.Document)
			}
			if c.Op == metadata.Created && c.Occurrence != nil {
				live[c.Occurrence.GetName()] = true
			}
			if c.Op == metadata.Deleted {
				delete(live, c.Occurrence.GetName())
			}
		}
	}
	if seq != s.Head() {
		t.Errorf("the feed ends at %d, the head is %d", seq, s.Head())
	}
	for name := range stored {
		if !live[name] {
			t.Errorf("%s is stored, and not in the feed", name)
		}
	}
	if len(live) != len(stored) {
		t.Errorf("the feed leaves %d occurrences, stored are %d", len(live), len(stored))
	}
	for name, told := range revisions {
		slices.Reverse(told)
		diff(t, told, allRevisions(t, s, name))
	}
}

func listAll(t testing.TB, s metadata.Store, q metadata.OccurrenceQuery) map[string]*grafeas.Occurrence {
	t.Helper()
	q.Kinds, q.Limit = metadata.AllKinds, 1000
	all := map[string]*grafeas.Occurrence{}
	for _, o := range list(t, s, q) {
		all[o.GetName()] = o
	}
	return all
}
