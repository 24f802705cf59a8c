package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/audit"
)

// printCalls prints the calls to the metadata API that a server recorded.
func printCalls(c *cobra.Command, data string, filter audit.CallFilter, output format) error {
	found := false
	err := audit.QueryCalls(filepath.Join(data, "audit-api"), filter, func(call audit.Call) error {
		found = true
		if output == formatJSON {
			return json.NewEncoder(c.OutOrStdout()).Encode(call)
		}
		return printCall(c.OutOrStdout(), call)
	})
	if err == nil && !found {
		return errNo
	}
	return err
}

func printCall(w io.Writer, c audit.Call) error {
	caller := c.Caller
	if caller == "" {
		caller = "(anonymous)"
	}
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(printable(fmt.Sprintf(format, args...)) + "\n") }
	line("%s  %-17s  %s %s by %s from %s", c.Time.UTC().Format(time.RFC3339), c.Code, c.Method, c.Resource, caller, c.Origin)
	if c.Error != "" {
		line("    %s", c.Error)
	}
	if c.Omitted > 0 {
		line("    (before it %d calls were refused for coming too often)", c.Omitted)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// onlyOf refuses flags that are about another log: they would select nothing,
// or everything, without a word.
func onlyOf(c *cobra.Command, api, attestor bool) error {
	const decisions, calls, runs = "decisions", "calls", "requests to the attestor"
	printed := decisions
	switch {
	case api:
		printed = calls
	case attestor:
		printed = runs
	}
	about := map[string][]string{
		"method": {calls, runs}, "caller": {calls, runs}, "code": {calls}, "resource": {calls},
		"namespace": {decisions}, "image": {decisions, runs}, "verdict": {decisions}, "override": {decisions}, "break-glass": {decisions},
	}
	for _, name := range slices.Sorted(maps.Keys(about)) {
		of := about[name]
		if !c.Flags().Changed(name) || slices.Contains(of, printed) {
			continue
		}
		if printed == decisions {
			return fmt.Errorf("--%s is about calls: give --api too", name)
		}
		return fmt.Errorf("--%s is about %s, and these are %s", name, of[0], printed)
	}
	return nil
}

// printRuns prints what the attestor of a server was asked.
func printRuns(c *cobra.Command, data string, filter audit.RunFilter, output format) error {
	found := false
	err := audit.QueryRuns(filepath.Join(data, "audit-attestor"), filter, func(r audit.Run) error {
		found = true
		if output == formatJSON {
			return json.NewEncoder(c.OutOrStdout()).Encode(r)
		}
		return printRun(c.OutOrStdout(), r)
	})
	if err == nil && !found {
		return errNo
	}
	return err
}

func printRun(w io.Writer, r audit.Run) error {
	caller := r.Caller
	if caller == "" {
		caller = "(anonymous)"
	}
	verdict := "NO"
	switch {
	case r.Error != "":
		verdict = "REFUSED"
	case r.Success:
		verdict = "YES"
	}
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(printable(fmt.Sprintf(format, args...)) + "\n") }
	line("%s  %-7s  %-6s  %s of %s by %s from %s", r.Time.UTC().Format(time.RFC3339), verdict, r.Method, r.Name, r.Image, caller, r.Origin)
	if r.Error != "" {
		line("    %s", r.Error)
	}
	for _, c := range r.Results {
		attested := ""
		if c.Attested {
			attested = "attested"
		}
		line("    %-5s  %s  %s", c.Verdict, c.Check, strings.TrimSpace(c.Reason+" "+attested))
		for _, a := range c.Attestations {
			line("        %s signed by %s", a.Resource, a.KeyID)
		}
	}
	if r.Truncated {
		line("    (shortened: the record was too large)")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
