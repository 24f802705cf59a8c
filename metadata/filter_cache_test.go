package metadata

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
)

// clientFilters are what the known clients send.
var clientFilters = []string{
	// Voucher.
	`resourceUrl="https://gcr.io/p/i@` + testDigest + `" AND kind="ATTESTATION"`,
	`resourceUrl="https://gcr.io/p/i@` + testDigest + `" AND kind="DISCOVERY" AND noteProjectId="goog-analysis" AND noteId="PACKAGE_VULNERABILITY"`,
	// Kritis, with Grafeas and with Google.
	`resource_url="https://gcr.io/p/i@` + testDigest + `" AND kind="ATTESTATION_AUTHORITY"`,
	`resourceUrl="https://gcr.io/p/i@` + testDigest + `" AND noteProjectId="goog-analysis" AND noteId="PACKAGE_VULNERABILITY"`,
	// Tekton Chains.
	`resourceUrl="gcr.io/p/i@` + testDigest + `" OR resourceUrl="gcr.io/p/j@` + testDigest + `"`,
	// The tests of Grafeas on PostgreSQL, without what is of no Grafeas message.
	`resource.uri="a.rpm" OR resource.uri="b.rpm"`,
	// gcloud.
	`kind="BUILD" OR kind="IMAGE" OR kind="DISCOVERY" OR kind="SBOM_REFERENCE"`,
	`((kind = "BUILD") OR (kind = "IMAGE")) AND ((resource_url = "https://gcr.io/p/i") OR (has_prefix(resource_url,"https://gcr.io/p/i@")))`,
	`has_prefix(resourceUrl, "https://gcr.io/p/")`,
	`kind="PACKAGE" AND noteProjectId="goog-analysis" AND dependencyPackageName="openssl"`,
	`createTime>="2026-01-01T00:00:00Z" AND updateTime<"2026-02-01T00:00:00Z"`,
}

func TestFilterTakesWhatClientsSend(t *testing.T) {
	t.Parallel()
	for _, text := range clientFilters {
		if f, err := v1Filter(text); err != nil || f == nil {
			t.Errorf("%s: got %v and error %v", text, f, err)
		}
	}
}

// plainFilters are those that are compiled without the parser, and some like them
// that are not.
var plainFilters = []string{
	`resourceUrl="x"`, `resource_url = "https://x" AND kind= "BUILD"`, `noteId="a"  AND   noteId="b" AND noteName ="c"`, `kind="PACKAGE_VULNERABILITY"`,
	`resource.uri="x"`, `noteId=""`, `noteId="é&()'AND"`, "noteId=\"a\nb\"", `kind="1"`,
	` noteId="x"`, `noteId="x" `, `noteId="x"AND noteId="y"`, `noteId="x" AND`, `noteId="x" AND `, `noteId="x" OR noteId="y"`, `noteId="x" ANDnoteId="y"`,
	`noteId="a\"b"`, "noteId=\"a\rb\"", `noteId="a*"`, `noteId="x`, `noteId`, `noteId=`, `noteId==""`, `name="x"`, `kind="NONE"`, `noteId="x" noteId="y"`,
	`noteId="x"="y"`, "noteId\t=\"x\"", `NOT noteId="x"`, `noteId!="x"`,
	strings.TrimSuffix(strings.Repeat(`noteId="x" AND `, maxFilterTerms), " AND "),
	strings.TrimSuffix(strings.Repeat(`noteId="x" AND `, maxFilterTerms+1), " AND "),
}

// requireSameAsParser fails if a text is compiled to something else without the
// parser than with it; it returns whether it was compiled without.
func requireSameAsParser(t *testing.T, text string) bool {
	t.Helper()
	if checkFilterSize(text) != nil {
		return false // refused before
	}
	accepted := false
	for _, s := range []schema{Dialect{}.noteSchema(), Dialect{}.occurrenceSchema()} {
		plain, ok := s.conjunction(text)
		if !ok {
			continue
		}
		accepted = true
		parsed, err := s.compile(text)
		if err != nil || !reflect.DeepEqual(plain, parsed) {
			t.Errorf("%q of %s: got %+v without the parser, and %+v with it, error %v", text, s.name, plain, parsed, err)
		}
	}
	return accepted
}

func TestFilterWithoutTheParserIsTheSame(t *testing.T) {
	t.Parallel()
	accepted := 0
	for _, text := range append(plainFilters, clientFilters...) {
		if requireSameAsParser(t, text) {
			accepted++
		}
	}
	if want := 15; accepted != want {
		t.Errorf("%d filters needed no parser, want %d", accepted, want)
	}
}

