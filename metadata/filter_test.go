package metadata

import (
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"
)

const testDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func testRow() *grafeas.Occurrence {
	return &grafeas.Occurrence{
		ResourceUri: "https://gcr.io/p/i@" + testDigest,
		Kind:        grafeas.NoteKind_VULNERABILITY,
		NoteName:    "projects/goog-vulnz/notes/CVE-2026-1",
	}
}

func TestFilterMatches(t *testing.T) {
	t.Parallel()
	const yes, no = true, false
	for _, test := range []struct {
		filter string
		want   bool
	}{
		{"", yes},
		{"   ", yes},
		// As the known clients write them.
		{`resourceUrl="https://gcr.io/p/i@` + testDigest + `" AND kind="VULNERABILITY"`, yes},
		{`resourceUrl="https://gcr.io/p/i@` + testDigest + `" AND kind="ATTESTATION"`, no},
		{`resource_url="https://gcr.io/p/i@` + testDigest + `" AND kind="PACKAGE_VULNERABILITY"`, yes},
		{`resourceUrl="gcr.io/p/i@` + testDigest + `"`, yes},
		{`resource.uri = "gcr.io/p/i@` + testDigest + `"`, yes},
		{`resource_uri="gcr.io/p/other@` + testDigest + `" OR resourceUri="gcr.io/p/i@` + testDigest + `"`, yes},
		{`resourceUrl="x" AND noteProjectId="goog-vulnz" AND noteId="CVE-2026-1"`, no},
		{`noteProjectId="goog-vulnz" AND noteId="CVE-2026-1"`, yes},
		{`(kind = "BUILD") OR (kind = "VULNERABILITY")`, yes},
		{`((resource_url = "https://a") OR (has_prefix(resource_url,"https://gcr.io/p/"))) AND (kind = "VULNERABILITY")`, yes},
		{`has_suffix(resourceUrl, "` + testDigest + `")`, yes},
		{`has_suffix(resourceUrl, "@` + testDigest + `")`, yes},
		{`has_suffix(resourceUrl, "https://gcr.io/p/i@` + testDigest + `")`, yes},
		{`has_suffix(resourceUrl, "https://io/p/i@` + testDigest + `")`, no},
		// The rest of the language.
		{`kind=VULNERABILITY`, yes},
		{`kind!=VULNERABILITY`, no},
		{`NOT kind="BUILD"`, yes},
		{`-kind="VULNERABILITY"`, no},
		{`noteName="projects/goog-vulnz/notes/CVE-2026-1"`, yes},
		{`note_name != "projects/goog-vulnz/notes/CVE-2026-1"`, no},
		{`has_prefix(noteId, "CVE-2026-")`, yes},
		{`hasPrefix(noteId, "GHSA-")`, no},
		{`has_prefix(resourceUrl, "https://")`, yes},
		{`has_prefix(resourceUrl, "https:")`, yes},
		{`has_prefix(resourceUrl, "io/")`, no},
		{`has_prefix(kind, "VULN")`, yes},
		// OR binds tighter than AND: (BUILD or VULNERABILITY) and noteId.
		{`kind="VULNERABILITY" OR kind="BUILD" AND noteId="x"`, no},
		{`kind="BUILD" OR (kind="VULNERABILITY" AND noteId="CVE-2026-1")`, yes},
		{"kind\n=\t\"VULNERABILITY\"", yes},
	} {
		f, err := parseOccurrenceFilter(test.filter)
		if err != nil {
			t.Errorf("%s: %v", test.filter, err)
			continue
		}
		if got := f.match(occurrenceFacts(testRow())); got != test.want {
			t.Errorf("%s: got %t, want %t", test.filter, got, test.want)
		}
	}
}

func TestFilterRefusesWhatItDoesNotUnderstand(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ filter, want string }{
		{`foo="x"`, `position 1: cannot filter by "foo"`},
		{`kind="BUILD" AND createTime>"2026-01-01"`, `position 18: operator or function ">"`},
		{`kind="NO_SUCH_KIND"`, `position 6: there is no kind "NO_SUCH_KIND"`},
		{`kind=""`, `there is no kind ""`},
		{`kind:"BUILD"`, `operator or function ":"`},
		{`kind="BUILD" and noteId="x"`, "side by side"},
		{`kind="BUILD" noteId="x"`, "join them with AND"},
		{`kind=="BUILD"`, "position"},
		{`resourceUrl=https://gcr.io/p/i`, "double quotes"},
		{`resourceUrl="x`, "position 13"},
		{`(kind="BUILD"`, "position"},
		{`kind="BUILD")`, "position"},
		{`kind`, `"kind" is not a term`},
		{`"kind"`, `is not a term`},
		{`"kind"="BUILD"`, "cannot filter by"},
		{`noteId="CVE-*"`, "wildcards are not supported"},
		{`noteId=12`, "put it in double quotes"},
		{`has_prefix(resourceUrl)`, "wants a field and a value"},
		{`starts_with(resourceUrl, "x")`, `"starts_with" is not supported`},
		{`AND`, "position 1"},
		{`   foo="x"`, "position 4"},
		{"kind=\"\xff\"", "UTF-8"},
		{strings.Repeat("(", 1000), "parentheses"},
		{strings.Repeat("x", 1<<20), "bytes"},
		{strings.TrimSuffix(strings.Repeat(`noteId="x" OR `, 200), " OR "), "more than 128 terms"},
		{"resource.name=\"x\"", `"resource.name"`},
	} {
		_, err := parseOccurrenceFilter(test.filter)
		if KindOf(err) != InvalidArgument || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got error %v, want InvalidArgument with %q", clip(test.filter), err, test.want)
		}
	}
	if _, err := parseNoteFilter(`resourceUrl="x"`); KindOf(err) != InvalidArgument {
		t.Errorf("notes have no resourceUrl, got error %v", err)
	}
}

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
		f, err := parseOccurrenceFilter(test.filter)
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

