package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/attest/kritissigner"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata/transfer"
)

// storeTimeout is how long reading, signing and filing may take beside waiting for a
// scan.
const storeTimeout = 2 * time.Minute

// signFlags are the flags of Kritis' signer, and those that it did not need.
type signFlags struct {
	mode, image, policy, form string
	scanProjects              []string
	signer                    kritissigner.Options
	key                       kritissigner.KeyConfig
	metadata                  string
	server                    transfer.Server
	output                    *format
}

func signCommand() *cobra.Command {
	s := &signFlags{}
	c := &cobra.Command{
		Use:   "sign [IMAGE]",
		Short: "Sign an image that scans found nothing too bad in, as Kritis' signer does",
		Long: `Check what scans found in an image against a VulnzSigningPolicy, and attest the image
if it is within it. The image must be named by its digest.

--mode check-and-sign does both; check-only signs nothing; bypass-and-sign checks
nothing. The check waits until the scan has finished, for --vulnz-timeout at most; a
scan that failed, and none in that time, are errors.

An attestation that is there already makes another needless if it verifies with the
key. --overwrite signs anew, and deletes those by the key that were there.

Of several keys the first counts: --kms-key-name, --pgp-private-key,
--pkix-private-key. Flags may be written as Kritis has them, -note_name for
--note-name, and those of its log are accepted and do nothing.

Exit status: 0 the image is attested, or passed if nothing was to be signed; 1 it is not
within the policy; 2 could not tell, or not sign.`,
		Example: `  gatehouse sign --policy policy.yaml --note-name projects/default/notes/vulnz \
    --pkix-private-key key.pem registry.example/shop/web@sha256:…
  gatehouse sign --mode check-only --policy policy.yaml --output json registry.example/shop/web@sha256:…`,
		Args: cobra.MaximumNArgs(1),
	}
	s.bind(c)
	c.RunE = func(c *cobra.Command, args []string) error { return s.run(c, args) }
	return c
}

func (s *signFlags) bind(c *cobra.Command) {
	f := c.Flags()
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
	})
	f.StringVar(&s.mode, "mode", string(kritissigner.CheckAndSign), "check-and-sign, check-only or bypass-and-sign")
	f.StringVar(&s.image, "image", "", "the image, if it is not given as an argument")
	f.StringVar(&s.form, "form", attest.SimpleSigning.String(), "how it is signed and filed: simple-signing, jwt or dsse; Kritis knows the first")
	f.StringVar(&s.policy, "policy", "", "VulnzSigningPolicy file, to check by")
	f.DurationVar(&s.signer.Timeout, "vulnz-timeout", kritissigner.DefaultTimeout, "how long to wait for the scan; less than 0 is not to wait")
	f.StringVar(&s.signer.Note, "note-name", "", "note to attest under, projects/P/notes/N; it is made if it is not there")
	f.StringVar(&s.signer.Project, "attestation-project", "", "project to file the attestation in (default: the Google Cloud project in the image's name, else that of the note)")
	f.BoolVar(&s.signer.Overwrite, "overwrite", false, "sign anew, and delete the attestations by the key that are there")
	f.StringVar(&s.key.KMSKeyName, "kms-key-name", "", "sign with a version of a key of Google's Cloud KMS")
	f.StringVar(&s.key.KMSDigestAlg, "kms-digest-alg", "", "what that key signs: SHA256, SHA384 or SHA512 (default: what it prescribes)")
	f.StringVar(&s.key.KMS.Endpoint, "kms-endpoint", "", "HOST:PORT of a regional or private endpoint of Cloud KMS")
	f.StringVar(&s.key.PGPPrivateKey, "pgp-private-key", "", "sign with an OpenPGP key, from an armoured file")
	f.StringVar(&s.key.PGPPassphrase, "pgp-passphrase", "", "passphrase of that key; whoever lists processes can read it")
	f.StringVar(&s.key.PGPPassphraseFile, "pgp-passphrase-file", "", "file with the passphrase")
	f.StringVar(&s.key.PKIXPrivateKey, "pkix-private-key", "", "sign with a key from a PEM file")
	f.StringVar(&s.key.PKIXAlg, "pkix-alg", "", "how that key signs, such as ecdsa-p256-sha256 (default: the usual way of its type)")
	f.StringSliceVar(&s.scanProjects, "scan-project", nil, "projects whose scans are believed (default: the Google Cloud project in the image's name, else \"default\")")
	address := os.Getenv(envPrefix + "METADATA")
	if address == "" {
		address = defaultMetadata
	}
	f.StringVar(&s.metadata, "metadata", address, "the metadata API, HOST:PORT; "+envPrefix+"METADATA sets the default")
	connectionFlags(f, &s.server)
	s.output = outputFlag(c)
	ignored := pflag.NewFlagSet("glog", pflag.ContinueOnError)
	for _, name := range glogBools() {
		ignored.Bool(name, false, "")
	}
	for _, name := range glogTexts() {
		ignored.String(name, "", "")
	}
	ignored.VisitAll(func(g *pflag.Flag) {
		g.Hidden = true
		f.AddFlag(g)
	})
}

// The flags of glog, which Kritis' signer logs with.
func glogBools() []string { return []string{"logtostderr", "alsologtostderr"} }

