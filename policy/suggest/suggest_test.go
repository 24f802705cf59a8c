package suggest_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
	"github.com/gatehouse-dev/gatehouse/policy/suggest"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// attestors makes some, called a, b and so on, each with a key.
func attestors(t *testing.T, n int) []binauthz.Attestor {
	t.Helper()
	var list []binauthz.Attestor
	for i := range n {
		private, err := signature.GeneratePKIX(signature.Ed25519, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := signature.ParsePKIXSigner(private, signature.Ed25519, "")
		if err != nil {
			t.Fatal(err)
		}
		name := string(rune('a' + i))
		list = append(list, binauthz.Attestor{Name: "projects/p/attestors/" + name, Note: "projects/p/notes/" + name, Keys: []*signature.PublicKey{signer.PublicKey()}, File: "attestors.yaml", Line: i + 1})
	}
	return list
}

// attest adds an attestation of a digest to the facts.
func attest(facts *evidence.Facts, d image.Digest, a *binauthz.Attestor) {
	if facts.Images == nil {
		facts.Images = map[image.Digest]evidence.Image{}
	}
	known := facts.Images[d]
	known.State = evidence.Known
	if a != nil {
		known.Attestations = append(known.Attestations, evidence.Attestation{Origin: evidence.Origin{Note: a.Note, Occurrence: "projects/p/occurrences/1", KeyID: a.Keys[0].ID(), Fingerprint: a.Keys[0].Fingerprint()}})
	}
	facts.Images[d] = known
}

func digestOf(t *testing.T, text string) image.Digest {
	t.Helper()
	ref, err := image.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return ref.Digest()
}

func on(namespace string, images ...string) decide.Request {
	r := decide.Request{Namespace: namespace}
	for _, text := range images {
		r.Images = append(r.Images, decide.ImageUse{Text: text})
	}
	return r
}

func hex(c string) string { return "@sha256:" + strings.Repeat(c, 64) }

func texts(patterns []suggest.Pattern) []string {
	list := []string{}
	for _, p := range patterns {
		list = append(list, p.Pattern)
	}
	return list
}

func TestPatternsAreTheCheapest(t *testing.T) {
	t.Parallel()
	names := func(format string, n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf(format, i))
		}
		return list
	}
	for name, test := range map[string]struct {
		images  []string
		options suggest.Options
		want    []string
	}{
		"nothing":                         {nil, suggest.Options{}, []string{}},
		"two tags":                        {[]string{"r.io/p/a:1", "r.io/p/a:2"}, suggest.Options{Wildcards: suggest.ReachTree}, []string{"r.io/p/a:1", "r.io/p/a:2"}},
		"three tags":                      {names("r.io/p/a:%d", 3), suggest.Options{Wildcards: suggest.ReachTag}, []string{"r.io/p/a:*"}},
		"three tags, no wildcards":        {names("r.io/p/a:%d", 3), suggest.Options{}, names("r.io/p/a:%d", 3)},
		"three digests":                   {[]string{"r.io/p/a" + hex("1"), "r.io/p/a" + hex("2"), "r.io/p/a" + hex("3")}, suggest.Options{Wildcards: suggest.ReachTree}, []string{"r.io/p/a@sha256:*"}},
		"nine images":                     {names("r.io/p/a%d:1", 9), suggest.Options{Wildcards: suggest.ReachTree}, []string{"r.io/p/*"}},
		"nine images, no paths":           {names("r.io/p/a%d:1", 9), suggest.Options{Wildcards: suggest.ReachTag}, names("r.io/p/a%d:1", 9)},
		"eight images, as dear as a path": {names("r.io/p/a%d:1", 8), suggest.Options{Wildcards: suggest.ReachTree}, names("r.io/p/a%d:1", 8)},
		"nine images of others":           {names("ghcr.io/p/a%d:1", 9), suggest.Options{Wildcards: suggest.ReachTree}, names("ghcr.io/p/a%d:1", 9)},
		"two paths":                       {append(names("r.io/p/x/a%d:1", 9), names("r.io/p/y/a%d:1", 9)...), suggest.Options{Wildcards: suggest.ReachTree}, []string{"r.io/p/**"}},
		"two paths, none below":           {append(names("r.io/p/x/a%d:1", 9), names("r.io/p/y/a%d:1", 9)...), suggest.Options{Wildcards: suggest.ReachFolder}, []string{"r.io/p/x/*", "r.io/p/y/*"}},
		"never a host":                    {names("r.io/a%d:1", 9), suggest.Options{Wildcards: suggest.ReachTree}, names("r.io/a%d:1", 9)},
		"never Docker Hub":                {names("a%d:1", 9), suggest.Options{Wildcards: suggest.ReachTree}, names("a%d:1", 9)},
		"few patterns":                    {[]string{"r.io/p/a:1", "r.io/p/b:1", "r.io/q:1"}, suggest.Options{Wildcards: suggest.ReachTree, MaxPatterns: 2}, []string{"r.io/p/*", "r.io/q:1"}},
		"a tag with a digest":             {[]string{"r.io/p/a:1" + hex("1"), "r.io/p/a:2", "r.io/p/a:3"}, suggest.Options{Wildcards: suggest.ReachTag}, []string{"r.io/p/a:*"}},
		"the same image twice is one":     {[]string{"r.io/p/a:1", "r.io/p/a:1", "r.io/p/a:1"}, suggest.Options{Wildcards: suggest.ReachTree}, []string{"r.io/p/a:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list, err := suggest.Patterns(test.images, test.options)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(test.want, texts(list)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestWhatCannotBeProposedIsAnError(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		images  []string
		options suggest.Options
		want    string
	}{
		"too few patterns": {[]string{"r.io/a:1", "r.io/b:1", "q.io/c:1"}, suggest.Options{Wildcards: suggest.ReachTree, MaxPatterns: 2}, "at least 3 patterns are needed"},
		"no reference":     {[]string{"r.io/A"}, suggest.Options{}, "r.io/A"},
		"less than none":   {nil, suggest.Options{MaxPatterns: -1}, "at most -1 patterns"},
	} {
		if _, err := suggest.Patterns(test.images, test.options); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

func TestWhatAPatternReachesIsSaid(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string][2]string{
		"r.io/p/a:1":                {"whatever the tag is moved to", ""},
		"r.io/p/a" + hex("1"):       {"nothing", ""},
		"r.io/p/a":                  {"without a tag", ""},
		"r.io/p/A":                  {"nothing that a node can pull", ""},
		"r.io/p/a:*":                {"every tag of r.io/p/a", ""},
		"r.io/p/a:v1.*":             {"every tag that begins with r.io/p/a:v1.", ""},
		"r.io/p/a@*":                {"every digest of r.io/p/a:", ""},
		"r.io/p/a@sha256:*":         {"every digest of r.io/p/a:", ""},
		"r.io/p/*":                  {"every image directly in r.io/p,", ""},
		"r.io/p/a*":                 {"begins with r.io/p/a and goes no deeper", ""},
		"r.io/p/**":                 {"every image below r.io/p,", ""},
		"r.io/p**":                  {"r.io/p-other/x", ""},
		"ghcr.io/me/*":              {"directly in ghcr.io/me", `anyone may have a place on ghcr.io: be sure that "me" is who you mean, since all`},
		"ghcr.io/me/app:*":          {"every tag", `be sure that "me" is who you mean`},
		"ghcr.io/**":                {"every image below ghcr.io", "everyone's images"},
		"docker.io/library/*":       {"directly in docker.io/library", "every official image of Docker Hub"},
		"docker.io/library/redis:*": {"every tag of docker.io/library/redis", ""},
		"redis:*":                   {"every tag of redis", ""},
		"redis*":                    {"begins with redis", "every official image of Docker Hub"},
		"me/app:*":                  {"every tag of me/app", `Docker Hub: be sure that "me"`},
	} {
		words, warnings := suggest.Reaches(pattern)
		if !strings.Contains(words, want[0]) {
			t.Errorf("%s: %q, want %q", pattern, words, want[0])
		}
		if all := strings.Join(warnings, "; "); !strings.Contains(all, want[1]) || (want[1] == "") != (all == "") {
			t.Errorf("%s warns %q, want %q", pattern, all, want[1])
		}
	}
}

// hasWords reports whether text has all words.
func hasWords(text string, words ...string) bool {
	return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
}

func TestAttestationsAreProposedBeforePatterns(t *testing.T) {
	t.Parallel()
	list := attestors(t, 3)
	a, b, c := &list[0], &list[1], &list[2]
	one, two, three, tag := "r.io/p/one"+hex("1"), "r.io/p/two"+hex("2"), "r.io/p/three"+hex("3"), "r.io/p/four:1"
	for name, test := range map[string]struct {
		by       map[string][]*binauthz.Attestor
		want     []string
		patterns []string
		partly   []suggest.PartlyAttested
	}{
		"nobody attested":       {nil, nil, []string{tag, one, three, two}, nil},
		"one attested all":      {map[string][]*binauthz.Attestor{one: {a}, two: {a}, three: {a}}, []string{a.Name}, []string{tag}, nil},
		"two attested all":      {map[string][]*binauthz.Attestor{one: {a, b}, two: {b, a}, three: {a, b, c}}, []string{a.Name, b.Name}, []string{tag}, nil},
		"one attested not all":  {map[string][]*binauthz.Attestor{one: {a, b}, two: {a}}, []string{a.Name}, []string{tag, three}, nil},
		"nobody attested every": {map[string][]*binauthz.Attestor{one: {a, b}, two: {a, b}, three: {c}}, []string{a.Name, b.Name}, []string{tag, three}, []suggest.PartlyAttested{{three, []string{c.Name}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := suggest.World{Seen: &suggest.Seen{}, Attestors: list, Evidence: true, Now: now}
			w.Seen.Add(on("shop", one, two, three, tag), "here")
			for _, text := range []string{one, two, three} {
				attest(&w.Facts, digestOf(t, text), nil)
				for _, by := range test.by[text] {
					attest(&w.Facts, digestOf(t, text), by)
				}
			}
			p, err := suggest.Propose(suggest.Input{World: w})
			if err != nil || len(p.Left) > 0 {
				t.Fatal(err, p)
			}
			if d := cmp.Diff(test.want, p.Attestors); d != "" {
				t.Error(d)
			}
			got := texts(p.Patterns)
			slices.Sort(got)
			slices.Sort(test.patterns)
			if d := cmp.Diff(test.patterns, got); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(test.partly, p.Partly); d != "" {
				t.Error(d)
			}
			if want := map[bool]string{true: "ALWAYS_DENY", false: "REQUIRE_ATTESTATION"}[test.want == nil]; !strings.Contains(string(p.Text), want) {
				t.Errorf("%s is not in\n%s", want, p.Text)
			}
		})
	}
}

func TestRandomAttestations(t *testing.T) {
	t.Parallel()
	list := attestors(t, 4)
	for seed := range uint64(300) {
		r := mathrand.New(mathrand.NewPCG(seed, 5))
		images := randomImages(r, 12)
		w := suggest.World{Seen: seen(r, images), Attestors: list, Evidence: true, Now: now}
		for c := range 3 {
			d := digestOf(t, "a"+hex(fmt.Sprint(c)))
			attest(&w.Facts, d, nil)
			for i := range list {
				if r.IntN(2) == 0 {
					attest(&w.Facts, d, &list[i])
				}
			}
		}
		p, err := suggest.Propose(suggest.Input{World: w, Options: suggest.Options{Wildcards: randomReach(r)}})
		if err != nil || len(p.Left) > 0 {
			t.Fatal(seed, err, p)
		}
		if slices.Contains(allowed(t, p.Text, w.Facts, list, images), false) {
			t.Fatalf("seed %d: not all of %v is let in by\n%s", seed, images, p.Text)
		}
		parsed, found := binauthz.ParsePolicy("p", p.Text)
		if parsed == nil {
			t.Fatal(found)
		}
		if tight, err := suggest.Tighten(w, parsed, p.Text, suggest.NarrowExact); err != nil || tight.Changed {
			t.Fatalf("seed %d: %v %v", seed, err, tight)
		}
	}
}

func TestAPolicyThatIsKept(t *testing.T) {
	t.Parallel()
	const text = `# Ours.
admissionWhitelistPatterns:
# the system
- namePattern: r.io/system/**
# will be included
- namePattern: r.io/p/a:1 # soon
defaultAdmissionRule:
  enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG
  evaluationMode: ALWAYS_DENY
kubernetesNamespaceAdmissionRules:
  free:
    enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG
    evaluationMode: ALWAYS_ALLOW
`
	keep, found := binauthz.ParsePolicy("policy.yaml", []byte(text))
	if keep == nil {
		t.Fatal(found)
	}
	w := suggest.World{Seen: &suggest.Seen{}, Now: now}
	w.Seen.Add(on("free", "r.io/free:1"), "here")
	w.Seen.Add(on("shop", "r.io/system/x/y:1", "r.io/p/a:1", "r.io/p/a:2", "r.io/p/a:3", "r.io/p/a:4"), "here")
	p, err := suggest.Propose(suggest.Input{World: w, Keep: keep, KeepText: []byte(text), Options: suggest.Options{Wildcards: suggest.ReachTree}})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(text, "# will be included\n- namePattern: r.io/p/a:1 # soon\n", "- namePattern: r.io/p/a:*\n", 1)
	if d := cmp.Diff(want, string(p.Text)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"r.io/p/a:1"}, p.Superseded); d != "" || p.Already != 3 || len(p.Left) > 0 {
		t.Error(d, p)
	}
	_, err = suggest.Propose(suggest.Input{World: w, Keep: keep, KeepText: []byte(text), Options: suggest.Options{Wildcards: suggest.ReachTree, MaxPatterns: 2}})
	if err == nil || !strings.Contains(err.Error(), "has 2 patterns already") {
		t.Error(err)
	}
}

func TestWhatIsNoReferenceIsLeft(t *testing.T) {
	t.Parallel()
	w := suggest.World{Seen: &suggest.Seen{}, Now: now}
	w.Seen.Add(on("shop", "$(IMAGE)", "r.io/p/a:1", ""), "Pod shop/p")
	w.Seen.Add(on("other", "$(IMAGE)"), "Pod other/p")
	p, err := suggest.Propose(suggest.Input{World: w})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Left) != 1 || p.Left[0].Image != "$(IMAGE)" || p.Left[0].Where != "Pod shop/p" || p.Left[0].Why == "" || p.Seen != 2 {
		t.Error(p)
	}
	if d := cmp.Diff([]string{"r.io/p/a:1"}, texts(p.Patterns)); d != "" {
		t.Error(d)
	}
}

func TestDeniedImagesThatAPatternWouldLetInAreTold(t *testing.T) {
	t.Parallel()
	w := suggest.World{Seen: &suggest.Seen{}, Now: now}
	w.Seen.Add(on("shop", "r.io/p/a:1", "r.io/p/a:2", "r.io/p/a:3", "r.io/p/b:1"), "here")
	for _, text := range []string{"r.io/p/a:9", "r.io/p/b:1", "r.io/p/b:2", "r.io/p/a:x\n- namePattern: evil", "r.io/q:1"} {
		w.Seen.Deny(text)
	}
	p, err := suggest.Propose(suggest.Input{World: w, Options: suggest.Options{Wildcards: suggest.ReachTag}})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Patterns[0]; got.Pattern != "r.io/p/a:*" || !slices.Equal(got.Denied, []string{"r.io/p/a:9"}) || p.Patterns[1].DeniedCount != 0 {
		t.Error(p.Patterns)
	}
	if text := string(p.Text); !strings.Contains(text, "# Careful: this would let in r.io/p/a:9, which was denied.\n") || strings.Contains(text, "evil") {
		t.Error(text)
	}
}

const loose = `# Ours.
admissionWhitelistPatterns:
# Team P
- namePattern: r.io/p/** # all of it
- namePattern: r.io/p/a:* # theirs
# Gone since May
- namePattern: r.io/gone:*
- namePattern: r.io/q/one:1
- namePattern: r.io/q/one:1
# by attestation now
- namePattern: r.io/x/web@sha256:*
defaultAdmissionRule:
  enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG
  evaluationMode: REQUIRE_ATTESTATION
  requireAttestationsBy:
  - projects/p/attestors/a
kubernetesNamespaceAdmissionRules:
  empty:
    enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG
    evaluationMode: ALWAYS_DENY
  tagged:
    enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG
    evaluationMode: REQUIRE_ATTESTATION
    requireAttestationsBy:
    - projects/p/attestors/a
`

func tighten(t *testing.T, text string, narrow suggest.Narrow, images ...string) (*suggest.Tightening, error) {
	t.Helper()
	p, found := binauthz.ParsePolicy("policy.yaml", []byte(text))
	if p == nil {
		t.Fatal(found)
	}
	list := attestors(t, 2)
	w := suggest.World{Seen: &suggest.Seen{}, Attestors: list, Evidence: true, Now: now}
	w.Seen.Add(on("shop", images...), "Pod shop/p")
	w.Seen.Add(on("tagged", "r.io/p/a:1"), "Pod tagged/p")
	d := digestOf(t, "a"+hex("1"))
	attest(&w.Facts, d, &list[0])
	return suggest.Tighten(w, p, []byte(text), narrow)
}

func TestTighteningNamesWhatIsNotNeeded(t *testing.T) {
	t.Parallel()
	tight, err := tighten(t, loose, suggest.NarrowNames, "r.io/p/a:1", "r.io/p/b:1", "r.io/q/one:1", "r.io/x/web"+hex("1"), "other")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range tight.Findings {
		got = append(got, fmt.Sprintf("%s %s", f.Kind, f))
	}
	want := []string{
		`wide policy.yaml:4: pattern "r.io/p/**" is wider than what was seen: r.io/p/b:* would do`,
		`unused policy.yaml:7: pattern "r.io/gone:*" is not needed: no image that was seen is covered by it`,
		`included policy.yaml:9: pattern "r.io/q/one:1" is given twice, also at line 8`,
		`unused policy.yaml:11: pattern "r.io/x/web@sha256:*" is not needed: what was seen of it is let in without it, such as r.io/x/web` + hex("1"),
		`rule policy.yaml:18: the namespace admission rule for empty is for nothing that was seen`,
		`rule policy.yaml:21: the attestors of the namespace admission rule for tagged are needed by nothing that was seen: patterns let in all of it; ALWAYS_DENY would say the same`,
		`attestor attestors.yaml:2: attestor "projects/p/attestors/b" is required by no rule of policy.yaml`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if len(tight.Left) != 1 || tight.Left[0].Image != "other" || tight.Left[0].Where != "Pod shop/p" {
		t.Error(tight.Left)
	}
	text := loose
	for old, changed := range map[string]string{
		"r.io/p/** # all of it": "r.io/p/b:* # all of it",
		"# Gone since May\n- namePattern: r.io/gone:*\n- namePattern: r.io/q/one:1\n- namePattern: r.io/q/one:1\n": "# Gone since May\n- namePattern: r.io/q/one:1\n",
		"# by attestation now\n- namePattern: r.io/x/web@sha256:*\n":                                               "",
	} {
		text = strings.Replace(text, old, changed, 1)
	}
	if d := cmp.Diff(text, string(tight.Text)); d != "" {
		t.Error(d)
	}
}

func TestHowNarrow(t *testing.T) {
	t.Parallel()
	for narrow, want := range map[suggest.Narrow]string{
		suggest.NarrowNot: "r.io/p/**", suggest.NarrowNames: "r.io/p/a:*", suggest.NarrowExact: "r.io/p/a:1",
	} {
		tight, err := tighten(t, loose, narrow, "r.io/p/a:1")
		if err != nil {
			t.Fatal(err)
		}
		p, found := binauthz.ParsePolicy("p", tight.Text)
		if p == nil {
			t.Fatal(found)
		}
		// What nobody needs goes in any case; the narrower of two that would do stays.
		if narrow == suggest.NarrowNot {
			want = "r.io/p/a:*"
		}
		if len(p.Exempt) != 1 || p.Exempt[0].Pattern.String() != want {
			t.Errorf("%d: %v", narrow, p.Exempt)
		}
	}
}

func TestNobodyOwnsAllOfASharedRegistry(t *testing.T) {
	t.Parallel()
	const both = "defaultAdmissionRule: {evaluationMode: ALWAYS_DENY, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}\nadmissionWhitelistPatterns: [{namePattern: ghcr.io/**}, {namePattern: r.io/**}]\n"
	var images []string
	for i := range 30 {
		images = append(images, fmt.Sprintf("ghcr.io/owner%d/app:1", i), fmt.Sprintf("r.io/owner%d/app:1", i))
	}
	tight, err := tighten(t, both, suggest.NarrowNames, images...)
	if err != nil {
		t.Fatal(err)
	}
	if tight.Findings[0].Pattern != "ghcr.io/**" || len(tight.Findings[0].Instead) != 30 || tight.Findings[1].Kind != suggest.Attestor {
		t.Error(tight.Findings)
	}
}

func TestAWildcardIncludesNoHost(t *testing.T) {
	t.Parallel()
	const hosts = "defaultAdmissionRule: {evaluationMode: ALWAYS_DENY, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}\nadmissionWhitelistPatterns: [{namePattern: nginx**}, {namePattern: nginx.example/x:1}]\n"
	tight, err := tighten(t, hosts, suggest.NarrowNot, "nginx:1")
	if err != nil {
		t.Fatal(err)
	}
	if f := tight.Findings[0]; f.Pattern != "nginx.example/x:1" || f.Kind != suggest.Unused {
		t.Error(f)
	}
}

func TestAnImageThatIsLetInInOnePlaceOnly(t *testing.T) {
	t.Parallel()
	const places = "admissionWhitelistPatterns: [{namePattern: r.io/old:1}, {namePattern: r.io/p/b:1}]\n" +
		"defaultAdmissionRule: {evaluationMode: ALWAYS_DENY, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}\n" +
		"kubernetesNamespaceAdmissionRules: {tagged: {evaluationMode: ALWAYS_ALLOW, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}}\n"
	tight, err := tighten(t, places, suggest.NarrowNames, "r.io/p/a:1", "r.io/p/b:1")
	if err != nil {
		t.Fatal(err)
	}
	if len(tight.Left) != 1 || tight.Left[0].Image != "r.io/p/a:1" || !tight.Changed {
		t.Error(tight)
	}
}

func TestNothingIsSaidWhenNothingIsSeen(t *testing.T) {
	t.Parallel()
	const none = "defaultAdmissionRule: {evaluationMode: ALWAYS_DENY, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}\nadmissionWhitelistPatterns: [{namePattern: r.io/z:1}]\n"
	tight, err := tighten(t, none, suggest.NarrowNames, "r.io/p/a:1")
	if !errors.Is(err, suggest.ErrNothingSeen) || len(tight.Left) != 1 {
		t.Error(err, tight)
	}
}

func TestAPolicyInJSONStaysJSON(t *testing.T) {
	t.Parallel()
	const text = `{"defaultAdmissionRule": {"evaluationMode": "ALWAYS_DENY", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG"}, "admissionWhitelistPatterns": [{"namePattern": "r.io/p/**"}, {"namePattern": "r.io/z:1"}]}`
	tight, err := tighten(t, text, suggest.NarrowNames, "r.io/p/a:1")
	if err != nil {
		t.Fatal(err)
	}
	if got := string(tight.Text); !hasWords(got, "{\n", `"namePattern": "r.io/p/a:*"`) || strings.Contains(got, "r.io/z") {
		t.Error(got)
	}
}

func TestAListThatGoesLeavesItsComments(t *testing.T) {
	t.Parallel()
	const text = "# Ours.\n\n# Until all is signed.\nadmissionWhitelistPatterns:\n- namePattern: r.io/z:1\ndefaultAdmissionRule:\n  enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG\n  evaluationMode: ALWAYS_ALLOW\n"
	tight, err := tighten(t, text, suggest.NarrowNames, "r.io/p/a:1")
	if err != nil {
		t.Fatal(err)
	}
	if got := string(tight.Text); !hasWords(got, "# Ours.", "# Until all is signed.") || strings.Contains(got, "Patterns") {
		t.Error(got)
	}
}

func FuzzProposeAndTighten(f *testing.F) {
	f.Add("r.io/p/a:1 r.io/p/a:2\nghcr.io/x/y@sha256:"+strings.Repeat("0", 64), "r.io/p/**\nr.io/p/a:*", uint8(3), uint8(0))
	f.Add("a b:1 c/d:1 localhost/x localhost:5000/y:2 $(X)", "a\na**\nc/*\nlocalhost/**", uint8(2), uint8(2))
	f.Fuzz(func(t *testing.T, words, patterns string, reach, most uint8) {
		images := strings.Fields(words)
		w := suggest.World{Seen: &suggest.Seen{}, Now: now}
		w.Seen.Add(on("one", images...), "here")
		p, err := suggest.Propose(suggest.Input{World: w, Options: suggest.Options{Wildcards: suggest.Reach(reach % 4), MaxPatterns: int(most)}})
		if err != nil && most == 0 {
			t.Fatal(err)
		}
		if err == nil {
			left := map[string]bool{}
			for _, l := range p.Left {
				left[l.Image] = true
			}
			for i, ok := range allowed(t, p.Text, evidence.Facts{}, nil, images) {
				if !ok && !left[images[i]] {
					t.Errorf("%q is denied and not left", images[i])
				}
			}
		}
		text := "admissionWhitelistPatterns:\n"
		for line := range strings.Lines(patterns) {
			if pattern, err := image.ParseBinauthzPattern(strings.TrimSpace(line)); err == nil {
				text += "- namePattern: '" + pattern.String() + "'\n"
			}
		}
		text += "defaultAdmissionRule: {evaluationMode: ALWAYS_DENY, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}\n"
		policy, found := binauthz.ParsePolicy("p", []byte(text))
		if policy == nil {
			t.Fatal(found)
		}
		before := allowed(t, []byte(text), evidence.Facts{}, nil, images)
		tight, err := suggest.Tighten(w, policy, []byte(text), suggest.Narrow(most%3))
		if errors.Is(err, suggest.ErrNothingSeen) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if after := allowed(t, tight.Text, evidence.Facts{}, nil, images); !slices.Equal(before, after) {
			t.Errorf("%v before, %v after, for %q\n%s\n%s", before, after, images, text, tight.Text)
		}
	})
}

func BenchmarkPropose(b *testing.B) {
	r := mathrand.New(mathrand.NewPCG(1, 1))
	var s suggest.Seen
	for i := range 10_000 {
		s.Add(on(fmt.Sprintf("n%d", i%50), fmt.Sprintf("%steam%d/svc%d:v%d", pick(r, "reg.example/", "ghcr.io/", "", "gcr.io/"), r.IntN(300), r.IntN(2000), r.IntN(50))), "here")
	}
	for _, most := range []int{0, 5000} {
		b.Run(fmt.Sprintf("most=%d", most), func(b *testing.B) {
			for b.Loop() {
				if _, err := suggest.Propose(suggest.Input{World: suggest.World{Seen: &s, Now: now}, Options: suggest.Options{Wildcards: suggest.ReachTree, MaxPatterns: most}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
