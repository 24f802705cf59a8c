package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAttestingByHandAsTheDocumentSays runs the commands of docs/attest-by-hand.md
// that need no server.
func TestAttestingByHandAsTheDocumentSays(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"bash", "openssl", "gpg", "gpgconf", "base64", "awk", "sed"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("there is no %s here", program)
		}
	}
	text, err := os.ReadFile("../../docs/attest-by-hand.md")
	if err != nil {
		t.Fatal(err)
	}
	offline, _, _ := strings.Cut(string(text), "## In a running Gatehouse")
	var script strings.Builder
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(offline, -1) {
		script.WriteString(block[1])
	}
	dir := t.TempDir()
	home, err := os.MkdirTemp("", "gpg") // short: gpg makes sockets in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("gpgconf", "--homedir", home, "--kill", "all").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	file := filepath.Join(dir, "run.sh")
	if err := os.WriteFile(file, []byte(script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-u", file)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GNUPGHOME="+home)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "\nALLOW, allowed: policy allows every image\n") {
		t.Errorf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "verdict      DENY") {
		t.Errorf("explain did not say what the image needs:\n%s", out)
	}
}
