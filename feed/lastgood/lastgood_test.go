package lastgood_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/feed/feedclient"
	"github.com/gatehouse-dev/gatehouse/feed/lastgood"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const note = "projects/p/notes/vetted"

var (
	attested = image.DigestOf([]byte("attested"))
	now      = time.Date(2026, 11, 30, 6, 0, 0, 0, time.UTC)
	state    = feedclient.State{
		Position: feedclient.Position{Seq: 2, Mark: []byte("mark")}, Scanners: map[string]int32{"projects/p/notes/scan": 1},
		Documents: []*metadata.Document{{Name: "projects/p/policy", Content: []byte("{}"), Revision: 3, Author: "ada", Time: now}},
	}
)

// A gate has an index of one attested digest, and a folder.
type gate struct {
	t      *testing.T
	dir    string
	source *metadata.Service
	x      *index.Index
	trust  index.Trust
}

func newGate(t *testing.T) *gate {
	t.Helper()
	store := memory.New()
	t.Cleanup(func() { _ = store.Close() })
	svc, err := metadata.NewService(t.Context(), store, metadata.Options{Authorizer: metadata.InsecureAllowAll()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := svc.CreateNote(t.Context(), metadata.Caller{}, "projects/p", "vetted", &grafeas.Note{Type: &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{}}}); err != nil {
		t.Fatal(err)
	}
	pem, err := signature.GeneratePKIX("ECDSA_P256_SHA256", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.ParsePKIXSigner(pem, "ECDSA_P256_SHA256", "")
	if err != nil {
		t.Fatal(err)
	}
	payload := signature.NewPayload("reg.test/app", attested, signature.TypeBinauthz)
	sig, err := s.Sign(t.Context(), payload)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := svc.CreateOccurrence(t.Context(), metadata.Caller{}, "projects/p", &grafeas.Occurrence{
		ResourceUri: "https://reg.test/app@" + attested.String(), NoteName: note,
		Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
			SerializedPayload: payload, Signatures: []*grafeas.Signature{{Signature: sig, PublicKeyId: s.KeyID()}},
		}},
	}); err != nil {
		t.Fatal(err)
	}
	g := &gate{t: t, dir: filepath.Join(t.TempDir(), "gate"), source: svc, trust: index.Trust{note: {s.PublicKey()}}}
	g.x = g.index()
	if err := g.x.SetTrust(t.Context(), g.trust); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *gate) index() *index.Index { return index.New(g.source, slog.New(slog.DiscardHandler)) }

func (g *gate) open() *lastgood.Folder {
	g.t.Helper()
	f, err := lastgood.Open(g.dir, "p", "here.test")
	if err != nil {
		g.t.Fatal(err)
	}
	return f
}

func (g *gate) write(f *lastgood.Folder) {
	g.t.Helper()
	size, err := f.Write(g.x, now, func(index.CopyInfo) (feedclient.State, error) { return state, nil })
	if err != nil || size == 0 {
		g.t.Fatal(size, err)
	}
}

func (g *gate) path(name string) string { return filepath.Join(g.dir, name) }

func (g *gate) file(name string) []byte {
	g.t.Helper()
	b, err := os.ReadFile(g.path(name))
	if err != nil {
		g.t.Fatal(err)
	}
	return b
}

func (g *gate) put(name string, content []byte) {
	g.t.Helper()
	if err := os.WriteFile(g.path(name), content, 0o600); err != nil {
		g.t.Fatal(err)
	}
}

func TestTheCopyIsReadAtTheNextStart(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	if _, err := g.open().Read(g.index()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before there is one: %v", err)
	}
	g.write(g.open())
	g.write(g.open()) // in place of the first
	x := g.index()
	c, err := g.open().Read(x)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.SetTrust(t.Context(), g.trust); err != nil {
		t.Fatal(err)
	}
	want := state
	want.Position.Seq, want.Notes = g.source.Head(), []string{note}
	if d := cmp.Diff(want, c.State); d != "" || !c.Written.Equal(now) || c.Digests != 1 || x.Len() != 1 {
		t.Errorf("read %+v, %d digests (-want +got):\n%s", c, x.Len(), d)
	}
	entries, err := os.ReadDir(g.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 || strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s: %v, error %v", e.Name(), info.Mode(), err)
		}
	}
}

