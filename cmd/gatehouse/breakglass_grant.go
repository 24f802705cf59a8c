package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/breakglass"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/policy/admin/adminclient"
)

// grantFlags are those of gatehouse breakglass grant.
type grantFlags struct {
	service serviceFlags
	grant   breakglass.Grant
	life    time.Duration
	key     attest.KeyFile
	sign    string
	out     string
}

func breakglassGrantCommand() *cobra.Command {
	var g grantFlags
	c := &cobra.Command{
		Use:   "grant --namespace NS --for 2h --key FILE",
		Short: "Permit to break glass, for some pods and for some time",
		Long: `Make a signed permission to break glass (breakGlass.modes: [grant]), and file it with the
service, from where it reaches all gates of the project. The pods need the marker too.

Where two people have to sign, the first writes it to a file (--out), and the second adds
a signature (--sign FILE), which files it.

Exit status: 0 it is made, 1 the service refuses, 2 could not tell.`,
		Example: `  gatehouse breakglass grant --namespace shop --workload Deployment/web --for 2h --key ann.pem --reason OPS-7
  gatehouse breakglass grant --namespace shop --for 1h --key ann.pem --out grant.json
  gatehouse breakglass grant --sign grant.json --key bob.pem`,
		Args: cobra.NoArgs,
	}
	g.service.bind(c)
	f := c.Flags()
	f.StringVar(&g.grant.Cluster, "cluster", "*", "cluster, LOCATION.NAME; * is all")
	f.StringVar(&g.grant.Namespace, "namespace", "", "namespace; * is all (required)")
	f.StringVar(&g.grant.Image, "image", "", "only images of this digest (sha256:…) or pattern (reg.example/shop/*)")
	f.StringVar(&g.grant.Workload, "workload", "", "only pods of this workload, KIND/NAME")
	f.DurationVar(&g.life, "for", time.Hour, "how long it lasts, from now on")
	f.StringVar(&g.grant.Reason, "reason", "", "why")
	f.StringVar(&g.grant.Ticket, "ticket", "", "where that is written down")
	f.StringVar(&g.key.File, "key", os.Getenv(envPrefix+"GRANT_KEY"), "private key that signs (PEM); "+envPrefix+"GRANT_KEY sets the default (required)")
	f.StringVar(&g.key.Algorithm, "algorithm", "", "algorithm of the key, if its usual one is not meant")
	f.StringVar(&g.key.ID, "key-id", "", "id of the key, if it is not the usual one")
	f.StringVar(&g.sign, "sign", "", "sign the grant in this file, instead of making one")
	f.StringVar(&g.out, "out", "", "write it to this file, and file it with nobody")
	c.RunE = func(c *cobra.Command, _ []string) error { return g.run(c) }
	return c
}

func (g *grantFlags) run(c *cobra.Command) error {
	if g.key.File == "" {
		return errors.New("which key signs? give --key FILE, the private key of somebody who may grant")
	}
	signer, err := g.key.Signer()
	if err != nil {
		return err
	}
	signed, err := g.toSign()
	if err != nil {
		return err
	}
	if err := signed.Sign(c.Context(), signer); err != nil {
		return err
	}
	said, err := signed.Grant()
	if err != nil {
		return err
	}
	text, err := signed.Text()
	if err != nil {
		return err
	}
	if g.out != "" {
		if err := os.WriteFile(g.out, append(text, '\n'), 0o644); err != nil { //nolint:gosec // it is no secret: gates verify who signed it
			return fmt.Errorf("writing the grant: %w", err)
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "grant %s until %s, with %s, is in %s\n", said.ID, said.Ends.UTC().Format(time.RFC3339), counted(len(signed.Signatures), "signature", "signatures"), g.out)
		return err
	}
	return g.service.run(c, func(ctx context.Context, client *adminclient.Client) error {
		if _, err := client.Create(ctx, "projects/"+g.service.project+"/breakGlassGrants", "", "", text, ""); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "grant %s until %s, with %s, is filed\n", said.ID, said.Ends.UTC().Format(time.RFC3339), counted(len(signed.Signatures), "signature", "signatures"))
		return err
	})
}

