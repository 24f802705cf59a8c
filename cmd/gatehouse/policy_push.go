package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy/admin/adminclient"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
	"github.com/gatehouse-dev/gatehouse/policy/bundle"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/platform"
)

func policyPullCommand() *cobra.Command {
	var service serviceFlags
	c := &cobra.Command{
		Use:   "pull",
		Short: "Print the policy that a running Gatehouse keeps",
		Long: `Print the policy of a project, as YAML in the form of gcloud's export, or with
--output json as the API answers it. A project that never had one has Google's, which
allows everything.

Exit status: 0 printed, 1 there is none, 2 could not tell.`,
		Example: `  gatehouse policy pull --project shop > policy.yaml
  gatehouse policy pull --of projects/shop/attestors/qa`,
		Args: cobra.NoArgs,
	}
	service.bind(c)
	of := documentFlag(c)
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		name, err := service.documentName(*of)
		if err != nil {
			return err
		}
		return service.run(c, func(ctx context.Context, client *adminclient.Client) error {
			return show(ctx, c, client, name, *output)
		})
	}
	return c
}

// show prints a document.
func show(ctx context.Context, c *cobra.Command, client *adminclient.Client, name string, output format) error {
	content, err := client.Get(ctx, name)
	if err != nil {
		return err
	}
	if output != formatJSON {
		if content, err = asYAML(content); err != nil {
			return err
		}
	}
	_, err = c.OutOrStdout().Write(content)
	return err
}

// asYAML returns a document of the service as gcloud exports it.
func asYAML(content []byte) ([]byte, error) {
	h, err := headOf(content)
	if err != nil {
		return nil, err
	}
	var found document.Diagnostics
	switch bundle.SortOf(content) {
	case bundle.Attestors:
		var a *binauthz.Attestor
		if a, found = binauthz.ParseAttestor(h.Name, content, h.Name); a != nil {
			return a.EncodeYAML()
		}
	case bundle.BinauthzPolicy:
		var p *binauthz.Policy
		if p, found = binauthz.ParsePolicy(h.Name, content); p != nil {
			return p.EncodeYAML()
		}
	default:
		var tree any
		if err := json.Unmarshal(content, &tree); err != nil {
			return nil, fmt.Errorf("reading the service's answer: %w", err)
		}
		return yamlOf(tree)
	}
	return nil, fmt.Errorf("reading the service's answer, which a newer Gatehouse may have written: %w", found.Err())
}

func yamlOf(tree any) ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	enc.CompactSeqIndent()
	err := errors.Join(enc.Encode(tree), enc.Close())
	return b.Bytes(), err
}

func policyPushCommand() *cobra.Command {
	var service serviceFlags
	c := &cobra.Command{
		Use:   "push FILE...",
		Short: "Put policies and attestors into a running Gatehouse",
		Long: `Write policies and attestors to the service, which keeps every version. What a file is
is told from its content: a policy becomes that of --project, attestors and platform
policies are created, or replaced, by the names in the files; attestors come first.

A file that has an etag, as "gatehouse policy pull" prints it, is only written over the
version that it was made from. Files are checked before anything is sent.

Exit status: 0 all are in force, 1 some was refused, 2 could not tell.`,
		Example: `  gatehouse policy push policy.yaml attestors.yaml --project shop --comment "ticket 12"`,
		Args:    cobra.MinimumNArgs(1),
	}
	service.bind(c)
	comment := c.Flags().String("comment", "", "why, for the history")
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		files, err := readFiles(c, args)
		if err != nil {
			return err
		}
		pushes, err := service.pushes(c, files)
		if err != nil {
			return err
		}
		return service.run(c, func(ctx context.Context, client *adminclient.Client) error {
			for _, p := range pushes {
				content, err := p.send(ctx, client, *comment)
				if err != nil {
					return fmt.Errorf("%s: %w", p.name, err)
				}
				if err := written(c, *output, content, "is written"); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return c
}

// A push is one document on its way.
type push struct {
	name string
	body []byte
	// parameter has the id of a document that may have to be created.
	parameter string
}

// send replaces the document, or creates it.
func (p push) send(ctx context.Context, client *adminclient.Client, comment string) ([]byte, error) {
	content, err := client.Put(ctx, p.name, p.body, comment)
	if p.parameter == "" || adminclient.StatusOf(err) != "NOT_FOUND" {
		return content, err
	}
	i := strings.LastIndexByte(p.name, '/')
	return client.Create(ctx, p.name[:i], p.parameter, p.name[i+1:], p.body, comment)
}

// pushes checks files, and returns what is to be sent: attestors first, since
// policies name them.
func (s *serviceFlags) pushes(c *cobra.Command, files []bundle.File) ([]push, error) {
	var attestors, policies []push
	var all document.Diagnostics
	for _, f := range files {
		var found document.Diagnostics
		var p push
		var err error
		switch bundle.SortOf(f.Data) {
		case bundle.Attestors:
			var list []binauthz.Attestor
			list, found = binauthz.ParseAttestors(f.Name, f.Data)
			for i := range list {
				body, err := list[i].EncodeJSON()
				if err != nil {
					return nil, err
				}
				attestors = append(attestors, push{list[i].Name, body, "attestorId"})
			}
		case bundle.BinauthzPolicy:
			p, found, err = s.pushPolicy(f)
			policies = append(policies, p)
		case bundle.PlatformPolicy:
			p, found, err = pushPlatform(f)
			policies = append(policies, p)
		case bundle.ClusterObjects:
			err = fmt.Errorf("%s holds objects of Kubernetes; 'kubectl apply' is for those of Gatehouse, and the controller in the cluster files them", f.Name)
		case bundle.KritisObjects:
			err = fmt.Errorf("%s holds objects of Kubernetes; want policies and attestors of Binary Authorization, which 'gatehouse policy import' makes of those of Kritis", f.Name)
		default:
			err = fmt.Errorf("%s is neither a policy nor attestors, and the service keeps nothing else", f.Name)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return append(attestors, policies...), report(c, all)
}

func (s *serviceFlags) pushPolicy(f bundle.File) (push, document.Diagnostics, error) {
	p, found := binauthz.ParsePolicy(f.Name, f.Data)
	if p == nil {
		return push{}, found, nil
	}
	body, err := p.EncodeJSON()
	return push{name: s.policyName(), body: body}, found, err
}

func pushPlatform(f bundle.File) (push, document.Diagnostics, error) {
	p, found := platform.ParsePolicy(f.Name, f.Data)
	if p == nil {
		return push{}, found, nil
	}
	if p.Name == "" {
		return push{}, found, fmt.Errorf("%s: the platform policy has no name; write name: projects/P/platforms/gke/policies/ID", f.Name)
	}
	var tree map[string]any
	if err := yaml.Unmarshal(f.Data, &tree); err != nil { // JSON is YAML
		return push{}, found, fmt.Errorf("reading %s: %w", f.Name, err)
	}
	body, err := json.Marshal(tree, json.Deterministic(true))
	return push{p.Name, body, "policyId"}, found, err
}
