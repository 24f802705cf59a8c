package decide

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

const noUsableKey = "the attestor has no public keys or no note, so that no attestation can satisfy it"

// attested asks whether one attestor that the rule names is satisfied.
func (g *gate) attested(name string, u *use) Reason {
	a, ok := g.rules.Attestors[name]
	switch {
	case !ok:
		return Reason{
			Code:     CodeAttestorMissing,
			Attestor: name,
			Message:  deniedBy(u.Text, name, "The attestor does not exist"),
			Required: "attestor " + name + " exists and has attested the image",
			Next:     "create attestor " + name + ", or take it out of the rule",
		}
	case !u.hasDigest():
		r := notDigested(u, name)
		r.Required = requiredOf(a, "the image's digest")
		return r
	case len(a.Keys) == 0 || a.Note == "":
		return notAttested(name, a, u, []string{noUsableKey})
	case u.known.State != evidence.Known:
		return unavailable(u.ref, u.known.Err)
	}
	best := -1
	for i := range u.known.Attestations {
		att := &u.known.Attestations[i]
		if att.Note == a.Note && a.Trusts(att.Fingerprint) && g.counts(&a, u.ref, att) && (best < 0 || newer(&att.Origin, &u.known.Attestations[best].Origin)) {
			best = i
		}
	}
	if best < 0 {
		return notAttested(name, a, u, g.foundInstead(&a, u))
	}
	return satisfied(CodeAttested, "Attested by "+name, name, &u.known.Attestations[best].Origin)
}

func satisfied(code Code, message, attestor string, by *evidence.Origin) Reason {
	return Reason{Verdict: ALLOW, Code: code, Message: message, Attestor: attestor, KeyID: by.KeyID, Occurrence: by.Occurrence}
}

// counts reports whether an attestation by a key of the attestor counts now for the image.
func (g *gate) counts(a *policy.Attestor, ref image.Reference, att *evidence.Attestation) bool {
	return att.ValidAt(g.now) && (!a.MatchRepository || att.Repository == ref.Repository())
}

// newer orders statements that all count, so that whichever order they come in,
// the same one is named.
func newer(a, b *evidence.Origin) bool {
	if c := a.Created.Compare(b.Created); c != 0 {
		return c > 0
	}
	return cmp.Or(cmp.Compare(a.Occurrence, b.Occurrence), cmp.Compare(a.KeyID, b.KeyID), bytes.Compare(a.Fingerprint[:], b.Fingerprint[:])) < 0
}

func (g *gate) signedBy(c policy.SignedBy, u *use) Reason {
	best, signer := -1, ""
	for i := range u.known.Attestations {
		att := &u.known.Attestations[i]
		if !slices.Contains(c.Projects, att.Project) || (c.Cosign && !att.Cosign) || !att.ValidAt(g.now) {
			continue
		}
		name, trusted := signerOf(c.Signers, att.Fingerprint)
		if trusted && (best < 0 || newer(&att.Origin, &u.known.Attestations[best].Origin)) {
			best, signer = i, name
		}
	}
	if best >= 0 {
		return satisfied(CodeAttested, "Attested by "+signer, signer, &u.known.Attestations[best].Origin)
	}
	var keys []policy.Key
	for _, s := range c.Signers {
		keys = append(keys, s.Keys...)
	}
	return Reason{
		Code:     CodeNotAttested,
		Message:  "No attestations found that were valid and signed by a trusted key",
		Details:  g.signedInstead(c, u),
		Required: "an attestation of " + u.ref.Digest().String() + " in " + projectsOf(c.Projects) + ", signed by " + keysOf(keys),
	}
}

