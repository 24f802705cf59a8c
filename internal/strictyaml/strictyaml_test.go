package strictyaml_test

import (
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/internal/strictyaml"
)

type word string

type shared struct {
	Project string `yaml:"project"`
}

type config struct {
	shared  `yaml:",inline"`
	Name    string        `yaml:"name"`
	Keep    time.Duration `yaml:"keep"`
	Bytes   int64         `yaml:"maxBytes"`
	Choice  word          `yaml:"choice"`
	Armed   bool          `yaml:"armed"`
	Ratio   *float64      `yaml:"ratio"`
	Section struct {
		Files []string `yaml:"files"`
	} `yaml:"section"`
	Receivers []receiver `yaml:"receivers"`
}

type receiver struct {
	Server *struct {
		Host string `yaml:"host"`
	} `yaml:"server"`
	Again *receiver `yaml:"again"`
}

func TestWhatIsWrongIsSaidInWords(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"name: a\nkepp: 1h\n":                `c.yaml:2: unknown field "kepp"; did you mean "keep"?`,
		"Name: a\n":                          `c.yaml:1: unknown field "Name"; did you mean "name"?`,
		"projekt: a\n":                       `c.yaml:1: unknown field "projekt"; did you mean "project"?`,
		"unheard: a\n":                       `c.yaml:1: unknown field "unheard"`,
		"section: {file: [a]}\n":             `c.yaml:1: unknown field "file"; did you mean "files"?`,
		"receivers:\n- server: {hosts: a}\n": `c.yaml:2: unknown field "hosts"; did you mean "host"?`,
		"keep: 30d\n":                        "c.yaml:1: another kind of value belongs here, a time such as 90s or 24h: 30d",
		"maxBytes: 1GiB\n":                   "c.yaml:1: another kind of value belongs here, a whole number: 1GiB",
		"armed: maybe\n":                     "c.yaml:1: another kind of value belongs here, true or false: maybe",
		"ratio: half\n":                      "c.yaml:1: another kind of value belongs here, a number: half",
		"name: [a]\n":                        "c.yaml:1: another kind of value belongs here, a text: a list",
		"choice: {a: b}\n":                   "c.yaml:1: another kind of value belongs here, a text: a section",
		"section: a\n":                       "c.yaml:1: another kind of value belongs here, a section: a",
		"section: {files: a}\n":              "c.yaml:1: another kind of value belongs here, a list: a",
		"name: a\nname: b\n":                 `c.yaml:2: mapping key "name" already defined at line 1`,
		"kepp: 1h\nkeep: 30d\n":              "c.yaml:1: unknown field \"kepp\"; did you mean \"keep\"?\nc.yaml:2: another kind of value belongs here, a time such as 90s or 24h: 30d",
		"name: \"a\n":                        "c.yaml: yaml: ",
		"receivers:\n- again: {server: {port: 1}}\n": `c.yaml:2: unknown field "port"`,
	} {
		var c config
		dec := yaml.NewDecoder(strings.NewReader(text))
		dec.KnownFields(true)
		err := dec.Decode(&c)
		if err == nil {
			t.Errorf("%q is taken", text)
			continue
		}
		if got := strictyaml.Explain("c.yaml", err, &c).Error(); got != want && (!strings.HasSuffix(want, ": ") || !strings.HasPrefix(got, want)) {
			t.Errorf("%q\n got %s\nwant %s", text, got, want)
		}
	}
}
