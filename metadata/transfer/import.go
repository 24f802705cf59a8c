package transfer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// A Conflict is what to do with a note that the target has, with other content.
type Conflict string

// The ways: leave the target's, stop, or make it the file's.
const (
	SkipConflict   Conflict = "skip"
	FailConflict   Conflict = "fail"
	UpdateConflict Conflict = "update"
)

// ImportOptions say how to import.
type ImportOptions struct {
	// Target is the server's address, for the state.
	Target     string
	Version    Version  // Auto if ""
	OnConflict Conflict // SkipConflict if ""
	// StateFile keeps the position; the file's name with ".import-state" if "".
	StateFile string
	// RejectsFile takes what the target refuses, as a file that can be imported
	// when the cause is mended; nothing does if "".
	RejectsFile string
	// MaxErrors is how many may be refused before the import stops; 0 is no bound.
	MaxErrors int64
	// AllowTruncated imports a file without an end.
	AllowTruncated bool
	// SkipExisting compares every occurrence with those of the target first.
	SkipExisting bool
	Timeout      time.Duration // of one call
	// Progress is told after each batch; it may be nil. Refused is told of each
	// item that the target refused, and why; it may be nil.
	Progress func(done, of int)
	Refused  func(line int, name, reason string)
	Sleep    func(context.Context, time.Duration) error // waits if nil
}

// Outcomes are what became of the items of one sort.
type Outcomes struct {
	Created  int64 `json:"created"`
	Existing int64 `json:"existing"` // the target had the same
	Updated  int64 `json:"updated"`
	Refused  int64 `json:"refused"`
}

// An ImportResult is what was imported, by all runs together.
type ImportResult struct {
	File        string   `json:"file"`
	Target      string   `json:"target"`
	Source      string   `json:"source"`
	Resumed     bool     `json:"resumed"`
	Projects    Outcomes `json:"projects"`
	Notes       Outcomes `json:"notes"`
	Occurrences Outcomes `json:"occurrences"`
	Warnings    []string `json:"warnings,omitempty"`
}

// Refused is how many items the target refused.
func (r ImportResult) Refused() int64 {
	return r.Projects.Refused + r.Notes.Refused + r.Occurrences.Refused
}

// A progress is how far an import has come: Done items, and Sending ones that were
// on their way when it stopped.
type progress struct {
	Version      int      `json:"version"`
	Sum          string   `json:"fileSHA256"`
	Target       string   `json:"target"`
	Done         int      `json:"done"`
	Sending      int      `json:"sending"`
	RejectsFile  string   `json:"rejectsFile,omitempty"`
	RejectsBytes int64    `json:"rejectsBytes,omitzero"`
	Projects     Outcomes `json:"projects"`
	Notes        Outcomes `json:"notes"`
	Occurrences  Outcomes `json:"occurrences"`
}

func (p *progress) of(k sort) *Outcomes {
	return [...]*Outcomes{&p.Projects, &p.Notes, &p.Occurrences}[k]
}

const importStateSuffix = ".import-state"

// An importer runs one import.
type importer struct {
	opts    ImportOptions
	file    *os.File
	index   *index
	remotes []remote
	caller  caller
	at      progress
	rejects *rejects
	single  bool // the target has no batches
}

// Import creates on a server what a file has. It goes on with an interrupted
// import of the same file to the same server.
func Import(ctx context.Context, conn grpc.ClientConnInterface, file string, opts ImportOptions) (_ ImportResult, err error) {
	im := &importer{opts: opts.withDefaults(file), caller: newCaller(opts.Timeout, opts.Sleep)}
	if im.file, err = os.Open(file); err != nil {
		return ImportResult{}, err
	}
	defer func() { _ = im.file.Close() }() // read only
	if info, err := im.file.Stat(); err != nil || !info.Mode().IsRegular() {
		return ImportResult{}, errors.Join(err, fmt.Errorf("%q is no regular file; an import reads its file more than once", file))
	}
	if im.index, err = readIndex(ctx, im.file, opts.AllowTruncated); err != nil {
		return ImportResult{}, fmt.Errorf("%s: %w; nothing was imported from it now", file, err)
	}
	resumed, err := im.open()
	if err != nil {
		return ImportResult{}, err
	}
	if im.remotes, err = remotes(ctx, conn, im.opts.Version, im.caller); err == nil {
		err = im.run(ctx)
	}
	if err != nil {
		err = fmt.Errorf("after %d of %d lines: %w; the same command goes on from there", im.at.Done, len(im.index.entries), err)
	}
	return im.result(file, resumed), errors.Join(err, im.rejects.close(err == nil))
}

