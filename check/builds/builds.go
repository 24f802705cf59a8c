// Package builds reads what is recorded of how an image was built: by whom, from
// which commit, from what else, and when.
//
//	found, err := builds.Reader{Keys: keys}.Read(ctx, input)
//
// Records come in several forms, and each that there is counts on its own: the Build
// record of Grafeas, and in-toto statements with SLSA provenance of v0.1, v0.2 and v1,
// unsigned in a BUILD occurrence or signed in its envelope or in one of kind
// DSSE_ATTESTATION. One counts only when it names the digest of the image among what
// was built; an occurrence alone is a claim about a name.
//
// A [Reader] with keys takes signed statements only, and reads nothing but what was
// signed. Without keys it believes the metadata server: whoever may write BUILD
// occurrences there says how images were built.
package builds

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// None is the reason to give when there is no record at all. It is Voucher's.
const None = "no build metadata associated with this image"

const (
	// maxRecords bounds the occurrences of one image that are looked at. A record is
	// made when an image is built, and so there are few.
	maxRecords = 2000
	// maxReasons bounds the reasons that are listed.
	maxReasons = 5
)

// A Build is what one record says of how the image was built.
type Build struct {
	// Form is what the record is, such as "SLSA provenance v1".
	Form string
	// Builder is who built it: the creator of a Build record, or the id of the builder.
	Builder string
	// Project is the project of a Build record. HasProject is false for the other forms,
	// which know no projects.
	Project    string
	HasProject bool
	// Source is the commit that was built. It is zero when the record does not tell, or
	// tells of several.
	Source Source
	// Materials are what else went into the build, with the source.
	Materials []Material
	// Started and Finished are zero when the record does not tell.
	Started, Finished time.Time
	// KeyID is the key that signed the record, and "" for an unsigned one.
	KeyID string
	// Recorded is when the metadata server got the record.
	Recorded time.Time
}

// A Source is a commit in a repository.
type Source struct {
	// URL is the repository's, as the record has it.
	URL string
	// Commit is the id of the commit, in hexadecimal.
	Commit string
}

// A Material is something that went into a build.
type Material struct {
	URI string
	// Digest is its SHA-256, or zero when the record has another or none.
	Digest image.Digest
}

// Time is when the build was: when it started, finished, or was recorded, the first
// that is known.
func (b Build) Time() time.Time {
	for _, t := range []time.Time{b.Started, b.Finished} {
		if !t.IsZero() {
			return t
		}
	}
	return b.Recorded
}

// String says what the record is and by whom, as evidence.
func (b Build) String() string {
	by := "unsigned"
	if b.KeyID != "" {
		by = "signed by " + b.KeyID
	}
	return fmt.Sprintf("%s, builder %q, %s", b.Form, Clip(b.Builder), by)
}

// Found is what there is about one image.
type Found struct {
	// Builds name the digest of the image among what was built.
	Builds []Build
	// Rejected are the reasons why other records do not count.
	Rejected []string
}

// A Reader reads records. The zero Reader believes the metadata server.
type Reader struct {
	// Keys are those that sign provenance. With any, nothing else counts.
	Keys []*signature.PublicKey
}

// Read reads all records about the image, and about the index that it is in.
func (r Reader) Read(ctx context.Context, in *check.Input) (Found, error) {
	found, err := r.of(ctx, in.Metadata, in.Image)
	if err != nil || in.Index.Digest().IsZero() {
		return found, err
	}
	// What built an index built what is in it.
	whole, err := r.of(ctx, in.Metadata, in.Index)
	return Found{append(found.Builds, whole.Builds...), append(found.Rejected, whole.Rejected...)}, err
}

// of reads the records about one digest.
func (r Reader) of(ctx context.Context, m check.Metadata, ref image.Reference) (Found, error) {
	var found Found
	for _, kind := range []grafeas.NoteKind{grafeas.NoteKind_BUILD, grafeas.NoteKind_DSSE_ATTESTATION} {
		if kind == grafeas.NoteKind_DSSE_ATTESTATION && len(r.Keys) == 0 {
			continue // it is nothing but what was signed
		}
		occurrences, err := m.Occurrences(ctx, ref, kind)
		if err != nil {
			return Found{}, err
		}
		if len(occurrences) > maxRecords {
			return Found{}, fmt.Errorf("reading how %q was built: %d records, more than the %d that are looked at; delete those that are of no use", ref, len(occurrences), maxRecords)
		}
		for _, o := range occurrences {
			r.add(&found, o, ref.Digest())
		}
	}
	return found, nil
}

