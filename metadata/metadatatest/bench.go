package metadatatest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// A Bench measures a store that lasts, each time against a baseline of the same
// run. All its stores must be durable as they are in production.
type Bench struct {
	// Open opens an empty store; an ungathered one commits every call by itself.
	Open func(b *testing.B, ungathered bool) metadata.Store
	// Insert returns a function that inserts rows in one durable transaction,
	// one statement each, into the table of occurrences of a database with the
	// store's schema, and does nothing else.
	Insert func(b *testing.B) func(rows []BareRow) error
}

// A BareRow is what a store keeps of an occurrence of the note [BareNote].
type BareRow struct {
	ID      metadata.ID
	Parent  metadata.Key
	Kind    grafeas.NoteKind
	Keys    metadata.Keys
	Payload []byte
}

const (
	benchParent = "projects/p"
	benchNote   = "projects/provider/notes/attester"
	benchBatch  = 1000
)

// BareNote is the note of all bare rows.
var BareNote = metadata.NoteName{Parent: metadata.Parent{Project: "provider"}, ID: "attester"}

// DurableCreate has 64 clients create attestations. The metric on/off compares the
// rate with that of a store that gathers no calls, and creates/fsync with a loop
// that does nothing but write 4 KiB and flush them, on the disk of temporary
// files.
func (m Bench) DurableCreate(b *testing.B) {
	flushes := flushesPerSecond(b)
	off := createRate(b, benchService(b, m.Open(b, true)), max(64, b.N/8))
	on := benchService(b, m.Open(b, false))
	b.ResetTimer()
	rate := createRate(b, on, b.N)
	b.ReportMetric(rate, "creates/s")
	b.ReportMetric(rate/off, "on/off")
	b.ReportMetric(rate/flushes, "creates/fsync")
}

