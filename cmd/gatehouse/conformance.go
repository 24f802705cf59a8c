package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/conformance"
)

// conformanceInput is what the command was told.
type conformanceInput struct {
	self                           bool
	url, ca, cert, key, serverName string
	profile, good, bad             string
	registry, registryHost         string
	registryCert, registryKey      string
	only                           []string
	parallel                       int
	timeout, hangUp                time.Duration
	dryRun                         bool
	output                         string
	list                           bool
	explain                        string
}

func conformanceCommand() *cobra.Command {
	var in conformanceInput
	c := &cobra.Command{
		Use:   "conformance {--self | --url WEBHOOK --ca FILE --profile FILE}",
		Short: "Try the known ways around an admission gate, on any gate",
		Long: `Try the known ways around an admission gate: ours, or any other's. The suite sends
AdmissionReviews to the webhook as an API server does, and judges the answers. It
creates nothing, so that a gate in use can be tried; the gate will record and count
what it was asked.

The gate must know an image that it admits and one that it denies. The profile names
them, or --good and --bad; without a profile, cases that need more are skipped. With
--registry-listen a hostile registry is run for gates that ask registries. --self runs
everything against a gate of Gatehouse's own, made from nothing. See docs/conformance.md.

Exit status: 0 no case failed, 1 one failed, 2 nothing could be proven.`,
		Example: `  gatehouse conformance --self
  gatehouse conformance --url https://127.0.0.1:8443/validate --ca ca.pem --profile profile.yaml
  gatehouse conformance --explain B4/ephemeral-containers`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.BoolVar(&in.self, "self", false, "start a gate of Gatehouse's own with keys of its own, and try it")
	f.StringVar(&in.url, "url", "", "the webhook, https://HOST[:PORT]/PATH")
	f.StringVar(&in.ca, "ca", "", "PEM file of the CA of the webhook's certificate (default: the machine's own)")
	f.StringVar(&in.serverName, "server-name", "", "name in the webhook's certificate, if it is not the host of --url")
	f.StringVar(&in.cert, "client-cert", "", "PEM file of the API server's certificate, for webhooks that ask for one")
	f.StringVar(&in.key, "client-key", "", "key of --client-cert")
	f.StringVar(&in.profile, "profile", "", "what can be expected of the gate (YAML)")
	f.StringVar(&in.good, "good", "", "an image by digest that the gate admits, in place of the profile's")
	f.StringVar(&in.bad, "bad", "", "an image by digest that the gate denies, in place of the profile's")
	f.StringVar(&in.registry, "registry-listen", "", "address of a hostile registry to run, HOST:PORT; port 0 picks a free one")
	f.StringVar(&in.registryHost, "registry-host", "", "HOST[:PORT] by which the gate reaches that registry (default: its address)")
	f.StringVar(&in.registryCert, "registry-cert", "", "PEM file of a certificate for that registry (default: it speaks HTTP)")
	f.StringVar(&in.registryKey, "registry-key", "", "key of --registry-cert")
	f.StringSliceVar(&in.only, "only", nil, "classes and cases to run, such as B3,B7/tag-lies")
	f.IntVar(&in.parallel, "parallel", 4, "how many cases run at once")
	f.DurationVar(&in.timeout, "timeout", 2*time.Minute, "how long one case may take")
	f.DurationVar(&in.hangUp, "hang-up", 35*time.Second, "how long the gate may keep a connection whose request never ends")
	f.BoolVar(&in.dryRun, "dry-run-reviews", false, "mark every review as a dry run, which a gate may treat differently")
	f.StringVarP(&in.output, "output", "o", string(formatText), "output format: text, json or junit")
	f.BoolVar(&in.list, "list", false, "list the classes and cases, and leave")
	f.StringVar(&in.explain, "explain", "", "tell what a case does, and leave")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json", formatJUnit}, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
	c.RunE = func(c *cobra.Command, _ []string) error { return runConformance(c, in) }
	return c
}

func runConformance(c *cobra.Command, in conformanceInput) (err error) {
	switch {
	case in.list:
		return listCases(c.OutOrStdout())
	case in.explain != "":
		return explainCase(c.OutOrStdout(), in.explain)
	case in.self && in.url != "":
		return errors.New("--self and --url: give one of them")
	case !slices.Contains([]string{string(formatText), string(formatJSON), formatJUnit}, in.output):
		return fmt.Errorf("--output %q: want text, json or junit", in.output)
	}
	registry, err := in.startRegistry()
	if err != nil {
		return err
	}
	if registry != nil {
		defer func() { _ = registry.Close() }() // nothing is lost with it
	}
	var options conformance.Options
	if in.self {
		self, err := startSelf(c.Context(), registry)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, self.stop()) }()
		options = self.Options
	} else if options, err = in.options(c); err != nil {
		return err
	}
	options.Registry, options.Only, options.Parallel = registry, in.only, in.parallel
	options.CaseTimeout, options.HangUp, options.DryRun = in.timeout, in.hangUp, in.dryRun
	if _, err := fmt.Fprintln(c.ErrOrStderr(), "gatehouse: sending reviews to the gate; nothing is created"); err != nil {
		return err
	}
	report, err := conformance.Run(c.Context(), options)
	if err != nil {
		return err
	}
	if err := printConformance(c.OutOrStdout(), report, in.output); err != nil {
		return err
	}
	if report.Failed > 0 {
		return errNo
	}
	return nil
}

