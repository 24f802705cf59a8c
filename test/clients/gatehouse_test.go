package clients

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

const (
	buildBound = 15 * time.Minute // on a cold cache, on a slow machine
	startBound = time.Minute
	stopBound  = time.Minute
	callBound  = time.Minute
)

// product is the gatehouse binary, which TestMain builds.
var product string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gatehouse-clients-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }() // best effort
		product = filepath.Join(dir, "gatehouse")
		err = buildProduct()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func buildProduct() error {
	ctx, cancel := context.WithTimeout(context.Background(), buildBound)
	defer cancel()
	args := append([]string{"build", "-C", "../.."}, buildFlags...)
	out, err := exec.CommandContext(ctx, "go", append(args, "-o", product, "./cmd/gatehouse")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("building gatehouse: %w\n%s", err, out)
	}
	return nil
}

// A gatehouse is the product in a process of its own, with an empty store.
type gatehouse struct {
	Metadata string // the address of the Grafeas API

	cmd *exec.Cmd
	log bytes.Buffer // to be read once the process has ended
}

// start runs the product until the test ends. It must then stop with status 0,
// which it does not if its race detector has found something.
func start(t *testing.T) *gatehouse {
	t.Helper()
	g := startIn(t, filepath.Join(t.TempDir(), "data"))
	t.Cleanup(func() { g.stop(t) })
	return g
}

// startIn runs the product with a data folder, until somebody ends it.
func startIn(t *testing.T, data string) *gatehouse {
	t.Helper()
	g := &gatehouse{cmd: exec.Command(product, "serve", "--data", data,
		"--metadata-addr", "127.0.0.1:0", "--attestor-addr", "127.0.0.1:0", "--admission-addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0")}
	g.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GATEHOUSE_") })
	g.cmd.Stderr = &g.log
	g.cmd.SysProcAttr = childAttributes()
	stdout, err := g.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tooLate := time.AfterFunc(startBound, func() { _ = g.cmd.Process.Kill() })
	defer tooLate.Stop()
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, g)
	}
	if err != nil {
		_ = g.cmd.Process.Kill() // it may have ended
		_ = g.cmd.Wait()
		t.Fatalf("gatehouse did not start: %v\n%s", err, &g.log)
	}
	return g
}

func (g *gatehouse) stop(t *testing.T) {
	_ = g.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	tooLate := time.AfterFunc(stopBound, func() { _ = g.cmd.Process.Kill() })
	defer tooLate.Stop()
	if err := g.cmd.Wait(); err != nil {
		t.Errorf("gatehouse ended with %v\n%s", err, &g.log)
	}
}

// overGRPC and overREST are what somebody sets who points a client of Google's at
// another server.
func (g *gatehouse) overGRPC() []option.ClientOption {
	return []option.ClientOption{
		option.WithEndpoint(g.Metadata), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
}

func (g *gatehouse) overREST() []option.ClientOption {
	return []option.ClientOption{option.WithEndpoint("http://" + g.Metadata), option.WithoutAuthentication()}
}

// conn is for clients that use stubs alone.
func (g *gatehouse) conn(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(g.Metadata, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// send makes a request as net/http makes it of a body whose length it cannot
// know, in chunks, and demands the status.
func (g *gatehouse) send(t *testing.T, method, pathAndQuery, body string, want int) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callBound)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+g.Metadata+pathAndQuery, io.NopCloser(strings.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != want {
		t.Fatalf("%s %s: %s %s, want status %d", method, pathAndQuery, resp.Status, text, want)
	}
	return text
}

// read makes a message of JSON, and tests shorter.
func read[M proto.Message](t *testing.T, text string, into M) M {
	t.Helper()
	if err := protojson.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("the test's own JSON: %v\n%s", err, text)
	}
	return into
}

// ok demands that a call succeeded, and passes on its answer: ok(t)(call()).
func ok[A any](t *testing.T) func(A, error) A {
	t.Helper()
	return func(a A, err error) A {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
}

// same demands that two messages are equal but for the fields that the server
// alone sets.
func same(t *testing.T, got, sent proto.Message) {
	t.Helper()
	message := sent.ProtoReflect().Interface()
	if diff := cmp.Diff(sent, got, protocmp.Transform(), protocmp.IgnoreFields(message, "name", "kind", "create_time", "update_time")); diff != "" {
		t.Errorf("not what was sent (-sent +got):\n%s", diff)
	}
}
