package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/audit"
)

func auditCommand() *cobra.Command {
	var data, since string
	var filter audit.Filter
	c := &cobra.Command{
		Use:   "audit --data DIR",
		Short: "Print the recorded decisions, oldest first",
		Long: `Print the decisions that a server recorded in its data folder, oldest first. The
server may be running. With --output json each line is one whole record.

Exit status: 0 printed at least one record, 1 none selected, 2 could not read.`,
		Example: `  gatehouse audit --data DIR --break-glass
  gatehouse audit --data DIR --since 24h --verdict DENY --output json`,
		Args: cobra.NoArgs,
	}
	output := outputFlag(c)
	f := c.Flags()
	f.StringVar(&data, "data", "", "the server's data folder (required)")
	f.StringVar(&since, "since", "", "only records since then: a duration (24h) or a time (RFC 3339)")
	f.StringVar(&filter.Namespace, "namespace", "", "only this namespace")
	f.StringVar(&filter.Image, "image", "", "only requests with an image whose text contains this")
	f.StringVar(&filter.Verdict, "verdict", "", "only this verdict: ALLOW, DENY or INDETERMINATE")
	f.StringVar(&filter.Override, "override", "", "only this override: BREAK_GLASS, DRY_RUN, NO_POLICY or FAIL_OPEN")
	f.BoolVar(&filter.BreakGlass, "break-glass", false, "only requests that carried a break-glass marker, needed or not")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if data == "" {
			return errors.New("which log? give --data DIR, the data folder of the server")
		}
		var err error
		if filter.Since, err = parseSince(since, time.Now()); err != nil {
			return err
		}
		filter.Verdict, filter.Override = strings.ToUpper(filter.Verdict), strings.ToUpper(filter.Override)
		found := false
		err = audit.Query(filepath.Join(data, "audit"), filter, func(r audit.Record) error {
			found = true
			if *output == formatJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(r)
			}
			return printRecord(c.OutOrStdout(), r)
		})
		if err == nil && !found {
			return errNo
		}
		return err
	}
	return c
}

func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("--since %q: want a duration such as 24h, or a time such as 2026-01-02T15:04:05Z", s)
	}
	return t, nil
}

func printRecord(w io.Writer, r audit.Record) error {
	verdict, override := "-", ""
	if r.Decision != nil {
		verdict = r.Decision.Verdict.String()
		if r.Decision.Override != "" {
			override = " overridden by " + string(r.Decision.Override)
		}
	} else {
		override = " " + r.Event
	}
	_, err := fmt.Fprintf(w, "%s  %-5s%s  %s %s %s/%s by %s\n", r.Time.UTC().Format(time.RFC3339), verdict, override,
		printable(r.Operation), printable(r.Resource), printable(r.Namespace), printable(r.Name), printable(r.User))
	if err != nil || r.Decision == nil {
		return err
	}
	for _, img := range r.Decision.Images {
		if _, err := fmt.Fprintf(w, "    %-13s %s\n", img.Verdict, printable(img.Image)); err != nil {
			return err
		}
		for _, reason := range img.Reasons {
			if _, err := fmt.Fprintf(w, "        %s\n", printable(reason.Message)); err != nil {
				return err
			}
		}
	}
	return nil
}
