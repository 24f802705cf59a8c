package manifest_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/admission/resource"
	"github.com/gatehouse-dev/gatehouse/tags"
	"github.com/gatehouse-dev/gatehouse/tags/manifest"

	"github.com/gatehouse-dev/gatehouse/image"
)

const at = "@sha256:77b0b75136b9bd0fd36fb50f4c92ae0dbdbbe164ab67885e736fa4374e0cbb8c"

func digest(t testing.TB) image.Digest {
	t.Helper()
	d, err := image.ParseDigest(at[1:])
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func kinds(t testing.TB, custom ...resource.Resource) *manifest.Kinds {
	t.Helper()
	k, err := manifest.NewKinds(custom)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// pin pins every image of a stream that has no digest.
func pin(t testing.TB, k *manifest.Kinds, stream string) (out string, images []manifest.Image, notes []manifest.Note, problems []manifest.Problem) {
	t.Helper()
	var b strings.Builder
	for r := manifest.NewReader(strings.NewReader(stream)); ; {
		text, err := r.Next()
		if errors.Is(err, io.EOF) {
			return b.String(), images, notes, problems
		}
		if err != nil {
			t.Fatal(err)
		}
		d, bad := k.Read(text)
		if len(bad) > 0 {
			problems = append(problems, bad...)
			continue
		}
		images, notes = append(images, d.Images...), append(notes, d.Notes...)
		changed, problem := d.Rewrite(func(i manifest.Image) string {
			if !(tags.Style{}).Needs(i.Reference) {
				return ""
			}
			ref, err := tags.Style{}.Pin(i.Reference, digest(t))
			if err != nil {
				t.Error(err)
			}
			return ref.String()
		})
		if problem != nil {
			problems = append(problems, *problem)
		}
		b.Write(changed)
	}
}

// pinned marks where a digest must come: ¤.
func pinned(text string) (before, after string) {
	return strings.ReplaceAll(text, "¤", ""), strings.ReplaceAll(text, "¤", at)
}

// check pins a text that has ¤ behind each image that must be pinned.
func check(t *testing.T, k *manifest.Kinds, marked string) {
	t.Helper()
	before, after := pinned(marked)
	got, _, _, problems := pin(t, k, before)
	if len(problems) > 0 {
		t.Fatalf("%v", problems)
	}
	if diff := cmp.Diff(after, got); diff != "" {
		t.Error(diff)
	}
	again, _, _, _ := pin(t, k, got)
	if again != got {
		t.Error("pinning what is pinned changes it")
	}
}

const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\nspec:\n  containers:\n  - name: c\n    "

func TestImagesAreFoundByKind(t *testing.T) {
	t.Parallel()
	k := kinds(t)
	spec := func(indent string) string {
		return strings.ReplaceAll(`
initContainers:
- {name: i, image: init:1¤}
containers:
- name: c
  image: app:1¤
  env:
  - {name: image, value: nothing:1}
ephemeralContainers:
- image: debug:1¤
volumes:
- name: v
  image: {reference: models:1¤, pullPolicy: Always}
- name: w
  configMap: {name: image}
`, "\n", "\n"+indent)
	}
	for name, text := range map[string]string{
		"Pod":                        "apiVersion: v1\nkind: Pod\nspec:" + spec("  "),
		"PodTemplate":                "apiVersion: v1\nkind: PodTemplate\ntemplate:\n  spec:" + spec("    "),
		"ReplicationController":      "apiVersion: v1\nkind: ReplicationController\nspec:\n  template:\n    spec:" + spec("      "),
		"Deployment":                 "apiVersion: apps/v1\nkind: Deployment\nspec:\n  template:\n    spec:" + spec("      "),
		"Deployment of old":          "apiVersion: extensions/v1beta1\nkind: Deployment\nspec:\n  template:\n    spec:" + spec("      "),
		"StatefulSet":                "apiVersion: apps/v1\nkind: StatefulSet\nspec:\n  template:\n    spec:" + spec("      "),
		"DaemonSet":                  "kind: DaemonSet\napiVersion: apps/v1beta2\nspec:\n  template:\n    spec:" + spec("      "),
		"ReplicaSet":                 "spec:\n  template:\n    spec:" + spec("      ") + "\nkind: ReplicaSet\napiVersion: apps/v1\n",
		"Job":                        "apiVersion: batch/v1\nkind: Job\nspec:\n  template:\n    spec:" + spec("      "),
		"CronJob":                    "apiVersion: batch/v1beta1\nkind: CronJob\nspec:\n  jobTemplate:\n    spec:\n      template:\n        spec:" + spec("          "),
		"List":                       "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  spec:" + spec("    ") + "\n- apiVersion: v1\n  kind: ConfigMap\n  data: {image: app:1}\n",
		"PodList, items w/o kind":    "apiVersion: v1\nkind: PodList\nitems:\n- spec:" + spec("    "),
		"List in a List":             "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: List\n  items:\n  - apiVersion: v1\n    kind: Pod\n    spec:" + spec("      "),
		"ConfigMap":                  "apiVersion: v1\nkind: ConfigMap\ndata:\n  image: app:1\n  deployment: |\n    kind: Pod\n    image: app:1\n",
		"another group's Pod":        "apiVersion: example.com/v1\nkind: Pod\nspec:" + strings.ReplaceAll(spec("  "), "¤", ""),
		"a Deployment's pod spec":    "apiVersion: apps/v1\nkind: Deployment\nspec:" + strings.ReplaceAll(spec("  "), "¤", ""),
		"a CRD's schema":             "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nspec: {versions: [{schema: {openAPIV3Schema: {properties: {image: {type: string}}}}}]}\n",
		"no kind":                    "image: app:1\nspec: {containers: [{image: app:1}]}\n",
		"no version":                 "kind: Pod\nspec: {containers: [{image: app:1}]}\n",
		"the status":                 "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: app:1¤}]}\nstatus: {containerStatuses: [{image: app:1, imageID: app@sha256:x}]}\n",
		"annotation of last applied": "apiVersion: v1\nkind: Pod\nmetadata: {annotations: {kubectl.kubernetes.io/last-applied-configuration: '{\"spec\":{\"containers\":[{\"image\":\"app:1\"}]}}'}}\nspec: {containers: [{image: app:1¤}]}\n",
		"no spec":                    "apiVersion: v1\nkind: Pod\nspec:\n",
		"null and empty":             "apiVersion: v1\nkind: Pod\nspec: {initContainers: null, volumes: ~, containers: [{image: ''}, {image: }, {image: ~}, {name: x}, null]}\n",
		"images that have a digest":  "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: app:1" + at + "}, {image: app" + at + "}]}\n",
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); check(t, k, text) })
	}
}

