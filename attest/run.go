package attest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"golang.org/x/sync/errgroup"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
)

const (
	// maxAttesting is how many attestations of one request are made at once.
	maxAttesting = 8
	// platformsTime bounds, together with a quarter of the time there is, how long the
	// registry may take to say which platforms an image is for.
	platformsTime = 30 * time.Second
	// maxReasons is how many platforms' reasons make up that of an index.
	maxReasons = 5
)

// A Caller is who makes a request, as a transport has established it. The zero Caller
// is anonymous.
type Caller struct {
	// Name is the user name, and empty while nobody is asked who he is.
	Name string
	// Address is the network address that the request came from.
	Address string
}

// A Request asks for the check or the checks of the group of a name.
type Request struct {
	Image  image.Reference
	Name   string
	Caller Caller
	// API is how it was asked, for the record: "voucher" or "v1".
	API string
	// DryRun runs the checks and attests nothing.
	DryRun bool
	// Progress, unless it is nil, is told what happens, one call at a time.
	Progress func(Event)
}

// An Event is a step of a run.
type Event struct {
	Type  EventType `json:"type"`
	Check string    `json:"check,omitempty"`
	// Digest is the image of the platform, or the index.
	Digest   string `json:"digest,omitempty"`
	Platform string `json:"platform,omitempty"`
	// Verdict and Reason are those of a check that has finished.
	Verdict Verdict `json:"verdict,omitempty"`
	Reason  string  `json:"reason,omitempty"`
	// KeyID is that of an attestation.
	KeyID string `json:"keyId,omitempty"`
}

// An EventType says what happened.
type EventType string

// The events of a run, in their order.
const (
	EventPlatforms EventType = "platforms" // one for each platform that was found
	EventStarted   EventType = "started"   // a check begins
	EventChecked   EventType = "checked"   // a check has a verdict
	EventAttested  EventType = "attested"  // an attestation is filed, or was there
	// EventDone ends the events, and is for transports to tell.
	EventDone EventType = "done"
)

// A Verdict is what a check says of an image. The zero Verdict is no verdict.
type Verdict string

// The verdicts.
const (
	Pass Verdict = "PASS"
	Fail Verdict = "FAIL"
	// Error is that of a check that could not tell, which earns as little as Fail.
	Error Verdict = "ERROR"
)

// A Report is what came of a request, by check and platform.
type Report struct {
	Image string `json:"image"`
	// Name is the check or group that was asked for.
	Name string `json:"check"`
	// Success is true when there was a check and all passed; when strict, and all are
	// attested.
	Success bool `json:"success"`
	DryRun  bool `json:"dryRun,omitempty"`
	// Platforms are the images of an index. An image that is no index has none.
	Platforms []Platform `json:"platforms,omitempty"`
	// PlatformsError says why it is not known whether there are platforms.
	PlatformsError string        `json:"platformsError,omitempty"`
	Results        []CheckReport `json:"results"`
	Started        time.Time     `json:"startTime"`
	Finished       time.Time     `json:"endTime"`
}

// A Platform is one image of an index.
type Platform struct {
	Digest   string `json:"digest"`
	Platform string `json:"platform"`
}

// A CheckReport is what came of one check.
type CheckReport struct {
	Check   string  `json:"check"`
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason,omitempty"`
	// Evidence is what the check looked at in the image that was asked for.
	Evidence []Evidence `json:"evidence,omitempty"`
	Seconds  float64    `json:"seconds"`
	// Platforms are the verdicts on the images of an index.
	Platforms []PlatformReport `json:"platforms,omitempty"`
	// Attested is true when all that is to be attested is: the image, and those of an
	// index. AttestError says why it is not, when the check passed.
	Attested    bool   `json:"attested"`
	AttestError string `json:"attestError,omitempty"`
	// AttestSeconds is how long attesting took.
	AttestSeconds float64       `json:"attestSeconds,omitempty"`
	Attestations  []Attestation `json:"attestations,omitempty"`

	details *Details
}

// A PlatformReport is what a check says of one image of an index.
type PlatformReport struct {
	Digest   string     `json:"digest"`
	Platform string     `json:"platform"`
	Verdict  Verdict    `json:"verdict"`
	Reason   string     `json:"reason,omitempty"`
	Evidence []Evidence `json:"evidence,omitempty"`
	Seconds  float64    `json:"seconds"`
}

