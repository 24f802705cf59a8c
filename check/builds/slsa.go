package builds

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// The predicates that are read.
const (
	provenanceV01 = "https://slsa.dev/provenance/v0.1"
	provenanceV02 = "https://slsa.dev/provenance/v0.2"
	provenanceV1  = "https://slsa.dev/provenance/v1"
)

const (
	// maxMaterials bounds those of one build; a build has some hundreds.
	maxMaterials = 4096
	// maxSigned bounds a signed statement, in bytes: provenances have some thousand, and
	// what is much larger is an SBOM.
	maxSigned = 1 << 20
	// maxSignatures bounds the signatures that are looked at.
	maxSignatures = 16
)

// slsa is what provenance says, in whatever version.
type slsa struct {
	form, builder string
	// config is the repository of the configuration that the build followed, if the
	// provenance names one.
	config            string
	materials         []material
	started, finished time.Time
}

// A material as it is written, in all versions.
type material struct {
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest"`
}

// signed reads what a key has signed in an occurrence, and nothing else of it.
func (r Reader) signed(found *Found, o *grafeas.Occurrence, d image.Digest) {
	env := o.GetEnvelope()
	if a := o.GetDsseAttestation(); a != nil {
		env = a.GetEnvelope()
	}
	if env == nil {
		found.reject("build metadata is not signed, and gatehouse.builds.keys asks for it")
		return
	}
	st, key, err := r.verify(env)
	if err != nil {
		found.reject("signed build metadata does not count: %v", err)
		return
	}
	read := readerOf(st.PredicateType)
	switch {
	case read == nil && o.GetBuild() == nil:
		return // a statement about something else than how it was built
	case read == nil:
		found.reject("signed build metadata is of type %q; provenance of SLSA v0.1, v0.2 and v1 is read", Clip(st.PredicateType))
		return
	}
	s, err := read(st.Predicate)
	if err != nil {
		found.reject("signed build metadata cannot be read: %s", Clip(err.Error()))
		return
	}
	b := s.build()
	b.KeyID, b.Recorded = key.ID(), timeOf(o.GetCreateTime())
	found.take(b, st.About(d))
}

// verify returns the statement in an envelope, and the key that has signed it.
func (r Reader) verify(env *grafeas.Envelope) (signature.Statement, *signature.PublicKey, error) {
	if n := len(env.GetPayload()); n > maxSigned {
		return signature.Statement{}, nil, fmt.Errorf("%d bytes, more than the %d that are looked at", n, maxSigned)
	}
	var signatures []signature.EnvelopeSignature
	for _, s := range env.GetSignatures() {
		if len(signatures) < maxSignatures {
			signatures = append(signatures, signature.EnvelopeSignature{KeyID: s.GetKeyid(), Sig: s.GetSig()})
		}
	}
	sealed, err := signature.NewEnvelope(env.GetPayloadType(), env.GetPayload(), signatures)
	if err != nil {
		return signature.Statement{}, nil, err
	}
	return VerifyEnvelope(sealed, r.Keys)
}

// VerifyEnvelope returns the in-toto statement that one of the keys has signed in an
// envelope, and that key.
func VerifyEnvelope(sealed *signature.Envelope, keys []*signature.PublicKey) (signature.Statement, *signature.PublicKey, error) {
	reason := fmt.Errorf("it is signed by none of the %d keys that are trusted", len(keys))
	for _, key := range keys {
		if sealed.Candidates(key) == 0 {
			continue
		}
		message, err := key.VerifyEnvelope(sealed)
		if err != nil {
			reason = err
			continue
		}
		st, err := message.Statement()
		return st, key, err
	}
	return signature.Statement{}, nil, reason
}

func (s slsa) build() Build {
	b := Build{Form: s.form, Builder: s.builder, Source: s.source(), Started: s.started, Finished: s.finished}
	for _, m := range s.materials {
		d, err := image.ParseDigest("sha256:" + m.Digest["sha256"])
		if err != nil {
			d = image.Digest{}
		}
		b.Materials = append(b.Materials, Material{URI: m.URI, Digest: d})
	}
	return b
}

// source is the commit that the builder says it fetched, which is to say one of the
// materials. Where the provenance names the repository of the configuration that the
// build followed, it is that one: a parameter alone is the word of whoever asked for
// the build. Where it names none, it is the only commit among the materials.
func (s slsa) source() Source {
	var found Source
	for _, m := range s.materials {
		commit := commitOf(m)
		if commit == "" {
			continue
		}
		this := Source{URL: withoutRevision(m.URI), Commit: commit}
		switch {
		case s.config != "" && !sameRepository(s.config, m.URI):
			continue
		case found != Source{} && found != this:
			return Source{} // of several it is not known which was built
		}
		found = this
	}
	return found
}

// commitOf returns the id of the commit that a material is, or "".
func commitOf(m material) string {
	for _, name := range []string{"gitCommit", "sha1"} {
		if IsCommit(m.Digest[name]) {
			return m.Digest[name]
		}
	}
	return ""
}

func sameRepository(a, b string) bool {
	p, err := ParseRepository(a)
	if err != nil {
		return false
	}
	q, err := ParseRepository(b)
	return err == nil && p == q
}

// withoutRevision returns the URL of a repository without the revision behind it,
// "@REF" or "#REF", as builders write them.
func withoutRevision(uri string) string {
	uri, _, _ = strings.Cut(uri, "#")
	scheme, rest, ok := strings.Cut(uri, "://")
	if !ok {
		scheme, rest = "", uri
	}
	host, path, _ := strings.Cut(rest, "/") // a user may stand before the host
	path, _, _ = strings.Cut(path, "@")
	if ok {
		host = scheme + "://" + host
	}
	return host + "/" + path
}

