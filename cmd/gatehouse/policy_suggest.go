package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
	"github.com/gatehouse-dev/gatehouse/policy/bundle"
	"github.com/gatehouse-dev/gatehouse/policy/suggest"
)

func policySuggestCommand() *cobra.Command {
	var in seenInput
	var options suggest.Options
	var dryRun, onlyPatterns bool
	var keep string
	wildcards := suggest.ReachTree.String()
	c := &cobra.Command{
		Use:   "suggest [--data DIR] [--from-cluster] [MANIFEST|DIR|-...]",
		Short: "Propose a policy that lets in what runs",
		Long: `Propose the smallest policy of Binary Authorization that lets in the images of
manifests (files, folders, "-" for standard input), of a cluster, and of recorded
decisions, together. It is printed with what each pattern lets in besides, and has
been tried on all of them.

Images that attestors of --attestors have attested, by --occurrences or the service
at --metadata, are let in by attestation: required are those attestors who attested
all of them. For the rest there are patterns, the cheapest together: a wildcard costs
the more, the more it lets in that was not seen. None stands directly behind the host
of a registry. With --keep a policy's own rules and patterns stay, and only what they
do not let in gets patterns.

Of recorded decisions, what was let in counts, but not by break-glass; what was
denied is told with the patterns that would let it in.

Exit status: 0 the proposal lets in every image, 1 some it cannot, 2 error.`,
		Example: `  gatehouse policy suggest k8s/ > policy.yaml
  kubectl get pods -A -o json | gatehouse policy suggest --wildcards tag -
  gatehouse policy suggest --from-cluster --attestors attestors.json --metadata 127.0.0.1:8080
  gatehouse policy suggest --data DIR --since 168h --keep policy.yaml`,
		Args: cobra.ArbitraryArgs,
	}
	in.bind(c)
	f := c.Flags()
	f.StringVar(&wildcards, "wildcards", wildcards, "how far patterns may reach: "+strings.Join(suggest.ReachWords(), ", "))
	f.IntVar(&options.MaxPatterns, "max-patterns", 0, "at most so many patterns, with those that are kept (default: no bound)")
	f.StringVar(&keep, "keep", "", "policy to start from")
	f.BoolVar(&dryRun, "dry-run", false, "propose a rule that records what it would deny, and lets it in")
	f.BoolVar(&onlyPatterns, "patterns", false, "print only the patterns, one a line")
	_ = c.RegisterFlagCompletionFunc("wildcards", cobra.FixedCompletions(suggest.ReachWords(), cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
	_ = c.MarkFlagFilename("keep", "yaml", "yml", "json")                                                                           // as above
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		var err error
		if options.Wildcards, err = suggest.ParseReach(wildcards); err != nil {
			return fmt.Errorf("--wildcards %w", err)
		}
		switch {
		case f.Changed("max-patterns") && options.MaxPatterns < 1:
			return fmt.Errorf("--max-patterns %d: want a number above 0", options.MaxPatterns)
		case onlyPatterns && *output == formatJSON:
			return errors.New("--patterns prints lines; --output json has the patterns in any case")
		case keep != "" && dryRun:
			return errors.New("--keep keeps the rules as they are, and --dry-run is about a new one; give one of them")
		}
		input := suggest.Input{Options: options, DryRun: dryRun}
		if keep != "" {
			if input.Keep, input.KeepText, err = readBinauthz(c, keep); err != nil {
				return err
			}
		}
		if input.World, err = in.world(c, args); err != nil {
			return err
		}
		if input.Keep != nil {
			if err := in.checkPlace(input.Keep, c); err != nil {
				return err
			}
		}
		p, err := suggest.Propose(input)
		if err != nil {
			return fmt.Errorf("proposing a policy: %w", err)
		}
		if err := printProposal(c, p, *output, onlyPatterns, onlyPatterns || keep != ""); err != nil {
			return err
		}
		if len(p.Left) > 0 {
			return errNo
		}
		return nil
	}
	return c
}

// readBinauthz reads one policy of Binary Authorization.
func readBinauthz(c *cobra.Command, name string) (*binauthz.Policy, []byte, error) {
	data, err := readInput(c, name)
	if err != nil {
		return nil, nil, err
	}
	var object struct{ Kind string }
	_ = yaml.Unmarshal(data, &object) // the parser says what is wrong with it
	if object.Kind != "" || bundle.SortOf(data) != bundle.BinauthzPolicy {
		return nil, nil, fmt.Errorf("%s is no policy of Binary Authorization, which is the language that has admissionWhitelistPatterns", name)
	}
	p, found := binauthz.ParsePolicy(name, data)
	if p == nil { // of warnings 'gatehouse policy lint' tells
		return nil, nil, report(c, found)
	}
	return p, data, nil
}

// checkPlace refuses rules that depend on what was not said, and warns of those that
// depend on what is not recorded.
func (in *seenInput) checkPlace(p *binauthz.Policy, c *cobra.Command) error {
	rules, _ := p.Compile(nil)
	byAccount := slices.ContainsFunc(rules.Rules, func(r policy.Rule) bool { return r.Scope.ServiceAccount != "" || r.Scope.IstioIdentity != "" })
	if in.data != "" && byAccount {
		_, err := fmt.Fprintln(c.ErrOrStderr(), "gatehouse: warning: the policy has rules by service account, which records do not tell: pods in records are taken for those of the account default")
		if err != nil {
			return err
		}
	}
	return (&policyInput{place: in.place}).checkPlace(c, policy.Set{rules})
}

func printProposal(c *cobra.Command, p *suggest.Proposal, output format, onlyPatterns, uncommented bool) error {
	out := c.OutOrStdout()
	switch {
	case output == formatJSON:
		content, err := rawPolicy(p.Text)
		if err != nil {
			return err
		}
		return printJSON(out, struct {
			*suggest.Proposal
			Policy json.RawMessage `json:"policy"`
		}{p, content})
	case onlyPatterns:
		for i := range p.Patterns {
			if _, err := fmt.Fprintln(out, p.Patterns[i].Pattern); err != nil {
				return err
			}
		}
	default:
		if _, err := out.Write(p.Text); err != nil {
			return err
		}
	}
	return tellProposal(c, p, uncommented)
}

// tellProposal says on standard error what was found; of the patterns too, unless what
// was printed does.
func tellProposal(c *cobra.Command, p *suggest.Proposal, patterns bool) error {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(printable(fmt.Sprintf(format, args...)) + "\n") }
	line("%s seen, %d let in without a new pattern, %s for the rest", counted(p.Seen, "image", "images"), p.Already, counted(len(p.Patterns), "pattern", "patterns"))
	for i := range p.Patterns {
		q := &p.Patterns[i]
		if !patterns {
			break // the comments in it say the same
		}
		line("  %s: %s; also lets in: %s", q.Pattern, counted(len(q.Images), "image", "images"), q.AlsoAdmits)
		for _, w := range q.Careful() {
			line("    careful: %s", w)
		}
	}
	if len(p.Attestors) > 0 {
		line("attestations are required by %s", strings.Join(p.Attestors, ", "))
	}
	for i, partly := range p.Partly {
		if i == maxUnheard {
			line("and %d more images that only some of the attestors have attested", len(p.Partly)-i)
			break
		}
		line("%s is attested by %s, and not by all of those; a pattern lets it in", partly.Image, strings.Join(partly.By, ", "))
	}
	for _, text := range p.Superseded {
		line("pattern %s is taken out: a new one includes it", text)
	}
	if len(p.Left) > 0 {
		line("%s the proposal cannot let in:", counted(len(p.Left), "image", "images"))
	}
	if _, err := fmt.Fprint(c.ErrOrStderr(), b.String()); err != nil {
		return err
	}
	return printLeft(c, p.Left)
}
