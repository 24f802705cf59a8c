package provenance_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/builds"
	"github.com/gatehouse-dev/gatehouse/check/checktest"
	"github.com/gatehouse-dev/gatehouse/check/provenance"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const hex = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

type metadata struct {
	check.Metadata
	builds []*grafeas.Occurrence
	err    error
}

func (m metadata) Occurrences(_ context.Context, _ image.Reference, kind grafeas.NoteKind) ([]*grafeas.Occurrence, error) {
	if kind != grafeas.NoteKind_BUILD {
		return nil, errors.New("asked for another kind")
	}
	return m.builds, m.err
}

func build(creator, project string, checksums ...string) *grafeas.Occurrence {
	p := &grafeas.BuildProvenance{Creator: creator, ProjectId: project}
	for _, c := range checksums {
		p.BuiltArtifacts = append(p.BuiltArtifacts, &grafeas.Artifact{Checksum: c})
	}
	return &grafeas.Occurrence{
		Kind:    grafeas.NoteKind_BUILD,
		Details: &grafeas.Occurrence_Build{Build: &grafeas.BuildOccurrence{Provenance: p}},
	}
}

func run(t *testing.T, m metadata) (check.Result, error) {
	t.Helper()
	c, err := provenance.New(provenance.Settings{Builders: []string{"ci@x", "ci2@x"}, Projects: []string{"builds"}})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := image.Parse("registry.example/app@sha256:" + hex)
	if err != nil {
		t.Fatal(err)
	}
	return c.Run(t.Context(), &check.Input{Image: ref, Metadata: m})
}

func TestProvenance(t *testing.T) {
	t.Parallel()
	good := build("ci@x", "builds", "sha256:"+hex)
	const notBuilt = "no built artifact has the digest of this image"
	for about, row := range map[string]struct {
		builds []*grafeas.Occurrence
		reason string // empty means that it passes
	}{
		"a trusted build":                          {[]*grafeas.Occurrence{good}, ""},
		"a checksum without the algorithm":         {[]*grafeas.Occurrence{build("ci2@x", "builds", hex)}, ""},
		"one artifact of several":                  {[]*grafeas.Occurrence{build("ci@x", "builds", "", "other", hex)}, ""},
		"B1: two builds, one of them good":         {[]*grafeas.Occurrence{build("eve@x", "builds", hex), good}, ""},
		"no build":                                 {nil, "no build metadata associated with this image"},
		"an untrusted builder":                     {[]*grafeas.Occurrence{build("eve@x", "builds", hex)}, "builder identity not trusted: eve@x"},
		"a builder in another case":                {[]*grafeas.Occurrence{build("CI@x", "builds", hex)}, "builder identity not trusted: CI@x"},
		"no builder":                               {[]*grafeas.Occurrence{build("", "builds", hex)}, "builder identity not trusted: "},
		"an untrusted project":                     {[]*grafeas.Occurrence{build("ci@x", "other", hex)}, "builder project not trusted: other"},
		"B3: an empty checksum":                    {[]*grafeas.Occurrence{build("ci@x", "builds", "")}, notBuilt},
		"B3: an algorithm and no checksum":         {[]*grafeas.Occurrence{build("ci@x", "builds", "sha256:")}, notBuilt},
		"B3: a checksum that is the digest's end":  {[]*grafeas.Occurrence{build("ci@x", "builds", hex[1:])}, notBuilt},
		"a checksum in another case":               {[]*grafeas.Occurrence{build("ci@x", "builds", strings.ToUpper(hex))}, notBuilt},
		"no artifacts":                             {[]*grafeas.Occurrence{build("ci@x", "builds")}, notBuilt},
		"halves of two builds do not make a whole": {[]*grafeas.Occurrence{build("ci@x", "other", hex), build("eve@x", "builds", hex)}, "builder identity not trusted: eve@x; builder project not trusted: other"},
		"B4: a record without provenance": {[]*grafeas.Occurrence{{Details: &grafeas.Occurrence_Build{}}, {}, {Details: &grafeas.Occurrence_Build{Build: &grafeas.BuildOccurrence{}}}},
			"build metadata has no provenance"},
		"B4: a broken record beside a good one": {[]*grafeas.Occurrence{{}, nil, good}, ""},
	} {
		t.Run(about, func(t *testing.T) {
			got, err := run(t, metadata{builds: row.builds})
			if err != nil || got.Passed() != (row.reason == "") || got.Reason() != row.reason {
				t.Errorf("got %+v, %v; want reason %q", got, err, row.reason)
			}
		})
	}
}

