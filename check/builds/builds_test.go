package builds_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/builds"
	"github.com/gatehouse-dev/gatehouse/check/checktest"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	app    = "https://github.com/my-org/app"
	commit = checktest.Commit
	other  = "2222222222222222222222222222222222222222"
	id     = "https://builds.example/worker"
)

// statementV1 and statementV02 are provenance as Cloud Build and slsa-github-generator
// write it, about a digest.
func statementV1(hex string) string {
	return fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"app","digest":{"sha256":%q}}],
"predicateType":"https://slsa.dev/provenance/v1","predicate":{"buildDefinition":{"buildType":"t",
"externalParameters":{"workflow":{"repository":"https://github.com/my-org/app","path":".github/workflows/w.yml","ref":"refs/heads/main"}},
"resolvedDependencies":[{"uri":"git+https://github.com/my-org/app@refs/heads/main","digest":{"gitCommit":%q}},
{"uri":"git+https://github.com/my-org/actions@v1","digest":{"gitCommit":%q}},
{"uri":"pkg:docker/debian@12","digest":{"sha256":%q}}]},
"runDetails":{"builder":{"id":%q},"metadata":{"startedOn":"2026-01-02T03:04:05Z","finishedOn":"2026-01-02T03:09:05Z"}}}}`, hex, commit, other, strings.Repeat("a", 64), id)
}

func statementV02(hex string) string {
	return fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v0.1","subject":[{"name":"app","digest":{"sha256":%q}}],
"predicateType":"https://slsa.dev/provenance/v0.2","predicate":{"builder":{"id":%q},"buildType":"t",
"invocation":{"configSource":{"uri":"git+https://github.com/my-org/app@refs/heads/main","digest":{"sha1":%q}}},
"metadata":{"buildStartedOn":"2026-01-02T03:04:05Z"},
"materials":[{"uri":"git+https://github.com/my-org/app@refs/heads/main","digest":{"sha1":%q}}]}}`, hex, id, commit, commit)
}

func read(t *testing.T, r builds.Reader, list ...*grafeas.Occurrence) builds.Found {
	t.Helper()
	found, err := r.Read(t.Context(), &check.Input{Image: checktest.Ref(t, checktest.Image), Metadata: &checktest.Metadata{List: list}})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func build(b *grafeas.BuildOccurrence) *grafeas.Occurrence {
	return &grafeas.Occurrence{Kind: grafeas.NoteKind_BUILD, Details: &grafeas.Occurrence_Build{Build: b}}
}

func dsse(e *grafeas.Envelope) *grafeas.Occurrence {
	return &grafeas.Occurrence{Kind: grafeas.NoteKind_DSSE_ATTESTATION, Details: &grafeas.Occurrence_DsseAttestation{DsseAttestation: &grafeas.DSSEAttestationOccurrence{Envelope: e}}}
}

func subject(hex string) []*grafeas.Subject {
	return []*grafeas.Subject{{Name: "app", Digest: map[string]string{"sha256": hex}}}
}

func TestUnsignedForms(t *testing.T) {
	t.Parallel()
	at := &timestamppb.Timestamp{Seconds: 1767323045}
	started := at.AsTime()
	record := checktest.Build(app, commit)
	record.GetBuild().Provenance.StartTime = at
	v1, err := structpb.NewStruct(map[string]any{"buildConfigSource": map[string]any{"repository": app}})
	if err != nil {
		t.Fatal(err)
	}
	material := &grafeas.InTotoSlsaProvenanceV1_ResourceDescriptor{Uri: "git+" + app + "@refs/heads/main", Digest: map[string]string{"gitCommit": commit}}
	for about, row := range map[string]struct {
		o    *grafeas.Occurrence
		want builds.Build
	}{
		"a Build record": {record, builds.Build{Form: "build record", Builder: "ci@example", Project: "builds", HasProject: true}},
		"SLSA v0.2": {build(&grafeas.BuildOccurrence{IntotoStatement: &grafeas.InTotoStatement{Subject: subject(checktest.Hex), Predicate: &grafeas.InTotoStatement_SlsaProvenanceZeroTwo{
			SlsaProvenanceZeroTwo: &grafeas.SlsaProvenanceZeroTwo{
				Builder: &grafeas.SlsaProvenanceZeroTwo_SlsaBuilder{Id: id}, Metadata: &grafeas.SlsaProvenanceZeroTwo_SlsaMetadata{BuildStartedOn: at},
				Materials: []*grafeas.SlsaProvenanceZeroTwo_SlsaMaterial{{Uri: "git+" + app + ".git@refs/heads/main", Digest: map[string]string{"sha1": commit}}},
			}}}}), builds.Build{Form: "SLSA provenance v0.2", Builder: id}},
		"SLSA v0.1": {build(&grafeas.BuildOccurrence{IntotoStatement: &grafeas.InTotoStatement{Subject: subject(checktest.Hex), Predicate: &grafeas.InTotoStatement_SlsaProvenance{
			SlsaProvenance: &grafeas.SlsaProvenance{
				Builder: &grafeas.SlsaProvenance_SlsaBuilder{Id: id}, Metadata: &grafeas.SlsaProvenance_SlsaMetadata{BuildStartedOn: at},
				Materials: []*grafeas.SlsaProvenance_Material{{Uri: app, Digest: map[string]string{"sha1": commit}}},
			}}}}), builds.Build{Form: "SLSA provenance v0.1", Builder: id}},
		"SLSA v1": {build(&grafeas.BuildOccurrence{InTotoSlsaProvenanceV1: &grafeas.InTotoSlsaProvenanceV1{Subject: subject(checktest.Hex), Predicate: &grafeas.InTotoSlsaProvenanceV1_SlsaProvenanceV1{
			BuildDefinition: &grafeas.InTotoSlsaProvenanceV1_BuildDefinition{ExternalParameters: v1, ResolvedDependencies: []*grafeas.InTotoSlsaProvenanceV1_ResourceDescriptor{material}},
			RunDetails:      &grafeas.InTotoSlsaProvenanceV1_RunDetails{Builder: &grafeas.InTotoSlsaProvenanceV1_ProvenanceBuilder{Id: id}, Metadata: &grafeas.InTotoSlsaProvenanceV1_BuildMetadata{StartedOn: at}},
		}}}), builds.Build{Form: "SLSA provenance v1", Builder: id}},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			found := read(t, builds.Reader{}, row.o)
			if len(found.Builds) != 1 || len(found.Rejected) != 0 {
				t.Fatalf("found %+v", found)
			}
			got := found.Builds[0]
			if repo, err := builds.ParseRepository(got.Source.URL); err != nil || repo.String() != "github.com/my-org/app" || got.Source.Commit != commit {
				t.Errorf("source %+v, %v", got.Source, err)
			}
			if !got.Time().Equal(started) {
				t.Errorf("built at %v, want %v", got.Time(), started)
			}
			got.Source, got.Materials, got.Started = builds.Source{}, nil, time.Time{}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("build (-want +got):\n%s", diff)
			}
		})
	}
}

