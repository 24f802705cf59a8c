package sbom_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/checktest"
	"github.com/gatehouse-dev/gatehouse/check/sbom"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	spdx2     = `{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","name":"app","packages":[{"SPDXID":"a"},{"SPDXID":"b"}]}`
	spdx3     = `{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld","@graph":[{"type":"software_Package"}]}`
	cyclonedx = `{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"name":"a"}]}`

	dsse   = "application/vnd.dsse.envelope.v1+json"
	inToto = "application/vnd.in-toto+json"

	other = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
	amd64 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	arm64 = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func statement(predicateType, predicate string, subjects ...string) string {
	list := make([]string, 0, len(subjects))
	for _, s := range subjects {
		list = append(list, fmt.Sprintf(`{"name":"x","digest":{"sha256":%q}}`, s))
	}
	return fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":[%s],"predicateType":%q,"predicate":%s}`, strings.Join(list, ","), predicateType, predicate)
}

func envelope(t testing.TB, s signature.Signer, statement string) string {
	t.Helper()
	e := checktest.Envelope(t, s, statement)
	return fmt.Sprintf(`{"payloadType":%q,"payload":%q,"signatures":[{"keyid":%q,"sig":%q}]}`, e.GetPayloadType(),
		base64.StdEncoding.EncodeToString(e.GetPayload()), e.GetSignatures()[0].GetKeyid(), base64.StdEncoding.EncodeToString(e.GetSignatures()[0].GetSig()))
}