func TestAnErrorIsNotAPass(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	got, err := run(t, metadata{err: down, builds: []*grafeas.Occurrence{build("ci@x", "builds", hex)}})
	if !errors.Is(err, down) || got.Passed() {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestReasonsAreBounded(t *testing.T) {
	t.Parallel()
	var builds []*grafeas.Occurrence
	for i := range 1000 {
		builds = append(builds, build(strings.Repeat("x", 1+i), "builds", hex))
	}
	got, err := run(t, metadata{builds: builds})
	if err != nil || got.Passed() || len(got.Reason()) > 2000 || !strings.HasSuffix(got.Reason(), "more reasons") {
		t.Fatalf("got %d characters: %+v, %v", len(got.Reason()), got, err)
	}
}

func TestNewRefusesEmptyWords(t *testing.T) {
	t.Parallel()
	for _, s := range []provenance.Settings{{Builders: []string{""}}, {Projects: []string{"p", ""}}} {
		if _, err := provenance.New(s); err == nil {
			t.Errorf("New(%+v): no error", s)
		}
	}
}

func TestSLSANamesNoProject(t *testing.T) {
	t.Parallel()
	for builder, want := range map[string]string{"ci@x": "", "eve@x": "builder identity not trusted: eve@x", "": "builder identity not trusted: "} {
		o := &grafeas.Occurrence{Kind: grafeas.NoteKind_BUILD, Details: &grafeas.Occurrence_Build{Build: &grafeas.BuildOccurrence{InTotoSlsaProvenanceV1: &grafeas.InTotoSlsaProvenanceV1{
			Subject: []*grafeas.Subject{{Digest: map[string]string{"sha256": hex}}},
			Predicate: &grafeas.InTotoSlsaProvenanceV1_SlsaProvenanceV1{RunDetails: &grafeas.InTotoSlsaProvenanceV1_RunDetails{
				Builder: &grafeas.InTotoSlsaProvenanceV1_ProvenanceBuilder{Id: builder},
			}},
		}}}}
		if got, err := run(t, metadata{builds: []*grafeas.Occurrence{o}}); err != nil || got.Passed() != (want == "") || got.Reason() != want {
			t.Errorf("builder %q: got %+v, %v", builder, got, err)
		}
	}
}

// TestUnsignedProvenanceDoesNotCountBesideKeys holds the check to the keys it was given.
func TestUnsignedProvenanceDoesNotCountBesideKeys(t *testing.T) {
	t.Parallel()
	key := checktest.Signer(t)
	c, err := provenance.New(provenance.Settings{Builders: []string{"ci@x"}, Projects: []string{"builds"}, Records: builds.Reader{Keys: []*signature.PublicKey{key.PublicKey()}}})
	if err != nil {
		t.Fatal(err)
	}
	statement := `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + checktest.Hex + `"}}],"predicateType":"https://slsa.dev/provenance/v1",
"predicate":{"runDetails":{"builder":{"id":"ci@x"}}}}`
	signed := build("eve@x", "builds", hex)
	signed.Envelope = checktest.Envelope(t, key, statement)
	for about, row := range map[string]struct {
		o    *grafeas.Occurrence
		want string
	}{
		"signed":   {signed, ""},
		"unsigned": {build("ci@x", "builds", hex), "build metadata is not signed, and gatehouse.builds.keys asks for it"},
	} {
		got, err := checktest.Run(t, c, &checktest.Metadata{List: []*grafeas.Occurrence{row.o}}, nil)
		if err != nil || got.Passed() != (row.want == "") || got.Reason() != row.want {
			t.Errorf("%s: got %+v, %v", about, got, err)
		}
		if got.Passed() && !strings.Contains(got.Evidence()[0], "signed by "+key.KeyID()) {
			t.Errorf("evidence = %q", got.Evidence())
		}
	}
}
