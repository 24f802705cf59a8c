package objects

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/names"
)

const (
	// Group is that of Gatehouse's own kinds.
	Group = "gatehouse.dev"
	// GroupKritis is that of Kritis.
	GroupKritis = "kritis.grafeas.io"
	// Version is that of all kinds.
	Version = "v1beta1"

	// MaxObject bounds an object: what an API server takes, 1.5 MiB, as JSON that may
	// be spelled out.
	MaxObject = 3 << 20
)

// The kinds of group gatehouse.dev.
const (
	KindClusterPolicy    = "ClusterPolicy"
	KindPolicy           = "Policy"
	KindClusterAttestor  = "ClusterAttestor"
	KindAttestor         = "Attestor"
	KindClusterExemption = "ClusterExemption"
	KindExemption        = "Exemption"
	KindDelegation       = "Delegation"
	KindRolloutHint      = "RolloutHint"
)

// The kinds of group kritis.grafeas.io.
const (
	KindImageSecurityPolicy      = "ImageSecurityPolicy"
	KindGenericAttestationPolicy = "GenericAttestationPolicy"
	KindAttestationAuthority     = "AttestationAuthority"
	KindBuildPolicy              = "BuildPolicy"
	KindKritisConfig             = "KritisConfig"
)

// A Kind is a kind of objects that is read here.
type Kind struct {
	Group, Kind string
	// Plural is what the API server calls the resource.
	Plural     string
	Namespaced bool
}

// APIVersion is what objects of the kind have in that field.
func (k Kind) APIVersion() string { return k.Group + "/" + Version }

// Kinds returns all kinds, Gatehouse's first.
func Kinds() []Kind {
	return []Kind{
		{Group, KindClusterPolicy, "clusterpolicies", false},
		{Group, KindPolicy, "policies", true},
		{Group, KindClusterAttestor, "clusterattestors", false},
		{Group, KindAttestor, "attestors", true},
		{Group, KindClusterExemption, "clusterexemptions", false},
		{Group, KindExemption, "exemptions", true},
		{Group, KindDelegation, "delegations", false},
		{Group, KindRolloutHint, "rollouthints", true},
		{GroupKritis, KindImageSecurityPolicy, "imagesecuritypolicies", true},
		{GroupKritis, KindGenericAttestationPolicy, "genericattestationpolicies", true},
		{GroupKritis, KindAttestationAuthority, "attestationauthorities", true},
		{GroupKritis, KindBuildPolicy, "buildpolicies", true},
		{GroupKritis, KindKritisConfig, "kritisconfigs", false},
	}
}

// KindOf returns the kind of that name in a group.
func KindOf(apiVersion, kind string) (Kind, bool) {
	all := Kinds()
	i := slices.IndexFunc(all, func(k Kind) bool { return k.APIVersion() == apiVersion && k.Kind == kind })
	if i < 0 {
		return Kind{}, false
	}
	return all[i], true
}

// A Ref names an object of a cluster.
type Ref struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
}

// String returns "KIND NAMESPACE/NAME" or "KIND NAME".
func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}

// Compare orders by group, kind, namespace and name.
func (r Ref) Compare(o Ref) int {
	return cmp.Or(strings.Compare(r.APIVersion, o.APIVersion), strings.Compare(r.Kind, o.Kind),
		strings.Compare(r.Namespace, o.Namespace), strings.Compare(r.Name, o.Name))
}

// Check returns why nothing can have the name.
func (r Ref) Check() error {
	k, ok := KindOf(r.APIVersion, r.Kind)
	switch {
	case !ok:
		return fmt.Errorf("there is no kind %.100q of %.100q here%s", r.Kind, r.APIVersion, nearest(r))
	case !names.IsSubdomain(r.Name):
		return fmt.Errorf("%s: name %.100q is not one that an object can have", r.Kind, r.Name)
	case k.Namespaced && r.Namespace == "":
		return fmt.Errorf("%s %.100q: metadata.namespace is missing", r.Kind, r.Name)
	case k.Namespaced && !names.IsLabel(r.Namespace):
		return fmt.Errorf("%s %.100q: namespace %.100q is none", r.Kind, r.Name, r.Namespace)
	case !k.Namespaced && r.Namespace != "":
		return fmt.Errorf("%s %.100q is in no namespace, and %.100q is given", r.Kind, r.Name, r.Namespace)
	}
	return nil
}

// nearest says which kind was meant: one of another version, or one that is spelt alike.
func nearest(r Ref) string {
	var kinds []string
	group, _, _ := strings.Cut(r.APIVersion, "/")
	for _, k := range Kinds() {
		if k.Group != group {
			continue
		}
		if k.Kind == r.Kind {
			return "; want apiVersion " + k.APIVersion()
		}
		kinds = append(kinds, k.Kind)
	}
	return document.Suggest(r.Kind, kinds)
}

// A Meta is what an API server says of an object.
type Meta struct {
	Ref
	UID        string    `json:"uid,omitempty"`
	Generation int64     `json:"generation,omitzero"`
	Created    time.Time `json:"creationTimestamp,omitzero"`
}

// Strip reads which object a text, JSON, is, and returns it without what does not bear
// on its meaning: its status, labels, annotations, and what the API server keeps about
// it. The same object gives the same bytes. What is wrong with it beyond its name is
// left in, for [Parse] to tell.
func Strip(object []byte) (Meta, []byte, error) {
	if len(object) > MaxObject {
		return Meta{}, nil, fmt.Errorf("the object has %d bytes, more than the %d allowed", len(object), MaxObject)
	}
	fields := map[string]jsontext.Value{}
	if err := json.Unmarshal(object, &fields); err != nil {
		return Meta{}, nil, fmt.Errorf("the object is not JSON: %w", err)
	}
	var m Meta
	var meta struct {
		Name              string    `json:"name"`
		Namespace         string    `json:"namespace,omitempty"`
		UID               string    `json:"uid,omitempty"`
		Generation        int64     `json:"generation,omitzero"`
		CreationTimestamp time.Time `json:"creationTimestamp,omitzero"`
	}
	err := errors.Join(json.Unmarshal(orNull(fields["apiVersion"]), &m.APIVersion), json.Unmarshal(orNull(fields["kind"]), &m.Kind),
		json.Unmarshal(orNull(fields["metadata"]), &meta))
	if err != nil {
		return Meta{}, nil, fmt.Errorf("reading apiVersion, kind and metadata of the object: %w", err)
	}
	if k, ok := KindOf(m.APIVersion, m.Kind); ok && !k.Namespaced {
		meta.Namespace = "" // which Kritis' manifests have, and means nothing
	}
	m.Namespace, m.Name, m.UID, m.Generation, m.Created = meta.Namespace, meta.Name, meta.UID, meta.Generation, meta.CreationTimestamp.UTC()
	if err := m.Check(); err != nil {
		return Meta{}, nil, err
	}
	delete(fields, "status")
	if fields["metadata"], err = json.Marshal(meta); err != nil {
		return Meta{}, nil, fmt.Errorf("writing the object: %w", err)
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return Meta{}, nil, fmt.Errorf("writing the object: %w", err)
	}
	canonical := jsontext.Value(text)
	if err := canonical.Canonicalize(jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false)); err != nil {
		return Meta{}, nil, fmt.Errorf("writing the object: %w", err)
	}
	return m, canonical, nil
}

func orNull(v jsontext.Value) []byte {
	if v == nil {
		return []byte("null")
	}
	return v
}