func glogTexts() []string {
	return []string{"v", "vmodule", "stderrthreshold", "log_dir", "log_backtrace_at"}
}

// longFlags gives flags of one dash a second one, where others call a command so: those of
// Kritis' signer, and whatever containerd says to an image verifier.
func longFlags(args []string) []string {
	if len(args) == 0 {
		return args
	}
	var long func(name string) bool
	switch args[0] {
	case "sign":
		known := signCommand().Flags()
		long = func(name string) bool {
			return known.Lookup(name) != nil && (len(name) > 1 || known.ShorthandLookup(name) == nil)
		}
	case "image-verifier":
		long = func(name string) bool { return len(name) > 1 }
	default:
		return args
	}
	args = slices.Clone(args)
	for i, arg := range args[1:] {
		if arg == "--" {
			break
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(arg, "-"), "=")
		if oneDash := len(arg) > 1 && arg[0] == '-' && arg[1] != '-'; oneDash && long(name) {
			args[i+1] = "-" + arg
		}
	}
	return args
}

func (s *signFlags) run(c *cobra.Command, args []string) error {
	if s.signer.Timeout == 0 {
		s.signer.Timeout = -1 // not to wait, as 0 means the default to the signer
	}
	mode, err := kritissigner.ParseMode(s.mode)
	if err != nil {
		return fmt.Errorf("--mode: %w", err)
	}
	if s.signer.Form, err = attest.ParseForm(s.form); err != nil {
		return fmt.Errorf("--form: %w", err)
	}
	ref, err := s.reference(args)
	if err != nil {
		return err
	}
	if mode != kritissigner.BypassAndSign && s.policy != "" {
		policy, found, err := kritissigner.LoadPolicy(s.policy)
		if err != nil {
			return err
		}
		if err := report(c, found); err != nil {
			return err
		}
		s.signer.Policy = policy
	}
	ctx, cancel := context.WithTimeout(c.Context(), max(s.signer.Timeout, 0)+storeTimeout)
	defer cancel()
	if mode != kritissigner.CheckOnly {
		key, done, err := s.key.Open(ctx)
		if errors.Is(err, kritissigner.ErrNoKey) {
			return errors.New("which key? give --kms-key-name, --pgp-private-key or --pkix-private-key")
		} else if err != nil {
			return fmt.Errorf("reading the key: %w", err)
		}
		defer func() { _ = done() }()
		s.signer.Key = key
	}
	s.server.Address = s.metadata
	conn, err := s.server.Connect()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	s.signer.Store = grafeas.NewGrafeasClient(conn)
	return s.sign(ctx, c, mode, ref)
}

func (s *signFlags) reference(args []string) (image.Reference, error) {
	text := s.image
	switch {
	case len(args) == 1 && text != "" && text != args[0]:
		return image.Reference{}, fmt.Errorf("which image, %q or --image %q? give one", args[0], text)
	case len(args) == 1:
		text = args[0]
	case text == "":
		return image.Reference{}, errors.New("which image? give REPOSITORY@sha256:…, or --image")
	}
	ref, err := image.Parse(text)
	if err != nil {
		return ref, err
	}
	if ref.Digest().IsZero() {
		return ref, fmt.Errorf("%q: %w: what is signed is content, and a tag may be moved", text, kritissigner.ErrNoDigest)
	}
	return ref, nil
}

func (s *signFlags) sign(ctx context.Context, c *cobra.Command, mode kritissigner.Mode, ref image.Reference) error {
	s.signer.ScanProjects, s.signer.ImageProject = s.scanProjects, len(s.scanProjects) == 0
	if s.signer.ImageProject && kritissigner.ProjectOf(ref) == "" {
		s.signer.ScanProjects = []string{"default"}
	}
	told := ""
	s.signer.Waiting = func(state string) {
		if state != told {
			told = state
			_, _ = fmt.Fprintf(c.ErrOrStderr(), "waiting for the scan: %s\n", printable(state))
		}
	}
	signer, err := kritissigner.New(s.signer)
	if err != nil {
		return err
	}
	r, err := signer.Run(ctx, mode, ref)
	if err != nil {
		return err
	}
	if *s.output == formatJSON {
		err = printJSON(c.OutOrStdout(), r)
	} else {
		err = printSigned(c.OutOrStdout(), r)
	}
	if err == nil && !r.Signed && !r.Passed {
		return errNo
	}
	return err
}

// printSigned tells what came of it. The sentence about violations is Kritis'.
func printSigned(w io.Writer, r kritissigner.Report) error {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(printable(fmt.Sprintf(format, args...)) + "\n") }
	switch {
	case len(r.Violations) > 0:
		line("Image %q does not pass VulnzSigningPolicy %q:", r.Image, r.Policy)
		for _, v := range r.Violations {
			line("  %s", v)
		}
	case r.Passed:
		line("Image %q passes VulnzSigningPolicy %q, by the scans in %s", r.Image, r.Policy, strings.Join(r.Scans, ", "))
	default:
		line("Image %q was not checked", r.Image)
	}
	switch {
	case r.Existing:
		line("  it is attested already: %s", r.Attestation)
	case r.Signed:
		line("  it is attested now: %s", r.Attestation)
	}
	if r.Signed {
		line("  under %s, signed by %s", r.Note, r.KeyID)
	}
	for _, name := range r.Replaced {
		line("  in place of %s", name)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
