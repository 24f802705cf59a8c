package registry

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// imageTime is when every image and every file in it says it was made: the same
// files make the same digest.
var imageTime = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// ImageOptions are the configuration of an image.
type ImageOptions struct {
	// User is who the image runs as, such as "65532" or "65532:65532". Without
	// one it runs as root.
	User string

	Labels     map[string]string
	Env        []string // NAME=VALUE
	Entrypoint []string
	Cmd        []string

	// Files are put into the image; they replace what the builder would put
	// at their paths.
	Files fs.FS

	// OS and Arch default to those of the binary, or of this program.
	OS, Arch string

	// Created defaults to a fixed time, so that equal files are equal images.
	Created time.Time
}

// GoBinaryImage returns an image that runs the Go program at the path binary:
// the program as /app/NAME, /etc/passwd with root and nonroot (65532),
// /etc/os-release, and the files of opts. Without an entrypoint in opts the
// program is it. The program should be built with CGO_ENABLED=0, since the image
// has no C library.
func GoBinaryImage(binary string, opts ImageOptions) (v1.Image, error) {
	img, err := goBinaryImage(binary, opts)
	if err != nil {
		return nil, fmt.Errorf("making an image of %q: %w", binary, err)
	}
	return img, nil
}

func goBinaryImage(binary string, opts ImageOptions) (v1.Image, error) {
	content, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	info, err := buildinfo.Read(bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("reading its build information: %w", err)
	}
	for _, setting := range info.Settings {
		if setting.Key == "GOOS" && opts.OS == "" {
			opts.OS = setting.Value
		}
		if setting.Key == "GOARCH" && opts.Arch == "" {
			opts.Arch = setting.Value
		}
	}
	program := "app/" + path.Base(info.Path)
	if len(opts.Entrypoint) == 0 {
		opts.Entrypoint = []string{"/" + program}
	}
	base := fstest.MapFS{
		program:             {Data: content, Mode: 0o755},
		"etc/passwd":        {Data: []byte(passwd), Mode: 0o644},
		"etc/group":         {Data: []byte(group), Mode: 0o644},
		"etc/os-release":    {Data: []byte(osRelease), Mode: 0o644},
		"home/nonroot":      {Mode: fs.ModeDir | 0o755},
		"tmp":               {Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		"etc/nsswitch.conf": {Data: []byte("hosts: files dns\n"), Mode: 0o644},
	}
	files := []fs.FS{base}
	if opts.Files != nil {
		files = append(files, opts.Files)
	}
	return newImage(opts, files)
}

const (
	passwd = "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"
	group  = "root:x:0:\nnonroot:x:65532:\n"
	// An operating system without packages, so that no scanner looks for any.
	osRelease = "NAME=\"Gatehouse test image\"\nID=gatehouse-test\nVERSION_ID=1\nPRETTY_NAME=\"Gatehouse test image 1\"\n"
)

// Image returns an image of one layer with the files of opts: a real folder
// (os.DirFS), or a map (fstest.MapFS).
func Image(opts ImageOptions) (v1.Image, error) {
	var files []fs.FS
	if opts.Files != nil {
		files = []fs.FS{opts.Files}
	}
	img, err := newImage(opts, files)
	if err != nil {
		return nil, fmt.Errorf("making an image: %w", err)
	}
	return img, nil
}

// Index returns an index of images: one name for an image on several platforms.
func Index(images ...v1.Image) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, img := range images {
		config, err := img.ConfigFile()
		if err != nil {
			return nil, fmt.Errorf("making an index: %w", err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        img,
			Descriptor: v1.Descriptor{Platform: config.Platform()},
		})
	}
	return index, nil
}

// newImage makes an image whose layer has these files; later ones replace
// earlier ones.
func newImage(opts ImageOptions, files []fs.FS) (v1.Image, error) {
	layerTar, err := tarOf(files)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(layerTar)), nil
	}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
	if err != nil {
		return nil, err
	}
	created := opts.Created
	if created.IsZero() {
		created = imageTime
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.Append(img, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: v1.Time{Time: created}, CreatedBy: "gatetest/registry"},
	})
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Created = v1.Time{Time: created}
	config.OS, config.Architecture = opts.OS, opts.Arch
	if config.OS == "" {
		config.OS = "linux"
	}
	if config.Architecture == "" {
		config.Architecture = runtime.GOARCH
	}
	config.Config = v1.Config{
		User:       opts.User,
		Labels:     opts.Labels,
		Env:        append([]string{"PATH=/usr/local/bin:/usr/bin:/bin:/app"}, opts.Env...),
		Entrypoint: opts.Entrypoint,
		Cmd:        opts.Cmd,
		WorkingDir: "/",
	}
	return mutate.ConfigFile(img, config)
}

// tarOf writes files into an archive, sorted, owned by root and with fixed times.
func tarOf(files []fs.FS) ([]byte, error) {
	from := map[string]fs.FS{}
	for _, fsys := range files {
		err := fs.WalkDir(fsys, ".", func(name string, _ fs.DirEntry, err error) error {
			if name != "." {
				from[name] = fsys
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	names := make([]string, 0, len(from))
	for name := range from {
		names = append(names, name)
	}
	slices.Sort(names)
	var out bytes.Buffer
	archive := tar.NewWriter(&out)
	for _, name := range names {
		if err := addFile(archive, from[name], name); err != nil {
			return nil, fmt.Errorf("adding %q: %w", name, err)
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func addFile(archive *tar.Writer, fsys fs.FS, name string) error {
	info, err := fs.Lstat(fsys, name)
	if err != nil {
		return err
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = fs.ReadLink(fsys, name); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	header.Name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if info.IsDir() {
		header.Name += "/"
	}
	header.ModTime, header.AccessTime, header.ChangeTime = imageTime, time.Time{}, time.Time{}
	header.Uid, header.Gid, header.Uname, header.Gname = 0, 0, "", ""
	header.PAXRecords, header.Format = nil, tar.FormatPAX
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	content, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = content.Close() }()
	_, err = io.Copy(archive, content)
	return err
}
