package attest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/keys"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	// pageSize is how many attestations are listed at a time.
	pageSize = 100
)

// Verify says which checks of the group of this name, or the check, the image
// has a valid attestation for. One is valid that is filed under the note of the
// check, about this repository and digest, and carries a signature over both
// that verifies with a key of the check.
func (a *Authority) Verify(ctx context.Context, ref image.Reference, name string) (Response, error) {
	return a.VerifyFor(ctx, Request{Image: ref, Name: name})
}

// VerifyFor is [Authority.Verify] for a request.
func (a *Authority) VerifyFor(ctx context.Context, req Request) (Response, error) {
	start := a.now()
	response, err := a.verify(ctx, req.Image, req.Name)
	record := RunRecord{Method: MethodVerify, Request: req, Started: start, Took: a.now().Sub(start), Err: err}
	if err == nil {
		record.Response = &response
	}
	a.record(ctx, record)
	return response, err
}

func (a *Authority) verify(ctx context.Context, ref image.Reference, name string) (Response, error) {
	checks, err := a.prepare(ref, name)
	if err != nil {
		return Response{}, err
	}
	response := Response{Image: ref.String(), Results: make([]Result, 0, len(checks))}
	for _, c := range checks {
		r := Result{Name: c.Name}
		v, err := a.find(ctx, ref, c.Name, a.trust[c.Name])
		switch {
		case err != nil:
			r.Error = err.Error()
		case v.keyID == "":
			r.Error = v.why()
		default:
			r.Success, r.Attested = true, true
			r.Details = &Details{CheckName: c.Name, Body: string(v.signed), VerifiedKeyID: v.keyID}
		}
		a.log(ctx, "verify result", ref, r)
		response.Results = append(response.Results, r)
	}
	response.Success = len(response.Results) > 0 && !slices.ContainsFunc(response.Results, func(r Result) bool { return !r.Attested })
	return response, nil
}

// verdict is what the attestations of an image amount to: the first that is
// valid, or why those that exist are not.
type verdict struct {
	keyID   string // empty when none is valid
	signed  []byte
	reasons []string
	none    bool // there was nothing to reject
}

// why joins the reasons. It is empty when there was nothing to reject.
func (v verdict) why() string {
	switch {
	case v.none:
		return ""
	case len(v.reasons) == 0:
		return "no attestation of the image has a signature that can be checked"
	}
	return strings.Join(v.reasons, "; ")
}

// find lists the attestations of the image under the note of a check, in whatever
// project they are, and has the one evaluator of all doors decide on them: whoever is
// told here that the image is attested will find it so at the gate.
func (a *Authority) find(ctx context.Context, ref image.Reference, name string, trusted []*signature.PublicKey) (verdict, error) {
	note := a.note(name)
	page := func(ctx context.Context, token string) ([]*grafeas.Occurrence, string, error) {
		resp, err := a.Store.ListNoteOccurrences(ctx, &grafeas.ListNoteOccurrencesRequest{
			Name: note, Filter: check.Filter(ref, a.Form.Kind()), PageSize: pageSize, PageToken: token,
		})
		return resp.GetOccurrences(), resp.GetNextPageToken(), err
	}
	listed, err := check.List(ctx, page)
	if err != nil {
		return verdict{}, fmt.Errorf("listing the attestations of %q under the note %q: %w", ref, note, err)
	}
	found := slices.DeleteFunc(listed, func(o *grafeas.Occurrence) bool {
		return o.GetNoteName() != note || !check.About(o, ref, a.Form.Kind())
	})
	facts := index.FromOccurrences(ctx, found, index.Trust{note: trusted}, []image.Reference{ref})
	rules := &policy.Ruleset{
		Name:      note,
		Rules:     []policy.Rule{{Evaluation: policy.RequireChecks, Checks: []policy.Check{{Condition: policy.Attested{Attestor: name}}}}},
		Attestors: map[string]policy.Attestor{name: {Name: name, Note: note, Keys: keys.Compile(trusted), MatchRepository: a.Form.namesRepository()}},
	}
	d := decide.Decide(decide.Request{Images: []decide.ImageUse{{Text: ref.String()}}}, policy.Set{rules}, facts, a.now())
	why := d.Images[0].Reasons[0]
	if d.Verdict != decide.ALLOW {
		return verdict{reasons: why.Details, none: len(found) == 0}, nil
	}
	return verdict{keyID: why.KeyID, signed: signedIn(found, why, trusted)}, nil
}

// signedIn returns what the key signed in the occurrence that the evaluator names.
func signedIn(found []*grafeas.Occurrence, by decide.Reason, trusted []*signature.PublicKey) []byte {
	for _, o := range found {
		if o.GetName() != by.Occurrence {
			continue
		}
		for _, key := range trusted {
			if key.ID() != by.KeyID {
				continue
			}
			for _, sig := range o.GetAttestation().GetSignatures() {
				if signed, err := key.Verify(o.GetAttestation().GetSerializedPayload(), sig.GetSignature()); err == nil {
					return signed
				}
			}
		}
	}
	return nil // a JWT, or an envelope
}
