package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/policy/admin/adminclient"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
	"github.com/gatehouse-dev/gatehouse/policy/keys"
	"github.com/gatehouse-dev/gatehouse/signature"
)

func attestorCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "attestor --config FILE",
		Short: "Run an attestor; or say who may attest, and by which keys",
		Long: `Run an attestor alone, with a configuration file of Voucher's (TOML, YAML or JSON): it
serves Voucher's API and /v1/checks, and files what it attests with the metadata server
that the file names. The same as serve --role attestor --attestor-config FILE. The file
is read again when it changes.

The sub-commands are about attestors as policies know them: a note and public keys.`,
		Example: `  gatehouse attestor --config voucher.toml --check-config
  gatehouse attestor --config voucher.toml --data /var/lib/gatehouse
  gatehouse attestor list`,
		Args: cobra.ArbitraryArgs,
	}
	var lone loneFlags
	lone.bind(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 || c.Flags().NFlag() == 0 {
			return runGroup(c, args)
		}
		return lone.run(c)
	}
	c.AddCommand(attestorListCommand(), attestorDescribeCommand(), attestorCreateCommand(), attestorDeleteCommand(), attestorAddKeyCommand(), attestorRemoveKeyCommand())
	return c
}

// attestorName returns the full name of an attestor, of which the id is enough.
func (s *serviceFlags) attestorName(id string) string {
	if strings.Contains(id, "/") {
		return id
	}
	return s.attestors() + "/" + id
}

func (s *serviceFlags) attestors() string { return "projects/" + s.project + "/attestors" }

func attestorListCommand() *cobra.Command {
	var service serviceFlags
	c := &cobra.Command{
		Use:   "list",
		Short: "List the attestors of a project",
		Long: `List the attestors of a project, with their notes and how many keys they have.

Exit status: 0 printed at least one, 1 there is none, 2 could not tell.`,
		Args: cobra.NoArgs,
	}
	service.bind(c)
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return service.run(c, func(ctx context.Context, client *adminclient.Client) error {
			list, err := client.List(ctx, service.attestors(), "attestors")
			if err != nil {
				return err
			}
			if err := printAttestors(c, *output, list); err != nil {
				return err
			}
			if len(list) == 0 {
				return errNo
			}
			return nil
		})
	}
	return c
}

func printAttestors(c *cobra.Command, output format, list []jsontext.Value) error {
	if output == formatJSON {
		if list == nil {
			list = []jsontext.Value{}
		}
		return printJSON(c.OutOrStdout(), list)
	}
	for _, content := range list {
		a, err := attestorIn(content)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(c.OutOrStdout(), "%s  %s  %s\n", a.Name, a.Note, counted(len(a.Keys), "key", "keys")); err != nil {
			return err
		}
	}
	return nil
}

// attestorIn reads an attestor of the service.
func attestorIn(content []byte) (*binauthz.Attestor, error) {
	h, err := headOf(content)
	if err != nil {
		return nil, err
	}
	a, found := binauthz.ParseAttestor(h.Name, content, h.Name)
	if a == nil {
		return nil, fmt.Errorf("reading the service's answer: %w", found.Err())
	}
	return a, nil
}

func attestorDescribeCommand() *cobra.Command {
	var service serviceFlags
	c := &cobra.Command{
		Use:   "describe ATTESTOR",
		Short: "Print an attestor, as gcloud describes it",
		Long: `Print an attestor, as YAML in the form of gcloud, or with --output json as the API
answers it.

Exit status: 0 printed, 1 there is none, 2 could not tell.`,
		Args: cobra.ExactArgs(1),
	}
	service.bind(c)
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return service.run(c, func(ctx context.Context, client *adminclient.Client) error {
			return show(ctx, c, client, service.attestorName(args[0]), *output)
		})
	}
	return c
}

func attestorCreateCommand() *cobra.Command {
	var service serviceFlags
	c := &cobra.Command{
		Use:   "create ID --note NOTE",
		Short: "Create an attestor for a note",
		Long: `Create an attestor whose attestations are filed under a note, which never changes. It
has no keys yet, and rules that require it deny every image until it has.

Exit status: 0 created, 1 refused, 2 could not tell.`,
		Example: `  gatehouse attestor create qa --note projects/shop/notes/qa --project shop`,
		Args:    cobra.ExactArgs(1),
	}
	service.bind(c)
	f := c.Flags()
	note := f.String("note", "", "the note: projects/P/notes/N, or N of --project (required)")
	description := f.String("description", "", "what it stands for")
	comment := f.String("comment", "", "why, for the history")
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if *note == "" {
			return errors.New("which note? give --note projects/P/notes/N")
		}
		a := binauthz.Attestor{Name: service.attestorName(args[0]), Description: *description, Note: *note}
		if !strings.Contains(*note, "/") {
			a.Note = "projects/" + service.project + "/notes/" + *note
		}
		body, err := a.EncodeJSON()
		if err != nil {
			return err
		}
		return service.run(c, func(ctx context.Context, client *adminclient.Client) error {
			content, err := client.Create(ctx, service.attestors(), "attestorId", args[0], body, *comment)
			if err != nil {
				return err
			}
			return written(c, *output, content, "is created")
		})
	}
	return c
}

func attestorDeleteCommand() *cobra.Command {
	var service serviceFlags
	c := &cobra.Command{
		Use:   "delete ATTESTOR",
		Short: "Delete an attestor",
		Long: `Delete an attestor. One that a policy names stays, unless --force deletes it: that
policy then denies what it asks the attestor for. "gatehouse policy rollback" with --of
brings it back.

Exit status: 0 deleted, 1 refused, 2 could not tell.`,
		Args: cobra.ExactArgs(1),
	}
	service.bind(c)
	force := c.Flags().Bool("force", false, "delete it even if a policy names it")
	c.RunE = func(c *cobra.Command, args []string) error {
		name := service.attestorName(args[0])
		return service.run(c, func(ctx context.Context, client *adminclient.Client) error {
			if err := client.Delete(ctx, name, *force); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s is deleted\n", printable(name))
			return err
		})
	}
	return c
}

