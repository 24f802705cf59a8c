package index

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-dev/gatehouse/signature"
)

// The predicates that are read.
const (
	uploadV1 = "https://gatehouse.dev/upload/v1"

	provenanceV01 = "https://slsa.dev/provenance/v0.1"
	provenanceV02 = "https://slsa.dev/provenance/v0.2"
	provenanceV1  = "https://slsa.dev/provenance/v1"
)

const (
	// maxMaterials bounds those of one build; a build has some hundreds.
	maxMaterials = 4096
	// maxURI bounds the id of a builder and the URL of a source, in bytes.
	maxURI = 2048
)

// parseUpload reads the time at which an image was uploaded:
// {"uploadTime": "2026-11-30T05:00:00Z"}, and nothing else.
func parseUpload(predicate []byte) (time.Time, error) {
	var p struct {
		UploadTime *string `json:"uploadTime"`
	}
	if err := json.Unmarshal(predicate, &p, json.RejectUnknownMembers(true)); err != nil {
		return time.Time{}, err
	}
	if p.UploadTime == nil {
		return time.Time{}, errors.New("there is no uploadTime")
	}
	var at time.Time
	if err := at.UnmarshalText([]byte(*p.UploadTime)); err != nil {
		return time.Time{}, fmt.Errorf("uploadTime: %w", err)
	}
	if strings.Contains(*p.UploadTime, ",") { // which ISO 8601 allows, and RFC 3339 does not
		return time.Time{}, fmt.Errorf("uploadTime %q has a comma", *p.UploadTime)
	}
	return at.UTC(), nil
}

// A material is something that went into a build.
type material struct {
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest"`
}

// A build is what a provenance says, in whatever version.
type build struct {
	builder string
	// config is the repository of the configuration that the build followed, and
	// path where in it: both "" if it followed none, or does not tell.
	config, path string
	materials    []material
}

type provenanceReader func(predicate []byte) (build, error)

func provenanceReaders(predicateType string) provenanceReader {
	switch predicateType {
	case provenanceV01:
		return readV01
	case provenanceV02:
		return readV02
	case provenanceV1:
		return readV1
	}
	return nil
}

// parseProvenance reads a statement with an SLSA provenance predicate.
//
// The source is what the builder says it fetched, which is to say one of the
// materials. Where the provenance names the repository of the configuration that the
// build followed, that is the source, provided that it is among the materials: a
// parameter alone is the word of whoever asked for the build. Where it names none,
// the source is the only material beside the images that the build ran; among
// several it is not known which was built, and there is none.
//
// A build is config-based if it followed a configuration in its source, and the
// provenance tells which file that was.
func parseProvenance(st signature.Statement) (builtFrom, error) {
	b, err := provenanceReaders(st.PredicateType)(st.Predicate)
	if err != nil {
		return builtFrom{}, err
	}
	if b.builder == "" || len(b.builder) > maxURI {
		return builtFrom{}, fmt.Errorf("the builder's id has %d bytes, want 1 to %d", len(b.builder), maxURI)
	}
	if len(b.materials) > maxMaterials {
		return builtFrom{}, fmt.Errorf("%d materials, more than %d", len(b.materials), maxMaterials)
	}
	p := builtFrom{builder: b.builder, source: b.source()}
	p.configBased = b.config != "" && b.path != "" && p.source != ""
	if len(p.source) > maxURI {
		return builtFrom{}, fmt.Errorf("the URL of the source has %d bytes, more than %d", len(p.source), maxURI)
	}
	return p, nil
}

func (b *build) source() string {
	if b.config != "" {
		want := repositoryOf(b.config)
		for _, m := range b.materials {
			if repositoryOf(m.URI) == want {
				return want
			}
		}
		return ""
	}
	found := ""
	for _, m := range b.materials {
		if isImage(m.URI) {
			continue
		}
		r := repositoryOf(m.URI)
		if found != "" && found != r {
			return ""
		}
		found = r
	}
	return found
}

// isImage reports whether a material is a container image, as builders write them.
func isImage(uri string) bool {
	for _, prefix := range []string{"oci://", "docker://", "docker-pullable://", "pkg:docker/", "pkg:oci/"} {
		if strings.HasPrefix(uri, prefix) {
			return true
		}
	}
	return strings.Contains(uri, "@sha256:")
}

