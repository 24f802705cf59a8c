package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/attest"
)

func checksCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "checks",
		Short: "Say what the checks of an attestor prove, need and ask to be told",
		Args:  cobra.ArbitraryArgs,
		RunE:  runGroup,
	}
	c.AddCommand(checksListCommand(), checksExplainCommand())
	return c
}

func checksListCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List the checks there are",
		Long: `List the checks there are, with what each asks. What stands in capitals in a name, the
attestor's configuration says.

Exit status: 0 printed.`,
		Args: cobra.NoArgs,
	}
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		docs := attest.CheckDocs()
		if *output == formatJSON {
			return printJSON(c.OutOrStdout(), docs)
		}
		w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
		for _, d := range docs {
			if _, err := fmt.Fprintf(w, "%s\t%s\n", d.Name, d.Title); err != nil {
				return err
			}
		}
		return w.Flush()
	}
	return c
}

func checksExplainCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "explain CHECK",
		Short: "Explain a check: what it proves, needs, is told, and how to mend a failure",
		Long: `Explain a check: what an image that passes is known to be, what the check reads, the
keys of the attestor's configuration that it is told by, and what to do about each
failure.

Exit status: 0 printed, 1 there is no such check.`,
		Example: `  gatehouse checks explain snakeoil
  gatehouse checks explain is_acme --output json`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return checkNames(), cobra.ShellCompDirectiveNoFileComp
		},
	}
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		doc, ok := attest.FindCheckDoc(args[0])
		switch {
		case !ok:
			_, err := fmt.Fprintf(c.ErrOrStderr(), "gatehouse: there is no check %q; there are %s\n", printable(args[0]), strings.Join(checkNames(), ", "))
			if err != nil {
				return err
			}
			return errNo
		case *output == formatJSON:
			return printJSON(c.OutOrStdout(), doc)
		}
		return explainCheck(c.OutOrStdout(), doc)
	}
	return c
}

func checkNames() []string {
	var names []string
	for _, d := range attest.CheckDocs() {
		names = append(names, d.Name)
	}
	return names
}

// explainWidth is that of a terminal.
const explainWidth = 80

func explainCheck(w io.Writer, d attest.CheckDoc) error {
	var b strings.Builder
	wrapped := func(indent, text string) {
		for _, line := range wrap(text, explainWidth-len(indent)) {
			b.WriteString(indent + line + "\n")
		}
	}
	wrapped("", printable(d.Name)+": "+printable(d.Title))
	b.WriteString("\nProves\n")
	wrapped("  ", printable(d.Proves))
	b.WriteString("\nNeeds\n")
	for _, n := range d.Needs {
		wrapped("  ", n)
	}
	b.WriteString("\nSettings\n")
	for _, s := range d.Settings {
		b.WriteString("  " + printable(s.Key) + "\n")
		text := s.Text + " (has to be set)"
		if s.Default != "" {
			text = s.Text + " (default: " + s.Default + ")"
		}
		wrapped("      ", text)
	}
	b.WriteString("\nWhen it says\n")
	for _, f := range d.Fixes {
		wrapped("  ", f.Failure)
		wrapped("      ", f.Do)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// wrap breaks text into lines of so many characters, if its words allow.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case len([]rune(line))+1+len([]rune(word)) > width:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}
