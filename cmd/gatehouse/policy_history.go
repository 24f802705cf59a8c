package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/policy/admin/adminclient"
)

// documentFlag adds --of, which names a document other than the project's policy.
func documentFlag(c *cobra.Command) *string {
	return c.Flags().String("of", "", "name of another document, such as projects/p/attestors/a (default: the policy of --project)")
}

// documentName returns the name that the flags mean.
func (s *serviceFlags) documentName(of string) (string, error) {
	switch {
	case of == "":
		return s.policyName(), nil
	case !strings.HasPrefix(of, "projects/") && !strings.HasPrefix(of, "locations/"):
		return "", fmt.Errorf("--of %q: want a whole name, such as projects/%s/attestors/%s", of, s.project, of[strings.LastIndexByte(of, '/')+1:])
	}
	return of, nil
}

func (s *serviceFlags) policyName() string { return "projects/" + s.project + "/policy" }

func policyHistoryCommand() *cobra.Command {
	var service serviceFlags
	c := &cobra.Command{
		Use:   "history",
		Short: "Print every version of a policy: when, by whom, why",
		Long: `Print the versions of a policy that a running Gatehouse keeps, newest first: when each
was written, by whom and with which comment. With --output json each has its content.

Exit status: 0 printed at least one, 1 there is none, 2 could not tell.`,
		Example: `  gatehouse policy history --project shop
  gatehouse policy history --of projects/shop/attestors/qa --output json`,
		Args: cobra.NoArgs,
	}
	service.bind(c)
	of := documentFlag(c)
	limit := c.Flags().Int("limit", 0, "print at most this many; 0 is all")
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *limit < 0 {
			return fmt.Errorf("--limit %d: want 0 or more", *limit)
		}
		name, err := service.documentName(*of)
		if err != nil {
			return err
		}
		return service.run(c, func(ctx context.Context, client *adminclient.Client) error {
			revisions, err := client.Revisions(ctx, name, *limit)
			if err != nil {
				return err
			}
			return printRevisions(c, *output, revisions)
		})
	}
	return c
}

func printRevisions(c *cobra.Command, output format, revisions []adminclient.Revision) error {
	var err error
	if output == formatJSON {
		if revisions == nil {
			revisions = []adminclient.Revision{}
		}
		err = printJSON(c.OutOrStdout(), revisions)
	} else {
		w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
		for _, r := range revisions {
			what := r.ETag
			if r.Deleted {
				what = "(deleted)"
			}
			author := r.Author
			if author == "" {
				author = "(anonymous)"
			}
			_, failed := fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", r.Revision, r.CreateTime.UTC().Format(time.RFC3339), printable(author), printable(what), printable(r.Comment))
			err = errors.Join(err, failed)
		}
		err = errors.Join(err, w.Flush())
	}
	if err == nil && len(revisions) == 0 {
		return errNo
	}
	return err
}

func policyRollbackCommand() *cobra.Command {
	var service serviceFlags
	c := &cobra.Command{
		Use:   "rollback REVISION",
		Short: "Put an earlier version of a policy in force again",
		Long: `Make the content of an earlier version the newest one, as "gatehouse policy history"
numbers them. The version in between stays in the history. A version that is no longer
valid, since an attestor that it names is gone, is refused.

Exit status: 0 in force, 1 refused, 2 could not tell.`,
		Example: `  gatehouse policy rollback 7 --project shop --comment "incident 1234"`,
		Args:    cobra.ExactArgs(1),
	}
	service.bind(c)
	of := documentFlag(c)
	comment := c.Flags().String("comment", "", "why, for the history")
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		revision, err := strconv.ParseUint(args[0], 10, 64)
		if err != nil || revision == 0 {
			return fmt.Errorf("revision %q: want a number from 'gatehouse policy history'", args[0])
		}
		name, err := service.documentName(*of)
		if err != nil {
			return err
		}
		return service.run(c, func(ctx context.Context, client *adminclient.Client) error {
			content, err := client.Rollback(ctx, name, revision, *comment)
			if err != nil {
				return err
			}
			return written(c, *output, content, fmt.Sprintf("is as in revision %d again", revision))
		})
	}
	return c
}
