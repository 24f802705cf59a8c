package main

import (
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const oneOccurrence = `- name: projects/p/occurrences/1
  noteName: projects/p/notes/ci
  kind: ATTESTATION
  resourceUri: https://reg.test/web@sha256:77b0b75136b9bd0fd36fb50f4c92ae0dbdbbe164ab67885e736fa4374e0cbb8c
  createTime: 2026-11-30T12:00:00Z
  attestation:
    serializedPayload: e30=
    signatures:
    - publicKeyId: é
      signature: e30=
`

func TestOccurrencesAreReadInEveryForm(t *testing.T) {
	t.Parallel()
	indented := "  " + strings.TrimPrefix(oneOccurrence, "- ")
	for name, text := range map[string]string{
		"list":         oneOccurrence,
		"answer":       "occurrences:\n" + oneOccurrence + "nextPageToken: ''\n",
		"one":          strings.TrimPrefix(strings.ReplaceAll("\n"+indented, "\n  ", "\n"), "\n"),
		"CRLF and BOM": "\ufeff" + strings.ReplaceAll(oneOccurrence, "\n", "\r\n"),
		"JSON":         `[{"noteName":"projects/p/notes/ci","resourceUri":"https://reg.test/web@sha256:77b0b75136b9bd0fd36fb50f4c92ae0dbdbbe164ab67885e736fa4374e0cbb8c","attestation":{}}]`,
		"deep evidence": `[{"noteName":"projects/p/notes/ci","resourceUri":"https://reg.test/web@sha256:77b0b75136b9bd0fd36fb50f4c92ae0dbdbbe164ab67885e736fa4374e0cbb8c",
			"build":{"inTotoSlsaProvenanceV1":{"predicate":{"buildDefinition":{"externalParameters":` + strings.Repeat(`{"a":`, 50) + "1" + strings.Repeat("}", 50) + `}}}}}]`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list, found := parseOccurrences("o.yaml", []byte(text))
			if len(found) > 0 || len(list) != 1 || list[0].GetNoteName() != "projects/p/notes/ci" || list[0].file != "o.yaml" {
				t.Errorf("%v\n%s", list, found)
			}
		})
	}
}

func TestWhatIsWrongWithOccurrencesIsNamedWithItsLine(t *testing.T) {
	t.Parallel()
	change := func(from, to string) string { return strings.Replace(oneOccurrence, from, to, 1) }
	for name, test := range map[string]struct{ text, want string }{
		"empty":                {"", "o:1: error: the document is empty"},
		"text":                 {"hello", "o:1: error: want a list of occurrences"},
		"item":                 {"- 5\n", "o:1: error: an occurrence must be an object, and is a number"},
		"two documents":        {oneOccurrence + "---\n" + oneOccurrence, "o:11: error: more than one YAML document"},
		"alias":                {change("e30=", "&a e30="), "o:7: error: anchors and aliases are not accepted"},
		"twice":                {change("kind: ATTESTATION", "noteName: x"), `o:3: error: "noteName" is given twice, first at line 2`},
		"payload":              {change("e30=", "'{}'"), "o:7: error: attestation.serializedPayload is not base64"},
		"signature":            {change("      signature: e30=", "      signature: '*'"), "o:10: error: attestation.signatures[0].signature is not base64"},
		"number":               {change("noteName: projects/p/notes/ci", "noteName: 5"), "o:2: error: noteName: invalid value for string field noteName: 5"},
		"null in a list":       {change("    - publicKeyId: é\n      signature: e30=\n", "    - null\n"), "o:9: error: attestation.signatures[0]: unexpected token null"},
		"time":                 {change("2026-11-30T12:00:00Z", "today"), "o:5: error: createTime: invalid google.protobuf.Timestamp value"},
		"v1beta1":              {change("resourceUri: ", "resource:\n    uri: "), "o:1: error: this is an occurrence of v1beta1"},
		"no note":              {change("  noteName: projects/p/notes/ci\n", ""), "o:1: error: the occurrence has no resourceUri or no noteName"},
		"unknown field":        {change("serializedPayload", "serialisedPayload"), `o:7: warning: unknown field "attestation.serialisedPayload"; it is left out`},
		"unknown word":         {change("ATTESTATION", "ATESTATION"), "o:3: warning: kind: invalid value for enum field kind: \"ATESTATION\"; it is left out"},
		"another kind":         {change("ATTESTATION", "BUILD"), "o:3: warning: kind is BUILD, and what is in it is an attestation; it does not count"},
		"short note":           {change("projects/p/notes/ci", "ci"), "o:2: warning: noteName: \"ci\" does not have the form projects/*/notes/*"},
		"attestation of a tag": {change("@sha256:77b0b75136b9bd0fd36fb50f4c92ae0dbdbbe164ab67885e736fa4374e0cbb8c", ":1"), "o:4: warning: resourceUri: reference has no digest"},
		"deep and not known":   {change("  kind:", "  remarks: "+strings.Repeat("[", 40)+strings.Repeat("]", 40)+"\n  kind:"), `o:3: warning: unknown field "remarks"; it is left out`},
		"too deep":             {"a: " + strings.Repeat("[", 200) + strings.Repeat("]", 200), "o:1: error: nested deeper than 100 levels"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list, found := parseOccurrences("o", []byte(test.text))
			if !strings.Contains(found.String(), test.want) {
				t.Errorf("got %s want %s", found, test.want)
			}
			if !found.HasErrors() && len(list) != 1 {
				t.Errorf("%d occurrences", len(list))
			}
		})
	}
}

func TestEvidenceThatNobodyAsksForIsWarnedOf(t *testing.T) {
	t.Parallel()
	list, _ := parseOccurrences("o", []byte(oneOccurrence))
	about, _ := image.Parse("reg.test/web@sha256:77b0b75136b9bd0fd36fb50f4c92ae0dbdbbe164ab67885e736fa4374e0cbb8c")
	other, _ := image.Parse("reg.test/web@sha256:" + strings.Repeat("a", 64))
	byTag, _ := image.Parse("reg.test/web:1")
	one := []*signature.PublicKey{nil}
	for name, test := range map[string]struct {
		keys map[string][]*signature.PublicKey
		ref  image.Reference
		want string
	}{
		"all is well":   {map[string][]*signature.PublicKey{"projects/p/notes/ci": one}, about, ""},
		"by project":    {map[string][]*signature.PublicKey{"projects/p": one}, about, ""},
		"by a tag":      {map[string][]*signature.PublicKey{"projects/p": one}, byTag, ""},
		"another note":  {map[string][]*signature.PublicKey{"projects/p/notes/qa": one}, about, "o:1: warning: an attestation of the image is filed under \"projects/p/notes/ci\", which is the note of no attestor here\n"},
		"another image": {map[string][]*signature.PublicKey{"projects/p/notes/ci": one}, other, "o:1: warning: of 1 occurrence none is about reg.test/web@sha256:" + strings.Repeat("a", 64) + "\n"},
	} {
		if got := unheard(list, test.keys, []image.Reference{test.ref, test.ref}, "o").String(); got != test.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