func digest(t testing.TB, hex string) image.Digest {
	t.Helper()
	d, err := image.ParseDigest("sha256:" + hex)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// blob is something attached.
type blob struct{ artifactType, mediaType, content, subject, predicateType string }

func registry(t testing.TB, blobs ...blob) *checktest.Registry {
	t.Helper()
	r := &checktest.Registry{
		Images:    map[string][]resolve.Config{checktest.Image: {{Manifest: digest(t, checktest.Hex), Platform: resolve.Platform{OS: "linux", Architecture: "amd64"}}}},
		Artifacts: map[string][]resolve.Artifact{}, Blobs: map[image.Digest][]byte{},
	}
	for _, b := range blobs {
		d := image.DigestOf([]byte(b.content))
		r.Blobs[d] = []byte(b.content)
		subject := b.subject
		if subject == "" {
			subject = checktest.Hex
		}
		r.Artifacts[checktest.Image] = append(r.Artifacts[checktest.Image], resolve.Artifact{
			Type: b.artifactType, Subject: digest(t, subject),
			Layers: []resolve.Blob{{Digest: d, MediaType: b.mediaType, Annotations: map[string]string{"predicateType": b.predicateType}}},
		})
	}
	return r
}

func TestSBOM(t *testing.T) {
	t.Parallel()
	key, stranger := checktest.Signer(t), checktest.Signer(t)
	const spdxType, cdxType = "https://spdx.dev/Document", "https://cyclonedx.org/bom"
	signed := func(s signature.Signer, statement string) blob {
		return blob{mediaType: dsse, content: envelope(t, s, statement)}
	}
	for about, row := range map[string]struct {
		blobs []blob
		keys  bool
		want  string // part of the reason; "" means that it passes
	}{
		"SPDX 2 by a referrer":                {[]blob{{"application/spdx+json", "application/spdx+json", spdx2, "", ""}}, false, ""},
		"SPDX 3 by a referrer":                {[]blob{{"application/spdx+json", "application/octet-stream", spdx3, "", ""}}, false, ""},
		"CycloneDX by a referrer":             {[]blob{{"", "application/vnd.cyclonedx+json; version=1.6", cyclonedx, "", ""}}, false, ""},
		"a statement of BuildKit":             {[]blob{{"", inToto, statement(spdxType, spdx2, checktest.Hex), "", spdxType}}, false, ""},
		"an attestation of cosign":            {[]blob{signed(stranger, statement(cdxType+"/v1.4", cyclonedx, checktest.Hex))}, false, ""},
		"with Data, as cosign once wrote it":  {[]blob{signed(stranger, statement(cdxType, `{"Data":`+cyclonedx+`,"Timestamp":"x"}`, checktest.Hex))}, false, ""},
		"with Data as text":                   {[]blob{signed(stranger, statement(spdxType, fmt.Sprintf(`{"Data":%q}`, spdx2), checktest.Hex))}, false, ""},
		"a Sigstore bundle":                   {[]blob{{"", "application/vnd.dev.sigstore.bundle.v0.3+json", `{"mediaType":"x","dsseEnvelope":` + envelope(t, stranger, statement(spdxType, spdx2, checktest.Hex)) + `}`, "", ""}}, false, ""},
		"none":                                {nil, false, "no SBOM was found attached to \"registry.example/team/app@sha256:" + checktest.Hex},
		"something else":                      {[]blob{{"application/x", "application/x", "x", "", ""}}, false, "no SBOM was found attached"},
		"a statement about something else":    {[]blob{signed(key, statement("https://slsa.dev/provenance/v1", `{}`, checktest.Hex))}, false, "no SBOM was found attached"},
		"one of another image":                {[]blob{signed(key, statement(spdxType, spdx2, other))}, false, "no SBOM was found"},
		"one that names another image":        {[]blob{{"", "application/spdx+json", strings.Replace(strings.Replace(spdx2, `{"SPDXID":"a"}`, `{"SPDXID":"a","externalRefs":[{"referenceLocator":"pkg:oci/app@sha256%3A`+other+`"}]}`, 1), `"name"`, `"documentDescribes":["a"],"name"`, 1), "", ""}}, false, "a document is of another image: it names sha256:" + other},
		"one that names this image":           {[]blob{{"", "application/vnd.cyclonedx+json", strings.Replace(cyclonedx, `"components"`, `"metadata":{"component":{"purl":"pkg:oci/app@sha256:`+checktest.Hex+`"}},"components"`, 1), "", ""}}, false, ""},
		"one that lists nothing":              {[]blob{{"", "application/spdx+json", strings.Replace(spdx2, `[{"SPDXID":"a"},{"SPDXID":"b"}]`, "[]", 1), "", ""}}, false, "it lists nothing"},
		"one that is cut short":               {[]blob{{"", "application/spdx+json", spdx2[:40], "", ""}}, false, "it cannot be read"},
		"one in tag-value":                    {[]blob{{"", "text/spdx", "SPDXVersion: SPDX-2.3", "", ""}}, false, "it is not in JSON"},
		"one in XML":                          {[]blob{{"", "application/vnd.cyclonedx+xml", "<bom/>", "", ""}}, false, "it is not in JSON"},
		"one that is neither":                 {[]blob{{"", "application/spdx+json", `{"x":1}`, "", ""}}, false, "it is neither SPDX nor CycloneDX"},
		"one that is empty":                   {[]blob{{"", "application/spdx+json", " ", "", ""}}, false, "it is empty"},
		"one whose list is none":              {[]blob{{"", "application/spdx+json", strings.Replace(spdx2, `[{"SPDXID":"a"},{"SPDXID":"b"}]`, "7", 1), "", ""}}, false, "what should be its list of parts is none"},
		"an envelope that is none":            {[]blob{{"", dsse, "{}", "", ""}}, false, "an envelope: parsing DSSE envelope"},
		"a bundle that is none":               {[]blob{{"", "application/vnd.dev.sigstore.bundle.v0.3+json", `{"messageSignature":{}}`, "", ""}}, false, "the bundle has no DSSE envelope"},
		"a bad one beside a good one":         {[]blob{{"", "application/spdx+json", `{"x":1}`, "", ""}, {"", "application/spdx+json", spdx2, "", ""}}, false, ""},
		"signed, and keys are asked for":      {[]blob{signed(key, statement(spdxType, spdx2, checktest.Hex))}, true, ""},
		"signed by another":                   {[]blob{signed(stranger, statement(spdxType, spdx2, checktest.Hex))}, true, "signed by none of the 1 keys"},
		"a document, and keys are asked for":  {[]blob{{"", "application/spdx+json", spdx2, "", ""}}, true, "a document is not signed, and gatehouse.sbom.keys asks for it"},
		"a statement, and keys are asked for": {[]blob{{"", inToto, statement(spdxType, spdx2, checktest.Hex), "", ""}}, true, "a statement is not signed"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			s := sbom.Settings{}
			if row.keys {
				s.Keys = []*signature.PublicKey{key.PublicKey()}
			}
			got, err := checktest.Run(t, sbom.New(s), &checktest.Metadata{}, registry(t, row.blobs...))
			if err != nil || got.Passed() != (row.want == "") || !strings.Contains(got.Reason(), row.want) {
				t.Fatalf("got %+v, %v; want %q", got, err, row.want)
			}
			if !got.Passed() && !strings.HasPrefix(got.Reason(), "no SBOM was found") {
				t.Errorf("reason = %q", got.Reason())
			}
			if got.Passed() && (len(got.Evidence()) != 1 || !strings.Contains(got.Evidence()[0], "parts, ")) {
				t.Errorf("evidence = %q", got.Evidence())
			}
		})
	}
}

