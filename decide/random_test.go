package decide_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// choices are bytes that a question is made of. Each choice takes one, and where
// there are none left it is the first of what there is to choose from, so that
// fewer and smaller bytes make simpler questions: that is how a failure is reduced.
type choices struct{ left []byte }

func (c *choices) n(of int) int {
	if len(c.left) == 0 {
		return 0
	}
	b := c.left[0]
	c.left = c.left[1:]
	return int(b) % of
}

func (c *choices) bool() bool { return c.n(2) == 1 }

func pick[T any](c *choices, from ...T) T { return from[c.n(len(from))] }

// several returns up to most of what one makes.
func several[T any](c *choices, most int, one func() T) []T {
	var list []T
	for range c.n(most + 1) {
		list = append(list, one())
	}
	return list
}

// some is several, and seldom none.
func some[T any](w world, most int, one func() T) []T {
	if w.n(10) == 9 {
		return nil
	}
	return append(several(w.choices, most-1, one), one())
}

// A question is all that a decision rests on.
type question struct {
	Request decide.Request
	Set     policy.Set
	Facts   evidence.Facts
}

// build builds every policy of the set.
func (q question) build() question {
	for _, r := range q.Set {
		if r != nil {
			r.Build()
		}
	}
	return q
}

func (q question) decide() decide.Decision {
	return decide.Decide(q.Request, q.Set, q.Facts, noon)
}

// questionOf makes a question of bytes, always the same of the same.
func questionOf(data []byte) question {
	w := world{&choices{data}}
	q := question{Set: some(w, 3, w.ruleset), Request: w.request(), Facts: w.facts()}
	w.grant(&q)
	return q
}

// randomBytes returns the bytes of the i-th question of a test.
func randomBytes(seed, i int) []byte {
	r := rand.New(rand.NewPCG(uint64(seed), uint64(i))) //nolint:gosec // repeatable on purpose
	data := make([]byte, 300+r.IntN(2000))
	for j := range data {
		data[j] = byte(r.Uint32())
	}
	return data
}

// everyQuestion runs a test of random questions. A failure is reduced to the
// simplest question that fails, and shown.
func everyQuestion(t *testing.T, seed int, fails func(data []byte) string) {
	t.Helper()
	questions(t, seed, 400, fails)
}

func questions(t *testing.T, seed, n int, fails func(data []byte) string) {
	t.Helper()
	for i := range n {
		data := randomBytes(seed, i)
		if fails(data) == "" {
			continue
		}
		t.Fatal(explain(data, fails))
	}
}

// explain reduces the bytes of a question that fails, and puts it into words.
func explain(data []byte, fails func([]byte) string) string {
	data = reduce(data, func(b []byte) bool { return fails(b) != "" })
	return fmt.Sprintf("%s\nthe question, as simple as it gets (of bytes %#v):\n%s", fails(data), data, questionOf(data))
}

// reduce returns fewer and smaller bytes that still fail.
func reduce(data []byte, fails func([]byte) bool) []byte {
	for again := true; again; {
		again = false
		for size := len(data); size > 0; size /= 2 {
			for at := 0; at+size <= len(data); {
				fewer := append(append([]byte{}, data[:at]...), data[at+size:]...)
				if fails(fewer) {
					data, again = fewer, true
				} else {
					at++
				}
			}
		}
		for i := range data {
			for b := byte(0); b < min(data[i], 32); b++ {
				smaller := append([]byte{}, data...)
				if smaller[i] = b; fails(smaller) {
					data, again = smaller, true
					break
				}
			}
		}
	}
	return data
}

// String shows a question to a person.
func (q question) String() string {
	var b strings.Builder
	req, _ := json.Marshal(q.Request)
	facts, _ := json.MarshalIndent(q.Facts, "", " ")
	facts = regexp.MustCompile(`(?:\s+0,)+\s+0\s+\]`).ReplaceAll(facts, []byte("0…]")) // of fingerprints
	facts = regexp.MustCompile(`\s+"\w+": (?:null|""|false),?`).ReplaceAll(facts, nil)
	for i, r := range q.Set {
		if r == nil {
			fmt.Fprintf(&b, "policy %d: nil\n", i)
			continue
		}
		fmt.Fprintf(&b, "policy %d: exempt %s\n", i, exemptText(r.Exempt))
		for name, a := range r.Attestors {
			fmt.Fprintf(&b, "  attestor %s: %+v\n", name, a)
		}
		for j := range r.Rules {
			rule := &r.Rules[j]
			fmt.Fprintf(&b, "  rule %d: %v for %+v exempt %s dry run %v on unavailable %+v\n", j, rule.Evaluation, rule.Scope, exemptText(rule.Exempt), rule.DryRun, rule.OnUnavailable)
			for _, c := range rule.Checks {
				fmt.Fprintf(&b, "    check %T %+v exempt %s\n", c.Condition, c.Condition, exemptText(c.Exempt))
			}
		}
	}
	return fmt.Sprintf("request %s\nfacts %s\n%s", req, facts, b.String())
}

