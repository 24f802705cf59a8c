package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/gatehouse-dev/gatehouse/gatetest/postgres"
	"github.com/gatehouse-dev/gatehouse/server"
)

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		main()
	}
	testscript.Main(databases{m}, map[string]func(){"gatehouse": main})
}

// databases stops the PostgreSQL server of the tests, if there was one, when they end.
type databases struct{ m *testing.M }

// Run runs the tests.
func (d databases) Run() int { return postgres.Main(d.m) }

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Values[arrivals{}] = &arrived{at: map[string]string{}}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": status, "serve": serveInScript, "receivers": receiversInScript, "received": receivedInScript},
	})
}

// status N COMMAND [ARG ...] runs a command that must exit with N, which tells a
// no from an error.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND [ARG ...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// serve [FLAG ...] runs a server until the script ends, and points the commands at
// its metadata API.
func serveInScript(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: serve [FLAG ...]")
	}
	cmd := exec.Command("gatehouse", append([]string{
		"serve", "--data", ts.MkAbs("data"), "--metadata-addr", "127.0.0.1:0", "--attestor-addr", "127.0.0.1:0", "--admission-addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0",
	}, args...)...)
	cmd.Dir = ts.MkAbs(".")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		ts.Fatalf("serve printed no addresses: %v\n%s", err, &stderr)
	}
	var addresses server.Addresses
	ts.Check(json.Unmarshal(line, &addresses))
	ts.Setenv("GATEHOUSE_METADATA", addresses.Metadata)
}

// trusting returns a client that trusts the certificates in a file.
func trusting(t testing.TB, file string) *http.Client {
	t.Helper()
	ca, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		t.Fatalf("no certificate in %s", file)
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
}
