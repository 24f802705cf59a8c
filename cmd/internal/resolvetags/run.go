package resolvetags

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/gatehouse-dev/gatehouse/cmd/internal/terminal"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
	"github.com/gatehouse-dev/gatehouse/tags"
	"github.com/gatehouse-dev/gatehouse/tags/manifest"
)

const (
	// maxShown bounds what is said of one kind of thing.
	maxShown = 50
)

// A platform asks for the image of one platform.
type platform struct {
	session *resolve.Session
	of      resolve.Platform
}

func (p platform) Digest(ctx context.Context, ref image.Reference) (image.Digest, error) {
	return p.session.PlatformDigest(ctx, ref, p.of)
}

// A place is where an image is.
type place struct {
	file string
	line int
}

func (p place) String() string { return fmt.Sprintf("%s:%d", terminal.Printable(p.file), p.line) }

// An entry is what --output json says of an image.
type entry struct {
	File     string          `json:"file"`
	Line     int             `json:"line"`
	Object   manifest.Object `json:"object"`
	Place    string          `json:"place"`
	Image    string          `json:"image"`
	Pinned   bool            `json:"pinned"`             // has it a digest, as it is written
	Digest   string          `json:"digest,omitempty"`   // that, or what its tag means now
	Resolved string          `json:"resolved,omitempty"` // what it becomes
	ref      image.Reference
}

type note struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Text string `json:"text"`
}

type report struct {
	Images []entry `json:"images"`
	Notes  []note  `json:"notes"`
}

// A run reads all manifests twice: once to see whether everything is right and which
// tags there are, and, when their digests are known, to write.
type run struct {
	*options
	kinds  *manifest.Kinds
	from   *opener
	inputs []input

	images, unpinned, problems, notes int

	refs    []image.Reference // that need a digest, each text once
	first   map[string]place  // by text
	uses    map[string]int
	report  report
	answers tags.Answers
}

func (r *run) run(ctx context.Context, source tags.Source) error {
	if err := r.scan(ctx); err != nil {
		return err
	}
	if r.check && !r.diff && !r.style.Update {
		return r.checked()
	}
	if err := r.resolve(ctx, source); err != nil {
		return err
	}
	switch {
	case r.check && !r.diff:
		return r.checked()
	case r.output == jsonOutput && !r.inPlace:
		return r.printReport()
	case r.inPlace:
		return r.writeFiles(ctx)
	case r.apply:
		return r.applyAll(ctx)
	case r.diff:
		return r.printDiff(ctx)
	}
	return r.print(ctx)
}

// A reading is what comes of reading a document.
type reading struct {
	images   []manifest.Image
	notes    []manifest.Note
	problems []manifest.Problem
}

