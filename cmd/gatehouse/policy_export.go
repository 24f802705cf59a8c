package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
	"github.com/gatehouse-dev/gatehouse/policy/bundle"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/signature"
)

func policyExportCommand() *cobra.Command {
	format := "yaml"
	c := &cobra.Command{
		Use:   "export [--format yaml|json] FILE",
		Short: "Print a policy or attestors as Google's Binary Authorization takes them",
		Long: `Print a policy or attestors as 'gcloud container binauthz policy import' and the REST
API take them: without what only Gatehouse knows (onUnavailable of a rule, Ed25519
keys). What is left out, and what that changes, is a line FILE:LINE on standard error.

Objects of Kritis are turned into policies by 'gatehouse policy import' first.

Exit status: 0 nothing was left out, 1 something was, 2 error.`,
		Example: `  gatehouse policy export policy.yaml > google.yaml && gcloud container binauthz policy import google.yaml`,
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&format, "format", format, "yaml or json")
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"yaml", "json"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
	c.RunE = func(c *cobra.Command, args []string) error {
		if format != "yaml" && format != "json" {
			return fmt.Errorf("--format %q: want yaml or json", format)
		}
		data, err := readInput(c, args[0])
		if err != nil {
			return err
		}
		text, left, err := export(c, args[0], data, format)
		if err != nil {
			return err
		}
		if _, err := c.OutOrStdout().Write(text); err != nil {
			return err
		}
		if len(left) == 0 {
			return nil
		}
		if err := printDiagnostics(c.ErrOrStderr(), left); err != nil {
			return err
		}
		return errNo
	}
	return c
}

// export returns a text in Google's form, and what it leaves out.
func export(c *cobra.Command, name string, data []byte, format string) (text []byte, left document.Diagnostics, err error) {
	switch bundle.SortOf(data) {
	case bundle.KritisObjects:
		return nil, nil, fmt.Errorf("%s holds objects of Kubernetes; 'gatehouse policy import %s' turns those of Kritis into policies", name, name)
	case bundle.ClusterObjects:
		return nil, nil, fmt.Errorf("%s holds objects of Kubernetes, which Google does not know", name)
	case bundle.Builders:
		return nil, nil, fmt.Errorf("%s is a list of builders, which Google knows by itself", name)
	case bundle.PlatformPolicy:
		if found := bundle.Lint([]bundle.File{{Name: name, Data: data}}, time.Now()); found.HasErrors() {
			return nil, nil, report(c, found)
		}
		text, err = convert(data, format)
	case bundle.Attestors:
		list, found := binauthz.ParseAttestors(name, data)
		if err := report(c, found); err != nil {
			return nil, nil, err
		}
		text, left, err = exportAttestors(list, format)
	default:
		p, found := binauthz.ParsePolicy(name, data)
		if found.HasErrors() {
			return nil, nil, report(c, found)
		}
		left = stripPolicy(p)
		text, err = encoded(p, format)
	}
	return text, left, err
}

// stripPolicy takes out of a policy what only Gatehouse knows.
func stripPolicy(p *binauthz.Policy) document.Diagnostics {
	var left document.Diagnostics
	strip := func(r *binauthz.AdmissionRule) {
		if r.OnUnavailable != (policy.OnUnavailable{}) {
			left = append(left, document.Diagnostic{File: p.File, Line: r.Line, Severity: document.Warning, Message: "onUnavailable is left out: Google's service lets in what it cannot check"})
			r.OnUnavailable = policy.OnUnavailable{}
		}
	}
	strip(&p.Default)
	for i := range p.Specific {
		strip(&p.Specific[i].AdmissionRule)
	}
	return left
}

func exportAttestors(list []binauthz.Attestor, format string) ([]byte, document.Diagnostics, error) {
	var left document.Diagnostics
	var all []any
	for i := range list {
		a := &list[i]
		var keys []*signature.PublicKey
		var written []binauthz.WrittenKey
		for j, k := range a.Keys {
			if k.Algorithm() == signature.Ed25519 {
				left = append(left, document.Diagnostic{File: a.File, Line: a.Line, Severity: document.Warning, Message: fmt.Sprintf("key %.100s of %s is left out: Google has no Ed25519; what it signed does not count there", k.ID(), a.Name)})
				continue
			}
			keys, written = append(keys, k), append(written, a.Written[j])
		}
		a.Keys, a.Written = keys, written
		raw, err := a.EncodeJSON()
		if err != nil {
			return nil, nil, err
		}
		var one any
		if err := json.Unmarshal(raw, &one); err != nil {
			return nil, nil, err
		}
		all = append(all, one)
	}
	raw, err := json.Marshal(all)
	if err != nil {
		return nil, nil, err
	}
	text, err := convert(raw, format)
	return text, left, err
}

func encoded(p *binauthz.Policy, format string) ([]byte, error) {
	if format == "yaml" {
		return p.EncodeYAML()
	}
	raw, err := p.EncodeJSON()
	if err != nil {
		return nil, err
	}
	return convert(raw, format)
}

// convert brings JSON or YAML into the form that is asked for, with sorted keys.
func convert(data []byte, format string) ([]byte, error) {
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil { // JSON is YAML
		return nil, err
	}
	if format == "json" {
		var b bytes.Buffer
		err := printJSON(&b, v)
		return b.Bytes(), err
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	enc.CompactSeqIndent()
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), enc.Close()
}
