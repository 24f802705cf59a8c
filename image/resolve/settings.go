package resolve

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
)

const (
	maxPEM = 1 << 20
	// maxCertFiles bounds the files of a folder of certificates.
	maxCertFiles = 64
	// maxMirrors bounds the mirrors that may be asked for one image.
	maxMirrors = 8
)

// Settings say how registries are reached, as a configuration file has them. The zero
// Settings are those of [New].
type Settings struct {
	// CAFile has certificates (PEM) that are trusted for every registry, beside those
	// of the system.
	CAFile string `yaml:"caFile"`
	// CertsDir has a folder for each registry, called HOST or HOST:PORT, as
	// /etc/docker/certs.d: certificates to trust for it in NAME.crt, and a client
	// certificate in NAME.cert with its key in NAME.key.
	CertsDir string `yaml:"certsDir"`
	// Mirrors have copies of images. The first that has what is asked for answers; if
	// none has, the registry does.
	Mirrors []Mirror `yaml:"mirrors"`
	// TokenServices are the hosts, HOST or HOST:PORT, that may be sent the credentials
	// of a registry in another domain than theirs, by the registry's HOST or HOST:PORT.
	TokenServices map[string]string `yaml:"tokenServices"`
}

// A Mirror has copies of the images of a registry, or of repositories of it.
type Mirror struct {
	// Of is HOST[:PORT], or HOST[:PORT]/PATH of the repositories under it.
	Of string `yaml:"of"`
	// At is HOST[:PORT], or HOST[:PORT]/PATH that stands for Of.
	At string `yaml:"at"`
	// Tags has the mirror asked for tags too, and so believed: content that is asked for
	// by digest is verified, and a tag cannot be.
	Tags bool `yaml:"tags"`
}

// Options returns what makes a [Resolver] follow the settings. It reads the files, but
// those in CertsDir, which are read when their registry is first asked.
func (s Settings) Options() ([]Option, error) {
	var options []Option
	base, ok := remote.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("the default transport is another than expected")
	}
	roots, err := s.roots()
	if err != nil {
		return nil, err
	}
	if roots != nil || s.CertsDir != "" {
		t := &certTransport{dir: s.CertsDir, base: base, roots: roots, own: map[string]http.RoundTripper{}}
		if t.others, err = t.transport("", nil); err != nil {
			return nil, err
		}
		options = append(options, WithTransport(t))
	}
	if len(s.Mirrors) > 0 {
		mirrors, err := parseMirrors(s.Mirrors)
		if err != nil {
			return nil, err
		}
		options = append(options, func(r *Resolver) { r.mirrors = mirrors })
	}
	if len(s.TokenServices) > 0 {
		options = append(options, WithTokenServices(s.TokenServices))
	}
	return options, nil
}

// roots returns the certificates of the system and of CAFile, or nil without CAFile.
func (s Settings) roots() (*x509.CertPool, error) {
	if s.CAFile == "" {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("reading the certificates of the system: %w", err)
	}
	if err := appendPEM(pool, s.CAFile); err != nil {
		return nil, err
	}
	return pool, nil
}

func appendPEM(pool *x509.CertPool, file string) error {
	text, err := bounded.ReadFile(file, maxPEM)
	if err != nil {
		return fmt.Errorf("reading the certificates to trust for registries: %w", err)
	}
	if !pool.AppendCertsFromPEM(text) {
		return fmt.Errorf("reading the certificates to trust for registries: %s has none in PEM", file)
	}
	return nil
}

// certTransport reaches each registry by the certificates that are for it.
type certTransport struct {
	dir    string
	base   *http.Transport
	roots  *x509.CertPool
	others http.RoundTripper // of those that have no folder

	mu  sync.Mutex
	own map[string]http.RoundTripper // of those that have one
}

func (t *certTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	next, err := t.of(req.URL.Host)
	if err != nil {
		return nil, err
	}
	return next.RoundTrip(req)
}

// of returns the transport for a host, which somebody else may have chosen.
func (t *certTransport) of(host string) (http.RoundTripper, error) {
	if t.dir == "" || !filepath.IsLocal(host) || strings.ContainsAny(host, `/\`) || host == "." {
		return t.others, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if own := t.own[host]; own != nil {
		return own, nil
	}
	files, err := os.ReadDir(filepath.Join(t.dir, host))
	if errors.Is(err, fs.ErrNotExist) {
		return t.others, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the certificates for %s: %w", host, err)
	}
	own, err := t.transport(filepath.Join(t.dir, host), files)
	if err != nil {
		return nil, fmt.Errorf("reading the certificates for %s: %w", host, err)
	}
	t.own[host] = own
	return own, nil
}

// transport makes one that trusts, besides, and presents what is in a folder.
func (t *certTransport) transport(dir string, files []os.DirEntry) (http.RoundTripper, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: t.roots}
	if len(files) > maxCertFiles {
		return nil, fmt.Errorf("%s has more than %d files", dir, maxCertFiles)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		switch filepath.Ext(f.Name()) {
		case ".crt":
			pool, err := extended(config.RootCAs)
			if err != nil {
				return nil, err
			}
			if err := appendPEM(pool, path); err != nil {
				return nil, err
			}
			config.RootCAs = pool
		case ".cert":
			pair, err := tls.LoadX509KeyPair(path, strings.TrimSuffix(path, ".cert")+".key")
			if err != nil {
				return nil, err
			}
			config.Certificates = append(config.Certificates, pair)
		}
	}
	c := t.base.Clone()
	c.TLSClientConfig = config
	return c, nil
}

// extended returns a pool to add to.
func extended(pool *x509.CertPool) (*x509.CertPool, error) {
	if pool != nil {
		return pool.Clone(), nil
	}
	return x509.SystemCertPool()
}

// mirror is a Mirror that has been read.
type mirror struct {
	of, at string
	tags   bool
}

func parseMirrors(list []Mirror) ([]mirror, error) {
	if len(list) > 1000 {
		return nil, fmt.Errorf("%d mirrors are more than 1000", len(list))
	}
	var mirrors []mirror
	for _, m := range list {
		of, err := parsePlace(m.Of)
		if err != nil {
			return nil, fmt.Errorf("mirror of %q: %w", m.Of, err)
		}
		at, err := parsePlace(m.At)
		if err != nil {
			return nil, fmt.Errorf("mirror of %q at %q: %w", m.Of, m.At, err)
		}
		mirrors = append(mirrors, mirror{of, at, m.Tags})
	}
	return mirrors, nil
}

// parsePlace reads a registry, or repositories of one.
func parsePlace(s string) (string, error) {
	// A name under it must be one: that is what references are parsed for.
	ref, err := image.Parse(s + "/x/y")
	host, _, _ := strings.Cut(s, "/")
	if err != nil || s == "" || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return "", errors.New("want HOST[:PORT] or HOST[:PORT]/PATH")
	}
	return strings.TrimSuffix(ref.Repository(), "/x/y"), nil
}

// copies returns the repositories to ask for a repository, in order, and it last.
func (r *Resolver) copies(repository string, forTag bool) []string {
	var list []string
	for _, m := range r.mirrors {
		rest, ok := strings.CutPrefix(repository, m.of)
		if ok && (rest == "" || rest[0] == '/') && (m.tags || !forTag) && len(list) < maxMirrors {
			list = append(list, m.at+rest)
		}
	}
	return append(list, repository)
}
