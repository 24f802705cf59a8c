// Package check says what a check is and runs checks.
//
// A check looks at one image and at what is known about it and says whether it
// passed; passing earns the image an attestation. A [Check] is a value that
// carries its own documentation. Each lives in a folder of its own, where a
// constructor makes it from its settings:
//
//	c, err := diy.New(diy.Settings{ValidRepos: []string{"registry.example/team"}})
//	outcomes := check.Runner{}.Run(ctx, &check.Input{Image: ref, Registry: r, Metadata: m}, []check.Check{c})
//
// A check that returns an error could not tell; one that returns a [Result]
// that did not pass could, and the answer is no. Neither earns anything. The
// zero Result did not pass.
//
// Package check/diy asks whether an image is in a repository of ours, check/nobody
// whether it runs as root, check/snakeoil whether it has known vulnerabilities,
// check/provenance whether a builder of ours built it, check/approved whether what it
// was built from was approved, check/org whose it was, check/sbom whether its parts
// are listed, check/age whether it and its scan are young, check/base what it stands
// on, and check/cel whatever an expression says. What several of them read is in
// check/builds and check/scans.
package check

import (
	"context"
	"errors"
	"fmt"
	"strings"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
)

// A Check looks at an image and says whether it passes.
type Check struct {
	// Name is what the check is called in a request, in a group, and as the id
	// of the note that its attestations are filed under.
	Name string
	Doc  Doc
	// Run must return soon after ctx is done. It may be called concurrently.
	Run func(ctx context.Context, in *Input) (Result, error)
}

// Doc is what a check says about itself, for the pages and the command line.
type Doc struct {
	// Title is one line, without a full stop.
	Title string `json:"title"`
	// Proves says what an image that passes is known to be, what does not pass, and
	// what the check cannot see.
	Proves string `json:"proves"`
	// Needs are what the check reads: the registry, kinds of metadata, other hosts.
	Needs    []string  `json:"needs"`
	Settings []Setting `json:"settings"`
	// Fixes are the ways out of the failures there are.
	Fixes []Fix `json:"fixes"`
}

// A Setting is a configuration key that changes what a check does.
type Setting struct {
	Key  string `json:"key"`
	Text string `json:"text"`
	// Default is what holds while the key is not set; "" when it must be.
	Default string `json:"default,omitempty"`
}

// A Fix is what to do about a failure.
type Fix struct {
	// Failure is what the reason says, in its own words or what they have in common.
	Failure string `json:"failure"`
	Do      string `json:"do"`
}

// Input is what a check may look at.
type Input struct {
	// Image is what is checked. It has a digest.
	Image image.Reference
	// Index is the index that Image is one platform's image of, in the same repository,
	// and zero when it is none. What is said of the digest of an index holds for what it
	// commits to.
	Index    image.Reference
	Registry Registry
	Metadata Metadata
}

// A Registry reads the configuration of images, and what is attached to them.
// [resolve.Resolver] is one.
type Registry interface {
	// Configs returns the configuration for each platform wanted, or for all
	// that the image has when none is given, and at least one when the error is
	// nil. Their content has been verified against the digest in ref.
	Configs(ctx context.Context, ref image.Reference, wanted ...resolve.Platform) ([]resolve.Config, error)
	// Attached returns the artifacts that the registry has about an image, such as
	// SBOMs. None is not an error.
	Attached(ctx context.Context, ref image.Reference) ([]resolve.Artifact, error)
	// Blob returns a blob of the image's repository, which has the digest and at most
	// so many bytes.
	Blob(ctx context.Context, ref image.Reference, digest image.Digest, most int64) ([]byte, error)
}

// Metadata answers what is known about an image. [Grafeas] is one.
type Metadata interface {
	// Occurrences returns all occurrences of one kind about the image, and of
	// no other image or kind. None is not an error.
	Occurrences(ctx context.Context, ref image.Reference, kind grafeas.NoteKind) ([]*grafeas.Occurrence, error)
	// Note returns a note, and nil when there is none or it may not be read.
	Note(ctx context.Context, name string) (*grafeas.Note, error)
	// Watch begins to watch what is known about images.
	Watch(refs ...image.Reference) Watch
}

// A Watch waits until what is known about one of its images may have changed since the Watch
// began or last returned nil. It returns an error only when ctx is done, or when what
// is known can no longer be followed. Call it from one goroutine.
type Watch func(ctx context.Context) error

// A Result is the verdict of a check. The zero Result did not pass.
type Result struct {
	passed   bool
	reason   string
	evidence []string
}

// Pass returns the verdict that the image passes, and what that rests on, one fact
// each.
func Pass(evidence ...string) Result { return Result{passed: true, evidence: evidence} }

// Fail returns the verdict that the image does not pass, and why, for the person
// who is stopped by it.
func Fail(format string, args ...any) Result { return Result{reason: fmt.Sprintf(format, args...)} }

// Passed reports whether the image passes.
func (r Result) Passed() bool { return r.passed }

// Reason says why the image does not pass. It is empty when it does.
func (r Result) Reason() string { return r.reason }

// Evidence returns the facts that a pass rests on.
func (r Result) Evidence() []string { return r.evidence }

// Validate reports whether the check can be run and called by name.
func (c Check) Validate() error {
	if err := ValidateName(c.Name); err != nil {
		return err
	}
	if c.Run == nil {
		return fmt.Errorf("check %q has nothing to run", c.Name)
	}
	return nil
}

// ValidateName reports whether s can name a check or a group. A name is a
// segment of a URL and the id of a note: lower-case letters, digits, "-", "_"
// and ".", at most 128 of them, beginning with a letter or a digit.
func ValidateName(s string) error {
	const most = 128
	switch {
	case s == "":
		return errors.New("the name of a check or group is empty")
	case len(s) > most:
		return fmt.Errorf("the name of a check or group has %d characters, more than %d", len(s), most)
	case strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || strings.IndexByte("-_.", s[0]) >= 0:
		return fmt.Errorf("name %q of a check or group: want lower-case letters, digits, '-', '_' and '.', beginning with a letter or a digit", s)
	}
	return nil
}
