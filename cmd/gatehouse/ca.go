package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/internal/clusterca"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
	"github.com/gatehouse-dev/gatehouse/internal/ownca"
	"github.com/gatehouse-dev/gatehouse/server"
)

func caCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "ca",
		Short: "See, and replace, the CA of a gate that was given no certificate",
		Args:  cobra.ArbitraryArgs,
		RunE:  runGroup,
	}
	c.AddCommand(caShowCommand(), caRotateCommand())
	return c
}

func caShowCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "show --data DIR",
		Short: "Show the roots that API servers are to trust, and which of them issues",
		Long: `Show the roots in DATA/tls/ca.crt, which API servers are given as caBundle, and which
of them issues the webhook's certificates. There are two while a root is replaced.
With --namespace, those of an installation in a cluster: Secret and ConfigMap NAME-ca.`,
		Example: `  gatehouse ca show --data ./data
  gatehouse ca show --namespace gatehouse
  gatehouse ca show --ca-dir /etc/gatehouse/ca --output json`,
		Args: cobra.NoArgs,
	}
	place, output := caFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		at, err := place()
		if err != nil {
			return err
		}
		status, err := at.show(c.Context())
		if err != nil {
			return err
		}
		return printAuthority(c.OutOrStdout(), *output, status)
	}
	return c
}

func caRotateCommand() *cobra.Command {
	var overlap time.Duration
	c := &cobra.Command{
		Use:   "rotate --data DIR",
		Short: "Replace the root now, and not a year before its end",
		Long: `Put a new root into DATA/tls/ca.crt beside the one that issues. Gates that use the
folder see it within a second, and need no restart. After --overlap they issue by the
new root, and after as long again the old one leaves ca.crt.

Give the API servers the new ca.crt meanwhile. Whoever has only the old root goes on to
be served until that root ends, since it has signed the new one; but whoever has its
key could be a gate to him as well, so after a leak give it to all.

In a cluster (--namespace) the controller does all that: the new root is in the ConfigMap
and in the webhook configurations before certificates are issued by it.`,
		Example: `  gatehouse ca rotate --data ./data
  gatehouse ca rotate --data ./data --overlap 10m
  gatehouse ca rotate --namespace gatehouse --overlap 10m`,
		Args: cobra.NoArgs,
	}
	place, output := caFlags(c)
	c.Flags().DurationVar(&overlap, "overlap", ownca.DefaultOverlap, "how long API servers have to be given the new ca.crt before it issues")
	c.RunE = func(c *cobra.Command, _ []string) error {
		at, err := place()
		if err != nil {
			return err
		}
		status, err := at.rotate(c.Context(), overlap)
		if err != nil {
			return fmt.Errorf("replacing the root: %w", err)
		}
		return printAuthority(c.OutOrStdout(), *output, status)
	}
	return c
}

// A caPlace is where a CA is.
type caPlace struct {
	show   func(ctx context.Context) (ownca.Status, error)
	rotate func(ctx context.Context, overlap time.Duration) (ownca.Status, error)
}

// caFlags adds the flags that say where a CA is.
func caFlags(c *cobra.Command) (place func() (caPlace, error), output *format) {
	var data, caDir, namespace, name string
	var api kube.Options
	f := c.Flags()
	f.StringVar(&data, "data", "", "data folder of the gate")
	f.StringVar(&caDir, "ca-dir", "", "folder of the CA (default: tls in the data folder)")
	f.StringVar(&namespace, "namespace", "", "namespace of an installation in a cluster")
	f.StringVar(&name, "name", "gatehouse", "what the names of its objects begin with")
	f.StringVar(&api.Kubeconfig, "kubeconfig", "", "kubeconfig of the cluster (default as for kubectl)")
	f.StringVar(&api.Context, "context", "", "context of the kubeconfig (default its current one)")
	return func() (caPlace, error) {
		switch {
		case namespace != "" && data+caDir != "":
			return caPlace{}, errors.New("--namespace is for a CA in a cluster, and --data and --ca-dir for one in a folder: give one of them")
		case namespace != "":
			return caInCluster(api, namespace, name)
		case caDir != "":
			return caInFolder(caDir), nil
		case data != "":
			return caInFolder(server.CADir(data)), nil
		}
		return caPlace{}, errors.New("no folder: give --data DIR, or --ca-dir DIR; or --namespace NS for a CA in a cluster")
	}, outputFlag(c)
}

func caInFolder(dir string) caPlace {
	return caPlace{
		show: func(context.Context) (ownca.Status, error) { return ownca.Show(dir, time.Now()) },
		rotate: func(_ context.Context, overlap time.Duration) (ownca.Status, error) {
			return ownca.Rotate(dir, time.Now(), overlap)
		},
	}
}

func caInCluster(api kube.Options, namespace, name string) (caPlace, error) {
	client, err := kube.Open(api)
	if err != nil {
		return caPlace{}, err
	}
	o := clusterca.Options{Client: client, Namespace: namespace, Name: name}
	return caPlace{
		show: func(ctx context.Context) (ownca.Status, error) { return clusterca.Show(ctx, o) },
		rotate: func(ctx context.Context, overlap time.Duration) (ownca.Status, error) {
			return clusterca.Rotate(ctx, o, overlap)
		},
	}, nil
}

func printAuthority(to io.Writer, output format, s ownca.Status) error {
	if output == formatJSON {
		return printJSON(to, s)
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "ROOT\tSTATE\tIN CA.CRT SINCE\tISSUES FROM\tENDS") // Flush tells
	for _, r := range s.Roots {
		_, _ = fmt.Fprintf(w, "%.16s\t%s\t%s\t%s\t%s\n", r.Fingerprint, r.State, minute(r.Published), minute(r.Issues), minute(r.Ends))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	text := fmt.Sprintf("give API servers %s\n", s.Bundle)
	switch {
	case strings.HasPrefix(s.Bundle, "ConfigMap "):
		text = fmt.Sprintf("they are in the %s, and the controller gives them to API servers\n", s.Bundle)
	case !s.BundleCurrent:
		text = fmt.Sprintf("%s is not what it should be; a gate that runs, or gatehouse ca rotate, mends it\n", s.Bundle)
	}
	_, err := io.WriteString(to, text)
	return err
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02T15:04Z") }
