// Command release builds what is published: both programs for every platform, in archives
// that anyone can build again byte for byte, with a bill of materials for each, checksums,
// a signature of those, and the manifest of the kubectl plugin for Krew.
//
//	go run ./release --key release-key.pem
//
// The commit says everything else: archives have its time, and binaries its version.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gatehouse-dev/gatehouse/signature"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// A release is what is built of one commit.
type release struct {
	version string
	time    time.Time // of the commit
	source  string
	out     string
	urls    string // where archives will be, without their names
	log     io.Writer
	files   []string // what is published, but for checksums
}

// A program is what an archive has, beside its licence.
type program struct {
	name, path string
}

func programs() []program {
	return []program{{"gatehouse", "./cmd/gatehouse"}, {"kubectl-resolve_tags", "./cmd/kubectl-resolve_tags"}}
}

// A platform is GOOS/GOARCH.
type platform struct{ os, arch string }

// String returns OS_ARCH, as file names have it.
func (p platform) String() string { return p.os + "_" + p.arch }

func platforms(text string) (list []platform, err error) {
	for item := range strings.SplitSeq(text, ",") {
		system, arch, ok := strings.Cut(item, "/")
		if !ok || system == "" || arch == "" {
			return nil, fmt.Errorf("platform %q: want OS/ARCH, such as linux/amd64", item)
		}
		list = append(list, platform{system, arch})
	}
	return list, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.SetOutput(stderr)
	out := flags.String("out", "dist", "folder to write to; it must not exist")
	source := flags.String("source", ".", "the checkout")
	keyFile := flags.String("key", "", "private key (PEM, P-256) to sign the checksums with")
	unsigned := flags.Bool("unsigned", false, "sign nothing")
	snapshot := flags.Bool("snapshot", false, "build a commit that has no tag, or that something was changed since")
	on := flags.String("platforms", "linux/amd64,linux/arm64,darwin/amd64,darwin/arm64,windows/amd64,windows/arm64", "what to build for")
	urls := flags.String("url", "https://github.com/gatehouse-dev/gatehouse/releases/download", "where the archives will be, below VERSION")
	if err := flags.Parse(args); err != nil {
		return err
	}
	list, err := platforms(*on)
	if err != nil {
		return err
	}
	if (*keyFile == "") != *unsigned {
		return errors.New("give either --key FILE or --unsigned")
	}
	r := &release{source: *source, out: *out, log: stderr}
	var signer signature.Signer
	if !*unsigned { // before minutes of building
		if signer, err = readKey(*keyFile); err != nil {
			return err
		}
	}
	if err := r.describe(ctx, *snapshot); err != nil {
		return err
	}
	if !*snapshot {
		if err := r.checkChart(); err != nil {
			return err
		}
	}
	r.urls = *urls + "/" + r.version
	if err := os.Mkdir(r.out, 0o755); err != nil {
		return fmt.Errorf("making the folder of the release: %w", err)
	}
	var plugin []archived
	for i, p := range list {
		_, _ = fmt.Fprintf(stderr, "[%d/%d] %s/%s\n", i+1, len(list), p.os, p.arch)
		made, err := r.build(ctx, p)
		if err != nil {
			return fmt.Errorf("building for %s/%s: %w", p.os, p.arch, err)
		}
		plugin = append(plugin, made)
	}
	if err := r.chart(); err != nil {
		return err
	}
	if err := r.krew(plugin); err != nil {
		return err
	}
	if err := r.checksums(); err != nil {
		return err
	}
	if signer != nil {
		if err := r.sign(ctx, signer); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(stdout, "%s: %d files in %s; check with: cd %s && sha256sum -c %s\n", r.version, len(r.files), r.out, r.out, checksumsFile)
	return err
}

// describe finds out what is released.
func (r *release) describe(ctx context.Context, snapshot bool) error {
	dirty, err := r.git(ctx, "status", "--porcelain", "--untracked-files=no")
	if err != nil {
		return err
	}
	seconds, err := r.git(ctx, "log", "-1", "--format=%ct")
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return fmt.Errorf("the time of the commit: %w", err)
	}
	r.time = time.Unix(n, 0).UTC()
	r.version, err = r.git(ctx, "describe", "--tags", "--exact-match", "--match", "v*")
	switch {
	case err == nil && dirty == "":
		return nil
	case !snapshot && dirty != "":
		return fmt.Errorf("something was changed since the commit, so that nobody could build this again (--snapshot builds it all the same):\n%s", dirty)
	case !snapshot:
		return errors.New("the commit has no tag vX.Y.Z (--snapshot builds it all the same)")
	}
	commit, err := r.git(ctx, "rev-parse", "--short=12", "HEAD")
	r.version = "v0.0.0-" + r.time.Format("20060102150405") + "-" + commit
	return err
}

func (r *release) git(ctx context.Context, args ...string) (string, error) {
	return r.command(ctx, nil, "git", args...)
}

// command runs a program in the checkout and returns what it printed.
func (r *release) command(ctx context.Context, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = r.source
	cmd.Env = append(os.Environ(), env...)
	cmd.Env = append(cmd.Env, "GOWORK=off", "GOTOOLCHAIN=local", "GOFLAGS=")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(text)), nil
}

// build builds the archives for a platform, and returns that of the plugin.
func (r *release) build(ctx context.Context, p platform) (plugin archived, err error) {
	work, err := os.MkdirTemp("", "release-")
	if err != nil {
		return archived{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	for _, prog := range programs() {
		binary := filepath.Join(work, prog.name)
		if p.os == "windows" {
			binary += ".exe"
		}
		env := []string{"GOOS=" + p.os, "GOARCH=" + p.arch, "CGO_ENABLED=0"}
		if _, err := r.command(ctx, env, "go", "build", "-trimpath", "-buildvcs=true", "-ldflags=-s -w -buildid=", "-o", binary, prog.path); err != nil {
			return archived{}, err
		}
		made, err := r.archive(p, prog, binary)
		if err != nil {
			return archived{}, err
		}
		if err := r.sbom(ctx, made.file, binary); err != nil {
			return archived{}, err
		}
		if prog.name != "gatehouse" {
			plugin = made
		}
	}
	return plugin, nil
}

// sbom writes the bill of materials of a binary beside its archive.
func (r *release) sbom(ctx context.Context, archive, binary string) error {
	name := archive + ".cdx.json"
	out, err := filepath.Abs(filepath.Join(r.out, name))
	if err != nil {
		return err
	}
	// Without a number and a time: the same binary has the same one.
	_, err = r.command(ctx, nil, "go", "tool", "-modfile=tools/release/go.mod", "cyclonedx-gomod", "bin", "-json", "-noserial", "-notimestamp", "-version", r.version, "-output", out, binary)
	r.files = append(r.files, name)
	return err
}

// publish writes a file of the release.
func (r *release) publish(name string, content []byte) error {
	r.files = append(r.files, name)
	slices.Sort(r.files)
	return os.WriteFile(filepath.Join(r.out, name), content, 0o644) //nolint:gosec // it is published
}