// startRegistry returns nil if no registry was asked for.
func (in conformanceInput) startRegistry() (*conformance.Registry, error) {
	addr := in.registry
	if addr == "" {
		if !in.self {
			return nil, nil //nolint:nilnil // none was asked for
		}
		addr = "127.0.0.1:0"
	}
	o := conformance.RegistryOptions{Host: in.registryHost}
	if in.registryCert != "" || in.registryKey != "" {
		pair, err := tls.LoadX509KeyPair(in.registryCert, in.registryKey)
		if err != nil {
			return nil, fmt.Errorf("reading --registry-cert and --registry-key: %w", err)
		}
		o.Certificate = &pair
	}
	return conformance.StartRegistry(addr, o)
}

// options are those of a gate that runs somewhere.
func (in conformanceInput) options(c *cobra.Command) (conformance.Options, error) {
	o := conformance.Options{URL: in.url, ServerName: in.serverName}
	if in.url == "" {
		return o, errors.New("which gate? give --url WEBHOOK, or --self")
	}
	if in.profile != "" {
		data, err := readInput(c, in.profile)
		if err != nil {
			return o, err
		}
		if o.Profile, err = conformance.ParseProfile(in.profile, data); err != nil {
			return o, err
		}
	}
	if in.good != "" {
		o.Profile.Good = conformance.ProfileImage{Image: in.good}
	}
	if in.bad != "" {
		o.Profile.Bad = conformance.ProfileImage{Image: in.bad}
	}
	if o.Profile.Good.Image == "" || o.Profile.Bad.Image == "" {
		return o, errors.New("which image does the gate admit, and which does it deny? give --profile FILE, or --good IMAGE and --bad IMAGE, each by digest")
	}
	if in.ca != "" {
		data, err := readInput(c, in.ca)
		if err != nil {
			return o, err
		}
		o.Roots = x509.NewCertPool()
		if !o.Roots.AppendCertsFromPEM(data) {
			return o, fmt.Errorf("--ca %s: there is no PEM certificate in it", in.ca)
		}
	}
	if in.cert != "" || in.key != "" {
		pair, err := tls.LoadX509KeyPair(in.cert, in.key)
		if err != nil {
			return o, fmt.Errorf("reading --client-cert and --client-key: %w", err)
		}
		o.Certificate = &pair
	}
	return o, nil
}

func printConformance(w io.Writer, r *conformance.Report, output string) error {
	switch output {
	case string(formatJSON):
		return printJSON(w, r)
	case formatJUnit:
		data, err := r.JUnit()
		if err == nil {
			_, err = w.Write(data)
		}
		return err
	}
	_, err := io.WriteString(w, printableLines(r.Text()))
	return err
}

func listCases(w io.Writer) error {
	var b strings.Builder
	for _, class := range conformance.Classes() {
		fmt.Fprintf(&b, "%s  %s\n", class.ID, class.Title)
		for _, c := range class.Cases {
			fmt.Fprintf(&b, "    %-36s  %s\n", c.ID, c.Title)
		}
		if class.Beyond != "" {
			fmt.Fprintf(&b, "    Not tried: %s\n", class.Beyond)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func explainCase(w io.Writer, id string) error {
	c, ok := conformance.Find(id)
	if !ok {
		return fmt.Errorf("there is no case %q; see 'gatehouse conformance --list'", id)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\nWhere it does not hold: %s\n\nMust hold:\n", c.ID, c.Title, c.Gain)
	for _, line := range c.Must() {
		fmt.Fprintf(&b, "  - %s\n", line)
	}
	if needs := c.Needs(); len(needs) > 0 {
		fmt.Fprintf(&b, "\nNeeds: %s\n", strings.Join(needs, "; "))
	}
	if len(c.References) > 0 {
		fmt.Fprintf(&b, "\nSeen in: %s\n", strings.Join(c.References, ", "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
