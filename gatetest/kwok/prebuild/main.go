// Command prebuild builds the kwok that package kwok runs, if the cache does not hold it,
// and prints its path.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/gatehouse-dev/gatehouse/gatetest/kwok"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	bin, err := kwok.Build(ctx, func(format string, args ...any) {
		_, _ = fmt.Fprintf(os.Stderr, format+"\n", args...)
	})
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "prebuild:", err)
		os.Exit(1)
	}
	_, _ = fmt.Fprintln(os.Stdout, bin)
}
