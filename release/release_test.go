package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/signature"
)

// clone returns a checkout of the last commit.
func clone(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "checkout")
	command(t, ".", "git", "clone", "--quiet", "--shared", "..", dir)
	return dir
}

func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestTwoCheckoutsGiveTheSameRelease builds for this platform, twice and in two places.
func TestTwoCheckoutsGiveTheSameRelease(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds both programs twice")
	}
	if _, err := os.Stat("../.git"); errors.Is(err, os.ErrNotExist) {
		t.Skip("this is no checkout")
	}
	t.Parallel()
	key := filepath.Join(t.TempDir(), "key.pem")
	pem, err := signature.GeneratePKIX(algorithm, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	var sums [2]string
	var out string
	for i := range sums {
		source := clone(t)
		command(t, source, "sed", "-i", "s/^version: .*/version: 1.2.3/; s/^appVersion: .*/appVersion: 1.2.3/", chartFolder+"/Chart.yaml")
		at := []string{"-c", "user.name=t", "-c", "user.email=t@example.com"}
		commit := exec.CommandContext(t.Context(), "git", append(at, "commit", "--quiet", "--all", "-m", "1.2.3")...)
		commit.Dir, commit.Env = source, append(os.Environ(), "GIT_COMMITTER_DATE=@1764547200 +0000", "GIT_AUTHOR_DATE=@1764547200 +0000")
		if text, err := commit.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		command(t, source, "git", append(at, "tag", "-a", "v1.2.3", "-m", "v1.2.3")...)
		out = filepath.Join(t.TempDir(), "dist")
		var said bytes.Buffer
		if err := run(t.Context(), []string{
			"--source", source, "--out", out, "--key", key, "--platforms", runtime.GOOS + "/" + runtime.GOARCH, "--url", "https://example.com/dl",
		}, &said, &said); err != nil {
			t.Fatalf("%v\n%s", err, said.String())
		}
		text, err := os.ReadFile(filepath.Join(out, checksumsFile))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = string(text)
	}
	if diff := cmp.Diff(sums[0], sums[1]); diff != "" {
		t.Errorf("the two releases differ:\n%s", diff)
	}

	host := runtime.GOOS + "_" + runtime.GOARCH
	var names []string
	for line := range strings.Lines(sums[0]) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		names = append(names, name)
		content, err := os.ReadFile(filepath.Join(out, name))
		if got := sha256.Sum256(content); err != nil || hex.EncodeToString(got[:]) != sum {
			t.Errorf("%s: %v, its checksum is another", name, err)
		}
	}
	want := []string{
		"gatehouse-chart-1.2.3.tgz",
		"gatehouse_v1.2.3_" + host + ".tar.gz", "gatehouse_v1.2.3_" + host + ".tar.gz.cdx.json",
		"kubectl-resolve_tags_v1.2.3_" + host + ".tar.gz", "kubectl-resolve_tags_v1.2.3_" + host + ".tar.gz.cdx.json",
		"resolve-tags.yaml",
	}
	if diff := cmp.Diff(names, want); diff != "" {
		t.Error(diff)
	}
	t.Run("the binary says its version", func(t *testing.T) { saysVersion(t, filepath.Join(out, want[1])) })
	t.Run("openssl verifies the signature", func(t *testing.T) { opensslVerifies(t, out) })
	t.Run("the bill of materials names what is linked", func(t *testing.T) { namesModules(t, filepath.Join(out, want[2])) })
	t.Run("Krew's manifest", func(t *testing.T) { krewManifest(t, filepath.Join(out, "resolve-tags.yaml"), want[3], sums[0]) })
}

