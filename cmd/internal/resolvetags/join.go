package resolvetags

import (
	"bufio"
	"bytes"

	"github.com/gatehouse-dev/gatehouse/tags/manifest"
)

// A joiner makes one stream of several: a separator is put where there is none. What is
// written is not changed otherwise, but that a byte order mark stands at the beginning of
// a stream only.
type joiner struct {
	w     *bufio.Writer
	many  bool
	wrote bool
	last  byte
	cut   bool // the byte order mark of what comes next
}

// begin comes before the first document of an input.
func (j *joiner) begin(t manifest.Text) error {
	if !j.many {
		return nil
	}
	j.cut = j.wrote
	separator := ""
	if j.wrote && j.last != '\n' {
		separator = "\n"
	}
	// Without a separator kubectl would read all of a stream that begins as JSON as that.
	if !t.Separated() && (j.wrote || t.BeginsLikeJSON()) {
		separator += "---\n"
	}
	if separator == "" {
		return nil
	}
	cut := j.cut
	j.cut = false
	_, err := j.Write([]byte(separator))
	j.cut = cut
	return err
}

func (j *joiner) Write(p []byte) (int, error) {
	size := len(p)
	if j.cut {
		p, j.cut = bytes.TrimPrefix(p, []byte("\xef\xbb\xbf")), false
	}
	if len(p) > 0 {
		j.wrote, j.last = true, p[len(p)-1]
	}
	if _, err := j.w.Write(p); err != nil {
		return 0, err
	}
	return size, nil
}
