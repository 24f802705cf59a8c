package metadata

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/grafeas/v1"
)

func TestFilterNarrowsToAnIndex(t *testing.T) {
	t.Parallel()
	const a, b = "gcr.io/a@" + testDigest, "gcr.io/b@" + testDigest
	attestation := KindSet(grafeas.NoteKind_ATTESTATION)
	for _, test := range []struct {
		filter string
		want   OccurrenceQuery
		never  bool
	}{
		{filter: `resourceUrl="https://` + a + `" AND kind="ATTESTATION"`, want: OccurrenceQuery{Resources: []Key{KeyOf(a)}, Kinds: attestation}},
		{filter: `resourceUrl="` + a + `" OR resourceUrl="` + b + `"`, want: OccurrenceQuery{Resources: []Key{KeyOf(a), KeyOf(b)}, Kinds: AllKinds}},
		{filter: `resourceUrl="` + a + `" OR kind="ATTESTATION"`, want: OccurrenceQuery{Kinds: AllKinds}},
		{filter: `NOT resourceUrl="` + a + `"`, want: OccurrenceQuery{Kinds: AllKinds}},
		{filter: `resourceUrl="` + a + `" AND resourceUrl="` + b + `"`, never: true},
		{filter: `kind="BUILD" AND kind="ATTESTATION"`, never: true},
		{filter: `has_suffix(resourceUrl, "@` + testDigest + `")`, want: OccurrenceQuery{Subjects: []Key{KeyOf(testDigest)}, Kinds: AllKinds}},
		{filter: `has_suffix(resourceUrl, "` + testDigest[8:] + `")`, want: OccurrenceQuery{Kinds: AllKinds}},
		{filter: `noteName="projects/p/notes/n"`, want: OccurrenceQuery{Note: NoteName{Parent{"p", ""}, "n"}, Kinds: AllKinds}},
		{filter: `noteName="nonsense"`, never: true},
	} {
		f, err := v1Filter(test.filter)
		if err != nil {
			t.Fatal(err)
		}
		var q OccurrenceQuery
		possible := q.narrow(f.bounds())
		if possible == test.never {
			t.Errorf("%s: possible is %t", test.filter, possible)
		}
		if !test.never {
			if got, want := queryText(q), queryText(test.want); got != want {
				t.Errorf("%s: got %s, want %s", test.filter, got, want)
			}
		}
	}
}

