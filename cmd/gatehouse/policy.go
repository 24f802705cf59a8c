package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/gatehouse-dev/gatehouse/policy/document"
)

// maxInput bounds a file that a command reads.
const maxInput = 64 << 20

func policyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Check, try out and explain policies",
		Args:  cobra.ArbitraryArgs,
		RunE:  runGroup,
	}
	c.AddCommand(
		policyLintCommand(), policyExplainCommand(), policyDecideCommand(), policyMatchCommand(), policyTestCommand(), policyFmtCommand(),
		policyHistoryCommand(), policyRollbackCommand(), policyPushCommand(), policyPullCommand(), policyImportCommand(), policyExportCommand(),
	)
	return c
}

// report prints findings, and ends the command if there is an error among them.
func report(c *cobra.Command, found document.Diagnostics) error {
	if err := printDiagnostics(c.ErrOrStderr(), found); err != nil {
		return err
	}
	if found.HasErrors() {
		return errFound
	}
	return nil
}

// parseOccurrences reads a list of occurrences: a JSON or YAML array, an object
// with a field "occurrences" as the API's list answers, or one occurrence.
func parseOccurrences(data []byte) ([]*grafeas.Occurrence, error) {
	var doc any
	if err := yaml.Unmarshal(data, &doc); err != nil { // JSON is YAML
		return nil, err
	}
	if m, ok := doc.(map[string]any); ok {
		list, ok := m["occurrences"]
		if !ok {
			list = []any{m}
		}
		doc = list
	}
	list, ok := doc.([]any)
	if !ok && doc != nil {
		return nil, errors.New(`want a list of occurrences, or an object with a field "occurrences"`)
	}
	occurrences := make([]*grafeas.Occurrence, 0, len(list))
	for i, item := range list {
		raw, err := json.Marshal(item)
		if err != nil {
			return nil, fmt.Errorf("occurrence %d: %w", i, err)
		}
		o := new(grafeas.Occurrence)
		if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, o); err != nil {
			return nil, fmt.Errorf("occurrence %d: %w", i, err)
		}
		if o.GetResourceUri() == "" || o.GetNoteName() == "" {
			return nil, fmt.Errorf("occurrence %d: it has no resourceUri or no noteName: is this a list of Grafeas v1 occurrences?", i)
		}
		occurrences = append(occurrences, o)
	}
	return occurrences, nil
}

func printDiagnostics(w io.Writer, found document.Diagnostics) error {
	for _, d := range found {
		if _, err := fmt.Fprintln(w, d); err != nil {
			return err
		}
	}
	return nil
}

// readInput reads a file, or standard input for "-".
func readInput(c *cobra.Command, name string) ([]byte, error) {
	in := c.InOrStdin()
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // read only
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(data) > maxInput {
		return nil, fmt.Errorf("reading %s: larger than %d bytes", name, maxInput)
	}
	return data, nil
}
