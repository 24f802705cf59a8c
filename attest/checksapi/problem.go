package checksapi

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/attest/door"
)

// The types of problems. They are relative to the URI of the problem's document, as
// RFC 9457 allows: a word of ours after "#".
const (
	problemLogin     = "#unauthenticated"
	problemForbidden = "#forbidden"
	problemRequest   = "#bad-request"
	problemUnknown   = "#unknown-check"
	problemNotFound  = "#not-found"
	problemMethod    = "#method-not-allowed"
	problemReused    = "#idempotency-key-reused"
	problemBusy      = "#busy"
	problemInternal  = "#internal"
)

// problem is an error of RFC 9457.
type problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail,omitempty"`
	Instance string `json:"instance,omitempty"`
}

func (p *problem) Error() string { return p.Detail }

// title is what all problems of a type are.
func title(kind string) string {
	switch kind {
	case problemLogin:
		return "Who are you?"
	case problemForbidden:
		return "You may not ask for this"
	case problemRequest:
		return "The request is not understood"
	case problemUnknown:
		return "There is no such check or group"
	case problemNotFound:
		return "There is no such thing"
	case problemMethod:
		return "This is asked in another way"
	case problemReused:
		return "The idempotency key is that of another request"
	case problemBusy:
		return "There is too much to do"
	}
	return "The server is at fault"
}

// problemOf makes a problem of an error.
func problemOf(err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	var refusal *door.RefusalError
	if !errors.As(err, &refusal) {
		return &problem{Type: problemInternal, Status: http.StatusInternalServerError, Detail: "the log of the server says more"}
	}
	p = &problem{Type: problemBusy, Status: refusal.Status, Detail: refusal.Text}
	switch refusal.Status {
	case http.StatusUnauthorized:
		p.Type = problemLogin
	case http.StatusForbidden:
		p.Type = problemForbidden
	}
	return p
}

// refused answers a request that is not served, and has it recorded.
func (h *Handler) refused(w http.ResponseWriter, r *http.Request, a asked, method string, err error) {
	a.Authority.Refused(r.Context(), method, a.request, err)
	h.refuse(w, r, err)
}

func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p := *problemOf(err)
	p.Title, p.Instance = title(p.Type), r.URL.Path
	h.Logger.WarnContext(r.Context(), "request refused", "path", r.URL.Path, "status", p.Status, "reason", err.Error())
	var refusal *door.RefusalError
	if errors.As(err, &refusal) {
		refusal.SetHeader(w.Header())
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	body, _ := json.Marshal(p) // it has texts and a number
	_, _ = w.Write(append(body, '\n'))
}

// sameCaller reports whether what one has asked for is the other's, too. Callers without
// a name are told apart by where they are.
func sameCaller(a, b attest.Caller) bool {
	if a.Name != "" || b.Name != "" {
		return a.Name == b.Name
	}
	return a.Address == b.Address
}