// An Attestation is one that a run made, or found to be there.
type Attestation struct {
	Digest      string `json:"digest"`
	ResourceURI string `json:"resourceUri"`
	Note        string `json:"note"`
	KeyID       string `json:"keyId"`
	// Payload is what was signed, and Signature that, in standard base64. Signature is
	// empty when the attestation was there before.
	Payload   []byte `json:"payload"`
	Signature string `json:"signature,omitempty"`
	Existed   bool   `json:"existed,omitempty"`
}

// Response returns what Voucher tells of it.
func (r *Report) Response() Response {
	response := Response{Image: r.Image, Success: r.Success, Results: make([]Result, 0, len(r.Results))}
	for _, c := range r.Results {
		result := Result{Name: c.Check, Success: c.Verdict == Pass, Error: c.Reason, Attested: c.Attested, Details: c.details}
		if result.Success {
			result.Error = c.AttestError
		}
		response.Results = append(response.Results, result)
	}
	return response
}

// A target is an image that the checks look at: the one asked for, or one of an index.
type target struct {
	ref      image.Reference
	platform string // empty for the image asked for
	metadata check.Metadata
}

// Run runs the check or the checks of the group of the request's name, and attests
// those that pass. That a check did not pass is no error. The error is about the
// request: the name is not active, or the reference has no digest.
//
// An index is what its images are: a check passes on it when it passes on each, and
// then it and all of them are attested. What is said of the index' digest itself holds
// for all that is in it, and so checks that judge where an image is from pass by that,
// too.
func (a *Authority) Run(ctx context.Context, req Request) (*Report, error) {
	start := a.now()
	report, err := a.run(ctx, req)
	a.record(ctx, RunRecord{Method: MethodCheck, Request: req, Started: start, Took: a.now().Sub(start), Report: report, Err: err})
	return report, err
}

func (a *Authority) run(ctx context.Context, req Request) (*Report, error) {
	checks, err := a.prepare(req.Image, req.Name)
	if err != nil {
		return nil, err
	}
	r := &run{
		Authority: a, request: req, checks: checks,
		report: &Report{Image: req.Image.String(), Name: req.Name, DryRun: a.DryRun || req.DryRun, Started: a.now(), Results: make([]CheckReport, 0, len(checks))},
	}
	defer r.end()
	running, runner, done := a.reserve(ctx)
	defer done()
	r.findTargets(running)
	r.judge(running, runner)
	r.attestAll(ctx)
	for i := range r.report.Results {
		c := &r.report.Results[i]
		a.log(ctx, "check result", req.Image, c.result(), slog.Duration("elapsed", time.Duration(c.Seconds*float64(time.Second))))
	}
	r.report.Success = a.succeeded(r.report)
	r.report.Finished = a.now()
	return r.report, nil
}

// succeeded is the verdict on a request: that every check passed and, when strict, is
// attested. No checks at all vouch for nothing, where Voucher approves.
func (a *Authority) succeeded(r *Report) bool {
	for _, c := range r.Results {
		if c.Verdict != Pass || (a.Strict && !r.DryRun && !c.Attested) {
			return false
		}
	}
	return len(r.Results) > 0
}

func (c *CheckReport) result() Result {
	r := Result{Name: c.Check, Success: c.Verdict == Pass, Error: c.Reason, Attested: c.Attested}
	if r.Success {
		r.Error = c.AttestError
	}
	return r
}

// run is the state of one request.
type run struct {
	*Authority
	request Request
	checks  []check.Check
	report  *Report

	registry *memo
	targets  []*target // that which was asked for, and then those of an index
	refused  error     // why nothing can pass

	telling sync.Mutex
	over    bool // a check that was left behind has nothing to tell any more
}

func (r *run) tell(e Event) {
	r.telling.Lock()
	defer r.telling.Unlock()
	if r.request.Progress != nil && !r.over {
		r.request.Progress(e)
	}
}

func (r *run) end() {
	r.telling.Lock()
	defer r.telling.Unlock()
	r.over = true
}

