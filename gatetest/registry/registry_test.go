package registry_test

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/gatehouse-dev/gatehouse/gatetest/registry"
)

const examples = "../../examples/images"

func TestAnImageOfAGoProgramComesBackFromTheRegistry(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "good")
	if err := registry.BuildGo(t.Context(), filepath.Join(examples, "good"), binary); err != nil {
		t.Fatal(err)
	}
	img, err := registry.GoBinaryImage(binary, registry.ImageOptions{
		User:   "65532",
		Labels: map[string]string{"team": "shop"},
		Files: fstest.MapFS{
			"etc/os-release":     {Data: []byte("ID=other\n"), Mode: 0o644},
			"etc/good/good.conf": {Data: []byte("hello\n"), Mode: 0o600},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	reg := registry.New(t)
	ref, err := reg.Push(t.Context(), "shop/good:1", img)
	if err != nil {
		t.Fatal(err)
	}
	if want := reg.Host() + "/shop/good@" + digestOf(t, img); ref.String() != want {
		t.Errorf("pushed as %q, want %q", ref, want)
	}
	for _, stored := range []string{ref.String(), reg.Host() + "/shop/good:1"} {
		pulled := pull(t, reg, stored)
		config, err := pulled.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.Config.User != "65532" || config.Config.Labels["team"] != "shop" || config.OS != "linux" || config.Architecture == "" ||
			!slices.Equal(config.Config.Entrypoint, []string{"/app/good"}) {
			t.Errorf("%s: configuration %+v", stored, config)
		}
		files := filesOf(t, pulled)
		if files["etc/os-release"] != "ID=other\n" || files["etc/good/good.conf"] != "hello\n" || !strings.Contains(files["etc/passwd"], "nonroot:x:65532:") {
			t.Errorf("%s: files %q", stored, slices.Sorted(maps.Keys(files)))
		}
		program, err := os.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		if files["app/good"] != string(program) {
			t.Errorf("%s: the program has %d bytes, want the %d that were built", stored, len(files["app/good"]), len(program))
		}
	}
}

func TestEqualFilesAreEqualImages(t *testing.T) {
	t.Parallel()
	write := func(content string) string {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "etc", "motd"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("motd", filepath.Join(dir, "etc", "issue")); err != nil {
			t.Fatal(err)
		}
		img, err := registry.Image(registry.ImageOptions{Files: os.DirFS(dir)})
		if err != nil {
			t.Fatal(err)
		}
		if files := filesOf(t, img); files["etc/issue"] != "-> motd" {
			t.Errorf("files %q lack the link", files)
		}
		return digestOf(t, img)
	}
	first := write("welcome")
	if again := write("welcome"); again != first {
		t.Errorf("the same files made %s and %s", first, again)
	}
	if other := write("go away"); other == first {
		t.Error("other files made the same image")
	}
}

func TestTagMoves(t *testing.T) {
	t.Parallel()
	reg := registry.New(t)
	first, err := reg.Push(t.Context(), "shop/web:1", randomImage(t))
	if err != nil {
		t.Fatal(err)
	}
	second, err := reg.Push(t.Context(), "shop/web", randomImage(t))
	if err != nil {
		t.Fatal(err)
	}
	if got := digestOf(t, pull(t, reg, reg.Host()+"/shop/web:1")); got != first.Digest().String() {
		t.Errorf("the tag points to %s, want %s", got, first.Digest())
	}
	if err := reg.Tag(t.Context(), second, "1"); err != nil {
		t.Fatal(err)
	}
	if got := digestOf(t, pull(t, reg, reg.Host()+"/shop/web:1")); got != second.Digest().String() {
		t.Errorf("the moved tag points to %s, want %s", got, second.Digest())
	}
}

func TestIndexAndReferrers(t *testing.T) {
	t.Parallel()
	reg := registry.New(t)
	amd64, err := registry.Image(registry.ImageOptions{Arch: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	arm64, err := registry.Image(registry.ImageOptions{Arch: "arm64"})
	if err != nil {
		t.Fatal(err)
	}
	index, err := registry.Index(amd64, arm64)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := reg.Push(t.Context(), "shop/web:multi", index)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := name.NewDigest(ref.String())
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.Image(digest, append(reg.ClientOptions(), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: "arm64"}))...)
	if err != nil {
		t.Fatal(err)
	}
	if digestOf(t, got) != digestOf(t, arm64) {
		t.Error("the index has another image for arm64")
	}

	descriptor, err := remote.Head(digest, reg.ClientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	statement, ok := mutate.Subject(randomImage(t), *descriptor).(v1.Image)
	if !ok {
		t.Fatal("an image with a subject is no image")
	}
	pushed, err := reg.Push(t.Context(), "shop/web", statement)
	if err != nil {
		t.Fatal(err)
	}
	referrers, err := remote.Referrers(digest, reg.ClientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := referrers.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 || manifest.Manifests[0].Digest.String() != pushed.Digest().String() {
		t.Errorf("the referrers are %v, want %s", manifest.Manifests, pushed.Digest())
	}
}

func TestTLSAndPassword(t *testing.T) {
	t.Parallel()
	reg := registry.New(t, registry.WithTLS(), registry.WithBasicAuth("ci", "made for tests"), registry.WithDisk(t.TempDir()))
	ref, err := reg.Push(t.Context(), "shop/web:1", randomImage(t))
	if err != nil {
		t.Fatal(err)
	}
	pull(t, reg, ref.String())
	if !strings.Contains(string(reg.CertificatePEM()), "BEGIN CERTIFICATE") {
		t.Error("there is no certificate to trust")
	}

	parsed, err := name.ParseReference(ref.String())
	if err != nil {
		t.Fatal(err)
	}
	before := reg.Requests()
	_, err = remote.Head(parsed, reg.ClientOptions()[1]) // trust, and no credentials
	var refused *transport.Error
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a password: %v, want 401", err)
	}
	if reg.Requests() == before {
		t.Error("the refused request was not counted")
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	dir := filepath.Join(t.TempDir(), "blobs")
	ready, ended := make(chan *registry.Registry, 1), make(chan error, 1)
	go func() {
		ended <- registry.Serve(ctx, "127.0.0.1:0", dir, func(r *registry.Registry) { ready <- r })
	}()
	var reg *registry.Registry
	select {
	case reg = <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	ref, err := reg.Push(t.Context(), "shop/web", randomImage(t))
	if err != nil {
		t.Fatal(err)
	}
	pull(t, reg, ref.String())
	if blobs, err := os.ReadDir(filepath.Join(dir, "sha256")); err != nil || len(blobs) == 0 {
		t.Errorf("blobs on disk: %v, %v", blobs, err)
	}
	if err := registry.Serve(ctx, reg.Host(), "", nil); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("a second registry at the same address: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := reg.Push(t.Context(), "shop/web", randomImage(t)); err == nil {
		t.Error("the registry serves after its context ended")
	}
}

func TestPushAndImagesRefuse(t *testing.T) {
	t.Parallel()
	reg := registry.New(t)
	if _, err := reg.Push(t.Context(), "Shop/Web", randomImage(t)); err == nil || !strings.Contains(err.Error(), "Shop") {
		t.Errorf("a repository with capitals: %v", err)
	}
	if _, err := registry.GoBinaryImage("registry.go", registry.ImageOptions{}); err == nil || !strings.Contains(err.Error(), `"registry.go"`) {
		t.Errorf("a file that is no program: %v", err)
	}
	if err := registry.BuildGo(t.Context(), t.TempDir(), filepath.Join(t.TempDir(), "x")); err == nil {
		t.Error("an empty folder was built")
	}
}

func randomImage(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(1024, 1)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func digestOf(t *testing.T, img v1.Image) string {
	t.Helper()
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

func pull(t *testing.T, reg *registry.Registry, stored string) v1.Image {
	t.Helper()
	ref, err := name.ParseReference(stored)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref, reg.ClientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// filesOf returns the files of an image; links as "-> target".
func filesOf(t *testing.T, img v1.Image) map[string]string {
	t.Helper()
	content := mutate.Extract(img)
	defer func() { _ = content.Close() }()
	files := map[string]string{}
	for archive := tar.NewReader(content); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]int{0, 0}, []int{header.Uid, header.Gid}); diff != "" {
			t.Errorf("%s is not root's", header.Name)
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = string(data)
		if header.Linkname != "" {
			files[header.Name] = "-> " + header.Linkname
		}
	}
}