func (r Reader) add(found *Found, o *grafeas.Occurrence, d image.Digest) {
	if len(r.Keys) > 0 {
		r.signed(found, o, d)
		return
	}
	recorded := timeOf(o.GetCreateTime())
	b := o.GetBuild()
	some := false
	take := func(build Build, about bool) {
		some = true
		build.Recorded = recorded
		found.take(build, about)
	}
	if p := b.GetProvenance(); p != nil {
		take(fromRecord(p), slices.ContainsFunc(p.GetBuiltArtifacts(), func(a *grafeas.Artifact) bool { return isDigest(a.GetChecksum(), d) }))
	}
	if st := b.GetIntotoStatement(); st != nil {
		if build, ok := fromStatement(st); ok {
			take(build, isSubject(st.GetSubject(), d))
		}
	}
	if st := b.GetInTotoSlsaProvenanceV1(); st != nil {
		take(fromV1(st.GetPredicate()), isSubject(st.GetSubject(), d))
	}
	switch {
	case some:
	case o.GetEnvelope() != nil:
		found.reject("build metadata is signed, and there is no key to verify it with; name the builder's in gatehouse.builds.keys")
	default:
		found.reject("build metadata has no provenance")
	}
}

func (f *Found) take(b Build, about bool) {
	if about {
		f.Builds = append(f.Builds, b)
		return
	}
	f.reject("no built artifact has the digest of this image")
}

func (f *Found) reject(format string, args ...any) {
	f.Rejected = append(f.Rejected, fmt.Sprintf(format, args...))
}

// Why says why there is no build to look at, together with the reasons given. It is
// never empty.
func (f Found) Why(more ...string) string {
	reasons := append(slices.Clone(f.Rejected), more...)
	if len(reasons) == 0 {
		return None
	}
	return Join(reasons)
}

// Join lists different reasons, in a fixed order, and not too many.
func Join(reasons []string) string {
	reasons = slices.Compact(slices.Sorted(slices.Values(reasons)))
	if n := len(reasons); n > maxReasons {
		reasons = append(reasons[:maxReasons:maxReasons], fmt.Sprintf("and %d more reasons", n-maxReasons))
	}
	return strings.Join(reasons, "; ")
}

// fromRecord reads the Build record of Grafeas.
func fromRecord(p *grafeas.BuildProvenance) Build {
	b := Build{
		Form: "build record", Builder: p.GetCreator(), Project: p.GetProjectId(), HasProject: true,
		Started: timeOf(p.GetStartTime()), Finished: timeOf(p.GetEndTime()),
	}
	if b.Started.IsZero() {
		b.Started = timeOf(p.GetCreateTime())
	}
	if git := p.GetSourceProvenance().GetContext().GetGit(); git != nil {
		b.Source = Source{URL: git.GetUrl(), Commit: git.GetRevisionId()}
		b.Materials = []Material{{URI: git.GetUrl()}}
	}
	return b
}

// isDigest compares a checksum with the digest. Builders write it with and without the
// algorithm.
func isDigest(checksum string, d image.Digest) bool {
	want := d.String()
	return want != "" && (checksum == want || "sha256:"+checksum == want)
}

func isSubject(subjects []*grafeas.Subject, d image.Digest) bool {
	return slices.ContainsFunc(subjects, func(s *grafeas.Subject) bool {
		hex := s.GetDigest()["sha256"]
		return hex != "" && "sha256:"+hex == d.String()
	})
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if !t.IsValid() || t.GetSeconds() == 0 && t.GetNanos() == 0 {
		return time.Time{}
	}
	return t.AsTime()
}

// Clip shortens what came from outside, for a reason.
func Clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// KeysSetting documents the keys of a [Reader], for the checks that have one.
func KeysSetting() check.Setting {
	return check.Setting{
		Key: "gatehouse.builds.keys", Text: "public keys of builders; with any, only records that one has signed count",
		Default: "none: the metadata server is believed",
	}
}