func FuzzFilterWithoutTheParser(f *testing.F) {
	for _, text := range append(plainFilters, clientFilters...) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { requireSameAsParser(t, text) })
}

func TestFilterCacheKeepsWhatWasUsedLast(t *testing.T) {
	t.Parallel()
	c, s := newFilterCache(), Dialect{}.occurrenceSchema()
	text := func(i int) string { return fmt.Sprintf(`noteId="%d" OR noteId="x"`, i) }
	parse := func(s schema, text string) *filter {
		t.Helper()
		f, err := c.parse(s, text)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	first, second := parse(s, text(0)), parse(s, text(1))
	for i := 2; i < maxCachedFilters; i++ {
		parse(s, text(i))
	}
	if parse(s, text(0)) != first {
		t.Error("a filter was parsed twice")
	}
	parse(s, text(maxCachedFilters))
	if len(c.entries) != maxCachedFilters || c.order.Len() != maxCachedFilters {
		t.Errorf("keeps %d filters in %d places", len(c.entries), c.order.Len())
	}
	if parse(s, text(0)) != first {
		t.Error("a filter was dropped that was used just before")
	}
	if parse(s, text(1)) == second {
		t.Error("the filter used longest ago was kept")
	}
	other := s
	other.name = "another dialect"
	if parse(other, text(0)) == first {
		t.Error("dialects share filters")
	}
	if _, err := c.parse(s, `foo="x"`); KindOf(err) != InvalidArgument {
		t.Errorf("got error %v", err)
	}
	if f := parse(s, "  "); f != nil {
		t.Errorf("the empty filter is %v", f)
	}
}

func TestFilterCacheIsBounded(t *testing.T) {
	t.Parallel()
	c, s := newFilterCache(), Dialect{}.occurrenceSchema()
	for i := range 3 * maxCachedFilterBytes / (filterBytesPerByte * maxFilterBytes) {
		text := fmt.Sprintf(`noteId="%d" OR noteId="%s"`, i, strings.Repeat("x", maxFilterBytes-100))
		if _, err := c.parse(s, text); err != nil {
			t.Fatal(err)
		}
	}
	total := 0
	for key := range c.entries {
		total += key.cost()
	}
	if total != c.bytes || total > maxCachedFilterBytes || total < maxCachedFilterBytes/2 {
		t.Errorf("keeps filters of %d bytes, and counts %d, of %d", total, c.bytes, maxCachedFilterBytes)
	}
}

func TestFilterCacheServesManyAtOnce(t *testing.T) {
	t.Parallel()
	c, s := newFilterCache(), Dialect{}.occurrenceSchema()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				f, err := c.parse(s, fmt.Sprintf(`noteId="%d" OR vulnerability.severity=HIGH`, (i*g)%maxCachedFilters))
				if err != nil || !f.matchOccurrence(testRow()) {
					t.Errorf("got %v and error %v", f, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkFilterParse compares the ways to a compiled filter with the parser.
func BenchmarkFilterParse(b *testing.B) {
	s := Dialect{}.occurrenceSchema()
	plain, path := clientFilters[0], clientFilters[0]+` AND vulnerability.severity="HIGH"`
	parser := func(b *testing.B, text string) float64 {
		for b.Loop() {
			if _, err := s.compile(text); err != nil {
				b.Fatal(err)
			}
		}
		return float64(b.Elapsed().Nanoseconds()) / float64(b.N)
	}
	run := func(name string, baseline *float64, fn func(b *testing.B)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			fn(b)
			if per := float64(b.Elapsed().Nanoseconds()) / float64(b.N); per > 0 {
				b.ReportMetric(*baseline/per, "times-the-parser")
			}
		})
	}
	var slow, slowPath float64
	run("plain/parser", &slow, func(b *testing.B) { slow = parser(b, plain) })
	run("plain/recognised", &slow, func(b *testing.B) {
		for b.Loop() {
			if _, err := s.parse(plain); err != nil {
				b.Fatal(err)
			}
		}
	})
	run("path/parser", &slowPath, func(b *testing.B) { slowPath = parser(b, path) })
	run("path/cached", &slowPath, func(b *testing.B) {
		c := newFilterCache()
		for b.Loop() {
			if _, err := c.parse(s, path); err != nil {
				b.Fatal(err)
			}
		}
	})
}
