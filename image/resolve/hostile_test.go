package resolve_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
)

// library serves documents by their digests, each with a type of its own.
type library struct {
	host  string
	docs  map[string]string
	types map[string]string
}

func newLibrary(t *testing.T) *library {
	t.Helper()
	l := &library{docs: map[string]string{}, types: map[string]string{}}
	l.host = serve(t, hook(func(w http.ResponseWriter, r *http.Request) bool {
		id := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		doc, ok := l.docs[id]
		if ok {
			w.Header().Set("Content-Type", l.types[id])
			_, _ = io.WriteString(w, doc)
		}
		return ok
	}))
	return l
}

func (l *library) add(doc string, mediaType types.MediaType) image.Digest {
	d := image.DigestOf([]byte(doc))
	l.docs[d.String()], l.types[d.String()] = doc, string(mediaType)
	return d
}

// image adds an image, with a platform and user of its configuration.
func (l *library) image(os, arch, user string, mediaType types.MediaType) (image.Digest, int) {
	config := fmt.Sprintf(`{"os":%q,"architecture":%q,"config":{"User":%q}}`, os, arch, user)
	manifest := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":%q,"size":%d,"digest":%q},"layers":[]}`,
		types.DockerConfigJSON, len(config), l.add(config, types.DockerConfigJSON))
	return l.add(manifest, mediaType), len(manifest)
}

func entryOf(d image.Digest, size int, rest string) string {
	return fmt.Sprintf(`{"size":%d,"digest":%q%s}`, size, d, rest)
}

func (l *library) read(t *testing.T, entries []string, wanted ...resolve.Platform) ([]resolve.Config, error) {
	t.Helper()
	d := l.add(`{"schemaVersion":2,"manifests":[`+strings.Join(entries, ",")+`]}`, types.OCIImageIndex)
	return newResolver().Configs(t.Context(), mustParse(t, l.host+"/a@"+d.String()), wanted...)
}