// repositoryOf returns the URL of a repository without "git+" before it and the
// revision after it: "@…" or "#…", or "/commit/" and a hash in the provenance of
// Cloud Build of before September 2022.
func repositoryOf(uri string) string {
	uri = strings.TrimPrefix(uri, "git+")
	uri, _, _ = strings.Cut(uri, "#")
	uri, _, _ = strings.Cut(uri, "?")
	scheme, rest, ok := strings.Cut(uri, "://")
	if !ok {
		scheme, rest = "", uri
	}
	host, path, _ := strings.Cut(rest, "/") // a user may stand before the host
	path, _, _ = strings.Cut(path, "@")
	if before, hash, ok := strings.Cut(path, "/commit/"); ok && isCommit(hash) {
		path = before
	}
	path = strings.TrimSuffix(strings.TrimSuffix(path, "/"), ".git")
	if ok {
		host = scheme + "://" + host
	}
	if path == "" {
		return host
	}
	return host + "/" + path
}

func isCommit(hash string) bool {
	return len(hash) == 40 && strings.Trim(hash, "0123456789abcdef") == ""
}

// builderJSON is the builder in all versions.
type builderJSON struct {
	ID string `json:"id"`
}

// readV01 reads https://slsa.dev/provenance/v0.1. The recipe tells by its index the
// material in which it is defined. Cloud Build leaves out an index of 0, and says -1,
// perhaps as a string, if the steps came with the request.
func readV01(predicate []byte) (build, error) {
	var p struct {
		Builder builderJSON `json:"builder"`
		Recipe  struct {
			Type       string         `json:"type"`
			Material   jsontext.Value `json:"definedInMaterial"`
			EntryPoint string         `json:"entryPoint"`
		} `json:"recipe"`
		Materials []material `json:"materials"`
	}
	if err := json.Unmarshal(predicate, &p); err != nil {
		return build{}, err
	}
	b := build{builder: p.Builder.ID, materials: p.Materials}
	index, told := 0, p.Recipe.Material != nil
	if told {
		text := strings.Trim(string(p.Recipe.Material), `"`)
		n, err := strconv.Atoi(text)
		if err != nil {
			return build{}, fmt.Errorf("recipe.definedInMaterial is %.20q", text)
		}
		index = n
	} else if !strings.HasPrefix(p.Recipe.Type, "https://cloudbuild.googleapis.com/") || p.Recipe.EntryPoint == "" {
		return b, nil
	}
	if index >= 0 && index < len(p.Materials) {
		b.config, b.path = p.Materials[index].URI, p.Recipe.EntryPoint
	}
	return b, nil
}

// readV02 reads https://slsa.dev/provenance/v0.2.
func readV02(predicate []byte) (build, error) {
	var p struct {
		Builder    builderJSON `json:"builder"`
		Invocation struct {
			ConfigSource struct {
				URI        string `json:"uri"`
				EntryPoint string `json:"entryPoint"`
			} `json:"configSource"`
		} `json:"invocation"`
		Materials []material `json:"materials"`
	}
	if err := json.Unmarshal(predicate, &p); err != nil {
		return build{}, err
	}
	c := p.Invocation.ConfigSource
	return build{builder: p.Builder.ID, config: c.URI, path: c.EntryPoint, materials: p.Materials}, nil
}

// readV1 reads https://slsa.dev/provenance/v1. Where the configuration is named
// depends on the type of the build: Cloud Build has a buildConfigSource, GitHub's
// builders a workflow, and others a configSource or a source as in v0.2.
func readV1(predicate []byte) (build, error) {
	type config struct {
		Repository string `json:"repository"`
		URI        string `json:"uri"`
		Path       string `json:"path"`
		EntryPoint string `json:"entryPoint"`
	}
	var p struct {
		BuildDefinition struct {
			Parameters struct {
				BuildConfigSource config `json:"buildConfigSource"`
				Workflow          config `json:"workflow"`
				ConfigSource      config `json:"configSource"`
			} `json:"externalParameters"`
			Dependencies []material `json:"resolvedDependencies"`
		} `json:"buildDefinition"`
		RunDetails struct {
			Builder builderJSON `json:"builder"`
		} `json:"runDetails"`
	}
	if err := json.Unmarshal(predicate, &p); err != nil {
		return build{}, err
	}
	d := p.BuildDefinition
	b := build{builder: p.RunDetails.Builder.ID, materials: d.Dependencies}
	for _, c := range []config{d.Parameters.BuildConfigSource, d.Parameters.Workflow, d.Parameters.ConfigSource} {
		if b.config == "" {
			b.config, b.path = cmp.Or(c.Repository, c.URI), cmp.Or(c.Path, c.EntryPoint)
		}
	}
	return b, nil
}
