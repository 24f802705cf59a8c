package decide_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
)

// Ways in which gates of this kind have been got around, each as a policy that
// people write and a pod that an attacker does.

const (
	denyAll     = "{evaluationMode: ALWAYS_DENY, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}"
	requireTwo  = "{evaluationMode: REQUIRE_ATTESTATION, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG, requireAttestationsBy: [" + built + ", " + scanned + "]}"
	requireOne  = "{evaluationMode: REQUIRE_ATTESTATION, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG, requireAttestationsBy: [" + built + "]}"
	otherDigest = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// exempting is a policy that denies everything but what the patterns cover.
func exempting(t *testing.T, patterns ...string) *policy.Ruleset {
	t.Helper()
	return compiled(t, []byte("admissionWhitelistPatterns:\n- namePattern: "+strings.Join(patterns, "\n- namePattern: ")+"\ndefaultAdmissionRule: "+denyAll))
}

func requiring(t *testing.T, rule string) *policy.Ruleset {
	t.Helper()
	return compiled(t, []byte("defaultAdmissionRule: "+rule))
}

func TestB7WildcardsAndSpellingsOfNames(t *testing.T) {
	t.Parallel()
	for pattern, texts := range map[string]struct{ covered, not []string }{
		"gcr.io/p/*": {
			[]string{"gcr.io/p/a", "gcr.io/p/a:1", digested},
			[]string{
				"gcr.io/p", "gcr.io/p/a/b", "gcr.io/pp/a", "gcr.io/P/a", "GCR.IO/p/a", "gcr.io.evil.example/p/a", "evil.example/gcr.io/p/a", "gcr.io@evil.example/p/a", "gcr.io%2fp/a", "gcr.io%2Fp%2Fa",
				"gcr.io./p/a", "gcr.io:443/p/a", "gcr.io:/p/a", "user@gcr.io/p/a", "user:pw@gcr.io/p/a", "https://gcr.io/p/a", "//gcr.io/p/a", "/gcr.io/p/a", "gcr.io//p/a", "gcr.io/./p/a", "gcr.io/q/../p/a",
				" gcr.io/p/a", "\tgcr.io/p/a", "\ngcr.io/p/a", "\x00gcr.io/p/a", "\ufeffgcr.io/p/a", "\uff47cr.io/p/a", "gcr.io\uff0fp/a", "g\u0441r.io/p/a", "gcr.\u0131o/p/a", "\u202egcr.io/p/a", "gcr.io\u200b/p/a", "xn--gcr-.io/p/a", "eu.gcr.io/p/a", "a", "p/a", "docker.io/gcr.io/p/a", "",
			},
		},
		"gcr.io/p/app": {[]string{"gcr.io/p/app"}, []string{"gcr.io/p/app:latest", "gcr.io/p/app@sha256:" + hexA, "gcr.io/p/app ", "gcr.io/p/app\n", "gcr.io/p/apps", "gcr.io/p/App"}},
		"gcr.io/p/app:v1.*": {
			[]string{"gcr.io/p/app:v1.", "gcr.io/p/app:v1.9", "gcr.io/p/app:v1.9@sha256:" + hexA},
			[]string{"gcr.io/p/app:v1", "gcr.io/p/app:v19", "gcr.io/p/app:V1.9", "gcr.io/p/app", "gcr.io/p/app:v1.9/../evil"},
		},
		"gcr.io/p/**": {[]string{"gcr.io/p/a/b/c:1"}, []string{"gcr.io/q/a", "gcr.io/p", "gcr.io.evil.example/p/a", "gcr.io/pq/a"}},
		"nginx*":      {[]string{"nginx", "nginx:1", "nginx-x"}, []string{"nginx/x", "nginx.evil.example/x", "docker.io/library/nginx", "library/nginx", "NGINX"}},
		"nginx**":     {[]string{"nginx/x:1", "nginx-x/y"}, []string{"nginx.evil.example/x", "nginx:5000/x", "nginx@evil.example/x"}},
		// One registry, three names; an exemption is of what is written.
		"docker.io/library/*":    {[]string{"docker.io/library/nginx"}, []string{"nginx", "library/nginx", "index.docker.io/library/nginx", "registry-1.docker.io/library/nginx", "DOCKER.IO/library/nginx", "docker.io/nginx"}},
		"localhost:5000/p/*":     {[]string{"localhost:5000/p/a"}, []string{"localhost:50000/p/a", "localhost/p/a", "localhost:5000.evil.example/p/a"}},
		"gcr.io/p/app@sha256:*":  {[]string{digested}, []string{tagged, "gcr.io/p/app:v1@sha256:" + hexA}},
		"gcr.io/p/app@" + "sha*": {[]string{digested}, []string{tagged}},
	} {
		rules := exempting(t, pattern)
		for _, text := range texts.covered {
			if d := decided(request(text), rules, nil, noon); d.Verdict != decide.ALLOW {
				t.Errorf("pattern %q does not exempt %q", pattern, text)
			}
		}
		for _, text := range texts.not {
			if d := decided(request(text), rules, both(), noon); d.Allowed {
				t.Errorf("pattern %q exempts %q", pattern, text)
			}
		}
	}
	for _, pattern := range []string{"*", "**", "*/app", "gcr.io*", "gcr.io**", "*.gcr.io/p/*", "gcr.io/*/app", "gcr.i*/p/app", "[::1]*", "gcr.io:**", "localhost*", "'gcr.io/p/\u0430*'", `"gcr.io/p/\n*"`, "' gcr.io/p/*'", "https://gcr.io/p/*", "gcr.io//p/*", "''"} {
		if p, found := binauthz.ParsePolicy("policy.yaml", []byte("admissionWhitelistPatterns:\n- namePattern: "+pattern+"\ndefaultAdmissionRule: "+denyAll)); !found.HasErrors() {
			t.Errorf("pattern %s is taken for %v", pattern, p.Exempt)
		}
	}
}

func TestB7ATagBesideADigestSaysNothing(t *testing.T) {
	t.Parallel()
	rules := requiring(t, requireTwo)
	facts := evidence.Facts{Images: both(), Built: map[string]image.Digest{tagged: digestA(), "gcr.io/p/app:v1@" + otherDigest: digestA()}}
	lies := decide.Decide(request("gcr.io/p/app:v1@"+otherDigest), policy.Set{rules}, facts, noon)
	if lies.Allowed || lies.Images[0].Digest.String() != otherDigest {
		t.Errorf("the tag of what is attested, and the digest of something else: %s", lies.Summary)
	}
	if d := decide.Decide(request("gcr.io/p/app:evil@sha256:"+hexA), policy.Set{rules}, facts, noon); !d.Allowed {
		t.Errorf("the digest of what is attested, whatever the tag: %s", d.Summary)
	}
	for _, text := range []string{
		tagged, "gcr.io/p/app", "sha256:" + hexA, hexA, "gcr.io/p/app@SHA256:" + hexA, "gcr.io/p/app@sha256:" + strings.ToUpper(hexA), "gcr.io/p/app@sha512:" + hexA + hexA, "gcr.io/p/app@sha256:" + hexA + "@sha256:" + hexA,
		"gcr.io/p/app@sha256:" + hexA + "\n", "gcr.io/p/app@sha256:" + hexA[:63], "gcr.io/p/app@sha256:" + hexA + "0", "@sha256:" + hexA, "gcr.io/p/app@" + otherDigest + "@sha256:" + hexA, "gcr.io/p/app:@sha256:" + hexA, "gcr.io/p/App@sha256:" + hexA,
		"gcr.io/p/\u0430pp@sha256:" + hexA, "gcr.io/p/app\x00@sha256:" + hexA, "gcr.io@evil/p/app@sha256:" + hexA, "gcr.io./p/app@sha256:" + hexA, " gcr.io/p/app@sha256:" + hexA, "http://gcr.io/p/app@sha256:" + hexA,
		strings.Repeat("a", 300) + "@sha256:" + hexA, strings.Repeat("gcr.io/", 200) + "@sha256:" + hexA,
	} {
		if d := decide.Decide(request(text), policy.Set{rules}, facts, noon); d.Verdict != decide.DENY || d.Allowed {
			t.Errorf("%q: %v", text, d.Verdict)
		}
	}
}

func TestB8NothingSatisfiesNothing(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]string{
		"no attestor":    "{evaluationMode: REQUIRE_ATTESTATION, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG, requireAttestationsBy: []}",
		"null":           "{evaluationMode: REQUIRE_ATTESTATION, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG, requireAttestationsBy: null}",
		"no evaluation":  "{enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}",
		"no enforcement": "{evaluationMode: ALWAYS_ALLOW}",
		"zero":           "{evaluationMode: 0, enforcementMode: 0}",
		"nothing":        "{}",
		"absent":         "null",
	} {
		if _, found := binauthz.ParsePolicy("policy.yaml", []byte("defaultAdmissionRule: "+rule)); !found.HasErrors() {
			t.Errorf("a rule with %s is taken", name)
		}
	}
	p, _ := binauthz.ParsePolicy("policy.yaml", []byte("defaultAdmissionRule: "+requireOne))
	missing, _ := p.Compile(nil)
	note := evidence.Attestation{Origin: evidence.Origin{Note: "projects/p/notes/built"}}
	for name, rules := range map[string]*policy.Ruleset{
		"an attestor that is not there": missing,
		"an attestor of nothing":        {Rules: missing.Rules, Attestors: map[string]policy.Attestor{built: {}}},
		"an attestor without keys":      {Rules: missing.Rules, Attestors: map[string]policy.Attestor{built: {Note: "projects/p/notes/built"}}},
		"a key that was never parsed":   {Rules: missing.Rules, Attestors: map[string]policy.Attestor{built: {Note: "projects/p/notes/built", Keys: make([]policy.Key, 1)}}},
		"no rule for the pod":           {Rules: []policy.Rule{{Scope: policy.Scope{Namespace: "other"}, Evaluation: policy.AlwaysAllow}}},
		"no rule":                       {},
		"no check":                      {Rules: []policy.Rule{{Evaluation: policy.RequireChecks}}},
		"an empty check":                {Rules: []policy.Rule{{Evaluation: policy.RequireChecks, Checks: make([]policy.Check, 1)}}},
		"an empty exemption":            {Exempt: make([]policy.Exemption, 1)},
		"an unknown evaluation":         {Rules: []policy.Rule{{Evaluation: 99}}},
	} {
		for _, have := range []images{both(), known(note), known(evidence.Attestation{}), known(), nil} {
			for _, text := range []string{digested, tagged, ""} {
				if d := decided(request(text), rules, have, noon); d.Verdict == decide.ALLOW || d.Allowed {
					t.Errorf("%s: %q is allowed: %s", name, text, d.Summary)
				}
			}
		}
	}
}