// createRate is how many attestations a second 64 clients can create.
func createRate(b *testing.B, svc *metadata.Service, count int) float64 {
	b.Helper()
	var next atomic.Int64
	var group errgroup.Group
	start := time.Now()
	for range 64 {
		group.Go(func() error {
			for n := int(next.Add(1)); n <= count; n = int(next.Add(1)) {
				if _, err := svc.CreateOccurrence(b.Context(), metadata.Caller{}, benchParent, benchAttestation(n/4, n)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	return float64(count) / time.Since(start).Seconds()
}

// BatchCreate creates attestations in batches of 1000, one client. The metric
// batch/bare compares the rate with that of inserting such rows, one bare
// statement each, without rules, feed or messages.
func (m Bench) BatchCreate(b *testing.B) {
	svc := benchService(b, m.Open(b, false))
	insert := m.Insert(b)
	var batched, bare time.Duration
	b.ResetTimer()
	for i := range b.N {
		batch := make([]*grafeas.Occurrence, benchBatch)
		for n := range batch {
			batch[n] = benchAttestation(i*benchBatch/4+n/4, n)
		}
		start := time.Now()
		created, err := svc.BatchCreateOccurrences(b.Context(), metadata.Caller{}, benchParent, batch)
		if err != nil {
			b.Fatal(err)
		}
		batched += time.Since(start)

		b.StopTimer()
		rows := bareRows(b, created)
		start = time.Now()
		if err := insert(rows); err != nil {
			b.Fatal(err)
		}
		bare += time.Since(start)
		b.StartTimer()
	}
	b.ReportMetric(float64(benchBatch*b.N)/batched.Seconds(), "rows/s")
	b.ReportMetric(float64(bare)/float64(batched), "batch/bare")
}

func bareRows(b *testing.B, occurrences []*grafeas.Occurrence) []BareRow {
	b.Helper()
	rows := make([]BareRow, len(occurrences))
	for i, o := range occurrences {
		payload, err := proto.Marshal(o)
		must(b, err)
		name := nameOf(b, o)
		rows[i] = BareRow{ID: name.ID, Parent: metadata.KeyOf(name.Parent.String()), Kind: o.GetKind(), Keys: metadata.KeysOf(o), Payload: payload}
	}
	return rows
}

// Lookup finds the 10 attestations of one image by resourceUrl and kind, among
// 1,000, 10,000, 100,000 and 1,000,000 occurrences. Its metrics are medians: p50-N-µs
// at each size, large/small the last by the first, and lookup/get the last by that
// of reading one occurrence by name at that size.
func (m Bench) Lookup(b *testing.B) {
	svc := benchService(b, m.Open(b, false))
	var names []string
	var first, last, get time.Duration
	for rows, images := 1_000, 0; rows <= 1_000_000; rows *= 10 {
		names = append(names, createAttested(b, svc, images, rows/10)...)
		images = rows / 10
		find := func() error { return findAttestations(b, svc, images) }
		median(b, 2000, find) // to warm up
		last = median(b, 4000, find)
		if first == 0 {
			first = last
		}
		get = median(b, 4000, func() error {
			_, err := svc.GetOccurrence(b.Context(), metadata.Caller{}, names[rand.IntN(len(names))])
			return err
		})
		b.ReportMetric(float64(last.Nanoseconds())/1e3, fmt.Sprintf("p50-%d-µs", rows))
	}
	b.ReportMetric(float64(last)/float64(first), "large/small")
	b.ReportMetric(float64(last)/float64(get), "lookup/get")
	b.ReportMetric(0, "ns/op") // the figures above are what counts
}

// median returns the median time of n calls.
func median(b *testing.B, n int, f func() error) time.Duration {
	b.Helper()
	times := make([]time.Duration, n)
	for i := range times {
		start := time.Now()
		if err := f(); err != nil {
			b.Fatal(err)
		}
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	return times[n/2]
}

// createAttested creates 10 attestations of each image, and returns their names.
func createAttested(b *testing.B, svc *metadata.Service, from, to int) (names []string) {
	b.Helper()
	for first := from; first < to; first += 100 {
		var batch []*grafeas.Occurrence
		for image := first; image < first+100; image++ {
			for n := range 10 {
				batch = append(batch, benchAttestation(image, n))
			}
		}
		created, err := svc.BatchCreateOccurrences(b.Context(), metadata.Caller{}, benchParent, batch)
		must(b, err)
		for _, o := range created {
			names = append(names, o.GetName())
		}
	}
	return names
}

func findAttestations(b *testing.B, svc *metadata.Service, images int) error {
	page, err := svc.ListOccurrences(b.Context(), metadata.Caller{}, metadata.ListRequest{
		Parent: benchParent, Filter: fmt.Sprintf("resourceUrl=%q AND kind=\"ATTESTATION\"", benchURI(rand.IntN(images))),
	})
	if err == nil && (len(page.Occurrences) != 10 || page.NextPageToken != "") {
		err = fmt.Errorf("found %d attestations, want 10", len(page.Occurrences))
	}
	return err
}

func benchService(b *testing.B, store metadata.Store) *metadata.Service {
	b.Helper()
	b.Cleanup(func() { _ = store.Close() })
	svc, err := metadata.NewService(b.Context(), store, metadata.Options{Authorizer: metadata.InsecureAllowAll()})
	must(b, err)
	for id, n := range map[string]*grafeas.Note{
		"attester": {Type: &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{}}},
	} {
		_, err := svc.CreateNote(b.Context(), metadata.Caller{}, "projects/provider", id, n)
		must(b, err)
	}
	return svc
}

func benchURI(i int) string { return fmt.Sprintf("https://gcr.io/project/app@sha256:%064x", i) }

// benchAttestation is about as large as a real one, 600 bytes.
func benchAttestation(resource, n int) *grafeas.Occurrence {
	return &grafeas.Occurrence{
		ResourceUri: benchURI(resource),
		NoteName:    benchNote,
		Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
			SerializedPayload: fmt.Appendf(nil, "%s %d", strings.Repeat("payload", 30), n),
			Signatures:        []*grafeas.Signature{{PublicKeyId: "key", Signature: []byte(strings.Repeat("s", 96))}},
		}},
	}
}

func flushesPerSecond(b *testing.B) float64 {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "flush"))
	must(b, err)
	defer func() { _ = f.Close() }()
	block := make([]byte, 4096)
	const count = 200
	start := time.Now()
	for range count {
		_, err := f.WriteAt(block, 0)
		must(b, err)
		must(b, f.Sync())
	}
	return count / time.Since(start).Seconds()
}
