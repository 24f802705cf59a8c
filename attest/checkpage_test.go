package attest_test

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/check"
)

// writeCheckPage writes the page of the checks, docs/checks.md, from what they say about
// themselves.
func writeCheckPage(b *bytes.Buffer) {
	b.WriteString(`# Checks

<!-- Made from what the checks say about themselves: go test ./attest -run ThePageOfChecks -update -->

A check looks at one image and at what is known about it. Passing earns the image an attestation, under the note of
the check's name. ` + "`gatehouse checks list`" + ` and ` + "`gatehouse checks explain NAME`" + ` print this page, also as JSON.

A check that could not tell, because a registry, the metadata or a source code host did not answer, has an error and
not a verdict; neither earns anything. Every wait ends with the request (` + "`server.timeout`" + `), and the reason
names what was waited for. A check that fails inside fails alone, with the stack in the log.

Settings are keys of the attestor's configuration: Voucher's own, and those in the table ` + "`gatehouse`" + `.

| check | what it asks |
|---|---|
`)
	docs := attest.CheckDocs()
	for _, d := range docs {
		fmt.Fprintf(b, "| [`%s`](#%s) | %s |\n", d.Name, strings.ToLower(d.Name), d.Title)
	}
	for _, d := range docs {
		writeCheck(b, d)
	}
	fmt.Fprintf(b, "\n## All settings, by example\n\n```toml\n%s```\n", everyCheck)
}

func writeCheck(b *bytes.Buffer, d attest.CheckDoc) {
	fmt.Fprintf(b, "\n## %s\n\n%s.\n\n%s\n\nIt reads %s.\n\n", d.Name, d.Title, d.Proves, strings.Join(d.Needs, "; "))
	b.WriteString("| setting | what it is | default |\n|---|---|---|\n")
	for _, s := range d.Settings {
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", s.Key, cell(s.Text), cell(defaultOf(s)))
	}
	b.WriteString("\n| when it says | do this |\n|---|---|\n")
	for _, f := range d.Fixes {
		fmt.Fprintf(b, "| %s | %s |\n", cell(f.Failure), cell(f.Do))
	}
}

func defaultOf(s check.Setting) string {
	if s.Default == "" {
		return "has to be set"
	}
	return s.Default
}

func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "\n", " ").Replace(s)
}
