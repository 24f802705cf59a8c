package binauthz

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// An object is what is encoded: names of the REST API, and as values text, objects
// and lists.
type object map[string]any

// set adds a field unless it is empty, as the REST API does.
func (o object) set(name, text string) {
	if text != "" {
		o[name] = text
	}
}

// EncodeJSON returns the policy in the form of the REST API, on one line, with
// sorted keys and enums by name. What [ParsePolicy] reads from it means the same.
func (p *Policy) EncodeJSON() ([]byte, error) { return p.object().json() }

// EncodeYAML returns the policy as "gcloud container binauthz policy export"
// writes it.
func (p *Policy) EncodeYAML() ([]byte, error) { return p.object().yaml() }

// EncodeJSON returns the attestor in the form of the REST API, version v1, on one
// line, with sorted keys and enums by name. What [ParseAttestor] reads from it
// means the same.
func (a *Attestor) EncodeJSON() ([]byte, error) { return a.object().json() }

// EncodeYAML returns the attestor as "gcloud container binauthz attestors
// describe" writes it.
func (a *Attestor) EncodeYAML() ([]byte, error) { return a.object().yaml() }

func (p *Policy) object() object {
	o := object{"defaultAdmissionRule": p.Default.object()}
	o.set("name", p.Name)
	o.set("description", p.Description)
	o.set("etag", p.ETag)
	o.set("updateTime", p.UpdateTime)
	switch p.Global {
	case GlobalEnable:
		o.set("globalPolicyEvaluationMode", "ENABLE")
	case GlobalDisable:
		o.set("globalPolicyEvaluationMode", "DISABLE")
	}
	var patterns []any
	for _, e := range p.Exempt {
		patterns = append(patterns, object{"namePattern": e.Pattern.String()})
	}
	if patterns != nil {
		o["admissionWhitelistPatterns"] = patterns
	}
	for _, kind := range ruleKinds() {
		rules := object{}
		for _, s := range p.Specific {
			if key, found := strings.CutPrefix(s.ID, kind.noun+" for "); found {
				rules[key] = s.object()
			}
		}
		if len(rules) > 0 {
			o[kind.field] = rules
		}
	}
	return o
}

func (r AdmissionRule) object() object {
	o := object{"evaluationMode": "ALWAYS_DENY", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG"}
	switch r.Evaluation {
	case policy.AlwaysAllow:
		o["evaluationMode"] = "ALWAYS_ALLOW"
	case policy.RequireChecks:
		o["evaluationMode"] = "REQUIRE_ATTESTATION"
	}
	if r.DryRun {
		o["enforcementMode"] = "DRYRUN_AUDIT_LOG_ONLY"
	}
	var attestors []any
	for _, a := range r.Attestors {
		attestors = append(attestors, a.Name)
	}
	if attestors != nil {
		o["requireAttestationsBy"] = attestors
	}
	switch u := r.OnUnavailable; {
	case u.Warn:
		o["onUnavailable"] = "warn"
	case u.LastAllowedWithin > 0:
		o["onUnavailable"] = object{"allowIfLastAllowedWithin": u.LastAllowedWithin.String()}
	}
	return o
}

func (a *Attestor) object() object {
	note := object{"noteReference": a.Note}
	note.set("delegationServiceAccountEmail", a.DelegationServiceAccount)
	var keys []any
	for i, k := range a.Keys {
		written := WrittenKey{Text: k.Marshal()}
		if i < len(a.Written) {
			written = a.Written[i]
		}
		keys = append(keys, keyObject(k, written))
	}
	if keys != nil {
		note["publicKeys"] = keys
	}
	o := object{"name": a.Name, "userOwnedGrafeasNote": note}
	o.set("description", a.Description)
	o.set("etag", a.ETag)
	o.set("updateTime", a.UpdateTime)
	return o
}

func keyObject(k *signature.PublicKey, written WrittenKey) object {
	o := object{"id": k.ID()}
	o.set("comment", written.Comment)
	if k.Algorithm() == signature.PGP {
		o["asciiArmoredPgpPublicKey"] = written.Text
	} else {
		o["pkixPublicKey"] = object{"publicKeyPem": written.Text, "signatureAlgorithm": string(k.Algorithm())}
	}
	return o
}

func (o object) json() ([]byte, error) {
	text, err := json.Marshal(o, json.Deterministic(true))
	if err != nil {
		return nil, fmt.Errorf("encoding JSON: %w", err)
	}
	return text, nil
}

func (o object) yaml() ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	enc.CompactSeqIndent()
	if err := enc.Encode(o.node()); err != nil {
		return nil, fmt.Errorf("encoding YAML: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("encoding YAML: %w", err)
	}
	return b.Bytes(), nil
}

func (o object) node() *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, key := range slices.Sorted(maps.Keys(o)) {
		n.Content = append(n.Content, textNode(key), node(o[key]))
	}
	return n
}

func node(value any) *yaml.Node {
	switch v := value.(type) {
	case object:
		return v.node()
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range v {
			n.Content = append(n.Content, node(item))
		}
		return n
	case string:
		return textNode(v)
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
}

// textNode returns text, in quotes where it would read as something else, such as
// a time.
func textNode(text string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Value: text}
	if n.ShortTag() != tagText {
		n.Style = yaml.SingleQuotedStyle
	}
	n.Tag = tagText
	return n
}

// tagText is the tag of text in YAML.
const tagText = "!!str"

// ParseAttestor parses and checks one attestor, whose name is given: what the text
// says of it is ignored, as the API does. The Attestor is nil if there is an error
// among the diagnostics.
func ParseAttestor(file string, data []byte, name string) (*Attestor, document.Diagnostics) {
	r := newReporter(file)
	var a Attestor
	if root := r.Load(data, MaxAttestors); root != nil {
		if root.Kind == yaml.MappingNode {
			rename(root, name)
		}
		a, _ = r.readAttestor(root)
	}
	diags := r.Diagnostics()
	if r.Erred() {
		return nil, diags
	}
	return &a, diags
}

// rename makes an object have the name, whatever it had.
func rename(n *yaml.Node, name string) {
	value := &yaml.Node{Kind: yaml.ScalarNode, Tag: tagText, Value: name, Line: n.Line}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "name" {
			value.Line = n.Content[i+1].Line
			n.Content[i+1] = value
			return
		}
	}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: tagText, Value: "name", Line: n.Line}, value)
}
