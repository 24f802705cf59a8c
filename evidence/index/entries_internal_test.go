package index

import (
	"crypto/sha256"
	"maps"
	"math/rand/v2"
	"testing"
	"unique"
	"unsafe"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// TestSizes holds what documents say of memory, to the byte: the next size that is
// allocated is 64 bytes for a statement, and 80 for an entry.
func TestSizes(t *testing.T) {
	t.Parallel()
	if n := unsafe.Sizeof(statement{}); n > 48 {
		t.Errorf("a statement takes %d bytes", n)
	}
	if n := unsafe.Sizeof(entry{}); n > 64 {
		t.Errorf("an entry takes %d bytes", n)
	}
}

// TestDigestsOfOneHashAreToldApart whatever is added and dropped, and in whatever order.
func TestDigestsOfOneHashAreToldApart(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 4))
		all, want := newEntries(), make(map[image.Digest]*entry)
		all.hash = func(sum [sha256.Size]byte) uint64 { return uint64(sum[0] % 3) }
		for range 500 {
			d := image.DigestOf([]byte{byte(rng.IntN(20))})
			have := all.of(d)
			if have != want[d] {
				t.Fatalf("seed %d: of %s there is %v, want %v", seed, d, have, want[d])
			}
			if have == nil {
				want[d] = all.add(d)
			} else {
				all.drop(have)
				delete(want, d)
			}
			seen := make(map[image.Digest]*entry)
			for d, e := range all.all() {
				seen[d] = e
			}
			for d, e := range want {
				if seen[d] != e || all.of(d) != e {
					t.Fatalf("seed %d: %s is lost", seed, d)
				}
			}
			if len(seen) != len(want) || all.len() != len(want) {
				t.Fatalf("seed %d: %d are iterated and %d counted of %d", seed, len(seen), all.len(), len(want))
			}
		}
	}
}

// TestNoDigestIsNotTheDigestOfZeros of which something may be filed.
func TestNoDigestIsNotTheDigestOfZeros(t *testing.T) {
	t.Parallel()
	b := newBook(0)
	s := stated("o", attestation)
	b.replace(image.DigestFromSum([sha256.Size]byte{}), s[0].occurrence(), s)
	if b.statements(image.Digest{}) != nil {
		t.Error("of no digest something is known")
	}
}

// TestWhatScansFoundIsToldAndForgottenWithThem through changes of findings and of scope,
// which give their numbers to others.
func TestWhatScansFoundIsToldAndForgottenWithThem(t *testing.T) {
	t.Parallel()
	type place struct {
		digest image.Digest
		of     scanned
	}
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 5))
		b, want := newBook(0), make(map[place][]evidence.Finding)
		for range 400 {
			of := scanned{unique.Make(metadata.Parent{Project: string(rune('a' + rng.IntN(3)))}), metadata.Key{byte(rng.IntN(2))}}
			at := place{image.DigestOf([]byte{byte(rng.IntN(4))}), of}
			switch rng.IntN(10) {
			case 0:
				b.keepScans(func(project string) bool { return project != of.project() })
				for p := range want {
					if p.of.project() == of.project() {
						delete(want, p)
					}
				}
			case 1, 2, 3:
				b.scan(at.digest, of, nil)
				delete(want, at)
			default:
				sc := scan{of: of, truncated: true}
				for range rng.IntN(6) {
					sc.findings = append(sc.findings, evidence.Finding{Severity: rng.IntN(30)})
				}
				b.scan(at.digest, of, &sc)
				want[at] = sc.findings
			}
			checkFindings(t, &b)
			scans := 0
			for d, e := range b.entries.all() {
				for _, s := range e.scanned() {
					scans++
					found := want[place{d, s.of}]
					if len(found) != len(s.findings) {
						t.Fatalf("seed %d: %d findings, want %d", seed, len(s.findings), len(found))
					}
					for i, n := range s.findings {
						if b.findings.of(n) != found[i] {
							t.Fatalf("seed %d: finding %d is %v, want %v", seed, i, b.findings.of(n), found[i])
						}
					}
				}
			}
			if scans != len(want) {
				t.Fatalf("seed %d: %d scans, want %d", seed, scans, len(want))
			}
		}
	}
}

// checkFindings holds that a book has numbers for the findings of its scans, and for no
// others.
func checkFindings(t *testing.T, b *book) {
	t.Helper()
	counts, projects := make(map[uint32]int), make(map[string]int)
	for _, e := range b.entries.all() {
		for _, s := range e.scanned() {
			projects[s.of.project()]++
			for _, n := range s.findings {
				counts[n]++
			}
		}
	}
	if len(counts) != len(b.findings.numbers) || len(counts)+len(b.findings.free) != len(b.findings.all) {
		t.Fatalf("%d findings have numbers and %d are free, of %d; scans have %d",
			len(b.findings.numbers), len(b.findings.free), len(b.findings.all), len(counts))
	}
	if !maps.Equal(projects, b.scans) {
		t.Fatalf("scans by project are %v, want %v", b.scans, projects)
	}
	for n, count := range counts {
		if c := b.findings.all[n]; c.count != count || b.findings.numbers[c.finding] != n {
			t.Fatalf("finding %d is counted %d times, want %d", n, c.count, count)
		}
	}
}
