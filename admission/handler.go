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
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
)

const (
	// maxReview bounds a request body: an API server takes objects of up to 3 MiB
	// and sends the new and the old one, with managedFields and JSON escapes.
	maxReview = 16 << 20

	// defaultTimeout is used when the API server names none, and is its own
	// default; maxTimeout is the most it allows.
	defaultTimeout = 10 * time.Second
	maxTimeout     = 30 * time.Second

	// margin is kept for sending the answer.
	margin = 500 * time.Millisecond

	// reasonViolatesPolicy is what managed Binary Authorization answers with.
	reasonViolatesPolicy = "VIOLATES_POLICY"
	// reasonUnavailable is ours: policy could not be asked.
	reasonUnavailable = "EVIDENCE_UNAVAILABLE"
)

// The keys of audit annotations, which the API server prefixes with the name of
// the webhook.
const (
	annotationBreakGlass = "break-glass"
	annotationDryRun     = "dry-run"
	annotationFailedOpen = "failed-open"
	annotationOverridden = "overridden-verification-result"
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
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "POST an AdmissionReview here", http.StatusMethodNotAllowed)
		return
	}
	wait := timeout(r)
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	body, err := bounded.ReadBody(w, r, maxReview, time.Now().Add(wait))
	if err != nil {
		code := http.StatusBadRequest
		if tooBig := (*http.MaxBytesError)(nil); errors.As(err, &tooBig) {
			code = http.StatusRequestEntityTooLarge
		}
		http.Error(w, "reading the review: "+err.Error(), code)
		return
	}
	in, err := readReview(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	g.write(w, in, g.review(ctx, in.Request))
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
	}
	return nil
}

// timeout returns how long the gate may take: what the API server says it waits,
// less the time to answer.
func timeout(r *http.Request) time.Duration {
	d, err := time.ParseDuration(r.URL.Query().Get("timeout"))
	if err != nil || d <= 0 {
		d = defaultTimeout
	}
	d = min(d, maxTimeout)
	return max(d-margin, d/2)
}

func (g *Gate) write(w http.ResponseWriter, in review, a answer) {
	out := reviewAnswer{
		APIVersion: in.APIVersion, Kind: in.Kind,
		Response: response{UID: in.Request.UID, Allowed: a.allowed, AuditAnnotations: a.annotations, Warnings: a.warnings},
	}
	if !a.allowed {
		out.Response.Status = &status{Status: "Failure", Message: a.message, Reason: a.reason, Code: a.code}
	}
	body, err := json.Marshal(out)
	if err != nil {
		g.Logger.Error("encoding an answer", "uid", in.Request.UID, "error", err)
		http.Error(w, "encoding the answer failed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // an API server that went away has its own log
}

// annotations go into the API server's audit log, under Google's keys.
func annotations(d decide.Decision) map[string]string {
	m := map[string]string{}
	if d.BreakGlass != "" {
		m[annotationBreakGlass] = markerValue
	}
	for _, o := range d.Overrides() {
		switch o {
		case decide.DryRun:
			m[annotationDryRun] = markerValue
		case decide.FailOpen, decide.LastAllowed:
			m[annotationFailedOpen] = markerValue
		}
	}
	if d.Override != decide.NoOverride && d.Override != decide.NoPolicy {
		m[annotationOverridden] = decide.Message(d)
	}
	if len(m) == 0 {
		return nil
	}
	return m
}

// warnings are shown by kubectl, to the person who can act on them.
func warnings(d decide.Decision, s subject, dryRun bool) []string {
	var list []string
	switch d.Override {
	case decide.BreakGlass:
		if dryRun {
			list = warningLines("break-glass would let this in against policy, and be recorded")
		} else {
			list = warningLines("break-glass: let in against policy, and recorded")
		}
	case decide.DryRun:
		list = warningLines("dry run: policy would refuse this: " + decide.Message(d))
	case decide.FailOpen, decide.LastAllowed:
		list = warningLines("let in unchecked: " + decide.Message(d))
	case decide.NoPolicy:
		list = warningLines("gatehouse has no policy and lets everything in; start it with --policy FILE, or write one with gatehouse policy push")
	}
	if s.isTemplate && d.BreakGlass == "" {
		if marker, _ := breakGlass(s.meta); marker != "" {
			list = append(list, warningLines("the break-glass "+marker+" counts only on the pod template (spec.template.metadata)")...)
		}
	}
	return list
}

// warningLines cuts text into warnings that the API server passes on whole: it
// cuts at 256 characters each and 4,096 in all.
func warningLines(text string) []string {
	const prefix, most, lines = "gatehouse: ", 250, 8
	var list []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasSuffix(line, ":") { // a title, of which kubectl would make a warning
			continue
		}
		if len(list) == lines {
			break
		}
		line = prefix + line
		if len(line) > most {
			cut := most - len("…")
			for !utf8.RuneStart(line[cut]) {
				cut--
			}
			line = line[:cut] + "…"
		}
		list = append(list, line)
	}
	return list
}
