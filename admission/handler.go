// Package admission is the Kubernetes door: it reads AdmissionReviews, asks
// package decide, records the decision and answers in the words that API servers
// and people expect.
//
// The pod's own review is the authority. Owners, annotations other than the
// break-glass markers, and the object's own idea of its namespace are never
// looked at. The request path works from memory; only a used break-glass waits
// for a disk, because it must be on record before it counts.
package admission

import (
	"bytes"
	"context"
	"errors"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// reasonViolatesPolicy is what managed Binary Authorization answers with.
	reasonViolatesPolicy = "VIOLATES_POLICY"
	// reasonUnavailable is ours: policy could not be asked.
	reasonUnavailable = "EVIDENCE_UNAVAILABLE"

	// maxUID bounds the id of a request, which is echoed; it is a UUID.
	maxUID = 256
)

type reviewAnswer struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Response   response `json:"response"`
}

type response struct {
	UID              string            `json:"uid"`
	Allowed          bool              `json:"allowed"`
	Status           *status           `json:"status,omitempty"`
	AuditAnnotations map[string]string `json:"auditAnnotations,omitempty"`
	Warnings         []string          `json:"warnings,omitempty"`
	Patch            []byte            `json:"patch,omitempty"` // base64 of JSON
	PatchType        string            `json:"patchType,omitempty"`
}

type status struct {
	Status  string `json:"status"`
	Message string `json:"message"`
	Reason  string `json:"reason"`
	Code    int    `json:"code"`
}

// ServeHTTP answers an AdmissionReview of admission.k8s.io/v1 or v1beta1 in the
// version it came in. What is not a review gets an HTTP error, on which the API
// server applies the webhook's failurePolicy.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.serve(w, r, protocol{answer: g.answerReview, deny: denyReview, misunderstood: g.unread})
}

// unread records a review that could not be read.
func (g *Gate) unread(err error) { g.misunderstood(&request{place: g.Place}, err) }

func (g *Gate) answerReview(ctx context.Context, body []byte) (any, error) {
	begun := g.Now()
	in, err := readReview(body)
	if err != nil {
		return nil, err
	}
	in.Request.place, in.Request.begun = g.Place, begun
	return in.envelope(g.review(ctx, in.Request)), nil
}

// denyReview addresses a denial to whoever sent what cannot be read as a review, if
// its version and id can be.
func denyReview(body []byte, a answer) (any, bool) {
	in := peekReview(body)
	if in.check() != nil {
		return nil, false
	}
	return in.envelope(a), true
}

// peekReview reads the version and the id of a review, as far as it is JSON.
func peekReview(body []byte) review {
	in := review{Request: &request{}}
	dec := jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	peekMembers(dec, func(name string) {
		switch name {
		case "apiVersion":
			in.APIVersion = peekString(dec)
		case "kind":
			in.Kind = peekString(dec)
		case "request":
			peekMembers(dec, func(name string) {
				if name == "uid" && in.Request.UID == "" {
					in.Request.UID = peekString(dec)
				}
			})
		}
	})
	return in
}

// peekMembers calls visit before the value of each member of an object, which it may
// read, until something is not as it should be.
func peekMembers(dec *jsontext.Decoder, visit func(name string)) {
	if dec.PeekKind() != '{' {
		return
	}
	if _, err := dec.ReadToken(); err != nil {
		return
	}
	for dec.PeekKind() == '"' {
		token, err := dec.ReadToken()
		if err != nil {
			return
		}
		name, at := token.String(), dec.InputOffset()
		visit(name)
		if dec.InputOffset() == at && dec.SkipValue() != nil {
			return
		}
	}
	_, _ = dec.ReadToken() // whoever reads on finds out
}

func peekString(dec *jsontext.Decoder) string {
	if dec.PeekKind() != '"' {
		return ""
	}
	token, err := dec.ReadToken()
	if err != nil {
		return ""
	}
	return token.String()
}

func (v review) check() error {
	switch {
	case v.APIVersion != "admission.k8s.io/v1" && v.APIVersion != "admission.k8s.io/v1beta1":
		return errors.New(`reading the review: apiVersion must be "admission.k8s.io/v1" or "admission.k8s.io/v1beta1"`)
	case v.Kind != "AdmissionReview":
		return errors.New(`reading the review: kind must be "AdmissionReview"`)
	case v.Request == nil:
		return errors.New("reading the review: it has no request")
	case v.Request.UID == "":
		return errors.New("reading the review: its request has no uid")
	case len(v.Request.UID) > maxUID:
		return errors.New("reading the review: the uid of its request is too long")
	}
	return nil
}

// envelope puts an answer into the version that the review came in.
func (v review) envelope(a answer) *reviewAnswer {
	out := &reviewAnswer{
		APIVersion: v.APIVersion, Kind: v.Kind,
		Response: response{UID: v.Request.UID, Allowed: a.allowed, AuditAnnotations: a.annotations, Warnings: bound(a.warnings)},
	}
	if !a.allowed {
		out.Response.Status = &status{Status: "Failure", Message: a.message, Reason: a.reason, Code: a.code}
	}
	return out
}
