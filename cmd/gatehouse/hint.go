package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/hint"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
	"github.com/gatehouse-dev/gatehouse/policy/admin/adminclient"
	"github.com/gatehouse-dev/gatehouse/policy/hints"
	"github.com/gatehouse-dev/gatehouse/signature"
)

func hintCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "hint",
		Short: "Say which digest is meant to run under a name",
		Args:  cobra.ArbitraryArgs,
		RunE:  runGroup,
	}
	c.AddCommand(hintPublishCommand(), hintRevokeCommand(), hintListCommand(), hintShowCommand(), hintVerifyCommand())
	return c
}

// hintFlags say where hints are, and whose count.
type hintFlags struct {
	service serviceFlags
	note    string
	signers []string
	cluster string
	key     attest.KeyFile
	output  *format
}

const defaultHintNote = "rollout-hints"

func (h *hintFlags) bind(c *cobra.Command) {
	h.service.bind(c)
	f := c.Flags()
	f.StringVar(&h.note, "note", defaultHintNote, "note that the hints are filed under, by its id or name")
	f.StringSliceVar(&h.signers, "hint-signers", nil, "files that say whose hints count (as for gatehouse serve)")
	f.StringVar(&h.cluster, "cluster", "", "cluster that it is about, LOCATION.NAME; empty is all")
	h.output = outputFlag(c)
	_ = c.MarkFlagFilename("hint-signers", "yaml", "json") // fails only for a flag that is not there
}

func (h *hintFlags) bindKey(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&h.key.File, "key", os.Getenv(envPrefix+"HINT_KEY"), "private key that signs: PEM, or armoured OpenPGP; "+envPrefix+"HINT_KEY sets the default (required)")
	f.StringVar(&h.key.PassphraseFile, "passphrase-file", "", "file with the passphrase of an OpenPGP key")
	f.StringVar(&h.key.Algorithm, "algorithm", "", "algorithm of a PEM key, if its usual one is not meant")
	f.StringVar(&h.key.ID, "key-id", "", "id of a PEM key, if it is not the usual one")
}

func (h *hintFlags) noteName() string {
	if strings.Contains(h.note, "/") {
		return h.note
	}
	return "projects/" + h.service.project + "/notes/" + h.note
}

// keys are those whose hints count: of the signers' files that name the note, and mine.
func (h *hintFlags) keys(mine ...*signature.PublicKey) ([]*signature.PublicKey, error) {
	keys := mine
	for _, path := range h.signers {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading signers of rollout hints: %w", err)
		}
		list, found := hints.Parse(path, data)
		if err := found.Err(); err != nil {
			return nil, err
		}
		keys = append(keys, hints.KeysByNote(list)[h.noteName()]...)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("whose hints count? give --hint-signers FILE with a signer of %s", h.noteName())
	}
	return keys, nil
}

// A filedHint is an occurrence of a hint, and what it says if one of the keys signed it.
type filedHint struct {
	Occurrence string    `json:"occurrence"`
	Name       string    `json:"name"`
	Digest     string    `json:"digest"`
	Sequence   uint64    `json:"sequence"`
	IssuedAt   time.Time `json:"issuedAt"`
	ExpiresAt  time.Time `json:"expiresAt"`
	Cluster    string    `json:"cluster,omitempty"`
	Revoked    bool      `json:"revoked,omitempty"`
	KeyID      string    `json:"keyId,omitempty"`
}

func describeHint(as, key string, h *hint.Hint) filedHint {
	return filedHint{
		Occurrence: as, Name: h.Name.String(), Digest: h.Digest.String(), Sequence: h.Sequence,
		IssuedAt: h.IssuedAt, ExpiresAt: h.ExpiresAt, Cluster: h.Cluster, Revoked: h.Revoked, KeyID: key,
	}
}