// findTargets asks the registry what is in the image. When it does not tell, the image
// is looked at as one: the checks that read it will say what is wrong.
func (r *run) findTargets(ctx context.Context) {
	r.registry = newMemo(r.Registry)
	asked := &target{ref: r.request.Image, metadata: r.Metadata}
	r.targets = []*target{asked}
	if len(r.checks) == 0 {
		return
	}
	limit := platformsTime
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline)/4)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ctx, span := step(ctx, "gatehouse.targets", "", r.request.Image)
	defer span.End()
	configs, err := r.registry.Configs(ctx, r.request.Image, r.Platforms...)
	switch {
	case errors.Is(err, resolve.ErrNoPlatform):
		r.refused = err
		return
	case err != nil:
		r.registry.forget(r.request.Image, r.Platforms)
		r.report.PlatformsError = err.Error()
		return
	}
	for _, c := range configs {
		if c.Manifest == r.request.Image.Digest() || c.Manifest.IsZero() {
			continue // it is no index
		}
		t := &target{ref: r.request.Image.WithDigest(c.Manifest), platform: c.Platform.String()}
		t.metadata = ofPlatform{r.Metadata, r.request.Image}
		r.registry.keep(t.ref, c)
		r.targets = append(r.targets, t)
		r.report.Platforms = append(r.report.Platforms, Platform{Digest: c.Manifest.String(), Platform: t.platform})
		r.tell(Event{Type: EventPlatforms, Digest: c.Manifest.String(), Platform: t.platform})
	}
}

// A job is one check of one target.
type job struct {
	check   int
	target  *target
	outcome check.Outcome
	seen    *observed
}

// judge runs the checks on the targets, and joins what they say of each.
func (r *run) judge(ctx context.Context, runner check.Runner) {
	if r.refused != nil {
		for _, c := range r.checks {
			r.report.Results = append(r.report.Results, CheckReport{Check: c.Name, Verdict: Error, Reason: r.refused.Error()})
		}
		return
	}
	jobs := r.jobs()
	runs := make([]check.Check, len(jobs))
	for i, j := range jobs {
		runs[i] = r.wrapped(j)
	}
	for i, o := range runner.Run(ctx, &check.Input{Image: r.request.Image, Registry: r.registry, Metadata: r.Metadata}, runs) {
		jobs[i].outcome = o
	}
	for i, c := range r.checks {
		r.report.Results = append(r.report.Results, joined(c.Name, jobsOf(jobs, i)))
	}
}

// jobs are those of all checks: on an image alone, on the images of an index, and on
// the index too where what is said of it counts.
func (r *run) jobs() []*job {
	var jobs []*job
	for i, c := range r.checks {
		for _, t := range r.targets {
			if t.platform != "" || len(r.targets) == 1 || judgesWhole(c.Name) {
				jobs = append(jobs, &job{check: i, target: t, seen: &observed{}})
			}
		}
	}
	return jobs
}

func jobsOf(jobs []*job, check int) []*job {
	var some []*job
	for _, j := range jobs {
		if j.check == check {
			some = append(some, j)
		}
	}
	return some
}

// judgesWhole reports whether a check judges where an image is from, rather than what
// is in it: then what holds for the digest of an index holds for what that commits to.
func judgesWhole(name string) bool {
	switch name {
	case "diy", "provenance", "approved":
		return true
	}
	return strings.HasPrefix(name, "is_")
}

// wrapped is the check of a job, on its own target, observed and told.
func (r *run) wrapped(j *job) check.Check {
	c := r.checks[j.check]
	event := Event{Check: c.Name, Digest: j.target.ref.Digest().String(), Platform: j.target.platform}
	return check.Check{Name: c.Name, Doc: c.Doc, Run: func(ctx context.Context, _ *check.Input) (check.Result, error) {
		event.Type = EventStarted
		r.tell(event)
		in := &check.Input{Image: j.target.ref, Registry: observedRegistry{r.registry, j.seen}, Metadata: observedMetadata{j.target.metadata, j.seen}}
		if j.target.platform != "" {
			in.Index = r.request.Image
		}
		ctx, span := step(ctx, "gatehouse.check", c.Name, j.target.ref)
		result, err := c.Run(ctx, in)
		event.Type = EventChecked
		event.Verdict, event.Reason = verdictOf(check.Outcome{Result: result, Err: err})
		span.SetAttributes(attribute.String("gatehouse.check.verdict", string(event.Verdict)))
		end(span, err)
		for _, fact := range result.Evidence() {
			j.seen.add(Evidence{Kind: "fact", Text: fact})
		}
		r.tell(event)
		return result, err
	}}
}

