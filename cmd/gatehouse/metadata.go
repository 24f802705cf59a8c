package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gatehouse-dev/gatehouse/cmd/internal/terminal"
	"github.com/gatehouse-dev/gatehouse/metadata/transfer"
)

func metadataCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "metadata",
		Short: "Move what a Grafeas server keeps",
		Args:  cobra.ArbitraryArgs,
		RunE:  runGroup,
	}
	c.AddCommand(exportCommand(), importCommand())
	return c
}

// transferFlags are those that export and import share.
type transferFlags struct {
	server  transfer.Server
	version string
	timeout time.Duration
	quiet   bool
	output  *format
}

func (t *transferFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&t.server.Address, "server", os.Getenv(envPrefix+"METADATA"), "HOST:PORT of the server's gRPC API (required); "+envPrefix+"METADATA sets the default")
	f.StringVar(&t.version, "api", string(transfer.Auto), "version of the API: v1, v1beta1, or auto for what the server serves")
	connectionFlags(f, &t.server)
	f.DurationVar(&t.timeout, "timeout", transfer.DefaultTimeout, "how long to wait for one answer")
	f.BoolVarP(&t.quiet, "quiet", "q", false, "show no progress")
	t.output = outputFlag(c)
}

// connectionFlags say how to get into a server.
func connectionFlags(f *pflag.FlagSet, s *transfer.Server) {
	f.BoolVar(&s.TLS, "tls", false, "use TLS; the files below imply it")
	f.StringVar(&s.CAFile, "ca-file", "", "certificates that the server's must be issued by (PEM)")
	f.StringVar(&s.CertFile, "cert-file", "", "certificate to present to the server (PEM)")
	f.StringVar(&s.KeyFile, "key-file", "", "key of --cert-file (PEM)")
	f.StringVar(&s.TokenFile, "token-file", "", "file with a bearer token")
	f.StringVar(&s.User, "user", "", "user name, if the server asks for one")
	f.StringVar(&s.PasswordFile, "password-file", "", "file with the password of --user")
	f.BoolVar(&s.InsecurePlaintext, "insecure-plaintext", false, "talk to another machine without TLS; tokens and passwords too")
}

// check refuses what the flags cannot mean.
func (t *transferFlags) check() error {
	if t.server.Address == "" {
		return errors.New("which server? give --server HOST:PORT")
	}
	switch transfer.Version(t.version) {
	case transfer.Auto, transfer.V1, transfer.V1Beta1:
		return nil
	}
	return fmt.Errorf("--api %q: want auto, v1 or v1beta1", t.version)
}

func exportCommand() *cobra.Command {
	var t transferFlags
	var opts transfer.ExportOptions
	c := &cobra.Command{
		Use:   "export FILE --server HOST:PORT",
		Short: "Write a Grafeas server's projects, notes and occurrences to a file",
		Long: `Write what a Grafeas server keeps to a file of JSON lines, for "gatehouse metadata
import". The server may be Gatehouse, Grafeas's own, or any other that serves Grafeas
v1 or v1beta1 over gRPC. Each message is written in the version that holds all of it.

While it runs, the file is called FILE.part, with its position in FILE.part-state.
After an interruption the same command goes on from there; --restart drops both. With
- for FILE it writes to standard output, and cannot go on.

It reads without a snapshot: stop who writes and deletes, or what changes meanwhile
may be missing. Projects that were never created are not listed, and locations never
are: name those with --project. A server whose list repeats itself is an error, since
the same fault leaves rows out; Grafeas's own server on PostgreSQL is known for it.
--salvage walks each list until two walks in a row bring nothing new.

Exit status: 0 all is in the file, 2 not so.`,
		Example: `  gatehouse metadata export grafeas.jsonl --server localhost:8080
  gatehouse metadata export - --server grafeas.example:443 --tls --token-file token --project shop --project shop/locations/eu`,
		Args: cobra.ExactArgs(1),
	}
	t.add(c)
	f := c.Flags()
	f.StringArrayVar(&opts.Projects, "project", nil, "project to export, P or P/locations/L; may be repeated (default: all that the server lists)")
	f.Int32Var(&opts.PageSize, "page-size", transfer.DefaultPageSize, "rows to ask for at a time")
	f.BoolVar(&opts.Salvage, "salvage", false, "read from a server whose paging does not work")
	f.BoolVar(&opts.Restart, "restart", false, "drop what an interrupted export has left")
	f.BoolVar(&opts.Overwrite, "overwrite", false, "replace FILE when the export is complete")
	c.RunE = func(c *cobra.Command, args []string) error { return runExport(c, &t, opts, args[0]) }
	return c
}

func runExport(c *cobra.Command, t *transferFlags, opts transfer.ExportOptions, file string) error {
	if err := t.check(); err != nil {
		return err
	}
	conn, err := t.server.Connect()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is under way any more
	opts.Source, opts.Version, opts.Timeout = t.server.Address, transfer.Version(t.version), t.timeout
	meter := terminal.NewMeter(c.ErrOrStderr(), t.quiet)
	opts.Progress = func(n transfer.Totals) {
		meter.Show(n.All(), "%d projects, %d notes, %d occurrences", n.Projects, n.Notes, n.Occurrences)
	}
	if file == "-" {
		// Standard output is the file: what there is to say goes to standard error.
		result, err := transfer.ExportTo(c.Context(), conn, c.OutOrStdout(), opts)
		meter.End()
		if err != nil {
			return err
		}
		return printExport(c.ErrOrStderr(), result, *t.output)
	}
	result, err := transfer.Export(c.Context(), conn, file, opts)
	meter.End()
	if err != nil {
		return err
	}
	return printExport(c.OutOrStdout(), result, *t.output)
}

func printExport(w io.Writer, r transfer.ExportResult, f format) error {
	if f == formatJSON {
		return printJSON(w, r)
	}
	_, err := fmt.Fprintf(w, "exported %d projects, %d notes and %d occurrences of %s to %s\n", r.Projects, r.Notes, r.Occurrences, r.Source, r.File)
	return errors.Join(err, printWarnings(w, r.Warnings))
}

func printWarnings(w io.Writer, warnings []string) error {
	for _, text := range warnings {
		if _, err := fmt.Fprintf(w, "warning: %s\n", printable(text)); err != nil {
			return err
		}
	}
	return nil
}
