package sqlite_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

func benchService(b *testing.B) *metadata.Service {
	b.Helper()
	store := open(b, b.TempDir())
	b.Cleanup(func() { _ = store.Close() })
	svc, err := metadata.NewService(b.Context(), store, metadata.Options{Authorizer: metadata.InsecureAllowAll()})
	if err != nil {
		b.Fatal(err)
	}
	for id, n := range map[string]*grafeas.Note{
		"attester": {Type: &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{}}},
		"scan":     {Type: &grafeas.Note_Discovery{Discovery: &grafeas.DiscoveryNote{AnalysisKind: grafeas.NoteKind_VULNERABILITY}}},
	} {
		if _, err := svc.CreateNote(b.Context(), metadata.Caller{}, "projects/provider", id, n); err != nil {
			b.Fatal(err)
		}
	}
	return svc
}

func benchURI(i int) string { return fmt.Sprintf("https://gcr.io/project/app@sha256:%064x", i) }

// benchAttestation is about as large as a real one, 600 bytes.
func benchAttestation(resource, n int) *grafeas.Occurrence {
	return &grafeas.Occurrence{
		ResourceUri: benchURI(resource),
		NoteName:    "projects/provider/notes/attester",
		Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
			SerializedPayload: fmt.Appendf(nil, "%s %d", strings.Repeat("payload", 30), n),
			Signatures:        []*grafeas.Signature{{PublicKeyId: "key", Signature: []byte(strings.Repeat("s", 96))}},
		}},
	}
}

// BenchmarkDurableCreate has 64 writers create attestations. The metric
// creates/fsync compares their rate with that of a loop that does nothing but
// write 4 KiB and flush them, on the same disk in the same run.
func BenchmarkDurableCreate(b *testing.B) {
	svc := benchService(b)
	flushes := flushesPerSecond(b)
	var next atomic.Int64
	var group errgroup.Group
	start := time.Now()
	b.ResetTimer()
	for range 64 {
		group.Go(func() error {
			for n := int(next.Add(1)); n <= b.N; n = int(next.Add(1)) {
				if _, err := svc.CreateOccurrence(b.Context(), metadata.Caller{}, "projects/p", benchAttestation(n/4, n)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	rate := float64(b.N) / time.Since(start).Seconds()
	b.ReportMetric(rate, "creates/s")
	b.ReportMetric(rate/flushes, "creates/fsync")
}

func flushesPerSecond(b *testing.B) float64 {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "flush"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	block := make([]byte, 4096)
	const count = 200
	start := time.Now()
	for range count {
		if _, err := f.WriteAt(block, 0); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	return count / time.Since(start).Seconds()
}

// BenchmarkLookup finds the attestations of one image among 100,000 occurrences
// of 10,000 images. The metric lookup/get compares it with reading one
// occurrence by name in the same run.
func BenchmarkLookup(b *testing.B) {
	svc := benchService(b)
	const images, each = 10_000, 10
	var names []string
	for first := 0; first < images; first += 100 {
		var batch []*grafeas.Occurrence
		for image := first; image < first+100; image++ {
			for n := range each {
				o := benchAttestation(image, n)
				if n >= 2 {
					o.NoteName = "projects/provider/notes/scan"
					o.Details = &grafeas.Occurrence_Discovery{Discovery: &grafeas.DiscoveryOccurrence{Cpe: strings.Repeat("c", 400)}}
				}
				batch = append(batch, o)
			}
		}
		created, err := svc.BatchCreateOccurrences(b.Context(), metadata.Caller{}, "projects/p", batch)
		if err != nil {
			b.Fatal(err)
		}
		for _, o := range created {
			names = append(names, o.GetName())
		}
	}
	get := func() error {
		_, err := svc.GetOccurrence(b.Context(), metadata.Caller{}, names[rand.IntN(len(names))])
		return err
	}
	find := func() error {
		page, err := svc.ListOccurrences(b.Context(), metadata.Caller{}, metadata.ListRequest{
			Parent: "projects/p", Filter: fmt.Sprintf("resourceUrl=%q AND kind=\"ATTESTATION\"", benchURI(rand.IntN(images))),
		})
		if err == nil && (len(page.Occurrences) != 2 || page.NextPageToken != "") {
			err = fmt.Errorf("found %d attestations, want 2", len(page.Occurrences))
		}
		return err
	}
	repeat := func(n int, f func() error) time.Duration {
		start := time.Now()
		for range n {
			if err := f(); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(start) / time.Duration(n)
	}
	baseline := repeat(2000, get)
	b.ResetTimer()
	b.ReportMetric(float64(repeat(b.N, find))/float64(baseline), "lookup/get")
}