// scan reads all manifests.
func (r *run) scan(ctx context.Context) error {
	r.first, r.uses = map[string]place{}, map[string]int{}
	read := func(t manifest.Text) reading {
		d, problems := r.kinds.Read(t)
		if len(problems) > 0 {
			return reading{problems: problems}
		}
		return reading{images: d.Images, notes: d.Notes}
	}
	err := eachDocument(ctx, r.inputs, read, func(d *document[reading]) error {
		for _, p := range d.result.problems {
			r.problem(d.in, p)
		}
		r.notice(d.in, d.result.notes)
		for _, i := range d.result.images {
			if err := r.found(d.in, i); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if r.problems > maxShown {
		r.say("and %d more", r.problems-maxShown)
	}
	if r.problems > 0 {
		return ErrRefused
	}
	return nil
}

func (r *run) say(format string, args ...any) {
	_, _ = fmt.Fprintf(r.stderr, format+"\n", args...) // as with errors, nobody can be told
}

func (r *run) problem(in input, p manifest.Problem) {
	if r.problems++; r.problems <= maxShown {
		r.say("%s: error: %s", place{in.name, p.Line}, terminal.Printable(p.Why))
	}
}

func (r *run) notice(in input, notes []manifest.Note) {
	for _, n := range notes {
		if r.output == jsonOutput {
			r.report.Notes = append(r.report.Notes, note{in.name, n.Line, n.Text})
		}
		if r.notes++; r.notes <= maxShown && !r.quiet {
			r.say("%s: note: %s", place{in.name, n.Line}, terminal.Printable(n.Text))
		}
	}
}

func (r *run) found(in input, i manifest.Image) error {
	r.images++
	if r.output == jsonOutput {
		r.report.Images = append(r.report.Images, entry{
			File: in.name, Line: i.Line, Object: i.Object, Place: i.Place, Image: i.Reference.String(),
			Pinned: !i.Reference.Digest().IsZero(), Digest: i.Reference.Digest().String(), ref: i.Reference,
		})
	}
	if !r.style.Needs(i.Reference) {
		return nil
	}
	text := i.Reference.String()
	if r.uses[text]++; r.uses[text] == 1 {
		r.refs = append(r.refs, i.Reference)
		r.first[text] = place{in.name, i.Line}
	}
	if i.Reference.Digest().IsZero() {
		r.unpinned++
		if r.check && r.output == textOutput && !r.diff {
			_, err := fmt.Fprintf(r.stdout, "%s: %s: %s: %s has no digest\n", place{in.name, i.Line}, terminal.Printable(i.Object.String()), terminal.Printable(i.Place), text)
			return err
		}
	}
	return nil
}

// resolve asks for the digests of all tags.
func (r *run) resolve(ctx context.Context, source tags.Source) error {
	meter := terminal.NewMeter(r.stderr, r.quiet)
	r.answers = tags.Resolve(ctx, source, r.refs, tags.Limits{Parallel: r.parallel, Each: r.timeout}, func(done, of int) {
		meter.Show(int64(done), "resolved %d of %d tags", done, of)
	})
	meter.End()
	if err := ctx.Err(); err != nil {
		return err
	}
	failed := 0
	for _, ref := range r.refs {
		_, _, err := r.answers.Digest(ref)
		if err == nil {
			continue
		}
		if failed++; failed <= maxShown {
			also := ""
			if n := r.uses[ref.String()]; n > 1 {
				also = fmt.Sprintf(" (and in %d more places)", n-1)
			}
			r.say("%s: error: %s%s", r.first[ref.String()], terminal.Printable(err.Error()), also)
		}
	}
	if failed > maxShown {
		r.say("and %d more", failed-maxShown)
	}
	if failed > 0 {
		return ErrRefused
	}
	for i := range r.report.Images {
		if e := &r.report.Images[i]; r.style.Needs(e.ref) {
			digest, _, _ := r.answers.Digest(e.ref)
			e.Digest, e.Resolved = digest.String(), r.become(e.ref)
		}
	}
	return nil
}

// become returns what an image is to be written as, "" for one that stays.
func (r *run) become(ref image.Reference) string {
	if !r.style.Needs(ref) {
		return ""
	}
	digest, ok, err := r.answers.Digest(ref)
	if !ok || err != nil {
		return ""
	}
	pinned, err := r.style.Pin(ref, digest)
	if err != nil {
		return ""
	}
	return pinned.String()
}

// checked answers --check.
func (r *run) checked() error {
	outdated := 0
	var failed error
	for _, ref := range r.refs {
		if ref.Digest().IsZero() {
			continue
		}
		if digest, ok, _ := r.answers.Digest(ref); ok && digest != ref.Digest() {
			outdated += r.uses[ref.String()]
			if r.output == textOutput {
				_, err := fmt.Fprintf(r.stdout, "%s: %s: the tag is %s now\n", r.first[ref.String()], ref, digest)
				failed = errors.Join(failed, err)
			}
		}
	}
	if failed != nil {
		return failed
	}
	if r.output == jsonOutput {
		if err := r.printReport(); err != nil {
			return err
		}
	} else if err := r.summary(outdated); err != nil {
		return err
	}
	if r.unpinned+outdated > 0 {
		return ErrUnpinned
	}
	return nil
}

func (r *run) summary(outdated int) error {
	var err error
	switch {
	case r.images == 0:
		_, err = fmt.Fprintf(r.stdout, "no images in %s\n", counted(len(r.inputs), "input"))
	case r.unpinned+outdated == 0:
		_, err = fmt.Fprintf(r.stdout, "%s in %s, all with a digest\n", counted(r.images, "image"), counted(len(r.inputs), "input"))
	case outdated == 0:
		_, err = fmt.Fprintf(r.stdout, "%d of %s without a digest\n", r.unpinned, counted(r.images, "image"))
	default:
		_, err = fmt.Fprintf(r.stdout, "%d of %s without a digest, and %d not with that of their tag\n", r.unpinned, counted(r.images, "image"), outdated)
	}
	return err
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (r *run) printReport() error {
	if r.report.Images == nil {
		r.report.Images = []entry{}
	}
	if r.report.Notes == nil {
		r.report.Notes = []note{}
	}
	enc := json.NewEncoder(r.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(r.report)
}

// A rewriting is what comes of pinning the images of a document.
type rewriting struct {
	text    []byte
	changed int
	err     error
}

func (r *run) rewriteDocument(t manifest.Text) (w rewriting) {
	d, problems := r.kinds.Read(t)
	if len(problems) > 0 {
		return rewriting{err: fmt.Errorf("it was changed while it was read: %v", problems[0])}
	}
	text, problem := d.Rewrite(func(i manifest.Image) string {
		if !r.style.Needs(i.Reference) {
			return ""
		}
		pinned := r.become(i.Reference)
		if pinned == "" {
			w.err = fmt.Errorf("it was changed while it was read: %s at line %d is new", i.Reference, i.Line)
		}
		if pinned != i.Reference.String() {
			w.changed++
		}
		return pinned
	})
	if problem != nil {
		w.err = errors.New(problem.String())
	}
	w.text = text
	return w
}

// rewrite writes inputs with their images pinned, and returns how many were. begin is
// called before the first document of each; it may be nil.
func (r *run) rewrite(ctx context.Context, inputs []input, w io.Writer, begin func(manifest.Text) error) (changed int, err error) {
	err = eachDocument(ctx, inputs, r.rewriteDocument, func(d *document[rewriting]) error {
		if d.result.err != nil {
			return fmt.Errorf("rewriting %s: %w", d.in.name, d.result.err)
		}
		if d.first && begin != nil {
			if err := begin(d.text); err != nil {
				return err
			}
		}
		changed += d.result.changed
		_, err := w.Write(d.result.text)
		return err
	})
	return changed, err
}

// written returns a file with the inputs that are wanted, as one stream.
func (r *run) written(ctx context.Context, inputs []input) (*os.File, error) {
	f, err := r.from.scratch()
	if err != nil {
		return nil, err
	}
	w := &joiner{w: bufio.NewWriterSize(f, 64<<10), many: len(inputs) > 1}
	_, err = r.rewrite(ctx, inputs, w, w.begin)
	if err == nil {
		err = w.w.Flush()
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// print prints all manifests, once all of them have been written.
func (r *run) print(ctx context.Context) error {
	f, err := r.written(ctx, r.inputs)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, err = io.Copy(r.stdout, f)
	return err
}

// applyAll gives the outcome to kubectl, one run for each argument.
func (r *run) applyAll(ctx context.Context) error {
	var streams []*os.File
	defer func() {
		for _, f := range streams {
			_ = f.Close()
		}
	}()
	for from := 0; from < len(r.inputs); {
		to := from
		for to < len(r.inputs) && r.inputs[to].group == r.inputs[from].group {
			to++
		}
		f, err := r.written(ctx, r.inputs[from:to])
		if err != nil {
			return err
		}
		streams = append(streams, f)
		from = to
	}
	for _, f := range streams {
		cmd := exec.CommandContext(ctx, r.kubectl, append([]string{"apply", "-f", "-"}, r.kubectlArgs...)...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = f, r.stdout, r.stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("running %q: %w", strings.Join(cmd.Args, " "), err)
		}
	}
	return nil
}
