package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// An archived program is in the file of the release, by the name of binary in it.
type archived struct {
	platform
	file, binary, sha256 string
}

// An entry is a file in an archive.
type entry struct {
	name    string
	content []byte
	mode    fs.FileMode
}

// archive puts a program and its licence into an archive.
func (r *release) archive(p platform, prog program, binary string) (archived, error) {
	a := archived{platform: p, binary: filepath.Base(binary)}
	var entries []entry
	for _, file := range []struct {
		path string
		mode fs.FileMode
	}{{filepath.Join(r.source, "LICENSE"), 0o644}, {filepath.Join(r.source, "README.md"), 0o644}, {binary, 0o755}} {
		content, err := os.ReadFile(file.path)
		if err != nil {
			return a, err
		}
		entries = append(entries, entry{filepath.Base(file.path), content, file.mode})
	}
	pack, suffix := r.tarball, ".tar.gz"
	if p.os == "windows" {
		pack, suffix = r.zip, ".zip"
	}
	content, err := pack(entries)
	if err != nil {
		return a, err
	}
	sum := sha256.Sum256(content)
	a.file, a.sha256 = prog.name+"_"+r.version+"_"+p.String()+suffix, hex.EncodeToString(sum[:])
	return a, r.publish(a.file, content)
}

// tarball makes a tar.gz that tells nothing of who made it, and when.
func (r *release) tarball(entries []entry) ([]byte, error) {
	var out bytes.Buffer
	compressed, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	archive := tar.NewWriter(compressed)
	for _, e := range entries {
		if err := archive.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: e.name, Size: int64(len(e.content)), Mode: int64(e.mode), ModTime: r.time, Format: tar.FormatPAX,
		}); err != nil {
			return nil, err
		}
		if _, err := archive.Write(e.content); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(archive.Close(), compressed.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (r *release) zip(entries []entry) ([]byte, error) {
	var out bytes.Buffer
	archive := zip.NewWriter(&out)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: r.time}
		h.SetMode(e.mode)
		w, err := archive.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// chartFolder is where the Helm chart is, which is released as it is.
const chartFolder = "deploy/chart/gatehouse"

// checkChart refuses a chart of another version: the binary installs it as it is, and it
// names the image.
func (r *release) checkChart() error {
	text, err := os.ReadFile(filepath.Join(r.source, filepath.FromSlash(chartFolder), "Chart.yaml"))
	if err != nil {
		return err
	}
	var chart struct {
		Version    string `yaml:"version"`
		AppVersion string `yaml:"appVersion"`
	}
	if err := yaml.Unmarshal(text, &chart); err != nil {
		return fmt.Errorf("reading the version of the chart: %w", err)
	}
	if want := strings.TrimPrefix(r.version, "v"); chart.Version != want || chart.AppVersion != want {
		return fmt.Errorf("%s/Chart.yaml has version %q and appVersion %q: set both to %q, commit that, and tag the commit", chartFolder, chart.Version, chart.AppVersion, want)
	}
	return nil
}

// chart packs the Helm chart, as helm package does.
func (r *release) chart() error {
	folder := filepath.Join(r.source, filepath.FromSlash(chartFolder))
	var entries []entry
	err := filepath.WalkDir(folder, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(folder, file)
		if err != nil {
			return err
		}
		entries = append(entries, entry{path.Join("gatehouse", filepath.ToSlash(inside)), content, 0o644})
		return nil
	})
	if err != nil {
		return err
	}
	content, err := r.tarball(entries)
	if err != nil {
		return err
	}
	return r.publish("gatehouse-chart-"+strings.TrimPrefix(r.version, "v")+".tgz", content)
}

// hash returns the SHA-256 of a file of the release, in hex.
func (r *release) hash(name string) (string, error) {
	f, err := os.Open(filepath.Join(r.out, name))
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // read only
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
