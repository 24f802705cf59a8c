package kritis

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/names"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// ImportOptions say what Kritis' objects meant, and where they go.
type ImportOptions struct {
	Options
	// Project is the id of the project that gets the policies and attestors; ""
	// is "default".
	Project string
}

// An Imported is what Kritis' objects amount to in the languages of Binary
// Authorization. A pod must be allowed by both policies.
type Imported struct {
	// Policy and Attestors are YAML for package binauthz.
	Policy, Attestors []byte
	// Platform is a platform policy, as YAML, for what a policy cannot say, or nil.
	Platform []byte
	// Report tells what became of everything, in the order of files and lines.
	Report []Change
}

// Changed reports whether anything means something else than it did.
func (i *Imported) Changed() bool {
	return slices.ContainsFunc(i.Report, func(c Change) bool { return c.Action != Kept })
}

// A Change says what became of something that stands at a line.
type Change struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Action Action `json:"action"`
	// Effect says which way a change goes; "" if images are let in as before.
	Effect Effect `json:"effect,omitempty"`
	Code   Code   `json:"code"`
	What   string `json:"what"`
}

// String returns "FILE:LINE: ACTION: WHAT", with the effect before WHAT.
func (c Change) String() string {
	text := fmt.Sprintf("%s:%d: %s: ", c.File, c.Line, c.Action)
	if c.Effect != "" {
		text += string(c.Effect) + ": "
	}
	return text + c.What
}

// Action is what became of something.
type Action string

// The actions.
const (
	Kept    Action = "kept"
	Changed Action = "changed"
	Dropped Action = "dropped"
)

// Effect is which images a change lets in.
type Effect string

// The effects.
const (
	AllowsMore Effect = "allows more"
	DeniesMore Effect = "denies more"
	Differs    Effect = "allows more and denies more"
)

// Code names a kind of change for programs.
type Code string

// The codes.
const (
	CodePolicy       Code = "POLICY"        // the policy as a whole
	CodeDefault      Code = "DEFAULT"       // namespaces without policies
	CodeRepository   Code = "REPOSITORY"    // an attestation counts in every repository
	CodeKeys         Code = "KEYS"          // keys that Kritis did not use
	CodePattern      Code = "PATTERN"       // a pattern that is the same, or cannot be said
	CodeGlobal       Code = "GLOBAL"        // a pattern covers in every namespace
	CodeAlternatives Code = "ALTERNATIVES"  // one of several policies was enough
	CodeAnyNote      Code = "ANY_NOTE"      // an attestation counts by its project, not by its note
	CodeAllowlist    Code = "ALLOWLIST"     // of an ImageSecurityPolicy
	CodeAuthority    Code = "AUTHORITY"     // an attestation in place of a scan
	CodeCVE          Code = "CVE"           // a vulnerability that is let by
	CodeUnscanned    Code = "UNSCANNED"     // what nothing is known of
	CodeNotAdmission Code = "NOT_ADMISSION" // takes no part in admission
)

const (
	defaultProject = "default"
	// maxClauses bounds how alternatives are multiplied out.
	maxClauses = 64
	// maxRefs is the quota of a policy for references to attestors, and maxProjects
	// that of a check for projects.
	maxRefs     = 200
	maxProjects = 10
)

// Import turns the policies into a policy of Binary Authorization with its attestors
// and, for what that cannot say, a platform policy. Where the meaning cannot be kept,
// more is denied rather than allowed, except for what the report says. It returns nil
// if there is an error among the diagnostics.
func (o *Objects) Import(options ImportOptions) (*Imported, document.Diagnostics) {
	if o == nil {
		return nil, document.Diagnostics{{File: "kritis", Message: "there are no objects to import"}}
	}
	if options.Project == "" {
		options.Project = defaultProject
	}
	if !names.IsSegment(options.Project) {
		return nil, document.Diagnostics{{File: "kritis", Message: fmt.Sprintf("%.100q is not the id of a project", options.Project)}}
	}
	i := importer{objects: o, options: options, authorities: o.authorities(), namespaces: o.namespaces(), attestorsOf: map[string]bool{}, checked: map[string]bool{}, rules: object{}}
	for _, namespace := range slices.Sorted(maps.Keys(i.namespaces)) {
		i.namespace(namespace, i.namespaces[namespace])
	}
	i.patternOf = map[patternOf]bool{}
	for n := range o.GenericAttestationPolicies {
		gap := &o.GenericAttestationPolicies[n]
		for _, p := range gap.Patterns {
			i.patternOf[patternOf{gap, p.Pattern.String()}] = true
		}
	}
	i.exempt()
	i.reportDefault()
	i.reportAuthorities()
	i.reportOthers()
	if i.refs > maxRefs {
		return nil, document.Diagnostics{{File: "kritis", Message: fmt.Sprintf("%d references to attestors, more than the %d that a policy may have", i.refs, maxRefs)}}
	}
	return i.result()
}

