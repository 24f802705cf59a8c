package index_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// BenchmarkMillion fills an index with a million digests that have one attestation each,
// and then with a scan of 50 findings for each of them. It reports the memory that the
// index has then, in MB of 1,000,000 bytes, and how many a second were verified. The goal
// for the first is 200 MB.
//
// [BenchmarkMemory] tells what a digest costs where there are few; a map grows by doubling,
// and at a million it is as empty as it ever is. It takes three minutes of processor time,
// for the signatures.
func BenchmarkMillion(b *testing.B) {
	if testing.Short() {
		b.Skip("a million signatures are not made in short mode")
	}
	const n = 1_000_000
	source := newSigned(b, n)
	trust := index.Trust{note: {source.signer.PublicKey()}}
	const mb = 1e6
	for b.Loop() {
		before, begun := heap(), time.Now()
		x := index.New(source, slog.New(slog.DiscardHandler))
		if err := x.SetTrust(b.Context(), trust); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(n/time.Since(begun).Seconds(), "digests/s")
		x.ForgetVerdicts()
		b.ReportMetric(float64(heap()-before)/mb, "MB")
		if err := x.SetScope(b.Context(), []string{"p"}); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(heap()-before)/mb, "MB-with-scans")
		if x.Len() != n {
			b.Fatalf("%d digests, want %d", x.Len(), n)
		}
		runtime.KeepAlive(x)
	}
	b.ReportMetric(0, "ns/op") // the figures above are what counts
}

// signedImages is a source of n images with one attestation each, made as they are read
// but for the signatures; and with their scans.
type signedImages struct {
	summaries
	signer     signature.Signer
	signatures [][]byte
}

func newSigned(b *testing.B, n int) *signedImages {
	b.Helper()
	s := &signedImages{summaries: summaries{n: n}, signer: newSigner(b), signatures: make([][]byte, n)}
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				sig, err := s.signer.Sign(b.Context(), s.payload(i))
				if err != nil {
					b.Error(err)
					return
				}
				s.signatures[i] = sig
			}
		})
	}
	wg.Wait()
	return s
}

func (s *signedImages) payload(i int) []byte {
	return signature.NewPayload("reg.test/app", digest(i), signature.TypeBinauthz)
}

func (s *signedImages) NoteOccurrences(_ context.Context, of string, fn func(*grafeas.Occurrence) error) (uint64, error) {
	for i, sig := range s.signatures {
		id := digest(i).String()[len("sha256:"):]
		err := fn(&grafeas.Occurrence{
			Name: fmt.Sprintf("projects/p/occurrences/%s-%s-%s-%s-%s", id[:8], id[8:12], id[12:16], id[16:20], id[20:32]), ResourceUri: uri(digest(i)), NoteName: of, Kind: grafeas.NoteKind_ATTESTATION,
			Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
				SerializedPayload: s.payload(i), Signatures: []*grafeas.Signature{{Signature: sig, PublicKeyId: s.signer.KeyID()}},
			}},
		})
		if err != nil {
			return 0, err
		}
	}
	return 0, nil
}
