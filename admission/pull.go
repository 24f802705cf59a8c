package admission

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// eventPull is what a node's question is called in records.
const eventPull = "pull"

// imagePulls is what nodes' questions are called in records and metrics.
var imagePulls = groupResource{"gatehouse.dev", "imagepulls"}

// A Pull is an image that a node is about to pull, or to run.
type Pull struct {
	// Name is the reference that the node was given, HOST/PATH[:TAG][@DIGEST].
	Name string `json:"name"`
	// Digest is what the node has found that it means, "sha256:…".
	Digest string `json:"digest"`
	// Operation is "pull" or "run"; "" is "pull".
	Operation string `json:"operation,omitempty"`
	// Namespace and Pod are for what it is pulled, if the node knows.
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	// Node is what the node calls itself.
	Node string `json:"node,omitempty"`
	// Strict judges a pull for an unknown namespace as one in a namespace that no rule
	// names. Otherwise it is enough that policy would let the image in somewhere: where it
	// may run is decided when its pod is created.
	Strict bool `json:"strict,omitempty"`
}

// A PullAnswer is what the gate says of a [Pull].
type PullAnswer struct {
	Allowed bool `json:"allowed"`
	// Verdict is that of policy, and Override what let in what policy does not allow.
	Verdict  decide.Verdict  `json:"verdict"`
	Override decide.Override `json:"override,omitempty"`
	// Reason is for people: of a denial all of it.
	Reason string `json:"reason"`
}

// maxPullField bounds each text of a Pull. A reference has at most 1 KiB.
const maxPullField = 4 << 10

// A pull is a Pull that was understood.
type pull struct {
	Pull
	// texts are how a manifest may have spelt the image, the one that names the digest first.
	texts  []string
	digest image.Digest
}

// read understands a Pull.
func (p Pull) read() (pull, error) {
	for _, field := range []string{p.Name, p.Digest, p.Operation, p.Namespace, p.Pod, p.Node} {
		if len(field) > maxPullField {
			return pull{}, fmt.Errorf("a field has %d bytes, more than %d", len(field), maxPullField)
		}
	}
	switch p.Operation {
	case "":
		p.Operation = "pull"
	case "pull", "run":
	default:
		return pull{}, fmt.Errorf("operation %q: want pull or run", clip(p.Operation))
	}
	digest, err := image.ParseDigest(p.Digest)
	if err != nil {
		return pull{}, fmt.Errorf("the digest that the node found: %w", err)
	}
	ref, err := image.Parse(p.Name)
	if err != nil {
		return pull{}, fmt.Errorf("the name of the image: %w", err)
	}
	if named := ref.Digest(); !named.IsZero() && named != digest {
		return pull{}, fmt.Errorf("%q names a digest, and the node found another one, %s", clip(p.Name), digest)
	}
	return pull{Pull: p, texts: spellings(ref, p.Name, digest), digest: digest}, nil
}

// spellings are how a manifest may have spelt what a node pulls: containerd writes out
// the registry and the library of Docker Hub, and patterns look at what was written.
func spellings(ref image.Reference, name string, digest image.Digest) []string {
	bare, _, _ := strings.Cut(name, "@")
	untagged := bare
	if tag := ref.Tag(); tag != "" {
		untagged = strings.TrimSuffix(bare, ":"+string(tag))
	}
	at := "@" + digest.String()
	var texts []string
	for _, host := range []string{"", "docker.io/", "docker.io/library/"} {
		whole, ok := strings.CutPrefix(bare, host)
		short, _ := strings.CutPrefix(untagged, host)
		if !ok || short == "" {
			continue
		}
		for _, text := range []string{whole + at, short + at, whole} {
			if !slices.Contains(texts, text) {
				texts = append(texts, text)
			}
		}
	}
	return texts
}

// places are the pods for which a rule could speak, each as a request without images. The
// first is the one that no rule names.
func (p pull) places(rules policy.Set, at Place) []decide.Request {
	plain := decide.Request{Cluster: at.Cluster, Namespace: p.Namespace}
	all := []decide.Request{plain}
	if p.Strict && p.Namespace == "" {
		return all
	}
	seen := map[policy.Scope]bool{}
	for _, set := range rules {
		if set == nil {
			continue
		}
		for i := range set.Rules {
			scope := set.Rules[i].Scope
			if seen[scope] || scope.Cluster != "" && scope.Cluster != at.Cluster {
				continue
			}
			seen[scope] = true
			if in, ok := placeOf(scope, plain); ok {
				all = append(all, in)
			}
		}
	}
	slices.SortFunc(all[1:], func(a, b decide.Request) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.ServiceAccount, b.ServiceAccount), cmp.Compare(a.IstioIdentity, b.IstioIdentity))
	})
	return slices.CompactFunc(all, func(a, b decide.Request) bool {
		return a.Namespace == b.Namespace && a.ServiceAccount == b.ServiceAccount && a.IstioIdentity == b.IstioIdentity
	})
}

// placeOf returns a pod that a rule of this scope is for; ok is false if the pull is not
// for such a one.
func placeOf(scope policy.Scope, plain decide.Request) (in decide.Request, ok bool) {
	in = plain
	namespace := scope.Namespace
	if ns, account, found := strings.Cut(scope.ServiceAccount, ":"); found {
		namespace, in.ServiceAccount = ns, account
	}
	if identity := scope.IstioIdentity; identity != "" {
		in.IstioIdentity = identity
		if parts := strings.Split(identity, "/"); len(parts) == 5 && parts[1] == "ns" && parts[3] == "sa" {
			namespace, in.ServiceAccount = parts[2], parts[4]
		}
	}
	switch {
	case namespace == "":
	case plain.Namespace == "":
		in.Namespace = namespace
	case plain.Namespace != namespace:
		return in, false
	}
	return in, true
}