func TestCustomResources(t *testing.T) {
	t.Parallel()
	k := kinds(t,
		resource.Resource{Group: "batch.example.com", Resource: "pipelines", Images: []string{"spec.steps[*].image", "spec.*.image"}, PodTemplates: []string{"spec.workers.*.template"}},
		resource.Resource{Group: "example.com", Resource: "oxen", Kind: "Ox", Images: []string{`spec["a.b"]`}},
		resource.Resource{Group: "example.com", Resource: "proxies", Images: []string{"image"}},
	)
	for name, text := range map[string]string{
		"paths": "apiVersion: batch.example.com/v1\nkind: Pipeline\nspec:\n  steps: [{image: a:1¤}, {}, {image: null}]\n  sidecar: {image: b:1¤}\n  workers:\n    x: {template: {spec: {containers: [{image: c:1¤}], volumes: [{image: {reference: d:1¤}}]}}}\nimage: e:1\n",
		"kind":  "apiVersion: example.com/v1\nkind: Ox\nspec: {a.b: a:1¤}\n",
		"y":     "apiVersion: example.com/v1\nkind: Proxy\nimage: a:1¤\n",
		"other": "apiVersion: example.com/v1\nkind: Cow\nspec: {a.b: a:1}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, k, text)
		})
	}
	if _, err := manifest.NewKinds([]resource.Resource{{Group: "g", Resource: "r", Images: []string{"a["}}, {Group: "g", Resource: "r", Images: []string{"a"}}, {Group: "g", Resource: "r", Images: []string{"a"}}}); err == nil ||
		!strings.Contains(err.Error(), `resources[0] ("r.g"): images[0]: "a[": column 2`) || !strings.Contains(err.Error(), "listed twice") {
		t.Errorf("got %v", err)
	}
}

