package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/decide"
)

// A Filter selects records; a field that is empty selects all.
type Filter struct {
	Since     time.Time
	Until     time.Time
	Namespace string
	// Image selects records with an image whose text contains it.
	Image    string
	Verdict  string
	Override string
	// BreakGlass selects records of requests that carried a break-glass marker.
	BreakGlass bool
}

func (f Filter) match(r Record) bool {
	if (!f.Since.IsZero() && r.Time.Before(f.Since)) || (!f.Until.IsZero() && !r.Time.Before(f.Until)) {
		return false
	}
	if f.Namespace != "" && r.Namespace != f.Namespace {
		return false
	}
	if f.Image == "" && f.Verdict == "" && f.Override == "" && !f.BreakGlass {
		return true
	}
	d := r.Decision
	if d == nil || (f.Verdict != "" && d.Verdict.String() != f.Verdict) ||
		(f.Override != "" && string(d.Override) != f.Override) || (f.BreakGlass && d.BreakGlass == "") {
		return false
	}
	return f.Image == "" || slices.ContainsFunc(d.Images, func(i decide.ImageDecision) bool {
		return strings.Contains(i.Image, f.Image)
	})
}

// Query calls fn with each record in dir that the filter selects, oldest first,
// until fn returns an error, which it returns. It may run while a Log is
// appending; a line being written is left for the next time.
func Query(dir string, filter Filter, fn func(Record) error) error {
	names, err := segments(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading audit log: no log at %s (is that the folder 'audit' in the server's --data?): %w", dir, err)
	}
	if err != nil {
		return fmt.Errorf("reading audit log: %w", err)
	}
	for _, name := range names {
		if err := querySegment(filepath.Join(dir, name), filter, fn); err != nil {
			return err
		}
	}
	return nil
}

func querySegment(path string, filter Filter, fn func(Record) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading audit log: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	scan := bufio.NewScanner(f)
	scan.Buffer(make([]byte, 64<<10), maxLine)
	scan.Split(fullLines)
	for n := 1; scan.Scan(); n++ {
		var r Record
		if err := json.Unmarshal(scan.Bytes(), &r); err != nil {
			return fmt.Errorf("reading audit log %s line %d: %w", path, n, err)
		}
		if !filter.match(r) {
			continue
		}
		if err := fn(r); err != nil {
			return err
		}
	}
	if err := scan.Err(); err != nil {
		return fmt.Errorf("reading audit log %s: %w", path, err)
	}
	return nil
}

// fullLines is bufio.ScanLines without a last line that has no newline yet.
func fullLines(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF {
		return len(data), nil, nil
	}
	return 0, nil, nil
}
