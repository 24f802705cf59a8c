// Package kritissigner is the signer of Kritis: it checks what scans found in an
// image against a VulnzSigningPolicy, and signs the images that are within it.
//
//	s, err := kritissigner.New(kritissigner.Options{Policy: p, Note: note, Key: key, Store: client})
//	report, err := s.Run(ctx, kritissigner.CheckAndSign, ref)
//	if err == nil && report.Signed { … }
//
// # Checking
//
// The scan must have finished: the latest discovery of every scanner that looks for
// vulnerabilities must be FINISHED_SUCCESS. While one may still become so the signer
// waits, for as long as it may. A scan that failed, or that the scanner does not
// support, and none that comes in time, are errors: the signer could not tell, and
// signs nothing. A policy that allows what is found, by the evaluator that the gate
// has, lets the image be signed; what it does not allow is named.
//
// Discoveries and vulnerabilities are read by two calls. When the discoveries have
// changed in between, a new scan has begun or ended, and both are read again: no
// verdict rests on half of a scan.
//
// # Signing
//
// What is signed is Kritis' payload, "atomic container signature", whatever the kind of
// key, and it is filed under one note. An attestation that is there already makes
// another needless only if it is about this image and verifies with the key: a forged
// one, or one of another's, suppresses nothing. Kritis looked at neither.
package kritissigner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/internal/keyed"
	"github.com/gatehouse-dev/gatehouse/policy/kritis"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// DefaultTimeout is how long Kritis waits for a scan.
const DefaultTimeout = 5 * time.Minute

// A Mode is what to do with an image, in Kritis' words. The zero Mode is none.
type Mode string

// The modes.
const (
	// CheckAndSign signs an image that is within the policy.
	CheckAndSign Mode = "check-and-sign"
	// CheckOnly signs nothing.
	CheckOnly Mode = "check-only"
	// BypassAndSign signs an image that was not checked.
	BypassAndSign Mode = "bypass-and-sign"
)

// ParseMode reads a mode.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case CheckAndSign, CheckOnly, BypassAndSign:
		return m, nil
	}
	return "", fmt.Errorf("mode %.50q is not one of %s, %s, %s", s, CheckAndSign, CheckOnly, BypassAndSign)
}

func (m Mode) checks() bool { return m == CheckAndSign || m == CheckOnly }
func (m Mode) signs() bool  { return m == CheckAndSign || m == BypassAndSign }

// A Store is where scans are read and attestations filed. A grafeas.GrafeasClient is
// one.
type Store interface {
	attest.Store
	check.Lister
	// GetNote tells what the analyses of a discovery note look for.
	GetNote(ctx context.Context, req *grafeas.GetNoteRequest, opts ...grpc.CallOption) (*grafeas.Note, error)
	DeleteOccurrence(ctx context.Context, req *grafeas.DeleteOccurrenceRequest, opts ...grpc.CallOption) (*emptypb.Empty, error)
}

// Options are what a [Signer] is made from. Store is needed, Policy by the modes that
// check, and Note and Key by those that sign.
type Options struct {
	Store Store

	Policy *kritis.VulnzSigningPolicy
	// ScanProjects are the ids of the projects whose scans are believed. Those of the
	// Google Cloud project that the image's repository belongs to are too, if
	// ImageProject is set: whoever may write to that project is believed.
	ScanProjects []string
	ImageProject bool
	// Timeout is how long to wait for a scan; 0 means [DefaultTimeout], and less than
	// 0 not to wait.
	Timeout time.Duration
	// Watch is called before what is known is read. It returns what waits for d, or less
	// when there has been news since Watch was called, with an error when ctx is done.
	// Nil means to wait for d.
	Watch func() func(ctx context.Context, d time.Duration) error
	// Waiting is told what is waited for, each time that it has been looked for; nil
	// means no one is.
	Waiting func(state string)

	Key signature.Signer
	// Note is what attestations are filed under, projects/P/notes/N. It is created if
	// it does not exist.
	Note string
	// Project is the id of the one that attestations are filed in; "" is the Google
	// Cloud project of the image's repository, as in Kritis, or for any other
	// repository that of the note.
	Project string
	// Form is how attestations are signed and filed; Kritis knows the zero Form only.
	Form attest.Form
	// Overwrite signs anew, and deletes the attestations by the key that were there.
	Overwrite bool

	// Now is the clock that attestations are held to; nil is [time.Now].
	Now func() time.Time
	// Logger is told what was done; nil means no one is.
	Logger *slog.Logger
}

