package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/policy/document"
)

// maxInput bounds a file that a command reads.
const maxInput = 64 << 20

func policyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Check, try out and explain policies",
		Args:  cobra.ArbitraryArgs,
		RunE:  runGroup,
	}
	c.AddCommand(
		policyLintCommand(), policyExplainCommand(), policyDecideCommand(), policyMatchCommand(), policyTestCommand(), policyFmtCommand(),
		policyHistoryCommand(), policyRollbackCommand(), policyPushCommand(), policyPullCommand(), policyImportCommand(), policyExportCommand(),
		policySuggestCommand(), policyTightenCommand(),
	)
	return c
}

// report prints findings, and ends the command if there is an error among them.
func report(c *cobra.Command, found document.Diagnostics) error {
	if err := printDiagnostics(c.ErrOrStderr(), found); err != nil {
		return err
	}
	if found.HasErrors() {
		return errFound
	}
	return nil
}

func printDiagnostics(w io.Writer, found document.Diagnostics) error {
	for _, d := range found {
		if _, err := fmt.Fprintln(w, d); err != nil {
			return err
		}
	}
	return nil
}

// readInput reads a file, or standard input for "-".
func readInput(c *cobra.Command, name string) ([]byte, error) { return readUpTo(c, name, maxInput) }

// readUpTo is readInput with another bound.
func readUpTo(c *cobra.Command, name string, most int64) ([]byte, error) {
	in := c.InOrStdin()
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // read only
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, most+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("reading %s: larger than %d bytes", name, most)
	}
	return data, nil
}
