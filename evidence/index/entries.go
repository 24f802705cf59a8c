package index

import (
	"crypto/sha256"
	"hash/maphash"
	"iter"

	"github.com/gatehouse-dev/gatehouse/image"
)

// An entry is what is known of one digest, in 64 bytes beside what it points to.
type entry struct {
	sum        [sha256.Size]byte
	statements []statement
	scans      *[]keptScan // nil if there are none, as of most digests
}

// stated returns the statements; a nil entry has none.
func (e *entry) stated() []statement {
	if e == nil {
		return nil
	}
	return e.statements
}

// scanned returns what scans found; a nil entry has none.
func (e *entry) scanned() []keptScan {
	if e == nil || e.scans == nil {
		return nil
	}
	return *e.scans
}

// entries finds what is known of a digest. A map that has just grown has room for twice
// what it holds, so that what it holds had better be small: a hash of the digest, and
// where the entry is.
type entries struct {
	hash   func([sha256.Size]byte) uint64
	byHash map[uint64]*entry
	// others are those whose hash another one has: one pair in 2^64.
	others map[[sha256.Size]byte]*entry
}

func newEntries() entries {
	seed := maphash.MakeSeed() // so that nobody can make digests of one hash
	return entries{
		hash:   func(sum [sha256.Size]byte) uint64 { return maphash.Bytes(seed, sum[:]) },
		byHash: make(map[uint64]*entry), others: make(map[[sha256.Size]byte]*entry),
	}
}

func (e *entries) len() int { return len(e.byHash) + len(e.others) }

// of returns the entry of a digest, nil if there is none.
func (e *entries) of(d image.Digest) *entry {
	if d.IsZero() {
		return nil
	}
	sum := d.Sum()
	if found := e.byHash[e.hash(sum)]; found != nil && found.sum == sum {
		return found
	}
	return e.others[sum]
}

// add returns a new entry of a digest that has none.
func (e *entries) add(d image.Digest) *entry {
	added := &entry{sum: d.Sum()}
	if hash := e.hash(added.sum); e.byHash[hash] == nil {
		e.byHash[hash] = added
	} else {
		e.others[added.sum] = added
	}
	return added
}

func (e *entries) drop(dropped *entry) {
	if hash := e.hash(dropped.sum); e.byHash[hash] == dropped {
		delete(e.byHash, hash)
	} else {
		delete(e.others, dropped.sum)
	}
}

// all returns the digests and their entries, in an order that has nothing to do with
// either. Entries may be added and dropped meanwhile, as while a map is iterated.
func (e *entries) all() iter.Seq2[image.Digest, *entry] {
	return func(yield func(image.Digest, *entry) bool) {
		for _, one := range e.byHash {
			if !yield(image.DigestFromSum(one.sum), one) {
				return
			}
		}
		for sum, one := range e.others {
			if !yield(image.DigestFromSum(sum), one) {
				return
			}
		}
	}
}
