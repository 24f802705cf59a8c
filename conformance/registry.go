package conformance

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/gatehouse-dev/gatehouse/image"
)

const (
	// maxSeen bounds what the registry remembers of requests.
	maxSeen = 20_000
	// maxEndless bounds what a blob or manifest without end is in the end.
	maxEndless = 1 << 30
	// maxOriginal bounds what is fetched of the good image.
	maxOriginal = 4 << 20

	manifestType  = "application/vnd.oci.image.manifest.v1+json"
	indexType     = "application/vnd.oci.image.index.v1+json"
	configType    = "application/vnd.oci.image.config.v1+json"
	layerType     = "application/vnd.oci.image.layer.v1.tar"
	cosignType    = "application/vnd.dev.cosign.simplesigning.v1+json"
	digestHeader  = "Docker-Content-Digest"
	versionHeader = "Docker-Distribution-Api-Version"
)

// RegistryOptions are how the gate finds the hostile registry.
type RegistryOptions struct {
	// Host is how references name it, HOST[:PORT], as the gate reaches it. Default
	// is the address that it listens at.
	Host string
	// Certificate makes it serve HTTPS. Without one it serves HTTP, which most
	// clients take from loopback addresses only.
	Certificate *tls.Certificate
}

// A Registry is a container registry that lies. Every case has a repository of its
// own in it, which answers as the case wants.
type Registry struct {
	host  string
	trap  string // another host, by its port, that credentials must not reach
	front *http.Server
	back  *http.Server
	// ended closes what stalls, at the end.
	ended chan struct{}
	close sync.Once

	bad artifact
	// original is what the good image is; nil if it could not be had. Runs that share a
	// registry all look for it.
	original atomic.Pointer[original]

	mu    sync.Mutex
	repos map[string]http.HandlerFunc
	seen  []seen
}

// seen is a request that the registry got.
type seen struct {
	repository    string // or "" for one outside any
	path          string
	authorization string
	trapped       bool
}

// StartRegistry runs a hostile registry at addr until Close.
func StartRegistry(addr string, o RegistryOptions) (*Registry, error) {
	r := &Registry{ended: make(chan struct{}), repos: map[string]http.HandlerFunc{}, bad: ownArtifact("bad")}
	front, err := listen(addr, o.Certificate)
	if err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(front.Addr().String()) // it listens there
	back, err := listen(net.JoinHostPort(host, "0"), o.Certificate)
	if err != nil {
		_ = front.Close()
		return nil, err
	}
	r.host, r.trap = o.Host, back.Addr().String()
	if r.host == "" {
		r.host = front.Addr().String()
	}
	if name, _, err := net.SplitHostPort(r.host); err == nil {
		_, port, _ := net.SplitHostPort(r.trap) // it listens there
		r.trap = net.JoinHostPort(name, port)
	}
	silent := log.New(io.Discard, "", 0)
	r.front = &http.Server{Handler: http.HandlerFunc(r.serveFront), ReadHeaderTimeout: 10 * time.Second, ErrorLog: silent}
	r.back = &http.Server{Handler: http.HandlerFunc(r.serveTrap), ReadHeaderTimeout: 10 * time.Second, ErrorLog: silent}
	go func() { _ = r.front.Serve(front) }() // ends with Close
	go func() { _ = r.back.Serve(back) }()
	return r, nil
}

func listen(addr string, certificate *tls.Certificate) (net.Listener, error) {
	l, err := net.Listen("tcp", addr) //nolint:noctx // binding does not block
	if err != nil {
		return nil, fmt.Errorf("starting the hostile registry: %w", err)
	}
	if certificate == nil {
		return l, nil
	}
	return tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*certificate}}), nil
}

// Host is how references name the registry.
func (r *Registry) Host() string { return r.host }

// Images returns the two images that the registry has of its own, by digest: one
// to make evidence for, as the profile's good image, and one to leave alone. Their
// digests are the same wherever the registry runs.
func (r *Registry) Images() (good, bad string) {
	return r.host + "/conformance/good@" + ownArtifact("good").digest, r.host + "/conformance/bad@" + r.bad.digest
}

// Close ends the registry.
func (r *Registry) Close() error {
	var err error
	r.close.Do(func() {
		close(r.ended)
		err = errors.Join(r.front.Close(), r.back.Close())
	})
	return err
}

// An artifact is a manifest and its blobs.
type artifact struct {
	digest, mediaType string
	manifest          []byte
	blobs             map[string][]byte
}

