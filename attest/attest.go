// Package attest is the authority that vouches for images: it runs checks and,
// for each that passes, signs a statement about the image's digest and files it
// with the metadata server, where whoever admits images finds it.
//
//	cfg, warnings, err := attest.LoadVoucherConfig("config.toml")
//	options, err := cfg.Options()  // checks, groups, keys
//	options.Registry, options.Metadata, options.Store = resolver, metadata, client
//	authority, err := attest.New(options)
//	response, err := authority.Check(ctx, ref, "all")
//
// A check is asked for by its name, or several by that of a group. The
// statement is the payload that Binary Authorization, Kritis and Voucher know; it
// says nothing but repository and digest, and what it means is told by the note
// that it is filed under, projects/PROJECT/notes/CHECK, and the key, which is the
// one filed under the name of the check. An image that has been attested is not
// attested again by the same key. [Authority.Verify] asks whether an
// image has such statements: it believes a signature that verifies with a key it
// knows and is about this image, and nothing else.
//
// The JSON form of [Response] is Voucher's. Package attest/voucherapi serves it
// over HTTP and package attest/voucherclient asks for it.
package attest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
	"github.com/gatehouse-dev/gatehouse/internal/keyed"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// What the attestation of a passed check says when it is not made. The words are
// Voucher's.
var (
	ErrNoKeys = errors.New("cannot create attestations, keyring is empty")
	ErrNoKey  = errors.New("no signing entity exists for check")
)

// A Store is where attestations are filed. A grafeas.GrafeasClient is one.
type Store interface {
	CreateNote(ctx context.Context, req *grafeas.CreateNoteRequest, opts ...grpc.CallOption) (*grafeas.Note, error)
	CreateOccurrence(ctx context.Context, req *grafeas.CreateOccurrenceRequest, opts ...grpc.CallOption) (*grafeas.Occurrence, error)
	ListNoteOccurrences(ctx context.Context, req *grafeas.ListNoteOccurrencesRequest, opts ...grpc.CallOption) (*grafeas.ListNoteOccurrencesResponse, error)
}

// Options are what an [Authority] is made from. Project, Registry, Metadata and
// Store are needed.
type Options struct {
	// Project holds the notes and the attestations.
	Project string
	// Checks are those that can be asked for, in a group or alone.
	Checks []check.Check
	// Groups are the names of the checks of each group. A group shadows the
	// check of its name. One that has a check which is not in Checks cannot be
	// asked for.
	Groups map[string][]string
	// Signers are the keys that sign, by the name of the check.
	Signers map[string]signature.Signer
	// TrustedKeys are keys that Verify believes besides those of the signers,
	// such as those that have been replaced, by the name of the check.
	TrustedKeys map[string][]*signature.PublicKey

	Registry check.Registry
	Metadata check.Metadata
	Store    Store

	// Platforms are those of an index that count; none means all. An index that lacks
	// one of them passes nothing.
	Platforms []resolve.Platform
	// Recorder is told of every request; nil means no one is.
	Recorder Recorder
	// DryRun runs checks and attests nothing.
	DryRun bool
	// Strict calls a request a success only when every check is attested too,
	// and refuses groups without checks. A dry run is not held to the first.
	Strict bool
	// Form is how attestations are signed and filed, and which are looked for.
	Form Form
	// CreateNotes creates a note that does not exist when an attestation is to
	// be filed under it.
	CreateNotes bool
	// Now is the clock that bounded attestations are held to; nil is [time.Now].
	Now func() time.Time
	// Logger is told what was attested and what failed; nil means no one is.
	Logger *slog.Logger
}

// An Authority vouches for images. Make one with [New]. It is safe for
// concurrent use.
type Authority struct {
	Options
	checks map[string]check.Check
	trust  map[string][]*signature.PublicKey
	runner check.Runner
	// attesting lets one request at a time attest a check of an image.
	attesting keyed.Lock
}

func (a *Authority) now() time.Time {
	if a.Now == nil {
		return time.Now()
	}
	return a.Now()
}

