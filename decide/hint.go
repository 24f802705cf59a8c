package decide

import (
	"strconv"
	"time"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/hint"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// hinted holds an image to what is meant to run.
func (g *gate) hinted(c policy.Hinted, u *use) Reason {
	const required = "the image is the one that a rollout hint says is meant to run"
	h := hintUnder(c.Note, u.hints)
	switch {
	case u.err != nil:
		return notDigested(u, "")
	case h.State == evidence.HintsUnread:
		r := unavailable(u.ref, "the rollout hints under "+c.Note+" were not read")
		return r
	case h.State == evidence.Unhinted && c.UnhintedAllowed:
		return Reason{Verdict: ALLOW, Code: CodeUnhinted, Message: "No rollout hint is about the image, and none is required"}
	case h.State == evidence.Unhinted:
		return Reason{
			Code: CodeUnhinted, Message: "No rollout hint is about the image", Required: required,
			Next: "publish one: gatehouse hint publish " + plain(u.ref.Name()) + " sha256:…",
		}
	}
	why := idle(h, g.now)
	switch {
	case why != "":
		return Reason{Code: CodeNotHinted, Message: why, Occurrence: h.Occurrence, Required: required, Next: "have what is meant to run hinted anew: gatehouse hint publish"}
	case h.Digest != u.ref.Digest():
		r := Reason{
			Code: CodeNotHinted, Occurrence: h.Occurrence, Required: required,
			Message: "Rollout hint " + strconv.FormatUint(h.Sequence, 10) + " for " + plain(h.Name) + " says that " + h.Digest.String() + " is meant to run",
			Next:    "deploy " + u.ref.WithDigest(h.Digest).String() + ", or publish a hint for the digest that you mean",
		}
		if u.ref.Digest().IsZero() {
			r.Code = CodeNoDigest
			r.Next = "write " + u.ref.WithDigest(h.Digest).String()
		}
		return r
	}
	return Reason{Verdict: ALLOW, Code: CodeHinted, Message: "Rollout hint " + strconv.FormatUint(h.Sequence, 10) + " for " + plain(h.Name) + " says that the image is meant to run", Occurrence: h.Occurrence}
}

func hintUnder(note string, hints []evidence.Hint) evidence.Hint {
	for i := range hints {
		if hints[i].Note == note {
			return hints[i]
		}
	}
	return evidence.Hint{}
}

// idle says why a hint stands for nothing now, "" if it does.
func idle(h evidence.Hint, now time.Time) string {
	which := func(what string) string {
		return "Rollout hint " + strconv.FormatUint(h.Sequence, 10) + " for " + plain(h.Name) + " " + what
	}
	switch {
	case h.State == evidence.Withdrawn:
		return which("was deleted, and none has taken its place")
	case h.State == evidence.Elsewhere:
		return "Rollout hints for " + plain(h.Name) + " say that other digests are meant to run"
	case h.State != evidence.Hinted || h.Digest.IsZero():
		return "What is meant to run is not known"
	case h.From.After(now.Add(hint.Leeway)):
		return which("begins at " + h.From.UTC().Format(time.RFC3339))
	case !h.Until.After(now):
		return which("has ended at " + h.Until.UTC().Format(time.RFC3339))
	case h.Revoked:
		return which("takes back what was meant to run")
	}
	return ""
}