// toSign returns the grant in a file, or a new one.
func (g *grantFlags) toSign() (*breakglass.SignedGrant, error) {
	if g.sign != "" {
		text, err := bounded.ReadFile(g.sign, breakglass.MaxGrantBytes)
		if err != nil {
			return nil, fmt.Errorf("reading the grant: %w", err)
		}
		signed, err := breakglass.ParseSignedGrant(text)
		return &signed, err
	}
	if g.grant.Namespace == "" {
		return nil, errors.New("where? give --namespace NAME, or --namespace '*' for all of them")
	}
	g.grant.ID = breakglass.NewGrantID()
	g.grant.Begins = time.Now().UTC().Truncate(time.Second)
	g.grant.Ends = g.grant.Begins.Add(g.life)
	payload, err := g.grant.Payload()
	return &breakglass.SignedGrant{Payload: payload}, err
}

func breakglassGrantsCommand() *cobra.Command {
	var s serviceFlags
	c := &cobra.Command{
		Use:   "grants",
		Short: "List grants, and whether they count at the service's gate",
		Long: `List the grants that were filed, and whether they count at the gate of the service.

Exit status: 0 printed at least one, 1 there is none, 2 could not tell.`,
		Args: cobra.NoArgs,
	}
	s.bind(c)
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return s.run(c, func(ctx context.Context, client *adminclient.Client) error {
			list, err := client.List(ctx, "projects/"+s.project+"/breakGlassGrants", "breakGlassGrants")
			if err != nil {
				return err
			}
			if len(list) == 0 {
				return none(c, "grant is filed")
			}
			states := make([]breakglass.GrantState, len(list))
			for n, raw := range list {
				if err := json.Unmarshal(raw, &states[n]); err != nil {
					return fmt.Errorf("reading the service's answer: %w", err)
				}
			}
			if *output == formatJSON {
				return printJSON(c.OutOrStdout(), states)
			}
			return printGrants(c, states)
		})
	}
	return c
}

func printGrants(c *cobra.Command, states []breakglass.GrantState) error {
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(w, "GRANT\tSTATE\tENDS\tWHERE\tWHAT\tWHY")
	for _, s := range states {
		if s.Grant == nil {
			_, e := fmt.Fprintf(w, "%s\t%s\t-\t-\t-\t%s\n", cell(s.Source[strings.LastIndex(s.Source, "/")+1:]), s.State, cell(s.Error))
			err = errors.Join(err, e)
			continue
		}
		what := s.Grant.Workload + " " + s.Grant.Image
		_, e := fmt.Fprintf(w, "%s\t%s\t%s\t%s %s\t%s\t%s\n", s.Grant.ID, s.State, s.Grant.Ends.UTC().Format(time.RFC3339),
			cell(s.Grant.Cluster), cell(s.Grant.Namespace), cell(what), cell(s.Grant.Ticket+" "+s.Grant.Reason))
		err = errors.Join(err, e)
	}
	return errors.Join(err, w.Flush())
}

func breakglassRevokeCommand() *cobra.Command {
	var s serviceFlags
	c := &cobra.Command{
		Use:   "revoke ID",
		Short: "Take back a grant that was filed",
		Long: `Take back a grant that was filed. What it has let in stays where it is.

Exit status: 0 it is revoked, 1 the service refuses, 2 could not tell.`,
		Args: cobra.ExactArgs(1),
	}
	s.bind(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return s.run(c, func(ctx context.Context, client *adminclient.Client) error {
			if err := client.Delete(ctx, "projects/"+s.project+"/breakGlassGrants/"+args[0], false); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "grant %s is revoked\n", printable(args[0]))
			return err
		})
	}
	return c
}
