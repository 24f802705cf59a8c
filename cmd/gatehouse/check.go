package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/attest/voucherclient"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
)

// defaultServer is where an attestor listens that was told nothing.
const defaultServer = "http://127.0.0.1:8000"

// question is what check and verify ask an attestor.
type question struct {
	server, check          string
	username, passwordFile string
	timeout                time.Duration
	output                 *format
	ask                    func(*voucherclient.Client, context.Context, image.Reference, string) (attest.Response, error)
	yes, no                string
	silent                 string // what a result without a reason means
}

func checkCommand() *cobra.Command {
	q := &question{ask: (*voucherclient.Client).Check, yes: "passed and is attested", no: "is not vouched for", silent: "did not pass"}
	c := &cobra.Command{
		Use:   "check IMAGE",
		Short: "Have an attestor check an image, and attest what passes",
		Long: `Have an attestor run a check, or a group of checks, on an image, and attest each that
passes. An image given by tag is resolved to its digest first.

Exit status: 0 every check passed and is attested, 1 not so, 2 could not tell.`,
		Example: `  gatehouse check registry.example/shop/web@sha256:…
  gatehouse check --check snakeoil registry.example/shop/web:1.4`,
		Args: cobra.ExactArgs(1),
	}
	q.command(c)
	return c
}

func verifyCommand() *cobra.Command {
	q := &question{ask: (*voucherclient.Client).Verify, yes: "is attested", no: "is not attested", silent: "no attestation"}
	c := &cobra.Command{
		Use:   "verify IMAGE",
		Short: "Ask an attestor whether an image has its attestations",
		Long: `Ask an attestor whether an image has the attestations of a check, or of a group of
checks. The attestor verifies their signatures; it runs no check.

Exit status: 0 all are there, 1 not so, 2 could not tell.`,
		Example: `  gatehouse verify registry.example/shop/web@sha256:…`,
		Args:    cobra.ExactArgs(1),
	}
	q.command(c)
	return c
}

func (q *question) command(c *cobra.Command) {
	f := c.Flags()
	server := os.Getenv(envPrefix + "ATTESTOR")
	if server == "" {
		server = defaultServer
	}
	f.StringVar(&q.server, "server", server, "URL of the attestor; "+envPrefix+"ATTESTOR sets the default")
	f.StringVar(&q.check, "check", attest.AllGroup, "check, or group of checks")
	f.StringVar(&q.username, "username", "", "user name, if the attestor asks for one")
	f.StringVar(&q.passwordFile, "password-file", "", "file with the password")
	f.DurationVar(&q.timeout, "timeout", attest.DefaultTimeout, "how long to wait for the answer")
	q.output = outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error { return q.run(c, args[0]) }
}

func (q *question) run(c *cobra.Command, text string) error {
	client, err := q.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context(), q.timeout)
	defer cancel()
	ref, err := digested(ctx, c.ErrOrStderr(), text)
	if err != nil {
		return err
	}
	answer, err := q.ask(client, ctx, ref, q.check)
	if status := (*voucherclient.StatusError)(nil); errors.As(err, &status) && status.Status == http.StatusNotFound {
		err = fmt.Errorf("%w; what this attestor does not check is attested by whoever has the key (docs/attest-by-hand.md)", err)
	}
	if err != nil {
		return err
	}
	yes := vouched(answer)
	if *q.output == formatJSON {
		err = printJSON(c.OutOrStdout(), answer)
	} else {
		err = q.print(c.OutOrStdout(), answer, yes)
	}
	if err == nil && !yes {
		return errNo
	}
	return err
}

func (q *question) client() (*voucherclient.Client, error) {
	if (q.username == "") != (q.passwordFile == "") {
		return nil, errors.New("--username and --password-file: give both or neither")
	}
	if q.username == "" {
		return voucherclient.New(q.server)
	}
	password, err := os.ReadFile(q.passwordFile)
	if err != nil {
		return nil, fmt.Errorf("reading the password: %w", err)
	}
	return voucherclient.New(q.server, voucherclient.WithBasicAuth(q.username, strings.TrimRight(string(password), "\r\n")))
}

// digested parses an image, and asks its registry for the digest if it has none.
func digested(ctx context.Context, progress io.Writer, text string) (image.Reference, error) {
	ref, err := image.Parse(text)
	if err != nil || !ref.Digest().IsZero() {
		return ref, err
	}
	digest, err := resolve.New().Digest(ctx, ref)
	if err != nil {
		return image.Reference{}, fmt.Errorf("finding the digest of %s: %w", text, err)
	}
	ref = ref.WithDigest(digest)
	_, err = fmt.Fprintf(progress, "%s is %s now\n", text, ref)
	return ref, err
}

// vouched reports whether every check passed and is attested: a check that passed
// and could not be attested leaves the image as unattested as one that failed.
func vouched(a attest.Response) bool {
	for _, r := range a.Results {
		if !r.Attested {
			return false
		}
	}
	return a.Success && len(a.Results) > 0
}

func (q *question) print(w io.Writer, a attest.Response, yes bool) error {
	verdict := q.no
	if yes {
		verdict = q.yes
	}
	if _, err := fmt.Fprintf(w, "%s %s\n", printable(a.Image), verdict); err != nil {
		return err
	}
	if len(a.Results) == 0 {
		_, err := fmt.Fprintf(w, "  group %q has no checks\n", q.check)
		return err
	}
	for _, r := range a.Results {
		mark, text := "✗", r.Error
		switch {
		case r.Success && r.Attested:
			mark = "✓"
			if r.Details != nil && r.Details.KeyID != "" {
				text = "signed by " + r.Details.KeyID
			}
		case r.Success:
			text = strings.TrimSuffix("passed, but is not attested: "+r.Error, ": ")
		case text == "":
			text = q.silent // Voucher's protocol gives no reason
		}
		if _, err := fmt.Fprintf(w, "  %s %-12s %s\n", mark, printable(r.Name), printable(text)); err != nil {
			return err
		}
	}
	return nil
}