// object is an object of the texts that are written. Its fields come out sorted, as
// gcloud sorts them.
type object map[string]any

type importer struct {
	objects     *Objects
	options     ImportOptions
	authorities map[string]*AttestationAuthority
	namespaces  map[string]*policies
	attestorsOf map[string]bool // authorities that become attestors
	checked     map[string]bool // authorities whose keys are in the platform policy
	refs        int
	rules       object // of namespaces
	patterns    []any
	patternOf   map[patternOf]bool
	checkSets   []any
	report      []Change
}

// patternOf is a policy and the text of one of its patterns.
type patternOf struct {
	gap  *GenericAttestationPolicy
	text string
}

func (i *importer) add(at Meta, line int, action Action, effect Effect, code Code, format string, args ...any) {
	i.report = append(i.report, Change{File: at.File, Line: max(line, 1), Action: action, Effect: effect, Code: code, What: fmt.Sprintf(format, args...)})
}

// attestor is what an authority is called: its namespace has no dot, so that two are
// never called the same.
func (i *importer) attestor(namespace, name string) string {
	return "projects/" + i.options.Project + "/attestors/" + namespace + "." + name
}

func (i *importer) namespace(namespace string, p *policies) {
	var checks []any
	if len(p.gaps) > 0 {
		i.rules[namespace], checks = i.attestations(namespace, p.gaps)
	} else if i.options.DefaultDeny {
		i.rules[namespace] = rule("ALWAYS_ALLOW", nil)
	}
	for _, isp := range p.isps {
		checks = append(checks, i.security(isp))
	}
	if len(checks) > 0 {
		i.checkSets = append(i.checkSets, object{
			"displayName": "namespace " + namespace,
			"scope":       object{"kubernetesNamespace": namespace},
			"checks":      checks,
		})
	}
}

func rule(mode string, attestors []string) object {
	r := object{"enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG", "evaluationMode": mode}
	if len(attestors) > 0 {
		r["requireAttestationsBy"] = attestors
	}
	return r
}

func (i *importer) reportDefault() {
	at := Meta{File: i.objects.source(), Line: 1}
	if all := i.namespaces; len(all) > 0 {
		at = all[slices.Sorted(maps.Keys(all))[0]].first()
	}
	if at.File == "" {
		at.File = "kritis"
	}
	if i.options.DefaultDeny {
		i.add(at, at.Line, Changed, DeniesMore, CodeDefault, "a namespace without policies admits nothing; Kritis admitted everything there")
		return
	}
	i.add(at, at.Line, Kept, "", CodeDefault, "a namespace without policies admits everything, as in Kritis")
}

func (i *importer) reportAuthorities() {
	for n := range i.objects.AttestationAuthorities {
		a := &i.objects.AttestationAuthorities[n]
		name := AttestorName(a.Namespace, a.Name)
		if i.attestorsOf[name] {
			i.add(a.Meta, a.Line, Changed, AllowsMore, CodeRepository, "AttestationAuthority %s is attestor %s: an attestation counts for its digest in every repository, not only in the one that was signed", a.key(), i.attestor(a.Namespace, a.Name))
		}
		if i.checked[name] {
			i.add(a.Meta, a.Line, Changed, AllowsMore, CodeRepository, "AttestationAuthority %s is in a check of the platform policy: an attestation counts for its digest in every repository, not only in the one that was signed", a.key())
		}
		switch {
		case !i.attestorsOf[name] && !i.checked[name]:
			i.add(a.Meta, a.Line, Dropped, "", CodeNotAdmission, "AttestationAuthority %s is no attestor, since no rule names it", a.key())
		case slices.ContainsFunc(a.Keys, func(k *signature.PublicKey) bool { return k.Algorithm() != signature.PGP }):
			i.add(a.Meta, a.Line, Changed, AllowsMore, CodeKeys, "the PKIX keys of AttestationAuthority %s count; Kritis used PGP keys only", a.key())
		}
	}
}

