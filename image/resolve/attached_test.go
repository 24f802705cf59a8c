package resolve_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	layerof "github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
)

// artifactOf returns an artifact with one layer, about the subject if there is one.
func artifactOf(t *testing.T, mediaType, content string, subject *v1.Descriptor) v1.Image {
	t.Helper()
	img, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mutate.Addendum{
		Layer: layerof.NewLayer([]byte(content), types.MediaType(mediaType)), Annotations: map[string]string{"predicateType": "x"},
	})
	if err != nil {
		t.Fatal(err)
	}
	img = mutate.ConfigMediaType(img, types.MediaType(mediaType))
	if subject == nil {
		return img
	}
	of, ok := mutate.Subject(img, *subject).(v1.Image)
	if !ok {
		t.Fatal("no image")
	}
	return of
}

func descriptorOf(t *testing.T, ref image.Reference, mediaType types.MediaType) *v1.Descriptor {
	t.Helper()
	h, err := v1.NewHash(ref.Digest().String())
	if err != nil {
		t.Fatal(err)
	}
	return &v1.Descriptor{MediaType: mediaType, Digest: h}
}

func write(t *testing.T, ref string, img v1.Image) {
	t.Helper()
	to, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(to, img); err != nil {
		t.Fatal(err)
	}
}

func digestString(t *testing.T, img v1.Image) string {
	t.Helper()
	h, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

func TestAttached(t *testing.T) {
	t.Parallel()
	for about, wrap := range map[string]func(http.Handler) http.Handler{
		"with the referrers API": func(http.Handler) http.Handler {
			return registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
		},
		"with the tag in its place": nil,
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			host := serve(t, wrap)
			ref := push(t, host+"/app:v1", imageOf(t, "linux/amd64", "1000"))
			const mediaType = "application/spdx+json"
			referrer := artifactOf(t, mediaType, `{"a":1}`, descriptorOf(t, ref, types.OCIManifestSchema1))
			cosign := artifactOf(t, "application/vnd.dsse.envelope.v1+json", `{"b":1}`, nil)
			foreign := artifactOf(t, mediaType, `{"c":1}`, descriptorOf(t, push(t, host+"/app:v2", imageOf(t, "linux/amd64", "1")), types.OCIManifestSchema1))
			write(t, host+"/app@"+digestString(t, referrer), referrer)
			write(t, host+"/app@"+digestString(t, foreign), foreign)
			write(t, host+"/app:"+strings.Replace(ref.Digest().String(), ":", "-", 1)+".att", cosign)
			r := newResolver()
			got, err := r.Attached(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			want := []resolve.Artifact{
				{Type: "application/vnd.dsse.envelope.v1+json", Subject: ref.Digest(), Layers: []resolve.Blob{{
					Digest: image.DigestOf([]byte(`{"b":1}`)), MediaType: "application/vnd.dsse.envelope.v1+json", Annotations: map[string]string{"predicateType": "x"}, Size: 7,
				}}},
				{Type: mediaType, Subject: ref.Digest(), Layers: []resolve.Blob{{
					Digest: image.DigestOf([]byte(`{"a":1}`)), MediaType: mediaType, Annotations: map[string]string{"predicateType": "x"}, Size: 7,
				}}},
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(resolve.Artifact{}, "Manifest"), cmp.AllowUnexported(image.Digest{})); diff != "" {
				t.Errorf("artifacts (-want +got):\n%s", diff)
			}
			content, err := r.Blob(t.Context(), ref, got[1].Layers[0].Digest, 7)
			if err != nil || string(content) != `{"a":1}` {
				t.Errorf("blob %q, %v", content, err)
			}
			if _, err := r.Blob(t.Context(), ref, got[1].Layers[0].Digest, 6); !errors.Is(err, resolve.ErrTooLarge) {
				t.Errorf("a blob that is too long: %v", err)
			}
			if _, err := r.Blob(t.Context(), ref, image.DigestOf([]byte("x")), 6); !errors.Is(err, resolve.ErrNotFound) {
				t.Errorf("a blob that is not there: %v", err)
			}
		})
	}
}

// TestAnArtifactIsAboutWhatItSays and not what a registry lists it for.
func TestAnArtifactIsAboutWhatItSays(t *testing.T) {
	t.Parallel()
	var listed string
	host := serve(t, hook(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			return false
		}
		w.Header().Set("Content-Type", string(types.OCIImageIndex))
		_, _ = w.Write([]byte(listed))
		return true
	}))
	ref := push(t, host+"/app:v1", imageOf(t, "linux/amd64", "1000"))
	other := push(t, host+"/app:v2", imageOf(t, "linux/amd64", "1"))
	foreign := artifactOf(t, "application/spdx+json", "{}", descriptorOf(t, other, types.OCIManifestSchema1))
	silent := artifactOf(t, "application/spdx+json", "[]", nil)
	for _, img := range []v1.Image{foreign, silent} {
		write(t, host+"/app@"+digestString(t, img), img)
	}
	entry := `{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"`
	listed = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[` +
		entry + digestString(t, foreign) + `"},` + entry + digestString(t, silent) + `"},` + entry + `sha256:` + strings.Repeat("f", 64) + `"}]}`
	if got, err := newResolver().Attached(t.Context(), ref); err != nil || len(got) != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := newResolver().Attached(t.Context(), other); err != nil || len(got) != 1 {
		t.Errorf("of the other: %+v, %v", got, err)
	}
}

