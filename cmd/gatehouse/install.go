package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/install"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

// maxValues bounds a file of values.
const maxValues = 1 << 20

// installFlags are what install and uninstall have in common.
type installFlags struct {
	name, namespace string
	client          kube.Options
	force           bool
	output          *format
}

func (f *installFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.name, "name", install.DefaultName, "name of the installation, which the names of all objects begin with")
	c.Flags().StringVarP(&f.namespace, "namespace", "n", install.DefaultName, "namespace of the installation")
	c.Flags().StringVar(&f.client.Kubeconfig, "kubeconfig", "", "kubeconfig of the cluster (default: as kubectl)")
	c.Flags().StringVar(&f.client.Context, "context", "", "context in the kubeconfig (default: the current one)")
	f.output = outputFlag(c)
}

// cluster connects, and has progress told on standard error.
func (f *installFlags) cluster(c *cobra.Command) (*install.Cluster, error) {
	client, err := kube.Open(f.client)
	if err != nil {
		return nil, err
	}
	say := func(line string) { _, _ = fmt.Fprintln(c.ErrOrStderr(), printable(line)) }
	return &install.Cluster{Client: client, Say: say, Force: f.force}, nil
}

func installCommand() *cobra.Command {
	var flags installFlags
	var dryRun, apply, wait bool
	var timeout time.Duration
	var files, set []string
	c := &cobra.Command{
		Use:   "install --dry-run | --apply",
		Short: "Install Gatehouse in a Kubernetes cluster",
		Long: `Print, or apply, what runs Gatehouse in a cluster: the same objects as the Helm chart in
deploy/chart/gatehouse, from the same values.

--apply first looks for whatever could stop it (version, rights, objects of others, what
the API server says to a dry run), and changes nothing if there is anything. Then it
applies the objects and waits until all parts run and the webhooks are in force: the
controller puts them in force once a gate has answered, so a half installation holds up
nothing. Stopped halfway, the same command goes on.

docs/install.md has the values, and what to do when something is wrong.`,
		Example: `  gatehouse install --dry-run | less
  gatehouse install --apply
  gatehouse install --apply --values values.yaml --set gate.replicas=5`,
		Args: cobra.NoArgs,
	}
	flags.add(c)
	f := c.Flags()
	f.BoolVar(&dryRun, "dry-run", false, "print the objects, and ask no cluster")
	f.BoolVar(&apply, "apply", false, "apply the objects")
	f.StringArrayVarP(&files, "values", "f", nil, "file of values (YAML), laid over the defaults; later ones win")
	f.StringArrayVar(&set, "set", nil, "one value, NAME.NAME=VALUE, in which VALUE is YAML; wins over files")
	f.BoolVar(&wait, "wait", true, "wait until all parts run and the webhooks are in force")
	f.DurationVar(&timeout, "timeout", 10*time.Minute, "how long to wait")
	f.BoolVar(&flags.force, "force-conflicts", false, "take over fields that others have set")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if dryRun == apply {
			return errors.New("say one of --dry-run, which prints the objects, and --apply, which applies them")
		}
		values, err := readValues(files, set)
		if err != nil {
			return err
		}
		o := install.Options{Name: flags.name, Namespace: flags.namespace, Values: values}
		if dryRun {
			return printInstallation(c.OutOrStdout(), *flags.output, o)
		}
		return flags.install(c, o, wait, timeout)
	}
	return c
}

func readValues(files, set []string) (install.Values, error) {
	values := install.Values{}
	for _, file := range files {
		text, err := bounded.ReadFile(file, maxValues)
		if err != nil {
			return nil, fmt.Errorf("reading values: %w", err)
		}
		more, err := install.ParseValues(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		values = values.Merge(more)
	}
	for _, assignment := range set {
		if err := values.Set(assignment); err != nil {
			return nil, fmt.Errorf("--set %w", err)
		}
	}
	return values, nil
}

func printInstallation(w io.Writer, output format, o install.Options) error {
	objects, err := install.All(o)
	if err != nil {
		return err
	}
	if output == formatJSON {
		return printJSON(w, map[string]any{"apiVersion": "v1", "kind": "List", "items": objects})
	}
	text, err := install.YAML(objects)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

func (f *installFlags) install(c *cobra.Command, o install.Options, wait bool, timeout time.Duration) error {
	cluster, err := f.cluster(c)
	if err != nil {
		return err
	}
	changes, err := cluster.Install(c.Context(), o)
	if err != nil {
		return err
	}
	if wait {
		ctx, cancel := context.WithTimeoutCause(c.Context(), timeout, fmt.Errorf("not ready after %v", timeout))
		defer cancel()
		if err := cluster.Wait(ctx, o); err != nil {
			return fmt.Errorf("%w\nall is applied and nothing is refused meanwhile; the same command waits again", err)
		}
	}
	notes, err := install.Notes(o)
	if err != nil {
		return err
	}
	if *f.output == formatJSON {
		return printJSON(c.OutOrStdout(), map[string]any{"changes": changes, "ready": wait, "notes": notes})
	}
	_, err = fmt.Fprint(c.OutOrStdout(), notes)
	return err
}

func uninstallCommand() *cobra.Command {
	var flags installFlags
	var purge, yes bool
	c := &cobra.Command{
		Use:   "uninstall --yes",
		Short: "Take Gatehouse out of a Kubernetes cluster",
		Long: `Take away what install has applied: the webhooks first, so that nothing is held up from
then on. It asks nothing of a gate, and so works while none answers.

It leaves, and names, the definitions of Gatehouse's and Kritis' kinds with all objects of
them, the volumes with the server's data, and the namespace. --purge takes these away too.`,
		Example: `  gatehouse uninstall --yes
  gatehouse uninstall --yes --purge`,
		Args: cobra.NoArgs,
	}
	flags.add(c)
	c.Flags().BoolVar(&yes, "yes", false, "really do it")
	c.Flags().BoolVar(&purge, "purge", false, "take away definitions, data and the namespace too")
	c.Flags().BoolVar(&flags.force, "force", false, "take away what Helm has installed too")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if !yes {
			return errors.New("this ends the enforcement of image policy in the cluster: say --yes")
		}
		cluster, err := flags.cluster(c)
		if err != nil {
			return err
		}
		changes, left, err := cluster.Uninstall(c.Context(), flags.name, flags.namespace, purge)
		if err != nil {
			return err
		}
		return flags.printUninstalled(c.OutOrStdout(), changes, left)
	}
	return c
}

func (f *installFlags) printUninstalled(w io.Writer, changes []install.Change, left []install.Left) error {
	if *f.output == formatJSON {
		return printJSON(w, map[string]any{"changes": changes, "left": left})
	}
	if len(changes)+len(left) == 0 {
		_, err := fmt.Fprintf(w, "there is nothing of an installation %q in namespace %q\n", f.name, f.namespace)
		return err
	}
	for _, l := range left {
		if _, err := fmt.Fprintf(w, "left: %s (%s)\n", printable(l.Object), l.Why); err != nil {
			return err
		}
	}
	if len(left) == 0 {
		return nil
	}
	_, err := fmt.Fprintln(w, "gatehouse uninstall --yes --purge takes these away too")
	return err
}