func TestB9EvidenceOfTheWrongSubject(t *testing.T) {
	t.Parallel()
	rules := requiring(t, requireTwo)
	index, child := request("gcr.io/p/app@sha256:"+hexA), request("gcr.io/p/app@"+otherDigest)
	if d := decided(index, rules, both(), noon); !d.Allowed {
		t.Fatal(d.Summary)
	}
	known := both()
	known[mustParse("x@"+otherDigest).Digest()] = evidence.Image{State: evidence.Known}
	if d := decided(child, rules, known, noon); d.Verdict != decide.DENY {
		t.Errorf("the manifest in an attested index: %v", d.Verdict)
	}
	if d := decided(request(digested, "gcr.io/p/app@"+otherDigest), rules, known, noon); d.Allowed || d.Images[0].Verdict != decide.ALLOW || d.Images[1].Verdict != decide.DENY {
		t.Errorf("one attested image beside another: %s", d.Summary)
	}
	byRepository := requiring(t, requireTwo)
	for name, a := range byRepository.Attestors {
		a.MatchRepository = true
		byRepository.Attestors[name] = a
	}
	for _, text := range []string{"gcr.io/p/app2", "gcr.io/p/app/x", "gcr.io/evil/app", "evil.example/p/app", "gcr.io.evil.example/p/app", "p/app", "gcr.io:443/p/app"} {
		if d := decided(request(text+"@sha256:"+hexA), byRepository, both(), noon); d.Allowed {
			t.Errorf("attested for gcr.io/p/app, and allowed for %s", text)
		}
	}
	for _, text := range []string{"gcr.io/p/app", "gcr.io/p/app:tag", "GCR.IO/p/app"} {
		if d := decided(request(text+"@sha256:"+hexA), byRepository, both(), noon); !d.Allowed {
			t.Errorf("attested for gcr.io/p/app, and not allowed for %s: %s", text, d.Summary)
		}
	}
	hub := both()
	for _, img := range hub {
		for i := range img.Attestations {
			img.Attestations[i].Repository = "index.docker.io/library/nginx"
		}
	}
	for text, want := range map[string]bool{"nginx": true, "docker.io/nginx": true, "library/nginx": true, "registry-1.docker.io/library/nginx": true, "nginx/nginx": false, "quay.io/library/nginx": false, "docker.io.evil.example/library/nginx": false} {
		if d := decided(request(text+"@sha256:"+hexA), byRepository, hub, noon); d.Allowed != want {
			t.Errorf("attested for Docker Hub's nginx: %s allowed %v", text, d.Allowed)
		}
	}
}