func TestARecordAboutSomethingElseDoesNotCount(t *testing.T) {
	t.Parallel()
	hex := strings.Repeat("f", 64)
	for about, o := range map[string]*grafeas.Occurrence{
		"another digest":           build(&grafeas.BuildOccurrence{IntotoStatement: &grafeas.InTotoStatement{Subject: subject(hex), Predicate: &grafeas.InTotoStatement_SlsaProvenanceZeroTwo{}}}),
		"no subject":               build(&grafeas.BuildOccurrence{InTotoSlsaProvenanceV1: &grafeas.InTotoSlsaProvenanceV1{}}),
		"B3: an empty digest":      build(&grafeas.BuildOccurrence{InTotoSlsaProvenanceV1: &grafeas.InTotoSlsaProvenanceV1{Subject: subject("")}}),
		"a statement of no build":  build(&grafeas.BuildOccurrence{IntotoStatement: &grafeas.InTotoStatement{Subject: subject(checktest.Hex)}}),
		"in-toto without subjects": build(&grafeas.BuildOccurrence{IntotoProvenance: &grafeas.InTotoProvenance{}}),
		"B4: nothing":              build(nil),
	} {
		if found := read(t, builds.Reader{}, o); len(found.Builds) != 0 || len(found.Rejected) != 1 {
			t.Errorf("%s: %+v", about, found)
		}
	}
	if got := (builds.Found{}).Why(); got != "no build metadata associated with this image" {
		t.Errorf("without any: %q", got)
	}
}

