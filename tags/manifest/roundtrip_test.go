package manifest_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/tags/manifest"
)

// A generator writes random streams in which ¤ stands behind every image that must be
// pinned.
type generator struct{ *rand.Rand }

func (g generator) pick(list ...string) string { return list[g.IntN(len(list))] }

func (g generator) chance(percent int) bool { return g.IntN(100) < percent }

// noise is what stands between lines and must stay.
func (g generator) noise(indent string) string {
	return g.pick("", "", "", "\n", indent+"# image: no:1\n", "  \n", indent+"# --- 100% {{ é 漢 }}\n")
}

// comment stands behind a value.
func (g generator) comment() string { return g.pick("", "", " # why", "   # --- # image: x:1", "  ") }

func (g generator) reference() string {
	return g.pick("app", "app:1", "team/app:v1.2-rc_3", "gcr.io/p/app:1", "127.0.0.1:5000/a/b:1", "localhost/a", "GCR.io/p/a", "a--b/c__d:Z")
}

// scalar writes an image in some style; indent is that of the key.
func (g generator) scalar(indent, text string) string {
	switch g.IntN(8) {
	case 0:
		return "'" + text + "'" + g.comment() + "\n"
	case 1:
		return `"` + text + `"` + g.comment() + "\n"
	case 2:
		return g.pick("|-", ">-", "|2-", "|-  # c") + "\n" + indent + "  " + text + "\n"
	case 3:
		return "\n" + indent + "  " + text + g.comment() + "\n"
	case 4:
		return "!!str " + text + g.comment() + "\n"
	}
	return text + g.comment() + "\n"
}

// value writes a value of some other key.
func (g generator) value(indent string) string {
	switch g.IntN(9) {
	case 0:
		return "|\n" + indent + "  image: no:1\n" + indent + "  ---\n" + indent + "  -----BEGIN X-----\n\n" + indent + "   ...\n"
	case 1:
		return ">+\n" + indent + "  a\n\n" + indent + "  --- b\n\n"
	case 2:
		return "{image: no:1, b: [{image: 'no:1'}, 0644, 1.10, yes, ~]}\n"
	case 3:
		return "\"a\\\n" + indent + "  --- image: no:1\"\n"
	case 4:
		return "'it''s\n\n" + indent + "  {{ .x }}'\n"
	case 5:
		return "'é\u2028 漢😀'" + g.comment() + "\n"
	case 6:
		return "\n" + indent + "  image: no:1\n" + indent + "  1: {y: n}\n"
	}
	return g.pick("1", "true", "no", "''", "text with words", "2020-01-01", "-1e3") + g.comment() + "\n"
}

func (g generator) field(b *strings.Builder, indent string, n int) {
	b.WriteString(g.noise(indent))
	fmt.Fprintf(b, "%s%s: %s", indent, fmt.Sprintf(g.pick("f%d", "'f%d'", `"f%d"`, "image%d", "é%d"), n), g.value(indent))
}

// containers writes a list of containers.
func (g generator) containers(b *strings.Builder, indent, name string, anchor *int) {
	fmt.Fprintf(b, "%s%s:%s\n", indent, name, g.pick("", " # list", "   "))
	dash := indent + g.pick("", "  ", "    ")
	for n := range 1 + g.IntN(3) {
		switch g.IntN(6) {
		case 0:
			fmt.Fprintf(b, "%s- {name: c, image: %s¤, args: [image, {image: no:1}]}%s\n", dash, g.reference(), g.comment())
			continue
		case 1:
			*anchor++
			fmt.Fprintf(b, "%s- &a%d {image: '%s¤'}\n%s- {<<: *a%d, name: n}\n%s- *a%d\n", dash, *anchor, g.reference(), dash, *anchor, dash, *anchor)
			continue
		case 2:
			*anchor++
			fmt.Fprintf(b, "%s- image: &i%d %s¤\n%s- image: *i%d\n", dash, *anchor, g.reference(), dash, *anchor)
			continue
		}
		item := dash + "  "
		fmt.Fprintf(b, "%s- name: c%d\n", dash, n)
		g.field(b, item, 1)
		fmt.Fprintf(b, "%s%s: %s", item, g.pick("image", `"image"`, "'image'"), g.scalar(item, g.reference()+"¤"))
		g.field(b, item, 2)
	}
}

// object writes an object.
func (g generator) object(b *strings.Builder) {
	switch g.IntN(8) {
	case 0:
		fmt.Fprintf(b, "apiVersion: v1\nkind: ConfigMap\ndata:\n  image: no:1\n")
		g.field(b, "  ", 1)
		return
	case 1:
		fmt.Fprintf(b, `{"apiVersion": "v1", "kind": "Pod",%s"é": "é\ud83d\ude00 --- \/", "spec": {"containers": [{"image":"%s¤"},%s{"image" :  "%s¤"}], "image": "no:1"}}`, g.pick("", "\n\t", "  \n"), g.reference(), g.pick("", "\n"), g.reference())
		b.WriteString(g.pick("\n", "", "\n\n"))
		if !strings.HasSuffix(b.String(), "\n") {
			b.WriteString("\n")
		}
		return
	case 2:
		b.WriteString(g.pick("# nothing\n", "\n", "a: 1\n", "- image: no:1\n", "text\n"))
		return
	}
	path := g.pick("Pod spec", "Deployment spec template spec", "CronJob spec jobTemplate spec template spec", "Job spec template spec")
	words := strings.Fields(path)
	version := map[string]string{"Pod": "v1", "Deployment": "apps/v1", "CronJob": "batch/v1", "Job": "batch/v1"}[words[0]]
	b.WriteString(g.noise(""))
	fmt.Fprintf(b, "apiVersion: %s\n%skind: %s%s\n", version, g.noise(""), words[0], g.comment())
	indent := ""
	for n, w := range words[1:] {
		g.field(b, indent, n)
		fmt.Fprintf(b, "%s%s:%s\n", indent, w, g.pick("", " # c"))
		indent += "  "
	}
	var anchor int
	g.containers(b, indent, "containers", &anchor)
	g.field(b, indent, 9)
	if g.chance(50) {
		g.containers(b, indent, "initContainers", &anchor)
	}
	if g.chance(30) {
		fmt.Fprintf(b, "%svolumes:\n%s- {name: v, image: {reference: %s¤}}\n", indent, indent, g.reference())
	}
}