func TestB10OneKindOfEvidenceIsNotAnother(t *testing.T) {
	t.Parallel()
	origin := attestation("built", keyBuilt).Origin
	trusted := []policy.Signer{{Name: "s", Keys: []policy.Key{{ID: "k", Fingerprint: keyBuilt}}}}
	p := []string{"p"}
	conditions := map[string]policy.Condition{
		"attested":        policy.Attested{Attestor: built},
		"signed":          policy.SignedBy{Signers: trusted, Projects: p},
		"signed (cosign)": policy.SignedBy{Signers: trusted, Projects: p, Cosign: true},
		"fresh":           policy.Fresh{MaxAge: 24 * time.Hour, Recorders: trusted, Projects: p},
		"built":           policy.BuiltBy{Rules: []policy.ProvenanceRule{{Builder: policy.Builder{IDs: []string{"b"}, Keys: trusted[0].Keys}, Projects: p}}},
		"scanned":         policy.Vulnerabilities{MaxFixable: policy.Critical, MaxUnfixable: policy.Critical, Projects: p},
	}
	for name, of := range map[string]struct {
		img  evidence.Image
		meet []string
	}{
		"an attestation": {evidence.Image{Attestations: []evidence.Attestation{{Origin: origin}}}, []string{"attested", "signed"}},
		"a signature":    {evidence.Image{Attestations: []evidence.Attestation{{Origin: origin, Cosign: true}}}, []string{"attested", "signed", "signed (cosign)"}},
		"an upload":      {evidence.Image{Uploads: []evidence.Upload{{Origin: origin, Time: noon}}}, []string{"fresh"}},
		"a provenance":   {evidence.Image{Provenances: []evidence.Provenance{{Origin: origin, Builder: "b"}}}, []string{"built"}},
		"a scan":         {evidence.Image{Scans: []evidence.Scan{{Project: "p", Finished: true}}}, []string{"scanned"}},
		"a running scan": {evidence.Image{Scans: []evidence.Scan{{Project: "p", Status: "FINISHED_SUCCESS"}}}, nil},
		"a rejection":    {evidence.Image{Rejected: []evidence.Rejection{{Note: origin.Note, Project: "p", Occurrence: origin.Occurrence}}}, nil},
		"a build's tag":  {evidence.Image{}, nil},
	} {
		of.img.State = evidence.Known
		met := 0
		for what, c := range conditions {
			if decided(request(digested), rulesFor(c, policy.OnUnavailable{}), images{digestA(): of.img}, noon).Verdict != decide.ALLOW {
				continue
			}
			met++
			if !strings.Contains("|"+strings.Join(of.meet, "|")+"|", "|"+what+"|") {
				t.Errorf("%s counts as %s", name, what)
			}
		}
		if met != len(of.meet) {
			t.Errorf("%s meets %d conditions, want %q", name, met, of.meet)
		}
	}
}