func exemptText(list []policy.Exemption) string {
	var texts []string
	for _, e := range list {
		texts = append(texts, e.Origin+" "+e.Pattern.String())
	}
	return fmt.Sprintf("%q", texts)
}

// A world makes the parts of questions. Its names are few, so that they meet.
type world struct{ *choices }

var (
	worldDigests = []image.Digest{image.DigestOf([]byte("a")), image.DigestOf([]byte("b")), image.DigestOf([]byte("c"))}
	worldNames   = []string{
		"gcr.io/p/app", "gcr.io/p/lib/tool", "nginx", "docker.io/library/nginx", "index.docker.io/library/nginx",
		"GCR.IO/p/app", "localhost:5000/x", "gcr.io.evil.example/p/app", "eu.gcr.io/p/app", "gcr.io/q/app",
	}
	worldOdd = []string{
		"", "gcr.io/p/App:v1", "gcr.io@evil.example/p/app", "gcr.io%2fp/app", "gcr.io/p/app\n", "gcr.io/p/\u0430pp:v1",
		"gcr.io/p/app@sha256:12", "\uff47cr.io/p/app", "gcr.io./p/app", "user:pw@gcr.io/p/app", "gcr.io:443/p/app", "gcr.io:/p/app",
		"gcr.io/p/../q/app", "[::1]:5000/a", "[fe80::1%25eth0]/a", strings.Repeat("a", 64), "sha256:" + strings.Repeat("b", 64),
		"https://gcr.io/p/app", "gcr.io//p/app", "gcr.io/p/app:", "gcr.io/p/app:v1:v2", "\u202egcr.io/p/app", "gcr.io/p/app\x00", "localhost/x",
		"gcr.io/p/a__b", "gcr.io/p/a___b", "gcr.io/p/a--b", "gcr.io/p/-a", "gcr.io/p/app@sha256:" + strings.Repeat("A", 64), "nginx.example/x",
		"gcr.io/" + strings.Repeat("p/", 140) + "x", "gcr.io/p/app:" + strings.Repeat("t", 129),
	}
	worldTags     = []string{"", ":v1", ":latest", ":V1.0"}
	worldProjects = []string{"p", "p", "p", "q", "kritis"}
	worldNotes    = []string{"projects/p/notes/built", "projects/q/notes/built", "projects/p/notes/scanned"}
	worldKeys     = [][32]byte{{1}, {2}, {3}, {}}
	worldTimes    = []time.Duration{0, time.Hour, -time.Hour, 30 * 24 * time.Hour, -30 * 24 * time.Hour, time.Nanosecond, -time.Nanosecond}
	worldCVEs     = []string{"projects/v/notes/CVE-1", "projects/w/notes/CVE-1", "projects/v/notes/CVE-2", "CVE-3", "projects/v/notes/"}
)

// text is how a pod names an image.
func (w world) text() string {
	if w.n(6) == 5 {
		return pick(w.choices, worldOdd...)
	}
	text := pick(w.choices, worldNames...) + pick(w.choices, worldTags...)
	if i := w.n(4); i < 3 {
		text += "@" + worldDigests[i].String()
	}
	if w.n(12) == 11 && text != "" { // one byte of it is another
		i := w.n(len(text))
		text = text[:i] + string(rune(w.n(256))) + text[i+1:]
	}
	return text
}

func (w world) request() decide.Request {
	r := decide.Request{
		Cluster:        pick(w.choices, "", "us-east1-b.prod", "us-east1-b.dev"),
		Namespace:      pick(w.choices, "shop", "", "default"),
		ServiceAccount: pick(w.choices, "", "default", "robot"),
		IstioIdentity:  pick(w.choices, "", "p.svc.id.goog/ns/shop/sa/robot", "spiffe://p.svc.id.goog/ns/shop/sa/robot"),
	}
	for range 1 + w.n(2) {
		r.Images = append(r.Images, decide.ImageUse{Container: pick(w.choices, "web", "side\x1b[31mcar"), Type: pick(w.choices, decide.Container, decide.InitContainer), Text: w.text()})
	}
	if w.n(8) == 7 {
		r.Images = nil
	}
	if w.n(4) == 3 {
		r.BreakGlass, r.Justification = "label image-policy.k8s.io/break-glass", "the\nshop is down"
	}
	return r
}

