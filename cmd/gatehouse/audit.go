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
	var api, attestor bool
	var calls audit.CallFilter
	c := &cobra.Command{
		Use:   "audit --data DIR",
		Short: "Print the recorded decisions, calls to the metadata API, or requests to the attestor, oldest first",
		Long: `Print the decisions that a server recorded in its data folder, oldest first, or with
--api the calls to its metadata API, or with --attestor the requests to its attestor and
what came of them, refused ones too. The server may be running.
With --output json each line is one whole record.

Exit status: 0 printed at least one record, 1 none selected, 2 could not read.`,
		Example: `  gatehouse audit --data DIR --break-glass
  gatehouse audit --data DIR --since 24h --verdict DENY --output json
  gatehouse audit --data DIR --api --code PERMISSION_DENIED
  gatehouse audit --data DIR --attestor --image shop/web`,
		Args: cobra.NoArgs,
	}
	c.AddCommand(auditTestCommand())
	output := outputFlag(c)
	f := c.Flags()
	f.StringVar(&data, "data", "", "the server's data folder (required)")
	f.StringVar(&since, "since", "", "only records since then: a duration (24h) or a time (RFC 3339)")
	f.StringVar(&filter.Namespace, "namespace", "", "only this namespace")
	f.StringVar(&filter.Image, "image", "", "only requests with an image whose text contains this; with --attestor too")
	f.StringVar(&filter.Verdict, "verdict", "", "only this verdict: ALLOW, DENY or INDETERMINATE")
	f.StringVar(&filter.Override, "override", "", "only this override: BREAK_GLASS, DRY_RUN, NO_POLICY, FAIL_OPEN or LAST_ALLOWED")
	f.BoolVar(&filter.BreakGlass, "break-glass", false, "only requests that carried a break-glass marker, needed or not")
	f.BoolVar(&api, "api", false, "calls to the metadata API instead of decisions")
	f.BoolVar(&attestor, "attestor", false, "requests to the attestor instead of decisions")
	f.StringVar(&calls.Method, "method", "", "with --api: only this method, such as CreateOccurrence; with --attestor: check or verify")
	f.StringVar(&calls.Caller, "caller", "", "with --api and --attestor: only this caller")
	f.StringVar(&calls.Code, "code", "", "with --api: only this outcome: OK, PERMISSION_DENIED, UNAUTHENTICATED, …")
	f.StringVar(&calls.Resource, "resource", "", "with --api: only calls about a resource whose name contains this")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if data == "" {
			return errors.New("which log? give --data DIR, the data folder of the server")
		}
		if api && attestor {
			return errors.New("--api and --attestor: give one of them")
		}
		err := onlyOf(c, api, attestor)
		if err != nil {
			return err
		}
		if filter.Since, err = parseSince(since, time.Now()); err != nil {
			return err
		}
		if api {
			calls.Since = filter.Since
			return printCalls(c, data, calls, *output)
		}
		if attestor {
			return printRuns(c, data, audit.RunFilter{Since: filter.Since, Method: calls.Method, Caller: calls.Caller, Image: filter.Image}, *output)
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
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(printable(fmt.Sprintf(format, args...)) + "\n") }
	verdict, override := "-", " "+r.Event
	if d := r.Decision; d != nil {
		verdict, override = d.Verdict.String(), ""
		if d.Override != "" {
			override = " overridden by " + string(d.Override)
		}
	}
	line("%s  %-5s%s  %s %s %s/%s by %s", r.Time.UTC().Format(time.RFC3339), verdict, override, r.Operation, r.Resource, r.Namespace, r.Name, r.User)
	if r.Error != "" {
		line("    %s", r.Error)
	}
	if d := r.Decision; d != nil {
		if d.BreakGlass != "" {
			line("    break-glass by %s, justified as %q", d.BreakGlass, d.Justification)
		}
		for _, img := range d.Images {
			line("    %-13s %s", img.Verdict, img.Image)
			for _, reason := range img.Reasons {
				line("        %s", reason.Message)
			}
		}
	}
	if r.Truncated {
		line("    (shortened: the record was too large)")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