func TestB11IdentityIsTheKeyAndTheNoteAndNothingLikeThem(t *testing.T) {
	t.Parallel()
	rules := requiring(t, requireOne)
	good := attestation("built", keyBuilt)
	if d := decided(request(digested), rules, known(good), noon); !d.Allowed {
		t.Fatal(d.Summary)
	}
	for name, change := range map[string]func(*evidence.Attestation){
		"a key that is called the same": func(a *evidence.Attestation) { a.Fingerprint = keyOther },
		"a key without fingerprint":     func(a *evidence.Attestation) { a.Fingerprint = [32]byte{} },
		"a key of one bit more":         func(a *evidence.Attestation) { a.Fingerprint[31] ^= 1 },
		"the key of another attestor":   func(a *evidence.Attestation) { a.Fingerprint = keyScanned },
		"the note of another project":   func(a *evidence.Attestation) { a.Note = "projects/evil/notes/built" },
		"a note that begins so":         func(a *evidence.Attestation) { a.Note += "-evil" },
		"a note that ends so":           func(a *evidence.Attestation) { a.Note = "projects/evil/" + a.Note },
		"the note in another case":      func(a *evidence.Attestation) { a.Note = strings.ToUpper(a.Note) },
		"no note":                       func(a *evidence.Attestation) { a.Note = "" },
	} {
		forged := good
		change(&forged)
		if d := decided(request(digested), rules, known(forged), noon); d.Verdict != decide.DENY {
			t.Errorf("%s: %v", name, d.Verdict)
		}
	}

	keys := []policy.Key{{ID: "k", Fingerprint: keyBuilt}}
	source, err := policy.ParseSourcePattern("github.com/o/*")
	if err != nil {
		t.Fatal(err)
	}
	rule := policy.ProvenanceRule{Builder: policy.Builder{Name: "GOOGLE_CLOUD_BUILD", IDs: []string{"https://build.example/"}, Keys: keys}, Projects: []string{"p"}, Sources: []policy.SourcePattern{source}}
	byBuild := rulesFor(policy.BuiltBy{Rules: []policy.ProvenanceRule{rule}}, policy.OnUnavailable{})
	is := func(p evidence.Provenance) bool {
		return decided(request(digested), byBuild, images{digestA(): {State: evidence.Known, Provenances: []evidence.Provenance{p}}}, noon).Allowed
	}
	ok := evidence.Provenance{Origin: good.Origin, Builder: "https://build.example/worker", Source: "https://github.com/o/app"}
	if !is(ok) {
		t.Fatal("a good provenance does not count")
	}
	for _, url := range []string{
		"https://github.com.evil.example/o/app", "https://evil.example/github.com/o/app", "https://github.com@evil.example/o/app", "https://evil.example#@github.com/o/app", "https://evil.example?github.com/o/app", "https://github.com/o", "https://github.com/oo/app",
		"https://github.com/o/app/x", "https://github.com/o/../evil/app", "https://github.com/o/..", "https://github.com/o%2f..%2fevil/app", "https://github.com:443/o/app", "https://evil.example/https://github.com/o/app", "", "github.com/o/", "//github.com/o/app", "https://github.com/O/app", "https://github.com\\evil.example/o/app",
	} {
		p := ok
		p.Source = url
		if is(p) {
			t.Errorf("source %q is taken for one of github.com/o", url)
		}
	}
	for _, builder := range []string{"", "https://build.example", "https://build.example.evil/", "http://build.example/", "HTTPS://build.example/", " https://build.example/"} {
		p := ok
		p.Builder = builder
		if is(p) {
			t.Errorf("builder %q is trusted", builder)
		}
	}
	forged := ok
	forged.Fingerprint = keyOther
	if is(forged) {
		t.Error("whoever names a builder is trusted like him")
	}
	// Each field of a rule demands something.
	for name, change := range map[string]func(*policy.ProvenanceRule){
		"another builder":                   func(r *policy.ProvenanceRule) { r.Builder.IDs = []string{"https://other.example/"} },
		"another key":                       func(r *policy.ProvenanceRule) { r.Builder.Keys = []policy.Key{{ID: "k", Fingerprint: keyOther}} },
		"another project":                   func(r *policy.ProvenanceRule) { r.Projects = []string{"q"} },
		"a configuration":                   func(r *policy.ProvenanceRule) { r.ConfigBased = true },
		"a source that covers nothing":      func(r *policy.ProvenanceRule) { r.Sources = make([]policy.SourcePattern, 1) },
		"a constraint that does not hold":   func(r *policy.ProvenanceRule) { r.Constraint = holds{} },
		"a constraint that fails":           func(r *policy.ProvenanceRule) { r.Constraint = holds{err: errors.New("cost limit exceeded")} },
		"a constraint that holds and fails": func(r *policy.ProvenanceRule) { r.Constraint = holds{true, errors.New("cost limit exceeded")} },
	} {
		strict := rule
		change(&strict)
		if d := decided(request(digested), rulesFor(policy.BuiltBy{Rules: []policy.ProvenanceRule{strict}}, policy.OnUnavailable{Warn: true}), images{digestA(): {State: evidence.Known, Provenances: []evidence.Provenance{ok}}}, noon); d.Allowed || d.Verdict != decide.DENY {
			t.Errorf("a rule that demands %s: %v", name, d.Verdict)
		}
	}
}

