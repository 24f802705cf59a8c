package resolvetags_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-dev/gatehouse/cmd/internal/resolvetags"
	"github.com/gatehouse-dev/gatehouse/image"
)

const (
	manifests    = 1000
	distinctTags = 200
	repositories = 20
	parallel     = 16 // the default
)

// A counter is a registry that has every tag, after some time, and counts what it is asked.
type counter struct {
	*httptest.Server
	requests atomic.Int64
	latency  time.Duration
}

func newCounter(tb testing.TB, latency time.Duration) *counter {
	c := &counter{latency: latency}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.requests.Add(1)
		if c.latency > 0 {
			<-time.After(c.latency)
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		w.Header().Set("Docker-Content-Digest", image.DigestOf([]byte(r.URL.Path)).String())
		w.Header().Set("Content-Length", "1")
	}))
	tb.Cleanup(c.Close)
	return c
}

func (c *counter) host() string { return strings.TrimPrefix(c.URL, "http://") }

// tag returns the name of one of the distinct tags.
func (c *counter) tag(n int) (repository, tag string) {
	n %= distinctTags
	return fmt.Sprintf("shop/app-%d", n%repositories), fmt.Sprintf("v1.%d", n/repositories)
}

// write writes manifests, one a file, and returns the folder.
func (c *counter) write(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	for n := range manifests {
		repository, tag := c.tag(n)
		text := fmt.Sprintf(`# Deployment %[1]d
apiVersion: apps/v1
kind: Deployment
metadata:
  name: app-%[1]d
  labels: {app: app-%[1]d}
spec:
  replicas: 2
  selector: {matchLabels: {app: app-%[1]d}}
  template:
    metadata: {labels: {app: app-%[1]d}}
    spec:
      containers:
      - name: app
        image: %[2]s/%[3]s:%[4]s # released
        ports: [{name: http, containerPort: 8080}]
        env:
        - {name: LOG, value: "info"}
        resources:
          requests: {cpu: 100m, memory: 64Mi}
`, n, c.host(), repository, tag)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%04d.yaml", n)), []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

func pin(tb testing.TB, args ...string) string {
	tb.Helper()
	var stdout, stderr bytes.Buffer
	if code := resolvetags.Main(context.Background(), args, strings.NewReader(""), &stdout, &stderr); code != 0 {
		tb.Fatalf("exit status %d: %s", code, &stderr)
	}
	return stdout.String()
}

// TestATagIsAskedForOnce: a thousand manifests with two hundred tags cost two hundred
// requests, logging in included.
func TestATagIsAskedForOnce(t *testing.T) {
	t.Parallel()
	c := newCounter(t, 0)
	out := pin(t, "-f", c.write(t))
	if n := strings.Count(out, "@sha256:"); n != manifests {
		t.Errorf("%d images are pinned, want %d", n, manifests)
	}
	if n := c.requests.Load(); n > distinctTags {
		t.Errorf("%d requests for %d tags", n, distinctTags)
	}
}

// BenchmarkManyManifests pins a thousand manifests with two hundred tags. The baseline
// makes the two hundred requests, as many at a time, and nothing else. A registry in
// another place is stood for by one that takes its time.
func BenchmarkManyManifests(b *testing.B) {
	for _, latency := range []time.Duration{0, 20 * time.Millisecond} {
		b.Run(fmt.Sprint(latency), func(b *testing.B) {
			c := newCounter(b, latency)
			dir := c.write(b)
			var bare time.Duration
			c.requests.Store(0)
			asked := int64(0)
			for b.Loop() {
				before := c.requests.Load()
				pin(b, "-f", dir)
				asked += c.requests.Load() - before
				b.StopTimer()
				bare += c.bare(b)
				b.StartTimer()
			}
			b.ReportMetric(float64(asked)/float64(b.N), "requests/op")
			b.ReportMetric(float64(b.Elapsed())/float64(bare), "ratio")
		})
	}
}

// bare returns how long the requests take by themselves.
func (c *counter) bare(b *testing.B) time.Duration {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: parallel}}
	defer client.CloseIdleConnections()
	begun := time.Now()
	var group errgroup.Group
	group.SetLimit(parallel)
	for n := range distinctTags {
		group.Go(func() error {
			repository, tag := c.tag(n)
			req, err := http.NewRequestWithContext(b.Context(), http.MethodHead, c.URL+"/v2/"+repository+"/manifests/"+tag, nil)
			if err != nil {
				return err
			}
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			return resp.Body.Close()
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	return time.Since(begun)
}