func saysVersion(t *testing.T, archive string) {
	dir := t.TempDir()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	plain, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(plain); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if err := os.WriteFile(filepath.Join(dir, h.Name), content, os.FileMode(h.Mode)); err != nil { //nolint:gosec // our own archive
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(names, []string{"LICENSE", "README.md", "gatehouse"}); diff != "" {
		t.Error(diff)
	}
	if said := command(t, dir, filepath.Join(dir, "gatehouse"), "--version"); said != "gatehouse v1.2.3\n" {
		t.Errorf("it says %q", said)
	}
}

func opensslVerifies(t *testing.T, out string) {
	sig := command(t, out, "openssl", "base64", "-d", "-A", "-in", signatureFile)
	if err := os.WriteFile(filepath.Join(out, "sig.bin"), []byte(sig), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := command(t, out, "openssl", "dgst", "-sha256", "-verify", publicKeyFile, "-signature", "sig.bin", checksumsFile); !strings.Contains(said, "Verified OK") {
		t.Errorf("openssl says %q", said)
	}
}

func namesModules(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var bom struct {
		BomFormat string
		Metadata  struct {
			Component struct{ Name, Version string }
		}
		Components []struct{ Name string }
	}
	if err := json.Unmarshal(text, &bom); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range bom.Components {
		names = append(names, c.Name)
	}
	if bom.BomFormat != "CycloneDX" || bom.Metadata.Component.Version != "v1.2.3" || !slices.Contains(names, "modernc.org/sqlite") {
		t.Errorf("%s %+v, %d components", bom.BomFormat, bom.Metadata, len(names))
	}
}

func krewManifest(t *testing.T, file, archive, sums string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var m krewPlugin
	if err := yaml.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Spec.Platforms) != 1 {
		t.Fatalf("%+v", m)
	}
	p := m.Spec.Platforms[0]
	if m.Metadata.Name != "resolve-tags" || m.Spec.Version != "v1.2.3" || p.URI != "https://example.com/dl/v1.2.3/"+archive || p.Bin != "kubectl-resolve_tags" ||
		!strings.Contains(sums, p.SHA256+"  "+archive+"\n") || p.Selector.MatchLabels["os"] != runtime.GOOS {
		t.Errorf("%+v", m)
	}
}

func TestWhatIsNotReleased(t *testing.T) {
	t.Parallel()
	source := t.TempDir()
	old := filepath.Join(source, filepath.FromSlash(chartFolder))
	if err := os.MkdirAll(old, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(old, "Chart.yaml"), []byte("version: 0.9.0\nappVersion: 0.9.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"init", "--quiet"}, {"-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "--quiet", "--allow-empty", "-m", "x"},
	} {
		command(t, source, "git", args...)
	}
	out := filepath.Join(t.TempDir(), "dist")
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"a commit without a tag":  {[]string{"--unsigned"}, "no tag"},
		"neither key nor without": {nil, "--unsigned"},
		"a key and without":       {[]string{"--unsigned", "--key", "x"}, "--unsigned"},
		"a key that is not there": {[]string{"--snapshot", "--key", source + "/key.pem"}, "reading the key"},
		"no platform":             {[]string{"--unsigned", "--platforms", "linux"}, "OS/ARCH"},
		"into what is there":      {[]string{"--unsigned", "--snapshot", "--out", source}, "exists"},
	} {
		var said bytes.Buffer
		err := run(t.Context(), append([]string{"--source", source, "--out", out}, tc.args...), &said, &said)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	command(t, source, "git", "tag", "v1.0.0")
	var said bytes.Buffer
	if err := run(t.Context(), []string{"--source", source, "--out", out, "--unsigned"}, &said, &said); err == nil || !strings.Contains(err.Error(), `appVersion "0.9.0": set both to "1.0.0"`) {
		t.Errorf("a chart of another version: %v", err)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("it left something")
	}
}

func TestWindowsGetsAZip(t *testing.T) {
	t.Parallel()
	r := &release{time: time.Unix(1764547200, 0).UTC()}
	content, err := r.zip([]entry{{"LICENSE", []byte("free"), 0o644}, {"gatehouse.exe", bytes.Repeat([]byte("x"), 1<<20), 0o755}})
	if err != nil {
		t.Fatal(err)
	}
	archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range archive.File {
		got = append(got, fmt.Sprint(f.Name, " ", f.UncompressedSize64, " ", f.Mode(), " ", f.Modified.Unix()))
	}
	if diff := cmp.Diff(got, []string{"LICENSE 4 -rw-r--r-- 1764547200", "gatehouse.exe 1048576 -rwxr-xr-x 1764547200"}); diff != "" {
		t.Error(diff)
	}
}
