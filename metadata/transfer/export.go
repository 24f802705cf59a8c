package transfer

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// ExportOptions say what to export, and how.
type ExportOptions struct {
	// Source is the server's address, for the file and its state.
	Source  string
	Version Version // Auto if ""
	// Projects are "p", "projects/p" or "p/locations/l"; none means all that the
	// server lists.
	Projects []string
	PageSize int32
	Timeout  time.Duration // of one call
	// Salvage walks each list until two walks in a row bring nothing new.
	Salvage bool
	// Restart drops what an interrupted export has left, and Overwrite replaces
	// the file.
	Restart, Overwrite bool
	// Progress is told after each page; it may be nil.
	Progress func(Totals)
	// Now is time.Now if nil, and Sleep waits if nil.
	Now   func() time.Time
	Sleep func(context.Context, time.Duration) error
}

// An ExportResult is what was exported.
type ExportResult struct {
	File    string `json:"file"`
	Source  string `json:"source"`
	Resumed bool   `json:"resumed"`
	Totals
	Warnings []string `json:"warnings,omitempty"`
}

const (
	// quietWalks is how many walks in a row have to bring nothing new for Salvage.
	quietWalks = 2
	maxWalks   = 100
	// maxWarnings bounds how many are told.
	maxWarnings = 50
)

// Export writes what a server keeps to a file. It goes on with an interrupted
// export of the same to the same file.
func Export(ctx context.Context, conn grpc.ClientConnInterface, file string, opts ExportOptions) (ExportResult, error) {
	x, err := newExport(ctx, conn, opts)
	if err != nil {
		return ExportResult{}, err
	}
	resumed, err := x.open(file)
	if err != nil {
		return ExportResult{}, err
	}
	defer func() { _ = x.out.close() }() // closed before, if all went well
	if !resumed {
		if err := x.begin(ctx); err != nil {
			return ExportResult{}, err
		}
	}
	if err := x.run(ctx); err != nil {
		on := "the same command goes on from there"
		if isCircle(err) {
			on = "what is there is kept"
		}
		return x.result(file, resumed), fmt.Errorf("after %d notes and %d occurrences: %w; %s", x.at.Totals.Notes, x.at.Totals.Occurrences, err, on)
	}
	return x.result(file, resumed), x.out.finish()
}

// ExportTo writes what a server keeps to w. It cannot be resumed.
func ExportTo(ctx context.Context, conn grpc.ClientConnInterface, w io.Writer, opts ExportOptions) (ExportResult, error) {
	x, err := newExport(ctx, conn, opts)
	if err != nil {
		return ExportResult{}, err
	}
	x.out = newStream(w)
	if err := x.begin(ctx); err != nil {
		return ExportResult{}, err
	}
	if err := x.run(ctx); err != nil {
		return x.result("-", false), err
	}
	return x.result("-", false), x.out.finish()
}

// An exporter runs one export.
type exporter struct {
	opts    ExportOptions
	remotes []remote
	caller  caller
	out     *output
	at      position
	parents []string
	// written are the names written of the list at hand.
	written map[key]struct{}
	strays  map[string]bool // parents that are not exported, of which something came
	loose   bool            // rows were left out that nothing says the parent of
	empty   int64           // messages without content
}

