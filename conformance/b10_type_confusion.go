package conformance

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

func typeConfusion() Class {
	quoted := func(s string) string { return `"image":"` + s + `"` }
	return Class{
		ID: "B10", Title: "The gate's parser and the API server's read different things",
		Beyond: "Wrong predicate types, payload types and media types need evidence that only the gate's keys can make.",
		Cases: []Case{
			{
				ID: "B10/duplicate-keys", Title: "the image is given twice, good and bad",
				Gain: "One parser takes the first, another the last, and custom resources are passed on as they were written.",
				probes: func(w *world) []probe {
					pod := func() probe { return probe{review: w.podOf(marker), want: refused()} }
					first, last, spec, object := pod(), pod(), pod(), pod()
					first.what, first.edit = "good, then bad", imageMember(quoted(w.good())+","+quoted(w.bad()))
					last.what, last.edit = "bad, then good", imageMember(quoted(w.bad())+","+quoted(w.good()))
					spec.what, spec.edit = "two specs, the bad one first", func(text string) string {
						text = imageMember(quoted(w.good()))(text)
						return replace(`"spec":{`, `"spec":{"containers":[{"name":"c0",`+quoted(w.bad())+`}]},"spec":{`)(text)
					}
					object.what, object.edit = "two objects, the good one first", func(text string) string {
						text = imageMember(quoted(w.bad()))(text)
						return replace(`"object":{`, `"object":{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"containers":[{"name":"c0",`+quoted(w.good())+`}]}},"object":{`)(text)
					}
					return []probe{first, last, spec, object}
				},
			},
			{
				ID: "B10/key-case", Title: "keys that differ in case, with the good image",
				Gain: "A parser that does not mind the case takes the last spelling; Kubernetes takes the exact one.",
				probes: func(w *world) []probe {
					var list []probe
					for _, key := range []string{"Image", "IMAGE", "imagE", "\u0131mage"} {
						other := fmt.Sprintf(`%q:%q`, key, w.good())
						list = append(list,
							probe{what: key + " after", review: w.podOf(marker), edit: imageMember(quoted(w.bad()) + "," + other), want: refused()},
							probe{what: key + " before", review: w.podOf(marker), edit: imageMember(other + "," + quoted(w.bad())), want: refused()},
						)
					}
					containers := `"Containers":[{"name":"c0",` + quoted(w.good()) + `}],"containers":[`
					return append(list,
						probe{what: "Containers before", review: w.podOf(w.bad()), edit: replace(`"containers":[`, containers), want: refused()},
						probe{what: "Spec after", review: w.podOf(w.bad()), edit: replace(`"status":{`, `"Spec":{"containers":[{"name":"c0",`+quoted(w.good())+`}]},"status":{`), want: refused()},
					)
				},
			},
			{
				ID: "B10/escapes", Title: "keys and values in escapes",
				Gain: "What is searched for as text is not found, and what JSON says is never looked at.",
				probes: func(w *world) []probe {
					return []probe{
						{what: "an escaped key with the bad image", review: w.podOf(marker), edit: imageMember(`"\u0069mage":"` + w.bad() + `"`), want: denied()},
						{what: "the bad image in escapes", review: w.podOf(marker), edit: imageMember(`"image":"` + escapes(w.bad()) + `"`), want: denied()},
						{what: "the good image in escapes", review: w.podOf(marker), edit: imageMember(`"image":"` + escapes(w.good()) + `"`), want: allowed()},
						{what: "an escaped list of containers", review: w.podOf(w.bad()), edit: replace(`"containers":[`, `"\u0063ontainers":[`), want: denied()},
					}
				},
			},
			{
				ID: "B10/types", Title: "an image that is a list, an object, a number or a truth",
				Gain: "A gate that converts what it does not expect finds no image, or the good one.",
				probes: func(w *world) []probe {
					var list []probe
					for _, value := range []string{`["` + w.good() + `"]`, `{"":"` + w.good() + `"}`, "1", "true", `"` + w.good() + `\u0000"`, "[]", "{}"} {
						list = append(list, probe{what: clip(value), review: w.podOf(marker), edit: imageMember(`"image":` + value), want: refused()})
					}
					return append(list,
						probe{what: "containers as an object", review: w.podOf(w.bad()).Edit(func(o map[string]any) {
							o["spec"].(map[string]any)["containers"] = map[string]any{"0": map[string]any{"name": "c0", "image": w.bad()}}
						}), want: refused()},
						probe{what: "a container as a text", review: w.podOf(w.good()).Edit(func(o map[string]any) {
							o["spec"].(map[string]any)["containers"] = []any{map[string]any{"name": "c0", "image": w.good()}, w.bad()}
						}), want: refused()},
					)
				},
			},
			{
				ID: "B10/content-type", Title: "a review under other content types",
				Gain: "What is sent as something else is answered without being read.",
				must: "the bad image is not let in under any content type",
				try: func(ctx context.Context, t *trial) {
					for _, kind := range []string{"text/plain", "application/yaml", "application/x-www-form-urlencoded", "application/vnd.kubernetes.protobuf", "multipart/form-data; boundary=x", ""} {
						header := http.Header{"Content-Type": {kind}}
						if kind == "" {
							header = http.Header{"Content-Type": nil}
						}
						e := t.client.post(ctx, []byte(t.text(t.podOf(t.bad()).UID(newUID()))), header)
						t.judge(fmt.Sprintf("content type %q", kind), refused(), e)
					}
				},
			},
			{
				ID: "B10/encodings", Title: "texts that are not UTF-8, and a byte order mark",
				Gain: "Parsers that mend what they read end up with different references.",
				probes: func(w *world) []probe {
					return []probe{
						{what: "a broken byte in the image", review: w.podOf(marker), edit: imageMember(`"image":"` + w.bad() + "\xff" + w.good() + `"`), want: refused()},
						{what: "half a surrogate", review: w.podOf(marker), edit: imageMember(`"image":"` + w.bad() + `\ud800` + w.good() + `"`), want: refused()},
						{what: "a byte order mark", review: w.podOf(w.bad()), edit: func(text string) string { return "\xef\xbb\xbf" + text }, want: refused()},
					}
				},
			},
		},
	}
}

// escapes writes every character of a text as JSON allows it to be.
func escapes(s string) string {
	var b strings.Builder
	for _, c := range s {
		fmt.Fprintf(&b, `\u%04x`, c)
	}
	return b.String()
}