func verdictOf(o check.Outcome) (Verdict, string) {
	switch {
	case o.Err != nil:
		return Error, o.Err.Error()
	case o.Result.Passed():
		return Pass, ""
	}
	return Fail, o.Result.Reason()
}

// joined is the report of a check from those on the image, or on an index and its images.
func joined(name string, jobs []*job) CheckReport {
	c := CheckReport{Check: name}
	var whole *job
	failed := 0
	var reasons []string
	c.Verdict = Pass
	for _, j := range jobs {
		verdict, reason := verdictOf(j.outcome)
		c.Seconds = max(c.Seconds, j.outcome.Elapsed.Seconds())
		if j.target.platform == "" {
			whole = j
			c.Evidence = j.seen.all()
			continue
		}
		c.Platforms = append(c.Platforms, PlatformReport{
			Digest: j.target.ref.Digest().String(), Platform: j.target.platform, Verdict: verdict, Reason: reason, Evidence: j.seen.all(), Seconds: j.outcome.Elapsed.Seconds(),
		})
		if verdict == Pass {
			continue
		}
		if c.Verdict != Fail { // a no is more than a don't know
			c.Verdict = verdict
		}
		if failed++; failed <= maxReasons && reason != "" {
			reasons = append(reasons, j.target.platform+": "+reason)
		}
	}
	if failed > maxReasons {
		reasons = append(reasons, fmt.Sprintf("and %d platforms more", failed-maxReasons))
	}
	c.Reason = strings.Join(reasons, "; ")
	if whole != nil && (len(c.Platforms) == 0 || c.Verdict != Pass) {
		// That which is said of all of it stands for what is said of each.
		c.Verdict, c.Reason = verdictOf(whole.outcome)
	}
	return c
}

// attestAll attests what has passed: the image, and with an index all that is in it.
func (r *run) attestAll(ctx context.Context) {
	if r.report.DryRun {
		return
	}
	type made struct {
		details *Details
		err     error
		took    time.Duration
	}
	results := make([][]made, len(r.checks))
	var group errgroup.Group
	group.SetLimit(maxAttesting)
	for i := range r.report.Results {
		if r.report.Results[i].Verdict != Pass {
			continue
		}
		results[i] = make([]made, len(r.targets))
		for k, t := range r.targets {
			group.Go(func() error {
				m, start := &results[i][k], r.now()
				defer func() { m.took = r.now().Sub(start) }()
				m.details, m.err = r.attestOne(ctx, t, r.checks[i].Name)
				return nil
			})
		}
	}
	_ = group.Wait() // errors are in results
	for i := range r.report.Results {
		c := &r.report.Results[i]
		for k, m := range results[i] {
			t := r.targets[k]
			if k == 0 {
				c.details, c.Attested = m.details, true
			}
			c.AttestSeconds = max(c.AttestSeconds, m.took.Seconds())
			if m.err != nil {
				c.Attested = false
				if c.AttestError == "" {
					c.AttestError = strings.TrimPrefix(t.platform+": "+m.err.Error(), ": ")
				}
			}
			if d := m.details; d != nil && d.KeyID != "" {
				c.Attestations = append(c.Attestations, Attestation{
					Digest: t.ref.Digest().String(), ResourceURI: t.ref.ResourceURI(), Note: r.note(c.Check), KeyID: d.KeyID,
					Payload: []byte(d.Body), Signature: d.SignatureBase64, Existed: d.SignatureBase64 == "" && m.err == nil,
				})
			}
		}
	}
}

// attestOne attests one check of one target. A panic in a signer or a store is an error
// of this attestation.
func (r *run) attestOne(ctx context.Context, t *target, name string) (details *Details, err error) {
	defer func() {
		if p := recover(); p != nil {
			r.Logger.ErrorContext(ctx, "attesting panicked", "check", name, "image", t.ref.String(), "panic", fmt.Sprint(p), "stack", stack())
			details, err = nil, errors.New("attesting failed inside; this is a bug in Gatehouse, and its log says more")
		}
	}()
	ctx, span := step(ctx, "gatehouse.attest", name, t.ref)
	details, err = r.attest(ctx, t.ref, name)
	end(span, err)
	if err == nil {
		r.tell(Event{Type: EventAttested, Check: name, Digest: t.ref.Digest().String(), Platform: t.platform, KeyID: details.KeyID})
	}
	return details, err
}