func (w world) scope() policy.Scope {
	var s policy.Scope
	if w.n(4) != 3 {
		return s
	}
	switch w.n(5) {
	case 0:
		s.Namespace = pick(w.choices, "shop", "default")
	case 1:
		s.ServiceAccount = pick(w.choices, "shop:robot", "shop:default", ":default")
	case 2:
		s.Cluster = "us-east1-b.prod"
	case 3:
		s.IstioIdentity = "p.svc.id.goog/ns/shop/sa/robot"
	case 4:
		s.Namespace, s.Cluster = "shop", "us-east1-b.prod"
	}
	return s
}

// exemptions are rare, so that there is something left to decide.
func (w world) exemptions() []policy.Exemption {
	if w.n(4) != 3 {
		return nil
	}
	return several(w.choices, 2, w.exemption)
}

func (w world) exemption() policy.Exemption {
	text := pick(w.choices, append([]string{"nginx", "gcr.io/p", "gcr.io", "gcr.io/p/ap", "localhos"}, worldNames...)...) +
		pick(w.choices, "", "*", "**", "/*", "/**", ":v1", ":v*", ":*", ":**", "@*", "@"+worldDigests[0].String(), ":v1@"+worldDigests[0].String())
	var p image.Pattern
	language := pick(w.choices, inBinauthz, inPlatform, inExact)
	switch language {
	case inBinauthz:
		p, _ = image.ParseBinauthzPattern(text) // the zero Pattern covers nothing
	case inPlatform:
		p, _ = image.ParsePlatformPattern(text)
	case inExact:
		p = image.ExactPattern(w.text())
	}
	return policy.Exemption{Pattern: p, Origin: language, Line: w.n(3)}
}

func (w world) ruleset() *policy.Ruleset {
	if w.n(32) == 31 {
		return nil
	}
	r := &policy.Ruleset{
		Name:    pick(w.choices, "projects/p/policy", "projects/q/policy"),
		Dialect: pick(w.choices, policy.BinaryAuthorization, policy.PlatformPolicy, policy.Kritis),
		Source:  pick(w.choices, "", "policy.yaml"), Version: pick(w.choices, "v1", "v2"),
		Exempt: w.exemptions(), Attestors: map[string]policy.Attestor{},
	}
	for _, name := range []string{built, scanned} {
		if w.n(8) == 7 {
			continue
		}
		r.Attestors[name] = policy.Attestor{Name: name, Note: pick(w.choices, append(worldNotes, "")...), Keys: w.keys(), MatchRepository: w.n(3) == 2}
	}
	for range 1 + w.n(3) {
		r.Rules = append(r.Rules, w.rule())
	}
	return r
}

func (w world) rule() policy.Rule {
	r := policy.Rule{
		ID: "a rule", Scope: w.scope(), Exempt: w.exemptions(), Line: w.n(4),
		Evaluation: pick(w.choices, policy.RequireChecks, policy.RequireChecks, policy.RequireChecks, policy.RequireChecks, policy.RequireChecks, policy.RequireChecks, policy.AlwaysAllow, policy.AlwaysDeny, pick[policy.Evaluation](w.choices, 7, -1)),
		DryRun:     w.n(6) == 5,
	}
	switch w.n(3) {
	case 1:
		r.OnUnavailable.Warn = true
	case 2:
		r.OnUnavailable.LastAllowedWithin = pick(w.choices, time.Hour, 24*time.Hour, 24*time.Hour, -time.Hour)
	}
	for range (w.n(5) + 1) / 2 {
		r.Checks = append(r.Checks, policy.Check{Name: pick(w.choices, "", "a check"), Type: pick(w.choices, "", "ACheck"), Exempt: w.exemptions(), Condition: w.condition(3), Line: w.n(3)})
	}
	return r
}

func (w world) keys() []policy.Key {
	return some(w, 3, func() policy.Key {
		i := pick(w.choices, 0, 0, 0, 1, 2, 3)
		return policy.Key{ID: fmt.Sprintf("key-%d", i), Fingerprint: worldKeys[i]}
	})
}

func (w world) signers() []policy.Signer {
	return some(w, 2, func() policy.Signer { return policy.Signer{Name: "a signer", Keys: w.keys()} })
}

func (w world) projects() []string {
	return some(w, 3, func() string { return pick(w.choices, worldProjects...) })
}