// decide returns the first decision that allows, or else the one of the place that no
// rule names. The judge maps a request to a decision.
func (p pull) decide(rules policy.Set, at Place, judge func(decide.Request) decide.Decision) decide.Decision {
	var first *decide.Decision
	for _, in := range p.places(rules, at) {
		for _, text := range p.texts {
			in.Images = []decide.ImageUse{{Text: text, Type: decide.Container}}
			d := judge(in)
			if d.Allowed {
				return d
			}
			if first == nil {
				first = &d
			}
		}
	}
	return *first
}

// DecidePull judges a Pull by what is at hand, for whoever has no gate to ask.
func DecidePull(ctx context.Context, p Pull, o Options) (decide.Decision, error) {
	asked, err := p.read()
	if err != nil {
		return decide.Decision{}, err
	}
	ref, err := image.ParseDigested(asked.texts[0])
	if err != nil {
		return decide.Decision{}, err
	}
	rules := o.Rules()
	facts := o.Evidence.Collect(ctx, []image.Reference{ref})
	return asked.decide(rules, o.Place, func(in decide.Request) decide.Decision { return decide.Decide(in, rules, facts, o.Now()) }), nil
}

// AnswerPull puts a decision on a Pull into words.
func AnswerPull(d decide.Decision) PullAnswer {
	out := PullAnswer{Allowed: d.Allowed, Verdict: d.Verdict, Override: d.Override}
	switch {
	case !d.Allowed:
		out.Reason = strings.TrimSpace(decide.Message(d))
	case d.Override != decide.NoOverride:
		out.Reason = "let in by " + string(d.Override)
	default:
		out.Reason = "allowed by policy"
	}
	return out
}

// ImagePulls answers nodes, in JSON: a [Pull] gets a [PullAnswer].
func (g *Gate) ImagePulls() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.serve(w, r, protocol{answer: g.answerPull, deny: denyPull, misunderstood: g.unread})
	})
}

// denyPull refuses what could not be judged; what is no JSON object is nobody's.
func denyPull(body []byte, a answer) (any, bool) {
	var object map[string]jsontext.Value
	return &PullAnswer{Reason: a.message}, json.Unmarshal(body, &object) == nil
}

func (g *Gate) answerPull(ctx context.Context, body []byte) (any, error) {
	begun := g.Now()
	var in Pull
	if err := json.Unmarshal(body, &in, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("decoding what is pulled: %w", misfit(err))
	}
	asked, err := in.read()
	if err != nil {
		return nil, fmt.Errorf("reading what is pulled: %w", err)
	}
	d, err := g.judgePull(ctx, asked)
	if err != nil {
		return nil, err
	}
	out := AnswerPull(d)
	if id, used := g.brokenFor(asked, &d); used {
		d.Allowed, d.Override = true, decide.BreakGlass
		out = PullAnswer{Allowed: true, Verdict: d.Verdict, Override: d.Override, Reason: "let in by break-glass, incident " + id}
	}
	req := &request{Resource: imagePulls, Operation: asked.Operation, Namespace: asked.Namespace, Name: asked.Node, place: g.Place, begun: begun}
	r := g.newRecord(req, eventPull)
	r.Decision = &d
	if err := g.recordUnbroken(ctx, &r, out.Allowed); err != nil && out.Allowed && g.RefuseUnrecorded {
		out = PullAnswer{Reason: unrecorded(err)}
	}
	g.counts.count(req, d.Verdict, d.Class(), d.Override)
	explainTrace(ctx, req, &d, out.Allowed)
	return &out, nil
}

// judgePull judges by what is known, and once more if something is missing and can be asked.
func (g *Gate) judgePull(ctx context.Context, asked pull) (decide.Decision, error) {
	ref, err := image.ParseDigested(asked.texts[0])
	if err != nil {
		return decide.Decision{}, err
	}
	rules := g.Rules()
	facts := g.Evidence.Collect(ctx, []image.Reference{ref})
	g.grants.remind(&facts)
	judge := func(in decide.Request) decide.Decision { return decide.Decide(in, rules, facts, g.Now()) }
	d := asked.decide(rules, g.Place, judge)
	if again, ok := g.Evidence.(Refresher); ok && !d.Allowed {
		if fresh, found := again.Refresh(ctx, &d, facts); found {
			facts = fresh
			g.grants.remind(&facts)
			d = asked.decide(rules, g.Place, judge)
		}
	}
	g.grants.keep(d.Grants)
	return d, nil
}

// PullRecord is the record of what was decided without a gate. A decision that nobody made
// by policy has no images; its record names the image that was asked about, and why.
func PullRecord(p Pull, d *decide.Decision, why string, now time.Time) audit.Record {
	r := audit.Record{
		ID: audit.NewID(), Time: now, Event: eventPull, Operation: cmp.Or(clip(p.Operation), "pull"), Resource: imagePulls.String(),
		Namespace: clip(p.Namespace), Name: clip(p.Node), Decision: d,
	}
	if len(d.Images) == 0 {
		bare := *d
		bare.Time = now
		asked := decide.ImageDecision{Image: p.Name[:min(len(p.Name), maxPullField)], Type: decide.Container, Verdict: d.Verdict}
		asked.Digest, _ = image.ParseDigest(p.Digest) // what is none is not recorded as one
		bare.Images = []decide.ImageDecision{asked}
		r.Decision, r.Error = &bare, why[:min(len(why), maxPullField)]
	}
	return r
}

// brokenFor tells by which incident an image was let in that policy refuses.
func (g *Gate) brokenFor(p pull, d *decide.Decision) (incident string, used bool) {
	if d.Allowed || g.Broken == nil {
		return "", false
	}
	return g.Broken(p.digest, p.texts)
}
