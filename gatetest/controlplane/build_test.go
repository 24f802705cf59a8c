package controlplane

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestVersionIsStamped(t *testing.T) {
	t.Parallel()
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "go.mod"), []byte("module tiny\n\nrequire (\n\tk8s.io/kubernetes v1.37.2\n)\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	flags, err := versionFlags(source)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"version.gitVersion=v1.37.2", "version.gitMajor=1", "version.gitMinor=37"} {
		if !strings.Contains(flags, want) {
			t.Errorf("flags %q lack %q", flags, want)
		}
	}
	if _, err := versionFlags(t.TempDir()); err == nil {
		t.Error("a folder without go.mod has a version")
	}
}

func TestReservedPortIsKeptFromOthers(t *testing.T) {
	t.Parallel()
	port, release, err := reservePort()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if listener, err := net.Listen("tcp", address); err == nil {
		_ = listener.Close()
		t.Errorf("somebody else could listen at %s", address)
	}
	other, releaseOther, err := reservePort()
	if err != nil {
		t.Fatal(err)
	}
	defer releaseOther()
	if other == port {
		t.Errorf("port %d was reserved twice", port)
	}
}
