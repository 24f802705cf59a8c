// Package helm runs the real Helm, for tests. It is built from the module test/helm into
// the user's cache directory the first time that it is needed, which takes some minutes;
// make kube does so beforehand.
package helm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/gatetest/internal/nested"
)

// Build returns the path of helm, which it builds if the cache does not hold it, and
// reports progress to logf, which may be nil.
func Build(ctx context.Context, logf func(format string, args ...any)) (bin string, err error) {
	return nested.Module{Name: "helm", Title: "Helm", Cost: "2 minutes on two idle cores"}.Build(ctx, logf)
}

// Helm runs helm with settings of its own: nothing of the user's is read.
type Helm struct {
	bin string
	env []string
}

// New returns Helm for a cluster, by the path of a kubeconfig; "" is none.
func New(t testing.TB, kubeconfig string) *Helm {
	t.Helper()
	bin, err := Build(t.Context(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	return &Helm{bin, append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home,
		"HELM_NAMESPACE=", "HELM_KUBECONTEXT=", "KUBECONFIG="+kubeconfig)}
}

// Run runs helm, and returns what it printed. An error has what it said.
func (h *Helm) Run(ctx context.Context, args ...string) (stdout string, err error) {
	cmd := exec.CommandContext(ctx, h.bin, args...)
	cmd.Env = h.env
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("helm %s: %w\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String(), nil
}
