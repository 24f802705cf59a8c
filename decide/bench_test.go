package decide_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
)

// BenchmarkDecideAgainstLookups is a decision on two images by two attestors each,
// in process and warm, as a multiple of the look-ups that it cannot do without: each
// image by its digest, each attestor by its name, each statement by its note and key.
func BenchmarkDecideAgainstLookups(b *testing.B) {
	rules := rulesOf(requireBoth()).Build()
	second := "gcr.io/p/lib@sha256:" + strings.Repeat("b", 64)
	facts := images{}
	for _, text := range []string{digested, second} {
		facts[mustParse(text).Digest()] = evidence.Image{State: evidence.Known, Attestations: []evidence.Attestation{attestation("built", keyBuilt), attestation("scanned", keyScanned)}}
	}
	req := request(digested, second)
	set, known := policy.Set{rules}, evidence.Facts{Images: facts}
	digests := []image.Digest{mustParse(digested).Digest(), mustParse(second).Digest()}

	b.ReportAllocs()
	var deciding, looking time.Duration
	const batch = 1000
	for b.Loop() {
		begun := time.Now()
		for range batch {
			if d := decide.Decide(req, set, known, noon); !d.Allowed {
				b.Fatal(d.Summary)
			}
		}
		deciding += time.Since(begun)
		begun = time.Now()
		for range batch {
			if !lookUp(rules, facts, digests) {
				b.Fatal("not found")
			}
		}
		looking += time.Since(begun)
	}
	n := float64(b.N) * batch
	b.ReportMetric(float64(deciding)/float64(looking), "x-lookups")
	b.ReportMetric(float64(deciding.Nanoseconds())/n, "ns/decision")
	b.ReportMetric(float64(looking.Nanoseconds())/n, "ns/lookups")
	b.ReportMetric(testing.AllocsPerRun(100, func() { decide.Decide(req, set, known, noon) }), "allocs/decision")
	b.ReportMetric(0, "ns/op") // of a batch of both, which says nothing
}

// lookUp is the least that a decision has to do.
func lookUp(rules *policy.Ruleset, facts images, digests []image.Digest) bool {
	found := 0
	for _, d := range digests {
		img := facts[d]
		for _, name := range []string{built, scanned} {
			a := rules.Attestors[name]
			for i := range img.Attestations {
				if att := &img.Attestations[i]; att.Note == a.Note && a.Trusts(att.Fingerprint) {
					found++
				}
			}
		}
	}
	return found == 2*len(digests)
}

const large = 10_000

// largePolicy is the text of a policy of so many namespaces and exempt patterns. Its
// modes are numbers, since with their names it would be larger than a policy may be.
func largePolicy(namespaces, patterns int) []byte {
	var s strings.Builder
	s.WriteString(`{"admissionWhitelistPatterns": [`)
	for i := range patterns {
		fmt.Fprintf(&s, "%s\n{\"namePattern\": \"r.io/t%d/*\"}", comma(i), i)
	}
	s.WriteString(`], "kubernetesNamespaceAdmissionRules": {`)
	for i := range namespaces {
		fmt.Fprintf(&s, "%s\n\"n%d\": {\"evaluationMode\": 3, \"enforcementMode\": 1}", comma(i), i)
	}
	fmt.Fprintf(&s, `}, "defaultAdmissionRule": {"evaluationMode": 2, "enforcementMode": 1, "requireAttestationsBy": [%q, %q]}}`, built, scanned)
	return []byte(s.String())
}

func comma(i int) string {
	if i == 0 {
		return ""
	}
	return ","
}

func compiled(tb testing.TB, text []byte) *policy.Ruleset {
	tb.Helper()
	p, found := binauthz.ParsePolicy("policy.json", text)
	if found.HasErrors() {
		tb.Fatal(found[0])
	}
	rules, _ := p.Compile(nil) // that the attestors are missing is a warning
	for name, a := range rulesOf(requireBoth()).Attestors {
		rules.Attestors[name] = a
	}
	return rules.Build()
}

// BenchmarkCompileLargePolicy reads and compiles ten thousand rules and ten thousand
// patterns, and tells what is kept of them.
func BenchmarkCompileLargePolicy(b *testing.B) {
	text := largePolicy(large, large)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	rules := compiled(b, text)
	runtime.GC()
	runtime.ReadMemStats(&after)
	for b.Loop() {
		compiled(b, text)
	}
	b.ReportMetric(float64(after.HeapAlloc)-float64(before.HeapAlloc), "B-kept")
	runtime.KeepAlive(rules)
}

// BenchmarkBuildLargePolicy is the part of it that is this module's own.
func BenchmarkBuildLargePolicy(b *testing.B) {
	rules := compiled(b, largePolicy(large, large))
	b.ReportAllocs()
	for b.Loop() {
		rules.Build()
	}
}

// BenchmarkDecideByLargePolicy is a decision by ten thousand rules and patterns as a
// multiple of the same decision by one rule and none.
func BenchmarkDecideByLargePolicy(b *testing.B) {
	many, one := policy.Set{compiled(b, largePolicy(large, large))}, policy.Set{compiled(b, largePolicy(0, 0))}
	known := evidence.Facts{Images: both()}
	req := request(digested, digested)
	var byMany, byOne time.Duration
	const batch = 1000
	for b.Loop() {
		for _, of := range []struct {
			set  policy.Set
			took *time.Duration
		}{{many, &byMany}, {one, &byOne}} {
			begun := time.Now()
			for range batch {
				if d := decide.Decide(req, of.set, known, noon); !d.Allowed {
					b.Fatal(d.Summary)
				}
			}
			*of.took += time.Since(begun)
		}
	}
	b.ReportMetric(float64(byMany)/float64(byOne), "x-one-rule")
	b.ReportMetric(0, "ns/op")
}
