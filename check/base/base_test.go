package base_test

import (
	"errors"
	"strings"
	"testing"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/check/base"
	"github.com/gatehouse-dev/gatehouse/check/checktest"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
)

const (
	nameKey   = "org.opencontainers.image.base.name"
	digestKey = "org.opencontainers.image.base.digest"

	debian = "registry.example/base/debian"
	hex    = "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
	evil   = "evil.example/base/debian"
)

func named(name string) map[string]string {
	return map[string]string{nameKey: name, digestKey: "sha256:" + hex}
}

// built returns provenance with a material.
func built(uri string) *grafeas.Occurrence {
	return &grafeas.Occurrence{Kind: grafeas.NoteKind_BUILD, Details: &grafeas.Occurrence_Build{Build: &grafeas.BuildOccurrence{InTotoSlsaProvenanceV1: &grafeas.InTotoSlsaProvenanceV1{
		Subject: []*grafeas.Subject{{Digest: map[string]string{"sha256": checktest.Hex}}},
		Predicate: &grafeas.InTotoSlsaProvenanceV1_SlsaProvenanceV1{BuildDefinition: &grafeas.InTotoSlsaProvenanceV1_BuildDefinition{
			ResolvedDependencies: []*grafeas.InTotoSlsaProvenanceV1_ResourceDescriptor{{Uri: uri, Digest: map[string]string{"sha256": hex}}},
		}},
	}}}}
}

func TestBase(t *testing.T) {
	t.Parallel()
	layers := func(list ...string) []string { return list }
	const foreign = "is not in gatehouse.base.allowed"
	for about, row := range map[string]struct {
		config  resolve.Config
		build   *grafeas.Occurrence
		allowed []string
		want    string // part of the reason; "" means that it passes
	}{
		"by annotations":                   {resolve.Config{Layers: layers("1", "2", "3"), Annotations: named(debian)}, nil, nil, ""},
		"by annotations with a tag":        {resolve.Config{Layers: layers("1", "2", "3"), Annotations: named(debian + ":12")}, nil, nil, ""},
		"by labels":                        {resolve.Config{Layers: layers("1", "2"), Labels: named(debian)}, nil, nil, ""},
		"by provenance":                    {resolve.Config{Layers: layers("1", "2", "3")}, built("pkg:docker/" + debian + "@12?platform=linux%2Famd64"), nil, ""},
		"by provenance of others":          {resolve.Config{Layers: layers("1", "2", "3")}, built("docker://" + debian + "@sha256:" + hex), nil, ""},
		"by provenance with a repository":  {resolve.Config{Layers: layers("1", "2", "3")}, built("pkg:oci/debian@sha256%3A" + hex + "?repository_url=" + debian), nil, ""},
		"by provenance with a registry":    {resolve.Config{Layers: layers("1", "2", "3")}, built("pkg:docker/base/debian@12?repository_url=registry.example"), nil, ""},
		"pinned, and not named":            {resolve.Config{Layers: layers("1", "2", "3")}, nil, []string{debian + "@sha256:" + hex}, ""},
		"pinned, with other layers":        {resolve.Config{Layers: layers("1", "x")}, nil, []string{debian + "@sha256:" + hex}, "its lowest layers are not those of the base " + debian},
		"not named":                        {resolve.Config{Layers: layers("1", "2", "3")}, nil, nil, "it does not say which base image it was built on"},
		"named without digest":             {resolve.Config{Layers: layers("1", "2", "3"), Annotations: map[string]string{nameKey: debian}}, nil, nil, "it does not say which base image"},
		"a lie about the base":             {resolve.Config{Layers: layers("x", "y"), Annotations: named(debian)}, nil, nil, "its lowest layers are not those of the base"},
		"a part of the base":               {resolve.Config{Layers: layers("1"), Annotations: named(debian)}, nil, nil, "its lowest layers are not those of the base"},
		"the base in the middle":           {resolve.Config{Layers: layers("x", "1", "2"), Annotations: named(debian)}, nil, nil, "its lowest layers are not those of the base"},
		"a base that is not allowed":       {resolve.Config{Layers: layers("1", "2"), Annotations: named(evil)}, nil, nil, evil + "@sha256:" + hex + " " + foreign},
		"a repository that looks like it":  {resolve.Config{Layers: layers("1", "2"), Annotations: named("registry.example/base-evil/debian")}, nil, nil, foreign},
		"a base that is gone":              {resolve.Config{Layers: layers("1", "2"), Annotations: named("registry.example/base/gone")}, nil, nil, "not found in the registry"},
		"a base without layers":            {resolve.Config{Layers: layers("1", "2"), Annotations: named("registry.example/base/empty")}, nil, nil, "its lowest layers are not those of the base"},
		"a lie in a label and truth aside": {resolve.Config{Layers: layers("1", "2"), Labels: named(evil), Annotations: named(debian)}, nil, nil, ""},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			allowed := row.allowed
			if allowed == nil {
				allowed = []string{"registry.example/base"}
			}
			c, err := base.New(base.Settings{Allowed: allowed})
			if err != nil {
				t.Fatal(err)
			}
			row.config.Platform = resolve.Platform{OS: "linux", Architecture: "amd64"}
			r := &checktest.Registry{Images: map[string][]resolve.Config{
				checktest.Image:                                   {row.config},
				debian + "@sha256:" + hex:                         {{Layers: layers("1", "2")}},
				debian + ":12@sha256:" + hex:                      {{Layers: layers("1", "2")}},
				"registry.example/base/empty@sha256:" + hex:       {{}},
				evil + "@sha256:" + hex:                           {{Layers: layers("1", "2")}},
				"registry.example/base-evil/debian@sha256:" + hex: {{Layers: layers("1", "2")}},
			}}
			m := &checktest.Metadata{}
			if row.build != nil {
				m.List = append(m.List, row.build)
			}
			got, err := checktest.Run(t, c, m, r)
			if err != nil || got.Passed() != (row.want == "") || !strings.Contains(got.Reason(), row.want) {
				t.Fatalf("got %+v, %v; want %q", got, err, row.want)
			}
			if !got.Passed() && !strings.Contains(got.Reason(), "on linux/amd64") {
				t.Errorf("reason = %q does not name the platform", got.Reason())
			}
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	c, err := base.New(base.Settings{Allowed: []string{"registry.example"}})
	if err != nil {
		t.Fatal(err)
	}
	down := errors.New("down")
	if got, err := checktest.Run(t, c, &checktest.Metadata{}, &checktest.Registry{Err: down}); !errors.Is(err, down) || got.Passed() {
		t.Errorf("registry: %+v, %v", got, err)
	}
	images := map[string][]resolve.Config{checktest.Image: {{}}}
	if got, err := checktest.Run(t, c, &checktest.Metadata{Err: map[grafeas.NoteKind]error{grafeas.NoteKind_BUILD: down}}, &checktest.Registry{Images: images}); !errors.Is(err, down) || got.Passed() {
		t.Errorf("metadata: %+v, %v", got, err)
	}
	if got, err := checktest.Run(t, c, &checktest.Metadata{}, &checktest.Registry{Images: map[string][]resolve.Config{checktest.Image: nil}}); err == nil || got.Passed() {
		t.Errorf("no configuration: %+v, %v", got, err)
	}
	for _, allowed := range [][]string{nil, {""}, {"registry.example/*"}, {"registry.example/a@sha256:x"}} {
		if _, err := base.New(base.Settings{Allowed: allowed}); err == nil || !strings.HasPrefix(err.Error(), "gatehouse.base.allowed: ") {
			t.Errorf("%q: err = %v", allowed, err)
		}
	}
}
