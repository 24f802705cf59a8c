package server

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/audit"
)

// auditRunsDir is the folder of the log of what the attestor was asked.
const auditRunsDir = "audit-attestor"

// runRecorder records what an attestor was asked, and counts it. The names of the metrics
// of checks are those that Voucher has in OpenTelemetry.
type runRecorder struct {
	log    *audit.Log // nil without a data folder: the logger has the record
	logger *slog.Logger

	requests                         *prometheus.CounterVec
	started, passed, failed, errored *prometheus.CounterVec
	attesting, attested, unattested  *prometheus.CounterVec
	latency, attestLatency           *prometheus.HistogramVec
}

// openRuns opens the record of what the attestor is asked.
func (p *parts) openRuns() (*runRecorder, error) {
	count := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	time := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(1, 4, 10)}, []string{"check_name"})
	}
	r := &runRecorder{
		logger:        p.logger,
		requests:      count("gatehouse_attestor_requests_total", "Requests to the attestor, by API, method and outcome: success, failure or refused.", "api", "method", "outcome"),
		started:       count("voucher_check_run_start_total", "Checks that were run.", "check_name"),
		passed:        count("voucher_check_run_success_total", "Checks that passed.", "check_name"),
		failed:        count("voucher_check_run_failure_total", "Checks that did not pass.", "check_name"),
		errored:       count("voucher_check_run_error_total", "Checks that could not tell.", "check_name"),
		latency:       time("voucher_check_run_latency_milliseconds", "How long checks took."),
		attesting:     count("voucher_check_attestation_start_total", "Checks that were to be attested.", "check_name"),
		attested:      count("voucher_check_attestation_success_total", "Checks that were attested.", "check_name"),
		unattested:    count("voucher_check_attestation_error_total", "Checks that could not be attested.", "check_name"),
		attestLatency: time("voucher_check_attestation_latency_milliseconds", "How long attesting took."),
	}
	for _, c := range []prometheus.Collector{
		r.requests, r.started, r.passed, r.failed, r.errored, r.latency, r.attesting, r.attested, r.unattested, r.attestLatency,
	} {
		if err := p.registry.Register(c); err != nil {
			return nil, err
		}
	}
	if p.cfg.Data == "" {
		return r, nil
	}
	var err error
	r.log, err = p.openAudit(auditRuns)
	return r, err
}

// RecordRun implements [attest.Recorder].
func (r *runRecorder) RecordRun(ctx context.Context, run attest.RunRecord) {
	line := runLine(run)
	r.count(line, run)
	if r.log == nil {
		r.logger.InfoContext(ctx, "attestor asked", "record", line)
		return
	}
	_ = r.log.AppendRun(line) // what is lost is counted and told of by the log
}

func (r *runRecorder) count(line audit.Run, run attest.RunRecord) {
	outcome := "failure"
	switch {
	case line.Error != "":
		outcome = "refused"
	case line.Success:
		outcome = "success"
	}
	r.requests.WithLabelValues(line.API, line.Method, outcome).Inc()
	if run.Report == nil {
		return
	}
	for _, c := range run.Report.Results {
		r.started.WithLabelValues(c.Check).Inc()
		r.latency.WithLabelValues(c.Check).Observe(c.Seconds * 1000)
		switch c.Verdict {
		case attest.Pass:
			r.passed.WithLabelValues(c.Check).Inc()
		case attest.Fail:
			r.failed.WithLabelValues(c.Check).Inc()
		default:
			r.errored.WithLabelValues(c.Check).Inc()
		}
		if c.Verdict != attest.Pass || run.Report.DryRun {
			continue
		}
		r.attesting.WithLabelValues(c.Check).Inc()
		r.attestLatency.WithLabelValues(c.Check).Observe(c.AttestSeconds * 1000)
		if c.Attested {
			r.attested.WithLabelValues(c.Check).Inc()
		} else {
			r.unattested.WithLabelValues(c.Check).Inc()
		}
	}
}

// runLine is a request as the audit log has it.
func runLine(run attest.RunRecord) audit.Run {
	line := audit.Run{
		ID: audit.NewID(), Time: run.Started.UTC().Round(time.Microsecond), Method: run.Method, API: run.Request.API, Caller: run.Request.Caller.Name, Origin: run.Request.Caller.Address,
		Image: run.Request.Image.String(), Name: run.Request.Name, DryRun: run.Request.DryRun, Took: run.Took.Seconds(),
	}
	if run.Err != nil {
		line.Error = run.Err.Error()
	}
	if run.Report != nil {
		line.Success, line.DryRun = run.Report.Success, run.Report.DryRun
		for _, c := range run.Report.Results {
			line.Results = append(line.Results, checkedLine(c))
		}
	}
	if run.Response != nil {
		line.Success = run.Response.Success
		for _, c := range run.Response.Results {
			line.Results = append(line.Results, verifiedLine(run, c))
		}
	}
	return line
}

func checkedLine(c attest.CheckReport) audit.RunResult {
	result := audit.RunResult{Check: c.Check, Verdict: string(c.Verdict), Reason: c.Reason, Attested: c.Attested}
	if result.Reason == "" {
		result.Reason = c.AttestError
	}
	for _, a := range c.Attestations {
		result.Attestations = append(result.Attestations, audit.RunAttestation{Resource: a.ResourceURI, Note: a.Note, KeyID: a.KeyID, Signature: a.Signature})
	}
	return result
}

func verifiedLine(run attest.RunRecord, c attest.Result) audit.RunResult {
	result := audit.RunResult{Check: c.Name, Verdict: string(attest.Fail), Reason: c.Error, Attested: c.Attested}
	if c.Attested {
		result.Verdict = string(attest.Pass)
	}
	if c.Details != nil {
		result.Attestations = []audit.RunAttestation{{Resource: run.Request.Image.ResourceURI(), KeyID: c.Details.VerifiedKeyID}}
	}
	return result
}
