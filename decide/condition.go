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

const (
	// maxDetails bounds how many statements that do not count are listed for one
	// attestor. Whoever may write occurrences can add as many as he likes.
	maxDetails = 3
	// maxVulnerabilities bounds those that are listed: the worst come first.
	maxVulnerabilities = 20
	// maxDetail bounds one of them, in bytes. The reason stands at its end, after the
	// names of an occurrence and of a key.
	maxDetail = 450
	// maxRequired bounds the keys that one sentence names.
	maxRequired = 3
)

// condition asks whether a condition is met by an image. What is not known here is
// not met.
func (g *gate) condition(c policy.Condition, u *use, out *reasons) Verdict {
	switch c := c.(type) {
	case policy.Attested:
		return out.add(g.attested(c.Attestor, u))
	case policy.AllOf:
		return g.allOf(c, u, out)
	case policy.AnyOf:
		return g.anyOf(c, u, out)
	case policy.Never:
		return out.add(Reason{Code: CodeAlwaysDeny, Message: "The check always denies", Next: "no image may run here unless the policy exempts it; ask the owners of the policy"})
	case policy.Digested:
		if !u.hasDigest() {
			return out.add(notDigested(u, ""))
		}
		return out.add(Reason{Verdict: ALLOW, Code: CodeDigest, Message: "The image is named by its digest"})
	case policy.InDirectory:
		return out.add(inDirectory(c, u))
	}
	return out.add(g.byEvidence(c, u))
}

// byEvidence asks a condition that rests on evidence, which is about digests.
func (g *gate) byEvidence(c policy.Condition, u *use) Reason {
	switch why, next := unmeetable(c); {
	case why != "":
		return Reason{Code: CodeNoCheck, Message: "The check can never pass: " + why, Next: next}
	case !u.hasDigest():
		return notDigested(u, "")
	case u.known.State != evidence.Known:
		return unavailable(u.ref, u.known.Err)
	}
	switch c := c.(type) {
	case policy.SignedBy:
		return g.signedBy(c, u)
	case policy.Vulnerabilities:
		return vulnerabilities(c, u)
	case policy.Fresh:
		return g.fresh(c, u)
	case policy.BuiltBy:
		return builtBy(c, u)
	}
	return Reason{Code: CodeNoCheck, Message: "The check demands nothing that is known here"}
}

// unmeetable tells why no evidence can meet a condition, "" if some can, and what to
// do. Such a condition denies also while evidence cannot be read: it is not in doubt.
func unmeetable(c policy.Condition) (why, next string) {
	const (
		noKey     = "it names no key that is trusted"
		noProject = "it names no project to look in"
		correct   = "correct the check, or take it out of the rule"
	)
	switch c := c.(type) {
	case policy.SignedBy:
		switch {
		case !haveKeys(c.Signers):
			return noKey, correct
		case len(c.Projects) == 0:
			return noProject, correct
		}
		return "", ""
	case policy.Vulnerabilities:
		if len(c.Projects) == 0 {
			return noProject, correct
		}
		return "", ""
	case policy.Fresh:
		switch {
		case !haveKeys(c.Recorders):
			return "nobody's records of uploads are trusted here", "give the gate an attestor of its project, whose keys sign such records"
		case len(c.Projects) == 0:
			return noProject, correct
		case c.MaxAge <= 0:
			return "it allows no age", correct
		}
		return "", ""
	case policy.BuiltBy:
		for i := range c.Rules {
			if r := &c.Rules[i]; len(r.Projects) > 0 && len(r.Builder.Keys) > 0 && len(r.Builder.IDs) > 0 {
				return "", ""
			}
		}
		return "none of its rules names a builder whose keys are known here, and a project to look in",
			"tell the gate the keys of the builder (gatehouse serve --builders), or correct the check"
	}
	return "it demands nothing that is known here", correct
}

func haveKeys(signers []policy.Signer) bool {
	return slices.ContainsFunc(signers, func(s policy.Signer) bool { return len(s.Keys) > 0 })
}

func (g *gate) allOf(all policy.AllOf, u *use, out *reasons) Verdict {
	if len(all.Of) == 0 {
		return out.add(Reason{Code: CodeNoCheck, Message: "The policy demands nothing, which nothing satisfies", Alternative: all.Name})
	}
	verdict, before := ALLOW, len(*out)
	for _, c := range all.Of {
		verdict = worse(verdict, g.condition(c, u, out))
	}
	if all.Name != "" {
		for i := range (*out)[before:] {
			(*out)[before+i].Alternative = all.Name
		}
	}
	return verdict
}

