package index

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
	"unique"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-dev/gatehouse/image"
)

// statementsOf returns what an occurrence of some moment says.
func statementsOf(name string, second int64, k kind, n int) []statement {
	s := begin(&grafeas.Occurrence{Name: name, NoteName: "projects/p/notes/n", CreateTime: &timestamppb.Timestamp{Seconds: second}})
	s.kind, s.via = k, viaNote
	switch k {
	case upload:
		s.more = time.Unix(second, 0)
	case provenance:
		s.more = unique.Make(builtFrom{builder: "b", statement: "{}"})
	case rejection:
		s.more = "is wrong"
	}
	all := make([]statement, n)
	for i := range all {
		s.key = unique.Make(keyName{id: fmt.Sprint(i)})
		all[i] = s.statement()
	}
	return all
}

// TestTheOldestStatementsGoAndUploadsStay whatever is filed, deleted and filed again, and
// what is counted is there.
func TestTheOldestStatementsGoAndUploadsStay(t *testing.T) {
	t.Parallel()
	const limit = 64
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 3))
		x := &Index{book: newBook(100)}
		x.trust.Store(&Trust{})
		x.Bound(limit)
		uploads := make(map[string]bool)
		for i := range 1000 {
			name := fmt.Sprintf("projects/p/occurrences/%d", rng.IntN(300))
			d := image.DigestOf([]byte(name[len(name)-1:]))
			k := kind(rng.IntN(int(rejection) + 1))
			if k == upload && len(uploads) >= 20 {
				k = attestation
			}
			statements := statementsOf(name, int64(i), k, 1+rng.IntN(2))
			if rng.IntN(4) == 0 {
				statements = nil
			}
			delete(uploads, name)
			if k == upload && statements != nil {
				uploads[name] = true
			}
			x.file(nameOf(name), fromFeed, d, x.trust.Load(), statements)
			x.cool()

			kept, have := 0, make(map[string]bool)
			for _, e := range x.book.entries.all() {
				all := e.statements
				for j := range all {
					kept++
					if all[j].kind() == upload {
						have[all[j].occurrence().String()] = true
					} else if before, some := x.Cold(); some && all[j].created < before.UnixNano() {
						t.Fatalf("seed %d: a statement of %d is kept, before %v", seed, all[j].created, before)
					}
				}
			}
			if kept != x.Statements() || kept > max(limit, x.book.cold.next) {
				t.Fatalf("seed %d: %d statements, %d are counted, of %d", seed, kept, x.Statements(), limit)
			}
			if len(have) != len(uploads) {
				t.Fatalf("seed %d: %d uploads are kept, want %d", seed, len(have), len(uploads))
			}
		}
		if _, some := x.Cold(); !some {
			t.Fatalf("seed %d: nothing was dropped", seed)
		}
	}
}

// TestStatementsAreDroppedWhileOthersAreFiled by many at the same time; the race detector
// looks on.
func TestStatementsAreDroppedWhileOthersAreFiled(t *testing.T) {
	t.Parallel()
	const writers, each, limit = 4, 5000, 1000
	x := &Index{book: newBook(0)}
	x.trust.Store(&Trust{})
	x.Bound(limit)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				name := fmt.Sprintf("projects/p/occurrences/%d-%d", w, i)
				x.file(nameOf(name), fromFeed, image.DigestOf([]byte(name)), x.trust.Load(), statementsOf(name, int64(i), attestation, 1))
				x.cool()
			}
		})
	}
	wg.Wait()
	before, some := x.Cold()
	if n := x.Statements(); !some || n > limit+limit/2 || n < limit/2 {
		t.Errorf("%d statements, of %d; cold before %v", n, limit, before)
	}
	if x.Len() != x.Statements() {
		t.Errorf("%d digests, and %d statements", x.Len(), x.Statements())
	}
}