// A Signer is safe for concurrent use. Make one with [New].
type Signer struct {
	Options
	// signing lets one request at a time sign an image.
	signing keyed.Lock
}

// New returns a Signer. What a mode needs is looked for when it is asked for; what is
// there must be valid.
func New(o Options) (*Signer, error) {
	if o.Store == nil {
		return nil, errors.New("a signer needs a store")
	}
	if o.Note != "" {
		if err := checkNote(o.Note); err != nil {
			return nil, err
		}
	}
	for _, p := range append([]string{o.Project}, o.ScanProjects...) {
		if strings.ContainsAny(p, "/\" ") {
			return nil, fmt.Errorf("%q is not the id of a project", p)
		}
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Watch == nil {
		o.Watch = func() func(context.Context, time.Duration) error { return wait }
	}
	if o.Waiting == nil {
		o.Waiting = func(string) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Signer{Options: o}, nil
}

// checkNote wants the four segments of the name of a note.
func checkNote(name string) error {
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0] != "projects" || parts[2] != "notes" || parts[1] == "" || parts[3] == "" {
		return fmt.Errorf("note %.200q: want projects/PROJECT/notes/NOTE", name)
	}
	return nil
}

// ProjectOf returns the Google Cloud project that the repository of an image belongs
// to, or "" if it is in none of Google's registries.
func ProjectOf(ref image.Reference) string { return check.ProjectOf(ref) }

// Supports returns what is missing for a mode.
func (s *Signer) Supports(m Mode) error {
	var missing []error
	if _, err := ParseMode(string(m)); err != nil {
		missing = append(missing, err)
	}
	if m.checks() && s.Policy == nil {
		missing = append(missing, fmt.Errorf("%s needs a VulnzSigningPolicy", m))
	}
	if m.signs() && s.Note == "" {
		missing = append(missing, fmt.Errorf("%s needs the note to file attestations under, projects/PROJECT/notes/NOTE", m))
	}
	if m.signs() && s.Key == nil {
		missing = append(missing, fmt.Errorf("%s needs a key", m))
	}
	return errors.Join(missing...)
}

// ErrNoDigest is wrapped by errors about images that are not named by their digest.
var ErrNoDigest = errors.New("image reference should have digest")

// A Report is what came of one image.
type Report struct {
	Image string `json:"image"`
	Mode  Mode   `json:"mode"`
	// Policy is the name of the policy that the image was checked against.
	Policy string `json:"policy,omitempty"`
	// Passed is set if the image was checked and is within the policy.
	Passed bool `json:"passed"`
	// Violations say what was found that the policy does not allow, the worst first.
	Violations []string `json:"violations,omitempty"`
	// Scans are the projects whose finished scans the verdict rests on.
	Scans []string `json:"scans,omitempty"`
	// Signed is set if there is an attestation of the image by the key now, and
	// Existing if it was there before.
	Signed   bool `json:"signed"`
	Existing bool `json:"existing,omitempty"`
	// Note and KeyID are what it is filed under and signed by, Attestation its name,
	// and Replaced those that it took the place of.
	Note        string   `json:"note,omitempty"`
	KeyID       string   `json:"keyId,omitempty"`
	Attestation string   `json:"attestation,omitempty"`
	Replaced    []string `json:"replaced,omitempty"`
}

// Run does what the mode says with an image. An image that is not within the policy is
// no error: it is a report that has not Passed, and is not Signed. An error means that
// it could not be told, or not be signed.
func (s *Signer) Run(ctx context.Context, m Mode, ref image.Reference) (Report, error) {
	r := Report{Image: ref.String(), Mode: m}
	if err := s.Supports(m); err != nil {
		return r, err
	}
	if ref.Digest().IsZero() {
		return r, fmt.Errorf("%q: %w", ref, ErrNoDigest)
	}
	if m.checks() {
		if err := s.check(ctx, ref, &r); err != nil {
			return r, fmt.Errorf("checking %q: %w", ref, err)
		}
	}
	if m.signs() && (r.Passed || m == BypassAndSign) {
		if err := s.sign(ctx, ref, &r); err != nil {
			return r, fmt.Errorf("signing %q: %w", ref, err)
		}
	}
	s.Logger.InfoContext(ctx, "signer result", "image", r.Image, "mode", string(m), "policy", r.Policy, "passed", r.Passed,
		"violations", len(r.Violations), "signed", r.Signed, "existing", r.Existing, "key", r.KeyID, "attestation", r.Attestation)
	return r, nil
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
