package controller

import (
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/kritis"
	"github.com/gatehouse-dev/gatehouse/policy/objects"
)

// A reading is what one object says by itself.
type reading struct {
	text   string
	object *objects.Object
	// kritis is the object if it is one of Kritis'.
	kritis *kritis.Objects
}

// broken reports whether the object cannot be understood.
func (r *reading) broken() bool { return r.object == nil || r.object.Broken() }

func read(o *object) *reading {
	r := &reading{text: string(o.text)}
	r.object, _ = objects.Parse(o.text) // whose name was read before
	if o.APIVersion != objects.GroupKritis+"/"+objects.Version {
		return r
	}
	r.kritis = &kritis.Objects{}
	var root yaml.Node
	if err := yaml.Unmarshal(o.text, &root); err == nil && len(root.Content) > 0 {
		r.kritis, _ = kritis.Read(o.String(), root.Content[0])
	}
	return r
}

// readings are what the objects of a cluster say. Those that have not changed are not read
// again.
type readings map[objects.Ref]*reading

// update reads what has changed.
func (all readings) update(there map[objects.Ref]*object) {
	for r := range all {
		if there[r] == nil {
			delete(all, r)
		}
	}
	for r, o := range there {
		if all[r] == nil || all[r].text != string(o.text) {
			all[r] = read(o)
		}
	}
}

// judge says what there is to say of an object: what gates have made of this version, or,
// until they have it, what it says by itself.
func (all readings) judge(o *object, made *objects.Outcome) judgement {
	r := all[o.Ref]
	if r == nil || r.object == nil {
		return judgement{problems: []string{"it cannot be read"}}
	}
	problems, keys := r.object.Problems, r.object.Keys
	if has(made, o) {
		problems, keys = made.Problems[o.Ref], made.KeysOf(o.Ref)
	}
	var j judgement
	for _, p := range problems {
		text := p.Message
		if p.Field != "" {
			text = p.Field + ": " + text
		}
		switch {
		case r.broken() && p.Severity == document.Error:
			j.problems = append(j.problems, text)
		case p.Severity == document.Error, p.Reason != objects.Doubtful && p.Reason != objects.Invalid:
			j.partly = append(j.partly, text)
			if j.reason == "" {
				j.reason = string(p.Reason)
			}
		default:
			j.remarks = append(j.remarks, text)
		}
	}
	if attests(o.Kind) && !r.broken() {
		j.keys = &keyCount{usable: keys.Usable}
		for _, k := range keys.Unusable {
			j.keys.unusable = append(j.keys.unusable, unusableKey{Index: k.Index, ID: k.ID, Message: clip(k.Why)})
		}
	}
	return j
}

// has reports whether an outcome is that of this version of an object, too.
func has(made *objects.Outcome, o *object) bool {
	if made == nil {
		return false
	}
	i, found := slices.BinarySearchFunc(made.Objects, o.Ref, func(m *objects.Object, r objects.Ref) int { return m.Compare(r) })
	return found && made.Objects[i].UID == o.UID && made.Objects[i].Generation == o.Generation
}

// attests reports whether objects of a kind have keys.
func attests(kind string) bool {
	return kind == objects.KindAttestationAuthority || kind == objects.KindAttestor || kind == objects.KindClusterAttestor
}

// A held policy is one of a namespace that images are held against.
type held struct {
	objects.Ref
	// whole is the policy; of an ImageSecurityPolicy, scanned is what scans must have
	// found, and attested that one of its authorities vouches for an image.
	whole, scanned, attested *policy.Ruleset
	limits                   policy.Vulnerabilities
	// signsFor is the authority that it has images attested by, "" if it has none.
	signsFor string
}

// compiled are the policies of one namespace, and what they were compiled from.
type compiled struct {
	from []*reading
	held []held
}

// namespaces returns the policies of Kritis that can be understood, by namespace. Those of
// namespaces whose objects are the same as the last time are not compiled again.
func (c *Controller) namespaces() map[string][]held {
	objectsOf := make(map[string][]objects.Ref)
	for ref, r := range c.readings {
		if r.kritis != nil && !r.broken() {
			objectsOf[ref.Namespace] = append(objectsOf[ref.Namespace], ref)
		}
	}
	next := make(map[string]compiled, len(objectsOf))
	policies := make(map[string][]held)
	for namespace, refs := range objectsOf {
		slices.SortFunc(refs, objects.Ref.Compare)
		from := make([]*reading, 0, len(refs))
		for _, ref := range refs {
			from = append(from, c.readings[ref])
		}
		was := c.compiled[namespace]
		if !slices.Equal(was.from, from) {
			was = compiled{from, c.compile(refs, from)}
		}
		if next[namespace] = was; len(was.held) > 0 {
			policies[namespace] = was.held
		}
	}
	c.compiled = next
	return policies
}

// compile compiles the policies of one namespace, each by itself.
func (c *Controller) compile(refs []objects.Ref, from []*reading) []held {
	var authorities []kritis.AttestationAuthority
	for _, r := range from {
		authorities = append(authorities, r.kritis.AttestationAuthorities...)
	}
	var list []held
	for i, r := range from {
		alone := kritis.Objects{AttestationAuthorities: authorities, GenericAttestationPolicies: r.kritis.GenericAttestationPolicies, ImageSecurityPolicies: r.kritis.ImageSecurityPolicies}
		if len(alone.GenericAttestationPolicies)+len(alone.ImageSecurityPolicies) == 0 {
			continue
		}
		h := held{Ref: refs[i]}
		h.whole, _ = alone.Compile(c.Kritis)
		for _, isp := range alone.ImageSecurityPolicies {
			h.scanned, h.attested, h.limits = apart(isp, authorities, c.Kritis)
			if isp.PrivateKey && len(isp.Authorities) == 1 {
				h.signsFor = isp.Authorities[0].Text
			}
		}
		list = append(list, h)
	}
	return list
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