func readerOf(predicateType string) func([]byte) (slsa, error) {
	switch predicateType {
	case provenanceV01, provenanceV02:
		return func(b []byte) (slsa, error) { return readV0(b, predicateType) }
	case provenanceV1:
		return readV1
	}
	return nil
}

type builderJSON struct {
	ID string `json:"id"`
}

// readV0 reads the two older versions, which name the materials alike.
func readV0(predicate []byte, predicateType string) (slsa, error) {
	var p struct {
		Builder    builderJSON `json:"builder"`
		Invocation struct {
			ConfigSource material `json:"configSource"`
		} `json:"invocation"`
		Metadata struct {
			Started  time.Time `json:"buildStartedOn"`
			Finished time.Time `json:"buildFinishedOn"`
		} `json:"metadata"`
		Materials []material `json:"materials"`
	}
	if err := json.Unmarshal(predicate, &p); err != nil {
		return slsa{}, err
	}
	form := "SLSA provenance v0.2"
	if predicateType == provenanceV01 {
		form = "SLSA provenance v0.1"
	}
	s := slsa{form: form, builder: p.Builder.ID, config: p.Invocation.ConfigSource.URI, materials: p.Materials, started: p.Metadata.Started, finished: p.Metadata.Finished}
	return s, s.check()
}

// configJSON names a repository, as some type of build does.
type configJSON struct {
	Repository string `json:"repository"`
	URI        string `json:"uri"`
}

// readV1 reads version 1. Where the configuration is named depends on the type of the
// build: Cloud Build has a buildConfigSource, GitHub's builders a workflow, and others a
// configSource.
func readV1(predicate []byte) (slsa, error) {
	var p struct {
		Definition struct {
			Parameters struct {
				BuildConfigSource configJSON `json:"buildConfigSource"`
				Workflow          configJSON `json:"workflow"`
				ConfigSource      configJSON `json:"configSource"`
			} `json:"externalParameters"`
			Dependencies []material `json:"resolvedDependencies"`
		} `json:"buildDefinition"`
		Run struct {
			Builder  builderJSON `json:"builder"`
			Metadata struct {
				Started  time.Time `json:"startedOn"`
				Finished time.Time `json:"finishedOn"`
			} `json:"metadata"`
		} `json:"runDetails"`
	}
	if err := json.Unmarshal(predicate, &p); err != nil {
		return slsa{}, err
	}
	s := slsa{form: "SLSA provenance v1", builder: p.Run.Builder.ID, materials: p.Definition.Dependencies, started: p.Run.Metadata.Started, finished: p.Run.Metadata.Finished}
	for _, c := range []configJSON{p.Definition.Parameters.BuildConfigSource, p.Definition.Parameters.Workflow, p.Definition.Parameters.ConfigSource} {
		s.config = cmp.Or(s.config, c.Repository, c.URI)
	}
	return s, s.check()
}

func (s slsa) check() error {
	if n := len(s.materials); n > maxMaterials {
		return fmt.Errorf("%d materials, more than %d", n, maxMaterials)
	}
	return nil
}

// fromStatement reads an in-toto statement as Grafeas has it, and false if it is not
// about a build.
func fromStatement(st *grafeas.InTotoStatement) (Build, bool) {
	switch p := st.GetPredicate().(type) {
	case *grafeas.InTotoStatement_SlsaProvenanceZeroTwo:
		v := p.SlsaProvenanceZeroTwo
		s := slsa{
			form: "SLSA provenance v0.2", builder: v.GetBuilder().GetId(), config: v.GetInvocation().GetConfigSource().GetUri(),
			started: timeOf(v.GetMetadata().GetBuildStartedOn()), finished: timeOf(v.GetMetadata().GetBuildFinishedOn()),
		}
		for _, m := range v.GetMaterials() {
			s.materials = append(s.materials, material{m.GetUri(), m.GetDigest()})
		}
		return s.build(), true
	case *grafeas.InTotoStatement_SlsaProvenance:
		v := p.SlsaProvenance
		s := slsa{
			form: "SLSA provenance v0.1", builder: v.GetBuilder().GetId(),
			started: timeOf(v.GetMetadata().GetBuildStartedOn()), finished: timeOf(v.GetMetadata().GetBuildFinishedOn()),
		}
		for _, m := range v.GetMaterials() {
			s.materials = append(s.materials, material{m.GetUri(), m.GetDigest()})
		}
		return s.build(), true
	case *grafeas.InTotoStatement_Provenance:
		v := p.Provenance
		return Build{
			Form: "in-toto provenance", Builder: v.GetBuilderConfig().GetId(),
			Started: timeOf(v.GetMetadata().GetBuildStartedOn()), Finished: timeOf(v.GetMetadata().GetBuildFinishedOn()),
		}, true
	}
	return Build{}, false
}

func fromV1(p *grafeas.InTotoSlsaProvenanceV1_SlsaProvenanceV1) Build {
	d, run := p.GetBuildDefinition(), p.GetRunDetails()
	s := slsa{
		form: "SLSA provenance v1", builder: run.GetBuilder().GetId(),
		started: timeOf(run.GetMetadata().GetStartedOn()), finished: timeOf(run.GetMetadata().GetFinishedOn()),
	}
	parameters := d.GetExternalParameters().GetFields()
	for _, name := range []string{"buildConfigSource", "workflow", "configSource"} {
		c := parameters[name].GetStructValue().GetFields()
		s.config = cmp.Or(s.config, c["repository"].GetStringValue(), c["uri"].GetStringValue())
	}
	for _, m := range d.GetResolvedDependencies() {
		s.materials = append(s.materials, material{m.GetUri(), m.GetDigest()})
	}
	return s.build()
}