func TestB12Time(t *testing.T) {
	t.Parallel()
	attested, never := requiring(t, requireOne), time.Time{}
	for name, test := range map[string]struct {
		from, to time.Time
		want     bool
	}{
		"no bounds": {never, never, true}, "within": {noon.Add(-1), noon.Add(1), true}, "from now": {noon, never, true}, "until now": {never, noon, false}, "expired": {never, noon.Add(-1), false},
		"not yet": {noon.Add(1), never, false}, "nothing is within": {noon.Add(1), noon.Add(-1), false}, "in another zone": {noon.In(time.FixedZone("", 7200)), noon.Add(1).In(time.FixedZone("", -7200)), true},
	} {
		a := attestation("built", keyBuilt)
		a.NotBefore, a.NotAfter = test.from, test.to
		if d := decided(request(digested), attested, known(a), noon); d.Allowed != test.want {
			t.Errorf("%s: allowed %v", name, d.Allowed)
		}
	}
	// An attestation that expires between two decisions ends with it.
	a := attestation("built", keyBuilt)
	a.NotAfter = noon
	if d := decided(request(digested), attested, known(a), noon.Add(-1)); !d.Allowed {
		t.Errorf("before it expires: %s", d.Summary)
	}

	signer := []policy.Signer{{Name: "s", Keys: []policy.Key{{ID: "k", Fingerprint: keyBuilt}}}}
	fresh := rulesFor(policy.Fresh{MaxAge: 24 * time.Hour, Recorders: signer, Projects: []string{"p"}}, policy.OnUnavailable{})
	for name, test := range map[string]struct {
		ages []time.Duration
		want bool
	}{
		"now": {[]time.Duration{0}, true}, "a day": {[]time.Duration{24 * time.Hour}, true}, "longer": {[]time.Duration{24*time.Hour + 1}, false}, "in the future": {[]time.Duration{-1}, false},
		"again":               {[]time.Duration{48 * time.Hour, time.Hour}, false}, // an old image does not become new by being uploaded again
		"again in the future": {[]time.Duration{time.Hour, -48 * time.Hour}, true}, "never": {nil, false}, "before there was time": {[]time.Duration{1 << 62}, false},
	} {
		img := evidence.Image{State: evidence.Known}
		for _, age := range test.ages {
			img.Uploads = append(img.Uploads, evidence.Upload{Origin: attestation("built", keyBuilt).Origin, Time: noon.Add(-age)})
		}
		if d := decided(request(digested), fresh, images{digestA(): img}, noon); d.Allowed != test.want {
			t.Errorf("uploaded %s: allowed %v", name, d.Allowed)
		}
	}
	// Another's record makes nothing young.
	img := evidence.Image{State: evidence.Known, Uploads: []evidence.Upload{{Origin: evidence.Origin{Project: "p", Fingerprint: keyOther, KeyID: "k"}, Time: noon}, {Origin: evidence.Origin{Project: "q", Fingerprint: keyBuilt, KeyID: "k"}, Time: noon}}}
	if d := decided(request(digested), fresh, images{digestA(): img}, noon); d.Allowed {
		t.Error("a record of someone else, or elsewhere, counts")
	}
}

