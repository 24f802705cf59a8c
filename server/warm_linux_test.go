package server

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/review"
)

// ioOf returns how many reads and writes a process has made, of files and sockets alike.
func ioOf(t *testing.T, pid int) (reads, writes int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		t.Skipf("this system does not count reads and writes: %v", err)
	}
	var bytesRead, bytesWritten int
	if _, err := fmt.Sscanf(string(text), "rchar: %d\nwchar: %d\nsyscr: %d\nsyscw: %d", &bytesRead, &bytesWritten, &reads, &writes); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return reads, writes
}

// socketsOf returns how many sockets a process has open.
func socketsOf(t *testing.T, pid int) (n int) {
	t.Helper()
	list, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range list {
		if to, err := os.Readlink(fd); err == nil && bytes.HasPrefix([]byte(to), []byte("socket:")) {
			n++
		}
	}
	return n
}

// TestAWarmServerReadsNothingButItsRequests counts the system calls of a server's
// process: a review is read from its connection and answered there, and the audit log
// is written in groups. Nothing else is read or written for it.
func TestAWarmServerReadsNothingButItsRequests(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a process of its own is not started in short mode")
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "policy.yaml"), enforced)
	r, _, pid := spawnProcess(t, "gate", dir)
	ref := push(t, "65532")
	r.check(ref, "nobody", true)
	body := review.Pod("shop", "web").Realistic().Image("app", ref.String()).Image("proxy", ref.String()).Review()
	send := func(n int) {
		for range n {
			resp, err := r.gate.Post("https://"+r.Admission+"/validate?timeout=10s", "application/json", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(text, []byte(`"allowed":true`)) {
				t.Fatalf("%s %s %v", resp.Status, text, err)
			}
		}
	}
	send(50)
	sockets := socketsOf(t, pid)
	reads, writes := ioOf(t, pid)
	begun := time.Now()
	const n = 2000
	send(n)
	took := time.Since(begun)
	reads2, writes2 := ioOf(t, pid)
	// A record of TLS is read in two parts at most, and then the end is met.
	if got := reads2 - reads; got > 3*n+n/2 {
		t.Errorf("%d reads for %d reviews", got, n)
	}
	// An answer is one write; the audit log has at most some each 100 ms, and the runtime
	// wakes its poller by a write now and then.
	groups := int(took/(100*time.Millisecond)) + 1
	if got := writes2 - writes; got > n+n/4+20*groups {
		t.Errorf("%d writes for %d reviews in %v", got, n, took)
	}
	if got := socketsOf(t, pid); got > sockets {
		t.Errorf("%d more sockets", got-sockets)
	}
	t.Logf("%d reads and %d writes for %d reviews", reads2-reads, writes2-writes, n)
}
