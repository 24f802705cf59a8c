package resolvetags

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const (
	// maxInput bounds what is read from where its end cannot be seen, in bytes: standard
	// input, a URL, kustomize.
	maxInput = 1 << 30
	// maxFiles bounds the files of one folder.
	maxFiles = 100_000
)

// An input is one stream of manifests.
type input struct {
	name  string // as it is called in messages
	group int    // the argument that it came by
	// path is the file, or a copy of what can be read once only.
	path string
	// isFile is set for a file of the caller's, which can be written.
	isFile bool
}

func (in input) open() (*os.File, error) { return os.Open(in.path) }

// An opener finds inputs. Close it to remove its copies.
type opener struct {
	stdin     io.Reader
	stderr    io.Writer
	kubectl   string
	recursive bool
	client    *http.Client
	dir       string // of copies, "" until there is one
	copies    int
}

func (o *opener) Close() error {
	if o.dir == "" {
		return nil
	}
	return os.RemoveAll(o.dir)
}

// files finds the inputs that an argument of --filename stands for.
func (o *opener) files(ctx context.Context, arg string, group int) ([]input, error) {
	switch {
	case arg == "":
		return nil, errors.New("--filename is empty")
	case arg == "-":
		return o.copied("standard input", group, o.stdin)
	case strings.HasPrefix(arg, "http://"), strings.HasPrefix(arg, "https://"):
		return o.fetch(ctx, arg, group)
	}
	info, err := os.Stat(arg)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return o.glob(arg, group)
	case err != nil:
		return nil, err
	case info.IsDir():
		return o.folder(arg, group)
	case !info.Mode().IsRegular(): // a pipe, such as of a shell's <(command)
		f, err := os.Open(arg)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		return o.copied(arg, group, f)
	}
	return []input{{name: arg, group: group, path: arg, isFile: true}}, nil
}

// glob finds files by a pattern, as kubectl does.
func (o *opener) glob(pattern string, group int) ([]input, error) {
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		return nil, fmt.Errorf("reading %q: %w", pattern, fs.ErrNotExist)
	}
	var list []input
	for _, name := range names {
		if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
			continue
		}
		list = append(list, input{name: name, group: group, path: name, isFile: true})
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("reading %q: no files", pattern)
	}
	return list, nil
}

// folder finds the manifests in a folder, and with --recursive in those below.
func (o *opener) folder(dir string, group int) ([]input, error) {
	var list []input
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != dir && !o.recursive:
			return fs.SkipDir
		case d.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)):
			return nil
		case len(list) == maxFiles:
			return fmt.Errorf("more than %d manifests", maxFiles)
		}
		if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
			return err
		}
		list = append(list, input{name: name, group: group, path: name, isFile: true})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading folder %q: %w", dir, err)
	}
	if len(list) == 0 {
		hint := ""
		if !o.recursive {
			hint = "; --recursive looks into the folders below, too"
		}
		return nil, fmt.Errorf("reading folder %q: no files that end in .yaml, .yml or .json%s", dir, hint)
	}
	return list, nil
}

func (o *opener) fetch(ctx context.Context, url string, group int) ([]input, error) {
	fail := func(err error) ([]input, error) { return nil, fmt.Errorf("fetching %q: %w", url, err) }
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fail(err)
	}
	req.Header.Set("User-Agent", userAgent)
	resp, err := o.client.Do(req)
	if err != nil {
		var of interface{ Unwrap() error } // which names the URL again
		if errors.As(err, &of) && of.Unwrap() != nil {
			err = of.Unwrap()
		}
		return fail(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fail(fmt.Errorf("the server answered %s", resp.Status))
	}
	return o.copied(url, group, resp.Body)
}

// kustomized finds what kustomize makes of a folder.
func (o *opener) kustomized(ctx context.Context, dir string, group int) (list []input, err error) {
	cmd := exec.CommandContext(ctx, o.kubectl, "kustomize", dir)
	cmd.Stderr = o.stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("running %q: %w", strings.Join(cmd.Args, " "), err)
	}
	list, err = o.copied("kustomize "+dir, group, out)
	if err != nil { // it may still be writing
		_ = cmd.Process.Kill()
	}
	if failed := cmd.Wait(); err == nil && failed != nil {
		err = fmt.Errorf("running %q: %w", strings.Join(cmd.Args, " "), failed)
	}
	return list, err
}

// copied makes an input of what can be read once only.
func (o *opener) copied(name string, group int, r io.Reader) (list []input, err error) {
	f, err := o.scratch()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err := io.Copy(f, io.LimitReader(r, maxInput+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", name, err)
	case n > maxInput:
		return nil, fmt.Errorf("reading %s: more than %d MiB", name, maxInput>>20)
	}
	return []input{{name: name, group: group, path: f.Name()}}, nil
}

// scratch makes a file that ends with the opener, and that nobody else can read.
func (o *opener) scratch() (*os.File, error) {
	if o.dir == "" {
		dir, err := os.MkdirTemp("", "resolve-tags-")
		if err != nil {
			return nil, err
		}
		o.dir = dir
	}
	o.copies++
	return os.OpenFile(filepath.Join(o.dir, fmt.Sprint(o.copies)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}
