package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/image"
)

func policyMatchCommand() *cobra.Command {
	dialects := map[string]func(string) (image.Pattern, error){
		"binauthz": image.ParseBinauthzPattern,
		"platform": image.ParsePlatformPattern,
		"kritis":   image.ParseKritisPattern,
	}
	var dialect string
	c := &cobra.Command{
		Use:   "match --dialect binauthz|platform|kritis PATTERN REFERENCE",
		Short: "Tell whether a name pattern covers an image reference",
		Long: `Tell whether a name pattern covers an image reference, as it would be written in a
pod. The pattern languages differ: binauthz is that of
admissionWhitelistPatterns, platform that of the allow patterns in platform policies,
kritis that of GenericAttestationPolicies.

Exit status: 0 match, 1 no match, 2 invalid pattern.`,
		Example: `  gatehouse policy match --dialect binauthz 'gcr.io/my-project/*' gcr.io/my-project/web:1.4`,
		Args:    cobra.ExactArgs(2),
	}
	c.Flags().StringVar(&dialect, "dialect", "binauthz", "pattern language: binauthz, platform or kritis")
	_ = c.RegisterFlagCompletionFunc("dialect", cobra.FixedCompletions([]string{"binauthz", "platform", "kritis"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		parse, ok := dialects[dialect]
		if !ok {
			return fmt.Errorf("--dialect %q: want binauthz, platform or kritis", dialect)
		}
		pattern, err := parse(args[0])
		if err != nil {
			return err
		}
		match := pattern.Match(args[1])
		if *output == formatJSON {
			err = printJSON(c.OutOrStdout(), map[string]any{"dialect": dialect, "pattern": args[0], "reference": args[1], "match": match})
		} else {
			_, err = fmt.Fprintln(c.OutOrStdout(), map[bool]string{true: "match", false: "no match"}[match])
		}
		if err == nil && !match {
			return errNo
		}
		return err
	}
	return c
}
