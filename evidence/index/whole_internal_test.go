package index

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unique"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-dev/gatehouse/image"
)

// TestTheBytesThatAreKeptAreCounted through additions, replacements, deletions, changes
// of trust and of the bound.
func TestTheBytesThatAreKeptAreCounted(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 2))
		b := newBook(2000)
		for range 400 {
			d := image.DigestOf([]byte{byte(rng.IntN(4))})
			name := fmt.Sprintf("projects/p/occurrences/%d", rng.IntN(12))
			switch rng.IntN(20) {
			case 0:
				b.keepWholes([]int{0, 500, 2000, 5000}[rng.IntN(4)])
			case 1:
				b.keep(func(s *statement) via {
					if rng.IntN(3) == 0 {
						return 0
					}
					return s.common.Value().via
				})
			case 2, 3, 4:
				b.replace(d, nameOf(name), nil)
			default:
				b.replace(d, nameOf(name), builtBy(rng, name))
			}
			type named struct {
				digest     image.Digest
				occurrence occurrenceName
			}
			sizes, total := map[named]int{}, 0
			for d, e := range b.entries.all() {
				all := e.statements
				for i := range all {
					if n := all[i].size(); n > 0 {
						sizes[named{d, all[i].occurrence()}] = n
					}
				}
			}
			for _, n := range sizes {
				total += n
			}
			if total != b.wholes.bytes || len(sizes) != len(b.wholes.kept) || total > b.wholes.limit {
				t.Fatalf("seed %d: %d bytes of %d are kept, and %d are counted of %d", seed, total, len(sizes), b.wholes.bytes, len(b.wholes.kept))
			}
		}
	}
}

// builtBy returns what an occurrence may say that one or two keys have signed.
func builtBy(rng *rand.Rand, name string) []statement {
	s := begin(&grafeas.Occurrence{Name: name, NoteName: "projects/p/notes/n", CreateTime: &timestamppb.Timestamp{Seconds: rng.Int64N(50)}})
	s.kind, s.via = provenance, viaNote
	s.more = unique.Make(builtFrom{builder: "b", statement: strings.Repeat("x", 1+rng.IntN(600))})
	other := s
	other.key = unique.Make(keyName{id: "k"})
	return []statement{s.statement(), other.statement()}[:1+rng.IntN(2)]
}
