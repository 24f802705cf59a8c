package decide

import (
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
		if c.Why != "" {
			return out.add(Reason{Code: CodeUnreadable, Message: "The policy cannot be enforced as it is written: " + cut(plain(c.Why), maxDetail), Next: "have the owners of the policy mend it"})
		}
		return out.add(Reason{Code: CodeAlwaysDeny, Message: "The check always denies", Next: "no image may run here unless the policy exempts it; ask the owners of the policy"})
	case policy.Digested:
		if !u.hasDigest() {
			return out.add(notDigested(u, ""))
		}
		return out.add(Reason{Verdict: ALLOW, Code: CodeDigest, Message: "The image is named by its digest"})
	case policy.InDirectory:
		return out.add(inDirectory(c, u))
	case policy.Hinted:
		return out.add(g.hinted(c, u))
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
			Details: recordedInstead(c, u),
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

// recordedInstead tells of records of uploads that do not count, and of what may have
// been meant for one.
func recordedInstead(c policy.Fresh, u *use) []string {
	var found details
	for i := range u.known.Uploads {
		if up := &u.known.Uploads[i]; slices.Contains(c.Projects, up.Project) {
			found.add("a record of the upload by key ", up.KeyID, " exists (", up.Occurrence, "), and the check does not trust that key")
		}
	}
	found.addRejected(u, c.Projects)
	return found.list()
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

func notDigested(u *use, attestor string) Reason {
	const expected = "Expected digest with sha256 scheme, but got tag or malformed digest"
	r := Reason{Code: CodeNoDigest, Attestor: attestor, Message: expected, Required: "the image is named by its digest"}
	if attestor != "" {
		r.Message = deniedBy(u.Text, attestor, expected)
	}
	if u.unpinned != "" {
		r.Details = []string{"the tag was not pinned when the pod was made: " + u.unpinned}
	}
	switch {
	case u.err != nil:
		r.Code = CodeInvalidReference
		r.Details = []string{plain(u.err.Error())}
		r.Next = "correct the image reference; REGISTRY/REPOSITORY@sha256:… is the form to use"
	case !u.built.IsZero():
		r.Next = "write " + u.ref.WithDigest(u.built).String() + ", which is what was last built as " + u.ref.String()
	default:
		r.Next = "write " + u.ref.Name() + "@sha256:…; 'kubectl resolve-tags -f FILE' writes the digest that each tag has now"
	}
	return r
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

func deniedBy(text, attestor, why string) string {
	return "Image " + plain(text) + " denied by attestor " + attestor + ": " + why
}