func (g generator) stream() string {
	var b strings.Builder
	b.WriteString(g.pick("", "", "---\n", "# head\n", "%YAML 1.1\n---\n", "\n\n---\n"))
	for range 1 + g.IntN(5) {
		g.object(&b)
		b.WriteString(g.pick("---\n", "---\n", "--- # next\n", "---   \n", "...\n---\n", "---\n---\n"))
	}
	text := b.String()
	switch g.IntN(5) {
	case 0:
		text = strings.ReplaceAll(text, "\n", "\r\n")
	case 1:
		text = strings.TrimRight(text, "\n")
	case 2:
		text = "\ufeff" + text
	}
	return text
}

// FuzzRandomStreams: the output differs from the input in nothing but the images.
func FuzzRandomStreams(f *testing.F) {
	for seed := range uint64(300) {
		f.Add(seed)
	}
	k := kinds(f)
	f.Fuzz(func(t *testing.T, seed uint64) {
		before, after := pinned(generator{rand.New(rand.NewPCG(seed, 1))}.stream())
		got, images, _, problems := pin(t, k, before)
		if len(problems) > 0 {
			t.Fatalf("%v\n%s", problems, before)
		}
		if got != after {
			t.Fatalf("got\n%s\nwant\n%s", got, after)
		}
		if n := strings.Count(after, at); n != len(images) {
			t.Errorf("%d images, want %d", len(images), n)
		}
	})
}

// FuzzAnyText: whatever the text is, it is split without loss, and what comes out is the
// same but for the images; what is refused has a line that is there.
func FuzzAnyText(f *testing.F) {
	for seed := range uint64(20) {
		before, _ := pinned(generator{rand.New(rand.NewPCG(seed, 2))}.stream())
		f.Add(before)
	}
	for _, text := range []string{
		pod + "image: \"\\x61\" # c", pod + "image: {{ .Values.image }}", "{{- if }}\nkind: Pod\n", "a: &a [*a]\n", "a\r---\rb", "\ufeff\ufeff---",
		"{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"spec\":{\"containers\":[{\"image\":\"a\\u002fb\"}]}}{", "%TAG ! a\n---\n!x y", "? {a: b}\n: c\n", "- |\n\n\n ---\n---\n...",
		"apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Pod, spec: &s {containers: [{image: a}]}}, {x: *s}]",
	} {
		f.Add(text)
	}
	k := kinds(f)
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Count(text, "\n") + 1
		var whole strings.Builder
		for r := manifest.NewReader(strings.NewReader(text)); ; {
			one, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.Count(whole.String(), "\n") + 1; one.Line != want {
				t.Errorf("a document at line %d begins at %d", one.Line, want)
			}
			whole.Write(one.Bytes)
		}
		if whole.String() != text {
			t.Fatalf("the documents are not the stream: %q", whole.String())
		}
		got, images, _, problems := pin(t, k, text)
		for _, p := range problems {
			if p.Line < 1 || p.Line > lines {
				t.Errorf("%v is not in the text", p)
			}
			if strings.Contains(p.Why, "does not read as before") {
				t.Errorf("%v: the images were not found rightly", p)
			}
		}
		if len(problems) > 0 {
			return
		}
		again, same, _, problems := pin(t, k, got)
		if again != got || len(same) != len(images) || problems != nil {
			t.Errorf("the outcome reads otherwise: %v\n%s", problems, got)
		}
		if len(images) == 0 && got != text {
			t.Error("a text without images was changed")
		}
		if !strings.Contains(text, "\\") && !strings.Contains(text, at) && strings.ReplaceAll(got, at, "") != text {
			t.Errorf("more was changed than images: %q", got)
		}
		sameValues(t, text, got)
	})
}

// sameValues compares what another reading of both texts gives, with all images cut.
func sameValues(t *testing.T, before, after string) {
	decode := func(text string) string {
		var b strings.Builder
		for dec := yaml.NewDecoder(strings.NewReader(text)); ; {
			var v any
			if err := dec.Decode(&v); err != nil {
				return b.String() + fmt.Sprintf("%T", err)
			}
			fmt.Fprintf(&b, "%#v\n", v)
		}
	}
	cut := func(s string) string { return strings.ReplaceAll(s, at, "") }
	if a, b := cut(decode(before)), cut(decode(after)); a != b {
		t.Errorf("the values differ:\n%s\n%s", a, b)
	}
}