func TestSignedProvenance(t *testing.T) {
	t.Parallel()
	key, stranger := checktest.Signer(t), checktest.Signer(t)
	signedBuild := func(e *grafeas.Envelope) *grafeas.Occurrence {
		// What is beside the envelope is a lie.
		o := checktest.Build("https://github.com/evil/app", other)
		o.Envelope = e
		return o
	}
	altered := checktest.Envelope(t, key, statementV1(checktest.Hex))
	altered.Payload = []byte(strings.Replace(string(altered.Payload), commit, other, 1))
	foreign := checktest.Envelope(t, stranger, statementV1(checktest.Hex))
	for about, row := range map[string]struct {
		o      *grafeas.Occurrence
		form   string // empty means that it is rejected
		reason string
	}{
		"SLSA v1":                  {signedBuild(checktest.Envelope(t, key, statementV1(checktest.Hex))), "SLSA provenance v1", ""},
		"SLSA v0.2":                {signedBuild(checktest.Envelope(t, key, statementV02(checktest.Hex))), "SLSA provenance v0.2", ""},
		"in an attestation":        {dsse(checktest.Envelope(t, key, statementV1(checktest.Hex))), "SLSA provenance v1", ""},
		"by another key":           {signedBuild(foreign), "", "signed by none of the 1 keys"},
		"altered":                  {signedBuild(altered), "", "does not count"},
		"about another digest":     {signedBuild(checktest.Envelope(t, key, statementV1(strings.Repeat("f", 64)))), "", "no built artifact"},
		"without envelope":         {checktest.Build(app, commit), "", "is not signed"},
		"of another predicate":     {signedBuild(checktest.Envelope(t, key, strings.Replace(statementV1(checktest.Hex), "slsa.dev/provenance/v1", "x.example/y", 1))), "", "of type"},
		"with a predicate of lies": {signedBuild(checktest.Envelope(t, key, strings.Replace(statementV1(checktest.Hex), `"builder":{"id"`, `"builder":[{"id"`, 1))), "", "does not count"},
		"that is no provenance": {signedBuild(checktest.Envelope(t, key, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"`+checktest.Hex+`"}}],
"predicateType":"https://slsa.dev/provenance/v1","predicate":{"runDetails":7}}`)), "", "cannot be read"},
		"with an empty envelope": {signedBuild(&grafeas.Envelope{}), "", "does not count"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			found := read(t, builds.Reader{Keys: []*signature.PublicKey{key.PublicKey()}}, row.o)
			if row.form == "" {
				if len(found.Builds) != 0 || !strings.Contains(found.Why(), row.reason) {
					t.Errorf("found %+v, want %q", found, row.reason)
				}
				return
			}
			if len(found.Builds) != 1 || found.Builds[0].Form != row.form || found.Builds[0].KeyID != key.KeyID() || found.Builds[0].Builder != id {
				t.Fatalf("found %+v", found)
			}
			if diff := cmp.Diff(builds.Source{URL: "git+" + app, Commit: commit}, found.Builds[0].Source); diff != "" {
				t.Errorf("source (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("without keys is not believed for its envelope alone", func(t *testing.T) {
		o := build(nil)
		o.Envelope = checktest.Envelope(t, key, statementV1(checktest.Hex))
		if found := read(t, builds.Reader{}, o); len(found.Builds) != 0 || !strings.Contains(found.Why(), "gatehouse.builds.keys") {
			t.Errorf("found %+v", found)
		}
	})
}

func TestTheSourceIsAMaterial(t *testing.T) {
	t.Parallel()
	key := checktest.Signer(t)
	for about, change := range map[string]func(string) string{
		"a configuration that was not fetched": func(s string) string { return strings.Replace(s, `"uri":"git+`+app, `"uri":"git+`+app+"2", 1) },
		"several commits": func(s string) string {
			return strings.NewReplacer(`"workflow"`, `"x"`).Replace(s)
		},
		"no commit": func(s string) string { return strings.ReplaceAll(s, "gitCommit", "x") },
	} {
		found := read(t, builds.Reader{Keys: []*signature.PublicKey{key.PublicKey()}}, dsse(checktest.Envelope(t, key, change(statementV1(checktest.Hex)))))
		if len(found.Builds) != 1 || found.Builds[0].Source != (builds.Source{}) {
			t.Errorf("%s: %+v", about, found)
		}
	}
}

func TestWhatBuiltAnIndexBuiltWhatIsInIt(t *testing.T) {
	t.Parallel()
	child := "registry.example/team/app@sha256:" + strings.Repeat("c", 64)
	of := func(ref string, o *grafeas.Occurrence) *grafeas.Occurrence {
		o.ResourceUri = "https://" + ref
		return o
	}
	in := &check.Input{Image: checktest.Ref(t, child), Index: checktest.Ref(t, checktest.Image), Metadata: &checktest.Metadata{List: []*grafeas.Occurrence{
		of(checktest.Image, checktest.Build(app, commit)), // names the index
		of(child, checktest.Build(app, other)),            // names the index too, and is filed for the image
	}}}
	found, err := (builds.Reader{}).Read(t.Context(), in)
	if err != nil || len(found.Builds) != 1 || found.Builds[0].Source.Commit != commit || len(found.Rejected) != 1 {
		t.Errorf("found %+v, %v", found, err)
	}
	in.Index = checktest.Ref(t, "nginx")
	if found, err := (builds.Reader{}).Read(t.Context(), in); err != nil || len(found.Builds) != 0 {
		t.Errorf("without the index: %+v, %v", found, err)
	}
}

func TestReadErrors(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	key := checktest.Signer(t)
	for kind, r := range map[grafeas.NoteKind]builds.Reader{grafeas.NoteKind_BUILD: {}, grafeas.NoteKind_DSSE_ATTESTATION: {Keys: []*signature.PublicKey{key.PublicKey()}}} {
		m := &checktest.Metadata{Err: map[grafeas.NoteKind]error{kind: down}}
		if _, err := r.Read(t.Context(), &check.Input{Image: checktest.Ref(t, checktest.Image), Metadata: m}); !errors.Is(err, down) {
			t.Errorf("%v: err = %v", kind, err)
		}
	}
	m := &checktest.Metadata{}
	for range 2001 {
		m.List = append(m.List, checktest.Build(app, commit))
	}
	if _, err := (builds.Reader{}).Read(t.Context(), &check.Input{Image: checktest.Ref(t, checktest.Image), Metadata: m}); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("without end: err = %v", err)
	}
}

func TestParseRepository(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"https://github.com/my-org/app":                          "github.com/my-org/app",
		"https://github.com/my-org/app.git":                      "github.com/my-org/app",
		"https://github.com/my-org/app/":                         "github.com/my-org/app",
		"http://GitHub.com/my-org/App":                           "github.com/my-org/App",
		"github.com/my-org/app":                                  "github.com/my-org/app",
		"git+https://github.com/my-org/app@refs/heads/main":      "github.com/my-org/app",
		"git+https://github.com/my-org/app.git#" + commit:        "github.com/my-org/app",
		"git@github.com:my-org/app.git":                          "github.com/my-org/app",
		"ssh://git@github.com/my-org/app":                        "github.com/my-org/app",
		"ssh://git@git.example:2222/my-org/app.git":              "git.example:2222/my-org/app",
		"https://github.com/my-org/foo.github.io":                "github.com/my-org/foo.github.io",
		"https://gitlab.com/a/b/c/app":                           "gitlab.com/a/b/c/app",
		"":                                                       "",
		"https://github.com":                                     "",
		"https://github.com/my-org":                              "",
		"https://github.com/my-org/../evil/app":                  "",
		"https://github.com/my-org//app":                         "",
		"https://github.com/my-org/%2e%2e/app":                   "",
		"https://github.com/my-org/app?x=y":                      "",
		"file:///my-org/app":                                     "",
		"https://github.com/" + strings.Repeat("a/", 2000) + "x": "",
	}
	got := map[string]string{}
	for s := range want {
		r, err := builds.ParseRepository(s)
		if (err == nil) != (want[s] != "") {
			t.Errorf("%.100q: %v", s, err)
		}
		if got[s] = ""; err == nil {
			got[s] = r.String()
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("repositories (-want +got):\n%s", diff)
	}
}

func FuzzParseRepository(f *testing.F) {
	f.Add("git+https://github.com/my-org/app.git@refs/heads/main")
	f.Add("git@github.com:my-org/app")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := builds.ParseRepository(s)
		if err != nil {
			return
		}
		again, err := builds.ParseRepository("https://" + r.String())
		if strings.HasSuffix(r.Path, ".git") || strings.HasSuffix(r.Path, "/") {
			return
		}
		if err != nil || again != r || r.Owner() == "" {
			t.Errorf("%q is %v, and that is %v, %v", s, r, again, err)
		}
	})
}

func FuzzSignedStatement(f *testing.F) {
	f.Add([]byte(statementV1(checktest.Hex)))
	f.Add([]byte(statementV02(checktest.Hex)))
	key := checktest.Signer(f)
	r := builds.Reader{Keys: []*signature.PublicKey{key.PublicKey()}}
	f.Fuzz(func(t *testing.T, statement []byte) {
		if len(statement) == 0 {
			return
		}
		found := read(t, r, dsse(checktest.Envelope(t, key, string(statement))))
		for _, b := range found.Builds {
			if b.KeyID == "" || (b.Source != builds.Source{} && !builds.IsCommit(b.Source.Commit)) {
				t.Errorf("build %+v", b)
			}
		}
	})
}
