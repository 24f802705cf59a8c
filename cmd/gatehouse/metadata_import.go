package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/cmd/internal/terminal"
	"github.com/gatehouse-dev/gatehouse/metadata/transfer"
)

// maxShown is how many refusals are shown one by one.
const maxShown = 20

func importCommand() *cobra.Command {
	var t transferFlags
	var opts transfer.ImportOptions
	var conflict string
	c := &cobra.Command{
		Use:   "import FILE --server HOST:PORT",
		Short: "Create on a Grafeas server what an export has written",
		Long: `Create on a Grafeas server the projects, notes and occurrences of a file that "gatehouse
metadata export" has written. The whole file is checked before anything is sent.

What the API cannot set is lost: occurrences get new names, and both get the times of
the import. Notes keep their names, occurrences their order within a project. To keep
the old names and times, keep the file. Access policies are not exported.

Nothing is created twice. The position is kept in --state, so that the same command
goes on after an interruption, and does nothing after the end; what was on its way is
looked for on the server first. Notes that exist are compared, and attestations that
exist are left alone. Without the state, --skip-existing compares all occurrences.

What the server refuses is shown, and written to --rejects as a file to import when
the cause is mended. An occurrence whose note is missing is refused: import the
project of the note first, or both from one file.

Exit status: 0 all is there, 1 some was refused, 2 could not go on.`,
		Example: `  gatehouse metadata import grafeas.jsonl --server localhost:8080 --rejects refused.jsonl
  gatehouse metadata import grafeas.jsonl --server gatehouse.example:443 --ca-file ca.pem --token-file token`,
		Args: cobra.ExactArgs(1),
	}
	t.add(c)
	f := c.Flags()
	f.StringVar(&opts.StateFile, "state", "", "file with the position (default: FILE.import-state)")
	f.StringVar(&opts.RejectsFile, "rejects", "", "file for what the server refuses")
	f.StringVar(&conflict, "on-conflict", string(transfer.SkipConflict), "a note that exists with other content: skip (refuse it), fail, or update")
	f.Int64Var(&opts.MaxErrors, "max-errors", 100, "stop when the server has refused this many; 0 never stops")
	f.BoolVar(&opts.AllowTruncated, "allow-truncated", false, "import a file that is cut off, as far as it goes")
	f.BoolVar(&opts.SkipExisting, "skip-existing", false, "leave out occurrences that the server has with the same content")
	c.RunE = func(c *cobra.Command, args []string) error {
		opts.OnConflict = transfer.Conflict(conflict)
		return runImport(c, &t, opts, args[0])
	}
	return c
}

func runImport(c *cobra.Command, t *transferFlags, opts transfer.ImportOptions, file string) error {
	if err := t.check(); err != nil {
		return err
	}
	switch opts.OnConflict {
	case transfer.SkipConflict, transfer.FailConflict, transfer.UpdateConflict:
	default:
		return fmt.Errorf("--on-conflict %q: want skip, fail or update", opts.OnConflict)
	}
	conn, err := t.server.Connect()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // nothing is under way any more
	opts.Target, opts.Version, opts.Timeout = t.server.Address, transfer.Version(t.version), t.timeout
	meter := terminal.NewMeter(c.ErrOrStderr(), t.quiet)
	opts.Progress = func(done, of int) { meter.Show(int64(done), "%d of %d", done, of) }
	shown := 0
	opts.Refused = func(line int, name, reason string) {
		if shown++; shown <= maxShown {
			meter.Say("line %d: %s: %s", line, printable(name), printable(reason))
		}
	}
	result, err := transfer.Import(c.Context(), conn, file, opts)
	meter.End()
	if shown > maxShown {
		meter.Say("and %d more", shown-maxShown)
	}
	if err != nil {
		return err
	}
	if err := printImport(c.OutOrStdout(), result, *t.output); err != nil {
		return err
	}
	if result.Refused() > 0 {
		return errNo
	}
	return nil
}

func printImport(w io.Writer, r transfer.ImportResult, f format) error {
	if f == formatJSON {
		return printJSON(w, r)
	}
	var err error
	for _, of := range []struct {
		what string
		n    transfer.Outcomes
	}{{"projects", r.Projects}, {"notes", r.Notes}, {"occurrences", r.Occurrences}} {
		_, failed := fmt.Fprintf(w, "%-12s %d created, %d there already, %d updated, %d refused\n", of.what, of.n.Created, of.n.Existing, of.n.Updated, of.n.Refused)
		err = errors.Join(err, failed)
	}
	return errors.Join(err, printWarnings(w, r.Warnings))
}
