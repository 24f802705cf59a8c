package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/audit"
)

// changesOf says what a call changes of policy.
func changesOf(c audit.Call) []string {
	var list []string
	for _, e := range c.Changes {
		switch {
		case e.Access:
			list = append(list, "access policy of "+e.Name)
		case e.Version == "":
			list = append(list, fmt.Sprintf("%s, revision %d: deleted", e.Name, e.Revision))
		default:
			list = append(list, fmt.Sprintf("%s, revision %d: %s", e.Name, e.Revision, e.Version))
		}
	}
	return list
}

func printCall(w io.Writer, c audit.Call) error {
	caller := c.Caller
	if caller == "" {
		caller = "(anonymous)"
	}
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(printable(fmt.Sprintf(format, args...)) + "\n") }
	code := c.Code
	if c.Phase == audit.PhaseIntent {
		code = "INTENT"
	}
	line("%s  %-17s  %s %s by %s from %s", c.Time.UTC().Format(time.RFC3339), code, c.Method, c.Resource, caller, c.Origin)
	for _, change := range changesOf(c) {
		line("    %s", change)
	}
	if c.Phase == audit.PhaseIntent {
		line("    (about to change that; what became of it is on record with the same id, unless the process was killed)")
	}
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
		"id": {decisions}, "event": {decisions}, "cluster": {decisions}, "user": {decisions}, "policy": {decisions},
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