func TestFilterHintsAtAnIndex(t *testing.T) {
	t.Parallel()
	urls := `(resource_url = "https://gcr.io/p/a") OR (resource_url = "gcr.io/p/b")`
	for _, test := range []struct {
		filter string
		want   Hints
	}{
		// As gcloud asks for images and repositories in one filter.
		{`(` + urls + ` OR (has_prefix(resource_url,"https://gcr.io/r/"))) AND ((kind = "BUILD") OR (kind = "IMAGE"))`,
			Hints{Prefixes: []string{"gcr.io/p/a", "gcr.io/p/b", "gcr.io/r/"}}},
		{`has_prefix(resourceUrl, "https://gcr.io/r")`, Hints{Prefixes: []string{"gcr.io/r"}}},
		{`hasPrefix(resourceUrl, "gcr.io/r") AND createTime>"2026-01-01"`, Hints{Prefixes: []string{"gcr.io/r"}}},
		{`has_prefix(resourceUrl, "https://deb")`, Hints{Prefixes: []string{"deb", "https://deb"}}}, // https://deb://x is canonical
		{`has_prefix(resourceUrl, "https://localhost:5")`, Hints{Prefixes: []string{"localhost:5"}}},
		{`has_prefix(resourceUrl, "deb:")`, Hints{Prefixes: []string{"deb:"}}},
		{`has_prefix(resourceUrl, "http")`, Hints{}}, {`has_prefix(resourceUrl, "https://")`, Hints{}}, {`has_prefix(resourceUrl, "")`, Hints{}},
		{`has_prefix(resourceUrl, "gcr.io/") AND has_prefix(resourceUrl, "https://gcr.io/p/")`, Hints{Prefixes: []string{"gcr.io/p/"}}},
		{`has_prefix(resourceUrl, "gcr.io/") OR kind="BUILD"`, Hints{}}, {`NOT has_prefix(resourceUrl, "gcr.io/")`, Hints{}},
		{urls, Hints{}}, // the query has them as keys
		{`noteProjectId="goog-analysis" AND noteId="PACKAGE_VULNERABILITY"`, Hints{NoteProject: "goog-analysis", NoteID: "PACKAGE_VULNERABILITY"}},
		{`noteProjectId="p" OR noteProjectId="q"`, Hints{}},
		{`noteId="CVE-1" OR has_prefix(noteId, "CVE-2026-")`, Hints{NoteIDPrefix: "CVE-"}},
		{`noteId="é" OR noteId="è"`, Hints{}}, // which begin with the same byte
		{`has_prefix(noteName, "projects/p/notes/CVE-")`, Hints{NoteProject: "p", NoteIDPrefix: "CVE-"}},
		{`has_prefix(noteName, "projects/p/locations/l/notes/CVE-")`, Hints{NoteProject: "p", NoteIDPrefix: "CVE-"}},
		{`has_prefix(noteName, "projects/p/")`, Hints{NoteProject: "p"}}, {`has_prefix(noteName, "projects/p")`, Hints{}},
		{`noteName="projects/p/notes/a" OR noteName="projects/p/notes/b"`, Hints{NoteProject: "p"}},
		{`noteName="projects/p/notes/n"`, Hints{}}, // the query has it
	} {
		f, err := v1Filter(test.filter)
		if err != nil {
			t.Fatalf("%s: %v", test.filter, err)
		}
		if diff := cmp.Diff(test.want, f.bounds().hints()); diff != "" {
			t.Errorf("%s: hints differ (-want +got):\n%s", test.filter, diff)
		}
	}
}

func TestNoteFilterNarrows(t *testing.T) {
	t.Parallel()
	vulnerability := KindSet(grafeas.NoteKind_VULNERABILITY)
	for _, test := range []struct {
		filter string
		want   NoteQuery
		never  bool
	}{
		{filter: ``, want: NoteQuery{Kinds: AllKinds}},
		{filter: `kind="VULNERABILITY" AND has_prefix(noteId, "CVE-")`, want: NoteQuery{Kinds: vulnerability, IDPrefix: "CVE-"}},
		{filter: `kind!="VULNERABILITY"`, want: NoteQuery{Kinds: AllKinds &^ vulnerability}},
		{filter: `NOT (kind="BUILD" OR NOT kind="VULNERABILITY")`, want: NoteQuery{Kinds: vulnerability}},
		{filter: `name="projects/p/notes/a"`, want: NoteQuery{Kinds: AllKinds, IDPrefix: "a"}},
		{filter: `name="projects/p/notes/ab" OR name="projects/p/notes/ac"`, want: NoteQuery{Kinds: AllKinds, IDPrefix: "a"}},
		{filter: `name="projects/q/notes/a" OR name="projects/p/notes/b"`, want: NoteQuery{Kinds: AllKinds, IDPrefix: "b"}},
		{filter: `noteProjectId="p" AND shortDescription="x"`, want: NoteQuery{Kinds: AllKinds}},
		{filter: `noteProjectId="q"`, never: true}, {filter: `name="projects/q/notes/a"`, never: true}, {filter: `name="nonsense"`, never: true},
		{filter: `name="projects/p/locations/l/notes/a"`, never: true}, {filter: `kind="BUILD" AND kind="IMAGE"`, never: true},
		{filter: `noteId="a" AND has_prefix(noteId, "b")`, never: true},
	} {
		f, err := new(Service).noteFilter(test.filter)
		if err != nil {
			t.Fatalf("%s: %v", test.filter, err)
		}
		q := NoteQuery{Parent: Parent{Project: "p"}}
		test.want.Parent = q.Parent
		if possible := f.bounds().noteQuery(&q); possible == test.never {
			t.Errorf("%s: possible is %t", test.filter, possible)
		} else if diff := cmp.Diff(test.want, q); possible && diff != "" {
			t.Errorf("%s: query differs (-want +got):\n%s", test.filter, diff)
		}
	}
}

