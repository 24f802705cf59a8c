// Package kubernetes holds the definitions of the kinds that Gatehouse serves in a
// cluster, as they are installed: those of group gatehouse.dev, and those of Kritis.
//
// A definition refuses what can be told from one object without reading keys,
// patterns and expressions. Package policy/objects reads the rest.
package kubernetes

import "embed"

//go:embed *.yaml
var definitions embed.FS

// A Definition is one CustomResourceDefinition.
type Definition struct {
	// File is its name here, GROUP_PLURAL.yaml.
	File string
	// Text is YAML, one document.
	Text []byte
}

// CRDs returns all definitions, in the order of their files' names.
func CRDs() []Definition {
	entries, _ := definitions.ReadDir(".") // of what is built in: it cannot fail
	all := make([]Definition, 0, len(entries))
	for _, e := range entries {
		text, _ := definitions.ReadFile(e.Name()) // nor can this
		all = append(all, Definition{File: e.Name(), Text: text})
	}
	return all
}
