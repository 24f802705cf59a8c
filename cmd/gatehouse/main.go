// Command gatehouse decides which container images may run: it keeps what is
// known about them, runs checks, signs what passes, and gates each deploy on
// those signatures.
//
// Exit status of every command that answers a question: 0 yes, 1 no, 2 could not
// tell, with the reason on standard error.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/cmd/internal/resolvetags"
)

const (
	exitYes     = 0
	exitNo      = 1
	exitUnknown = 2
	// exitUnattested is that of a check that passed and is not attested.
	exitUnattested = 3
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var code int
	switch filepath.Base(os.Args[0]) {
	case "voucher_server":
		code = runVoucher(ctx, voucherServerCommand(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	case "voucher_client":
		code = runVoucher(ctx, voucherClientCommand(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	case verifierName:
		code = runVerifier(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	default:
		code = run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	}
	stop()
	os.Exit(code)
}

// errNo is a question answered with no; whatever there is to say has been said.
var errNo = errors.New("no")

// errUnattested is a question answered with yes, and with an attestation that is missing.
var errUnattested = errors.New("not attested")

// errFound ends a command that has printed what is wrong and could not go on.
var errFound = errors.New("problems found")

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := rootCommand()
	root.SetArgs(longFlags(args))
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitYes
	case errors.Is(err, errNo), errors.Is(err, resolvetags.ErrUnpinned):
		return exitNo
	case errors.Is(err, errUnattested):
		return exitUnattested
	case errors.Is(err, errFound), errors.Is(err, resolvetags.ErrRefused):
		return exitUnknown
	}
	_, _ = fmt.Fprintf(stderr, "gatehouse: %v\n", err)
	return exitUnknown
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "gatehouse",
		Short: "Decide which container images may run",
		Long: `Gatehouse decides which container images may run.

It keeps what is known about each image digest (Grafeas API), runs checks when an
image is built and signs what passes (Voucher API), and lets an admission gate
decide at deploy time by policy (Binary Authorization policy language).

Exit status: 0 yes, 1 no, 2 could not tell (the reason is on standard error).`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE:          runGroup,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; see '%s --help'", err, c.CommandPath())
	})
	root.Version = currentVersion().Version
	root.SetVersionTemplate("gatehouse {{.Version}}\n")
	root.AddCommand(
		serveCommand(),
		installCommand(),
		uninstallCommand(),
		controllerCommand(),
		checkCommand(),
		checksCommand(),
		verifyCommand(),
		signCommand(),
		policyCommand(),
		attestorCommand(),
		hintCommand(),
		imageVerifierCommand(),
		auditCommand(),
		breakglassCommand(),
		identityCommand(),
		caCommand(),
		doctorCommand(),
		metadataCommand(),
		conformanceCommand(),
		notifyCommand(),
		resolvetags.Command("gatehouse resolve-tags"),
		versionCommand(),
	)
	root.InitDefaultCompletionCmd("completion")
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Args, c.RunE = cobra.ArbitraryArgs, runGroup
		}
	}
	sayWhatIsWanted(root)
	return root
}

// sayWhatIsWanted makes each command answer a wrong number of arguments with how it
// is called.
func sayWhatIsWanted(c *cobra.Command) {
	for _, sub := range c.Commands() {
		sayWhatIsWanted(sub)
	}
	fits := c.Args
	if fits == nil {
		return
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if fits(c, args) == nil {
			return nil
		}
		return fmt.Errorf("%s, and it is called as: %s; see '%s --help'",
			counted(len(args), "argument is given", "arguments are given"), strings.TrimSuffix(c.UseLine(), " [flags]"), c.CommandPath())
	}
}

// runGroup is what a command does that only has sub-commands.
func runGroup(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	hint := ""
	c.SuggestionsMinimumDistance = 2 // letters
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf("; did you mean %q?", near[0])
	}
	return fmt.Errorf("unknown command %q%s; see '%s --help'", args[0], hint, c.CommandPath())
}