// TestEdgesOfTheOldPlugin are the texts that kritis' resolve-tags lost, mangled or died of.
func TestEdgesOfTheOldPlugin(t *testing.T) {
	t.Parallel()
	k := kinds(t)
	const aPod = "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: app:1¤}]}\n"
	for name, text := range map[string]string{
		"a document that begins with a separator": "---\n" + aPod,
		"a file that ends with a separator":       aPod + "---\n",
		"separators only":                         "---\n---\n---",
		"separator with a comment":                aPod + "--- # the next\n" + aPod + "---\t# and\n" + aPod + "---   \n" + aPod,
		"CRLF":                                    strings.ReplaceAll(aPod+"---\n"+aPod, "\n", "\r\n"),
		"PEM in a block scalar":                   "apiVersion: v1\nkind: Secret\nstringData:\n  key: |\n    -----BEGIN KEY-----\n    MIIB\n    -----END KEY-----\n---\n" + aPod,
		"PEM at the margin of a quoted scalar":    "apiVersion: v1\nkind: Secret\nstringData:\n  key: \"\n-----BEGIN KEY-----\n-----END KEY-----\"\n---\n" + aPod,
		"a block scalar's line that ends in ---":  "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: |\n    x ---\n    ---\n    --- y\n  image: app:1\n---\n" + aPod,
		"images of Helm values":                   "image: {repository: app, tag: '1'}\n---\n" + aPod,
		"images that are lists or null":           "apiVersion: v1\nkind: ConfigMap\ndata: {image: null, b: {image: [a]}}\n",
		"keys that are not text":                  "apiVersion: v1\nkind: Pod\n1: a\ny: b\nn: c\non: d\nyes: e\n~: f\n1.5: g\nspec: {containers: [{image: app:1¤, 1: x}]}\n",
		"a list for a root":                       "- apiVersion: v1\n  kind: Pod\n  spec: {containers: [{image: app:1}]}\n",
		"a text for a root":                       "hello\n--- world\n",
		"JSON":                                    `{"apiVersion":"v1","kind":"Pod",` + "\n\t" + `"spec":{"containers":[{"image":"app:1¤"}],"x":"\ud83d\ude00\/"}}`,
		"JSON behind a separator":                 "---\n# c\n" + `{"apiVersion":"v1","kind":"Pod","x":"\ud83d\ude00","spec":{"containers":[{"image":"app:1¤"}]}}` + "\n---\n" + aPod,
		"JSON values":                             `{"apiVersion":"v1","kind":"Pod","é":"é é","spec":{"containers":[{"image":"app:1¤"},{"image":"app:2¤"}]}} {"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"image":"app:1¤"}]}}` + "\n",
		"comments, quotes and anchors":            "# one\napiVersion: v1 # two\n\nkind: 'Pod'\nspec: # three\n  containers:\n  # four\n  - &c\n    image: 'app:1¤' # five\n    name: \"a\"\n  - {<<: *c, name: b}\n# six\n",
		"numbers and dates as they are":           "apiVersion: v1\nkind: Pod\nx: [0644, 0o644, 1e3, 1.10, yes, 2020-01-01, 0x1F, .inf]\nspec: {containers: [{image: app:1¤}]}\n",
		"an empty image":                          "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: ''}, {image: app:1¤}]}\n",
		"% in the text":                           "apiVersion: v1\nkind: Pod\nmetadata: {annotations: {a: '100% %s %d'}}\nspec: {containers: [{image: app:1¤}]}\n",
		"no line break at the end":                strings.TrimSuffix(aPod, "\n"),
		"nothing":                                 "",
		"comments only":                           "# nothing\n\n# here",
		"document end markers and directives":     "%YAML 1.1\n---\n" + aPod + "...\n# c\n%YAML 1.1\n---\n" + aPod + "...\n" + aPod,
		"a byte order mark":                       "\ufeff" + aPod + "---\n" + aPod,
		"a byte order mark and a separator":       "\ufeff---\n" + aPod,
		"line breaks of Unicode before the image": "apiVersion: v1\nkind: Pod\nx: 'a\u2028 b\u0085 c é 漢 😀'\nspec: {é: 漢, containers: [{é: '😀', image: app:1¤}]}\n",
		"a block scalar with a separator's look":  "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n    a: |2\n        ---\n      ...\nspec: {containers: [{image: app:1¤}]}\n",
		"names of all registries":                 "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: nginx¤}, {image: team/app:v1¤}, {image: 127.0.0.1:5000/a/b¤}, {image: localhost/a¤}, {image: '[::1]:5000/a:1¤'}, {image: GCR.io/p/a:1¤}]}\n",
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); check(t, k, text) })
	}
}