// anyOf tells what satisfied it, or all that did not.
func (g *gate) anyOf(ways policy.AnyOf, u *use, out *reasons) Verdict {
	if len(ways.Of) == 0 {
		return out.add(Reason{Code: CodeNoCheck, Message: "The policy offers no way to pass"})
	}
	verdict, before := DENY, len(*out)
	for _, c := range ways.Of {
		last := len(*out)
		v := g.condition(c, u, out)
		if v == ALLOW {
			*out = slices.Delete(*out, before, last)
			return v
		}
		verdict = better(verdict, v)
	}
	return verdict
}

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
		return notAttested(name, a, u, []string{"the attestor has no public keys or no note, so that no attestation can satisfy it"})
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
	return g.valid(att) && (!a.MatchRepository || att.Repository == ref.Repository())
}

// valid reports whether the attestation's own bounds in time contain now.
func (g *gate) valid(att *evidence.Attestation) bool {
	return (att.NotBefore.IsZero() || !g.now.Before(att.NotBefore)) && (att.NotAfter.IsZero() || g.now.Before(att.NotAfter))
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
		if !slices.Contains(c.Projects, att.Project) || (c.Cosign && !att.Cosign) || !g.valid(att) {
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
	for i := range u.known.Rejected {
		if r := &u.known.Rejected[i]; slices.Contains(c.Projects, r.Project) {
			found.add("the attestation ", r.Occurrence, " ", r.Reason)
		}
	}
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

// A violation is a vulnerability beyond the limits.
type violation struct {
	evidence.Finding
	limit string
}

func vulnerabilities(c policy.Vulnerabilities, u *use) Reason {
	scanned, truncated, status := false, false, ""
	var found []violation
	for i := range u.known.Scans {
		scan := &u.known.Scans[i]
		if !slices.Contains(c.Projects, scan.Project) {
			continue
		}
		scanned = scanned || scan.Finished
		truncated = truncated || scan.Truncated
		status = max(status, scan.Status)
		for _, f := range scan.Findings {
			if limit, bad := violates(c, f); bad {
				found = append(found, violation{f, limit})
			}
		}
	}
	if len(found) == 0 && !truncated && (scanned || c.UnscannedAllowed) {
		return Reason{Verdict: ALLOW, Code: CodeScanned, Message: "No vulnerabilities found that the policy does not allow"}
	}
	required := "a finished scan in " + projectsOf(c.Projects) + " that found nothing above " + c.MaxFixable.String() + " with a fix, or above " + c.MaxUnfixable.String() + " without"
	switch {
	case len(found) > 0:
		return Reason{
			Code:     CodeVulnerable,
			Message:  "Image has " + counted(len(found), "vulnerability", "vulnerabilities") + " that the policy does not allow",
			Details:  listed(found),
			Required: required,
			Next:     "update what has a fix, or have the owners of the policy allow what cannot be fixed",
		}
	case !scanned && !c.UnscannedAllowed:
		r := Reason{
			Code: CodeNotScanned, Required: required,
			Message: "No finished vulnerability scan was found for the image in " + projectsOf(c.Projects),
			Next:    "scan the image, or wait until its scan has finished",
		}
		if status != "" {
			r.Details = []string{"the latest scan is " + plain(status)}
		}
		return r
	}
	return Reason{
		Verdict: INDETERMINATE, Code: CodeScanTruncated, Required: required,
		Message: "More vulnerabilities were found in the image than could be kept, so that it is not known whether the policy allows them",
	}
}

// violates reports whether a vulnerability is beyond the limits, and which.
func violates(c policy.Vulnerabilities, f evidence.Finding) (limit string, bad bool) {
	if names(c.Blocked, f.Note) {
		return "the policy blocks it by name", true
	}
	if names(c.Allowed, f.Note) {
		return "", false
	}
	most, what := c.MaxUnfixable, "without a fix"
	if f.Fixable {
		most, what = c.MaxFixable, "with a fix"
	}
	if most.Allows(policy.Severity(f.Severity)) || (c.UnspecifiedAllowed && f.Severity == 0 && most > policy.BlockAll && most <= policy.AllowAll) {
		return "", false
	}
	return "the most that is allowed " + what + " is " + most.String(), true
}

// names reports whether a list has the name of a note, in full or by its id.
func names(list []string, note string) bool {
	id := note[strings.LastIndexByte(note, '/')+1:]
	for _, n := range list {
		if n != "" && (n == note || n == id) {
			return true
		}
	}
	return false
}

var severities = [...]string{"SEVERITY_UNSPECIFIED", "MINIMAL", "LOW", "MEDIUM", "HIGH", "CRITICAL"}

func severityName(n int) string {
	if n < 0 || n >= len(severities) {
		return "severity " + strconv.Itoa(n)
	}
	return severities[n]
}

func listed(found []violation) []string {
	slices.SortFunc(found, func(a, b violation) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(a.Note, b.Note), cmp.Compare(a.limit, b.limit))
	})
	var list []string
	for i, v := range found {
		if i == maxVulnerabilities {
			return append(list, "and "+strconv.Itoa(len(found)-i)+" more")
		}
		list = append(list, plain(v.Note[strings.LastIndexByte(v.Note, '/')+1:])+" ("+severityName(v.Severity)+"): "+v.limit)
	}
	return list
}