// readHints reads what is filed, and returns what keys have signed. Others are counted.
func readHints(ctx context.Context, client *adminclient.Client, note string, keys []*signature.PublicKey) (set *hint.Set, all []filedHint, others int, err error) {
	set = new(hint.Set)
	list, err := client.List(ctx, note+"/occurrences", "occurrences")
	if adminclient.StatusOf(err) == "NOT_FOUND" {
		return set, nil, 0, nil // the note is made with the first
	}
	if err != nil {
		return nil, nil, 0, err
	}
	for _, raw := range list {
		var o struct {
			Name        string    `json:"name"`
			CreateTime  time.Time `json:"createTime"`
			Attestation struct {
				SerializedPayload []byte `json:"serializedPayload"`
				Signatures        []struct {
					Signature   []byte `json:"signature"`
					PublicKeyID string `json:"publicKeyId"`
				} `json:"signatures"`
			} `json:"attestation"`
		}
		if err := json.Unmarshal(raw, &o); err != nil {
			return nil, nil, 0, fmt.Errorf("reading the service's answer: %w", err)
		}
		signed := false
		for _, s := range o.Attestation.Signatures {
			for _, k := range keys {
				if signed || !k.Matches(s.PublicKeyID) {
					continue
				}
				payload, err := k.Verify(o.Attestation.SerializedPayload, s.Signature)
				if err != nil {
					continue
				}
				if h, err := hint.Parse(payload, o.CreateTime); err == nil {
					signed = true
					set.Put(o.Name, h)
					all = append(all, describeHint(o.Name, k.ID(), &h))
				}
			}
		}
		if !signed {
			others++
		}
	}
	return set, all, others, nil
}

func hintPublishCommand() *cobra.Command {
	var h hintFlags
	var from string
	var life time.Duration
	var sequence uint64
	var dryRun bool
	c := &cobra.Command{
		Use:   "publish [NAME [DIGEST]] --key FILE",
		Short: "Publish a signed hint that a digest is meant to run under a name",
		Long: `Publish a signed hint that a digest is meant to run under a name: an image
(reg/app), a tag (reg/app:v1), a tag prefix (reg/app:v1.*), or a path (reg/shop/*).

Hints of one name are numbered; this one gets the next number. What is hinted already is
not hinted again before half of its life is over.

Exit status: 0 it is hinted, 1 the service or a number that was reached refuses, 2 could
not tell.`,
		Example: `  gatehouse hint publish --from-registry reg.example/shop/web:v1 --key hint.pem
  gatehouse hint publish reg.example/shop/web:v1.* sha256:… --key hint.pem --expires 72h`,
		Args: cobra.MaximumNArgs(2),
	}
	h.bind(c)
	h.bindKey(c)
	f := c.Flags()
	f.StringVar(&from, "from-registry", "", "reference whose digest now is meant; it is also the NAME, if none is given")
	f.DurationVar(&life, "expires", 30*24*time.Hour, "how long the hint counts")
	f.Uint64Var(&sequence, "sequence", 0, "number of the hint; 0 is the next")
	f.BoolVar(&dryRun, "dry-run", false, "print what would be signed, and publish nothing")
	c.RunE = func(c *cobra.Command, args []string) error {
		mean, err := meant(c.Context(), args, from)
		if err != nil {
			return err
		}
		mean.Cluster, mean.Sequence = h.cluster, sequence
		return h.publish(c, mean, life, dryRun)
	}
	return c
}

// meant reads the name and the digest of a hint.
func meant(ctx context.Context, args []string, from string) (hint.Hint, error) {
	var h hint.Hint
	text := from
	if len(args) > 0 {
		text = args[0]
	}
	switch {
	case text == "":
		return h, errors.New("what is hinted? give NAME and DIGEST, or --from-registry REFERENCE")
	case len(args) == 2 && from != "":
		return h, errors.New("give DIGEST or --from-registry, not both")
	case len(args) == 1 && from == "":
		return h, errors.New("which digest is meant? give it after NAME, or --from-registry REFERENCE")
	}
	var err error
	if h.Name, err = hint.ParseName(text); err != nil {
		return h, err
	}
	if len(args) == 2 {
		h.Digest, err = image.ParseDigest(args[1])
		return h, err
	}
	ref, err := image.Parse(from)
	if err != nil {
		return h, err
	}
	h.Digest, err = resolve.New().Digest(ctx, ref)
	return h, err
}