func TestScalarsOfEveryStyle(t *testing.T) {
	t.Parallel()
	k := kinds(t)
	for name, text := range map[string]string{
		"plain":                   "image: app:1¤\n",
		"plain with a comment":    "image: app:1¤ # now\n",
		"plain on the next line":  "image:\n      app:1¤\n",
		"single quotes":           "image: 'app:1¤'\n",
		"double quotes":           "image: \"app:1¤\"\n",
		"quoted key":              "\"image\": app:1¤\n",
		"literal":                 "image: |-\n      app:1¤\n",
		"folded":                  "image: >-\n      app:1¤\n",
		"literal, indent and all": "image: |2- # why\n      app:1¤\n    x: y\n",
		"literal at the end":      "image: >-\n      app:1¤",
		"anchor":                  "image: &a app:1¤\n",
		"tag":                     "image: !!str app:1¤\n",
		"tag and anchor":          "image: !!str &a 'app:1¤'\n",
		"anchor on another line":  "image: &a\n      \"app:1¤\"\n",
		"verbatim tag":            "image: !<tag:yaml.org,2002:str> app:1¤\n",
		"a key after a question":  "? image\n    : app:1¤\n",
		"number in quotes":        "image: '1234¤'\n",
		"flow":                    "x: {a: [{b: c}]}\n    image: app:1¤\n",
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); check(t, k, pod+text) })
	}
	// What stands in escapes is written out.
	got, _, _, problems := pin(t, k, pod+`image: "\x61pp\u003a1" # c`)
	if want := pod + `image: "app:1` + at + `" # c`; got != want || problems != nil {
		t.Errorf("got %s %v", got, problems)
	}
}

func TestWhatIsSharedIsChangedAtTheAnchor(t *testing.T) {
	t.Parallel()
	k := kinds(t)
	const head = "apiVersion: v1\nkind: Pod\n"
	for name, text := range map[string]string{
		"an image":           head + "spec: {containers: [{image: &i app:1¤}, {image: *i }]}\n",
		"a container":        head + "spec: {initContainers: [&c {image: app:1¤}], containers: [*c, {<<: *c, name: x}]}\n",
		"what is overridden": head + "x: &c {image: base:1}\nspec: {containers: [{<<: *c, image: app:1¤}]}\n",
		"beside the fields":  head + "x-base: &c {image: base:1¤}\nx-image: &i app:1¤\nspec: {containers: [{<<: *c}, {image: *i }]}\n",
		"several merges":     head + "x: [&a {image: a:1¤}, &b {image: b:1}]\nspec: {containers: [{<<: [*a, *b]}]}\n",
		"merges of merges":   head + "x: [&a {image: a:1¤}, &b {<<: *a}, &c {<<: *b, n: m}]\nspec: {containers: [{<<: *c}]}\n",
		"a spec":             head + "spec: &s {containers: [{image: a:1¤}]}\n---\n" + head + "x: &s {containers: [{image: b:1¤}]}\nspec: *s\n",
		"in a List":          "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, spec: &s {containers: [{image: a:1¤}]}}\n- {apiVersion: apps/v1, kind: Deployment, spec: {template: {spec: *s}}}\n",
		"no merge in quotes": head + "spec: {containers: [{image: a:1¤, '<<': {image: b:1}}]}\n",
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); check(t, k, text) })
	}
}

