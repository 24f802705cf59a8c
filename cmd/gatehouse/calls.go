package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
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

// onlyOf refuses flags that are about the other log: they would select nothing,
// or everything, without a word.
func onlyOf(c *cobra.Command, api bool) error {
	of := map[bool][]string{
		true:  {"method", "caller", "code", "resource"},
		false: {"namespace", "image", "verdict", "override", "break-glass"},
	}
	for _, name := range of[!api] {
		if !c.Flags().Changed(name) {
			continue
		}
		if api {
			return fmt.Errorf("--%s is about decisions, and --api prints calls", name)
		}
		return fmt.Errorf("--%s is about calls: give --api too", name)
	}
	return nil
}
