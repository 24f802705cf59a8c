package bounded_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/bounded"
)

func TestReadFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := bounded.ReadFile(path, 5); err != nil || string(data) != "12345" {
		t.Errorf("at the limit: %q, %v", data, err)
	}
	if _, err := bounded.ReadFile(path, 4); err == nil {
		t.Error("a longer file was read")
	}
	if _, err := bounded.ReadFile(path+"x", 4); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestReadBody(t *testing.T) {
	t.Parallel()
	read := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := bounded.ReadBody(w, r, 5, time.Now().Add(100*time.Millisecond))
		if err == nil && string(body) != "12345" {
			err = errors.New("read " + string(body))
		}
		read <- err
	}))
	t.Cleanup(server.Close)
	for body, check := range map[string]func(error) bool{
		"12345":  func(err error) bool { return err == nil },
		"123456": func(err error) bool { tooLong := (*http.MaxBytesError)(nil); return errors.As(err, &tooLong) },
	} {
		resp, err := http.Post(server.URL, "", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if err := <-read; !check(err) {
			t.Errorf("%s: %v", body, err)
		}
	}
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n1"); err != nil {
		t.Fatal(err)
	}
	if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("of a body that does not come: %v", err)
	}
}
