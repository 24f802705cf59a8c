package index

import (
	"unique"

	"github.com/gatehouse-dev/gatehouse/evidence"
)

// findings gives numbers to what scans find, for as long as one that is kept has found
// it. Many images have the same findings, and a number takes 4 bytes of each and is
// nothing that the garbage collector follows.
type findings struct {
	numbers map[unique.Handle[evidence.Finding]]uint32
	all     []counted
	free    []uint32 // those of which the count is 0
}

type counted struct {
	finding unique.Handle[evidence.Finding]
	count   int
}

func newFindings() findings {
	return findings{numbers: make(map[unique.Handle[evidence.Finding]]uint32)}
}

// take returns the numbers of what a scan has found, and counts them once more.
func (f *findings) take(found []unique.Handle[evidence.Finding]) []uint32 {
	if len(found) == 0 {
		return nil
	}
	numbers := make([]uint32, len(found))
	for i, h := range found {
		n, ok := f.numbers[h]
		if !ok {
			n = f.number(h)
		}
		f.all[n].count++
		numbers[i] = n
	}
	return numbers
}

// number gives a finding a number that nothing has.
func (f *findings) number(h unique.Handle[evidence.Finding]) uint32 {
	n := uint32(len(f.all)) // of as many as memory has room for
	if last := len(f.free) - 1; last >= 0 {
		n, f.free = f.free[last], f.free[:last]
		f.all[n].finding = h
	} else {
		f.all = append(f.all, counted{finding: h})
	}
	f.numbers[h] = n
	return n
}

// release undoes take.
func (f *findings) release(numbers []uint32) {
	for _, n := range numbers {
		c := &f.all[n]
		if c.count--; c.count == 0 {
			delete(f.numbers, c.finding)
			*c = counted{}
			f.free = append(f.free, n)
		}
	}
}

func (f *findings) of(n uint32) unique.Handle[evidence.Finding] { return f.all[n].finding }