// foreign is a condition that package decide cannot know.
type foreign struct{ policy.Condition }

func (w world) condition(deep int) policy.Condition {
	switch kind := w.n(14); {
	case kind == 1 || kind == 2 || kind == 13 || ((kind == 3 || kind == 4) && deep == 0):
		return policy.Attested{Attestor: pick(w.choices, built, scanned, "projects/p/attestors/none")}
	case kind == 3:
		return policy.AllOf{Name: pick(w.choices, "", "one way"), Of: several(w.choices, 3, func() policy.Condition { return w.condition(deep - 1) })}
	case kind == 4:
		return policy.AnyOf{Of: several(w.choices, 3, func() policy.Condition { return w.condition(deep - 1) })}
	case kind == 5:
		return policy.Digested{}
	case kind == 6:
		return policy.SignedBy{Signers: w.signers(), Projects: w.projects(), Cosign: w.n(3) == 2}
	case kind == 7 || kind == 8:
		return policy.Vulnerabilities{
			MaxFixable: policy.Severity(w.n(9) - 1), MaxUnfixable: policy.Severity(w.n(9) - 1), Projects: w.projects(),
			Allowed: w.cves(), Blocked: w.cves(), UnscannedAllowed: w.n(4) == 3, UnspecifiedAllowed: w.n(3) == 2,
		}
	case kind == 9:
		return policy.Fresh{MaxAge: pick(w.choices, 40*24*time.Hour, time.Hour, 10*24*time.Hour, 0, -time.Hour), Recorders: w.signers(), Projects: w.projects()}
	case kind == 10:
		return policy.InDirectory{Patterns: several(w.choices, 2, w.directory)}
	case kind == 11:
		return policy.BuiltBy{Rules: some(w, 2, w.provenanceRule)}
	case kind == 12:
		return pick[policy.Condition](w.choices, nil, &policy.Digested{}, foreign{}, foreign{policy.Digested{}})
	}
	return policy.Never{}
}

func (w world) cves() []string {
	if w.n(3) != 2 {
		return nil
	}
	return several(w.choices, 2, func() string { return pick(w.choices, "CVE-1", "projects/v/notes/CVE-1", "CVE-2", "CVE-3", "") })
}

func (w world) directory() image.Directory {
	d, _ := image.ParseDirectory(pick(w.choices, "gcr.io/p", "gcr.io/*", "gcr.io/**", "gcr.io/p/**", "gcr.io/p/*", "gcr.io/p/li*", "*.gcr.io/p", "docker.io/library", "gcr.io/p*", "GCR.io/p", "*-docker.pkg.dev/p", "nonsense"))
	return d // the zero Directory covers nothing
}

func (w world) provenanceRule() policy.ProvenanceRule {
	r := policy.ProvenanceRule{
		Builder: policy.Builder{Name: "GOOGLE_CLOUD_BUILD", IDs: some(w, 2, func() string {
			return pick(w.choices, "https://build.example/", "https://build.example/", "https://other.example/", "")
		}), Keys: w.keys()},
		Projects: w.projects(), ConfigBased: w.n(4) == 3,
	}
	if w.n(6) == 5 {
		r.Sources = several(w.choices, 2, func() policy.SourcePattern {
			s, _ := policy.ParseSourcePattern(pick(w.choices, "github.com/o/app", "github.com/o/*", "github.com/**", "nonsense*"))
			return s // the zero SourcePattern covers nothing
		})
	}
	if w.n(6) == 5 {
		r.Constraint = pick[policy.Constraint](w.choices, holds{}, holds{says: true}, holds{says: true, err: errors.New("cost limit exceeded")})
	}
	return r
}

// holds is a constraint that says the same of everything.
type holds struct {
	says bool
	err  error
}

func (h holds) Holds([]byte) (bool, error) { return h.says, h.err }
func (h holds) String() string             { return fmt.Sprintf("%v, %v", h.says, h.err) }

func (w world) facts() evidence.Facts {
	f := evidence.Facts{Images: map[image.Digest]evidence.Image{}}
	down := w.n(4) == 3
	for _, d := range worldDigests {
		if w.n(12) == 11 {
			continue
		}
		img := w.image()
		if down {
			img.State = evidence.Unavailable
		}
		f.Images[d] = img
	}
	if w.bool() {
		f.Built = map[string]image.Digest{"gcr.io/p/app:v1": worldDigests[0]}
	}
	return f
}