func TestFilterNamesTheTermThatNoIndexAnswers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		filter   string
		position int
		name     string
	}{
		{`resourceUrl="x" AND kind="BUILD"`, 0, ""}, {`noteProjectId="p" OR noteId="n"`, 0, ""}, {`kind!="BUILD" AND NOT noteName="x"`, 0, ""},
		{`has_suffix(resourceUrl, "@` + testDigest + `") OR has_prefix(resourceUrl, "gcr.io/")`, 0, ""},
		{`kind="BUILD" AND createTime>"2026-01-01"`, 18, "createTime"},
		{`kind="BUILD" AND NOT (noteId="x" OR vulnerability.severity=HIGH AND name="x")`, 37, "vulnerability.severity"},
		{`has_suffix(resourceUrl, ":latest")`, 1, "resourceUrl"}, {`kind="BUILD" AND has_prefix(resource_url, "https")`, 18, "resource_url"},
		{`  resourceUrl:*`, 3, "resourceUrl"}, {`noteId>"x"`, 1, "noteId"}, {`has_prefix(kind, "V")`, 1, "kind"}, {`has_prefix(noteName, "projects/p")`, 1, "noteName"},
		{`(kind=BUILD )AND(discovery:* )`, 18, "discovery"},
	} {
		f, err := v1Filter(test.filter)
		if err != nil {
			t.Fatalf("%s: %v", test.filter, err)
		}
		position, name, ok := f.unindexed()
		if position != test.position || name != test.name || ok != (test.name != "") {
			t.Errorf("%s: got %q at %d, %t", test.filter, name, position, ok)
		}
		refused := f.refuseTooBroad(5)
		if KindOf(refused) != InvalidArgument || !strings.Contains(refused.Error(), "more than 5 rows") ||
			ok && !strings.Contains(refused.Error(), fmt.Sprintf("position %d: no index answers the term on %q", position, name)) {
			t.Errorf("%s: refusal is %v", test.filter, refused)
		}
	}
	if _, _, ok := (*filter)(nil).unindexed(); ok {
		t.Error("the empty filter has a term")
	}
}

func TestFilterOfResourcesOnly(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		filter string
		want   []string
		ok     bool
	}{
		{``, nil, true}, {`kind="VULNERABILITY"`, nil, true}, {`kind="BUILD" OR kind="VULNERABILITY"`, nil, true}, {`kind="BUILD"`, nil, false},
		{`resourceUrl="https://a"`, []string{"a"}, true}, {`(resourceUrl="a" OR resource_url="b") AND kind="VULNERABILITY"`, []string{"a", "b"}, true},
		{`resourceUrl="a" AND resourceUrl="b"`, []string{}, true}, {`resourceUrl="a" OR kind="VULNERABILITY"`, nil, false},
		{`NOT resourceUrl="a"`, nil, false}, {`kind!="BUILD"`, nil, false}, {`resourceUrl="a" AND noteId="n"`, nil, false},
		{`has_prefix(resourceUrl, "a")`, nil, false}, {`resourceUrl="a" AND vulnerability.severity=HIGH`, nil, false},
		{`resourceUrl="a" AND kind="VULNERABILITY" AND kind="BUILD"`, []string{"a"}, false},
	} {
		f, err := v1Filter(test.filter)
		if err != nil {
			t.Fatalf("%s: %v", test.filter, err)
		}
		got, ok := f.resourcesOnly()
		if ok != test.ok || ok && (!slices.Equal(got, test.want) || (got == nil) != (test.want == nil)) {
			t.Errorf("%s: got %#v, %t", test.filter, got, ok)
		}
	}
}

