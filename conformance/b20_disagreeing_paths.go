package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
)

func disagreeingPaths() Class {
	return Class{
		ID: "B20", Title: "Two ways to the same question give different answers",
		Beyond: "Background checks, command lines and pipelines of a gate are not reached through its webhook.",
		Cases: []Case{
			{
				ID: "B20/versions", Title: "the same reviews in v1 and v1beta1", needs: []need{needV1Beta1()},
				Gain: "The older version is answered by code that nobody looks at.",
				must: "what v1 denies v1beta1 denies, field by field",
				try: func(ctx context.Context, t *trial) {
					for what, b := range map[string]probe{
						"good": {review: t.podOf(t.good()), want: allowed()}, "bad": {review: t.podOf(t.bad()), want: denied()}, "init": {review: t.podOf(t.good()).InitImage("i", t.bad()), want: denied()},
						"volume":    {review: t.podOf(t.good()).ImageVolume("v", t.bad()), want: denied()},
						"ephemeral": {review: t.podOf(t.good()).EphemeralImage("e", t.bad()).Subresource("ephemeralcontainers").Update(t.podOf(t.good())), want: denied()},
						"update":    {review: t.podOf(t.bad()).Update(t.podOf(t.good())), want: denied()},
					} {
						t.ask(ctx, what+" in v1", b.review, b.want)
						t.ask(ctx, what+" in v1beta1", b.review.V1Beta1(), b.want)
					}
				},
			},
			{
				ID: "B20/order", Title: "members of the review in other orders, and unknown ones",
				Gain: "A parser that relies on the order reads the object before it knows what it is, and lets it in.",
				must: "the bad image is denied and the good one allowed in each order",
				try: func(ctx context.Context, t *trial) {
					for what, image := range map[string]string{"good": t.good(), "bad": t.bad()} {
						want := allowed()
						if image == t.bad() {
							want = denied()
						}
						b := t.podOf(image)
						for name, order := range map[string]func(string) string{"sorted": sorted, "the object first": objectFirst, "indented": indented, "unknown members": replace(`"request":{`, `"request":{"zzz":{"object":null},`)} {
							t.probe(ctx, probe{what: what + ", " + name, review: b.UID(newUID()), edit: order, want: want})
						}
					}
				},
			},
			{
				ID: "B20/transfer", Title: "the same review with a length, in chunks and byte by byte",
				Gain: "A body that comes in parts is judged by its first.",
				must: "the bad image is denied and the good one allowed, however they come",
				try: func(ctx context.Context, t *trial) {
					for what, image := range map[string]string{"good": t.good(), "bad": t.bad()} {
						want := allowed()
						if image == t.bad() {
							want = denied()
						}
						for name, b := range map[string]func([]byte) *pieces{"in chunks": func(b []byte) *pieces { return &pieces{b, 512} }, "in pieces of a byte": func(b []byte) *pieces { return &pieces{b, 1} }} {
							text := []byte(t.text(t.podOf(image).UID(newUID())))
							t.judge(what+", "+name, want, t.client.stream(ctx, b(text), -1, nil, text))
						}
					}
				},
			},
			{
				ID: "B20/pod-and-template", Title: "the same images in a pod and in each kind of template", needs: []need{needWorkloads()},
				Gain: "What is refused as a pod is let in as a template, and the rollout hangs.",
				probes: func(w *world) []probe {
					var list []probe
					for _, k := range w.workloads() {
						list = append(list,
							probe{what: "good, good, good in " + k.name, review: withImages(w.begin(k), w.good(), w.good()).InitImage("i", w.good()), want: allowed()},
							probe{what: "good, bad in " + k.name, review: withImages(w.begin(k), w.good(), w.bad()), want: denied()},
							probe{what: "a tag in " + k.name, review: withImages(w.begin(k), w.goodName()+":conformance-never-pushed"), want: tagInTemplate()},
						)
					}
					return list
				},
			},
		},
	}
}

// tagInTemplate is for gates that do not resolve tags; others may leave templates
// to their pods.
func tagInTemplate() want {
	return want{"is denied, unless the gate resolves tags", func(w *world, e exchange) error {
		if w.profile.ResolvesTags {
			return nil
		}
		return denied().check(w, e)
	}}
}

// pieces is a body that comes in pieces of a size.
type pieces struct {
	rest []byte
	size int
}

// Read implements io.Reader.
func (p *pieces) Read(b []byte) (int, error) {
	n := copy(b, p.rest[:min(p.size, len(p.rest))])
	p.rest = p.rest[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// sorted writes a review with its members by name, at every depth.
func sorted(text string) string {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return text
	}
	return string(encode(v))
}

func indented(text string) string {
	var b bytes.Buffer
	if err := json.Indent(&b, []byte(text), "\t", "   "); err != nil {
		return text
	}
	return b.String()
}

// objectFirst moves the object before what says of which kind it is.
func objectFirst(text string) string {
	before, rest, ok := strings.Cut(text, `"object":`)
	if !ok {
		return text
	}
	n := valueLength(rest)
	object, after := rest[:n], strings.TrimPrefix(rest[n:], ",")
	return strings.Replace(before, `"request":{`, `"request":{"object":`+object+",", 1) + after
}