func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	const head = "apiVersion: v1\nkind: Pod\n"
	for name, test := range map[string]struct{ text, want string }{
		"no YAML":                       {"# c\n---\na: b\n---\na: [b\nc: d\n", "line 5: not valid YAML"},
		"an indent far into a document": {head + "spec:\n  containers:\n  - name: a\n" + strings.Repeat("    x: y\n    # c\n", 1) + "   z: 1\n    b: 2\n", "line 8: not valid YAML: did not find expected key"},
		"a template":                    {"a: 1\n---\n{{- if .Values.x }}\nkind: Pod\n{{- end }}\n", "line 3: not valid YAML: did not find expected node content (line 3 has {{: a template"},
		"a template's key":              {head + "metadata:\n  name: {{ .Release.Name }}\n", "line 4: a key that is not text (is it a template"},
		"a template for an image":       {pod + "image: {{ .Values.image }}\n", "line 7: a key that is not text"},
		"a template in quotes":          {pod + "image: \"{{ .Values.image }}\"\n", "a template has to be rendered first"},
		"a variable":                    {pod + "image: app:${TAG}\n", "a template has to be rendered first"},
		"a tab":                         {head + "spec:\n\tcontainers: []\n", "line 4: not valid YAML: a tab"},
		"not UTF-8":                     {head + "x: \xff\n", "line 3: not UTF-8"},
		"UTF-16":                        {"\xff\xfea\x00", "line 1: not UTF-8"},
		"a NUL":                         {head + "# \x00\n", "line 3: not UTF-8"},
		"JSON that ends":                {"---\n" + `{"apiVersion":"v1",` + "\n" + `"kind":"Pod"`, "line 3: not valid"},
		"a carriage return alone":       {head + "spec: {}\r---\rkind: Pod\r", "a second document begins here"},
		"a key twice":                   {head + "spec: {containers: [{image: a:1,\n image: b:1}]}\n", `line 4: "image" is given twice, first at line 3`},
		"a key twice, and no images":    {"a: 1\n---\na: 1\nb: 2\n'a': 3\n", `line 5: "a" is given twice, first at line 3`},
		"a key twice in JSON":           {`{"a":1,` + "\n" + `"a":2}`, `line 2: "a" is given twice, first at line 1`},
		"a merge twice":                 {head + "x: &a {b: c}\ny: {<<: *a, <<: *a}\n", `line 4: "<<" is given twice`},
		"a merge after":                 {head + "x: &a {image: b:1}\nspec: {containers: [{image: a:1, <<: *a}]}\n", `line 4: the merge has "image", which stands before it`},
		"a merge of text":               {head + "spec: {containers: [{image: a:1, <<: x}]}\n", "line 3: << wants an object"},
		"an anchor in itself":           {head + "spec: &a {containers: [*a]}\n", "line 3: the anchor &a contains itself"},
		"an alias of nothing":           {head + "spec: *a\n", "unknown anchor"},
		"an image that is more":         {head + "metadata: {labels: {image: &i app:1}}\nspec: {containers: [{image: *i }]}\n", "line 3: this image is shared by an anchor with line 3, where it is no image"},
		"an image that is more, after":  {head + "spec: {containers: [{image: &i app:1}]}\nmetadata:\n  labels: {image: *i }\n", "line 3: this image is shared by an anchor with line 5"},
		"a container that is more":      {"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, data: &d {image: a:1}}\n- {apiVersion: v1, kind: Pod, spec: {containers: [{<<: *d}]}}\n", "line 4: this image is shared by an anchor"},
		"an image that is a number":     {pod + "image: 1234\n", `line 7: spec.containers[0].image: "1234" is not text`},
		"an image that is a float":      {pod + "image: 1.10\n", "is not text"},
		"an image that is true once":    {pod + "image: yes\n", "is not text to every reader"},
		"an image in base 60":           {pod + "image: 12:30\n", "is not text to every reader"},
		"an image that is a date":       {pod + "image: 2020-01-01\n", "is not text"},
		"an image with a tag":           {pod + "image: !mine app:1\n", "is not text"},
		"an image that is an object":    {pod + "image: {repository: a}\n", `line 7: spec.containers[0].image: want text, found an object`},
		"an image that is a list":       {pod + "image: [a]\n", "want text, found a list"},
		"containers that are an object": {head + "spec: {containers: {image: a}}\n", "line 3: spec.containers: want a list, found an object"},
		"a spec that is text":           {head + "spec: hello\n", `line 3: spec: want an object, found "hello"`},
		"a volume's image that is text": {head + "spec: {volumes: [{image: a}]}\n", `spec.volumes[0].image: want an object, found "a"`},
		"a malformed digest":            {pod + "image: app@sha256:123\n", `line 7: spec.containers[0].image: parsing image reference "app@sha256:123"`},
		"another algorithm":             {pod + "image: app@sha512:77b0b75136b9bd0fd36fb50f4c92ae0dbdbbe164ab67885e736fa4374e0cbb8c\n", "must begin with"},
		"a scheme":                      {pod + "image: https://gcr.io/a\n", "no scheme"},
		"blanks around":                 {pod + "image: ' app:1'\n", "parsing image reference"},
		"a literal with its line break": {pod + "image: |\n      app:1\n", "ends in a line break"},
		"a folded one with its break":   {pod + "image: >\n      app:1\n", "ends in a line break"},
		"several lines":                 {pod + "image: \"app\\\n      :1\"\n", "written over several lines"},
		"merges of merges":              {head + "metadata:\n  x:\n" + merges(2000) + "spec: {}\n", "merges give the objects of this document more than"},
		"nesting":                       {head + "x: " + strings.Repeat("[", 200) + strings.Repeat("]", 200), "nested deeper"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, _, problems := pin(t, kinds(t), test.text)
			if len(problems) == 0 || !strings.Contains(problems[0].String(), test.want) {
				t.Errorf("got %v, want %s", problems, test.want)
			}
		})
	}
}

