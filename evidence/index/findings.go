package index

import (
	"strings"

	"github.com/gatehouse-dev/gatehouse/evidence"
)

// findings gives numbers to what scans find, for as long as one that is kept has found
// it. Many images have the same findings, and a number takes 4 bytes of each and is
// nothing that the garbage collector follows.
type findings struct {
	numbers map[evidence.Finding]uint32
	all     []counted
	free    []uint32 // those of which the count is 0
}

type counted struct {
	finding evidence.Finding
	count   int
}

func newFindings() findings {
	return findings{numbers: make(map[evidence.Finding]uint32)}
}

// take returns the numbers of what a scan has found, and counts them once more.
func (f *findings) take(found []evidence.Finding) []uint32 {
	if len(found) == 0 {
		return nil
	}
	numbers := make([]uint32, len(found))
	for i, v := range found {
		n, ok := f.numbers[v]
		if !ok {
			n = f.number(v)
		}
		f.all[n].count++
		numbers[i] = n
	}
	return numbers
}

// number gives a finding a number that nothing has.
func (f *findings) number(v evidence.Finding) uint32 {
	v.Note = strings.Clone(v.Note) // not all of what it was read from
	n := uint32(len(f.all))        // of as many as memory has room for
	if last := len(f.free) - 1; last >= 0 {
		n, f.free = f.free[last], f.free[:last]
		f.all[n].finding = v
	} else {
		f.all = append(f.all, counted{finding: v})
	}
	f.numbers[v] = n
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

func (f *findings) of(n uint32) evidence.Finding { return f.all[n].finding }