func (h *hintFlags) publish(c *cobra.Command, mean hint.Hint, life time.Duration, dryRun bool) error {
	if h.key.File == "" {
		return errors.New("which key signs? give --key FILE; it must be no key of an attestor")
	}
	signer, err := h.key.Signer()
	if err != nil {
		return err
	}
	keys, err := h.keys(signer.PublicKey())
	if err != nil {
		return err
	}
	mean.IssuedAt = time.Now().UTC().Truncate(time.Second)
	mean.ExpiresAt = mean.IssuedAt.Add(life)
	return h.service.run(c, func(ctx context.Context, client *adminclient.Client) error {
		set, all, _, err := readHints(ctx, client, h.noteName(), keys)
		if err != nil {
			return err
		}
		if have, ok := standing(all, &mean); ok && !mean.Revoked && mean.Sequence == 0 && have.ExpiresAt.Sub(mean.IssuedAt) > life/2 {
			return h.published(c, have, "is hinted already")
		}
		reached := set.Reached(mean)
		if mean.Sequence == 0 {
			mean.Sequence = reached + 1
		}
		if mean.Sequence <= reached {
			return fmt.Errorf("%w: hint %d of %s is there, and a lower or equal number would be a roll-back; give a greater --sequence, or none", errRolledBack, reached, mean.Name)
		}
		return h.sign(ctx, c, client, signer, &mean, dryRun)
	})
}

var errRolledBack = errors.New("the number was reached")

// standing returns the newest hint of the same name, if it is for the same digest.
func standing(all []filedHint, mean *hint.Hint) (filedHint, bool) {
	var newest filedHint
	for _, f := range all {
		if f.Name == mean.Name.String() && f.Cluster == mean.Cluster && f.Sequence >= newest.Sequence &&
			(mean.Name.Form() != hint.Directory || f.Digest == mean.Digest.String()) {
			newest = f
		}
	}
	return newest, newest.Name != "" && newest.Digest == mean.Digest.String() && !newest.Revoked
}

func (h *hintFlags) sign(ctx context.Context, c *cobra.Command, client *adminclient.Client, signer signature.Signer, mean *hint.Hint, dryRun bool) error {
	payload, err := mean.Payload()
	if err != nil {
		return err
	}
	if dryRun {
		_, err := fmt.Fprintf(c.OutOrStdout(), "%s\n", payload)
		return err
	}
	sig, err := signer.Sign(ctx, payload)
	if err != nil {
		return fmt.Errorf("signing the hint: %w", err)
	}
	if err := ensureHintNote(ctx, client, h.noteName()); err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{
		"resourceUri": mean.ResourceURI(), "noteName": h.noteName(), "kind": "ATTESTATION",
		"attestation": map[string]any{"serializedPayload": payload, "signatures": []any{map[string]any{"signature": sig, "publicKeyId": signer.KeyID()}}},
	})
	if err != nil {
		return err
	}
	created, err := client.Create(ctx, "projects/"+h.service.project+"/occurrences", "", "", body, "")
	if err != nil {
		return err
	}
	at, err := headOf(created)
	if err != nil {
		return err
	}
	return h.published(c, describeHint(at.Name, signer.KeyID(), mean), "is hinted")
}

// ensureHintNote creates the note with the first hint.
func ensureHintNote(ctx context.Context, client *adminclient.Client, note string) error {
	_, err := client.Get(ctx, note)
	if adminclient.StatusOf(err) != "NOT_FOUND" {
		return err
	}
	parent, id, ok := strings.Cut(note, "/notes/")
	if !ok {
		return fmt.Errorf("note %q: want projects/P/notes/N", note)
	}
	_, err = client.Create(ctx, parent+"/notes", "noteId", id, []byte(`{"shortDescription":"rollout hints","attestation":{"hint":{"humanReadableName":"gatehouse rollout hints"}}}`), "")
	if adminclient.StatusOf(err) == "ALREADY_EXISTS" {
		return nil
	}
	return err
}

func (h *hintFlags) published(c *cobra.Command, f filedHint, what string) error {
	if *h.output == formatJSON {
		return printJSON(c.OutOrStdout(), f)
	}
	if f.Revoked {
		what = "is hinted no more"
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "%s %s under %s, number %d, until %s\n", f.Digest, what, f.Name, f.Sequence, f.ExpiresAt.Format(time.RFC3339))
	return err
}

