package sbom

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-dev/gatehouse/check/builds"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	// maxParts bounds the parts of an SBOM that are counted.
	maxParts = 1_000_000
	// maxDigests bounds the digests in one package URL, which has one.
	maxDigests = 4
)

// A document is an SBOM, as far as it is looked at.
type document struct {
	format string
	parts  int
	// images are the digests that it calls what it describes by.
	images []image.Digest
	by     string
}

// String says what the SBOM is, as evidence.
func (d document) String() string {
	return fmt.Sprintf("%s of %d parts, %s", d.format, d.parts, d.by)
}

// isOfAnother reports whether the document calls what it describes by digests, and none
// of them is this one.
func (d document) isOfAnother(subject image.Digest) bool {
	return len(d.images) > 0 && !slices.Contains(d.images, subject)
}

// formatOf returns the format that a media type or the type of a predicate stands for.
func formatOf(t string) string {
	t = strings.ToLower(t)
	switch {
	case strings.Contains(t, "cyclonedx"):
		return "CycloneDX"
	case strings.Contains(t, "spdx"):
		return "SPDX"
	}
	return ""
}

// predicateOf returns the document in a predicate: all of it or, as cosign once wrote it,
// the member Data, which may be text.
func predicateOf(predicate []byte) []byte {
	var wrapped struct {
		Data jsontext.Value `json:"Data"`
	}
	if err := json.Unmarshal(predicate, &wrapped); err != nil || wrapped.Data == nil {
		return predicate
	}
	var text string
	if json.Unmarshal(wrapped.Data, &text) == nil {
		return []byte(text)
	}
	return wrapped.Data
}

// wire is what is read of a document, in any of the formats.
type wire struct {
	// SPDX 2.
	SPDXVersion string         `json:"spdxVersion"`
	SPDXID      string         `json:"SPDXID"`
	Packages    jsontext.Value `json:"packages"`
	Describes   []string       `json:"documentDescribes"`
	// SPDX 3.
	Context jsontext.Value `json:"@context"`
	Graph   jsontext.Value `json:"@graph"`
	// CycloneDX.
	BOMFormat   string         `json:"bomFormat"`
	SpecVersion string         `json:"specVersion"`
	Components  jsontext.Value `json:"components"`
	Metadata    struct {
		Component struct {
			PURL string `json:"purl"`
		} `json:"component"`
	} `json:"metadata"`
}

// parse reads a document.
func parse(content []byte) (document, error) {
	content = bytes.TrimPrefix(bytes.TrimSpace(content), []byte("\xef\xbb\xbf"))
	if len(content) == 0 {
		return document{}, errors.New("it is empty")
	}
	if content[0] != '{' {
		return document{}, errors.New("it is not in JSON, which is the one form that is read")
	}
	var w wire
	// Real documents repeat names, and what is looked at cannot be read in two ways that
	// matter.
	if err := json.Unmarshal(content, &w, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)); err != nil {
		return document{}, fmt.Errorf("it cannot be read: %s", builds.Clip(err.Error()))
	}
	d := document{}
	var err error
	switch {
	case w.BOMFormat == "CycloneDX" && w.SpecVersion != "":
		d.format = "CycloneDX " + builds.Clip(w.SpecVersion)
		d.parts, err = count(w.Components)
		d.images = digestsIn(w.Metadata.Component.PURL)
	case strings.HasPrefix(w.SPDXVersion, "SPDX-") && w.SPDXID != "":
		d.format = "SPDX " + builds.Clip(strings.TrimPrefix(w.SPDXVersion, "SPDX-"))
		d.parts, err = count(w.Packages)
		d.images = described(w.Packages, w.Describes)
	case bytes.Contains(w.Context, []byte("spdx.org/rdf/3")):
		d.format = "SPDX 3"
		d.parts, err = count(w.Graph)
	default:
		return document{}, errors.New("it is neither SPDX nor CycloneDX")
	}
	switch {
	case err != nil:
		return document{}, err
	case d.parts == 0:
		return document{}, errors.New("it lists nothing")
	}
	return d, nil
}

// count returns how many elements a list has.
func count(list jsontext.Value) (int, error) {
	if list == nil {
		return 0, nil
	}
	d := jsontext.NewDecoder(bytes.NewReader(list), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if d.PeekKind() != '[' {
		return 0, errors.New("what should be its list of parts is none")
	}
	if _, err := d.ReadToken(); err != nil {
		return 0, err
	}
	n := 0
	for d.PeekKind() != ']' {
		if err := d.SkipValue(); err != nil {
			return 0, err
		}
		if n++; n > maxParts {
			return 0, fmt.Errorf("it lists more than %d parts", maxParts)
		}
	}
	return n, nil
}

// described returns the digests by which an SPDX document calls the packages that it
// describes.
func described(packages jsontext.Value, describes []string) []image.Digest {
	if len(describes) == 0 {
		return nil
	}
	var list []struct {
		SPDXID string `json:"SPDXID"`
		Refs   []struct {
			Locator string `json:"referenceLocator"`
		} `json:"externalRefs"`
	}
	if err := json.Unmarshal(packages, &list, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)); err != nil {
		return nil // of another shape, and so without a name that could be a lie
	}
	var digests []image.Digest
	for _, p := range list {
		if !slices.Contains(describes, p.SPDXID) {
			continue
		}
		for _, r := range p.Refs {
			digests = append(digests, digestsIn(r.Locator)...)
		}
	}
	return digests
}

// digestsIn returns the digests in package URLs, and texts like them.
func digestsIn(texts ...string) []image.Digest {
	var digests []image.Digest
	for _, text := range texts {
		for range maxDigests {
			_, rest, ok := strings.Cut(text, "sha256")
			if !ok {
				break
			}
			text = rest
			for _, separator := range []string{":", "%3A", "%3a"} {
				rest = strings.TrimPrefix(rest, separator)
			}
			const size = 64
			if d, err := image.ParseDigest("sha256:" + rest[:min(len(rest), size)]); err == nil {
				digests = append(digests, d)
			}
		}
	}
	return digests
}

// parseBundle reads the envelope of a Sigstore bundle.
func parseBundle(content []byte) (*signature.Envelope, error) {
	var b struct {
		Envelope jsontext.Value `json:"dsseEnvelope"`
	}
	if err := json.Unmarshal(content, &b); err != nil {
		return nil, errors.New(builds.Clip(err.Error()))
	}
	if b.Envelope == nil {
		return nil, errors.New("the bundle has no DSSE envelope")
	}
	return signature.ParseEnvelope(b.Envelope)
}