// signedInstead tells what is filed in the projects and does not count.
func (g *gate) signedInstead(c policy.SignedBy, u *use) []string {
	var found details
	for i := range u.known.Attestations {
		att := &u.known.Attestations[i]
		_, trusted := signerOf(c.Signers, att.Fingerprint)
		switch {
		case !slices.Contains(c.Projects, att.Project):
		case !trusted:
			found.add("an attestation by key ", att.KeyID, " exists (", att.Occurrence, "), and the check does not trust that key")
		case c.Cosign && !att.Cosign:
			found.add("an attestation by key ", att.KeyID, " exists (", att.Occurrence, "), and it is no signature of cosign")
		default:
			found.add(g.invalid(att)...)
		}
	}
	found.addRejected(u, c.Projects)
	return found.list()
}

func signerOf(signers []policy.Signer, fingerprint [32]byte) (name string, ok bool) {
	for i := range signers {
		if signers[i].Trusts(fingerprint) {
			return signers[i].Name, true
		}
	}
	return "", false
}

func notAttested(name string, a policy.Attestor, u *use, details []string) Reason {
	r := Reason{
		Code:     CodeNotAttested,
		Attestor: name,
		Message:  deniedBy(u.Text, name, "No attestations found that were valid and signed by a key trusted by the attestor"),
		Details:  details,
		Required: requiredOf(a, u.ref.Digest().String()),
	}
	if _, note, ok := strings.Cut(a.Note, "/notes/"); ok {
		r.Next = "gatehouse check --check " + note + " " + u.ref.String()
	}
	return r
}

func requiredOf(a policy.Attestor, digest string) string {
	text := "an attestation of " + digest + " under " + a.Note + ", signed by " + keysOf(a.Keys)
	if a.MatchRepository {
		text += ", for the repository of the image"
	}
	return text
}

// foundInstead tells what is filed under the attestor's note and does not count.
func (g *gate) foundInstead(a *policy.Attestor, u *use) []string {
	var found details
	for i := range u.known.Attestations {
		att := &u.known.Attestations[i]
		switch {
		case att.Note != a.Note:
		case !a.Trusts(att.Fingerprint):
			found.add("an attestation by key ", att.KeyID, " exists (", att.Occurrence, "), and the attestor does not trust that key")
		case !att.ValidAt(g.now):
			found.add(g.invalid(att)...)
		default:
			found.add("an attestation by key ", att.KeyID, " exists (", att.Occurrence, ") for repository ", att.Repository, ", and the image is of ", u.ref.Repository())
		}
	}
	for i := range u.known.Rejected {
		if r := &u.known.Rejected[i]; r.Note == a.Note {
			found.add("the attestation ", r.Occurrence, " ", r.Reason)
		}
	}
	return found.list()
}

func (g *gate) invalid(att *evidence.Attestation) []string {
	if !att.NotAfter.IsZero() && !g.now.Before(att.NotAfter) {
		return []string{"the attestation ", att.Occurrence, " by key ", att.KeyID, " expired at ", att.NotAfter.UTC().Format(time.RFC3339)}
	}
	return []string{"the attestation ", att.Occurrence, " by key ", att.KeyID, " does not count before ", att.NotBefore.UTC().Format(time.RFC3339)}
}

// details are sentences, of which the first few are kept, as the alphabet has them:
// evidence comes in one order here and in another there, and that must not show.
type details struct {
	kept []string
	left int
}

func (d *details) add(parts ...string) {
	text := quoteOdd(cut(strings.Join(parts, ""), maxDetail))
	at, _ := slices.BinarySearch(d.kept, text)
	if d.kept = slices.Insert(d.kept, at, text); len(d.kept) > maxDetails {
		d.kept = d.kept[:maxDetails]
		d.left++
	}
}

// addRejected adds what is filed in the projects and was not accepted.
func (d *details) addRejected(u *use, projects []string) {
	for i := range u.known.Rejected {
		if r := &u.known.Rejected[i]; slices.Contains(projects, r.Project) {
			d.add("the attestation ", r.Occurrence, " ", r.Reason)
		}
	}
}

func (d *details) list() []string {
	if d.left > 0 {
		return append(d.kept, "and "+strconv.Itoa(d.left)+" more that do not count")
	}
	return d.kept
}