// merges returns a list of objects of which each has the members of the one before.
func merges(n int) string {
	var b strings.Builder
	b.WriteString("  - &a0 {k0: v}\n")
	for i := range n {
		fmt.Fprintf(&b, "  - &a%d {<<: *a%d, k%d: v}\n", i+1, i, i+1)
	}
	return b.String()
}

// TestAliasesDoNotMultiply: what a text stands for may be far larger than the text.
func TestAliasesDoNotMultiply(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: ConfigMap\ndata:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range 90 {
		fmt.Fprintf(&b, "  a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i+1, i+1, i, i, i, i, i, i)
	}
	b.WriteString("---\napiVersion: v1\nkind: List\nitems:\n- &p {apiVersion: v1, kind: Pod, spec: &s {containers: &c [&d {image: a:1¤}]}}\n")
	b.WriteString(strings.Repeat("- *p\n- {apiVersion: v1, kind: Pod, spec: *s }\n- {apiVersion: v1, kind: Pod, spec: {containers: [*d, {<<: *d}]}}\n", 1000))
	check(t, kinds(t), b.String())
}

func TestNotes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"# c\n---\n---\nspec: {}\n": "4: no Kubernetes object, and left as it is: it has no kind or no apiVersion",
		"---\n- a\n":                "2: no Kubernetes object, and left as it is: it is a list",
		"apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: r}\nspec:\n  x: [{image: app:1}]\n": "5: Rollout r has what looks like an image, and is left as it is: --resources can say where Rollout has images",
		"apiVersion: v1\nkind: ConfigMap\ndata: {image: app:1}\n":                                              "",
		"apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nspec: {image: {a: b}, c: {image: ''}}\n":             "",
		"~\n---\n# c\n": "",
		"apiVersion: v1\nkind: pod\nspec: {containers: [{image: a}]}\n":         `1: there is no "pod" in "v1", and it is left as it is; is it to be Pod?`,
		"apiVersion: v1\nkind: Deployment\n":                                    `1: there is no "Deployment" in "v1", and it is left as it is; is it to be Deployment of apps?`,
		"apiVersion: example.com/v1\nkind: Deployment\nspec: {image: {a: b}}\n": "",
	} {
		_, _, notes, problems := pin(t, kinds(t), text)
		var got []string
		for _, n := range notes {
			got = append(got, fmt.Sprintf("%d: %s", n.Line, n.Text))
		}
		if strings.Join(got, "\n") != want && (want != "" || got != nil) || problems != nil {
			t.Errorf("%q: got %q %v, want %q", text, got, problems, want)
		}
	}
}

func TestWhereImagesAre(t *testing.T) {
	t.Parallel()
	_, images, _, _ := pin(t, kinds(t), "---\n"+strings.ReplaceAll(pod, "containers", "initContainers")+"image: a:1\n  volumes:\n  - image: {reference: b@sha256:77b0b75136b9bd0fd36fb50f4c92ae0dbdbbe164ab67885e736fa4374e0cbb8c}\n")
	var got []string
	for _, i := range images {
		got = append(got, fmt.Sprintf("%d %s %s %s %s", i.Line, i.Object.APIVersion, i.Object, i.Place, i.Reference))
	}
	want := []string{"8 v1 Pod shop/p spec.initContainers[0].image a:1", "10 v1 Pod shop/p spec.volumes[0].image.reference b" + at}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTooLongADocument(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("# "+strings.Repeat("x", 1<<10)+"\n", manifest.MaxDocument>>10)
	for name, text := range map[string]string{"lines": "a: 1\n---\n" + long, "one line": "a: 1\n---\n" + strings.ReplaceAll(long, "\n", "")} {
		r := manifest.NewReader(strings.NewReader(text))
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Next(); err == nil || !strings.Contains(err.Error(), "line 2: the document has more than 16 MiB") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
