package admin

import (
	"context"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
	"github.com/gatehouse-dev/gatehouse/policy/platform"
)

// A kind of document, and what is needed to read and write one.
type kind struct {
	noun, form                  string
	get, update, create, delete metadata.Permission
	// implied documents are there even if they were never written; standard is
	// what they then say.
	implied  bool
	standard func(name string) ([]byte, error)
	// parse checks a text.
	parse func(name string, body []byte) (parsed, error)
	// fits checks a valid text against the version in force; nil is no check.
	fits func(current Version, next parsed) error
}

// A parsed text is valid.
type parsed struct {
	etag string // "" if the writer does not care
	// refers are the attestors that it names.
	refers []string
	// note is the note of an attestor.
	note string
	// encode returns the canonical form with an etag and a time.
	encode func(etag, updateTime string) ([]byte, error)
}

var (
	policyKind = &kind{
		noun: "policy", form: "projects/*/policy", get: metadata.PolicyGet, update: metadata.PolicyUpdate,
		implied: true, standard: standardPolicy, parse: parsePolicy,
	}
	systemKind = &kind{
		noun: "system policy", form: "locations/*/policy", get: metadata.PolicyGet, update: metadata.PolicyUpdate,
		implied: true, standard: standardSystemPolicy, parse: parsePolicy,
	}
	attestorKind = &kind{
		noun: "attestor", form: "projects/*/attestors/*", get: metadata.AttestorsGet, update: metadata.AttestorsUpdate,
		create: metadata.AttestorsCreate, delete: metadata.AttestorsDelete, parse: parseAttestor, fits: sameNote,
	}
	platformKind = &kind{
		noun: "platform policy", form: "projects/*/platforms/*/policies/*", get: metadata.PlatformPoliciesGet, update: metadata.PlatformPoliciesReplace,
		create: metadata.PlatformPoliciesCreate, delete: metadata.PlatformPoliciesDelete, parse: parsePlatform,
	}
)

func parsePolicy(name string, body []byte) (parsed, error) {
	p, diags := binauthz.ParsePolicy("policy", body)
	if p == nil {
		return parsed{}, invalid("policy", diags)
	}
	p.Name = name
	next := parsed{etag: p.ETag, encode: func(etag, updateTime string) ([]byte, error) {
		p.ETag, p.UpdateTime = etag, updateTime
		return p.EncodeJSON()
	}}
	named := map[string]bool{}
	for _, rule := range append([]binauthz.SpecificRule{{AdmissionRule: p.Default}}, p.Specific...) {
		for _, a := range rule.Attestors {
			if !named[a.Name] {
				named[a.Name] = true
				next.refers = append(next.refers, a.Name)
			}
		}
	}
	return next, nil
}

// standardPolicy is Google's for a project that never had one.
func standardPolicy(name string) ([]byte, error) {
	const text = `{"globalPolicyEvaluationMode": "ENABLE",
		"defaultAdmissionRule": {"evaluationMode": "ALWAYS_ALLOW", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG"}}`
	return encodeStandard(name, text)
}

// standardSystemPolicy is the one that is built in.
func standardSystemPolicy(name string) ([]byte, error) {
	return encodeStandard(name, binauthz.SystemPolicy())
}

func encodeStandard(name, text string) ([]byte, error) {
	p, err := parsePolicy(name, []byte(text))
	if err != nil {
		return nil, err
	}
	bare, err := p.encode("", "")
	if err != nil {
		return nil, err
	}
	return p.encode(newETag(name, 0, bare), "")
}

func parseAttestor(name string, body []byte) (parsed, error) {
	a, diags := binauthz.ParseAttestor("attestor", body, name)
	if a == nil {
		return parsed{}, invalid("attestor", diags)
	}
	a.DelegationServiceAccount = "" // Google's to fill in; here nothing is delegated
	return parsed{etag: a.ETag, note: a.Note, encode: func(etag, updateTime string) ([]byte, error) {
		a.ETag, a.UpdateTime = etag, updateTime
		return a.EncodeJSON()
	}}, nil
}

// sameNote keeps the note of an attestor: it is what his attestations are filed
// under.
func sameNote(current Version, next parsed) error {
	a, err := storedAttestor(current)
	if err == nil && a.Note != next.note {
		err = metadata.Errorf(metadata.InvalidArgument, "noteReference of %q is %q, and immutable; got %q", current.Name, a.Note, next.note)
	}
	return err
}

// storedAttestor reads an attestor that was stored.
func storedAttestor(v Version) (*binauthz.Attestor, error) {
	a, diags := binauthz.ParseAttestor(v.Name, v.Content, v.Name)
	if a == nil {
		return nil, fmt.Errorf("reading the stored attestor %q: %w", v.Name, diags.Err())
	}
	return a, nil
}

// outputOnly are the fields of a platform policy that the server writes.
var outputOnly = [...]string{"name", "etag", "updateTime"}

// parsePlatform keeps a platform policy as it was written, but for the order of its
// fields and those that the server writes: it is JSON.
func parsePlatform(name string, body []byte) (parsed, error) {
	p, diags := platform.ParsePolicy("platform policy", body)
	if p == nil {
		return parsed{}, invalid("platform policy", diags)
	}
	fields := map[string]jsontext.Value{}
	if err := json.Unmarshal(body, &fields); err != nil {
		return parsed{}, metadata.Errorf(metadata.InvalidArgument, "platform policy is invalid: not JSON: %w", err)
	}
	return parsed{etag: p.ETag, encode: func(etag, updateTime string) ([]byte, error) {
		for i, value := range []string{name, etag, updateTime} {
			if delete(fields, outputOnly[i]); value == "" {
				continue
			}
			text, err := json.Marshal(value)
			if err != nil {
				return nil, err
			}
			fields[outputOnly[i]] = text
		}
		text, err := json.Marshal(fields)
		if err != nil {
			return nil, err
		}
		canonical := jsontext.Value(text)
		err = canonical.Canonicalize(jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false))
		return canonical, err
	}}, nil
}

// checkReferred asks whether the caller may name the attestors of a policy, and whether
// they exist.
func checkReferred(ctx context.Context, c *metadata.Call, name string, refers []string) error {
	var missing []string
	for _, attestor := range refers {
		if err := c.Need(ctx, metadata.AttestorsGet, attestor); err != nil {
			return err
		}
		switch d, err := c.Store().Document(ctx, attestor, 0); {
		case metadata.KindOf(err) == metadata.NotFound:
			missing = append(missing, attestor)
		case err != nil:
			return err
		case d.Deleted():
			missing = append(missing, attestor)
		}
	}
	if len(missing) > 0 {
		return metadata.ReferredMissing(name, missing)
	}
	return nil
}