// Runtimes choose among the entries of an index by platform: nothing else that
// an index says may keep an entry from being looked at.
func TestNoEntryOfAnIndexIsHidden(t *testing.T) {
	t.Parallel()
	const record = `,"annotations":{"vnd.docker.reference.type":"attestation-manifest"}`
	linux := resolve.Platform{OS: "linux", Architecture: "amd64"}
	for about, row := range map[string]struct {
		rest     string // of the entry of an image that runs as root
		os, arch string // of its configuration
		want     []string
		wanted   []resolve.Platform
	}{
		"of an odd type":         {`,"mediaType":"application/x-odd","platform":{"os":"linux","architecture":"amd64"}`, "linux", "amd64", []string{"1000", "root"}, nil},
		"of no type":             {`,"platform":{"os":"linux","architecture":"amd64"}`, "linux", "amd64", []string{"1000", "root"}, nil},
		"of a type in capitals":  {`,"mediaType":"Application/Vnd.OCI.Image.Manifest.V1+JSON","platform":{"os":"linux","architecture":"amd64"}`, "linux", "amd64", []string{"1000", "root"}, nil},
		"of an odd type, wanted": {`,"mediaType":"application/x-odd","platform":{"os":"linux","architecture":"amd64"}`, "linux", "amd64", []string{"1000", "root"}, []resolve.Platform{linux}},
		"without platform":       {``, "linux", "amd64", []string{"1000", "root"}, nil},
		"without platform, and its configuration is for the one wanted": {``, "linux", "amd64", []string{"1000", "root"}, []resolve.Platform{linux}},
		"without platform, and its configuration is for another":        {``, "linux", "s390x", []string{"1000"}, []resolve.Platform{linux}},
		"without any platform":                                            {``, "", "", []string{"1000", "root"}, []resolve.Platform{linux}},
		"that calls itself a build record, and is an image":               {record, "linux", "amd64", []string{"1000", "root"}, nil},
		"that is a build record":                                          {record, "unknown", "unknown", []string{"1000"}, nil},
		"that is a build record for no platform":                          {record + `,"platform":{"os":"unknown","architecture":"unknown"}`, "linux", "amd64", []string{"1000"}, nil},
		"for the platform in another spelling":                            {`,"platform":{"os":"Linux","architecture":"x86_64"}`, "linux", "amd64", []string{"1000", "root"}, []resolve.Platform{linux}},
		"for a platform that leaves out the OS":                           {`,"platform":{"architecture":"amd64"}`, "linux", "amd64", []string{"1000", "root"}, []resolve.Platform{linux}},
		"for another platform than the wanted":                            {`,"platform":{"os":"linux","architecture":"arm64"}`, "linux", "amd64", []string{"1000"}, []resolve.Platform{linux}},
		"an image whose entry is called an index, without being believed": {`,"mediaType":"application/vnd.oci.image.index.v1+json","platform":{"os":"linux","architecture":"amd64"}`, "linux", "amd64", []string{"1000", "root"}, nil},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			l := newLibrary(t)
			good, n := l.image("linux", "amd64", "1000", types.OCIManifestSchema1)
			root, m := l.image(row.os, row.arch, "root", types.OCIManifestSchema1)
			configs, err := l.read(t, []string{
				entryOf(good, n, `,"mediaType":"`+string(types.OCIManifestSchema1)+`","platform":{"os":"linux","architecture":"amd64"}`),
				entryOf(root, m, row.rest),
			}, row.wanted...)
			if err != nil {
				t.Fatal(err)
			}
			var users []string
			for _, c := range configs {
				users = append(users, c.User)
			}
			if diff := cmp.Diff(row.want, users); diff != "" {
				t.Errorf("users (-want +got):\n%s", diff)
			}
		})
	}
	for about, served := range map[string]types.MediaType{
		"of no known type":                   "application/x-odd",
		"that the registry calls an index":   types.OCIImageIndex,
		"that the registry calls old Docker": types.DockerManifestSchema1,
	} {
		t.Run("an image "+about+" is refused", func(t *testing.T) {
			t.Parallel()
			l := newLibrary(t)
			good, n := l.image("linux", "amd64", "1000", types.OCIManifestSchema1)
			root, m := l.image("linux", "amd64", "root", served)
			got, err := l.read(t, []string{
				entryOf(good, n, `,"platform":{"os":"linux","architecture":"amd64"}`),
				entryOf(root, m, `,"platform":{"os":"linux","architecture":"amd64"}`),
			})
			if !errors.Is(err, resolve.ErrNotAnImage) || !strings.Contains(err.Error(), root.String()) {
				t.Fatalf("Configs = %+v, %v; want an error that names %s", got, err, root)
			}
		})
	}
}

// A registry that never comes to an end is given up on.
func TestEndlessRegistry(t *testing.T) {
	t.Parallel()
	for about, answer := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"manifests redirect to themselves": func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
			return true
		},
		"configurations redirect to themselves": func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/blobs/") {
				return false
			}
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
			return true
		},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			var on atomic.Bool
			var requests atomic.Int64
			host := serve(t, hook(func(w http.ResponseWriter, r *http.Request) bool {
				if !on.Load() {
					return false
				}
				// Without a limit of ours this ends the test.
				if requests.Add(1) > 2000 {
					w.WriteHeader(http.StatusTeapot)
					return true
				}
				return answer(w, r)
			}))
			ref := push(t, host+"/a:v1", imageOf(t, "linux/amd64", "1000"))
			on.Store(true)
			_, err := newResolver().Configs(t.Context(), ref)
			if !errors.Is(err, resolve.ErrEndless) || !strings.Contains(err.Error(), "redirects without end") {
				t.Errorf("Configs: %v", err)
			}
			if !strings.Contains(about, "configurations") {
				if _, err = newResolver().Digest(t.Context(), mustParse(t, host+"/a:v1")); !errors.Is(err, resolve.ErrEndless) {
					t.Errorf("Digest: %v", err)
				}
			}
			if n := requests.Load(); n > 100 {
				t.Errorf("%d requests were made", n)
			}
		})
	}
}
