package controlplane

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/gatehouse-dev/gatehouse/gatetest/internal/nested"
)

const (
	binaryName  = "kube"
	binaryTitle = "the Kubernetes test binary"
)

// module is what the binary is built from. The links beside it are for tools that look
// for the programs by name, such as envtest or a shell.
func module() nested.Module {
	return nested.Module{
		Name: binaryName, Title: binaryTitle, Cost: "6 minutes on two idle cores", Flags: versionFlags,
		Links: []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"},
	}
}

// Build returns the path of the binary that acts as etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler and kubectl, depending on its first
// argument; links of these names are beside it. When the user's cache directory
// holds none that was built from these sources by this version of Go, Build
// builds it, which takes minutes, and reports progress to logf, which may be
// nil. Concurrent calls, in this process and in others, build once.
func Build(ctx context.Context, logf func(format string, args ...any)) (bin string, err error) {
	return module().Build(ctx, logf)
}

var kubernetesVersion = regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v(\d+)\.(\d+)\.\S+)`)

// versionFlags stamps the version that go.mod names: without it the programs
// call themselves v0.0.0-master.
func versionFlags(source string) (string, error) {
	mod, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil {
		return "", err
	}
	match := kubernetesVersion.FindSubmatch(mod)
	if match == nil {
		return "", fmt.Errorf("%q does not require k8s.io/kubernetes", filepath.Join(source, "go.mod"))
	}
	flags := []string{"-s", "-w"}
	for _, stamp := range [][2]string{
		{"gitVersion", string(match[1])},
		{"gitMajor", string(match[2])},
		{"gitMinor", string(match[3])},
		{"gitTreeState", "clean"},
		{"gitCommit", strings.Repeat("0", 40)},
		{"buildDate", "1970-01-01T00:00:00Z"},
	} {
		flags = append(flags, "-X", "k8s.io/component-base/version."+stamp[0]+"="+stamp[1])
	}
	return strings.Join(flags, " "), nil
}
