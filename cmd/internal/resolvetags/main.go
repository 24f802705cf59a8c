package resolvetags

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Main runs the command as a program of its own, and returns its exit status.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := Command("kubectl resolve-tags")
	c.Use = "kubectl resolve-tags -f FILE..."
	c.SetArgs(args)
	c.SetIn(stdin)
	c.SetOut(stdout)
	c.SetErr(stderr)
	c.CompletionOptions.DisableDefaultCmd = true
	err := c.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrUnpinned):
		return 1
	case errors.Is(err, ErrRefused):
		return 2
	}
	_, _ = fmt.Fprintf(stderr, "error: unable to resolve: %v\n", err)
	return 2
}