func TestB13OneGoodAmongManyBad(t *testing.T) {
	t.Parallel()
	rules := requiring(t, requireTwo)
	expired, stranger := attestation("built", keyBuilt), attestation("built", keyOther)
	expired.NotAfter = noon
	bad := []evidence.Attestation{expired, stranger, attestation("scanned", keyOther), {}}
	var many []evidence.Attestation
	for range 1000 {
		many = append(many, bad...)
	}
	goodToo := append(append([]evidence.Attestation{}, many...), attestation("built", keyBuilt), attestation("scanned", keyScanned))
	goodToo = append(goodToo, many...)
	withRejected := images{digestA(): {State: evidence.Known, Attestations: goodToo, Rejected: make([]evidence.Rejection, 1000)}}
	if d := decided(request(digested), rules, withRejected, noon); !d.Allowed {
		t.Errorf("whoever adds bad statements keeps an image out: %s", d.Summary)
	}
	if d := decided(request(digested), rules, known(many...), noon); d.Verdict != decide.DENY || len(asJSON(t, d)) > 8<<10 {
		t.Errorf("%v in %d bytes", d.Verdict, len(asJSON(t, d)))
	}
	// Many by one are not one by each of two.
	for name, have := range map[string][]evidence.Attestation{
		"twice the same attestor":       {attestation("built", keyBuilt), attestation("built", keyBuilt)},
		"his key under the other note":  {attestation("built", keyBuilt), attestation("scanned", keyBuilt)},
		"the other's key under his own": {attestation("built", keyBuilt), attestation("built", keyScanned)},
	} {
		if d := decided(request(digested), rules, known(have...), noon); d.Verdict != decide.DENY {
			t.Errorf("%s: %v", name, d.Verdict)
		}
	}
	// One scan that finds is not outdone by others that find nothing.
	limits := rulesFor(policy.Vulnerabilities{MaxFixable: policy.Low, MaxUnfixable: policy.Low, Projects: []string{"p", "q"}}, policy.OnUnavailable{})
	scans := []evidence.Scan{{Project: "q", Finished: true, Findings: []evidence.Finding{{Note: "projects/x/notes/CVE-1", Severity: 5}}}}
	for range 100 {
		scans = append(scans, evidence.Scan{Project: "p", Finished: true})
	}
	if d := decided(request(digested), limits, images{digestA(): {State: evidence.Known, Scans: scans}}, noon); d.Verdict != decide.DENY {
		t.Errorf("one scan that finds among many that do not: %v", d.Verdict)
	}
	blocked := rulesFor(policy.Vulnerabilities{MaxFixable: policy.AllowAll, MaxUnfixable: policy.AllowAll, Projects: []string{"q"}, Allowed: []string{"CVE-1"}, Blocked: []string{"projects/x/notes/CVE-1"}}, policy.OnUnavailable{})
	if d := decided(request(digested), blocked, images{digestA(): {State: evidence.Known, Scans: scans}}, noon); d.Verdict != decide.DENY {
		t.Errorf("both allowed and blocked: %v", d.Verdict)
	}
}

