package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
// until fn returns an error, which it returns. Lines that cannot be read are
// reported in the end, with their place. It may run while a Log is
// appending; a line being written is left for the next time.
func Query(dir string, filter Filter, fn func(Record) error) error {
	return query(dir, filter.match, fn)
}

func query[T any](dir string, match func(T) bool, fn func(T) error) error {
	names, err := segments(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading audit log: no log at %s (is that a folder in the server's --data?): %w", dir, err)
	}
	if err != nil {
		return fmt.Errorf("reading audit log: %w", err)
	}
	var damaged []error
	for _, name := range names {
		unread, err := querySegment(filepath.Join(dir, name), match, fn)
		if err != nil {
			return err
		}
		damaged = append(damaged, unread...)
	}
	return errors.Join(damaged...)
}

// querySegment reads one file. A line that cannot be read hides no other: it is
// among the damage that is returned.
func querySegment[T any](path string, match func(T) bool, fn func(T) error) (damage []error, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading audit log: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	lines := bufio.NewReaderSize(f, 64<<10)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return damage, nil // what has no newline yet is being written
		}
		if err != nil {
			return damage, fmt.Errorf("reading audit log %s: %w", path, err)
		}
		var r T
		if err := json.Unmarshal(line, &r); err != nil {
			const most = 10
			if len(damage) < most {
				damage = append(damage, fmt.Errorf("reading audit log %s line %d: %w", path, n, err))
			}
			continue
		}
		if !match(r) {
			continue
		}
		if err := fn(r); err != nil {
			return damage, err
		}
	}
}
