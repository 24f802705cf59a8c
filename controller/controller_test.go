package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
	"github.com/gatehouse-dev/gatehouse/policy/objects"
)

// fakeStore is a store in memory, which refuses objects of a name and can be away.
type fakeStore struct {
	filed  map[objects.Ref]string
	said   []string // of changes
	refuse string
	tried  int // and refused
	away   error
	gates  int
	behind []string
}

func (s *fakeStore) Filed(context.Context) ([][]byte, error) {
	var all [][]byte
	for _, text := range s.filed {
		all = append(all, []byte(text))
	}
	return all, s.away
}

func (s *fakeStore) Apply(_ context.Context, changes []Change) error {
	if s.away != nil {
		return s.away
	}
	for _, c := range changes {
		if s.refuse != "" && c.Name == s.refuse {
			s.tried++
			return fmt.Errorf("%w: no such thing", ErrRefused)
		}
	}
	for _, c := range changes {
		if len(c.Object) == 0 {
			delete(s.filed, c.Ref)
			s.said = append(s.said, "away "+c.Name)
			continue
		}
		s.filed[c.Ref] = string(c.Object)
		s.said = append(s.said, "file "+c.Name)
	}
	return nil
}

func (s *fakeStore) Behind(context.Context) (int, []string, error) { return s.gates, s.behind, s.away }

// noEvidence knows nothing of any image.
type noEvidence struct{ changed chan struct{} }

func (noEvidence) Ready(context.Context) error { return nil }
func (noEvidence) Collect(_ context.Context, refs []image.Reference) evidence.Facts {
	facts := evidence.Facts{Images: map[image.Digest]evidence.Image{}}
	for _, r := range refs {
		facts.Images[r.Digest()] = evidence.Image{State: evidence.Known}
	}
	return facts
}
func (e noEvidence) Changed() <-chan struct{} { return e.changed }