func (i *importer) reportOthers() {
	for n := range i.objects.BuildPolicies {
		p := &i.objects.BuildPolicies[n]
		i.add(p.Meta, p.Line, Dropped, "", CodeNotAdmission, "BuildPolicy %s says what a signer signs, not what may run", p.key())
	}
	for n := range i.objects.VulnzSigningPolicies {
		p := &i.objects.VulnzSigningPolicies[n]
		i.add(p.Meta, p.Line, Dropped, "", CodeNotAdmission, "VulnzSigningPolicy %s says what a signer signs, not what may run", p.key())
	}
	if c := i.objects.Config; c != nil {
		i.add(c.Meta, c.Line, Dropped, "", CodeNotAdmission, "KritisConfig %s configures Kritis' server", c.key())
	}
}

func (i *importer) result() (*Imported, document.Diagnostics) {
	mode := "ALWAYS_ALLOW"
	if i.options.DefaultDeny {
		mode = "ALWAYS_DENY"
	}
	text := object{
		"name":                       "projects/" + i.options.Project + "/policy",
		"description":                "Imported from the policies of Kritis",
		"globalPolicyEvaluationMode": "DISABLE",
		"defaultAdmissionRule":       rule(mode, nil),
	}
	if len(i.patterns) > 0 {
		text["admissionWhitelistPatterns"] = i.patterns
	}
	if len(i.rules) > 0 {
		text["kubernetesNamespaceAdmissionRules"] = i.rules
	}
	result := &Imported{Report: i.report}
	slices.SortStableFunc(result.Report, func(a, b Change) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		return a.Line - b.Line
	})
	var err error
	if result.Policy, err = marshal(text); err == nil {
		result.Attestors, err = marshal(i.attestors())
	}
	if err == nil && len(i.checkSets) > 0 {
		result.Platform, err = marshal(i.platform())
	}
	if err != nil {
		return nil, document.Diagnostics{{File: "kritis", Message: "writing what was imported: " + err.Error()}}
	}
	return result, nil
}

func (i *importer) attestors() []any {
	list := []any{}
	for _, name := range slices.Sorted(maps.Keys(i.attestorsOf)) {
		a := i.authorities[name]
		var keys []any
		for _, k := range a.Keys {
			key := object{"id": k.ID()}
			if k.Algorithm() == signature.PGP {
				key["asciiArmoredPgpPublicKey"] = k.Marshal()
			} else {
				key["pkixPublicKey"] = object{"publicKeyPem": k.Marshal(), "signatureAlgorithm": string(k.Algorithm())}
			}
			keys = append(keys, key)
		}
		note := object{"noteReference": a.Note}
		if len(keys) > 0 {
			note["publicKeys"] = keys
		}
		list = append(list, object{
			"name":                 i.attestor(a.Namespace, a.Name),
			"description":          "AttestationAuthority " + a.key() + " of Kritis",
			"userOwnedGrafeasNote": note,
		})
	}
	return list
}

// platform is the platform policy. Its last check set is that of all other namespaces,
// where there is nothing to check.
func (i *importer) platform() object {
	gke := object{"checkSets": append(i.checkSets, object{"displayName": "namespaces without checks"})}
	if i.options.KritisImages {
		gke["imageAllowlist"] = object{"allowPattern": kritisImages()}
	}
	return object{
		"name":        "projects/" + i.options.Project + "/platforms/gke/policies/kritis",
		"description": "Imported from the policies of Kritis",
		"gkePolicy":   gke,
	}
}

// marshal writes a text in the form that all texts are brought into.
func marshal(v any) ([]byte, error) {
	text, err := yaml.Marshal(v)
	if err != nil {
		return nil, err
	}
	return document.Format(text)
}

// cut bounds a display name.
func cut(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return s[:most-3] + "..."
}
