package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/policy/bundle"
	"github.com/gatehouse-dev/gatehouse/policy/document"
)

func policyLintCommand() *cobra.Command {
	var strict bool
	c := &cobra.Command{
		Use:   "lint [--strict] FILE...",
		Short: "Find what is wrong or dangerous in policies and attestors",
		Long: `Find what is wrong or dangerous in policies of any dialect and in attestors (YAML or
JSON; "-" reads standard input): what a file is, is told from its content. Given
together, policies are also checked against the attestors that they name.
Each finding is a line FILE:LINE: error|warning: MESSAGE.

Exit status: 2 if there is an error (with --strict also for a warning), else 0.`,
		Example: `  gatehouse policy lint --strict policy.yaml
  gatehouse policy lint policy.yaml attestors.json`,
		Args: cobra.MinimumNArgs(1),
	}
	c.Flags().BoolVar(&strict, "strict", false, "exit 2 on warnings too")
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		files, err := readFiles(c, args)
		if err != nil {
			return err
		}
		found := bundle.Lint(files, time.Now())
		if *output == formatJSON {
			if found == nil {
				found = document.Diagnostics{}
			}
			err = printJSON(c.OutOrStdout(), found)
		} else {
			err = printDiagnostics(c.OutOrStdout(), found)
		}
		if err == nil && (found.HasErrors() || (strict && len(found) > 0)) {
			return errFound
		}
		return err
	}
	return c
}
