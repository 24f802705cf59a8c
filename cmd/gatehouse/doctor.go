package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/breakglass"
	"github.com/gatehouse-dev/gatehouse/doctor"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
	"github.com/gatehouse-dev/gatehouse/server"
)

func doctorCommand() *cobra.Command {
	var o doctor.Options
	var api kube.Options
	var only []string
	var configFile string
	var service serviceFlags
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Find what is misconfigured between cluster, webhook, certificates, store, keys and clocks",
		Long: "Look at an installation from outside, and say what is wrong and how to mend it. It changes\n" +
			"nothing: what it tries in the cluster is a server-side dry run of a pod. It works from a\n" +
			"laptop with a kubeconfig, and in a pod of the cluster, where it sees more.\n\n" +
			"What is not named is not looked at: the metadata service without --metadata or\n" +
			"GATEHOUSE_METADATA, the configuration without --config, the disk without --data or --config.\n\n" +
			"The checks:\n\n" + listOfChecks() +
			"\nExit status: 0 nothing is wrong (there may be warnings), 1 there is a problem, 2 something\n" +
			"could not be told.",
		Example: `  gatehouse doctor
  gatehouse doctor --only webhook,certificate,trial
  gatehouse doctor --context prod --metadata https://gatehouse.example:8080 --token-file token -o json
  kubectl exec -n gatehouse deploy/gatehouse-controller -- gatehouse doctor`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&o.Namespace, "namespace", "gatehouse", "namespace of the installation")
	f.StringVar(&o.Name, "name", "gatehouse", "what the names of its objects begin with")
	f.StringVar(&o.TrialNamespace, "trial-namespace", "", "where a pod is tried (default: default, or the first one that the webhook looks at)")
	f.StringVar(&api.Kubeconfig, "kubeconfig", "", "kubeconfig of the cluster (default as for kubectl, or the cluster that it runs in)")
	f.StringVar(&api.Context, "context", "", "context of the kubeconfig (default its current one)")
	f.StringSliceVar(&only, "only", nil, "only this check; may be repeated")
	f.StringVar(&configFile, "config", "", "configuration file of a server, to be checked")
	f.StringVar(&o.Data, "data", "", "data folder on this machine (default: that of --config)")
	f.StringSliceVar(&o.Ops, "ops", nil, "ops address of a gate, such as http://127.0.0.1:9090; may be repeated (default: pods are asked through the API server)")
	service.bind(c)
	f.Lookup("metadata").DefValue = "" // it has to be named
	output := outputFlag(c)
	_ = c.RegisterFlagCompletionFunc("only", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, check := range doctor.Checks() {
			names = append(names, check.Name+"\t"+check.Doc)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}) // fails only for a flag that is not there
	c.RunE = func(c *cobra.Command, _ []string) error {
		o.Now = time.Now
		o.Kube, o.KubeError = kube.Open(api)
		if o.KubeError != nil {
			o.Kube = nil
		}
		if configFile != "" {
			readConfiguration(configFile, &o)
		}
		if o.Project = service.project; f.Changed("metadata") || os.Getenv(envPrefix+"METADATA") != "" {
			client, base, err := service.http()
			if err != nil {
				return err
			}
			o.HTTP, o.Service = client, base
		}
		found, err := doctor.Examine(c.Context(), o, only)
		if err != nil {
			return err
		}
		if *output == formatJSON {
			err = printJSON(c.OutOrStdout(), struct {
				Result   doctor.Result    `json:"result"`
				Findings []doctor.Finding `json:"findings"`
			}{doctor.Worst(found), found})
		} else {
			err = printFindings(c.OutOrStdout(), found)
		}
		switch worst := doctor.Worst(found); {
		case err != nil:
			return err
		case worst == doctor.Problem:
			return errNo
		case worst == doctor.Unknown:
			return errFound
		case !slices.ContainsFunc(found, func(f doctor.Finding) bool { return f.Result != doctor.Skipped }):
			return errors.New("nothing was looked at, so nothing can be told")
		}
		return nil
	}
	return c
}

func listOfChecks() string {
	var text strings.Builder
	for _, check := range doctor.Checks() {
		_, _ = fmt.Fprintf(&text, "  %-15s %s\n", check.Name, check.Doc) // a builder never fails
	}
	return text.String()
}

// readConfiguration reads what checks need of a server's configuration.
func readConfiguration(path string, o *doctor.Options) {
	cfg := server.DefaultConfig()
	o.Config = &doctor.Configuration{File: path, Err: cfg.LoadFile(path)}
	if o.Config.Err != nil {
		return
	}
	if o.Data != "" {
		cfg.Data = o.Data
	}
	o.Config.Err = server.Check(cfg, slog.New(slog.DiscardHandler))
	o.Config.AccessReviews = slices.Contains(cfg.BreakGlass.Modes, breakglass.RBAC)
	o.Config.TokenReviews = cfg.Identity.Kubernetes.Enabled
	if o.Data == "" {
		o.Data = cfg.Data
	}
}

// printFindings prints a line for each, and the mend below it.
func printFindings(to io.Writer, found []doctor.Finding) error {
	counts := map[doctor.Result]int{}
	last := ""
	for _, f := range found {
		counts[f.Result]++
		name := f.Check
		if name == last {
			name = ""
		}
		last = f.Check
		if _, err := fmt.Fprintf(to, "%-15s %-8s %s\n", name, f.Result, printable(f.Message)); err != nil {
			return err
		}
		if f.Mend != "" && f.Result != doctor.Skipped {
			if _, err := fmt.Fprintf(to, "%-24s -> %s\n", "", printable(f.Mend)); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintf(to, "\n%s, %s, %d could not be told, %d not looked at\n",
		counted(counts[doctor.Problem], "problem", "problems"), counted(counts[doctor.Warning], "warning", "warnings"), counts[doctor.Unknown], counts[doctor.Skipped])
	return err
}
