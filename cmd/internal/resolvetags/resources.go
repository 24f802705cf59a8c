package resolvetags

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/admission/resource"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
)

// maxConfig bounds the configuration file, as the server does.
const maxConfig = 1 << 20

// readResources reads admission.resources of a configuration. The rest of the file is
// the server's, and not looked at; in the section an unknown field is an error.
func readResources(file string) ([]resource.Resource, error) {
	data, err := bounded.ReadFile(file, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("reading --resources: %w", err)
	}
	var config struct {
		Admission struct {
			Resources yaml.Node `yaml:"resources"`
		} `yaml:"admission"`
	}
	if err := yaml.Unmarshal(data, &config); err != nil {
		return nil, fmt.Errorf("reading --resources %s: %s", file, inWords(err))
	}
	section := config.Admission.Resources
	if section.IsZero() {
		return nil, fmt.Errorf("reading --resources %s: it has no admission.resources, as in docs/gate.md", file)
	}
	alone, err := yaml.Marshal(&section)
	if err != nil {
		return nil, fmt.Errorf("reading --resources %s: %w", file, err)
	}
	var list []resource.Resource
	dec := yaml.NewDecoder(bytes.NewReader(alone))
	dec.KnownFields(true)
	if err := dec.Decode(&list); err != nil {
		return nil, fmt.Errorf("reading --resources %s: admission.resources (line %d): %s", file, section.Line, inWords(err))
	}
	return list, nil
}

// inWords says what is wrong, and not in terms of Go.
func inWords(err error) string {
	var wrong *yaml.TypeError
	if !errors.As(err, &wrong) {
		return strings.TrimPrefix(err.Error(), "yaml: ")
	}
	var words []string
	for _, text := range wrong.Errors { // "line N: field F not found in type T", "line N: cannot unmarshal !!K `V` into T"
		_, why, _ := strings.Cut(text, ": ")
		if field, _, ok := strings.Cut(why, " not found in type "); ok {
			why = fmt.Sprintf("unknown field %q", strings.TrimPrefix(field, "field "))
		} else if value, _, ok := strings.Cut(why, " into "); ok {
			why = "another kind of value belongs here: " + strings.TrimPrefix(value, "cannot unmarshal ")
		}
		words = append(words, why)
	}
	return strings.Join(words, "; ")
}