// ownArtifact is a small image that is the same everywhere.
func ownArtifact(what string) artifact {
	config := []byte(`{"architecture":"amd64","os":"linux","config":{"Labels":{"conformance":"` + what + `"}},"rootfs":{"type":"layers","diff_ids":["` + image.DigestOf(emptyTar()).String() + `"]}}`)
	return manifestOf(config, configType, []layer{{layerType, emptyTar(), nil}})
}

// emptyTar is an archive without files.
func emptyTar() []byte { return make([]byte, 1024) }

type layer struct {
	mediaType   string
	content     []byte
	annotations map[string]string
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Size        int               `json:"size"`
	Digest      string            `json:"digest"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func manifestOf(config []byte, configMediaType string, layers []layer) artifact {
	a := artifact{mediaType: manifestType, blobs: map[string][]byte{}}
	add := func(l layer) descriptor {
		d := descriptor{l.mediaType, len(l.content), image.DigestOf(l.content).String(), l.annotations}
		a.blobs[d.Digest] = l.content
		return d
	}
	list := make([]descriptor, 0, len(layers))
	for _, l := range layers {
		list = append(list, add(l))
	}
	a.manifest = encode(map[string]any{"schemaVersion": 2, "mediaType": manifestType, "config": add(layer{configMediaType, config, nil}), "layers": list})
	a.digest = image.DigestOf(a.manifest).String()
	return a
}

// indexOf is an index with one image in it.
func indexOf(of artifact) artifact {
	index := artifact{mediaType: indexType, manifest: encode(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": []descriptor{{of.mediaType, len(of.manifest), of.digest, nil}}})}
	index.digest = image.DigestOf(index.manifest).String()
	return index
}

func encode(v any) []byte {
	b, _ := json.Marshal(v) // maps of strings and numbers
	return b
}

// An original is the good image and what is filed beside it, where the suite finds it.
type original struct {
	artifact
	repository name.Repository // zero for the registry's own
}

func (r *Registry) hasOriginal() bool { return r.original.Load() != nil }

// findOriginal fetches the good image's manifest, to lie about.
func (r *Registry) findOriginal(ctx context.Context, good string) {
	own := ownArtifact("good")
	if strings.HasSuffix(good, "@"+own.digest) {
		r.original.Store(&original{artifact: own})
		return
	}
	ref, err := name.NewDigest(good)
	if err != nil {
		return
	}
	got, err := remote.Get(ref, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil || len(got.Manifest) > maxOriginal {
		return
	}
	r.original.Store(&original{artifact{digest: ref.DigestStr(), mediaType: string(got.MediaType), manifest: got.Manifest}, ref.Context()})
}

// manifest returns what the good image's repository has under a tag or digest.
func (o *original) fetch(ctx context.Context, reference string) (artifact, bool) {
	if reference == o.digest {
		return o.artifact, true
	}
	if o.repository == (name.Repository{}) {
		return artifact{}, false
	}
	var ref name.Reference = o.repository.Tag(reference)
	if strings.Contains(reference, ":") {
		ref = o.repository.Digest(reference)
	}
	got, err := remote.Get(ref, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil || len(got.Manifest) > maxOriginal {
		return artifact{}, false
	}
	return artifact{digest: got.Digest.String(), mediaType: string(got.MediaType), manifest: got.Manifest}, true
}

// blob returns a blob of the good image's repository.
func (o *original) blob(ctx context.Context, digest string) ([]byte, bool) {
	if b, ok := o.blobs[digest]; ok {
		return b, true
	}
	if o.repository == (name.Repository{}) {
		return nil, false
	}
	l, err := remote.Layer(o.repository.Digest(digest), remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return nil, false
	}
	content, err := l.Compressed()
	if err != nil {
		return nil, false
	}
	defer func() { _ = content.Close() }()
	b, err := io.ReadAll(io.LimitReader(content, maxOriginal))
	return b, err == nil
}

// referrers returns what refers to a digest in the good image's repository.
func (o *original) referrers(ctx context.Context, digest string) ([]byte, bool) {
	if o.repository == (name.Repository{}) {
		return nil, false
	}
	index, err := remote.Referrers(o.repository.Digest(digest), remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return nil, false
	}
	b, err := index.RawManifest()
	return b, err == nil
}

// serve gives a repository its behaviour, and returns HOST/REPOSITORY.
func (r *Registry) serve(repository string, h http.HandlerFunc) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	repository = "conformance/" + repository
	r.repos[repository] = h
	return r.host + "/" + repository
}

// requests returns what was asked of a repository and, with "", outside any.
func (r *Registry) requests(repository string) []seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []seen
	for _, s := range r.seen {
		if s.repository == "" || s.repository == "conformance/"+repository {
			list = append(list, s)
		}
	}
	return list
}

func (r *Registry) remember(s seen) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.seen) < maxSeen {
		r.seen = append(r.seen, s)
	}
}

func (r *Registry) serveFront(w http.ResponseWriter, req *http.Request) {
	w.Header().Set(versionHeader, "registry/2.0")
	r.mu.Lock()
	repository, handler := "", http.HandlerFunc(nil)
	for name, h := range r.repos {
		if strings.HasPrefix(req.URL.Path, "/v2/"+name+"/") {
			repository, handler = name, h
		}
	}
	r.mu.Unlock()
	r.remember(seen{repository: repository, path: req.URL.Path, authorization: req.Header.Get("Authorization")})
	switch {
	case req.URL.Path == "/v2/":
		w.WriteHeader(http.StatusOK)
	case handler != nil:
		handler(w, withRegistry(req, r, strings.TrimPrefix(req.URL.Path, "/v2/"+repository+"/")))
	case strings.HasPrefix(req.URL.Path, "/v2/conformance/good/"):
		own(ownArtifact("good"))(w, withRegistry(req, r, strings.TrimPrefix(req.URL.Path, "/v2/conformance/good/")))
	case strings.HasPrefix(req.URL.Path, "/v2/conformance/bad/"):
		own(r.bad)(w, withRegistry(req, r, strings.TrimPrefix(req.URL.Path, "/v2/conformance/bad/")))
	default:
		notFound(w)
	}
}

func (r *Registry) serveTrap(w http.ResponseWriter, req *http.Request) {
	r.remember(seen{path: req.URL.Path, authorization: req.Header.Get("Authorization"), trapped: true})
	notFound(w)
}

func notFound(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	_, _ = io.WriteString(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"not here"}]}`)
}

