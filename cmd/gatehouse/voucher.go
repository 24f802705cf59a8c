package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/attest/voucherclient"
)

// errSaid is a failure of one of Voucher's commands that has been said in its words.
var errSaid = errors.New("said")

// runVoucher runs one of Voucher's commands, which fail with 1 whatever is wrong.
func runVoucher(ctx context.Context, c *cobra.Command, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c.SetArgs(args)
	c.SetIn(stdin)
	c.SetOut(stdout)
	c.SetErr(stderr)
	err := c.ExecuteContext(ctx)
	if err == nil {
		return exitYes
	}
	if !errors.Is(err, errSaid) {
		_, _ = fmt.Fprintf(stderr, "Error: %v\n", err)
	}
	return exitNo
}

// voucherServerCommand is the command that the binary is when it is called
// voucher_server: that which is gatehouse attestor otherwise, with Voucher's flags.
func voucherServerCommand() *cobra.Command {
	c := &cobra.Command{
		Use:           "server",
		Short:         "Runs the server",
		Args:          cobra.ArbitraryArgs,
		Version:       currentVersion().Version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.CompletionOptions.DisableDefaultCmd = true
	var lone loneFlags
	lone.bind(c)
	lone.logFormat = "json"
	f := c.Flags()
	for _, ours := range []string{"data", "attestor-addr", "ops-addr", "insecure-no-auth", "log-format", "check-config"} {
		_ = f.MarkHidden(ours) // it is there
	}
	_ = f.Set("log-format", "json") // Voucher's is
	f.Lookup("port").Usage = "port on which the server will listen"
	f.Lookup("timeout").Usage = "number of seconds that should be dedicated to a Voucher call"
	c.RunE = func(c *cobra.Command, _ []string) error { return lone.run(c) }
	return c
}

// voucherClient is what Voucher's client is told.
type voucherClient struct {
	clientConfig
	file   string
	verify bool
}

// voucherClientCommand is the command that the binary is when it is called
// voucher_client.
func voucherClientCommand() *cobra.Command {
	v := &voucherClient{}
	c := &cobra.Command{
		Use:   "voucher_client",
		Short: "voucher_client sends images to a Voucher server to be reviewed",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 {
				return errors.New("missing the image to check")
			}
			return nil
		},
		Version:       currentVersion().Version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.CompletionOptions.DisableDefaultCmd = true
	f := c.Flags()
	f.BoolVar(&v.verify, "verify", false, "Verify instead of check an image.")
	f.StringVar(&v.file, "config", "", "config file (default is $HOME/.voucher.yaml)")
	f.StringVarP(&v.Server, "voucher", "v", "http://localhost:8000", "Voucher server to connect to.")
	f.StringVar(&v.Username, "username", "", "Username to authenticate against Voucher with")
	f.StringVar(&v.Password, "password", "", "Password to authenticate against Voucher with")
	f.IntVarP(&v.Timeout, "timeout", "t", int(attest.DefaultTimeout/time.Second), "number of seconds to wait before failing")
	f.StringVarP(&v.Check, "check", "c", attest.AllGroup, "the name of the checks to run against Voucher with")
	f.StringVarP(&v.Auth, "auth", "a", authBasic, "the method to authenticate against Voucher with. Supported types: basic, idtoken, default-access-token")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := v.readConfig(c); err != nil {
			return err
		}
		return v.run(c, args[0])
	}
	return c
}

// readConfig reads the configuration file, which flags win over.
func (v *voucherClient) readConfig(c *cobra.Command) error {
	file := v.file
	if file == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil //nolint:nilerr // there is none, then
		}
		for _, format := range []string{"json", "toml", "yaml", "yml"} {
			if at := filepath.Join(home, ".voucher."+format); file == "" && isFile(at) {
				file = at
			}
		}
		if file == "" {
			return nil
		}
	}
	said, err := attest.LoadClientConfig(file, os.Getenv)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c.OutOrStdout(), "Using config file:", file); err != nil {
		return err
	}
	return v.overlay(c.Flags().Changed, said, "voucher")
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// run asks, and says what Voucher's client says.
func (v *voucherClient) run(c *cobra.Command, text string) error {
	fail := func(format string, args ...any) error {
		_, _ = fmt.Fprintf(c.ErrOrStderr(), format+"\n", args...) // there is nobody else to tell
		return errSaid
	}
	ctx, cancel := context.WithTimeout(c.Context(), time.Duration(v.Timeout)*time.Second)
	defer cancel()
	client, err := v.client(ctx, voucherclient.WithUserAgent("voucher-client/"+currentVersion().Version))
	if err != nil {
		return fail("creating client failed: %s", err)
	}
	ref, err := digested(ctx, io.Discard, text)
	if err != nil {
		return fail("getting canonical reference failed: %s", err)
	}
	doing, failed, ask := "Submitting image to Voucher", "checking image with voucher failed: signing image failed", client.Check
	if v.verify {
		doing, failed, ask = "Verifying image with Voucher", "verifying image with voucher failed: verifying image failed", client.Verify
	}
	out := c.OutOrStdout()
	if _, err := fmt.Fprintf(out, "%s: %s\n", doing, printable(ref.String())); err != nil {
		return err
	}
	response, err := ask(ctx, ref, v.Check)
	var status *voucherclient.StatusError
	switch {
	case errors.As(err, &status):
		return fail("%s: failed to get response: %s", failed, printable(status.Said()))
	case err != nil:
		return fail("%s: %s", failed, printable(err.Error()))
	}
	if _, err := io.WriteString(out, voucherText(response)); err != nil {
		return err
	}
	if !response.Success {
		before, _, _ := strings.Cut(failed, ":")
		return fail("%s: image failed to pass required check(s)", before)
	}
	return nil
}

// voucherText is a response as Voucher's client prints it.
func voucherText(r attest.Response) string {
	var b strings.Builder
	if r.Success {
		b.WriteString("image is approved\n")
	} else {
		b.WriteString("image was rejected\n")
	}
	for _, result := range r.Results {
		if result.Success {
			b.WriteString("   ✓ passed " + printable(result.Name))
			if !result.Attested {
				b.WriteString(", but wasn't attested")
			}
		} else {
			b.WriteString("   ✗ failed " + printable(result.Name))
		}
		if result.Error != "" {
			b.WriteString(", err: " + printable(result.Error))
		}
		b.WriteString("\n")
	}
	return b.String() + "\n"
}

// seconds is a number of seconds as a flag of Voucher's has it.
func seconds(n int) (time.Duration, error) {
	const day = 24 * 60 * 60
	if n < 0 || n > day {
		return 0, fmt.Errorf("%s: want seconds, at most %d", strconv.Itoa(n), day)
	}
	return time.Duration(n) * time.Second, nil
}
