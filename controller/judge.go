package controller

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/kritis"
	"github.com/gatehouse-dev/gatehouse/policy/objects"
)

// A reading is what one object of Kritis says.
type reading struct {
	text    string
	objects *kritis.Objects
	judgement
}

// broken reports whether the object cannot be understood.
func (r *reading) broken() bool { return len(r.problems) > 0 }

// readKritis reads an object of Kritis.
func readKritis(o *object) *reading {
	r := &reading{text: string(o.text)}
	var root yaml.Node
	if err := yaml.Unmarshal(o.text, &root); err != nil || len(root.Content) == 0 {
		r.objects, r.problems = &kritis.Objects{}, []string{fmt.Sprintf("it cannot be read: %v", err)}
		return r
	}
	var found document.Diagnostics
	r.objects, found = kritis.Read(o.Ref.String(), root.Content[0])
	r.problems, r.remarks = split(found)
	if o.Kind == objects.KindAttestationAuthority && !r.broken() && len(r.objects.AttestationAuthorities) == 1 {
		a := &r.objects.AttestationAuthorities[0]
		r.keys = &keyCount{usable: len(a.Keys)}
		for _, k := range a.Unusable {
			r.keys.unusable = append(r.keys.unusable, unusableKey{Index: k.Index, ID: k.ID, Message: clip(k.Why)})
		}
	}
	return r
}

// split returns what is wrong, and what is only worth saying.
func split(found document.Diagnostics) (problems, remarks []string) {
	for _, d := range found {
		if d.Severity == document.Error {
			problems = append(problems, d.Message)
		} else {
			remarks = append(remarks, d.Message)
		}
	}
	return problems, remarks
}

// readings are what the objects of Kritis in a cluster say. Those that have not changed are
// not read again.
type readings map[objects.Ref]*reading

// update reads what has changed.
func (all readings) update(there map[objects.Ref]*object) {
	for r := range all {
		if there[r] == nil {
			delete(all, r)
		}
	}
	for r, o := range there {
		if o.APIVersion == objects.GroupKritis+"/"+objects.Version && (all[r] == nil || all[r].text != string(o.text)) {
			all[r] = readKritis(o)
		}
	}
}

// A held policy is one of a namespace that images are held against.
type held struct {
	objects.Ref
	// whole is the policy; of an ImageSecurityPolicy, scanned is what scans must have
	// found, and attested that one of its authorities vouches for an image.
	whole, scanned, attested *policy.Ruleset
	limits                   policy.Vulnerabilities
	remarks                  []string
}

// namespaces returns the policies of Kritis that can be understood, by namespace.
func (all readings) namespaces(options kritis.Options) map[string][]held {
	authorities := make(map[string][]kritis.AttestationAuthority)
	for _, r := range all {
		for _, a := range r.objects.AttestationAuthorities {
			authorities[a.Namespace] = append(authorities[a.Namespace], a)
		}
	}
	byNamespace := make(map[string][]held)
	for ref, r := range all {
		if r.broken() {
			continue
		}
		alone := kritis.Objects{AttestationAuthorities: authorities[ref.Namespace], GenericAttestationPolicies: r.objects.GenericAttestationPolicies, ImageSecurityPolicies: r.objects.ImageSecurityPolicies}
		if len(alone.GenericAttestationPolicies)+len(alone.ImageSecurityPolicies) == 0 {
			continue
		}
		h := held{Ref: ref}
		var found document.Diagnostics
		h.whole, found = alone.Compile(options)
		_, h.remarks = split(found)
		for _, isp := range alone.ImageSecurityPolicies {
			h.scanned, h.attested, h.limits = apart(isp, authorities[ref.Namespace], options)
		}
		byNamespace[ref.Namespace] = append(byNamespace[ref.Namespace], h)
	}
	for _, list := range byNamespace {
		slices.SortFunc(list, func(a, b held) int { return a.Compare(b.Ref) })
	}
	return byNamespace
}

// apart compiles the two ways to satisfy an ImageSecurityPolicy, each by itself: Kritis'
// pass looked at what scans have found whether an image was attested or not.
func apart(isp kritis.ImageSecurityPolicy, authorities []kritis.AttestationAuthority, options kritis.Options) (scanned, attested *policy.Ruleset, limits policy.Vulnerabilities) {
	gap := kritis.GenericAttestationPolicy{Meta: isp.Meta, Authorities: isp.Authorities}
	options.Authorities = kritis.AnyAuthority
	attested, _ = (&kritis.Objects{AttestationAuthorities: authorities, GenericAttestationPolicies: []kritis.GenericAttestationPolicy{gap}}).Compile(options)
	isp.Authorities = nil
	scanned, _ = (&kritis.Objects{ImageSecurityPolicies: []kritis.ImageSecurityPolicy{isp}}).Compile(options)
	for _, rule := range scanned.Rules {
		for _, check := range rule.Checks {
			if either, ok := check.Condition.(policy.AnyOf); ok {
				for _, c := range either.Of {
					if v, ok := c.(policy.Vulnerabilities); ok {
						limits = v
					}
				}
			}
		}
	}
	return scanned, attested, limits
}