// New returns an Authority.
func New(o Options) (*Authority, error) {
	if o.Project == "" || strings.ContainsAny(o.Project, "/\"") {
		return nil, fmt.Errorf("project %q for notes and attestations: want the id of a project; set binauth_project", o.Project)
	}
	if o.Registry == nil || o.Metadata == nil || o.Store == nil {
		return nil, errors.New("an authority needs a registry, metadata and a store")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Authority{
		Options: o,
		checks:  map[string]check.Check{},
		trust:   map[string][]*signature.PublicKey{},
		runner:  check.Runner{Logger: o.Logger},
	}
	for _, c := range o.Checks {
		if err := c.Validate(); err != nil {
			return nil, err
		}
		if _, ok := a.checks[c.Name]; ok {
			return nil, fmt.Errorf("two checks are called %q", c.Name)
		}
		a.checks[c.Name] = c
	}
	for name := range o.Groups {
		if err := check.ValidateName(name); err != nil {
			return nil, err
		}
	}
	for name, s := range o.Signers {
		if s == nil {
			return nil, fmt.Errorf("the signing key of check %q is nil", name)
		}
		a.trust[name] = append(a.trust[name], s.PublicKey())
	}
	for name, keys := range o.TrustedKeys {
		a.trust[name] = append(a.trust[name], keys...)
	}
	return a, nil
}

// A Response is what came of a request, in Voucher's JSON form.
type Response struct {
	// Image is the reference as it was asked for.
	Image string `json:"image"`
	// Success is true when there was a check and all succeeded; when strict,
	// and all are attested.
	Success bool     `json:"success"`
	Results []Result `json:"results"`
}

// A Result is what came of one check.
type Result struct {
	Name string `json:"name"`
	// Error says why the check did not pass or, when it did, why it is not
	// attested.
	Error    string   `json:"error,omitempty"`
	Success  bool     `json:"success"`
	Attested bool     `json:"attested"`
	Details  *Details `json:"details,omitempty"`
}

// Details describe the attestation of a check.
type Details struct {
	CheckName string
	// Body is the payload that was signed.
	Body string
	// Signature is empty when the image was attested before. Otherwise it is the signature as a string: the armoured text of an OpenPGP
	// signature. JSON cannot carry the bytes of any other; read SignatureBase64.
	Signature string
	KeyID     string
	// SignatureBase64 is the signature in standard base64, of every kind.
	SignatureBase64 string `json:",omitempty"`
	// VerifiedKeyID is the key that Verify found the attestation signed by.
	VerifiedKeyID string `json:",omitempty"`
}

// A NotActiveError says that a check or group cannot be asked for.
type NotActiveError struct {
	Name string
	// Missing are the checks that are not registered. There are none when a
	// group has no checks and that is not accepted.
	Missing []string
}

func (e *NotActiveError) Error() string {
	if len(e.Missing) == 0 {
		return fmt.Sprintf("check or group %q is not active: it has no checks, and strict is set", clip(e.Name))
	}
	missing := make([]string, len(e.Missing))
	for i, m := range e.Missing {
		missing[i] = clip(m)
	}
	return fmt.Sprintf("check or group %q is not active: required check(s) are not registered: %s", clip(e.Name), strings.Join(missing, ", "))
}

// Active returns the checks that a name stands for, or a [NotActiveError].
func (a *Authority) Active(name string) ([]check.Check, error) {
	names, ok := a.Groups[name]
	if !ok {
		names = []string{name}
	}
	if len(names) == 0 && a.Strict {
		return nil, &NotActiveError{Name: name}
	}
	var active []check.Check
	var missing []string
	for _, n := range names {
		if c, ok := a.checks[n]; ok {
			active = append(active, c)
		} else {
			missing = append(missing, n)
		}
	}
	if len(missing) > 0 {
		return nil, &NotActiveError{Name: name, Missing: missing}
	}
	return active, nil
}

// Names returns the names of all groups and checks, sorted.
func (a *Authority) Names() []string {
	names := slices.AppendSeq(slices.Collect(maps.Keys(a.Groups)), maps.Keys(a.checks))
	slices.Sort(names)
	return slices.Compact(names)
}

// Check is [Authority.Run] with what Voucher tells of it.
func (a *Authority) Check(ctx context.Context, ref image.Reference, name string) (Response, error) {
	report, err := a.Run(ctx, Request{Image: ref, Name: name})
	if err != nil {
		return Response{}, err
	}
	return report.Response(), nil
}

func (a *Authority) prepare(ref image.Reference, name string) ([]check.Check, error) {
	if err := ref.RequireDigest(); err != nil {
		return nil, err
	}
	return a.Active(name)
}

// reserve keeps the last part of the time for attesting what has passed: a
// check that waits for as long as it may must not cost the others their
// attestations.
func (a *Authority) reserve(ctx context.Context) (context.Context, check.Runner, context.CancelFunc) {
	const most = 10 * time.Second
	deadline, ok := ctx.Deadline()
	if !ok {
		return ctx, a.runner, func() {}
	}
	kept := min(time.Until(deadline)/5, most)
	runner := a.runner
	runner.Grace = max(kept/4, time.Millisecond)
	running, cancel := context.WithDeadline(ctx, deadline.Add(-kept))
	return running, runner, cancel
}

func (a *Authority) log(ctx context.Context, message string, ref image.Reference, r Result, more ...any) {
	level := slog.LevelInfo
	if r.Error != "" {
		level = slog.LevelWarn
	}
	args := append([]any{"check", r.Name, "image", ref.String(), "passed", r.Success, "attested", r.Attested, "error", r.Error}, more...)
	a.Logger.Log(ctx, level, message, args...)
}

// note is the name of the note that attestations of a check are filed under.
func (a *Authority) note(name string) string { return "projects/" + a.Project + "/notes/" + name }

// clip shortens what came from outside for an error.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