func (o ImportOptions) withDefaults(file string) ImportOptions {
	if o.Version == "" {
		o.Version = Auto
	}
	if o.OnConflict == "" {
		o.OnConflict = SkipConflict
	}
	if o.StateFile == "" {
		o.StateFile = file + importStateSuffix
	}
	return o
}

// open reads the state of an earlier run, and opens the file of rejects where that
// left it.
func (im *importer) open() (resumed bool, err error) {
	var was progress
	resumed, err = readState(im.opts.StateFile, &was)
	if err != nil {
		return false, err
	}
	im.at = progress{Version: fileVersion, Sum: im.index.sum, Target: im.opts.Target, RejectsFile: im.opts.RejectsFile}
	if resumed {
		if was.Sum != im.at.Sum || was.Target != im.at.Target || was.RejectsFile != im.at.RejectsFile {
			return false, metadata.Errorf(metadata.FailedPrecondition,
				"state %q is of an import of another file, or to another server (%q), or with other --rejects (%q); give another --state, or delete it", im.opts.StateFile, was.Target, was.RejectsFile)
		}
		if was.Version != fileVersion || was.Done < 0 || was.Sending < 0 || was.Done+was.Sending > len(im.index.entries) {
			return false, fmt.Errorf("state %q makes no sense; delete it, and give --skip-existing", im.opts.StateFile)
		}
		im.at = was
	}
	if im.rejects, err = openRejects(im.opts.RejectsFile, im.at.RejectsBytes, im.index.header); err != nil {
		return false, err
	}
	im.at.RejectsBytes = im.rejects.size()
	return resumed, writeState(im.opts.StateFile, im.at)
}

// A group of items goes in one state: what is in doubt after an interruption.
const (
	maxWindow      = metadata.MaxBatch
	maxWindowBytes = 16 << 20
	// maxSent leaves room, below the 4 MiB that gRPC servers and clients receive,
	// for the names and times that an answer adds.
	maxSent = 3<<20 + 1<<19
)

func (im *importer) run(ctx context.Context) error {
	for im.at.Done < len(im.index.entries) {
		if err := ctx.Err(); err != nil {
			return err
		}
		doubt := im.at.Sending > 0
		if !doubt {
			im.at.Sending = im.window()
		}
		im.at.RejectsBytes = im.rejects.size()
		if err := writeState(im.opts.StateFile, im.at); err != nil {
			return err
		}
		before := im.at
		if err := im.send(ctx, doubt); err != nil {
			return errors.Join(err, im.back(before))
		}
		im.at.Done, im.at.Sending = im.at.Done+im.at.Sending, 0
		if im.opts.Progress != nil {
			im.opts.Progress(im.at.Done, len(im.index.entries))
		}
		if most := im.opts.MaxErrors; most > 0 && im.result("", false).Refused() >= most {
			if err := im.save(); err != nil {
				return err
			}
			return metadata.Errorf(metadata.FailedPrecondition, "the target refused %d items, and --max-errors is %d", im.result("", false).Refused(), most)
		}
	}
	return im.save()
}

// back forgets what a window has counted that will be sent again.
func (im *importer) back(before progress) error {
	im.at = before
	return im.rejects.truncate(before.RejectsBytes)
}

func (im *importer) save() error {
	if err := im.rejects.sync(); err != nil {
		return err
	}
	im.at.RejectsBytes = im.rejects.size()
	return writeState(im.opts.StateFile, im.at)
}

// window is how many of the next entries go together: of one sort, and not too
// large.
func (im *importer) window() int {
	rest := im.index.entries[im.at.Done:]
	n, size := 0, int64(0)
	for n < len(rest) && n < maxWindow && rest[n].sort == rest[0].sort {
		size += int64(rest[n].length)
		if n > 0 && size > maxWindowBytes {
			break
		}
		n++
	}
	return n
}

func (im *importer) result(file string, resumed bool) ImportResult {
	r := ImportResult{File: file, Target: im.opts.Target, Source: im.index.header.Source, Resumed: resumed,
		Projects: im.at.Projects, Notes: im.at.Notes, Occurrences: im.at.Occurrences}
	if im.index.truncated {
		r.Warnings = append(r.Warnings, "the file is cut off; what is missing was not imported")
	}
	return r
}