// desk is a filing over a mirror and a store.
type desk struct {
	*testing.T
	*filing
	store *fakeStore
	m     *mirror
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	store := &fakeStore{filed: map[objects.Ref]string{}, gates: 1}
	c, err := New(Options{
		Kube: new(kube.Client), Store: store, Evidence: noEvidence{}, Outcome: func() *objects.Outcome { return nil }, Groups: []string{objects.GroupKritis, objects.Group},
		Interval: time.Hour, Now: time.Now, Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	m := newMirror(len(c.kinds()))
	return &desk{t, newFiling(c, m), store, m}
}

func kindOf(t *testing.T, kind string) objects.Kind {
	t.Helper()
	k, ok := objects.KindOf(objects.GroupKritis+"/"+objects.Version, kind)
	if !ok {
		t.Fatal(kind)
	}
	return k
}

// put has a cluster have an ImageSecurityPolicy in namespace shop.
func (d *desk) put(name, uid string, generation int, spec string) {
	d.Helper()
	text := fmt.Sprintf(`{"apiVersion":"kritis.grafeas.io/v1beta1","kind":"ImageSecurityPolicy","metadata":{"namespace":"shop","name":%q,"uid":%q,"generation":%d,"resourceVersion":"1"},"spec":%s}`, name, uid, generation, spec)
	if err := d.m.setObject(kindOf(d.T, objects.KindImageSecurityPolicy), kube.Object{Key: kube.Key{Namespace: "shop", Name: name}, JSON: []byte(text)}); err != nil {
		d.Fatal(err)
	}
}

// says files, and expects these changes.
func (d *desk) says(changes ...string) {
	d.Helper()
	err := d.file(d.Context())
	if got := d.store.said; err != nil || !slices.Equal(got, changes) {
		d.Errorf("changed %q, %v, want %q", got, err, changes)
	}
	d.store.said = nil
}

func (d *desk) object(name string) *object {
	d.Helper()
	for r, o := range d.m.snapshot() {
		if r.Name == name {
			return o
		}
	}
	d.Fatalf("there is no %s", name)
	return nil
}

const (
	goodSpec   = `{"packageVulnerabilityRequirements":{"maximumSeverity":"LOW"}}`
	otherSpec  = `{"packageVulnerabilityRequirements":{"maximumSeverity":"HIGH"}}`
	brokenSpec = `{"packageVulnerabilityRequirements":{"maximumSeverity":"lowish"}}`
)

func TestWhatIsInTheClusterIsFiled(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.put("a", "1", 1, goodSpec)
	d.put("b", "2", 1, goodSpec)
	d.says("file a", "file b")
	d.says()
	d.put("b", "2", 2, otherSpec)
	d.says("file b")

	// What is not there is taken away, but only once it is known what is there.
	gone := kube.Key{Namespace: "shop", Name: "a"}
	k := kindOf(t, objects.KindImageSecurityPolicy)
	d.m.goneObject(k, gone)
	d.says()
	d.m.listed(k)
	d.says("away a")
	d.m.lacks(k)
	d.m.goneObject(k, kube.Key{Namespace: "shop", Name: "b"})
	d.says()
	d.m.listed(k)
	d.says("away b")
}

func TestAControllerThatBeginsKnowsWhatIsFiled(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.put("a", "1", 1, goodSpec)
	d.says("file a")
	next := newDesk(t)
	next.store.filed = d.store.filed
	next.put("a", "1", 1, goodSpec)
	next.says()
	next.m.goneObject(kindOf(t, objects.KindImageSecurityPolicy), kube.Key{Namespace: "shop", Name: "a"})
	next.m.listed(kindOf(t, objects.KindImageSecurityPolicy))
	next.says("away a")
}

func TestOneObjectThatIsRefusedIsTheOnlyOne(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.store.refuse = "b"
	for _, name := range []string{"a", "b", "c"} {
		d.put(name, name, 1, goodSpec)
	}
	d.says("file a", "file c")
	d.says()
	if d.store.tried != 2 { // with the others, and alone
		t.Errorf("it is tried %d times", d.store.tried)
	}
	if s := d.standing(d.object("b")); !s.refused || !strings.Contains(s.why, "no such thing") {
		t.Errorf("it stands %+v", s)
	}
	d.put("b", "b", 2, otherSpec)
	d.store.refuse = ""
	d.says("file b")
}

// TestABrokenObjectDoesNotTakeItsNamespaceDown where there is another way to be safe.
func TestABrokenObjectDoesNotTakeItsNamespaceDown(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.put("only", "1", 1, brokenSpec)
	d.says("file only") // or everything would be let in
	d.put("good", "2", 1, goodSpec)
	d.says("file good")
	d.put("good", "2", 2, brokenSpec)
	d.says()
	if s := d.standing(d.object("good")); !s.held || s.why != "the version before it stays in force" || s.inForce {
		t.Errorf("it stands %+v", s)
	}
	d.put("good", "2", 3, otherSpec)
	d.says("file good")
	d.put("new", "3", 1, brokenSpec)
	d.says()
	if s := d.standing(d.object("new")); !s.held || s.why != "the other policies of the namespace hold without it" {
		t.Errorf("it stands %+v", s)
	}
	// One that was made anew is another object, of which there is no version before.
	d.put("second", "4", 1, goodSpec)
	d.says("file second")
	d.put("second", "5", 1, brokenSpec)
	d.says("away second")
}

func TestHowFarAnObjectHasCome(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.put("a", "1", 1, goodSpec)
	why := func(want string) {
		t.Helper()
		if s := d.standing(d.object("a")); s.inForce != (want == "") || !strings.Contains(s.why, want) {
			t.Errorf("it stands %+v, want %q", s, want)
		}
	}
	why("it is being filed")
	d.store.away = errors.New("no route to host")
	if err := d.file(t.Context()); err == nil {
		t.Error("the store is away, and nothing fails")
	}
	why("no route to host")
	d.store.away = nil
	d.says("file a")
	why("gates are being told")
	d.store.behind = []string{"gate-1"}
	if d.lookAtGates(t.Context()) {
		t.Error("a gate is behind, and nobody waits for it")
	}
	why("gate-1")
	d.store.behind = nil
	d.lookAtGates(t.Context())
	why("")
	d.put("a", "1", 2, otherSpec)
	why("it is being filed")
	d.says("file a")
	why("gates are being told")
	d.store.gates = 0
	if d.lookAtGates(t.Context()) {
		t.Error("there is no gate, and nobody waits for one")
	}
	why("no gate is connected")
}

func TestAStatusIsWrittenWhenItSaysSomethingElse(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	o := &object{Meta: objects.Meta{Generation: 3}}
	o.status.Conditions = []condition{{Type: "Foreign", Status: isTrue, LastTransitionTime: at.Add(-time.Hour), Reason: "Theirs"}}
	j := judgement{images: &imageCount{Total: 2, Satisfied: 1}, remarks: []string{"it is of v0.2.x"}}
	s := standing{filed: true, why: "gates are being told"}
	first := o.next(j, s, at)
	if !first.due(o.status, time.Hour) {
		t.Fatal("a first status is not written")
	}
	said := func(s status) []string {
		var all []string
		for _, c := range s.Conditions {
			all = append(all, fmt.Sprintf("%s %s %s since %s", c.Type, c.Status, c.Reason, c.LastTransitionTime.Format("15:04")))
		}
		return all
	}
	if d := cmp.Diff([]string{
		"Accepted True Valid since 12:00", "Degraded False AllOfItCounts since 12:00", "Foreign True Theirs since 11:00", "InForce False Waiting since 12:00", "Ready False Waiting since 12:00",
	}, said(first)); d != "" {
		t.Error(d)
	}
	o.status = first
	if o.next(j, s, at.Add(30*time.Minute)).due(o.status, time.Hour) {
		t.Error("it is written again though nothing has changed")
	}
	if next := o.next(j, s, at.Add(time.Hour)); !next.due(o.status, time.Hour) || !next.LastEvaluated.Equal(at.Add(time.Hour)) {
		t.Error("when it was evaluated is never written again")
	}
	s.inForce = true
	next := o.next(j, s, at.Add(10*time.Minute))
	if !next.due(o.status, time.Hour) {
		t.Error("it is in force, and nothing is written")
	}
	if d := cmp.Diff([]string{
		"Accepted True Valid since 12:00", "Degraded False AllOfItCounts since 12:00", "Foreign True Theirs since 11:00", "InForce True GatesDecideByIt since 12:10", "Ready True GatesDecideByIt since 12:10",
	}, said(next)); d != "" {
		t.Error(d)
	}
	broken := o.next(judgement{problems: []string{"broken"}}, standing{held: true, why: "the version before it stays in force"}, at)
	if d := cmp.Diff([]string{
		"Accepted False Invalid since 12:00", "Degraded False AllOfItCounts since 12:00", "Foreign True Theirs since 11:00", "InForce False HeldBack since 12:00", "Ready False Invalid since 12:00",
	}, said(broken)); d != "" {
		t.Error(d)
	}
	partly := o.next(judgement{partly: []string{"a key"}, reason: "KeyUnusable", keys: &keyCount{usable: 1, unusable: make([]unusableKey, 500)}}, s, at)
	if len(partly.UnusableKeys) != maxUnusable || said(partly)[4] != "Ready False KeyUnusable since 12:00" {
		t.Errorf("a key that cannot be used: %q", said(partly))
	}
}

func TestTheMarksOfAPod(t *testing.T) {
	t.Parallel()
	const unattested = "No valid attestations present. This pod will not be able to restart in future"
	for name, tc := range map[string]struct {
		found finding
		want  marks
	}{
		"attested": {finding{attested: true}, marks{map[string]string{attestationKey: "attested"}, map[string]string{attestationKey: "Previously attested."}}},
		"neither":  {finding{}, marks{map[string]string{attestationKey: "notAttested"}, map[string]string{attestationKey: unattested}}},
		"violating": {finding{violating: true, violation: "found 3 CVEs"}, marks{
			map[string]string{attestationKey: "notAttested", "kritis.grafeas.io/invalidImageSecPolicy": "invalidImageSecPolicy"},
			map[string]string{attestationKey: unattested, "kritis.grafeas.io/invalidImageSecPolicy": "found 3 CVEs"},
		}},
	} {
		if d := cmp.Diff(tc.want, tc.found.marks(), cmp.AllowUnexported(marks{})); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		p := &pod{uid: "u", labels: tc.want.labels, annotations: tc.want.annotations}
		if patch := p.patch(tc.want); patch != nil {
			t.Errorf("%s: a pod that has the marks is written: %v", name, patch)
		}
		want := map[string]any{"metadata": map[string]any{"uid": "u", "labels": map[string]any{}, "annotations": map[string]any{}}}
		for key := range tc.want.labels {
			want["metadata"].(map[string]any)["labels"].(map[string]any)[key] = nil
			want["metadata"].(map[string]any)["annotations"].(map[string]any)[key] = nil
		}
		if d := cmp.Diff(want, p.patch(marks{})); d != "" {
			t.Errorf("%s: taken away: %s", name, d)
		}
	}
	if patch := (&pod{}).patch(marks{}); patch != nil {
		t.Errorf("a pod that nobody has marked is written: %v", patch)
	}
}

func TestWhatIsFoundOfAPod(t *testing.T) {
	t.Parallel()
	bad := imageFinding{looked: true, violations: map[string]bool{"a": true, "b": true}}
	tagged, unscanned := imageFinding{looked: true, unqualified: true}, imageFinding{looked: true, unscanned: true}
	clean, unknown := imageFinding{looked: true, attested: true}, imageFinding{looked: true, unknown: true}
	found := map[string]imageFinding{"bad": bad, "tagged": tagged, "unscanned": unscanned, "clean": clean, "unknown": unknown}
	for images, want := range map[string]finding{
		"clean":        {attested: true, violation: "found 0 CVEs"},
		"bad clean":    {violating: true, violation: "found 2 CVEs"},
		"unscanned":    {violating: true, violation: "found 0 CVEs, unscanned has no finished vulnerability scan"},
		"tagged":       {violating: true, violation: "found 1 CVEs, tagged is not a fully qualified image. You can run 'kubectl plugin resolve-tags' to qualify all images with a digest."},
		"bad tagged":   {violating: true, violation: "found 3 CVEs, tagged is not a fully qualified image. You can run 'kubectl plugin resolve-tags' to qualify all images with a digest."},
		"unknown bad":  {unknown: true, violating: true, violation: "found 2 CVEs"},
		"never looked": {unknown: true, violation: "found 0 CVEs"},
	} {
		if d := cmp.Diff(want, of(&pod{images: strings.Fields(images)}, found), cmp.AllowUnexported(finding{})); d != "" {
			t.Errorf("%s: %s", images, d)
		}
	}
	both := bad.and(imageFinding{looked: true, attested: true, violations: map[string]bool{"b": true, "c": true}})
	if len(both.violations) != 3 || both.attested {
		t.Errorf("by two policies: %+v", both)
	}
	if first := (imageFinding{}).and(clean); !first.attested {
		t.Errorf("by the first policy: %+v", first)
	}
}

func TestPodsThatAreLookedAt(t *testing.T) {
	t.Parallel()
	m := newMirror(0)
	put := func(text string) {
		t.Helper()
		if err := m.setPod(kube.Object{Key: kube.Key{Namespace: "shop", Name: "web"}, UID: "u", JSON: []byte(text)}, admission.Place{}); err != nil {
			t.Fatal(err)
		}
	}
	const spec = `"spec":{"initContainers":[{"name":"i","image":"b"}],"containers":[{"name":"m","image":"a"},{"name":"n","image":"a"}],"ephemeralContainers":[{"name":"e","image":"c"}]}`
	put(`{"metadata":{"namespace":"shop","name":"web","labels":{"app":"x","kritis.grafeas.io/attestation":"attested"}},` + spec + `}`)
	list := m.byNamespace()["shop"]
	if len(list) != 1 || !slices.Equal(list[0].images, []string{"a", "b", "c"}) || !cmp.Equal(list[0].labels, map[string]string{attestationKey: "attested"}) {
		t.Errorf("read was %+v", list)
	}
	<-m.wake
	put(`{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"shop","name":"web","labels":{"app":"y","kritis.grafeas.io/attestation":"attested"}},` + spec + `,"status":{"phase":"Running"}}`)
	select {
	case <-m.wake:
		t.Error("what does not bear on it has everything looked at again")
	default:
	}
	put(`{"metadata":{"namespace":"shop","name":"web","deletionTimestamp":"2026-11-30T12:00:00Z"},` + spec + `}`)
	if len(m.byNamespace()) != 0 {
		t.Error("a pod that is about to go is looked at")
	}
}

// signing remembers what it was asked to attest.
type signing struct{ authority string }

func (s signing) Signs(k kube.Key) bool                                 { return k.Name == s.authority }
func (signing) Attest(context.Context, kube.Key, image.Reference) error { return nil }

// TestWhatIsAttestedForAPolicy is B7: an exception is no reason to attest, nor is a pod that
// is only there because nobody looked.
func TestWhatIsAttestedForAPolicy(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	text := func(name string) string { return "registry.test/" + name + "@" + image.DigestOf([]byte(name)).String() }
	allow := func(code decide.Code) *decide.ImageDecision {
		return &decide.ImageDecision{Verdict: decide.ALLOW, Reasons: []decide.Reason{{Verdict: decide.ALLOW, Code: code}}}
	}
	deny := &decide.ImageDecision{Verdict: decide.DENY}
	exempt := allow(decide.CodeExempt)
	exempt.Exemption = text("listed")
	isp := decisions{
		whole:    map[string]*decide.ImageDecision{text("scanned"): allow(decide.CodeScanned), text("listed"): exempt, text("bad"): deny, text("attested"): allow(decide.CodeAttested), text("beside"): allow(decide.CodeScanned)},
		scanned:  map[string]*decide.ImageDecision{text("scanned"): allow(decide.CodeScanned), text("listed"): exempt, text("bad"): deny, text("attested"): allow(decide.CodeScanned), text("beside"): allow(decide.CodeScanned)},
		attested: map[string]*decide.ImageDecision{text("scanned"): deny, text("listed"): deny, text("bad"): deny, text("attested"): allow(decide.CodeAttested), text("beside"): deny},
	}
	gap := decisions{whole: map[string]*decide.ImageDecision{}}
	for name := range isp.whole {
		gap.whole[name] = allow(decide.CodeAttested)
	}
	pods := []*pod{{images: []string{text("scanned"), text("listed")}}, {images: []string{text("attested")}}, {images: []string{text("bad"), text("beside")}}}
	policies := []held{{signsFor: "ci"}, {}}
	names := func() (all []string) {
		for _, a := range d.wanted("shop", policies, []decisions{isp, gap}, pods) {
			all = append(all, a.authority.Namespace+"/"+a.authority.Name+" "+a.ref.Path())
		}
		return all
	}
	if got := names(); len(got) > 0 {
		t.Errorf("nobody was told to attest, and these are: %q", got)
	}
	d.Attestor = signing{"ci"}
	if got := names(); !slices.Equal(got, []string{"shop/ci scanned"}) {
		t.Errorf("attested are %q", got)
	}
	gap.whole[text("listed")] = deny // another policy denies the pod
	if got := names(); len(got) > 0 {
		t.Errorf("in a pod that is denied: %q", got)
	}
	gap.whole[text("listed")] = allow(decide.CodeAttested)
	d.Attestor = signing{"another"}
	if got := names(); len(got) > 0 {
		t.Errorf("for an authority that nobody signs for: %q", got)
	}

	d.Attestor = signing{"ci"}
	now := time.Now()
	d.Now = func() time.Time { return now }
	ask := func() int {
		d.forgetAsked()
		w := &writing{Controller: d.Controller}
		w.attest(t.Context(), d.wanted("shop", policies, []decisions{isp, gap}, pods))
		return w.finish().Written
	}
	if first, second := ask(), ask(); first != 1 || second != 0 {
		t.Errorf("asked %d times, and then %d times at once", first, second)
	}
	if now = now.Add(attestAgain); ask() != 1 {
		t.Error("what is not attested is never asked for again")
	}
}