// TestACopyThatCannotBeTrustedIsRefused, and the reason is told.
func TestACopyThatCannotBeTrustedIsRefused(t *testing.T) {
	t.Parallel()
	const file, key, generation = "evidence.copy", "evidence.key", "evidence.generation"
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 1
		return b
	}
	for name, test := range map[string]struct {
		spoil func(g *gate)
		says  string
	}{
		"corrupt":              {func(g *gate) { b := g.file(file); g.put(file, flip(b, len(b)/2)) }, "changed since"},
		"corrupt at its end":   {func(g *gate) { b := g.file(file); g.put(file, flip(b, len(b)-1)) }, "changed since"},
		"truncated":            {func(g *gate) { b := g.file(file); g.put(file, b[:len(b)-40]) }, "unexpected EOF"},
		"empty":                {func(g *gate) { g.put(file, nil) }, "unexpected EOF"},
		"with more at its end": {func(g *gate) { g.put(file, append(g.file(file), 0)) }, "changed since"},
		"sealed by another": {func(g *gate) {
			other := newGate(t)
			other.write(other.open())
			g.put(file, other.file(file))
		}, "changed since"},
		"of another key":       {func(g *gate) { g.put(key, bytes.Repeat([]byte{7}, 32)) }, "changed since"},
		"set back":             {func(g *gate) { old := g.file(file); g.write(g.open()); g.put(file, old) }, "set back"},
		"nobody knows of when": {func(g *gate) { _ = os.Remove(g.path(generation)) }, "which copy was the last one"},
		"with a forged number": {func(g *gate) { g.put(generation, make([]byte, 80)) }, "which copy was the last one"},
		"another file":         {func(g *gate) { g.put(file, g.file(generation)) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGate(t)
			g.write(g.open())
			test.spoil(g)
			_, err := g.open().Read(g.index())
			if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
			// The next one that is written counts again.
			g.write(g.open())
			if _, err := g.open().Read(g.index()); err != nil {
				t.Errorf("after another was written: %v", err)
			}
		})
	}
}

func TestACopyOfAnotherGateIsRefused(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	g.write(g.open())
	for _, other := range [][2]string{{"q", "here.test"}, {"p", "there.test"}} {
		f, err := lastgood.Open(g.dir, other[0], other[1])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Read(g.index()); err == nil || !strings.Contains(err.Error(), "is of a gate of project") {
			t.Errorf("%v: %v", other, err)
		}
	}
}

// TestAKeyThatOthersMayHaveReadIsNotUsed: they could have written the copy.
func TestAKeyThatOthersMayHaveReadIsNotUsed(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	g.write(g.open())
	if err := os.Chmod(g.path("evidence.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := lastgood.Open(g.dir, "p", "here.test"); err == nil || !strings.Contains(err.Error(), "0644") {
		t.Errorf("got %v", err)
	}
	g.put("evidence.key", []byte("short"))
	if err := os.Chmod(g.path("evidence.key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := lastgood.Open(g.dir, "p", "here.test"); err == nil || !strings.Contains(err.Error(), "5 bytes") {
		t.Errorf("a short key: %v", err)
	}
}

// TestAWriteThatFailsLeavesTheLastCopy.
func TestAWriteThatFailsLeavesTheLastCopy(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	f := g.open()
	g.write(f)
	no := errors.New("no")
	if _, err := f.Write(g.x, now, func(index.CopyInfo) (feedclient.State, error) { return state, no }); !errors.Is(err, no) {
		t.Errorf("got %v", err)
	}
	if c, err := f.Read(g.index()); err != nil || !c.Written.Equal(now) {
		t.Errorf("read %+v, error %v", c, err)
	}
	g.put(".evidence.copy-123", []byte("of a crash"))
	g.open()
	if _, err := os.Stat(g.path(".evidence.copy-123")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a crash left is still there: %v", err)
	}
}
