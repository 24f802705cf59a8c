package audit

import "slices"

const (
	// chunkSize is what lines are gathered in, so that many are never copied while
	// somebody waits to add one.
	chunkSize = 256 << 10
	// keptChunks are not given back to the collector.
	keptChunks = 16
)

// lines are records on their way to the disk.
type lines struct {
	chunks  [][]byte // of whole lines
	records int
	bytes   int64
	waits   []wait
}

// A wait is a line that somebody waits for: a part of a chunk.
type wait struct {
	chunk, from, to int
	done            chan error
}

// add adds a line, and its end. Chunk makes a chunk with room for so many bytes.
func (g *lines) add(line []byte, done chan error, chunk func(size int) []byte) {
	size := len(line) + 1
	last := len(g.chunks) - 1
	if last < 0 || cap(g.chunks[last])-len(g.chunks[last]) < size {
		g.chunks = append(g.chunks, chunk(size))
		last++
	}
	from := len(g.chunks[last])
	g.chunks[last] = append(append(g.chunks[last], line...), '\n')
	if done != nil {
		g.waits = append(g.waits, wait{last, from, from + size, done})
	}
	g.records++
	g.bytes += int64(size)
}

// withdraw removes the line that somebody waits for with done, and returns its size; 0 if
// it is not there.
func (g *lines) withdraw(done chan error) (size int) {
	i := slices.IndexFunc(g.waits, func(w wait) bool { return w.done == done })
	if i < 0 {
		return 0
	}
	gone := g.waits[i]
	size = gone.to - gone.from
	g.chunks[gone.chunk] = slices.Delete(g.chunks[gone.chunk], gone.from, gone.to)
	g.waits = slices.Delete(g.waits, i, i+1)
	for j := i; j < len(g.waits) && g.waits[j].chunk == gone.chunk; j++ {
		g.waits[j].from -= size
		g.waits[j].to -= size
	}
	g.records--
	g.bytes -= int64(size)
	return size
}

// unwaited returns the lines that nobody waits for.
func (g *lines) unwaited() lines {
	if len(g.waits) == 0 {
		return *g
	}
	kept := lines{records: g.records - len(g.waits)}
	waits := g.waits
	for i, c := range g.chunks {
		at := 0
		var rest []byte
		for ; len(waits) > 0 && waits[0].chunk == i; waits = waits[1:] {
			rest = append(rest, c[at:waits[0].from]...)
			at = waits[0].to
		}
		if at > 0 {
			c = append(rest, c[at:]...)
		}
		if len(c) > 0 {
			kept.chunks = append(kept.chunks, c)
			kept.bytes += int64(len(c))
		}
	}
	return kept
}

// and returns lines with others after them.
func (g lines) and(after lines) lines {
	for _, w := range after.waits {
		w.chunk += len(g.chunks)
		g.waits = append(g.waits, w)
	}
	g.chunks = append(g.chunks, after.chunks...)
	g.records += after.records
	g.bytes += after.bytes
	return g
}
