package registry

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// BuildGo builds the program in the folder source to the file out, for Linux,
// without cgo, and the same on every machine that has the same Go. The flags are
// further ones of go build, such as "-modfile=FILE".
func BuildGo(ctx context.Context, source, out string, flags ...string) error {
	out, err := filepath.Abs(out) // the compiler runs in source
	if err != nil {
		return fmt.Errorf("building the program in %q: %w", source, err)
	}
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-trimpath", "-buildvcs=false", "-o", out}, flags...), ".")...)
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOOS=linux")
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the program in %q: %w\n%s", source, err, output)
	}
	return nil
}
