package index_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// benchFixture has n attestations of n images, each signed by its own signature.
func benchFixture(b *testing.B, n int) (*metadata.Service, signature.Signer, []*grafeas.Occurrence) {
	b.Helper()
	store := memory.New()
	b.Cleanup(func() { _ = store.Close() })
	svc, err := metadata.NewService(b.Context(), store, metadata.Options{Authorizer: metadata.InsecureAllowAll()})
	if err != nil {
		b.Fatal(err)
	}
	for _, id := range []string{"vetted", "other"} {
		if _, err := svc.CreateNote(b.Context(), caller, "projects/p", id, &grafeas.Note{Type: &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{}}}); err != nil {
			b.Fatal(err)
		}
	}
	s := newSigner(b)
	all := make([]*grafeas.Occurrence, n)
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				all[i] = occurrence(b, s, note, digest(i), digest(i))
			}
		})
	}
	wg.Wait()
	for rest := all; len(rest) > 0; {
		batch := rest[:min(len(rest), 500)]
		rest = rest[len(batch):]
		if _, err := svc.BatchCreateOccurrences(b.Context(), caller, "projects/p", batch); err != nil {
			b.Fatal(err)
		}
	}
	return svc, s, all
}

// BenchmarkFirstLoad loads what is stored, by its note, by its project and by both, and
// prints the processor time of a bare loop that verifies the same signatures with the
// same key in the same run, by that of loading. The goal is 0.7. Time on the wall tells
// what else the machine does.
func BenchmarkFirstLoad(b *testing.B) {
	const n = 20_000
	svc, s, all := benchFixture(b, n)
	keys := []*signature.PublicKey{s.PublicKey()}
	for name, trust := range map[string]index.Trust{
		"by note": {note: keys}, "by project": {"projects/p": keys}, "by both": {note: keys, "projects/p": keys},
	} {
		b.Run(name, func(b *testing.B) {
			var bare, load, wall time.Duration
			for b.Loop() {
				before := processorTime(b)
				verifyAll(b, s.PublicKey(), all)
				middle, begun := processorTime(b), time.Now()
				x := index.New(svc, slog.New(slog.NewTextHandler(io.Discard, nil)))
				if err := x.SetTrust(b.Context(), trust); err != nil {
					b.Fatal(err)
				}
				bare, load, wall = bare+middle-before, load+processorTime(b)-middle, wall+time.Since(begun)
				if x.Len() != n {
					b.Fatalf("%d digests, want %d", x.Len(), n)
				}
			}
			b.ReportMetric(float64(n*b.N)/wall.Seconds(), "attestations/s")
			b.ReportMetric(bare.Seconds()/load.Seconds(), "of-bare-verify")
		})
	}
}

func verifyAll(b *testing.B, key *signature.PublicKey, all []*grafeas.Occurrence) {
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(all); i += workers {
				a := all[i].GetAttestation()
				if _, err := key.Verify(a.GetSerializedPayload(), a.GetSignatures()[0].GetSignature()); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkMemory prints what a digest costs, all told: with one attestation, and with
// a scan of 50 findings. The goal for the first is 200 bytes.
func BenchmarkMemory(b *testing.B) {
	b.Run("attestation", func(b *testing.B) {
		const n = 40_000
		svc, s, _ := benchFixture(b, n)
		trust := index.Trust{note: {s.PublicKey()}}
		measure(b, svc, n, func(x *index.Index) error { return x.SetTrust(b.Context(), trust) })
	})
	b.Run("scan of 50 findings", func(b *testing.B) {
		const n = 20_000
		measure(b, summaries{n: n}, n, func(x *index.Index) error { return x.SetScope(b.Context(), []string{"p"}) })
	})
}

// measure prints the bytes that filling an index takes for each of n digests.
func measure(b *testing.B, source index.Source, n int, fill func(*index.Index) error) {
	var bytes uint64
	for b.Loop() {
		x := index.New(source, slog.New(slog.NewTextHandler(io.Discard, nil)))
		if err := fill(x); err != nil { // fills the memo, and the store's caches
			b.Fatal(err)
		}
		before := heap()
		x = index.New(source, slog.New(slog.NewTextHandler(io.Discard, nil)))
		if err := fill(x); err != nil {
			b.Fatal(err)
		}
		x.ForgetVerdicts()
		if after := heap(); after > before {
			bytes += after - before
		}
		if x.Len() != n {
			b.Fatalf("%d digests, want %d", x.Len(), n)
		}
		runtime.KeepAlive(x)
	}
	b.ReportMetric(float64(bytes)/float64(b.N)/float64(n), "B/digest")
}

func heap() uint64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// summaries is a source with scans of n images in project p, of 50 findings each, out
// of a thousand vulnerabilities.
type summaries struct {
	index.Source
	n int
}

func (summaries) Head() uint64 { return 0 }

func (summaries) Note(_ context.Context, name string) (*grafeas.Note, error) {
	return &grafeas.Note{Name: name, Type: &grafeas.Note_Discovery{Discovery: &grafeas.DiscoveryNote{AnalysisKind: grafeas.NoteKind_VULNERABILITY}}}, nil
}

func (s summaries) ProjectSummaries(_ context.Context, project string, fn func(*metadata.Summary) error) (uint64, error) {
	for i := range s.n {
		resource := "reg.test/app@" + digest(i).String()
		row := &metadata.Summary{
			Parent: metadata.Parent{Project: project}, Resource: metadata.KeyOf(resource), ResourceURI: resource,
			Scans: []metadata.Scan{{ID: metadata.ID{1}, Note: "projects/p/notes/scan", Status: grafeas.DiscoveryOccurrence_FINISHED_SUCCESS}},
		}
		for j := range 50 {
			row.Findings = append(row.Findings, metadata.Finding{Note: fmt.Sprintf("projects/p/notes/CVE-%d", (7*i+j)%1000), Severity: grafeas.Severity(5 - j/10), Fixable: j%2 == 0})
		}
		if err := fn(row); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// BenchmarkCollect looks up a digest that has one attestation, and one for which
// somebody has filed it ten thousand times.
func BenchmarkCollect(b *testing.B) {
	svc, s, all := benchFixture(b, 10)
	for i := range 10_000 {
		o := occurrenceLike(all[2])
		o.GetAttestation().Signatures = append(o.GetAttestation().Signatures, &grafeas.Signature{PublicKeyId: fmt.Sprint(i), Signature: []byte("x")})
		o.ResourceUri, o.NoteName = uri(digest(2)), note
		if _, err := svc.CreateOccurrence(b.Context(), caller, "projects/p", o); err != nil {
			b.Fatal(err)
		}
	}
	x := index.New(svc, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err := x.SetTrust(b.Context(), index.Trust{note: {s.PublicKey()}}); err != nil {
		b.Fatal(err)
	}
	for i, name := range map[int]string{1: "once", 2: "ten thousand times"} {
		b.Run(name, func(b *testing.B) {
			list := refsOf(b, digest(i))
			for b.Loop() {
				if facts := x.Collect(b.Context(), list); len(facts.Images[digest(i)].Attestations) != 1 {
					b.Fatal(facts)
				}
			}
		})
	}
}

func refsOf(b *testing.B, d image.Digest) []image.Reference {
	ref, err := image.Parse("reg.test/app@" + d.String())
	if err != nil {
		b.Fatal(err)
	}
	return []image.Reference{ref}
}
