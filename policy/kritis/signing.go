package kritis

import (
	"regexp"
	"regexp/syntax"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
)

// A BuildPolicy says which builds an authority attests. Nothing at admission reads it.
type BuildPolicy struct {
	Meta
	Authority Entry // in the namespace
	// Source matches the URL of the source that was built, anywhere within it, or
	// is nil, which every source does.
	Source *regexp.Regexp
}

// Covers reports whether a build of the source is one to attest.
func (p *BuildPolicy) Covers(url string) bool { return p.Source == nil || p.Source.MatchString(url) }

// A VulnzSigningPolicy says which scanned images a signer attests.
type VulnzSigningPolicy struct {
	Meta
	Requirements Requirements
}

// A KritisConfig configures Kritis' server.
type KritisConfig struct {
	Meta
	// GrafeasBackend is set for a server of Grafeas; otherwise it is Google's
	// Container Analysis.
	GrafeasBackend bool
	// GrafeasAddress is HOST:PORT, or the path of a Unix socket.
	GrafeasAddress string
	CronInterval   time.Duration
	ServerAddress  string
}

// The words for Kritis' stores.
const (
	backendGrafeas           = "grafeas"
	backendContainerAnalysis = "containerAnalysis"
)

func (r *reporter) buildPolicy(m Meta, f document.Fields) {
	const what = "BuildPolicy"
	// Kritis' own types write the fields in upper case.
	r.renamed(f, what, "AttestationAuthorityName", "attestationAuthorityName", "")
	r.renamed(f, what, "PrivateKeySecretName", "privateKeySecretName", "")
	r.renamed(f, what, "BuildRequirements", "buildRequirements", "")
	p := BuildPolicy{Meta: m, Authority: Entry{Text: r.Text(f, "attestationAuthorityName"), Line: f.Lines["attestationAuthorityName"]}}
	_ = r.Text(f, "privateKeySecretName") // whoever signs has his own keys
	if p.Authority.Text == "" {
		r.Errorf(m.Line, "%s: attestationAuthorityName is missing", what)
	} else {
		r.checkAuthorityName(p.Authority)
	}
	if n := f.Values["buildRequirements"]; n != nil {
		inner, _ := r.Fields(n, "buildRequirements", "builtFrom", "BuiltFrom")
		r.renamed(inner, "buildRequirements", "BuiltFrom", "builtFrom", "")
		p.Source = r.expression(inner, "builtFrom")
	}
	if p.Source == nil {
		r.Warnf(m.Line, "%s %s has no builtFrom, so that builds of every source are attested", what, m.key())
	}
	r.objects.BuildPolicies = append(r.objects.BuildPolicies, p)
}

// expression reads a regular expression, or returns nil for an empty one.
func (r *reporter) expression(f document.Fields, field string) *regexp.Regexp {
	text, line := r.Text(f, field), f.Lines[field]
	if text == "" {
		return nil
	}
	if len(text) > maxExpression {
		r.Errorf(line, "%s: %d bytes, more than the %d allowed", field, len(text), maxExpression)
		return nil
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		r.Errorf(line, "%s: %v", field, err)
		return nil
	}
	if !anchored(tree, syntax.OpBeginText) || !anchored(tree, syntax.OpEndText) {
		r.Warnf(line, "%s: %.100q matches anywhere in a URL, also in one that only contains it; begin it with ^ and end it with $", field, text)
	}
	expression, err := regexp.Compile(text)
	if err != nil {
		r.Errorf(line, "%s: %v", field, err)
	}
	return expression
}

// anchored reports whether all that matches begins, or ends, with the text.
func anchored(re *syntax.Regexp, at syntax.Op) bool {
	switch re.Op {
	case at:
		return true
	case syntax.OpCapture:
		return anchored(re.Sub[0], at)
	case syntax.OpConcat:
		if at == syntax.OpEndText {
			return anchored(re.Sub[len(re.Sub)-1], at)
		}
		return anchored(re.Sub[0], at)
	case syntax.OpAlternate:
		for _, sub := range re.Sub {
			if !anchored(sub, at) {
				return false
			}
		}
		return true
	}
	return false
}

func (r *reporter) vulnzSigningPolicy(m Meta, f document.Fields) {
	p := VulnzSigningPolicy{Meta: m}
	p.Requirements = r.requirements(f, "imageVulnerabilityRequirements", "maximumFixableSeverity", "maximumUnfixableSeverity")
	r.objects.VulnzSigningPolicies = append(r.objects.VulnzSigningPolicies, p)
}

// Compile makes the Ruleset of one check that the policy is: an image must be named by
// its digest, scanned, and within the limits.
func (p *VulnzSigningPolicy) Compile(o Options) *policy.Ruleset {
	const kind = "VulnzSigningPolicy"
	if p == nil {
		return &policy.Ruleset{}
	}
	check := policy.Check{Name: p.Name, Type: kind, Condition: o.vulnerabilities(p.Requirements), Line: p.Line, File: p.File}
	rules := &policy.Ruleset{
		Name: rulesetName, Dialect: policy.Kritis, Source: p.File,
		Rules: []policy.Rule{{ID: kind + " " + p.Name, Evaluation: policy.RequireChecks, Checks: []policy.Check{check}, Line: p.Line, File: p.File}},
	}
	return build(rules)
}

func (r *reporter) kritisConfig(m Meta, f document.Fields) {
	const what = "KritisConfig"
	if first := r.objects.Config; first != nil {
		r.Errorf(m.Line, "%s: there can be only one, and another is at line %d", what, first.Line)
		return
	}
	c := &KritisConfig{Meta: m, CronInterval: time.Hour, ServerAddress: ":443"}
	r.objects.Config = c
	switch word := r.Text(f, "metadataBackend"); word {
	case "", backendContainerAnalysis:
	case backendGrafeas:
		c.GrafeasBackend = true
	default:
		r.Errorf(f.Lines["metadataBackend"], "metadataBackend: %.100q is not one of %s, %s", word, backendContainerAnalysis, backendGrafeas)
	}
	if text := r.Text(f, "cronInterval"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			r.Errorf(f.Lines["cronInterval"], "cronInterval: %.50q is not a duration such as 1h30m, more than nothing", text)
		}
		c.CronInterval = d
	}
	if text := r.Text(f, "serverAddr"); text != "" {
		c.ServerAddress = text
	}
	if n := f.Values["grafeas"]; n != nil {
		r.grafeasAddress(c, n)
	}
	if c.GrafeasBackend && c.GrafeasAddress == "" {
		r.Errorf(m.Line, "%s: metadataBackend %s needs grafeas.addr", what, backendGrafeas)
	}
}

func (r *reporter) grafeasAddress(c *KritisConfig, n *yaml.Node) {
	f, _ := r.Fields(n, "grafeas", "addr")
	c.GrafeasAddress = r.Text(f, "addr")
}