// What a handler of a repository knows of a request.
type inRegistry struct {
	registry *Registry
	// what is "manifests", "blobs" or "referrers", and name the tag or digest.
	what, name string
}

type inRegistryKey struct{}

func withRegistry(req *http.Request, r *Registry, rest string) *http.Request {
	what, name, _ := strings.Cut(rest, "/")
	return req.WithContext(context.WithValue(req.Context(), inRegistryKey{}, inRegistry{r, what, name}))
}

func asked(req *http.Request) inRegistry {
	in, _ := req.Context().Value(inRegistryKey{}).(inRegistry)
	return in
}

// send answers with a manifest or blob, under the digest that it is said to have.
func send(w http.ResponseWriter, mediaType, digest string, content []byte) {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set(digestHeader, digest)
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	_, _ = w.Write(content) // net/http leaves out the body of an answer to HEAD
}

// own serves one artifact under its digest and any tag but those of signatures.
func own(a artifact) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		in := asked(req)
		blob, isBlob := a.blobs[in.name]
		switch {
		case in.what == "manifests" && (in.name == a.digest || !strings.Contains(in.name, "sha256")):
			send(w, a.mediaType, a.digest, a.manifest)
		case in.what == "blobs" && isBlob:
			send(w, "application/octet-stream", in.name, blob)
		case in.what == "referrers":
			send(w, indexType, "", encode(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": []descriptor{}}))
		default:
			notFound(w)
		}
	}
}

// plain serves the registry's own bad image, without evidence.
func plain() http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) { own(asked(req).registry.bad)(w, req) }
}

// mirror serves the good image with all that is filed beside it, and the bad one.
func mirror(w http.ResponseWriter, req *http.Request) {
	in := asked(req)
	o := in.registry.original.Load()
	if o == nil {
		plain()(w, req)
		return
	}
	switch in.what {
	case "manifests":
		if a, ok := o.fetch(req.Context(), in.name); ok {
			send(w, a.mediaType, a.digest, a.manifest)
			return
		}
	case "blobs":
		if b, ok := o.blob(req.Context(), in.name); ok {
			send(w, "application/octet-stream", in.name, b)
			return
		}
	case "referrers":
		if b, ok := o.referrers(req.Context(), in.name); ok {
			send(w, indexType, "", b)
			return
		}
	}
	plain()(w, req)
}

// stall answers nothing until the client or the registry goes away.
func stall(w http.ResponseWriter, req *http.Request) {
	select {
	case <-req.Context().Done():
	case <-asked(req).registry.ended:
	}
	w.WriteHeader(http.StatusServiceUnavailable)
}
