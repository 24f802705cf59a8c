package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/identity"
)

// maxSecret bounds what is read from standard input.
const maxSecret = 16 << 10

func identityCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "identity",
		Short: "Make the lines of the files that say who may call the metadata API",
		Args:  cobra.ArbitraryArgs,
		RunE:  runGroup,
	}
	c.AddCommand(hashTokenCommand(), hashPasswordCommand())
	return c
}

func hashTokenCommand() *cobra.Command {
	var generate bool
	c := &cobra.Command{
		Use:   "hash-token NAME",
		Short: "Print the line of a caller for the bearer tokens file",
		Long: `Print the line NAME:HASH of a caller for the file that identity.bearerTokensFile
names. The token is read from standard input; only its hash is printed. With
--generate a random token is made, and shown once, on standard error: give it to
the caller.

While a token is replaced a caller may have two: NAME:HASH,HASH.`,
		Example: `  gatehouse identity hash-token --generate ci@shop >> tokens
  gatehouse identity hash-token ci@shop < token >> tokens`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().BoolVar(&generate, "generate", false, "make a random token and show it on standard error")
	c.RunE = func(c *cobra.Command, args []string) error {
		token := identity.NewToken()
		if !generate {
			var err error
			if token, err = readSecret(c.InOrStdin(), "token"); err != nil {
				return err
			}
		}
		line, err := identity.TokenLine(args[0], token)
		if err != nil {
			return fmt.Errorf("hashing the token of %q: %w", args[0], err)
		}
		if _, err := fmt.Fprintln(c.OutOrStdout(), line); err != nil || !generate {
			return err
		}
		_, err = fmt.Fprintln(c.ErrOrStderr(), token)
		return err
	}
	return c
}

func hashPasswordCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "hash-password NAME",
		Short: "Print the line of a user for the basic users file",
		Long: `Print the line NAME:BCRYPT of a user for the file that identity.basicUsersFile names.
The password is read from standard input; only its hash is printed.`,
		Example: `  gatehouse identity hash-password ada < password >> users`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			password, err := readSecret(c.InOrStdin(), "password")
			if err != nil {
				return err
			}
			line, err := identity.PasswordLine(args[0], password)
			if err != nil {
				return fmt.Errorf("hashing the password of %q: %w", args[0], err)
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), line)
			return err
		},
	}
}

// readSecret reads one line.
func readSecret(from io.Reader, what string) (string, error) {
	text, err := io.ReadAll(io.LimitReader(from, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("reading the %s: %w", what, err)
	}
	if len(text) > maxSecret {
		return "", fmt.Errorf("reading the %s: it is longer than %d bytes", what, maxSecret)
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if secret == "" {
		return "", errors.New("there is no " + what + " on standard input")
	}
	return secret, nil
}
