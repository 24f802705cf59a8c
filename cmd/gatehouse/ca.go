package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/internal/ownca"
	"github.com/gatehouse-dev/gatehouse/server"
)

func caCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "ca",
		Short: "See, and replace, the CA of a gate that was given no certificate",
		Args:  cobra.ArbitraryArgs,
		RunE:  runGroup,
	}
	c.AddCommand(caShowCommand(), caRotateCommand())
	return c
}

func caShowCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "show --data DIR",
		Short: "Show the roots that API servers are to trust, and which of them issues",
		Long: `Show the roots in DATA/tls/ca.crt, which API servers are given as caBundle, and which
of them issues the webhook's certificates. There are two while a root is replaced.`,
		Example: `  gatehouse ca show --data ./data
  gatehouse ca show --ca-dir /etc/gatehouse/ca --output json`,
		Args: cobra.NoArgs,
	}
	dir, output := caFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		at, err := dir()
		if err != nil {
			return err
		}
		status, err := ownca.Show(at, time.Now())
		if err != nil {
			return err
		}
		return printAuthority(c.OutOrStdout(), *output, status)
	}
	return c
}

func caRotateCommand() *cobra.Command {
	var overlap time.Duration
	c := &cobra.Command{
		Use:   "rotate --data DIR",
		Short: "Replace the root now, and not a year before its end",
		Long: `Put a new root into DATA/tls/ca.crt beside the one that issues. Gates that use the
folder see it within a second, and need no restart. After --overlap they issue by the
new root, and after as long again the old one leaves ca.crt.

Give the API servers the new ca.crt meanwhile. Whoever has only the old root goes on to
be served until that root ends, since it has signed the new one; but whoever has its
key could be a gate to him as well, so after a leak give it to all.`,
		Example: `  gatehouse ca rotate --data ./data
  gatehouse ca rotate --data ./data --overlap 10m`,
		Args: cobra.NoArgs,
	}
	dir, output := caFlags(c)
	c.Flags().DurationVar(&overlap, "overlap", ownca.DefaultOverlap, "how long API servers have to be given the new ca.crt before it issues")
	c.RunE = func(c *cobra.Command, _ []string) error {
		at, err := dir()
		if err != nil {
			return err
		}
		status, err := ownca.Rotate(at, time.Now(), overlap)
		if err != nil {
			return fmt.Errorf("replacing the root: %w", err)
		}
		return printAuthority(c.OutOrStdout(), *output, status)
	}
	return c
}

// caFlags adds the flags that say where a CA is.
func caFlags(c *cobra.Command) (dir func() (string, error), output *format) {
	var data, caDir string
	c.Flags().StringVar(&data, "data", "", "data folder of the gate")
	c.Flags().StringVar(&caDir, "ca-dir", "", "folder of the CA (default: tls in the data folder)")
	return func() (string, error) {
		switch {
		case caDir != "":
			return caDir, nil
		case data != "":
			return server.CADir(data), nil
		}
		return "", errors.New("no folder: give --data DIR, or --ca-dir DIR")
	}, outputFlag(c)
}

func printAuthority(to io.Writer, output format, s ownca.Status) error {
	if output == formatJSON {
		return printJSON(to, s)
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "ROOT\tSTATE\tIN CA.CRT SINCE\tISSUES FROM\tENDS") // Flush tells
	for _, r := range s.Roots {
		_, _ = fmt.Fprintf(w, "%.16s\t%s\t%s\t%s\t%s\n", r.Fingerprint, r.State, minute(r.Published), minute(r.Issues), minute(r.Ends))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	text := fmt.Sprintf("give API servers %s\n", s.Bundle)
	if !s.BundleCurrent {
		text = fmt.Sprintf("%s is not what it should be; a gate that runs, or gatehouse ca rotate, mends it\n", s.Bundle)
	}
	_, err := io.WriteString(to, text)
	return err
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02T15:04Z") }
