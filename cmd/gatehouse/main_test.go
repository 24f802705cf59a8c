package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/gatehouse-dev/gatehouse/gatetest/kms"
	"github.com/gatehouse-dev/gatehouse/gatetest/postgres"
	"github.com/gatehouse-dev/gatehouse/server"
)

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		main()
	}
	testscript.Main(databases{m}, map[string]func(){"gatehouse": main, "voucher_server": main, "voucher_client": main})
}

// databases stops the PostgreSQL server of the tests, if there was one, when they end.
type databases struct{ m *testing.M }

// Run runs the tests.
func (d databases) Run() int { return postgres.Main(d.m) }

func TestScripts(t *testing.T) {
	service := kms.New(t)
	key := service.AddKey(t, kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"status": status, "serve": serveInScript, "post": postInScript, "review": reviewInScript, "receivers": receiversInScript, "received": receivedInScript},
		Setup: func(env *testscript.Env) error {
			env.Setenv("KMS_ENDPOINT", service.Endpoint())
			env.Setenv("KMS_KEY", key)
			env.Values[arrivals{}] = &arrived{at: map[string]string{}}
			return nil
		},
	})
}

// post PATH FILE sends a JSON file to the metadata API of the server that runs.
func postInScript(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: post PATH FILE")
	}
	resp, err := http.Post("http://"+ts.Getenv("GATEHOUSE_METADATA")+"/"+args[0], "application/json", strings.NewReader(ts.ReadFile(args[1])))
	ts.Check(err)
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		answer, _ := io.ReadAll(resp.Body)
		ts.Fatalf("posting %s: %s %s", args[1], resp.Status, answer)
	}
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
	ts.Setenv("GATEHOUSE_ATTESTOR", "http://"+addresses.Attestor)
	ts.Setenv("GATE", "https://"+addresses.Admission)
	ts.Setenv("GATE_CA", addresses.CA)
}

// review allowed|denied FILE sends an AdmissionReview to the gate of the server that runs,
// and writes what the gate says to answer.json.
func reviewInScript(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 || args[0] != "allowed" && args[0] != "denied" {
		ts.Fatalf("usage: review allowed|denied FILE")
	}
	ca, err := os.ReadFile(ts.Getenv("GATE_CA"))
	ts.Check(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}}
	resp, err := client.Post(ts.Getenv("GATE")+"/validate?timeout=10s", "application/json", strings.NewReader(ts.ReadFile(args[1])))
	ts.Check(err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	ts.Check(err)
	var answer struct{ Response struct{ Allowed bool } }
	ts.Check(json.Unmarshal(text, &answer))
	if answer.Response.Allowed != (args[0] == "allowed") {
		ts.Fatalf("%s: %s", args[1], text)
	}
	ts.Check(os.WriteFile(ts.MkAbs("answer.json"), text, 0o600))
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

func TestAnUnknownCommandIsHinted(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{"audti": `did you mean "audit"?`, "policy explian": `did you mean "explain"?`, "frobnicate": "gatehouse --help"} {
		var out strings.Builder
		if code := run(t.Context(), strings.Fields(args), nil, &out, &out); code != exitUnknown || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %d %s", args, code, out.String())
		}
	}
}
