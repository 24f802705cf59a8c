// Package bounded reads what comes from outside within bounds of size and time.
package bounded

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// ReadFile reads a file of at most limit bytes.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("file %q is longer than %d bytes", path, limit)
	}
	return data, nil
}

// ReadBody reads the body of a request, of at most limit bytes, until deadline.
// Memory grows with what arrives, not with what was promised.
//
// The error is an [*http.MaxBytesError] for a body that is too long, and wraps
// [os.ErrDeadlineExceeded] for one that did not arrive in time. The connection is
// left with its deadline then, so that the server hangs up; otherwise it has none
// any more, and the answer may take longer. A writer without a connection, as in
// a test, is read without a deadline.
func ReadBody(w http.ResponseWriter, r *http.Request, limit int64, deadline time.Time) ([]byte, error) {
	control := http.NewResponseController(w)
	if err := setReadDeadline(control, deadline); err != nil {
		return nil, err
	}
	const usual = 64 << 10
	var body bytes.Buffer
	body.Grow(int(min(max(r.ContentLength, 0), usual)) + bytes.MinRead)
	if _, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, limit)); err != nil {
		return nil, err
	}
	return body.Bytes(), setReadDeadline(control, time.Time{})
}

func setReadDeadline(control *http.ResponseController, t time.Time) error {
	if err := control.SetReadDeadline(t); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("bounding the time to read the request: %w", err)
	}
	return nil
}
