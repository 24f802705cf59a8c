// Command prebuild builds the binary that package containerd runs, if the
// cache does not hold it, and prints its path. Run it before go test, which
// ends a package's tests after 10 minutes, or let it run in the background:
// tests that need the binary wait for it.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/gatehouse-dev/gatehouse/gatetest/containerd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Stdout, os.Stderr))
}

func run(ctx context.Context, stdout, stderr io.Writer) int {
	bin, err := containerd.Build(ctx, func(format string, args ...any) {
		_, _ = fmt.Fprintf(stderr, format+"\n", args...)
	})
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "prebuild:", err)
		return 1
	}
	_, _ = fmt.Fprintln(stdout, bin)
	return 0
}
