package conformance

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

func failOpen() Class {
	return Class{
		ID: "B16", Title: "A failure lets in",
		Beyond: "A gate whose own stores are down, and webhook configurations with failurePolicy Ignore, have to be tried where they are; the profile's failurePolicy says how failures count here.",
		Cases: []Case{
			{
				ID: "B16/envelope", Title: "the answer is one that an API server takes", must: "version, kind and uid are the review's, and a denial has a code of 400 or more and a message",
				Gain: "An answer that cannot be used is a failure, and a failurePolicy of Ignore lets in.", References: []string{"kritis: replies without apiVersion and kind"},
				try: func(ctx context.Context, t *trial) {
					for _, version := range t.profile.Versions {
						t.envelope(ctx, version)
					}
				},
			},
			{
				ID: "B16/not-a-review", Title: "bodies that are not reviews",
				Gain: "What cannot be read is answered with an empty verdict, which is taken for a good one.",
				must: "nothing of it is let in, and the good image is admitted afterwards",
				try: func(ctx context.Context, t *trial) {
					for name, body := range map[string]string{
						"nothing": "", "null": "null", "a list": "[]", "an object": "{}", "no JSON": "hello", "a review without a request": `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`,
						"a null request": `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}`, "an empty request": `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{}}`,
					} {
						t.judge(name, refused(), t.client.post(ctx, []byte(body), nil))
					}
					t.alive(ctx)
				},
			},
			{
				ID: "B16/version", Title: "reviews of versions and kinds that nobody speaks",
				Gain: "What the gate does not know it lets in.",
				probes: func(w *world) []probe {
					var list []probe
					for _, version := range w.profile.Versions {
						list = append(list, probe{what: version + " as v2", review: w.podOf(w.bad()), edit: func(text string) string {
							return strings.NewReplacer(apiVersion(v1beta1), apiVersion("v2"), apiVersion(v1), apiVersion("v2")).Replace(text)
						}, want: refused()})
					}
					return append(list,
						probe{what: "no version", review: w.podOf(w.bad()), edit: func(text string) string {
							return strings.NewReplacer(`"apiVersion":"`+apiVersion(v1beta1)+`",`, "", `"apiVersion":"`+apiVersion(v1)+`",`, "").Replace(text)
						}, want: refused()},
						probe{what: "no kind", review: w.podOf(w.bad()), edit: replace(`"kind":"AdmissionReview",`, ""), want: refused()},
						probe{what: "no uid", review: w.podOf(w.bad()), edit: replace(`"uid":"`, `"noUid":"`), want: refused()},
					)
				},
			},
			{
				ID: "B16/odd-types", Title: "each part of a pod in turn as null, a number, a text, a list and an object",
				Gain: "A type that was not expected makes a gate panic, or skip the rest.", References: []string{"CVE-2026-41485"},
				must: "the bad image is not let in by any of them, and the good one is admitted afterwards",
				try: func(ctx context.Context, t *trial) {
					for _, place := range oddPlaces() {
						for _, value := range []string{"null", "1", `"x"`, "[]", "{}", "[null]", "true", "-1e400"} {
							// Where the place was the only one with the bad image, it is gone; the other stays.
							b := t.podOf(t.bad()).InitImage("init", t.bad()).Update(t.podOf(t.good())).UID(newUID())
							e := t.client.post(ctx, []byte(place.edit(t.text(b), value)), nil)
							t.judge(place.name+" as "+value, refused(), e)
						}
					}
					t.alive(ctx)
				},
			},
			{
				ID: "B16/no-registry", Title: "images of registries that do not exist or do not answer",
				Gain: "An attacker whose registry fails at the right time is let in.", References: []string{"ratify#92", "ratify#116"},
				probes: func(w *world) []probe {
					return []probe{
						{what: "a host that does not exist", review: w.podOf("conformance.invalid/x:1"), want: answered()},
						{what: "a port where nobody listens", review: w.podOf("127.0.0.1:1/x@" + w.strangeDigest()), want: answered()},
					}
				},
			},
			{
				ID: "B16/broken-registry", Title: "a registry that answers with errors, nonsense and closed connections", needs: []need{needRegistry()},
				Gain: "What could not be looked up is taken for looked up.", References: []string{"CVE-2026-39395", "ratify#92"}, must: "each is denied by an answer in time",
				try: func(ctx context.Context, t *trial) {
					for _, status := range []int{http.StatusInternalServerError, http.StatusTooManyRequests, http.StatusForbidden, http.StatusNotFound} {
						repository := t.registry.serve(fmt.Sprintf("b16-status-%d", status), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
						t.ask(ctx, fmt.Sprintf("status %d", status), t.podOf(repository+"@"+t.registry.bad.digest), answered())
					}
					broken := t.registry.serve("b16-nonsense", func(w http.ResponseWriter, req *http.Request) {
						send(w, manifestType, asked(req).registry.bad.digest, []byte("{"))
					})
					t.ask(ctx, "nonsense", t.podOf(broken+"@"+t.registry.bad.digest), answered())
					closed := t.registry.serve("b16-closed", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
					t.ask(ctx, "closed connections", t.podOf(closed+"@"+t.registry.bad.digest), answered())
				},
			},
			{
				ID: "B16/slow-registry", Title: "a registry that never answers", needs: []need{needRegistry()},
				Gain: "The API server gives up on the gate, and the failurePolicy decides.", References: []string{"kyverno#16657", "ratify#116"}, must: "the image is denied by an answer in time",
				try: func(ctx context.Context, t *trial) {
					repository := t.registry.serve("b16-slow", stall)
					t.ask(ctx, "by digest", t.podOf(repository+"@"+t.registry.bad.digest), answered())
					t.ask(ctx, "by tag", t.podOf(repository+":1"), answered())
				},
			},
		},
	}
}

// envelope looks at an admission and a denial as an API server does.
func (t *trial) envelope(ctx context.Context, version string) {
	for _, want := range []want{allowed(), answered()} {
		image := t.good()
		if want.text == answered().text {
			image = t.bad()
		}
		uid := newUID()
		b := t.podOf(image).UID(uid)
		if version == v1beta1 {
			b.V1Beta1()
		}
		e := t.judge(version, want, t.client.post(ctx, []byte(t.text(b)), nil))
		if e.problem != nil {
			continue
		}
		if e.envelope.APIVersion != apiVersion(version) || e.envelope.Kind != "AdmissionReview" {
			t.fail("%s: answered as %q, %q", version, clip(e.envelope.APIVersion), clip(e.envelope.Kind))
		}
		if e.response.UID != uid {
			t.fail("%s: answered for uid %q", version, clip(e.response.UID))
		}
		switch s := e.response.Status; {
		case e.response.Allowed:
		case s == nil || s.Message == "":
			t.fail("%s: a denial without a message", version)
		case s.Code != 0 && s.Code < 400:
			t.fail("%s: a denial with code %d", version, s.Code)
		}
	}
}

// An oddPlace is a part of a review whose value is replaced.
type oddPlace struct {
	name string
	edit func(text, value string) string
}

// oddPlaces are the members of a review by their names: of each the first, in the
// request or in the new object.
func oddPlaces() []oddPlace {
	var list []oddPlace
	for _, name := range []string{"containers", "initContainers", "metadata", "volumes", "labels", "annotations", "name", "namespace", "operation", "resource", "kind", "userInfo", "oldObject", "dryRun", "options", "status", "restartPolicy", "tolerations", "serviceAccountName", "managedFields"} {
		list = append(list, oddPlace{name, func(text, value string) string { return replaceMember(text, name, value) }})
	}
	return list
}

// replaceMember replaces the value of the first member of a name after the
// beginning of the request.
func replaceMember(text, name, value string) string {
	from := strings.Index(text, `"request":`)
	key := `"` + name + `":`
	i := strings.Index(text[max(from, 0):], key)
	if i < 0 {
		return text
	}
	start := max(from, 0) + i + len(key)
	return text[:start] + value + text[start+valueLength(text[start:]):]
}

// valueLength is how long the JSON value at the beginning of a text is.
func valueLength(text string) int {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case (c == '}' || c == ']' || c == ',') && depth == 0:
			return i
		case c == '}' || c == ']':
			depth--
		}
	}
	return len(text)
}
