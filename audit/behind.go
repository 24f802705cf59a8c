package audit

import "fmt"

// End is how far the log is on disk.
func (l *Log) End() Position {
	end, _ := l.committed.get()
	return end
}

// Behind is how many bytes of the log are on disk after a position.
func (l *Log) Behind(after Position) (int64, error) {
	end := l.End()
	if !after.Before(end) {
		return 0, nil
	}
	names, err := allSegments(l.dir, l.Spill)
	if err != nil {
		return 0, fmt.Errorf("reading audit log: %w", err)
	}
	var n int64
	for _, name := range names {
		switch {
		case name < after.Segment || name > end.Segment:
			continue
		case name == end.Segment:
			n += end.Offset
		default:
			n += l.sizeOf(name)
		}
		if name == after.Segment {
			n -= after.Offset
		}
	}
	return n, nil
}

// sizeOf is how large a segment is; 0 if it was taken away.
func (l *Log) sizeOf(name string) int64 {
	f, err := openForReading(l.dir, l.Spill, name)
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }() // read only
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}
