package conformance

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"github.com/gatehouse-dev/gatehouse/gatetest/review"
)

// forged is what an attacker would like to be read as the gate's own words.
const forged = "FORGED-BY-CONFORMANCE"

func injection() Class {
	return Class{
		ID: "B24", Title: "Names write into messages, logs and reports",
		Beyond: "The gate's logs, events and report pages are not seen from here; what is in its answers is a hint of what is in those.",
		Cases: []Case{
			{
				ID: "B24/terminal", Title: "names with control characters, colours and changes of direction",
				Gain: "A denial that rewrites the terminal, or reads as something else.",
				must: "the bad image is denied, without a control character or a change of direction in what is said",
				try: func(ctx context.Context, t *trial) {
					for _, text := range []string{"\x1b[2K\x1b[1A" + forged, "\a\b\b\b" + forged, "\u202e" + forged, "\u2066" + forged + "\u2069", "\u200b" + forged, "\x00" + forged, "\u009b2K" + forged, "\u2028" + forged} {
						t.inject(ctx, text, func(said string) bool {
							return strings.ContainsFunc(said, func(r rune) bool {
								return r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029')
							})
						})
					}
				},
			},
			{
				ID: "B24/lines", Title: "names with line breaks",
				Gain: "A line of a message or of a log that the attacker wrote, such as that all is well.",
				must: "the bad image is denied, and no line of what is said begins with the attacker's words",
				try: func(ctx context.Context, t *trial) {
					for _, text := range []string{"\n" + forged, "\r\n" + forged, "\r" + forged, "\v" + forged, "\u0085" + forged} {
						t.inject(ctx, text, func(said string) bool {
							for line := range strings.FieldsFuncSeq(said, func(r rune) bool { return strings.ContainsRune("\n\r\v\f\u0085\u2028", r) }) {
								if strings.HasPrefix(strings.TrimSpace(line), forged) {
									return true
								}
							}
							return false
						})
					}
				},
			},
			{
				ID: "B24/formats", Title: "names with format directives and templates",
				Gain: "What is in the gate's memory is printed, or the message falls apart.", References: []string{"kritis B17"},
				must: "the bad image is denied, and directives are not carried out",
				try: func(ctx context.Context, t *trial) {
					for text, done := range map[string][]string{"%d%s%n%v": {"%!", "MISSING"}, "{{7919}}x{{printf \"%d\" 62710561}}": {"x62710561"}, "${7919*7919}": {"62710561"}, "#{7919*7919}": {"62710561"}} {
						t.inject(ctx, text, func(said string) bool {
							for _, sign := range done {
								if strings.Contains(said, sign) {
									return true
								}
							}
							return false
						})
					}
				},
			},
			{
				ID: "B24/pages", Title: "bodies and paths with markup, which an error may repeat",
				Gain: "A page of the gate's host runs the attacker's script.", References: []string{"CVE-2026-44245"},
				must: "no answer with the markup in it is called HTML",
				try: func(ctx context.Context, t *trial) {
					const script = "<script>" + forged + "</script>"
					for what, body := range map[string]string{"no JSON": script, "a version": `{"apiVersion":"` + script + `","kind":"AdmissionReview"}`, "an uid": strings.Replace(t.text(t.podOf(t.bad())), `"uid":"`, `"uid":"`+script, 1)} {
						e := t.judge(what, refused(), t.client.post(ctx, []byte(body), http.Header{"Accept": {"text/html"}}))
						if strings.Contains(string(e.body), "<script>") && !harmless(e.contentType) {
							t.fail("%s: repeated as %q", what, clip(e.contentType))
						}
					}
				},
			},
			{
				ID: "B24/size", Title: "a denial for 200 images with long names",
				Gain: "An answer that is too long to be read is no answer.",
				must: "the answer is a denial of less than 1 MB",
				try: func(ctx context.Context, t *trial) {
					b := t.pod()
					for i := range 200 {
						b.Image(fmt.Sprintf("c%d", i), fmt.Sprintf("conformance.invalid/%s/%d:1", strings.Repeat("n", 200), i))
					}
					if e := t.ask(ctx, "200 images", b, answered()); len(e.body) > 1<<20 {
						t.fail("an answer of %d bytes", len(e.body))
					}
				},
			},
		},
	}
}

// harmless reports whether a browser takes no page for an answer of this type.
func harmless(contentType string) bool {
	kind, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	kind = strings.TrimSpace(kind)
	return kind == "application/json" || kind == "text/plain"
}

// inject sends the bad image with a text in every name that a client chooses, and
// looks at what the answer says.
func (t *trial) inject(ctx context.Context, text string, obeyed func(said string) bool) {
	for what, b := range map[string]*review.Builder{
		"an image":           t.podOf(t.bad() + text),
		"an image's host":    t.podOf("conformance.invalid" + text + "/x:1"),
		"a container":        t.pod().Image("c"+text, t.bad()),
		"the pod":            review.Pod(t.profile.Namespace, "p"+text).Image("c", t.bad()),
		"a label":            t.podOf(t.bad()).Label("k"+text, "v"+text),
		"a service account":  t.podOf(t.bad()).ServiceAccount("s" + text),
		"the user":           t.podOf(t.bad()).User("u" + text),
		"an image volume":    t.podOf(t.good()).ImageVolume("v"+text, t.bad()+text),
		"a reference to pin": t.podOf(t.goodName() + ":1" + text),
	} {
		e := t.ask(ctx, what+" with "+clip(text), b, denied())
		for _, said := range e.response.said() {
			if obeyed(said) {
				t.fail("%s with %s: the answer says %q", what, clip(text), clip(said))
			}
		}
	}
}