func TestNothingIsAttached(t *testing.T) {
	t.Parallel()
	host := serve(t, nil)
	ref := push(t, host+"/app:v1", imageOf(t, "linux/amd64", "1000"))
	if got, err := newResolver().Attached(t.Context(), ref); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := newResolver().Attached(t.Context(), mustParse(t, host+"/app:v1")); !errors.Is(err, image.ErrNoDigest) {
		t.Errorf("without digest: %v", err)
	}
	if _, err := newResolver().Attached(t.Context(), mustParse(t, host+"/gone@"+ref.Digest().String())); !errors.Is(err, resolve.ErrNotFound) {
		t.Errorf("an image that is not there: %v", err)
	}
}

func TestRecordsOfBuildKit(t *testing.T) {
	t.Parallel()
	host := serve(t, nil)
	img := imageOf(t, "linux/amd64", "1000")
	record := artifactOf(t, "application/vnd.in-toto+json", `{"d":1}`, nil)
	stray := artifactOf(t, "application/vnd.in-toto+json", `{"e":1}`, nil)
	marked := func(subject string) v1.Descriptor {
		return v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}, Annotations: map[string]string{
			"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": subject,
		}}
	}
	idx := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: record, Descriptor: marked(digestString(t, img))},
		mutate.IndexAddendum{Add: stray, Descriptor: marked("sha256:" + strings.Repeat("f", 64))})
	ref := push(t, host+"/app:v1", idx)
	got, err := newResolver().Attached(t.Context(), ref)
	if err != nil || len(got) != 1 || got[0].Manifest.String() != digestString(t, record) || got[0].Subject.String() != digestString(t, img) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAttachedIsBoundedAndVerified(t *testing.T) {
	t.Parallel()
	t.Run("B15: what does not have its digest is refused", func(t *testing.T) {
		t.Parallel()
		var lie string
		host := serve(t, hook(func(w http.ResponseWriter, r *http.Request) bool {
			if lie == "" || !strings.HasSuffix(r.URL.Path, "/blobs/"+lie) {
				return false
			}
			_, _ = w.Write([]byte(`{"a":2}`))
			return true
		}))
		ref := push(t, host+"/app:v1", imageOf(t, "linux/amd64", "1000"))
		lie = image.DigestOf([]byte(`{"a":1}`)).String()
		if _, err := newResolver().Blob(t.Context(), ref, image.DigestOf([]byte(`{"a":1}`)), 100); !errors.Is(err, resolve.ErrMismatch) {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("a registry that does not answer ends with the request", func(t *testing.T) {
		t.Parallel()
		host := serve(t, hook(func(_ http.ResponseWriter, r *http.Request) bool {
			<-r.Context().Done()
			return true
		}))
		ref := mustParse(t, host+"/app@sha256:"+strings.Repeat("f", 64))
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := newResolver().Attached(ctx, ref); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "registry "+host+" did not answer in time") {
			t.Errorf("attached: %v", err)
		}
		if _, err := newResolver().Blob(ctx, ref, ref.Digest(), 10); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("blob: %v", err)
		}
	})
}

func TestConfigsTellWhatTheImageIs(t *testing.T) {
	t.Parallel()
	host := serve(t, nil)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: "linux", Architecture: "amd64", Created: v1.Time{Time: at},
		Config: v1.Config{User: "1", Env: []string{"A=b"}, Entrypoint: []string{"/app"}, Cmd: []string{"serve"}, WorkingDir: "/w", ExposedPorts: map[string]struct{}{"8080/tcp": {}, "53/udp": {}}},
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	layer := layerof.NewLayer([]byte("layer"), types.OCILayer)
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		t.Fatal(err)
	}
	annotated, ok := mutate.Annotations(img, map[string]string{"k": "v"}).(v1.Image)
	if !ok {
		t.Fatal("no image")
	}
	got, err := newResolver().Configs(t.Context(), push(t, host+"/app:v1", annotated))
	if err != nil {
		t.Fatal(err)
	}
	diffID, err := layer.DiffID()
	if err != nil {
		t.Fatal(err)
	}
	want := resolve.Config{
		Platform: resolve.Platform{OS: "linux", Architecture: "amd64"}, User: "1", Env: []string{"A=b"}, Entrypoint: []string{"/app"}, Cmd: []string{"serve"}, WorkingDir: "/w",
		Ports: []string{"53/udp", "8080/tcp"}, Created: at, Layers: []string{diffID.String()}, Annotations: map[string]string{"k": "v"},
	}
	if diff := cmp.Diff(want, got[0], cmpopts.IgnoreFields(resolve.Config{}, "Manifest")); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}