// FuzzFilter checks that parsing ends, that refusals are clear, and that no row
// that matches lies outside of what an index would be asked for.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{
		`resourceUrl="https://gcr.io/p/i@` + testDigest + `" AND kind="VULNERABILITY"`,
		`kind=BUILD OR NOT (noteId="x" AND -noteProjectId!="y")`,
		`has_suffix(resource.uri, "` + testDigest + `") OR has_prefix(note_name, "projects/")`,
		`a.b.c:("x" OR 1.5) AND f(g(h(1)))`, `((((`, `"\x`, `-`, `NOT`, "kind=\"\\u0041\"",
	} {
		f.Add(seed)
	}
	row := testRow()
	facts, keys := occurrenceFacts(row), KeysOf(row)
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := parseOccurrenceFilter(text)
		if err != nil {
			if KindOf(err) != InvalidArgument {
				t.Errorf("kind of %v is %v", err, KindOf(err))
			}
			return
		}
		if !parsed.match(facts) {
			return
		}
		var q OccurrenceQuery
		if !q.narrow(parsed.bounds()) || !q.Kinds.Has(row.GetKind()) ||
			!q.Note.IsZero() && q.Note.String() != row.GetNoteName() ||
			q.Resources != nil && !contains(q.Resources, keys.Resource) ||
			q.Subjects != nil && !contains(q.Subjects, keys.Subject) {
			t.Errorf("%q matches the row, and its query %+v does not find it", text, q)
		}
	})
}

// TestFiltersCompareSpellings derives each answer from the spellings of a URI.
func TestFiltersCompareSpellings(t *testing.T) {
	t.Parallel()
	spellings := map[string][]string{
		"gcr.io/p/i@" + testDigest:         {"gcr.io/p/i@" + testDigest, "https://gcr.io/p/i@" + testDigest},
		"https://gcr.io/p/i@" + testDigest: {"gcr.io/p/i@" + testDigest, "https://gcr.io/p/i@" + testDigest},
		"localhost:5000/i":                 {"localhost:5000/i", "https://localhost:5000/i"},
		"hub/a?b=c://d":                    {"hub/a?b=c://d", "https://hub/a?b=c://d"},
		"deb://lib:1":                      {"deb://lib:1"},
		"pip://h@1":                        {"pip://h@1"},
		"http://gcr.io/p/i":                {"http://gcr.io/p/i"},
		"https://deb://lib:1":              {"https://deb://lib:1"},
	}
	anySpelling := func(all []string, ok func(a, b string) bool, value string) bool {
		for _, s := range all {
			if ok(s, value) {
				return true
			}
		}
		return false
	}
	values := []string{"", "h", "http", "http:", "https", "https:", "https://", "https://g", "https://deb", "http://", "deb://", "x"}
	for uri := range spellings {
		for i := range len(uri) + 1 {
			values = append(values, uri[:i], uri[i:])
		}
	}
	for uri, all := range spellings {
		row := occurrenceFacts(&grafeas.Occurrence{ResourceUri: uri})
		for _, value := range values {
			for text, want := range map[string]bool{
				`has_prefix(resourceUrl, "` + value + `")`: anySpelling(all, strings.HasPrefix, value),
				`has_suffix(resourceUrl, "` + value + `")`: anySpelling(all, strings.HasSuffix, value),
				`resourceUrl = "` + value + `"`:            anySpelling(all, func(a, b string) bool { return a == b }, value),
			} {
				for text, want := range map[string]bool{text: want, "NOT " + text: !want} {
					f, err := parseOccurrenceFilter(text)
					if err != nil {
						t.Fatal(err)
					}
					if got := f.match(row); got != want {
						t.Errorf("%s on %q: got %t, want %t", text, uri, got, want)
					}
				}
			}
		}
	}
}