func hintRevokeCommand() *cobra.Command {
	var h hintFlags
	var life time.Duration
	c := &cobra.Command{
		Use:   "revoke NAME [DIGEST] --key FILE",
		Short: "Publish that nothing is meant to run under a name any more",
		Long: `Publish a hint that takes back those before it: nothing is meant to run under the name,
until a newer hint says otherwise. Of a path, DIGEST says which is permitted no more.

Exit status: 0 it is revoked, 1 there is nothing to revoke or the service refuses, 2 could
not tell.`,
		Args: cobra.RangeArgs(1, 2),
	}
	h.bind(c)
	h.bindKey(c)
	c.Flags().DurationVar(&life, "expires", hint.MaxLife, "how long the revocation is kept; afterwards nothing is meant to run either")
	c.RunE = func(c *cobra.Command, args []string) error {
		name, err := hint.ParseName(args[0])
		if err != nil {
			return err
		}
		mean := hint.Hint{Name: name, Cluster: h.cluster, Revoked: true}
		if len(args) == 2 {
			if mean.Digest, err = image.ParseDigest(args[1]); err != nil {
				return err
			}
			return h.publish(c, mean, life, false)
		}
		if name.Form() == hint.Directory {
			return errors.New("which digest is permitted no more in that path? give DIGEST")
		}
		return h.revokeNewest(c, mean, life)
	}
	return c
}