// A randomFilter is one with the answer that it ought to give, found without it.
type randomFilter struct {
	text string
	want func(*grafeas.Occurrence) bool
}

var (
	randomURIs = []string{
		"gcr.io/p/i@" + testDigest, "https://gcr.io/p/i@" + testDigest, "https://gcr.io/q", "gcr.io/q", "deb://lib", "https://deb://lib", "http://a", "h", "https://h", "https",
	}
	randomNotes = []string{"projects/p/notes/CVE-1", "projects/p/locations/l/notes/CVE-1", "projects/q/notes/CVE-2", "projects/pp/notes/GHSA-1", "projects/p/notes/é", "projects/p/notes/è"}
	randomKinds = []grafeas.NoteKind{grafeas.NoteKind_BUILD, grafeas.NoteKind_VULNERABILITY, KindInToto}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func newRandomFilter(r *rand.Rand, depth int) randomFilter {
	if depth > 0 {
		a, b := newRandomFilter(r, depth-1), newRandomFilter(r, depth-1)
		switch r.IntN(4) {
		case 0:
			return randomFilter{"(" + a.text + " AND " + b.text + ")", func(o *grafeas.Occurrence) bool { return a.want(o) && b.want(o) }}
		case 1:
			return randomFilter{"(" + a.text + " OR " + b.text + ")", func(o *grafeas.Occurrence) bool { return a.want(o) || b.want(o) }}
		case 2:
			return randomFilter{"NOT " + "(" + a.text + ")", func(o *grafeas.Occurrence) bool { return !a.want(o) }}
		}
	}
	return randomTerm(r)
}

func randomTerm(r *rand.Rand) randomFilter {
	if r.IntN(4) == 0 {
		k := pick(r, randomKinds)
		return randomFilter{"kind=" + strconv.Quote(KindName(k)), func(o *grafeas.Occurrence) bool { return o.GetKind() == k }}
	}
	fields := []struct {
		name   string
		values []string
		of     func(*grafeas.Occurrence) []string // all spellings
	}{
		{"resourceUrl", randomURIs, func(o *grafeas.Occurrence) []string {
			c := CanonicalURI(o.GetResourceUri())
			return []string{c, otherSpelling(c)}
		}},
		{"noteName", randomNotes, func(o *grafeas.Occurrence) []string { return []string{o.GetNoteName()} }},
		{"noteProjectId", []string{"p", "q", "pp"}, func(o *grafeas.Occurrence) []string { return []string{strings.Split(o.GetNoteName(), "/")[1]} }},
		{"noteId", []string{"CVE-1", "CVE-2", "GHSA-1", "é"}, func(o *grafeas.Occurrence) []string {
			return []string{o.GetNoteName()[strings.LastIndexByte(o.GetNoteName(), '/')+1:]}
		}},
	}
	f := pick(r, fields)
	value, compare := pick(r, f.values), func(have, want string) bool { return have == want }
	format := "%s = %q"
	switch r.IntN(3) {
	case 1:
		value, format, compare = string([]rune(value)[:r.IntN(len([]rune(value))+1)]), "has_prefix(%s, %q)", strings.HasPrefix
	case 2:
		value, format, compare = string([]rune(value)[r.IntN(len([]rune(value))+1):]), "has_suffix(%s, %q)", strings.HasSuffix
	}
	return randomFilter{fmt.Sprintf(format, f.name, value), func(o *grafeas.Occurrence) bool {
		return slices.ContainsFunc(f.of(o), func(have string) bool { return compare(have, value) })
	}}
}

// TestFilterBoundsLoseNoRow tries random filters on random rows: the filter
// answers as its parts do, and what matches is within what an index is asked for.
func TestFilterBoundsLoseNoRow(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test that repeats
	matched := 0
	for range 4_000 {
		random := newRandomFilter(r, r.IntN(4))
		f, err := v1Filter(random.text)
		if err != nil {
			t.Fatalf("%s: %v", random.text, err)
		}
		for range 5 {
			o := &grafeas.Occurrence{ResourceUri: pick(r, randomURIs), NoteName: pick(r, randomNotes), Kind: pick(r, randomKinds)}
			if got, want := f.matchOccurrence(o), random.want(o); got != want {
				t.Fatalf("%s: got %t, want %t of %v", random.text, got, want, o)
			} else if got {
				matched++
				requireWithinBounds(t, f, o)
			}
		}
	}
	if matched < 2_000 {
		t.Errorf("only %d rows matched anything", matched)
	}
}

// requireWithinBounds fails if a row that matches would not be read.
func requireWithinBounds(t *testing.T, f *filter, o *grafeas.Occurrence) {
	t.Helper()
	var q OccurrenceQuery
	b, keys := f.bounds(), KeysOf(o)
	if !q.narrow(b) || !q.Kinds.Has(o.GetKind()) ||
		!q.Note.IsZero() && q.Note.String() != o.GetNoteName() ||
		q.Resources != nil && !contains(q.Resources, keys.Resource) ||
		q.Subjects != nil && !contains(q.Subjects, keys.Subject) {
		t.Fatalf("%q matches %v, and its query %+v does not find it", f.text, o, q)
	}
	h, uri := b.hints(), CanonicalURI(o.GetResourceUri())
	note, err := ParseNoteName(o.GetNoteName())
	if err != nil {
		return // a store has none such
	}
	if h.Prefixes != nil && !slices.ContainsFunc(h.Prefixes, func(p string) bool { return strings.HasPrefix(uri, p) }) ||
		h.NoteProject != "" && h.NoteProject != note.Parent.Project ||
		h.NoteID != "" && h.NoteID != note.ID || !strings.HasPrefix(note.ID, h.NoteIDPrefix) {
		t.Fatalf("%q matches %v, and its hints %+v exclude it", f.text, o, h)
	}
	nq := NoteQuery{Parent: note.Parent}
	if !b.noteQuery(&nq) || !nq.Kinds.Has(o.GetKind()) || !strings.HasPrefix(note.ID, nq.IDPrefix) {
		t.Fatalf("%q matches %v, and its query %+v for notes does not find it", f.text, o, nq)
	}
}

var positionIn = regexp.MustCompile(`, position (\d+): `)

// FuzzFilter checks that parsing ends, that refusals are clear and name a place in
// the filter, and that no row that matches lies outside of what an index would be
// asked for.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{
		`resourceUrl="https://gcr.io/p/i@` + testDigest + `" AND kind="VULNERABILITY"`,
		`kind=BUILD OR NOT (noteId="x" AND -noteProjectId!="y")`,
		`has_suffix(resource.uri, "` + testDigest + `") OR has_prefix(note_name, "projects/")`,
		`a.b.c:("x" OR 1.5) AND f(g(h(1)))`, `((((`, `"\x`, `-`, `NOT`, "kind=\"\\u0041\"", `NOT()`, `OR()AND(a)`,
		`vulnerability.cvssScore>=7.1e0 AND (createTime<2026-02-01 )AND name:*`, `vulnerability.packageIssue.affectedPackage:ssl-1`,
	} {
		f.Add(seed)
	}
	row := testRow()
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := v1Filter(text)
		if err == nil {
			if parsed.matchOccurrence(row) && parsed != nil {
				requireWithinBounds(t, parsed, row)
			}
			if position, _, ok := parsed.unindexed(); ok && (position < 1 || position > len(text)) {
				t.Errorf("%q: the term without an index is at %d", text, position)
			}
			return
		}
		if KindOf(err) != InvalidArgument {
			t.Errorf("kind of %v is %v", err, KindOf(err))
		}
		if at := positionIn.FindAllStringSubmatch(err.Error(), -1); len(at) > 0 {
			if n, err := strconv.Atoi(at[len(at)-1][1]); !strings.Contains(text, "position") && (err != nil || n < 1 || n > len(text)+1) {
				t.Errorf("%q has %d bytes, and its error is at %d", text, len(text), n)
			}
		}
	})
}
