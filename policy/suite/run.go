package suite

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// A World is what a suite is tried in: whoever runs it loads its files.
type World interface {
	// Policies returns the policies in force for a suite.
	Policies(s *Suite) (policy.Set, error)
	// Object makes a request from the file of a Kubernetes object.
	Object(s *Suite, path string, place Place) (decide.Request, error)
	// Facts returns what the occurrences of a suite say about images.
	Facts(s *Suite, refs []image.Reference) (evidence.Facts, error)
}

// A Report is what came of running suites.
type Report struct {
	Suites []SuiteReport `json:"suites"`
	Passed int           `json:"passed"`
	Failed int           `json:"failed"`
	// Coverage is every rule, check and exemption of the policies.
	Coverage []*Item `json:"coverage"`
	Covered  int     `json:"covered"`
}

// A SuiteReport is what came of one suite. Error is set if it could not be run.
type SuiteReport struct {
	File  string       `json:"file"`
	Error string       `json:"error,omitempty"`
	Cases []CaseReport `json:"cases"`
}

// A CaseReport is what came of one case.
type CaseReport struct {
	Name   string `json:"name"`
	Source string `json:"source"` // FILE:LINE
	Passed bool   `json:"passed"`
	// Problems say what differs from what is wanted, or why there is no decision.
	Problems []string         `json:"problems,omitempty"`
	Decision *decide.Decision `json:"decision,omitempty"`
	Took     time.Duration    `json:"-"`
}

// Run runs the suites, one after another.
func Run(suites []*Suite, w World, now func() time.Time) *Report {
	report := &Report{Suites: []SuiteReport{}}
	var c coverage
	for _, s := range suites {
		out := SuiteReport{File: s.File, Cases: []CaseReport{}}
		set, err := w.Policies(s)
		if err != nil {
			out.Error = err.Error()
			report.Failed++
			report.Suites = append(report.Suites, out)
			continue
		}
		c.learn(set)
		for i := range s.Cases {
			begun := now()
			result := runCase(s, &s.Cases[i], set, w, begun, &c)
			result.Took = max(now().Sub(begun), 0)
			if result.Passed {
				report.Passed++
			} else {
				report.Failed++
			}
			out.Cases = append(out.Cases, result)
		}
		report.Suites = append(report.Suites, out)
	}
	report.Coverage = c.items
	for _, item := range c.items {
		if item.Covered() {
			report.Covered++
		}
	}
	return report
}

func runCase(s *Suite, c *Case, set policy.Set, w World, now time.Time, covered *coverage) CaseReport {
	if !s.Time.IsZero() {
		now = s.Time
	}
	out := CaseReport{Name: c.Name, Source: at(s.File, "", c.Line)}
	req, err := c.request(s, w)
	if err != nil {
		out.Problems = []string{err.Error()}
		return out
	}
	facts, err := w.Facts(s, references(req))
	if err == nil {
		err = addEvidence(&facts, c.Evidence, set, s.Project, now)
	}
	if err != nil {
		out.Problems = []string{err.Error()}
		return out
	}
	d := decide.Decide(req, set, facts, now.UTC())
	covered.count(req, set, facts, now)
	out.Decision = &d
	out.Problems = c.Want.differs(&d)
	out.Passed = len(out.Problems) == 0
	return out
}

func (c *Case) request(s *Suite, w World) (decide.Request, error) {
	place := s.Place
	if c.Cluster != "" {
		place.Cluster = c.Cluster
	}
	if c.Object != "" {
		return w.Object(s, c.Object, place)
	}
	req := decide.Request{Cluster: place.Cluster, Namespace: c.Namespace, ServiceAccount: c.ServiceAccount}
	if place.TrustDomain != "" {
		req.IstioIdentity = place.TrustDomain + "/ns/" + c.Namespace + "/sa/" + or(c.ServiceAccount, "default")
	}
	if c.BreakGlass {
		req.BreakGlass = "case"
	}
	for i, text := range c.Images {
		req.Images = append(req.Images, decide.ImageUse{Container: fmt.Sprintf("image-%d", i), Type: decide.Container, Text: text})
	}
	return req, nil
}

func references(req decide.Request) []image.Reference {
	var list []image.Reference
	for _, u := range req.Images {
		if ref, err := image.Parse(u.Text); err == nil {
			list = append(list, ref)
		}
	}
	return list
}

// differs tells how a decision differs from what is wanted.
func (w *Want) differs(d *decide.Decision) []string {
	var problems []string
	differ := func(what string, got, want any) {
		problems = append(problems, fmt.Sprintf("%s is %v, want %v", what, got, want))
	}
	if w.Verdict != nil && *w.Verdict != d.Verdict {
		differ("verdict", d.Verdict, *w.Verdict)
	}
	if w.Allowed != nil && *w.Allowed != d.Allowed {
		differ("allowed", d.Allowed, *w.Allowed)
	}
	if w.Override != nil && *w.Override != string(d.Override) {
		differ("override", orNone(string(d.Override)), orNone(*w.Override))
	}
	if w.Policy != "" && w.Policy != d.Policy {
		differ("policy", orNone(d.Policy), w.Policy)
	}
	if w.Rule != "" && w.Rule != d.Rule {
		differ("rule", orNone(d.Rule), w.Rule)
	}
	codes := d.Codes()
	for _, code := range w.Codes {
		if !slices.Contains(codes, decide.Code(code)) {
			problems = append(problems, fmt.Sprintf("no reason has code %s; there are %v", code, codes))
		}
	}
	return problems
}

func orNone(s string) string { return or(s, "none") }

// Failures tells what went wrong, a paragraph each.
func (r *Report) Failures() []string {
	var list []string
	for _, s := range r.Suites {
		if s.Error != "" {
			list = append(list, s.File+": could not be run: "+s.Error)
		}
		for i := range s.Cases {
			if c := &s.Cases[i]; !c.Passed {
				list = append(list, c.Source+": "+c.Name+"\n  "+strings.Join(append(slices.Clone(c.Problems), c.why()...), "\n  "))
			}
		}
	}
	return list
}

// why tells the reasons of a decision that is not what was wanted.
func (c *CaseReport) why() []string {
	if c.Decision == nil {
		return nil
	}
	list := []string{c.Decision.Summary}
	for i := range c.Decision.Images {
		for _, r := range c.Decision.Images[i].Reasons {
			list = append(list, fmt.Sprintf("%s %s: %s", r.Verdict, r.Code, r.Message))
		}
	}
	return list
}

// Uncovered returns what no case has tried, and what is missing.
func (r *Report) Uncovered() []string {
	var list []string
	for _, item := range r.Coverage {
		if !item.Covered() {
			list = append(list, fmt.Sprintf("%s: %s %q of %s: %s", or(item.Source, item.Policy), item.Kind, item.Text, item.Policy, item.missing()))
		}
	}
	return list
}

// JSON returns the report as indented JSON.
func (r *Report) JSON() ([]byte, error) { return json.MarshalIndent(r, "", "  ") }
