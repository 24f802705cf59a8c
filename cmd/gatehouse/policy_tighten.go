package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/policy/suggest"
)

func policyTightenCommand() *cobra.Command {
	var in seenInput
	var file string
	var write bool
	narrow := "name"
	c := &cobra.Command{
		Use:   "tighten -p FILE [--data DIR] [--from-cluster] [MANIFEST|DIR|-...]",
		Short: "Name what a policy no longer needs for what runs",
		Long: `Name the patterns of a Binary Authorization policy that no image needs of those in
manifests, a cluster and recorded decisions, as 'gatehouse policy suggest' reads them:
those that cover none, those whose images attestations let in by now, those that
another includes, and those that narrower ones could stand for. Rules that are for
nothing that was seen, and attestors that nothing needs, are named too. Each finding
is a line FILE:LINE: MESSAGE, and after them comes a diff; --write writes the file
instead, in the form of 'gatehouse policy fmt' and with its comments. Only patterns
are changed.

The tightened policy lets in every image that was seen and that the policy let in,
and nothing that the policy did not. What did not run while you looked is not seen:
rare jobs, and what you may want to roll back to.

--narrow name proposes no pattern narrower than all tags, or all digests, of one
image; exact proposes the texts that were seen; no proposes none.

Exit status: 0 nothing to do (with --write: nothing is left to do), 1 there is,
2 error, also when no image was seen that the policy lets in.`,
		Example: `  gatehouse policy tighten -p policy.yaml --from-cluster --data DIR --since 720h
  gatehouse policy tighten -p policy.yaml --write --attestors attestors.json --metadata 127.0.0.1:8080 k8s/`,
		Args: cobra.ArbitraryArgs,
	}
	in.bind(c)
	f := c.Flags()
	f.StringVarP(&file, "policy", "p", "", "the policy, of Binary Authorization (required)")
	f.BoolVarP(&write, "write", "w", false, "write the policy instead of printing a diff")
	f.StringVar(&narrow, "narrow", narrow, "how narrow proposed patterns may be: "+strings.Join(suggest.NarrowWords(), ", "))
	_ = c.MarkFlagFilename("policy", "yaml", "yml", "json")                                                                       // fails only for a flag that is not there
	_ = c.RegisterFlagCompletionFunc("narrow", cobra.FixedCompletions(suggest.NarrowWords(), cobra.ShellCompDirectiveNoFileComp)) // as above
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		how, err := suggest.ParseNarrow(narrow)
		switch {
		case err != nil:
			return fmt.Errorf("--narrow %w", err)
		case file == "":
			return errors.New("which policy? give --policy FILE")
		case file == "-" && write:
			return errors.New("standard input cannot be written")
		}
		p, text, err := readBinauthz(c, file)
		if err != nil {
			return err
		}
		w, err := in.world(c, args)
		if err != nil {
			return err
		}
		if err := in.checkPlace(p, c); err != nil {
			return err
		}
		t, err := suggest.Tighten(w, p, text, how)
		if errors.Is(err, suggest.ErrNothingSeen) {
			return errors.Join(printLeft(c, t.Left), err)
		}
		if err != nil {
			return fmt.Errorf("tightening %s: %w", file, err)
		}
		if write && t.Changed {
			if err := replaceFile(file, t.Text); err != nil {
				return err
			}
		}
		if err := printTightening(c, t, file, text, *output, write); err != nil {
			return err
		}
		return leftToDo(t, write)
	}
	return c
}

// leftToDo is errNo if somebody has something to do.
func leftToDo(t *suggest.Tightening, written bool) error {
	for _, f := range t.Findings {
		if !written || f.Kind == suggest.Rule || f.Kind == suggest.Attestor {
			return errNo
		}
	}
	return nil
}

func printTightening(c *cobra.Command, t *suggest.Tightening, file string, before []byte, output format, written bool) error {
	change := ""
	if t.Changed {
		change = string(diff.Diff(file, before, file+" (tightened)", t.Text))
	}
	if output == formatJSON {
		content, err := rawPolicy(t.Text)
		if err != nil {
			return err
		}
		return printJSON(c.OutOrStdout(), struct {
			*suggest.Tightening
			Written bool            `json:"written"`
			Diff    string          `json:"diff,omitempty"`
			Policy  json.RawMessage `json:"policy"`
		}{t, written && t.Changed, change, content})
	}
	var b strings.Builder
	for _, f := range t.Findings {
		b.WriteString(printable(f.String()) + "\n")
	}
	if !written && change != "" {
		b.WriteString("\n" + change)
	}
	if _, err := fmt.Fprint(c.OutOrStdout(), b.String()); err != nil {
		return err
	}
	if len(t.Left) == 0 {
		return nil
	}
	if _, err := fmt.Fprintf(c.ErrOrStderr(), "gatehouse: warning: %s the policy does not let in as it is; nothing is said of them:\n", counted(len(t.Left), "image was seen that", "images were seen that")); err != nil {
		return err
	}
	return printLeft(c, t.Left)
}
