package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
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
	clientConfig
	file, passwordFile string
	timeout            waitFlag
	output             *format
	ask                func(*voucherclient.Client, context.Context, image.Reference, string) (attest.Response, error)
	yes, no            string
	silent             string // what a result without a reason means
}

func checkCommand() *cobra.Command {
	q := &question{ask: (*voucherclient.Client).Check, yes: "passed and is attested", no: "is not vouched for", silent: "did not pass"}
	var verify bool
	c := &cobra.Command{
		Use:   "check IMAGE",
		Short: "Have an attestor check an image, and attest what passes",
		Long: `Have an attestor run a check, or a group of checks, on an image, and attest each that
passes. An image given by tag is resolved to its digest first.

Exit status: 0 every check passed and is attested, 1 one did not pass, 2 could not tell,
3 every check passed and one is not attested: a dry run, or without its key.`,
		Example: `  gatehouse check registry.example/shop/web@sha256:…
  gatehouse check --check snakeoil registry.example/shop/web:1.4`,
		Args: cobra.ExactArgs(1),
	}
	q.command(c)
	c.Flags().BoolVar(&verify, "verify", false, "do as gatehouse verify does")
	c.PreRun = func(*cobra.Command, []string) {
		if verify {
			q.verifies()
		}
	}
	return c
}

func (q *question) verifies() {
	q.ask, q.yes, q.no, q.silent = (*voucherclient.Client).Verify, "is attested", "is not attested", "no attestation"
}

func verifyCommand() *cobra.Command {
	q := &question{}
	q.verifies()
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
	f.StringVarP(&q.Server, "server", "v", server, "URL of the attestor; "+envPrefix+"ATTESTOR sets the default")
	f.StringVar(&q.Server, "voucher", server, "the same as --server")
	f.StringVarP(&q.Check, "check", "c", attest.AllGroup, "check, or group of checks")
	f.StringVarP(&q.Auth, "auth", "a", authBasic, "how to say who asks: "+authBasic+", "+authIDToken+" or "+authDefaultAccessToken+", which are Google's")
	f.StringVar(&q.Username, "username", "", "user name, if the attestor asks for one")
	f.StringVar(&q.Password, "password", "", "the password; others on this machine can see it: use --password-file")
	f.StringVar(&q.passwordFile, "password-file", "", "file with the password")
	f.StringVar(&q.file, "config", "", "file of voucher_client's, with server, username, password, timeout, check and auth")
	q.timeout.Duration = attest.DefaultTimeout
	f.VarP(&q.timeout, "timeout", "t", "how long to wait for the answer: seconds, or 90s, 5m")
	q.output = outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error { return q.run(c, args[0]) }
}

func (q *question) run(c *cobra.Command, text string) error {
	if err := q.complete(c); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context(), q.timeout.Duration)
	defer cancel()
	client, err := q.client(ctx)
	if err != nil {
		return err
	}
	ref, err := digested(ctx, c.ErrOrStderr(), text)
	if err != nil {
		return err
	}
	answer, err := q.ask(client, ctx, ref, q.Check)
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
	switch {
	case err != nil || yes:
		return err
	case passed(answer):
		return errUnattested
	}
	return errNo
}

// complete reads the files that the flags name.
func (q *question) complete(c *cobra.Command) error {
	if q.file != "" {
		said, err := attest.LoadClientConfig(q.file, func(string) string { return "" })
		if err != nil {
			return err
		}
		q.Timeout = int(q.timeout.Seconds())
		changed := func(flag string) bool {
			f := c.Flags()
			switch flag {
			case "server":
				return f.Changed("server") || f.Changed("voucher")
			case "password":
				return f.Changed("password") || f.Changed("password-file")
			}
			return f.Changed(flag)
		}
		if err := q.overlay(changed, said, "server"); err != nil {
			return err
		}
		if !changed("timeout") {
			q.timeout.Duration = time.Duration(q.Timeout) * time.Second
		}
	}
	if q.passwordFile != "" {
		if c.Flags().Changed("password") {
			return errors.New("--password and --password-file: give one of them")
		}
		password, err := os.ReadFile(q.passwordFile)
		if err != nil {
			return fmt.Errorf("reading the password: %w", err)
		}
		q.Password = strings.TrimRight(string(password), "\r\n")
	}
	if (q.Username == "") != (q.Password == "") {
		return errors.New("--username and --password-file: give both or neither")
	}
	return nil
}

// waitFlag is a time as a flag: a number of seconds, as Voucher takes it, or a duration.
type waitFlag struct{ time.Duration }

func (w *waitFlag) Type() string { return "duration" }

func (w *waitFlag) Set(s string) error {
	d, err := time.ParseDuration(s)
	if n, bad := strconv.Atoi(s); bad == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d <= 0 {
		return errors.New("want seconds, or a time such as 90s or 5m")
	}
	w.Duration = d
	return nil
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

// passed reports whether every check passed.
func passed(a attest.Response) bool {
	for _, r := range a.Results {
		if !r.Success {
			return false
		}
	}
	return len(a.Results) > 0
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
		_, err := fmt.Fprintf(w, "  group %q has no checks\n", q.Check)
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
