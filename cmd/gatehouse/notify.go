package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/notify"
	"github.com/gatehouse-dev/gatehouse/notify/pager"
	"github.com/gatehouse-dev/gatehouse/server"
)

func notifyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "notify",
		Short: "Pagers and chats that are told of what must not stay unnoticed",
		Args:  cobra.ArbitraryArgs,
		RunE:  runGroup,
	}
	c.AddCommand(notifyTestCommand())
	return c
}

func notifyTestCommand() *cobra.Command {
	var configFile string
	var only []string
	c := &cobra.Command{
		Use:   "test --config FILE",
		Short: "Send a test message to each receiver",
		Long: `Send a test message to each receiver of the section notify of a server's
configuration, at the same time and past routes and outbox, and print which took it.
Somebody may be called: pagers make an alert of it, of severity info, that you have to
close there; Alertmanager's ends after five minutes.

Exit status: 0 all took it, 1 one did not, 2 could not tell.`,
		Example: `  gatehouse notify test --config gatehouse.yaml
  gatehouse notify test --config gatehouse.yaml --receiver oncall -o json`,
		Args: cobra.NoArgs,
	}
	output := outputFlag(c)
	c.Flags().StringVar(&configFile, "config", os.Getenv(envPrefix+"CONFIG"), "the server's configuration file (required)")
	c.Flags().StringSliceVar(&only, "receiver", nil, "only this receiver; may be repeated")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if configFile == "" {
			return errors.New("which receivers? give --config FILE, the configuration of the server")
		}
		cfg := server.DefaultConfig()
		if err := cfg.LoadFile(configFile); err != nil {
			return err
		}
		chosen, err := chooseReceivers(cfg.Notify, only)
		if err != nil {
			return fmt.Errorf("%s: %w", configFile, err)
		}
		tries := tryReceivers(c.Context(), chosen)
		if *output == formatJSON {
			err = printJSON(c.OutOrStdout(), tries)
		} else {
			err = printTries(c.OutOrStdout(), tries)
		}
		if err == nil && slices.ContainsFunc(tries, func(t receiverTry) bool { return !t.Delivered }) {
			return errNo
		}
		return err
	}
	return c
}

// chooseReceivers leaves those receivers that are named, or all.
func chooseReceivers(cfg pager.Config, only []string) ([]pager.Receiver, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return chosen("notify", "receiver", cfg.Receivers, only, func(r pager.Receiver) string { return r.Name })
}

// chosen returns those of a section that have one of the names, all of them without any; a
// name that there is not is an error.
func chosen[T any](section, what string, all []T, only []string, name func(T) string) ([]T, error) {
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: there are no %ss", section, what)
	}
	var names []string
	for _, item := range all {
		names = append(names, name(item))
	}
	for _, n := range only {
		if !slices.Contains(names, n) {
			return nil, fmt.Errorf("%s: there is no %s %q; there are %s", section, what, n, strings.Join(names, ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(item T) bool { return len(only) > 0 && !slices.Contains(only, name(item)) }), nil
}

// A receiverTry is what came of a test message.
type receiverTry struct {
	Receiver     string `json:"receiver"`
	Kind         string `json:"kind"`
	Delivered    bool   `json:"delivered"`
	Error        string `json:"error,omitempty"`
	Milliseconds int64  `json:"milliseconds"`
}

func tryReceivers(ctx context.Context, chosen []pager.Receiver) []receiverTry {
	tries := make([]receiverTry, len(chosen))
	done := make(chan struct{})
	for i, r := range chosen {
		go func() {
			tries[i] = tryReceiver(ctx, r)
			done <- struct{}{}
		}()
	}
	for range chosen {
		<-done
	}
	return tries
}

func tryReceiver(ctx context.Context, r pager.Receiver) receiverTry {
	start := time.Now()
	try := receiverTry{Receiver: r.Name, Kind: r.Kind()}
	alone := pager.Config{Receivers: []pager.Receiver{r}, Routes: []notify.Route{{Name: "test", Receivers: []string{r.Name}}}}
	opened, err := alone.Open()
	if err == nil {
		err = opened[r.Name].Send(ctx, notify.NewTestPage(r.Name, start))
	}
	if try.Delivered = err == nil; err != nil {
		try.Error = notify.Line(err.Error(), 500)
	}
	try.Milliseconds = time.Since(start).Milliseconds()
	return try
}

func printTries(w io.Writer, tries []receiverTry) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, t := range tries {
		result := fmt.Sprintf("delivered in %d ms", t.Milliseconds)
		if !t.Delivered {
			result = "failed: " + printable(t.Error)
		}
		if _, err := fmt.Fprintf(table, "%s\t%s\t%s\n", t.Receiver, t.Kind, result); err != nil {
			return err
		}
	}
	return table.Flush()
}
