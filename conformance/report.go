package conformance

import (
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/junit"
)

// Schema names the form of a [Report] in JSON. Members may be added to it; what is
// there keeps its name and meaning.
const Schema = "gatehouse.dev/conformance/v1"

// An Outcome is how a case ended.
type Outcome string

// The outcomes. A case that could not be tried is skipped, with the reason.
const (
	Pass Outcome = "pass"
	Fail Outcome = "fail"
	Skip Outcome = "skip"
)

// A Report is what came out of a run.
type Report struct {
	Schema string `json:"schema"`
	// Suite is [Version].
	Suite string `json:"suite"`
	// Gate is the URL of the webhook.
	Gate    string    `json:"gate"`
	Started time.Time `json:"started"`
	// Duration is in seconds.
	Duration float64 `json:"duration"`
	// Versions are the AdmissionReview versions that were used.
	Versions []string `json:"versions"`
	Passed   int      `json:"passed"`
	Failed   int      `json:"failed"`
	Skipped  int      `json:"skipped"`
	Cases    []Result `json:"cases"`
}

// A Result is how one case ended.
type Result struct {
	ID      string  `json:"id"`
	Class   string  `json:"class"`
	Title   string  `json:"title"`
	Outcome Outcome `json:"result"`
	// Details say what did not hold, why it was skipped, or what is worth knowing of
	// a pass.
	Details []string `json:"details,omitempty"`
	// Duration is in seconds.
	Duration float64 `json:"duration"`
}

func newReport(gate string, started time.Time, took time.Duration, versions []string, results []Result) *Report {
	r := &Report{
		Schema: Schema, Suite: Version, Gate: withoutSecrets(gate), Started: started.UTC().Truncate(time.Millisecond), Duration: took.Seconds(), Versions: versions, Cases: results,
	}
	for _, result := range results {
		switch result.Outcome {
		case Pass:
			r.Passed++
		case Fail:
			r.Failed++
		case Skip:
			r.Skipped++
		}
	}
	return r
}

// Line is a result in one line.
func (r Result) Line() string {
	line := fmt.Sprintf("%-4s  %-36s", strings.ToUpper(string(r.Outcome)), r.ID)
	switch {
	case len(r.Details) == 0 || r.Outcome == Pass:
		line += "  " + r.Title
	case len(r.Details) == 1:
		line += "  " + r.Details[0]
	default:
		line += fmt.Sprintf("  %s (and %d more)", r.Details[0], len(r.Details)-1)
	}
	return line
}

// Text is the report for people: a line for each case, in order.
func (r *Report) Text() string {
	var b strings.Builder
	for _, c := range r.Cases {
		b.WriteString(c.Line() + "\n")
	}
	b.WriteString("\n" + r.Summary() + "\n")
	return b.String()
}

// Summary is the outcome in one line.
func (r *Report) Summary() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped; suite %s, AdmissionReview %s, %s, %.1fs",
		r.Passed, r.Failed, r.Skipped, r.Suite, strings.Join(r.Versions, " and "), r.Gate, r.Duration)
}

// JUnit returns the report in JUnit's XML, with a suite for each class.
func (r *Report) JUnit() ([]byte, error) {
	all := &junit.Report{Name: "gatehouse conformance " + r.Suite}
	var of *junit.Suite
	for _, c := range r.Cases {
		if of == nil || of.Name != c.Class {
			of = all.Suite(c.Class)
		}
		one := junit.Case{Name: c.ID, Class: c.Class, Time: fmt.Sprintf("%.3f", c.Duration)}
		text := &junit.Text{Message: strings.Join(c.Details[:min(len(c.Details), 1)], ""), Text: strings.Join(c.Details, "\n")}
		switch c.Outcome {
		case Fail:
			one.Failure = text
		case Skip:
			one.Skipped = text
		case Pass:
		}
		of.Add(one)
	}
	return all.Marshal()
}
