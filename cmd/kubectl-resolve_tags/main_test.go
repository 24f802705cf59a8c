package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/gatehouse-dev/gatehouse/gatetest/registry"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kubectl-resolve_tags": main, "kubectl": pretendKubectl})
}

// pretendKubectl says what it was called with, and stands for kubectl where the story is
// not about Kubernetes.
func pretendKubectl() {
	fmt.Println("kubectl", strings.Join(os.Args[1:], " "))
	switch os.Args[1] {
	case "kustomize":
		content, err := os.ReadFile(filepath.Join(os.Args[2], "built.yaml"))
		if err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Print("---\n" + string(content)) // behind the line above, which is no object
	case "apply":
		content, _ := io.ReadAll(os.Stdin)
		fmt.Print(string(content))
		if strings.Contains(string(content), "refuse-me") {
			os.Exit(1)
		}
	}
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Setup: func(e *testscript.Env) error {
			e.Values[key{}] = t
			return nil
		},
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": status, "registry": startRegistry, "fill": fill, "website": website,
		},
	})
}

// status N COMMAND [ARG ...] runs a command that must exit with N.
func status(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if neg || got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// registry [private] starts a registry with shop/web:1 and shop/web:2, an index of two
// platforms as shop/multi:1, and shop/tool:latest. HOST, WEB1, WEB2, MULTI, ARM and TOOL
// are set to its address and the digests. A private one is served over TLS, and asks for
// the password that is in DOCKER_CONFIG.
func startRegistry(ts *testscript.TestScript, neg bool, args []string) {
	t := ts.Value(key{}).(testing.TB)
	var opts []registry.Option
	private := len(args) == 1 && args[0] == "private"
	if private {
		opts = append(opts, registry.WithTLS(), registry.WithBasicAuth("robot", "secret"))
	}
	reg := registry.New(t, opts...)
	ts.Setenv("HOST", reg.Host())
	if private {
		ts.Check(os.WriteFile(ts.MkAbs("ca.pem"), reg.CertificatePEM(), 0o600))
		ts.Check(os.MkdirAll(ts.MkAbs("docker"), 0o700))
		auth := base64.StdEncoding.EncodeToString([]byte("robot:secret"))
		ts.Check(os.WriteFile(ts.MkAbs("docker/config.json"), fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, reg.Host(), auth), 0o600))
	}
	push := func(name, variable string, opts ...registry.ImageOptions) {
		var images []v1.Image
		for _, o := range opts {
			img, err := registry.Image(o)
			ts.Check(err)
			images = append(images, img)
		}
		if len(images) == 1 {
			ref, err := reg.Push(t.Context(), name, images[0])
			ts.Check(err)
			ts.Setenv(variable, ref.Digest().String())
			return
		}
		index, err := registry.Index(images...)
		ts.Check(err)
		ref, err := reg.Push(t.Context(), name, index)
		ts.Check(err)
		ts.Setenv(variable, ref.Digest().String())
		arm, err := images[1].Digest()
		ts.Check(err)
		ts.Setenv("ARM", arm.String())
	}
	push("shop/web:1", "WEB1", registry.ImageOptions{User: "1", Arch: "amd64"})
	push("shop/web:2", "WEB2", registry.ImageOptions{User: "2", Arch: "amd64"})
	push("shop/tool:latest", "TOOL", registry.ImageOptions{User: "3", Arch: "amd64"})
	push("shop/multi:1", "MULTI", registry.ImageOptions{Arch: "amd64"}, registry.ImageOptions{Arch: "arm64"})
}

type key struct{}

// fill FILE... replaces $VARIABLES in files.
func fill(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), func(name string) string {
			if strings.ToUpper(name) == name {
				return ts.Getenv(name)
			}
			return "$" + name
		})
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}

// website DIR serves a folder at $SITE.
func website(ts *testscript.TestScript, neg bool, args []string) {
	s := httptest.NewServer(http.FileServer(http.Dir(ts.MkAbs(args[0]))))
	ts.Defer(s.Close)
	ts.Setenv("SITE", s.URL)
}
