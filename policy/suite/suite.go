// Package suite tries policies out: it runs cases, each a pod and what is known of
// its images, and compares the verdict with the one that its author wants. Neither a
// cluster nor a registry nor keys are needed: a case may say in words that an
// attestor has attested an image.
//
// A suite is a YAML or JSON file with a list of cases:
//
//	policies: [policy.yaml]          # paths, from the folder of this file
//	attestors: [attestors.yaml]
//	cases:
//	- name: what CI has not built does not run in shop
//	  namespace: shop
//	  images: ["reg.example/shop/web@sha256:…"]
//	  want: DENY
//	- name: … and what it has built does
//	  namespace: shop
//	  images: ["reg.example/shop/web@sha256:…"]
//	  evidence:
//	  - image: "reg.example/shop/web@sha256:…"
//	    attestedBy: [projects/p/attestors/built-by-ci]
//	  want: {verdict: ALLOW, rule: namespace admission rule for shop}
//
// [Run] also tells which rules, exemptions and checks no case has tried.
package suite

import (
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/policy/document"
)

const (
	// maxSuite bounds the text of a suite.
	maxSuite = 4 << 20
	// maxCases bounds the cases of one suite.
	maxCases = 10_000
)

// A Suite is a parsed file of cases.
type Suite struct {
	File string
	// Policies, Attestors, Builders and Occurrences are paths as they are written.
	Policies, Attestors, Builders, Occurrences []string
	SystemPolicy                               string
	Project                                    string
	// MatchRepository demands of attestations that they name the repository, too.
	MatchRepository bool
	// Kritis are words for what objects of Kritis mean, and PlatformDryRun takes
	// platform policies for dry runs.
	Kritis         []string
	PlatformDryRun bool
	Place
	// Time is the clock of its cases; zero is now.
	Time  time.Time
	Cases []Case
}

// A Place is where pods would run.
type Place struct {
	Cluster     string
	TrustDomain string
}

// A Case is one pod, and what should become of it.
type Case struct {
	Name string
	Line int
	// Object is the path of a Kubernetes object or an AdmissionReview; without one the
	// pod is made from the fields below.
	Object         string
	Images         []string
	Namespace      string
	ServiceAccount string
	Cluster        string
	BreakGlass     bool
	Evidence       []Evidence
	Want           Want
}

// Evidence is what a case says of one image.
type Evidence struct {
	Image       string // a reference with a digest, or a digest
	Line        int
	AttestedBy  []string
	SignedBy    []Signed
	Scans       []Scanned
	Uploaded    time.Time
	BuiltBy     []Built
	Unavailable string
}

// Signed says that a key has signed the image, filed in a project.
type Signed struct {
	Key     string // its id
	Project string
	Cosign  bool
}

// Scanned says what a scan found.
type Scanned struct {
	Project    string
	Unfinished bool
	Findings   []Found
}

// Found is one vulnerability of a scan.
type Found struct {
	Vulnerability string
	Severity      int
	Fixable       bool
}

// Built says what built the image.
type Built struct {
	Builder, Source, Project string
	ConfigBased              bool
}

// Want is what a case expects. Only what is set is compared.
type Want struct {
	Verdict  *decide.Verdict
	Allowed  *bool
	Override *string
	Policy   string
	Rule     string
	// Codes must all be among the reasons.
	Codes []string
}

type reader struct{ *document.Reporter }

// Parse reads a suite. ok is false, without diagnostics, if the text has no cases
// and so is not a suite.
func Parse(file string, data []byte) (s *Suite, found document.Diagnostics, ok bool) {
	r := reader{document.New(file)}
	root := r.Load(data, maxSuite)
	if root == nil {
		return nil, r.Diagnostics(), true
	}
	if !hasCases(root) {
		return nil, nil, false
	}
	s = r.suite(root)
	s.File = file
	if r.Erred() {
		s = nil
	}
	return s, r.Diagnostics(), true
}

func hasCases(root *yaml.Node) bool {
	if root.Kind != yaml.MappingNode {
		return false
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value == "cases" {
			return true
		}
	}
	return false
}

