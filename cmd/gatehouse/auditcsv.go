package main

import (
	"encoding/csv"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit"
)

// A rowWriter writes records as CSV, with a header before the first.
type rowWriter struct {
	csv    *csv.Writer
	headed bool
}

func newRowWriter(w io.Writer) *rowWriter { return &rowWriter{csv: csv.NewWriter(w)} }

var (
	recordColumns = []string{
		"time", "id", "event", "verdict", "override", "allowed", "operation", "resource", "namespace", "name", "user", "images", "reasons", "policy", "policyVersion", "rule",
		"evidence", "breakGlass", "justification", "by", "cluster", "replica", "took", "dryRun", "error",
	}
	callColumns = []string{"time", "id", "code", "method", "resource", "caller", "origin", "permissions", "items", "phase", "changes", "replica", "took", "omitted", "error"}
	runColumns  = []string{"time", "id", "method", "api", "name", "image", "caller", "origin", "success", "dryRun", "results", "replica", "took", "error"}
)

func (w *rowWriter) write(columns []string, fields ...string) error {
	if !w.headed {
		w.headed = true
		if err := w.csv.Write(columns); err != nil {
			return err
		}
	}
	for i := range fields {
		fields[i] = csvCell(fields[i])
	}
	if err := w.csv.Write(fields); err != nil {
		return err
	}
	w.csv.Flush() // whoever follows wants to see it
	return w.csv.Error()
}

func (w *rowWriter) end() error {
	w.csv.Flush()
	return w.csv.Error()
}

// csvCell keeps a terminal from being driven by what others chose, and a spreadsheet from
// taking it for a formula.
func csvCell(s string) string {
	text := printable(s)
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		text = "'" + text
	}
	return text
}

func csvTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func csvSeconds(s float64) string { return strconv.FormatFloat(s, 'f', -1, 64) }

func (w *rowWriter) record(r audit.Record) error {
	var verdict, override, allowed, policy, version, rule, marker, justification, by string
	var images, reasons, evidence []string
	if d := r.Decision; d != nil {
		verdict, override, allowed = d.Verdict.String(), string(d.Override), strconv.FormatBool(d.Allowed)
		policy, version, rule, marker, justification = d.Policy, d.PolicyVersion, d.Rule, d.BreakGlass, d.Justification
		for _, img := range d.Images {
			images = append(images, img.Image)
			for _, reason := range img.Reasons {
				reasons = append(reasons, reason.Message)
				if reason.Occurrence != "" && !slices.Contains(evidence, reason.Occurrence) {
					evidence = append(evidence, reason.Occurrence)
				}
			}
		}
	}
	if r.BreakGlass != nil {
		by = r.BreakGlass.By
	}
	for _, p := range r.Pinned {
		images = append(images, strings.TrimSpace(p.Image+" "+p.Digest+p.Error))
	}
	for _, p := range r.Policies {
		policy, version = strings.TrimSpace(policy+" "+p.Policy), strings.TrimSpace(version+" "+p.Version)
	}
	return w.write(recordColumns, csvTime(r.Time), r.ID, r.Event, verdict, override, allowed, r.Operation, r.Resource, r.Namespace, r.Name, r.User,
		strings.Join(images, "; "), strings.Join(reasons, "; "), policy, version, rule, strings.Join(evidence, "; "), marker, justification, by, r.Cluster, r.Replica,
		csvSeconds(r.Took), strconv.FormatBool(r.DryRun), r.Error)
}

func (w *rowWriter) call(c audit.Call) error {
	var permissions []string
	for _, p := range c.Permissions {
		permissions = append(permissions, string(p))
	}
	return w.write(callColumns, csvTime(c.Time), c.ID, c.Code, c.Method, c.Resource, c.Caller, c.Origin, strings.Join(permissions, " "), strconv.Itoa(c.Items),
		c.Phase, strings.Join(changesOf(c), "; "), c.Replica, csvSeconds(c.Took), strconv.Itoa(c.Omitted), c.Error)
}

func (w *rowWriter) run(r audit.Run) error {
	var results []string
	for _, c := range r.Results {
		results = append(results, strings.TrimSpace(c.Verdict+" "+c.Check+" "+c.Reason))
	}
	return w.write(runColumns, csvTime(r.Time), r.ID, r.Method, r.API, r.Name, r.Image, r.Caller, r.Origin, strconv.FormatBool(r.Success), strconv.FormatBool(r.DryRun),
		strings.Join(results, "; "), r.Replica, csvSeconds(r.Took), r.Error)
}
