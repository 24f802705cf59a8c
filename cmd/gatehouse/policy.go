package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
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
	c.AddCommand(policyLintCommand(), policyDecideCommand(), policyMatchCommand())
	return c
}

func policyMatchCommand() *cobra.Command {
	dialects := map[string]func(string) (image.Pattern, error){
		"binauthz": image.ParseBinauthzPattern,
		"platform": image.ParsePlatformPattern,
	}
	var dialect string
	c := &cobra.Command{
		Use:   "match --dialect binauthz|platform PATTERN REFERENCE",
		Short: "Tell whether a name pattern covers an image reference",
		Long: `Tell whether a name pattern covers an image reference, as it would be written in a
pod. The two pattern languages of Binary Authorization differ: binauthz is that of
admissionWhitelistPatterns, platform that of the allow patterns in platform policies.

Exit status: 0 match, 1 no match, 2 invalid pattern.`,
		Example: `  gatehouse policy match --dialect binauthz 'gcr.io/my-project/*' gcr.io/my-project/web:1.4`,
		Args:    cobra.ExactArgs(2),
	}
	c.Flags().StringVar(&dialect, "dialect", "binauthz", "pattern language: binauthz or platform")
	_ = c.RegisterFlagCompletionFunc("dialect", cobra.FixedCompletions([]string{"binauthz", "platform"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		parse, ok := dialects[dialect]
		if !ok {
			return fmt.Errorf("--dialect %q: want binauthz or platform", dialect)
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

func policyLintCommand() *cobra.Command {
	var strict bool
	c := &cobra.Command{
		Use:   "lint [--strict] FILE",
		Short: "Find what is wrong or dangerous in a policy",
		Long: `Find what is wrong or dangerous in a Binary Authorization policy (YAML or JSON, as
'gcloud container binauthz policy export' writes it; "-" reads standard input).
Each finding is a line FILE:LINE: error|warning: MESSAGE.

Exit status: 2 if there is an error (with --strict also for a warning), else 0.`,
		Example: `  gatehouse policy lint --strict policy.yaml`,
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().BoolVar(&strict, "strict", false, "exit 2 on warnings too")
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		data, err := readInput(c, args[0])
		if err != nil {
			return err
		}
		_, found := binauthz.ParsePolicy(args[0], data)
		if *output == formatJSON {
			if found == nil {
				found = binauthz.Diagnostics{}
			}
			err = printJSON(c.OutOrStdout(), found)
		} else {
			err = printDiagnostics(c.OutOrStdout(), found)
		}
		if err == nil && (found.HasErrors() || (strict && len(found) > 0)) {
			return errFound
		}
		return err
	}
	return c
}

func policyDecideCommand() *cobra.Command {
	var in offlineInput
	c := &cobra.Command{
		Use:   "decide --policy FILE [--attestors FILE] [--occurrences FILE] OBJECT.yaml|REVIEW.json",
		Short: "Decide offline whether an object may run, and say why",
		Long: `Decide offline whether a Pod, a workload or an AdmissionReview (YAML or JSON; "-"
reads standard input) may run, and print the Decision as JSON with a verdict and
the reasons for each image.

Attestors are a list in the REST JSON of Binary Authorization, occurrences a list
in that of Grafeas v1. Without attestors nobody is trusted; without occurrences
nothing is attested. An object from a file is judged in its metadata.namespace.

Exit status: 0 allow, 1 deny, 2 error.`,
		Example: `  gatehouse policy decide --policy policy.yaml --attestors attestors.json --occurrences occurrences.json pod.yaml`,
		Args:    cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.StringVar(&in.policy, "policy", "", "Binary Authorization policy file (required)")
	f.StringVar(&in.attestors, "attestors", "", "attestors file")
	f.StringVar(&in.occurrences, "occurrences", "", "occurrences file")
	f.StringVar(&in.place.Cluster, "cluster", "", "cluster to decide for, LOCATION.NAME")
	f.StringVar(&in.place.TrustDomain, "istio-trust-domain", "", "trust domain of the cluster's mesh, for rules that name Istio identities")
	c.RunE = func(c *cobra.Command, args []string) error {
		if in.policy == "" {
			return errors.New("which policy? give --policy FILE")
		}
		request, err := readRequest(c, args[0], in.place)
		if err != nil {
			return err
		}
		decision, err := in.decide(c, request)
		if err != nil {
			return err
		}
		if err := printJSON(c.OutOrStdout(), decision); err != nil {
			return err
		}
		if !decision.Allowed {
			return errNo
		}
		return nil
	}
	return c
}

func readRequest(c *cobra.Command, file string, place admission.Place) (decide.Request, error) {
	data, err := readInput(c, file)
	if err != nil {
		return decide.Request{}, err
	}
	r, err := admission.ReadRequest(data, place)
	if err != nil {
		return decide.Request{}, fmt.Errorf("reading %s: %w", file, err)
	}
	return r, nil
}

// offlineInput is what an offline decision rests on: files, and where it is for.
type offlineInput struct {
	policy, attestors, occurrences string
	place                          admission.Place
}

func (in offlineInput) decide(c *cobra.Command, request decide.Request) (decide.Decision, error) {
	attestors, err := in.readAttestors(c)
	if err != nil {
		return decide.Decision{}, err
	}
	rules, err := in.readPolicy(c, attestors)
	if err != nil {
		return decide.Decision{}, err
	}
	occurrences, err := in.readOccurrences(c)
	if err != nil {
		return decide.Decision{}, err
	}
	facts := index.FromOccurrences(occurrences, binauthz.KeysByNote(attestors), admission.References(request.Images))
	return decide.Decide(request, rules, facts, time.Now().UTC()), nil
}

func (in offlineInput) readPolicy(c *cobra.Command, attestors []binauthz.Attestor) (policy.Set, error) {
	data, err := readInput(c, in.policy)
	if err != nil {
		return nil, err
	}
	p, found := binauthz.ParsePolicy(in.policy, data)
	if found.HasErrors() {
		return nil, report(c, found)
	}
	rules, found := p.Compile(attestors)
	if err := report(c, found); err != nil {
		return nil, err
	}
	set := policy.Set{rules}
	return set, in.checkPlace(c, set)
}

// checkPlace refuses rules that depend on what was not said. Cluster rules are
// the exception: leaving out --cluster asks what holds in any other cluster.
func (in offlineInput) checkPlace(c *cobra.Command, rules policy.Set) error {
	if cluster, _ := rules.Needs(); cluster && in.place.Cluster == "" {
		_, err := fmt.Fprintln(c.ErrOrStderr(), "gatehouse: warning: the policy has clusterAdmissionRules; without --cluster LOCATION.NAME none of them applies")
		return err
	}
	if in.place.Cluster != "" {
		if err := binauthz.CheckCluster(in.place.Cluster); err != nil {
			return fmt.Errorf("--cluster %q: %w", in.place.Cluster, err)
		}
	}
	return in.place.Check(rules)
}

func (in offlineInput) readAttestors(c *cobra.Command) ([]binauthz.Attestor, error) {
	if in.attestors == "" {
		return nil, nil
	}
	data, err := readInput(c, in.attestors)
	if err != nil {
		return nil, err
	}
	attestors, found := binauthz.ParseAttestors(in.attestors, data)
	return attestors, report(c, found)
}

func (in offlineInput) readOccurrences(c *cobra.Command) ([]*grafeas.Occurrence, error) {
	if in.occurrences == "" {
		return nil, nil
	}
	data, err := readInput(c, in.occurrences)
	if err != nil {
		return nil, err
	}
	occurrences, err := parseOccurrences(data)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", in.occurrences, err)
	}
	return occurrences, nil
}

// report prints findings, and ends the command if there is an error among them.
func report(c *cobra.Command, found binauthz.Diagnostics) error {
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

func printDiagnostics(w io.Writer, found binauthz.Diagnostics) error {
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