func (r reader) suite(root *yaml.Node) *Suite {
	f, _ := r.Fields(root, "suite", "policies", "attestors", "builders", "occurrences", "systemPolicy", "kritis", "matchRepository", "platformDryRun", "project", "cluster", "istioTrustDomain", "time", "cases")
	s := &Suite{
		Policies: r.texts(f, "policies"), Attestors: r.texts(f, "attestors"), Builders: r.texts(f, "builders"), Occurrences: r.texts(f, "occurrences"),
		Kritis: r.texts(f, "kritis"), PlatformDryRun: r.truth(f, "platformDryRun"), MatchRepository: r.truth(f, "matchRepository"),
		SystemPolicy: r.Text(f, "systemPolicy"), Project: r.Text(f, "project"),
		Place: Place{Cluster: r.Text(f, "cluster"), TrustDomain: r.Text(f, "istioTrustDomain")},
		Time:  r.time(f, "time"),
	}
	if s.Project == "" {
		s.Project = "default"
	}
	cases := r.List(f, "cases")
	if n := f.Values["cases"]; n != nil && n.Kind == yaml.SequenceNode && len(cases) == 0 {
		r.Errorf(f.Lines["cases"], "there is no case in it, and so nothing that could fail")
	}
	if len(cases) > maxCases {
		r.Errorf(f.Lines["cases"], "%d cases, more than the %d allowed in a suite", len(cases), maxCases)
		return s
	}
	names := map[string]int{}
	for _, n := range cases {
		c := r.testCase(n)
		if first := names[c.Name]; first != 0 && c.Name != "" {
			r.Errorf(c.Line, "case %q is there twice, first at line %d", c.Name, first)
		}
		names[c.Name] = c.Line
		s.Cases = append(s.Cases, c)
	}
	return s
}

func (r reader) testCase(n *yaml.Node) Case {
	f, _ := r.Fields(n, "case", "name", "object", "images", "namespace", "serviceAccount", "cluster", "breakGlass", "evidence", "want")
	c := Case{
		Line: n.Line, Name: r.Text(f, "name"), Object: r.Text(f, "object"), Images: r.texts(f, "images"), Namespace: r.Text(f, "namespace"),
		ServiceAccount: r.Text(f, "serviceAccount"), Cluster: r.Text(f, "cluster"), BreakGlass: r.truth(f, "breakGlass"),
	}
	switch {
	case c.Name == "":
		r.Errorf(n.Line, "case: name is missing")
	case c.Object == "" && len(c.Images) == 0:
		r.Errorf(n.Line, "case %q: give images, or an object", c.Name)
	case c.Object != "" && (len(c.Images) > 0 || c.Namespace != "" || c.ServiceAccount != "" || c.BreakGlass):
		r.Errorf(n.Line, "case %q: what an object says is not said beside it: leave out images, namespace, serviceAccount and breakGlass", c.Name)
	}
	if c.Namespace == "" {
		c.Namespace = "default"
	}
	for _, n := range r.List(f, "evidence") {
		c.Evidence = append(c.Evidence, r.evidence(n))
	}
	if n := f.Values["want"]; n == nil {
		r.Errorf(c.Line, "case %q: want is missing: ALLOW, DENY or INDETERMINATE", c.Name)
	} else {
		c.Want = r.want(n)
	}
	return c
}

func (r reader) want(n *yaml.Node) Want {
	if n.Kind == yaml.ScalarNode {
		text, _ := r.Scalar(n, "want")
		return Want{Verdict: r.verdict(text, n.Line)}
	}
	f, _ := r.Fields(n, "want", "verdict", "allowed", "override", "policy", "rule", "codes")
	w := Want{Policy: r.Text(f, "policy"), Rule: r.Text(f, "rule"), Codes: r.texts(f, "codes")}
	if f.Values["verdict"] != nil {
		w.Verdict = r.verdict(r.Text(f, "verdict"), n.Line)
	}
	if f.Values["allowed"] != nil {
		allowed := r.truth(f, "allowed")
		w.Allowed = &allowed
	}
	if f.Values["override"] != nil {
		override := r.Text(f, "override")
		w.Override = &override
	}
	if len(f.Values) == 0 {
		r.Errorf(n.Line, "want is empty, so that the case could not fail")
	}
	return w
}

