package audit

import (
	"fmt"
	"os"
	"path/filepath"
)

// End is how far the log is on disk.
func (l *Log) End() Position {
	end, _ := l.committed.get()
	return end
}

// Behind is how many bytes of the log are on disk after a position.
func (l *Log) Behind(after Position) (int64, error) {
	end := l.End()
	if !after.before(end) {
		return 0, nil
	}
	names, err := segments(l.dir)
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
			if info, err := os.Stat(filepath.Join(l.dir, name)); err == nil { // else it was taken away
				n += info.Size()
			}
		}
		if name == after.Segment {
			n -= after.Offset
		}
	}
	return n, nil
}