// fresh looks at the earliest time that was recorded: who uploads an image again
// does not make it any younger.
func (g *gate) fresh(c policy.Fresh, u *use) Reason {
	var earliest *evidence.Upload
	for i := range u.known.Uploads {
		up := &u.known.Uploads[i]
		if _, trusted := signerOf(c.Recorders, up.Fingerprint); !trusted || !slices.Contains(c.Projects, up.Project) {
			continue
		}
		if earliest == nil || up.Time.Before(earliest.Time) || (up.Time.Equal(earliest.Time) && newer(&up.Origin, &earliest.Origin)) {
			earliest = up
		}
	}
	required := func() string { return "the image was uploaded within the last " + days(c.MaxAge) }
	if earliest == nil {
		return Reason{
			Code: CodeUploadUnknown, Required: required(),
			Message: "It is not recorded when the image was uploaded",
			Next:    "have an attestor of the project sign a record of the upload",
		}
	}
	at := earliest.Time.UTC().Format(time.RFC3339)
	switch age := g.now.Sub(earliest.Time); {
	case age < 0:
		return Reason{Code: CodeStale, Required: required(), Message: "Image is recorded as uploaded in the future, at " + at, Occurrence: earliest.Occurrence}
	case age > c.MaxAge:
		return Reason{
			Code: CodeStale, Required: required(), Occurrence: earliest.Occurrence,
			Message: "Image was uploaded at " + at + ", longer than " + days(c.MaxAge) + " ago",
			Next:    "build the image anew",
		}
	}
	return Reason{Verdict: ALLOW, Code: CodeFresh, Message: "Image was uploaded at " + at, KeyID: earliest.KeyID, Occurrence: earliest.Occurrence}
}