func (r reader) verdict(text string, line int) *decide.Verdict {
	v := new(decide.Verdict)
	if err := v.UnmarshalText([]byte(text)); err != nil {
		r.Errorf(line, "want: %.50q is not one of ALLOW, DENY, INDETERMINATE", text)
	}
	return v
}

func (r reader) evidence(n *yaml.Node) Evidence {
	f, _ := r.Fields(n, "evidence", "image", "attestedBy", "signedBy", "scans", "uploaded", "builtBy", "unavailable")
	e := Evidence{Line: n.Line, Image: r.Text(f, "image"), AttestedBy: r.texts(f, "attestedBy"), Uploaded: r.time(f, "uploaded"), Unavailable: r.Text(f, "unavailable")}
	if e.Image == "" {
		r.Errorf(n.Line, "evidence: image is missing: a reference with a digest, or a digest")
	}
	for _, n := range r.List(f, "signedBy") {
		f, _ := r.Fields(n, "signedBy", "key", "project", "cosign")
		e.SignedBy = append(e.SignedBy, Signed{Key: r.Text(f, "key"), Project: r.Text(f, "project"), Cosign: r.truth(f, "cosign")})
	}
	for _, n := range r.List(f, "scans") {
		e.Scans = append(e.Scans, r.scan(n))
	}
	for _, n := range r.List(f, "builtBy") {
		f, _ := r.Fields(n, "builtBy", "builder", "source", "project", "configBased")
		e.BuiltBy = append(e.BuiltBy, Built{Builder: r.Text(f, "builder"), Source: r.Text(f, "source"), Project: r.Text(f, "project"), ConfigBased: r.truth(f, "configBased")})
	}
	return e
}

func (r reader) scan(n *yaml.Node) Scanned {
	f, _ := r.Fields(n, "scans", "project", "unfinished", "findings")
	s := Scanned{Project: r.Text(f, "project"), Unfinished: r.truth(f, "unfinished")}
	for _, n := range r.List(f, "findings") {
		f, _ := r.Fields(n, "findings", "vulnerability", "severity", "fixable")
		severity, _ := r.Enum(f, "severity", []string{"SEVERITY_UNSPECIFIED", "MINIMAL", "LOW", "MEDIUM", "HIGH", "CRITICAL"})
		found := Found{Vulnerability: r.Text(f, "vulnerability"), Severity: severity, Fixable: r.truth(f, "fixable")}
		if found.Vulnerability == "" {
			r.Errorf(n.Line, "findings: vulnerability is missing: the id of a note, such as CVE-2021-20305")
		}
		s.Findings = append(s.Findings, found)
	}
	return s
}

// texts reads a field that holds a list of texts.
func (r reader) texts(f document.Fields, name string) []string {
	var list []string
	for _, n := range r.List(f, name) {
		if text, ok := r.Scalar(n, name); ok {
			list = append(list, text)
		}
	}
	return list
}

func (r reader) time(f document.Fields, name string) time.Time {
	n := f.Values[name]
	if n == nil {
		return time.Time{}
	}
	text, ok := r.Scalar(n, name)
	t, err := time.Parse(time.RFC3339, text)
	if ok && err != nil {
		r.Errorf(n.Line, "%s: %.50q is not a time such as 2026-11-30T12:00:00Z", name, text)
	}
	return t
}

func (r reader) truth(f document.Fields, name string) bool {
	n := f.Values[name]
	if n == nil {
		return false
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || (n.Value != "true" && n.Value != "false") {
		r.Errorf(n.Line, "%s must be true or false, and is %s", name, document.KindOf(n))
		return false
	}
	return n.Value == "true"
}
