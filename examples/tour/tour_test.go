package main

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// build makes the product as make build does.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gatehouse")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "../../cmd/gatehouse").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// shown takes the tour, which fails when a decision is not as it should be, and
// requires that a person saw each of these, in this order.
func shown(t *testing.T, want []string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	err := run(t.Context(), append([]string{"--once", "--gatehouse", build(t), "--source", "../images"}, args...), &out)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.Bytes())
	}
	rest := out.String()
	for _, w := range want {
		_, after, found := strings.Cut(rest, w)
		if !found {
			t.Fatalf("%q does not follow in\n%s", w, out.Bytes())
		}
		rest = after
	}
}

var everyone = []string{
	"pushed shop/web:1", "pushed shop/tool:1", "pushed shop/greeter:1",
	"CVE-2021-38561 (GO-2021-0113) in golang.org/x/text@v0.3.6, fixed in v0.3.7",
	"web:1      approved", "✓ snakeoil    attested, key ni:///sha-256;",
	"tool:1     rejected", "✗ nobody      image runs as root",
	"greeter:1  rejected", "vulnernable to 1 vulnerabilities: CVE-2021-38561",
	"DENIED   pod shop/greeter", "denied by attestor projects/default/attestors/snakeoil: No attestations found", "gatehouse check --check snakeoil",
	"ADMITTED pod shop/web",
	"DENIED   pod shop/web-by-tag", "Expected digest with sha256 scheme", "which is what was last built as",
	"ADMITTED pod shop/greeter-now",
	"ADMITTED pod trial/tool", "dry run: policy would refuse this",
}

var record = []string{
	"DENY  overridden by BREAK_GLASS", "shop/greeter-now by ", `break-glass by label image-policy.k8s.io/break-glass, justified as "INC-42: checkout is down"`,
	"DENY  overridden by DRY_RUN", "trial/tool by ",
	"Try next",
}

func TestTour(t *testing.T) {
	shown(t, append(append(everyone, "greeter:2  approved", "ADMITTED pod shop/greeter: the fix"), record...))
}

func TestTourOfACluster(t *testing.T) {
	if testing.Short() {
		t.Skip("a Kubernetes control plane is not started in short mode")
	}
	shown(t, append(append(everyone,
		"its pods will be refused", "deployment.apps/checkout   0/2", "FailedCreate: ", "denied by attestor projects/default/attestors/snakeoil",
		"greeter:2  approved", "checkout-", "Pending", "checkout-",
	), record...), "--cluster")
}