// revokeNewest finds out which digest was meant.
func (h *hintFlags) revokeNewest(c *cobra.Command, mean hint.Hint, life time.Duration) error {
	signer, err := h.key.Signer()
	if err != nil {
		return fmt.Errorf("reading --key: %w", err)
	}
	keys, err := h.keys(signer.PublicKey())
	if err != nil {
		return err
	}
	var newest filedHint
	err = h.service.run(c, func(ctx context.Context, client *adminclient.Client) error {
		_, all, _, err := readHints(ctx, client, h.noteName(), keys)
		for _, f := range all {
			if f.Name == mean.Name.String() && f.Cluster == mean.Cluster && f.Sequence >= newest.Sequence {
				newest = f
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	if newest.Name == "" {
		_, err := fmt.Fprintf(c.ErrOrStderr(), "gatehouse: there is no hint for %s by these keys\n", mean.Name)
		return errors.Join(errNo, err)
	}
	if mean.Digest, err = image.ParseDigest(newest.Digest); err != nil {
		return err
	}
	return h.publish(c, mean, life, false)
}

func hintListCommand() *cobra.Command {
	var h hintFlags
	c := &cobra.Command{
		Use:   "list --hint-signers FILE",
		Short: "List the hints that count, from the narrowest name to the widest",
		Long: `List the hints that signers have signed, the newest of each name first. How many others
are filed under the note is said on standard error.

Exit status: 0 printed at least one, 1 there is none, 2 could not tell.`,
		Args: cobra.NoArgs,
	}
	h.bind(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		keys, err := h.keys()
		if err != nil {
			return err
		}
		return h.service.run(c, func(ctx context.Context, client *adminclient.Client) error {
			set, all, others, err := readHints(ctx, client, h.noteName(), keys)
			if err != nil {
				return err
			}
			if others > 0 {
				if _, err := fmt.Fprintf(c.ErrOrStderr(), "gatehouse: %s under %s no hints by these keys, and count for nothing\n", counted(others, "occurrence is", "occurrences are"), h.noteName()); err != nil {
					return err
				}
			}
			return h.printList(c, set, all)
		})
	}
	return c
}

func (h *hintFlags) printList(c *cobra.Command, set *hint.Set, all []filedHint) error {
	sorted := make([]filedHint, 0, len(all))
	for _, of := range set.All() {
		for _, f := range all {
			if f == describeHint(f.Occurrence, f.KeyID, &of) && (len(sorted) == 0 || sorted[len(sorted)-1] != f) {
				sorted = append(sorted, f)
			}
		}
	}
	if *h.output == formatJSON {
		if err := printJSON(c.OutOrStdout(), sorted); err != nil {
			return err
		}
	} else {
		w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
		for _, f := range sorted {
			state := "until " + f.ExpiresAt.Format(time.RFC3339)
			if f.Revoked {
				state = "revoked"
			} else if !f.ExpiresAt.After(time.Now()) {
				state = "ended " + f.ExpiresAt.Format(time.RFC3339)
			}
			if _, err := fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", printable(f.Name), f.Sequence, f.Digest, state, printable(f.Cluster)); err != nil {
				return err
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if len(sorted) == 0 {
		return errNo
	}
	return nil
}

func hintShowCommand() *cobra.Command {
	var h hintFlags
	c := &cobra.Command{
		Use:   "show REFERENCE --hint-signers FILE",
		Short: "Print what is meant to run as a reference",
		Long: `Print the digest that is meant to run as a reference, and the hint that says so.

Exit status: 0 a digest is meant, 1 none is, 2 could not tell.`,
		Args: cobra.ExactArgs(1),
	}
	h.bind(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return h.ask(c, args[0], func(ref image.Reference, set *hint.Set) (any, string, bool) {
			res := set.Resolve(ref, h.cluster, time.Now())
			answer := struct {
				Reference string     `json:"reference"`
				Digest    string     `json:"digest,omitempty"`
				Hint      *filedHint `json:"hint,omitempty"`
				Why       string     `json:"why,omitempty"`
			}{Reference: ref.String(), Digest: res.Digest.String(), Why: res.Why}
			if res.Standing == hint.Stands {
				f := describeHint(res.As, "", &res.Hint)
				answer.Hint = &f
			}
			if res.Digest.IsZero() {
				return answer, res.Why, false
			}
			return answer, fmt.Sprintf("%s  by hint %d for %s, until %s", ref.WithDigest(res.Digest), res.Sequence, res.Name, res.Hint.ExpiresAt.Format(time.RFC3339)), true
		})
	}
	return c
}

func hintVerifyCommand() *cobra.Command {
	var h hintFlags
	c := &cobra.Command{
		Use:   "verify REFERENCE@DIGEST --hint-signers FILE",
		Short: "Tell whether a digest is the one that is meant to run",
		Long: `Tell whether the digest of a reference is the one that hints say is meant to run under
it, or permit in its path.

Exit status: 0 it is, 1 it is not or no hint is about it, 2 could not tell.`,
		Args: cobra.ExactArgs(1),
	}
	h.bind(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return h.ask(c, args[0], func(ref image.Reference, set *hint.Set) (any, string, bool) {
			f := set.About(ref, h.cluster)
			var why string
			switch {
			case ref.Digest().IsZero():
				why = "it has no digest; write REFERENCE@sha256:…"
			case f.Standing == hint.Unhinted:
				why = "no rollout hint is about it"
			case f.Standing == hint.Withdrawn:
				why = fmt.Sprintf("hint %d for %s was deleted, and none has taken its place", f.Sequence, f.Name)
			case f.Standing == hint.Elsewhere:
				why = fmt.Sprintf("hints for %s name other digests", f.Name)
			default:
				if why = f.Hint.Idle(time.Now()); why == "" && f.Hint.Digest != ref.Digest() {
					why = fmt.Sprintf("hint %d for %s says that %s is meant to run", f.Sequence, f.Name, f.Hint.Digest)
				}
			}
			answer := struct {
				Reference string `json:"reference"`
				Meant     bool   `json:"meant"`
				Why       string `json:"why,omitempty"`
			}{ref.String(), why == "", why}
			if why != "" {
				return answer, why, false
			}
			return answer, fmt.Sprintf("hint %d for %s says that it is meant to run", f.Sequence, f.Name), true
		})
	}
	return c
}

// ask answers a question about a reference.
func (h *hintFlags) ask(c *cobra.Command, text string, answer func(image.Reference, *hint.Set) (value any, line string, yes bool)) error {
	ref, err := image.Parse(text)
	if err != nil {
		return err
	}
	keys, err := h.keys()
	if err != nil {
		return err
	}
	return h.service.run(c, func(ctx context.Context, client *adminclient.Client) error {
		set, _, _, err := readHints(ctx, client, h.noteName(), keys)
		if err != nil {
			return err
		}
		value, line, yes := answer(ref, set)
		if *h.output == formatJSON {
			err = printJSON(c.OutOrStdout(), value)
		} else {
			_, err = fmt.Fprintln(c.OutOrStdout(), printable(line))
		}
		if err == nil && !yes {
			err = errNo
		}
		return err
	})
}
