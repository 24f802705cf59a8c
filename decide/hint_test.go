package decide_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// TestWhatIsMeantToRun holds images to rollout hints: anything but the digest of a hint
// that counts now is refused, and what was not read is not known.
func TestWhatIsMeantToRun(t *testing.T) {
	t.Parallel()
	const note = "projects/p/notes/hints"
	other := image.DigestOf([]byte("other"))
	stands := evidence.Hint{Note: note, State: evidence.Hinted, Name: "gcr.io/p/app", Sequence: 3, Digest: digestA(), From: noon.Add(-time.Hour), Until: noon.Add(time.Hour), Occurrence: "projects/p/occurrences/o"}
	with := func(change func(*evidence.Hint)) []evidence.Hint {
		h := stands
		change(&h)
		return []evidence.Hint{h}
	}
	tagged := strings.Split(digested, "@")[0] + ":v1"
	for name, c := range map[string]struct {
		image   string
		allowed bool // images without a hint
		hints   []evidence.Hint
		want    decide.Verdict
		code    decide.Code
		says    string
	}{
		"the hinted digest":      {digested, false, []evidence.Hint{stands}, decide.ALLOW, decide.CodeHinted, "Rollout hint 3 for gcr.io/p/app"},
		"another digest":         {digested, false, with(func(h *evidence.Hint) { h.Digest = other }), decide.DENY, decide.CodeNotHinted, other.String()},
		"a tag":                  {tagged, false, []evidence.Hint{stands}, decide.DENY, decide.CodeNoDigest, digestA().String()},
		"a hint that has ended":  {digested, false, with(func(h *evidence.Hint) { h.Until = noon }), decide.DENY, decide.CodeNotHinted, "has ended"},
		"one that ends later":    {digested, false, with(func(h *evidence.Hint) { h.Until = noon.Add(1) }), decide.ALLOW, decide.CodeHinted, ""},
		"one that begins later":  {digested, false, with(func(h *evidence.Hint) { h.From = noon.Add(6 * time.Minute) }), decide.DENY, decide.CodeNotHinted, "begins at"},
		"a clock that is ahead":  {digested, false, with(func(h *evidence.Hint) { h.From = noon.Add(5 * time.Minute) }), decide.ALLOW, decide.CodeHinted, ""},
		"a revocation":           {digested, false, with(func(h *evidence.Hint) { h.Revoked = true }), decide.DENY, decide.CodeNotHinted, "takes back"},
		"one that was deleted":   {digested, true, with(func(h *evidence.Hint) { h.State = evidence.Withdrawn }), decide.DENY, decide.CodeNotHinted, "was deleted"},
		"others in the path":     {digested, true, with(func(h *evidence.Hint) { h.State = evidence.Elsewhere }), decide.DENY, decide.CodeNotHinted, "other digests"},
		"no hint":                {digested, false, with(func(h *evidence.Hint) { h.State = evidence.Unhinted }), decide.DENY, decide.CodeUnhinted, "gatehouse hint publish"},
		"no hint, and none need": {digested, true, with(func(h *evidence.Hint) { h.State = evidence.Unhinted }), decide.ALLOW, decide.CodeUnhinted, ""},
		"hints of another note":  {digested, true, with(func(h *evidence.Hint) { h.Note = "projects/p/notes/x" }), decide.INDETERMINATE, decide.CodeEvidenceUnavailable, ""},
		"hints that are unread":  {digested, true, nil, decide.INDETERMINATE, decide.CodeEvidenceUnavailable, ""},
		"no digest in the hint":  {digested, true, with(func(h *evidence.Hint) { h.Digest = image.Digest{} }), decide.DENY, decide.CodeNotHinted, ""},
		"no reference at all":    {"gcr.io/P/app@x", true, []evidence.Hint{stands}, decide.DENY, decide.CodeInvalidReference, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			facts := evidence.Facts{Images: images{digestA(): {State: evidence.Known}}, Hints: map[string][]evidence.Hint{c.image: c.hints}}
			rules := rulesFor(policy.Hinted{Note: note, UnhintedAllowed: c.allowed}, policy.OnUnavailable{})
			d := decide.Decide(request(c.image), policy.Set{rules}, facts, noon)
			if len(d.Images) != 1 || d.Verdict != c.want || d.Allowed != (c.want == decide.ALLOW) || d.Images[0].Reasons[0].Code != c.code {
				t.Fatalf("%v %v %+v", d.Verdict, d.Allowed, d.Images)
			}
			r := d.Images[0].Reasons[0]
			if text := r.Message + r.Next; !strings.Contains(text, c.says) {
				t.Errorf("says %q, want %q in it", text, c.says)
			}
			if c.want == decide.DENY && (r.Next == "" || strings.Contains(r.Message, "\n")) {
				t.Errorf("a denial says what to do in one line: %+v", r)
			}
		})
	}
}
