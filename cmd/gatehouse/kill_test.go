package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/server"
)

// mainVariable makes the test binary be the command, so that it can be killed.
const mainVariable = "GATEHOUSE_TEST_MAIN"

// serveProcess is a gatehouse serve in a process of its own.
type serveProcess struct {
	server.Addresses
	cmd    *exec.Cmd
	stderr *output
}

// An output is what a process has written so far.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func serveCommandOf(args ...string) *serveProcess {
	p := &serveProcess{cmd: exec.Command(os.Args[0], append([]string{
		"serve", "--metadata-addr", "127.0.0.1:0", "--attestor-addr", "127.0.0.1:0", "--admission-addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0",
	}, args...)...), stderr: new(output)}
	p.cmd.Env = append(os.Environ(), mainVariable+"=1")
	p.cmd.Stderr = p.stderr
	return p
}

// launchServe starts one that does not get ready.
func launchServe(t testing.TB, args ...string) *serveProcess {
	t.Helper()
	p := serveCommandOf(args...)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// freePort returns an address that nobody listens at.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func startServe(t testing.TB, args ...string) *serveProcess {
	t.Helper()
	p := serveCommandOf(args...)
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		p.kill()
		t.Fatalf("serve printed no addresses: %v\n%s", err, p.stderr)
	}
	if err := json.Unmarshal(line, &p.Addresses); err != nil {
		t.Fatalf("serve printed %q: %v", line, err)
	}
	return p
}

func (p *serveProcess) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	_ = p.cmd.Wait()
}

// create makes an occurrence and returns its name once the server said OK.
func (p *serveProcess) create(client *http.Client, n int) (string, error) {
	body := fmt.Sprintf(`{"resourceUri":"https://reg.test/app@sha256:%064x","noteName":"projects/default/notes/scan","discovery":{"analysisStatus":"FINISHED_SUCCESS"}}`, n)
	resp, err := client.Post("http://"+p.Metadata+"/v1/projects/default/occurrences", "application/json", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	var o struct{ Name string }
	if err := json.Unmarshal(text, &o); err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s: %w", resp.Status, text, err)
	}
	return o.Name, nil
}

func (p *serveProcess) mustGet(t *testing.T, path string) {
	t.Helper()
	resp, err := http.Get("http://" + p.Metadata + "/v1/" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		t.Errorf("%s was answered OK and is lost: %s %s", path, resp.Status, text)
	}
}

// TestKilledWhileCreatingLosesNothingThatWasAnswered streams creates from several
// clients, kills the server at some moment, starts it again, and looks for
// everything that was answered.
func TestKilledWhileCreatingLosesNothingThatWasAnswered(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	var names []string
	for round := range 4 {
		p := startServe(t, "--data", data)
		if round == 0 {
			resp, err := http.Post("http://"+p.Metadata+"/v1/projects/default/notes?noteId=scan", "application/json", strings.NewReader(`{"discovery":{"analysisKind":"VULNERABILITY"}}`))
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("creating the note: %v, %v", resp, err)
			}
			_ = resp.Body.Close()
		}
		for _, name := range names {
			p.mustGet(t, name)
		}
		acknowledged := streamUntilKilled(p, 200*round, 20+rand.IntN(100))
		if len(acknowledged) == 0 {
			t.Fatalf("round %d: nothing was answered: %s", round, p.stderr)
		}
		names = append(names, acknowledged...)
	}
	p := startServe(t, "--data", data)
	for _, name := range names {
		p.mustGet(t, name)
	}
	t.Logf("%d occurrences were answered OK before kills, and all are there", len(names))
}

// streamUntilKilled creates from four clients, and kills the server when so many
// have been answered, with others on their way.
func streamUntilKilled(p *serveProcess, first, after int) []string {
	var mu sync.Mutex
	var names []string
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second}
			for i := 0; ; i++ {
				name, err := p.create(client, first+c*1_000_000+i)
				if err != nil {
					return // killed
				}
				mu.Lock()
				names = append(names, name)
				if len(names) == after {
					p.kill()
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return names
}

// TestBreakGlassIsOnRecordWhenItIsAnswered kills the server the moment that it
// has let a pod in by break-glass.
func TestBreakGlassIsOnRecordWhenItIsAnswered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte("defaultAdmissionRule: {evaluationMode: ALWAYS_DENY, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startServe(t, "--data", filepath.Join(dir, "data"), "--policy", policy)
	review := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1","kind":{"group":"","version":"v1","kind":"Pod"},
		"resource":{"group":"","version":"v1","resource":"pods"},"namespace":"shop","operation":"CREATE","userInfo":{"username":"ada"},
		"object":{"metadata":{"name":"web","labels":{"image-policy.k8s.io/break-glass":"true"}},"spec":{"containers":[{"name":"c","image":"nginx"}]}}}}`
	resp, err := trusting(t, p.CA).Post("https://"+p.Admission+"/validate", "application/json", strings.NewReader(review))
	p.kill()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(text), `"allowed":true`) {
		t.Fatalf("%v: %s", err, text)
	}
	var found []audit.Record
	err = audit.Query(filepath.Join(dir, "data", "audit"), audit.Filter{Override: "BREAK_GLASS"}, func(r audit.Record) error {
		found = append(found, r)
		return nil
	})
	if err != nil || len(found) != 1 || found[0].UID != "u1" || found[0].User != "ada" {
		t.Errorf("records %+v, error %v", found, err)
	}
}

// TestServeStopsCleanlyOnTerm: what SIGTERM leaves must start again, and exit 0.
func TestServeStopsCleanlyOnTerm(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	for range 2 {
		p := startServe(t, "--data", data)
		if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		context.AfterFunc(ctx, func() { _ = p.cmd.Process.Kill() })
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, p.stderr)
		}
		cancel()
	}
}
