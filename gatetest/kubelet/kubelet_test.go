//go:build linux

package kubelet

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func newPod(m *Machine, root string) *pod {
	p := &pod{Machine: m, root: root, written: map[string]map[string][]byte{}, borrowed: map[string]string{}}
	spec := new(manifest)
	spec.Spec.SecurityContext.RunAsUser, spec.Spec.SecurityContext.RunAsGroup = uint32(os.Getuid()), uint32(os.Getgid()) //nolint:gosec // neither is negative
	p.manifest.Store(spec)
	return p
}

func TestFilesOfAVolumeChangeTogether(t *testing.T) {
	t.Parallel()
	at := filepath.Join(t.TempDir(), "tls")
	p := newPod(&Machine{}, "")
	for _, generation := range []string{"one", "two", "two"} {
		if err := p.write(at, map[string][]byte{"tls.crt": []byte(generation), "tls.key": []byte(generation)}); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"tls.crt", "tls.key"} {
			content, err := os.ReadFile(filepath.Join(at, name))
			if err != nil || string(content) != generation {
				t.Errorf("%s is %q, %v; want %q", name, content, err, generation)
			}
			to, err := os.Readlink(filepath.Join(at, name))
			if err != nil || to != filepath.Join(dataLink, name) {
				t.Errorf("%s leads to %q, %v: it does not change with the others", name, to, err)
			}
		}
	}
	if entries, err := os.ReadDir(at); err != nil || len(entries) != 4 { // two names, the link, and what it leads to
		t.Errorf("there are %v, %v", entries, err)
	}
}

func TestOnePodAtATimeHasAClaim(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := &Machine{dir: dir, claims: map[string]string{"data": "uid"}, lent: map[string]bool{}}
	first, second := newPod(m, filepath.Join(dir, "first")), newPod(m, filepath.Join(dir, "second"))
	at := func(p *pod) string { return filepath.Join(p.root, "var/lib") }
	if err := first.borrow("data", at(first)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(at(first), "store"), []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := second.borrow("data", at(second)); !errors.Is(err, errNotYet) {
		t.Fatalf("another pod gets it: %v", err)
	}
	if err := second.borrow("other", at(second)); !errors.Is(err, errNotYet) {
		t.Fatalf("a claim that is not there: %v", err)
	}
	if err := first.giveBack(); err != nil {
		t.Fatal(err)
	}
	if err := second.borrow("data", at(second)); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(filepath.Join(at(second), "store")); err != nil || string(content) != "kept" {
		t.Errorf("it has %q, %v", content, err)
	}
}

func TestPortsAreFoundByNumberAndName(t *testing.T) {
	t.Parallel()
	var spec manifest
	if err := json.Unmarshal([]byte(`{"spec":{"containers":[{"ports":[{"name":"ops","containerPort":9090}],"readinessProbe":{"httpGet":{"path":"/readyz","port":"ops"}}}]}}`), &spec); err != nil {
		t.Fatal(err)
	}
	got := []int{spec.port(spec.Spec.Containers[0].ReadinessProbe.HTTPGet.Port), spec.port(portRef{Number: 8443}), spec.port(portRef{Name: "none"})}
	if d := cmp.Diff([]int{9090, 8443, 0}, got); d != "" {
		t.Error(d)
	}
}