func days(d time.Duration) string {
	const day = 24 * time.Hour
	if d%day == 0 {
		return counted(int(d/day), "day", "days")
	}
	return d.String()
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

func inDirectory(c policy.InDirectory, u *use) Reason {
	if u.err == nil {
		for _, p := range c.Patterns {
			if p.Match(u.ref) {
				return Reason{Verdict: ALLOW, Code: CodeTrusted, Message: "Image is in trusted directory " + p.String()}
			}
		}
	}
	required := make([]string, 0, len(c.Patterns))
	for _, p := range c.Patterns {
		required = append(required, p.String())
	}
	r := Reason{Code: CodeNotTrusted, Message: "Image is not in a trusted directory", Required: cut("the image is in "+strings.Join(required, " or "), maxPlain)}
	if u.err != nil {
		r.Code, r.Details = CodeInvalidReference, []string{plain(u.err.Error())}
	}
	return r
}

func builtBy(c policy.BuiltBy, u *use) Reason {
	type unlikeness struct {
		of  *evidence.Provenance
		why func() string
	}
	var others []unlikeness
	for i := range c.Rules {
		rule := &c.Rules[i]
		best := -1
		for j := range u.known.Provenances {
			p := &u.known.Provenances[j]
			if !slices.Contains(rule.Projects, p.Project) {
				continue
			}
			switch why := unlike(rule, p); {
			case why != nil:
				others = append(others, unlikeness{p, why})
			case best < 0 || newer(&p.Origin, &u.known.Provenances[best].Origin):
				best = j
			}
		}
		if best >= 0 {
			return satisfied(CodeBuilt, "Built by "+rule.Builder.Name, rule.Builder.Name, &u.known.Provenances[best].Origin)
		}
	}
	var found details
	for _, o := range others {
		found.add("the provenance ", o.of.Occurrence, " ", o.why())
	}
	builders := make([]string, 0, len(c.Rules))
	for i := range c.Rules {
		builders = append(builders, c.Rules[i].Builder.Name)
	}
	return Reason{
		Code:     CodeNotBuilt,
		Message:  "No provenance found that satisfies a rule of the check",
		Details:  found.list(),
		Required: cut("a provenance of "+u.ref.Digest().String()+", signed by "+strings.Join(builders, " or ")+", as one of the rules says", maxPlain),
	}
}

// unlike tells why a provenance from a project of the rule does not satisfy it, nil
// if it does.
func unlike(rule *policy.ProvenanceRule, p *evidence.Provenance) func() string {
	switch {
	case !rule.Builder.Trusts(p.Fingerprint):
		return func() string { return "is signed by key " + p.KeyID + ", which is not one of " + rule.Builder.Name }
	case !begins(p.Builder, rule.Builder.IDs):
		return func() string {
			return "names the builder " + strconv.Quote(cut(p.Builder, maxPlain)) + ", which is not " + rule.Builder.Name
		}
	case rule.ConfigBased && !p.ConfigBased:
		return func() string { return "is of a build without a configuration in its source" }
	case len(rule.Sources) > 0 && !covers(rule.Sources, p.Source):
		return func() string {
			return "is of source " + strconv.Quote(cut(p.Source, maxPlain)) + ", which the policy does not trust"
		}
	case rule.Constraint != nil:
		switch holds, err := rule.Constraint.Holds(p.Statement); {
		case err != nil:
			return func() string { return "could not be evaluated: " + plain(err.Error()) }
		case !holds:
			return func() string { return "does not satisfy " + strconv.Quote(cut(rule.Constraint.String(), maxPlain)) }
		}
	}
	return nil
}

func begins(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if p != "" && strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

func covers(patterns []policy.SourcePattern, url string) bool {
	for _, p := range patterns {
		if p.Match(url) {
			return true
		}
	}
	return false
}

func notDigested(u *use, attestor string) Reason {
	const expected = "Expected digest with sha256 scheme, but got tag or malformed digest"
	r := Reason{Code: CodeNoDigest, Attestor: attestor, Message: expected, Required: "the image is named by its digest"}
	if attestor != "" {
		r.Message = deniedBy(u.Text, attestor, expected)
	}
	switch {
	case u.err != nil:
		r.Code = CodeInvalidReference
		r.Details = []string{plain(u.err.Error())}
		r.Next = "correct the image reference; REGISTRY/REPOSITORY@sha256:… is the form to use"
	case !u.built.IsZero():
		r.Next = "write " + u.ref.WithDigest(u.built).String() + ", which is what was last built as " + u.ref.String()
	default:
		r.Next = "write " + u.ref.Name() + "@sha256:…; the digest that the tag has now is what your registry or 'crane digest " + u.ref.String() + "' prints"
	}
	return r
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

func keysOf(keys []policy.Key) string {
	if len(keys) == 0 {
		return "a key, of which there is none"
	}
	ids := make([]string, 0, maxRequired)
	for i, k := range keys {
		if i == maxRequired {
			return "key " + strings.Join(ids, ", ") + " or one of " + strconv.Itoa(len(keys)-i) + " more"
		}
		ids = append(ids, plain(k.ID))
	}
	return "key " + strings.Join(ids, " or ")
}

func projectsOf(list []string) string {
	switch len(list) {
	case 0:
		return "a project, of which the policy names none"
	case 1:
		return "project " + list[0]
	}
	return "one of the projects " + cut(strings.Join(list, ", "), maxPlain)
}

func unavailable(ref image.Reference, cause string) Reason {
	if cause == "" {
		cause = "it was not loaded"
	}
	return Reason{
		Verdict: INDETERMINATE,
		Code:    CodeEvidenceUnavailable,
		Message: "The evidence about image " + plain(ref.String()) + " could not be read: " + plain(cause),
		Next:    "try again in a moment; if it stays, tell the operators of the gate",
	}
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
		case !g.valid(att):
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

func (d *details) list() []string {
	if d.left > 0 {
		return append(d.kept, "and "+strconv.Itoa(d.left)+" more that do not count")
	}
	return d.kept
}

func deniedBy(text, attestor, why string) string {
	return "Image " + plain(text) + " denied by attestor " + attestor + ": " + why
}
