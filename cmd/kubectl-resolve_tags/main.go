// Command kubectl-resolve_tags pins the images of manifests: in PATH it is what kubectl
// resolve-tags runs. gatehouse resolve-tags is the same.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/gatehouse-dev/gatehouse/cmd/internal/resolvetags"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := resolvetags.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
