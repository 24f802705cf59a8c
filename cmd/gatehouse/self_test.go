package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/gatehouse-dev/gatehouse/gatetest/registry"
	"github.com/gatehouse-dev/gatehouse/gatetest/review"
)

// TestGatehouseGatesItself builds our image as make image does, has our attestor check and
// sign it, and asks our gate about a pod of it.
func TestGatehouseGatesItself(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds an image for two platforms")
	}
	t.Parallel()
	reg := registry.New(t)
	pushBase(t, reg.Host()+"/base:nonroot")
	repository := reg.Host() + "/gatehouse"
	ref := buildImage(t, repository, reg.Host()+"/base:nonroot")
	if again := buildImage(t, repository, reg.Host()+"/base:nonroot"); again != ref {
		t.Errorf("built twice: %s and %s", ref, again)
	}

	index, err := remote.Index(insecureReference(t, ref))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, m := range manifest.Manifests {
		platforms = append(platforms, m.Platform.String())
		img, err := index.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.Config.User != "65532" || strings.Join(config.Config.Entrypoint, " ") != "/ko-app/gatehouse" {
			t.Errorf("%s runs %q as %q", m.Platform, config.Config.Entrypoint, config.Config.User)
		}
		sbom := strings.Replace(m.Digest.String(), ":", "-", 1) + ".sbom"
		if _, err := remote.Head(insecureReference(t, repository+":"+sbom)); err != nil {
			t.Errorf("%s has no bill of materials: %v", m.Platform, err)
		}
	}
	if got := strings.Join(platforms, " "); got != "linux/amd64 linux/arm64" {
		t.Errorf("for %s", got)
	}

	data := t.TempDir()
	policy := filepath.Join(data, "policy.yaml")
	if err := os.WriteFile(policy, []byte("defaultAdmissionRule: {evaluationMode: REQUIRE_ATTESTATION, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG, requireAttestationsBy: [projects/default/attestors/nobody]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startServe(t, "--data", filepath.Join(data, "server"), "--policy", policy)
	gate := &gateProcess{p, t, trusting(t, p.CA)}
	pod := func() answer {
		return gate.judge(review.Pod("gatehouse", "gatehouse").Image("gatehouse", ref).Review())
	}
	if a := pod(); a.Allowed || !strings.Contains(a.Status.Message, "nobody") {
		t.Errorf("not attested: %+v", a)
	}
	var out strings.Builder
	if code := run(t.Context(), []string{"check", "--server", "http://" + p.Attestor, "--check", "nobody", ref}, nil, &out, &out); code != exitYes {
		t.Fatalf("check: %d\n%s", code, out.String())
	}
	if a := pod(); !a.Allowed {
		t.Errorf("attested: %+v", a)
	}
}

// pushBase pushes an image like the one that ours is based on: a user, and nothing else.
func pushBase(t *testing.T, ref string) {
	t.Helper()
	var images []v1.Image
	for _, arch := range []string{"amd64", "arm64"} {
		img, err := registry.Image(registry.ImageOptions{User: "65532", OS: "linux", Arch: arch})
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, img)
	}
	index, err := registry.Index(images...)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(insecureReference(t, ref), index); err != nil {
		t.Fatal(err)
	}
}

func insecureReference(t *testing.T, ref string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// buildImage builds and pushes our image on a base, and returns its name.
func buildImage(t *testing.T, repository, base string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "make", "--no-print-directory", "-s", "-C", "../..", "image", "IMAGE="+repository, "TAG=test")
	cmd.Env = append(os.Environ(), "KO_DEFAULTBASEIMAGE="+base)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("make image: %v\n%s", err, stderr.String())
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}