func TestB18AnExemptionIsForItsOwnPolicyRuleAndCheck(t *testing.T) {
	t.Parallel()
	const text = "gcr.io/p/exempt:1"
	pattern := exempt(t, "imageAllowlist", "gcr.io/p/*")
	never := policy.Check{Condition: policy.Never{}}
	exemptCheck := policy.Check{Condition: policy.Never{}, Exempt: pattern}
	strict := policy.Rule{Evaluation: policy.RequireChecks, Checks: []policy.Check{never}}
	byRule := strict
	byRule.Exempt = pattern
	inNamespace := byRule
	inNamespace.Scope = policy.Scope{Namespace: "trial"}
	for name, test := range map[string]struct {
		set  policy.Set
		want bool
	}{
		"of the policy":           {policy.Set{{Exempt: pattern, Rules: []policy.Rule{strict}}}, true},
		"of another policy":       {policy.Set{{Exempt: pattern, Rules: []policy.Rule{strict}}, {Rules: []policy.Rule{strict}}}, false},
		"of another policy first": {policy.Set{{Rules: []policy.Rule{strict}}, {Exempt: pattern, Rules: []policy.Rule{strict}}}, false},
		"of the rule":             {policy.Set{{Rules: []policy.Rule{byRule}}}, true},
		"of another rule":         {policy.Set{{Rules: []policy.Rule{inNamespace, strict}}}, false},
		"of a later rule":         {policy.Set{{Rules: []policy.Rule{strict, byRule}}}, false},
		"of the check":            {policy.Set{{Rules: []policy.Rule{{Evaluation: policy.RequireChecks, Checks: []policy.Check{exemptCheck}}}}}, true},
		"of another check":        {policy.Set{{Rules: []policy.Rule{{Evaluation: policy.RequireChecks, Checks: []policy.Check{exemptCheck, never}}}}}, false},
		"of a rule that denies":   {policy.Set{{Rules: []policy.Rule{{Exempt: pattern, Checks: []policy.Check{exemptCheck}}}}}, false},
	} {
		if d := decide.Decide(request(text), test.set, evidence.Facts{}, noon); d.Allowed != test.want {
			t.Errorf("an exemption %s: allowed %v", name, d.Allowed)
		}
	}
	// Where the pod says it is does not matter; where the request says it is does.
	rules := compiled(t, []byte("kubernetesNamespaceAdmissionRules:\n  trial: {evaluationMode: ALWAYS_ALLOW, enforcementMode: ENFORCED_BLOCK_AND_AUDIT_LOG}\n  dry: {evaluationMode: ALWAYS_DENY, enforcementMode: DRYRUN_AUDIT_LOG_ONLY}\ndefaultAdmissionRule: "+denyAll))
	for namespace, want := range map[string]bool{"trial": true, "dry": true, "": false, "Trial": false, "trial ": false, "trial\n": false, "trial2": false, "shop": false, "trial:default": false, "*": false} {
		req := request(text)
		req.Namespace = namespace
		if d := decided(req, rules, nil, noon); d.Allowed != want {
			t.Errorf("namespace %q: allowed %v", namespace, d.Allowed)
		}
	}
	// Nobody breaks glass without a trace, and nobody says so who did not need to.
	req := request(digested)
	req.BreakGlass, req.Justification = "label x", "the shop is down"
	if d := decided(req, rules, nil, noon); !d.Allowed || d.Override != decide.BreakGlass || d.Verdict != decide.DENY || d.BreakGlass == "" || d.Justification == "" {
		t.Errorf("broken glass is not told: %+v", d)
	}
	req.Namespace = "trial"
	if d := decided(req, rules, nil, noon); d.Override != decide.NoOverride || d.BreakGlass == "" {
		t.Errorf("glass that need not be broken: %+v", d)
	}
}