func newExport(ctx context.Context, conn grpc.ClientConnInterface, opts ExportOptions) (*exporter, error) {
	if opts.Version == "" {
		opts.Version = Auto
	}
	if opts.PageSize <= 0 {
		opts.PageSize = DefaultPageSize
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	asked := make([]string, len(opts.Projects))
	for i, p := range opts.Projects {
		asked[i] = "projects/" + strings.TrimPrefix(p, "projects/")
		if !isParent(asked[i]) {
			return nil, metadata.Errorf(metadata.InvalidArgument, "--project %q: want P or P/locations/L", clean(p))
		}
	}
	slices.Sort(asked)
	opts.Projects = slices.Compact(asked)
	x := &exporter{opts: opts, caller: newCaller(opts.Timeout, opts.Sleep), strays: map[string]bool{}, written: map[key]struct{}{}}
	var err error
	x.remotes, err = remotes(ctx, conn, opts.Version, x.caller)
	x.at.fits = fits{Source: opts.Source, Projects: opts.Projects}
	for _, r := range x.remotes {
		x.at.APIs = append(x.at.APIs, r.version())
	}
	return x, err
}

// begin writes the header and the projects.
func (x *exporter) begin(ctx context.Context) error {
	text, err := encodeHeader(header{Format: fileFormat, Version: fileVersion, Source: x.opts.Source, Time: x.opts.Now().UTC(), APIs: x.at.APIs})
	if err != nil {
		return err
	}
	if err := x.out.write(text); err != nil {
		return err
	}
	parents := x.opts.Projects
	if len(parents) == 0 {
		if parents, err = x.listProjects(ctx); err != nil {
			return err
		}
	}
	for _, name := range parents {
		if err := x.write(item{sort: theProjects, name: name}); err != nil {
			return err
		}
	}
	x.parents, x.at.Section = parents, notes
	return x.checkpoint(nil)
}

// listProjects lists them in every version, for a server may file them apart.
func (x *exporter) listProjects(ctx context.Context) ([]string, error) {
	var all []string
	for _, r := range x.remotes {
		w := x.walk("listing the projects", func(ctx context.Context, q query) ([]proto.Message, string, error) {
			names, next, err := r.projects(ctx, q)
			return projectMessages(names), next, err
		})
		err := x.every(ctx, w, func(rows []proto.Message) (int, error) {
			fresh := 0
			for _, m := range rows {
				if name := nameOf(m); isParent(name) && !slices.Contains(all, name) {
					all = append(all, name)
					fresh++
				}
			}
			return fresh, nil
		})
		if metadata.KindOf(err) == metadata.Unimplemented {
			continue
		}
		if err != nil {
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, metadata.Errorf(metadata.NotFound, "the server lists no projects; name those to export with --project")
	}
	slices.Sort(all)
	return all, nil
}

func (x *exporter) walk(of string, fetch func(context.Context, query) ([]proto.Message, string, error)) *walk {
	w := &walk{caller: x.caller, of: of, fetch: fetch, size: x.opts.PageSize}
	w.restart()
	return w
}

// every gives all pages of a walk to take, which returns how many rows were new.
// With Salvage it walks again and again, and does not mind a walk that repeats.
func (x *exporter) every(ctx context.Context, w *walk, take func([]proto.Message) (fresh int, err error)) error {
	quiet := 0
	for walks := 0; walks < maxWalks; walks++ {
		fresh := 0
		for !w.done {
			rows, err := w.next(ctx)
			if isCircle(err) && x.opts.Salvage {
				break
			}
			if err != nil {
				return err
			}
			n, err := take(rows)
			if err != nil {
				return err
			}
			fresh += n
		}
		if quiet++; fresh > 0 {
			quiet = 0
		}
		if !x.opts.Salvage || quiet == quietWalks {
			return nil
		}
		w.restart()
	}
	return metadata.Errorf(metadata.FailedPrecondition, "%s: %d walks through the list each brought something new; is somebody writing?", w.of, maxWalks)
}

// run exports the lists from the position on.
func (x *exporter) run(ctx context.Context) error {
	for ; x.at.Section <= occurrences; x.at.Section++ {
		for ; x.at.Parent < len(x.parents); x.at.Parent++ {
			if err := x.list(ctx, x.at.Section, x.parents[x.at.Parent]); err != nil {
				return err
			}
			x.at.Tokens = nil
			clear(x.written)
		}
		x.at.Parent = 0
	}
	text, err := encodeEnd(x.at.Totals)
	if err != nil {
		return err
	}
	return x.out.write(text)
}

func (x *exporter) write(it item) error {
	text, err := it.encode()
	if err != nil {
		return err
	}
	if it.msg != nil && isEmpty(it.msg) {
		x.empty++
	}
	x.at.Totals.add(it.sort)
	return x.out.write(text)
}

func (x *exporter) result(file string, resumed bool) ExportResult {
	return ExportResult{File: file, Source: x.opts.Source, Resumed: resumed, Totals: x.at.Totals, Warnings: x.warnings()}
}

// warnings are what the reader of the file should know.
func (x *exporter) warnings() []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(x.strays)) {
		if !slices.Contains(x.parents, name) && len(all) < maxWarnings {
			all = append(all, fmt.Sprintf("%q has content and is not among the projects exported; export it too, with --project", clean(name)))
		}
	}
	if x.loose {
		all = append(all, "the server listed messages without a name, which cannot be exported; the reference server makes them of occurrences that are updated")
	}
	if x.empty > 0 {
		all = append(all, fmt.Sprintf("%d messages have no content in the version exported; export with --api auto", x.empty))
	}
	if x.opts.Salvage {
		all = append(all, "lists were walked until nothing new came; a server whose paging leaves rows out may have left out some every time")
	}
	return all
}