func attestorAddKeyCommand() *cobra.Command {
	var service serviceFlags
	var pgpFile, pemFile, algorithm, id, keyComment string
	c := &cobra.Command{
		Use:   "add-key ATTESTOR --pem-file FILE|--pgp-file FILE",
		Short: "Add a public key to an attestor",
		Long: `Add a public key to an attestor: a PEM block of type PUBLIC KEY, or an OpenPGP key in
ASCII armour. What was signed by it before counts too.

Exit status: 0 added, 1 refused, 2 could not tell.`,
		Example: `  gatehouse attestor add-key qa --pem-file qa.pub --project shop
  gatehouse attestor add-key qa --pgp-file qa.asc --comment "of the build farm"`,
		Args: cobra.ExactArgs(1),
	}
	service.bind(c)
	f := c.Flags()
	f.StringVar(&pemFile, "pem-file", "", "file with a PEM public key")
	f.StringVar(&pgpFile, "pgp-file", "", "file with an OpenPGP public key")
	f.StringVar(&algorithm, "algorithm", "", "what a PEM key is used for, such as ecdsa-p256-sha256 (default: the usual one of its type)")
	f.StringVar(&id, "id", "", "what signatures call a PEM key (default: computed from it)")
	f.StringVar(&keyComment, "comment", "", "what the key is")
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		key, written, err := readKey(c, pemFile, pgpFile, algorithm, id)
		if err != nil {
			return err
		}
		written.Comment = keyComment
		return service.changeAttestor(c, args[0], *output, "has the key "+key.ID(), func(a *binauthz.Attestor) error {
			if slices.ContainsFunc(a.Keys, func(k *signature.PublicKey) bool { return k.ID() == key.ID() }) {
				return fmt.Errorf("attestor %q has a key %q already", a.Name, key.ID())
			}
			a.Keys, a.Written = append(a.Keys, key), append(a.Written, written)
			return nil
		})
	}
	return c
}

// readKey reads a public key from one of two files.
func readKey(c *cobra.Command, pemFile, pgpFile, algorithm, id string) (*signature.PublicKey, binauthz.WrittenKey, error) {
	var none binauthz.WrittenKey
	switch {
	case (pemFile == "") == (pgpFile == ""):
		return nil, none, errors.New("which key? give one of --pem-file and --pgp-file")
	case pgpFile != "" && (algorithm != "" || id != ""):
		return nil, none, errors.New("--algorithm and --id are for --pem-file: an OpenPGP key says both itself")
	}
	text, err := readInput(c, pemFile+pgpFile)
	if err != nil {
		return nil, none, err
	}
	written := binauthz.WrittenKey{Text: string(text)}
	if pgpFile != "" {
		if strings.Contains(written.Text, "BEGIN PUBLIC KEY-----") {
			return nil, none, fmt.Errorf("%s holds a PEM key; give it with --pem-file", pgpFile)
		}
		key, err := signature.ParsePGPPublicKey(written.Text)
		return key, written, err
	}
	if strings.Contains(written.Text, "BEGIN PGP PUBLIC KEY BLOCK-----") {
		return nil, none, fmt.Errorf("%s holds an OpenPGP key; give it with --pgp-file", pemFile)
	}
	parsed := keys.UsualAlgorithm(written.Text)
	if algorithm != "" {
		if parsed, err = signature.ParseAlgorithm(algorithm); err != nil {
			return nil, none, fmt.Errorf("--algorithm: %w", err)
		}
	}
	key, err := signature.ParsePKIXPublicKey(written.Text, parsed, id)
	return key, written, err
}

func attestorRemoveKeyCommand() *cobra.Command {
	var service serviceFlags
	c := &cobra.Command{
		Use:   "remove-key ATTESTOR KEYID",
		Short: "Remove a public key from an attestor",
		Long: `Remove a public key from an attestor. What was signed by it no longer counts.

Exit status: 0 removed, 1 refused, or there is no such key, 2 could not tell.`,
		Args: cobra.ExactArgs(2),
	}
	service.bind(c)
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return service.changeAttestor(c, args[0], *output, "no longer has the key "+args[1], func(a *binauthz.Attestor) error {
			i := slices.IndexFunc(a.Keys, func(k *signature.PublicKey) bool { return k.ID() == args[1] })
			if i < 0 {
				return fmt.Errorf("attestor %q has no key %q", a.Name, args[1])
			}
			a.Keys, a.Written = slices.Delete(a.Keys, i, i+1), slices.Delete(a.Written, i, i+1)
			return nil
		})
	}
	return c
}

// changeAttestor reads an attestor, changes it, and writes it back, if nobody else
// has changed it meanwhile. What change refuses is a no.
func (s *serviceFlags) changeAttestor(c *cobra.Command, id string, output format, what string, change func(*binauthz.Attestor) error) error {
	name := s.attestorName(id)
	return s.run(c, func(ctx context.Context, client *adminclient.Client) error {
		content, err := client.Get(ctx, name)
		if err != nil {
			return err
		}
		a, err := attestorIn(content)
		if err != nil {
			return err
		}
		if err := change(a); err != nil {
			return &adminclient.Error{Status: "FAILED_PRECONDITION", Message: err.Error()}
		}
		body, err := a.EncodeJSON() // its etag is that of what was read
		if err != nil {
			return err
		}
		if content, err = client.Put(ctx, name, body, ""); err != nil {
			return err
		}
		return written(c, output, content, what)
	})
}