func (w world) image() evidence.Image {
	return evidence.Image{
		State:        pick(w.choices, evidence.Known, evidence.Known, evidence.Known, evidence.Unavailable, 7),
		Err:          pick(w.choices, "", "the store\nis gone"),
		Attestations: several(w.choices, 8, w.attestation),
		Rejected: several(w.choices, 2, func() evidence.Rejection {
			return evidence.Rejection{Note: pick(w.choices, worldNotes...), Occurrence: w.occurrence(), Project: pick(w.choices, worldProjects...), Reason: "is signed by\x1b[2J nobody"}
		}),
		Scans:       several(w.choices, 3, w.scan),
		Uploads:     several(w.choices, 3, w.upload),
		Provenances: several(w.choices, 3, w.provenance),
	}
}

func (w world) occurrence() string { return fmt.Sprintf("projects/p/occurrences/%d", w.n(250)) }

func (w world) origin() evidence.Origin {
	i := pick(w.choices, 0, 0, 0, 1, 2, 3)
	return evidence.Origin{
		Note: pick(w.choices, worldNotes...), Occurrence: w.occurrence(), Project: pick(w.choices, worldProjects...),
		KeyID: fmt.Sprintf("key-%d", i), Fingerprint: worldKeys[i], Created: w.time(),
	}
}

func (w world) time() time.Time { return noon.Add(pick(w.choices, worldTimes...)) }

func (w world) attestation() evidence.Attestation {
	a := evidence.Attestation{Origin: w.origin(), Repository: pick(w.choices, "gcr.io/p/app", "index.docker.io/library/nginx", "gcr.io/q/app", ""), Cosign: w.bool()}
	if w.n(4) == 3 {
		a.NotBefore = w.time()
	}
	if w.n(4) == 3 {
		a.NotAfter = w.time()
	}
	return a
}

func (w world) scan() evidence.Scan {
	return evidence.Scan{
		Project: pick(w.choices, worldProjects...), Finished: w.n(3) != 2, Status: pick(w.choices, "", "SCANNING", "FINISHED_FAILED"), Truncated: w.n(6) == 5,
		Findings: several(w.choices, 3, func() evidence.Finding {
			return evidence.Finding{Note: pick(w.choices, worldCVEs...), Severity: pick(w.choices, 1, 2, 3, 4, 5, 0, 6, -1), Fixable: w.bool()}
		}),
	}
}

func (w world) upload() evidence.Upload {
	return evidence.Upload{Origin: w.origin(), Time: pick(w.choices, w.time(), noon.Add(-time.Hour), noon.Add(-time.Hour), time.Time{})}
}

func (w world) provenance() evidence.Provenance {
	return evidence.Provenance{
		Origin: w.origin(), Builder: pick(w.choices, "https://build.example/worker@v1", "https://build.example/", "https://build.example.evil/", "https://other.example/", ""),
		Source: pick(w.choices, "https://github.com/o/app", "git+ssh://git@github.com/o/app.git@refs/heads/main", "https://evil.example/github.com/o/app", "github.com/o/../e", "", "GitHub.com/o/app/"), ConfigBased: w.bool(), Statement: pick(w.choices, []byte("{}"), []byte("{}"), []byte("{}"), nil),
	}
}

// grant tells of some images that rules allowed them before. What a rule is called
// is known once it is built, so a copy is.
func (w world) grant(q *question) {
	hashes, texts := []string{""}, []string{""}
	for _, r := range q.Set {
		if r == nil {
			continue
		}
		copied := *r
		copied.Rules = slices.Clone(r.Rules)
		for i := range copied.Rules {
			copied.Rules[i].Checks = slices.Clone(copied.Rules[i].Checks)
		}
		for i := range copied.Build().Rules {
			hashes = append(hashes, copied.Rules[i].Hash())
		}
	}
	for _, u := range q.Request.Images {
		texts = append(texts, u.Text)
	}
	for _, d := range worldDigests {
		img, ok := q.Facts.Images[d]
		if !ok {
			continue
		}
		if w.bool() { // by every rule
			for i := range hashes {
				for j := range texts {
					img.Allowed = append(img.Allowed, evidence.Allowed{Image: texts[j], Rule: hashes[i], Policy: "v1", Time: noon.Add(-30 * time.Minute)})
				}
			}
			q.Facts.Images[d] = img
			continue
		}
		img.Allowed = several(w.choices, 8, func() evidence.Allowed {
			return evidence.Allowed{
				Image: pick(w.choices, texts...), Rule: pick(w.choices, hashes...), Policy: "v1",
				Time: noon.Add(pick(w.choices, 0, -30*time.Minute, -time.Hour, -2*time.Hour, time.Minute)),
			}
		})
		q.Facts.Images[d] = img
	}
}