func TestB24NamesCannotWriteLines(t *testing.T) {
	t.Parallel()
	rules := requiring(t, requireTwo)
	for _, bad := range hostile {
		evil := attestation("built", keyOther)
		evil.KeyID, evil.Occurrence, evil.Repository = bad, bad, bad
		img := evidence.Image{State: evidence.Known, Attestations: []evidence.Attestation{evil}, Rejected: []evidence.Rejection{{Note: "projects/p/notes/scanned", Occurrence: bad, Reason: bad}}}
		down := evidence.Image{Err: bad}
		for _, have := range []images{{digestA(): img}, {digestA(): down}} {
			req := request(digested, bad, "gcr.io/p/"+bad, "gcr.io/p/app:"+bad)
			if len(bad) < 100 { // the door bounds the others
				req.Namespace, req.ServiceAccount, req.Images[0].Container, req.Justification = bad, bad, bad, bad
			}
			d := decided(req, rules, have, noon)
			if d.Allowed {
				t.Fatalf("%q: %s", bad, d.Summary)
			}
			checkMessage(t, decide.Message(d))
			text := asJSON(t, d)
			if strings.ContainsAny(text, "\n\r\x1b\x00<>\u2028") {
				t.Errorf("%q reaches the record: %s", bad, text)
			}
			if len(text) > 48<<10 {
				t.Errorf("a record of %d bytes", len(text))
			}
		}
	}
}
