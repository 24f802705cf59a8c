package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/audit/deliver"
	"github.com/gatehouse-dev/gatehouse/audit/sink"
	"github.com/gatehouse-dev/gatehouse/notify"
	"github.com/gatehouse-dev/gatehouse/server"
)

func auditTestCommand() *cobra.Command {
	var configFile string
	var only []string
	c := &cobra.Command{
		Use:   "test --config FILE",
		Short: "Send a test record to each audit sink",
		Long: `Send one record, with the event "test", to each sink of audit.sinks in a server's
configuration, past its filters and its place in the log, and print which took it.
Syslog does not answer: there it says that the message could be sent.

Exit status: 0 all took it, 1 one did not, 2 could not tell.`,
		Example: `  gatehouse audit test --config gatehouse.yaml
  gatehouse audit test --config gatehouse.yaml --sink siem -o json`,
		Args: cobra.NoArgs,
	}
	output := outputFlag(c)
	c.Flags().StringVar(&configFile, "config", os.Getenv(envPrefix+"CONFIG"), "the server's configuration file (required)")
	c.Flags().StringSliceVar(&only, "sink", nil, "only this sink; may be repeated")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if configFile == "" {
			return errors.New("which sinks? give --config FILE, the configuration of the server")
		}
		cfg := server.DefaultConfig()
		if err := cfg.LoadFile(configFile); err != nil {
			return err
		}
		chosen, err := chooseSinks(cfg.Audit.Sinks, only)
		if err != nil {
			return fmt.Errorf("%s: %w", configFile, err)
		}
		options := cfg.SinkOptions(slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil)))
		options.Stdout = c.OutOrStdout()
		var tries []sinkTry
		for i := range chosen {
			tries = append(tries, trySink(c.Context(), &chosen[i], options))
		}
		if *output == formatJSON {
			err = printJSON(c.OutOrStdout(), tries)
		} else {
			err = printSinkTries(c.OutOrStdout(), tries)
		}
		if err == nil && slices.ContainsFunc(tries, func(t sinkTry) bool { return !t.Delivered }) {
			return errNo
		}
		return err
	}
	return c
}

// chooseSinks leaves those sinks that are named, or all.
func chooseSinks(all []sink.Config, only []string) ([]sink.Config, error) {
	if err := sink.Validate(all); err != nil {
		return nil, err
	}
	return chosen("audit.sinks", "sink", all, only, func(c sink.Config) string { return c.Name })
}

// A sinkTry is what came of a test record.
type sinkTry struct {
	Sink         string `json:"sink"`
	Kind         string `json:"kind"`
	Record       string `json:"record"`
	Delivered    bool   `json:"delivered"`
	Error        string `json:"error,omitempty"`
	Milliseconds int64  `json:"milliseconds"`
}

func trySink(ctx context.Context, c *sink.Config, options sink.Options) sinkTry {
	start := time.Now()
	try := sinkTry{Sink: c.Name, Kind: c.Kind()}
	err := func() error {
		e, err := deliver.NewTest(start)
		if err != nil {
			return err
		}
		try.Record = e.ID
		s, err := c.Open(options)
		if err != nil {
			return err
		}
		timeout := c.Timeout
		if timeout == 0 {
			timeout = deliver.DefaultTimeout
		}
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return errors.Join(s.Send(ctx, []deliver.Entry{e}), s.Close())
	}()
	if try.Delivered = err == nil; err != nil {
		try.Error = notify.Line(err.Error(), 500)
	}
	try.Milliseconds = time.Since(start).Milliseconds()
	return try
}

func printSinkTries(w io.Writer, tries []sinkTry) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, t := range tries {
		result := fmt.Sprintf("delivered %s in %d ms", t.Record, t.Milliseconds)
		if !t.Delivered {
			result = "failed: " + printable(t.Error)
		}
		if _, err := fmt.Fprintf(table, "%s\t%s\t%s\n", t.Sink, t.Kind, result); err != nil {
			return err
		}
	}
	return table.Flush()
}
