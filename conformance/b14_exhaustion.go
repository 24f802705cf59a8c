package conformance

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

const (
	// oversized is more than an API server can send: two objects of 3 MiB, each
	// character in an escape of six.
	oversized = 64 << 20
	// nested is deeper than any object.
	nested = 100_000
	// manyContainers is more than any pod has.
	manyContainers = 1000
	// slowConnections are opened at once by whoever wants to keep a gate busy.
	slowConnections = 50
)

func exhaustion() Class {
	return Class{
		ID: "B14", Title: "A request that costs more than a gate has",
		Beyond: "Memory is not seen from outside, except that the gate goes on answering. Big SBOMs and many signatures of the good image need the gate's keys.",
		Cases: []Case{
			{
				ID: "B14/deep", Title: "objects nested 100,000 deep", must: "the review is not let in, and the good image is admitted afterwards",
				Gain: "The stack overflows, and while the gate restarts nothing is reviewed, or nothing runs.", References: []string{"CVE-2025-47281"},
				try: func(ctx context.Context, t *trial) {
					for name, pair := range map[string][2]string{"lists": {"[", "]"}, "objects": {`{"a":`, "}"}} {
						deep := strings.Repeat(pair[0], nested) + "1" + strings.Repeat(pair[1], nested)
						if name == "lists" {
							deep = strings.Repeat("[", nested) + strings.Repeat("]", nested)
						}
						t.probe(ctx, probe{what: "nested " + name, review: t.podOf(t.bad()).UID(newUID()), edit: replace(`"status":{`, `"deep":`+deep+`,"status":{`), want: refused()})
					}
					t.alive(ctx)
				},
			},
			{
				ID: "B14/oversized", Title: "a review of 64 MB, with a length and without", must: "the review is not let in, and the good image is admitted afterwards",
				Gain: "The gate runs out of memory, and while it restarts nothing is reviewed, or nothing runs.", References: []string{"CVE-2023-46737", "CVE-2024-29902"}, alone: true,
				try: func(ctx context.Context, t *trial) {
					text := t.text(t.podOf(t.bad()).UID(newUID()))
					for name, length := range map[string]int64{"with a length": int64(len(text)) + oversized, "in chunks": -1} {
						body := io.MultiReader(strings.NewReader(text[:1]), io.LimitReader(spaces{}, oversized), strings.NewReader(text[1:]))
						t.judge(name, refused(), t.client.stream(ctx, body, length, nil, nil))
					}
					t.alive(ctx)
				},
			},
			{
				ID: "B14/truncated", Title: "a review that ends in the middle", must: "no part of the review is let in, and the good image is admitted afterwards",
				Gain: "What was read until then is taken for the whole.",
				try: func(ctx context.Context, t *trial) {
					text := t.text(t.podOf(t.good(), t.bad()).UID(newUID()))
					for _, part := range []int{0, 1, 25, 50, 75, 99} {
						t.judge(fmt.Sprintf("%d %% of it", part), refused(), t.client.post(ctx, []byte(text[:len(text)*part/100]), nil))
					}
					t.alive(ctx)
				},
			},
			{
				ID: "B14/short-body", Title: "a good review that is shorter than its length says", must: "the gate does not let in what did not come whole, and admits the good image afterwards",
				Gain: "What was read until then is taken for the whole, or a worker waits for ever.",
				try: func(ctx context.Context, t *trial) {
					text := t.text(t.podOf(t.good()).UID(newUID()))
					answer, err := t.raw(ctx, t.client.head()+fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(text)+100, text), true)
					if err == nil && bytes.Contains(bytes.ReplaceAll(answer, []byte(" "), nil), []byte(`"allowed":true`)) {
						t.fail("a body that broke off: allowed")
					}
					t.alive(ctx)
				},
			},
			{
				ID: "B14/compressed", Title: "a review compressed by gzip, and 64 MB that are 64 kB", must: "neither is let in, and the good image is admitted afterwards",
				Gain: "What is not decompressed is not read; what is decompressed without a bound fills the memory.", alone: true,
				try: func(ctx context.Context, t *trial) {
					text := t.text(t.podOf(t.bad()).UID(newUID()))
					header := http.Header{"Content-Encoding": {"gzip"}}
					t.judge("the bad image", refused(), t.client.post(ctx, compressed(strings.NewReader(text)), header))
					bomb := compressed(io.MultiReader(strings.NewReader(text[:1]), io.LimitReader(spaces{}, oversized), strings.NewReader(text[1:])))
					t.judge("a bomb", refused(), t.client.post(ctx, bomb, header))
					t.alive(ctx)
				},
			},
			{
				ID: "B14/many-containers", Title: "1,000 containers",
				Gain: "A verdict takes longer than the API server waits, and the failurePolicy decides.", References: []string{"kyverno#16657"},
				probes: func(w *world) []probe {
					images := make([]string, manyContainers)
					strangers := make([]string, manyContainers)
					for i := range images {
						images[i], strangers[i] = w.good(), w.goodName()+"@"+w.strangeDigest()
					}
					images[manyContainers-1] = w.bad()
					return []probe{
						{what: "all good but the last", review: w.podOf(images...), want: answered()},
						{what: "all of digests that nobody knows", review: w.podOf(strangers...), want: answered()},
					}
				},
			},
			{
				ID: "B14/slow-body", Title: "50 connections whose bodies never come", must: "the good image is admitted meanwhile, and the gate hangs up",
				Gain: "Connections that cost the attacker nothing use up the gate's.", alone: true,
				try: func(ctx context.Context, t *trial) {
					t.slow(ctx, t.client.head()+"Content-Length: 1000\r\n\r\n{")
				},
			},
			{
				ID: "B14/slow-head", Title: "50 connections whose headers never end", must: "the good image is admitted meanwhile, and the gate hangs up",
				Gain: "Connections that cost the attacker nothing use up the gate's.", alone: true,
				try: func(ctx context.Context, t *trial) { t.slow(ctx, t.client.head()+"X-Slow: ") },
			},
			{
				ID: "B14/endless-manifest", Title: "a registry whose manifest never ends", needs: []need{needRegistry()}, must: "the image is denied by an answer in time",
				Gain: "The gate reads until it is killed or skipped.", References: []string{"CVE-2024-29903", "CVE-2023-42813"},
				try: func(ctx context.Context, t *trial) {
					repository := t.registry.serve("b14-endless", func(w http.ResponseWriter, req *http.Request) {
						w.Header().Set("Content-Type", manifestType)
						w.Header().Set(digestHeader, asked(req).registry.bad.digest)
						if req.Method != http.MethodHead {
							_, _ = io.Copy(w, io.LimitReader(spaces{}, maxEndless)) // until the gate hangs up
						}
					})
					t.ask(ctx, "by digest", t.podOf(repository+"@"+t.registry.bad.digest), answered())
					t.ask(ctx, "by tag", t.podOf(repository+":1"), answered())
				},
			},
			{
				ID: "B14/redirects", Title: "a registry that redirects for ever", needs: []need{needRegistry()}, must: "the image is denied by an answer in time",
				Gain: "The gate follows until it is skipped.",
				try: func(ctx context.Context, t *trial) {
					repository := t.registry.serve("b14-redirects", func(w http.ResponseWriter, req *http.Request) {
						http.Redirect(w, req, req.URL.Path+"?again="+newUID(), http.StatusTemporaryRedirect)
					})
					t.ask(ctx, "by digest", t.podOf(repository+"@"+t.registry.bad.digest), answered())
				},
			},
			{
				ID: "B14/many-signatures", Title: "10,000 signatures beside one image", needs: []need{needRegistry()}, must: "the image is denied by an answer in time",
				Gain: "Every one of them is fetched and verified, until the gate is skipped.", References: []string{"CVE-2023-46737", "CVE-2023-33957"},
				try: func(ctx context.Context, t *trial) {
					layers := make([]layer, 10_000)
					for i := range layers {
						layers[i] = layer{cosignType, fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":"x"},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":{"n":%d}}`, t.registry.bad.digest, i), map[string]string{"dev.cosignproject.cosign/signature": "MEUCIQ=="}}
					}
					signatures := manifestOf([]byte("{}"), configType, layers)
					repository := t.registry.serve("b14-signatures", func(w http.ResponseWriter, req *http.Request) {
						in := asked(req)
						blob, isBlob := signatures.blobs[in.name]
						switch {
						case in.what == "manifests" && strings.HasPrefix(in.name, "sha256-"), in.what == "manifests" && in.name == signatures.digest:
							send(w, signatures.mediaType, signatures.digest, signatures.manifest)
						case isBlob:
							send(w, "application/octet-stream", in.name, blob)
						default:
							plain()(w, req)
						}
					})
					t.ask(ctx, "by digest", t.podOf(repository+"@"+t.registry.bad.digest), answered())
				},
			},
		},
	}
}

// spaces is blank without end, which JSON allows between any two of its parts.
type spaces struct{}

// Read implements io.Reader.
func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func compressed(from io.Reader) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.Copy(w, from) // memory does not fail
	_ = w.Close()
	return b.Bytes()
}

// raw sends text over a connection of its own, and returns what comes back until
// the gate hangs up. With end nothing more is to come from here.
func (t *trial) raw(ctx context.Context, text string, end bool) ([]byte, error) {
	conn, err := t.client.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(t.client.timeout)); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return nil, err
	}
	if closer, ok := conn.(interface{ CloseWrite() error }); ok && end {
		if err := closer.CloseWrite(); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(conn, maxAnswer))
}

// slow opens connections that begin a request and never end it.
func (t *trial) slow(ctx context.Context, beginning string) {
	t.client.close() // what is open already could not be kept out
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	start := time.Now()
	for range slowConnections {
		conn, err := t.client.dial(ctx)
		if err != nil {
			t.note("opening connection %d: %v", len(conns)+1, err)
			break
		}
		conns = append(conns, conn)
		if _, err := io.WriteString(conn, beginning); err != nil {
			break
		}
	}
	if len(conns) == 0 {
		t.fail("the gate takes no connections")
		return
	}
	t.ask(ctx, "meanwhile the good image", t.podOf(t.good()), allowed())
	first := conns[0]
	if err := first.SetReadDeadline(start.Add(t.hangUp)); err != nil {
		t.fail("%v", err)
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = first.Close() })
	defer stop()
	if _, err := io.Copy(io.Discard, io.LimitReader(first, maxAnswer)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.fail("a connection whose request never ends is still open after %s", t.hangUp)
		return
	}
	t.note("hung up after %s", time.Since(start).Round(100*time.Millisecond))
}
