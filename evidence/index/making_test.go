package index_test

import (
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"testing"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// The notes of the other kinds that tests file occurrences under.
const (
	dsseNote  = "projects/p/notes/dsse"
	buildNote = "projects/p/notes/build"
)

// createNotes creates them, beside those of the fixture: two scanners, who report
// five vulnerabilities, and a maker of SBOMs.
func (f fixture) createNotes() {
	f.t.Helper()
	notes := map[string]*grafeas.Note{
		"dsse":  {Type: &grafeas.Note_DsseAttestation{DsseAttestation: &grafeas.DSSEAttestationNote{Hint: &grafeas.DSSEAttestationNote_DSSEHint{HumanReadableName: "dsse"}}}},
		"build": {Type: &grafeas.Note_Build{Build: &grafeas.BuildNote{BuilderVersion: "1"}}},
	}
	for _, id := range []string{"scan", "otherscan"} {
		notes[id] = &grafeas.Note{Type: &grafeas.Note_Discovery{Discovery: &grafeas.DiscoveryNote{AnalysisKind: grafeas.NoteKind_VULNERABILITY}}}
	}
	notes["sbom"] = &grafeas.Note{Type: &grafeas.Note_Discovery{Discovery: &grafeas.DiscoveryNote{AnalysisKind: grafeas.NoteKind_SBOM_REFERENCE}}}
	for i := range 5 {
		notes[fmt.Sprintf("CVE-%d", i)] = &grafeas.Note{Type: &grafeas.Note_Vulnerability{Vulnerability: &grafeas.VulnerabilityNote{
			Details: []*grafeas.VulnerabilityNote_Detail{{AffectedCpeUri: "cpe:/o:debian:debian_linux:12", AffectedPackage: "x"}},
		}}}
	}
	for id, n := range notes {
		if _, err := f.CreateNote(f.t.Context(), caller, "projects/p", id, n); err != nil {
			f.t.Fatal(err)
		}
	}
}

// lookFor changes what the analyses of a scanner look for.
func (f fixture) lookFor(scanner string, kind grafeas.NoteKind) {
	f.t.Helper()
	_, err := f.UpdateNote(f.t.Context(), caller, "projects/p/notes/"+scanner, func(current *grafeas.Note) (*grafeas.Note, error) {
		next := proto.CloneOf(current)
		next.GetDiscovery().AnalysisKind = kind
		return next, nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// scanners are their notes, as they stand.
func (f fixture) scanners() []*grafeas.Note {
	f.t.Helper()
	var notes []*grafeas.Note
	for _, id := range []string{"scan", "otherscan", "sbom"} {
		n, err := f.Note(f.t.Context(), "projects/p/notes/"+id)
		if err != nil {
			f.t.Fatal(err)
		}
		notes = append(notes, n)
	}
	return notes
}

// createIn files an occurrence in a project or a location.
func (f fixture) createIn(parent string, o *grafeas.Occurrence) *grafeas.Occurrence {
	f.t.Helper()
	o, err := f.CreateOccurrence(f.t.Context(), caller, parent, o)
	if err != nil {
		f.t.Fatal(err)
	}
	return o
}

func (f fixture) delete(o *grafeas.Occurrence) {
	f.t.Helper()
	if err := f.DeleteOccurrence(f.t.Context(), caller, o.GetName()); err != nil {
		f.t.Fatal(err)
	}
}

// startAll starts an index, and has it keep statements and the scans of the projects.
func (f fixture) startAll(trust index.Trust, projects ...string) *index.Index {
	f.t.Helper()
	x := f.start(trust)
	if err := x.KeepStatements(f.t.Context(), index.DefaultStatements); err != nil {
		f.t.Fatal(err)
	}
	if err := x.SetScope(f.t.Context(), projects); err != nil {
		f.t.Fatal(err)
	}
	return x
}

// sealed signs a message in an envelope.
func sealed(t testing.TB, s signature.Signer, payloadType string, body []byte) *grafeas.Envelope {
	t.Helper()
	sig, err := s.Sign(t.Context(), signature.PAE(payloadType, body))
	if err != nil {
		t.Fatal(err)
	}
	return &grafeas.Envelope{Payload: body, PayloadType: payloadType, Signatures: []*grafeas.EnvelopeSignature{{Keyid: s.KeyID(), Sig: sig}}}
}

// dsse files an envelope as a DSSE attestation.
func dsse(d image.Digest, env *grafeas.Envelope) *grafeas.Occurrence {
	return &grafeas.Occurrence{ResourceUri: uri(d), NoteName: dsseNote, Details: &grafeas.Occurrence_DsseAttestation{
		DsseAttestation: &grafeas.DSSEAttestationOccurrence{Envelope: env},
	}}
}

// buildOf files an envelope beside a build.
func buildOf(d image.Digest, env *grafeas.Envelope) *grafeas.Occurrence {
	return &grafeas.Occurrence{ResourceUri: uri(d), NoteName: buildNote, Envelope: env, Details: &grafeas.Occurrence_Build{
		Build: &grafeas.BuildOccurrence{IntotoStatement: &grafeas.InTotoStatement{Type: signature.StatementV1}},
	}}
}

// inToto returns a statement of a type about the digests.
func inToto(predicateType, predicate string, about ...image.Digest) []byte {
	subjects := "[]"
	if len(about) > 0 {
		subjects = ""
		for i, d := range about {
			subjects += fmt.Sprintf(`,{"name":"s%d","digest":{"sha256":%q}}`, i, d.String()[len("sha256:"):])
		}
		subjects = "[" + subjects[1:] + "]"
	}
	return fmt.Appendf(nil, `{"_type":%q,"subject":%s,"predicateType":%q,"predicate":%s}`, signature.StatementV1, subjects, predicateType, predicate)
}

const (
	uploadType     = "https://gatehouse.dev/upload/v1"
	provenanceType = "https://slsa.dev/provenance/v1"
)

// uploaded records that the digest was uploaded then, in RFC 3339.
func uploaded(t testing.TB, s signature.Signer, d image.Digest, at string) *grafeas.Occurrence {
	return dsse(d, sealed(t, s, signature.PayloadTypeInToto, inToto(uploadType, fmt.Sprintf(`{"uploadTime":%q}`, at), d)))
}

// provenanceV1 says that the digest was built by GitHub from a repository there.
func provenanceV1(t testing.TB, s signature.Signer, d image.Digest, repository string) *grafeas.Envelope {
	return sealed(t, s, signature.PayloadTypeInToto, inToto(provenanceType, fmt.Sprintf(`{
		"buildDefinition": {
			"buildType": "https://actions.github.io/buildtypes/workflow/v1",
			"externalParameters": {"workflow": {"ref": "refs/heads/main", "repository": %[1]q, "path": ".github/workflows/release.yml"}},
			"resolvedDependencies": [{"uri": "git+%[1]s@refs/heads/main", "digest": {"gitCommit": "5ebe4b2b4ddd1a3fc9f4b1aa2a8d0e0f5a7f2c11"}}]
		},
		"runDetails": {"builder": {"id": "https://github.com/actions/runner/github-hosted"}}
	}`, repository), d))
}

// jwt makes a JWT attestation of the digest, with more claims.
func jwt(t testing.TB, s signature.Signer, d image.Digest, more map[string]any) string {
	t.Helper()
	claims := map[string]any{"sub": "container:digest:" + d.String(), "aud": "//binaryauthorization.googleapis.com"}
	for k, v := range more {
		claims[k] = v
	}
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	input := part(map[string]string{"typ": "JWT", "alg": "ES256", "kid": s.KeyID()}) + "." + part(claims)
	der, err := s.Sign(t.Context(), []byte(input))
	if err != nil {
		t.Fatal(err)
	}
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, 64)
	sig.R.FillBytes(raw[:32])
	sig.S.FillBytes(raw[32:])
	return input + "." + base64.RawURLEncoding.EncodeToString(raw)
}

func jwts(d image.Digest, tokens ...string) *grafeas.Occurrence {
	o := &grafeas.AttestationOccurrence{}
	for _, token := range tokens {
		o.Jwts = append(o.Jwts, &grafeas.Jwt{CompactJwt: token})
	}
	return &grafeas.Occurrence{ResourceUri: uri(d), NoteName: note, Details: &grafeas.Occurrence_Attestation{Attestation: o}}
}

// vulnerability reports CVE-i of a severity.
func vulnerability(d image.Digest, i int, severity grafeas.Severity, fixable bool) *grafeas.Occurrence {
	return &grafeas.Occurrence{ResourceUri: uri(d), NoteName: fmt.Sprintf("projects/p/notes/CVE-%d", i), Details: &grafeas.Occurrence_Vulnerability{
		Vulnerability: &grafeas.VulnerabilityOccurrence{
			EffectiveSeverity: severity, FixAvailable: fixable,
			PackageIssue: []*grafeas.VulnerabilityOccurrence_PackageIssue{{
				AffectedCpeUri: "cpe:/o:debian:debian_linux:12", AffectedPackage: "x",
				AffectedVersion: &grafeas.Version{Kind: grafeas.Version_MINIMUM}, FixedVersion: &grafeas.Version{Kind: grafeas.Version_MAXIMUM},
			}},
		},
	}}
}

// discovered tells how the analysis of a scanner, "scan", "otherscan" or "sbom", stands.
func discovered(d image.Digest, scanner string, status grafeas.DiscoveryOccurrence_AnalysisStatus) *grafeas.Occurrence {
	return &grafeas.Occurrence{ResourceUri: uri(d), NoteName: "projects/p/notes/" + scanner, Details: &grafeas.Occurrence_Discovery{
		Discovery: &grafeas.DiscoveryOccurrence{AnalysisStatus: status},
	}}
}