func TestEveryPlatformHasOne(t *testing.T) {
	t.Parallel()
	const spdxType = "https://spdx.dev/Document"
	platforms := func(r *checktest.Registry) *checktest.Registry {
		r.Images[checktest.Image] = []resolve.Config{
			{Manifest: digest(t, amd64), Platform: resolve.Platform{OS: "linux", Architecture: "amd64"}},
			{Manifest: digest(t, arm64), Platform: resolve.Platform{OS: "linux", Architecture: "arm64"}},
		}
		return r
	}
	first := blob{"", inToto, statement(spdxType, spdx2, amd64), amd64, spdxType}
	second := blob{"", inToto, statement(spdxType, spdx3, arm64), arm64, spdxType}
	ofIndex := blob{"", inToto, statement(spdxType, spdx3, checktest.Hex), "", spdxType}
	for about, row := range map[string]struct {
		r    *checktest.Registry
		want string
	}{
		"by records in the index": {platforms(registry(t, first, second)), ""},
		"by one of the index":     {platforms(registry(t, ofIndex)), ""},
		"but one":                 {platforms(registry(t, first)), "no SBOM was found of linux/arm64 attached"},
		"by what each has of its own": {func() *checktest.Registry {
			r := platforms(registry(t, first, second))
			all := r.Artifacts[checktest.Image]
			name := "registry.example/team/app@sha256:"
			r.Artifacts = map[string][]resolve.Artifact{name + amd64: all[:1], name + arm64: all[1:]}
			return r
		}(), ""},
	} {
		got, err := checktest.Run(t, sbom.New(sbom.Settings{}), &checktest.Metadata{}, row.r)
		if err != nil || got.Passed() != (row.want == "") || !strings.Contains(got.Reason(), row.want) {
			t.Errorf("%s: got %+v, %v; want %q", about, got, err, row.want)
		}
	}
}

func TestAnImageOfAnIndexHasWhatTheIndexHas(t *testing.T) {
	t.Parallel()
	const spdxType = "https://spdx.dev/Document"
	child := checktest.Ref(t, "registry.example/team/app@sha256:"+arm64)
	for about, row := range map[string]struct {
		subject string
		want    bool
	}{"of the image": {arm64, true}, "of the index": {checktest.Hex, true}, "of another image": {amd64, false}} {
		r := registry(t, blob{"", inToto, statement(spdxType, spdx2, row.subject), row.subject, spdxType})
		r.Images[child.String()] = []resolve.Config{{Manifest: child.Digest()}}
		in := &check.Input{Image: child, Index: checktest.Ref(t, checktest.Image), Metadata: &checktest.Metadata{}, Registry: r}
		if got, err := sbom.New(sbom.Settings{}).Run(t.Context(), in); err != nil || got.Passed() != row.want {
			t.Errorf("an SBOM %s: %+v, %v", about, got, err)
		}
	}
}

func TestAReferenceIsNoSBOM(t *testing.T) {
	t.Parallel()
	m := &checktest.Metadata{List: []*grafeas.Occurrence{{Kind: grafeas.NoteKind_SBOM_REFERENCE, Details: &grafeas.Occurrence_SbomReference{SbomReference: &grafeas.SBOMReferenceOccurrence{
		Payload: &grafeas.SbomReferenceIntotoPayload{Predicate: &grafeas.SbomReferenceIntotoPredicate{Location: "gs://bucket/sbom.json"}},
	}}}}}
	got, err := checktest.Run(t, sbom.New(sbom.Settings{}), m, registry(t))
	if err != nil || got.Passed() || !strings.Contains(got.Reason(), `refers to one at "gs://bucket/sbom.json", and what is there is not read`) {
		t.Errorf("got %+v, %v", got, err)
	}
	down := errors.New("down")
	if _, err := checktest.Run(t, sbom.New(sbom.Settings{}), &checktest.Metadata{Err: map[grafeas.NoteKind]error{grafeas.NoteKind_SBOM_REFERENCE: down}}, registry(t)); !errors.Is(err, down) {
		t.Errorf("err = %v", err)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	if got, err := checktest.Run(t, sbom.New(sbom.Settings{}), &checktest.Metadata{}, &checktest.Registry{Err: down}); !errors.Is(err, down) || got.Passed() {
		t.Errorf("got %+v, %v", got, err)
	}
	r := registry(t, blob{"", "application/spdx+json", spdx2, "", ""})
	r.Blobs = nil
	if got, err := checktest.Run(t, sbom.New(sbom.Settings{}), &checktest.Metadata{}, r); err != nil || !strings.Contains(got.Reason(), "not found in the registry") {
		t.Errorf("a blob that is gone: %+v, %v", got, err)
	}
	var many []blob
	for i := range 40 {
		many = append(many, blob{"", "application/spdx+json", fmt.Sprintf(`{"x":%d}`, i), "", ""})
	}
	if _, err := checktest.Run(t, sbom.New(sbom.Settings{}), &checktest.Metadata{}, registry(t, many...)); err == nil || !strings.Contains(err.Error(), "more than 32 things are attached") {
		t.Errorf("without end: %v", err)
	}
}

func FuzzDocument(f *testing.F) {
	for _, s := range []string{spdx2, spdx3, cyclonedx, `{"Data":"{}"}`, "\xef\xbb\xbf{}", "<bom/>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, content string) {
		for _, mediaType := range []string{"application/spdx+json", dsse, inToto, "application/vnd.dev.sigstore.bundle.v0.3+json"} {
			got, err := checktest.Run(t, sbom.New(sbom.Settings{}), &checktest.Metadata{}, registry(t, blob{"", mediaType, content, "", ""}))
			if err != nil || got.Passed() == (got.Reason() != "") || len(got.Reason()) > 2000 {
				t.Errorf("%s: got %+v, %v", mediaType, got, err)
			}
		}
	})
}
