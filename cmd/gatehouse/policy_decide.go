package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/decide"
)

func policyDecideCommand() *cobra.Command {
	var in policyInput
	c := &cobra.Command{
		Use:   "decide --policy FILE [--attestors FILE] [--occurrences FILE] OBJECT.yaml|REVIEW.json",
		Short: "Decide offline whether an object may run, and say why",
		Long: `Decide offline whether a Pod, a workload or an AdmissionReview (YAML or JSON; "-"
reads standard input) may run, and print the Decision as JSON with a verdict and
the reasons for each image. It is the document that the gate records for the same
facts, byte for byte. With --output text it is what the gate tells whoever is blocked.

Policies are Binary Authorization's, platform policies, or objects of Gatehouse or Kritis
(docs/kubernetes-kinds.md). With several, all must allow. Attestors are a list in the REST
JSON of Binary Authorization, occurrences a list in that of Grafeas v1:
docs/attest-by-hand.md has both. Without attestors nobody is trusted; without occurrences
nothing is attested. An object from a file is judged in its metadata.namespace.

Exit status: 0 allow, 1 deny, 2 error.`,
		Example: `  gatehouse policy decide --policy policy.yaml --attestors attestors.json --occurrences occurrences.json pod.yaml`,
		Args:    cobra.ExactArgs(1),
	}
	in.bind(c)
	output := formatJSON
	c.Flags().VarP(&output, "output", "o", "output format")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
	c.RunE = func(c *cobra.Command, args []string) error {
		request, err := readRequest(c, args[0], in.place)
		if err != nil {
			return err
		}
		_, decision, err := in.decide(c, request)
		if err != nil {
			return err
		}
		if output == formatJSON {
			err = printJSON(c.OutOrStdout(), decision)
		} else {
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s, %s\n%s", decision.Verdict, decision.Summary, told(decision))
		}
		if err != nil {
			return err
		}
		if !decision.Allowed {
			return errNo
		}
		return nil
	}
	return c
}

// told is what whoever is blocked is told.
func told(d decide.Decision) string {
	if text := decide.Message(d); text != "" {
		return text + "\n"
	}
	return ""
}
