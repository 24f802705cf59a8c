package metadata

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const testDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// v1Filter parses a filter on occurrences of v1.
func v1Filter(text string) (*filter, error) { return new(Service).occurrenceFilter(text) }

func testRow() *grafeas.Occurrence {
	return &grafeas.Occurrence{
		ResourceUri: "https://gcr.io/p/i@" + testDigest,
		Kind:        grafeas.NoteKind_VULNERABILITY,
		NoteName:    "projects/goog-vulnz/notes/CVE-2026-1",
		Name:        "projects/p/occurrences/x",
		CreateTime:  timestamppb.New(time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)),
		Details: &grafeas.Occurrence_Vulnerability{Vulnerability: &grafeas.VulnerabilityOccurrence{
			Severity: grafeas.Severity_HIGH, CvssScore: 7.1,
			PackageIssue: []*grafeas.VulnerabilityOccurrence_PackageIssue{
				{AffectedPackage: "tls"},
				{AffectedPackage: "ssl", AffectedVersion: &grafeas.Version{Kind: grafeas.Version_NORMAL}},
			},
		}},
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
		f, err := v1Filter(test.filter)
		if err != nil {
			t.Errorf("%s: %v", test.filter, err)
			continue
		}
		if got := f.matchOccurrence(testRow()); got != test.want {
			t.Errorf("%s: got %t, want %t", test.filter, got, test.want)
		}
	}
}

func TestFilterRefusesWhatItDoesNotUnderstand(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ filter, want string }{
		{`foo="x"`, `position 1: cannot filter by "foo"`},
		{`kind="NO_SUCH_KIND"`, `position 6: there is no kind "NO_SUCH_KIND"`},
		{`kind=""`, `there is no kind ""`},
		{`kind="BUILD" and noteId="x"`, `position 14: "and" is not an operator; write AND`},
		{`kind="BUILD" && noteId="x"`, `position 14: "&&" is not an operator; write AND`},
		{`kind="BUILD" || noteId="x"`, `position 14: "||" is not an operator; write OR`},
		{`kind="BUILD" Or noteId="x"`, `write OR`},
		{`not kind="BUILD"`, `position 1: "not" is not an operator; write NOT`},
		{`!kind="BUILD"`, `position 1: "!" alone is no operator`},
		{`kind='BUILD'`, `position 6: strings stand in double quotes`},
		{`noteId=b"x"`, `position 9: a quote within a word`},
		{`labels["x"]="y"`, `position 7: brackets are not supported; write labels.key`},
		{`labels[x]="y"`, `position 7: brackets are not supported`},
		{`"resource.uri".startsWith("x")`, "position"},
		{`resource.uri.contains("x")`, `operator or function "resource.uri.contains" is not supported`},
		{`kind="BUILD" noteId="x"`, "join them with AND"},
		{`kind=="BUILD"`, `position 5: operator "==" is not supported; write = once`},
		{`kind!=="BUILD"`, `operator "!==" is not supported`},
		{`resourceUrl=https://gcr.io/p/i`, "position 13: put the value in double quotes"},
		{`has_suffix(resourceUrl, sha256:12)`, "position 25: put the value in double quotes"},
		{`kind=`, "position 6: the filter ends where more must follow"},
		{`kind="BUILD" noteId="x" AND noteId="y"`, "position 14: terms stand side by side"},
		{`kind="BUILD" noteId="x" noteId="y" noteId="z"`, "position 14: terms stand side by side"},
		{`kind=BUILD AND filters_are_yet_to_be_implemented`, `position 16: "filters_are_yet_to_be_implemented" is not a term`},
		{`NOT()`, "position"}, {`OR()`, "position"}, {`AND(a)`, "position"}, {`NOT(a,b)`, "position"}, {`FUZZY(a)`, "position 1: terms stand side by side"},
		{`kind=AND`, "position"}, {`a=f(x)`, "cannot filter by"}, {`noteId=f(x)`, "the value of noteId is not text"}, {`noteId=(x OR y)`, "not text"},
		{`resourceUrl="x`, "position 13"},
		{`(kind="BUILD"`, "position"},
		{`kind="BUILD")`, "position"},
		{`kind`, `"kind" is not a term`},
		{`"kind"`, `is not a term`},
		{`"kind"="BUILD"`, "cannot filter by"},
		{`noteId="CVE-*"`, "wildcards are not supported"},
		{`noteId=-`, "position 8"},
		{`has_prefix(resourceUrl)`, "wants a field and a value"},
		{`starts_with(resourceUrl, "x")`, `"starts_with" is not supported`},
		{`AND`, "position 1"},
		{`   foo="x"`, "position 4"},
		{"kind=\"\xff\"", "UTF-8"},
		{strings.Repeat("(", 1000), "parentheses"},
		{strings.Repeat("x", 1<<20), "bytes"},
		{strings.TrimSuffix(strings.Repeat(`noteId="x" OR `, 200), " OR "), "more than 128 terms"},
		{"resource.name=\"x\"", `grafeas.v1.Occurrence has no field "resource"`},
		{`resourceURL="x"`, `did you mean "resourceUrl"?`},
		{`( kind="BUILD" AND  foo="x" )`, "position 21: cannot filter by"},
		{`NOT(kind=-1.5)AND foo="x"`, `position 10: there is no kind "-1.5"`},
		{`noteId=CVE-2026-1 AND foo="x"`, "position 23: cannot filter by"},
		{"kind=\"BUILD\" AND noteId=\"x\\q\"", "position"},
	} {
		_, err := v1Filter(test.filter)
		if KindOf(err) != InvalidArgument || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got error %v, want InvalidArgument with %q", clip(test.filter), err, test.want)
		}
	}
	if _, err := new(Service).noteFilter(`resourceUrl="x"`); KindOf(err) != InvalidArgument {
		t.Errorf("notes have no resourceUrl, got error %v", err)
	}
}

// TestFilterGrammar is the grammar of Grafeas's own parser, which binds OR tighter
// than AND, and in which only capitals are operators.
func TestFilterGrammar(t *testing.T) {
	t.Parallel()
	const yes, no = true, false
	T, F := `kind="VULNERABILITY"`, `kind="BUILD"`
	for _, test := range []struct {
		filter string
		want   bool
	}{
		{T + ` OR ` + F + ` AND ` + F, no}, {F + ` AND ` + F + ` OR ` + T, no}, {T + ` AND ` + F + ` OR ` + T, yes},
		{F + ` OR ` + T + ` AND ` + T + ` OR ` + F, yes}, {T + ` OR ` + T + ` AND ` + F + ` OR ` + F, no},
		{`(` + T + ` AND ` + F + `) OR ` + T, yes}, {F + ` OR (` + T + ` AND ` + T + `)`, yes},
		{`NOT ` + F + ` AND ` + T, yes}, {`NOT (` + F + ` AND ` + T + `)`, yes}, {`NOT (` + T + ` OR ` + F + `)`, no},
		{`NOT ` + T + ` OR ` + T, yes}, {`-(` + F + `)`, yes}, {`-` + F + ` AND -` + F, yes},
		// Spaces where they do no harm.
		{`( ` + T + ` )`, yes}, {`(` + T + ` )`, yes}, {`((( ` + T + `) ) )`, yes}, {`NOT(` + F + `)`, yes},
		{`(` + T + `)AND(` + T + `)`, yes}, {`(` + F + `)OR(` + T + `)`, yes}, {T + `AND ` + F, no}, {"\t" + T + "\n AND\r\n" + T + "\v", yes},
		{`has_prefix( noteId , "CVE" )`, yes}, {`kind = VULNERABILITY`, yes}, {`kind  =VULNERABILITY`, yes},
		// Bare values of more than letters.
		{`noteId=CVE-2026-1`, yes}, {`noteId = CVE-2026-1 AND ` + F, no}, {`has_prefix(noteId, CVE-2026)`, yes}, {`noteProjectId=goog-vulnz`, yes},
		{`noteId="CVE-2026-1" OR noteId=1.2.3`, yes}, {`noteId=(CVE)`, no}, {`noteName=projects/goog-vulnz/notes/CVE-2026-1`, yes},
		// Strings with escapes.
		{`noteId="CVE\u002d2026\x2d1"`, yes}, {`noteId="CVE\"2026"`, no}, {`has_prefix(noteId, "")`, yes}, {`noteId>"CVE" AND noteId<"CVF"`, yes},
		// All spellings of the fields.
		{`resource_url="gcr.io/p/i@` + testDigest + `" AND resourceUri:"gcr.io/p/i@` + testDigest + `" AND resource.uri:*`, yes},
		{`note_name:* AND noteName:"projects/goog-vulnz/notes/CVE-2026-1" AND note_project_id=goog-vulnz AND note_id:CVE-2026-1`, yes},
		{`hasSuffix(noteName, "-1") AND has_suffix(note_id, "-1") AND has_prefix(note_project_id, "goog")`, yes},
		{`kind="1"`, yes}, {`kind=0x1`, yes}, {`kind=2`, no}, {`kind=14`, no}, {`kind:"PACKAGE_VULNERABILITY"`, yes}, {`kind!="ATTESTATION_AUTHORITY"`, yes},
		// Any path of the message.
		{`vulnerability.severity="HIGH"`, yes}, {`vulnerability.severity>=MEDIUM AND vulnerability.severity<CRITICAL`, yes},
		{`vulnerability.cvssScore>=7.1`, yes}, {`vulnerability.cvss_score>7.1`, no}, {`vulnerability.packageIssue.affectedPackage="ssl"`, yes},
		{`vulnerability.packageIssue.affectedVersion.kind=NORMAL`, yes}, {`vulnerability.fixAvailable=true`, no},
		{`discovery.analysisStatus=FINISHED_SUCCESS`, no}, {`discovery.analysisStatus!=FINISHED_SUCCESS`, yes}, {`discovery:*`, no}, {`vulnerability:*`, yes},
		{`createTime>"2026-01-01T00:00:00Z" AND createTime<"2026-02-01"`, yes}, {`updateTime:*`, no}, {`updateTime<"2026-02-01"`, no}, {`-updateTime>="2026-02-01"`, yes},
		{`dependencyPackageName="ssl"`, no}, {`name="projects/p/occurrences/x"`, yes},
	} {
		f, err := v1Filter(test.filter)
		if err != nil {
			t.Errorf("%s: %v", test.filter, err)
			continue
		}
		if got := f.matchOccurrence(testRow()); got != test.want {
			t.Errorf("%s: got %t, want %t", test.filter, got, test.want)
		}
	}
}

func TestNoteFilterMatches(t *testing.T) {
	t.Parallel()
	note := &grafeas.Note{
		Name: "projects/p/notes/CVE-1", Kind: grafeas.NoteKind_VULNERABILITY, ShortDescription: "bad", RelatedNoteNames: []string{"projects/p/notes/CVE-2"},
		Type: &grafeas.Note_Vulnerability{Vulnerability: &grafeas.VulnerabilityNote{Severity: grafeas.Severity_CRITICAL}},
	}
	for filter, want := range map[string]bool{
		`name="projects/p/notes/CVE-1"`: true, `noteName="projects/p/notes/CVE-1"`: true, `has_prefix(name, "projects/p/notes/CVE-")`: true,
		`noteId="CVE-1" AND kind="VULNERABILITY"`: true, `noteProjectId="q"`: false, `shortDescription="bad"`: true,
		`vulnerability.severity=CRITICAL`: true, `relatedNoteNames:"projects/p/notes/CVE-2"`: true, `related_note_names="x"`: false,
	} {
		f, err := new(Service).noteFilter(filter)
		if err != nil {
			t.Errorf("%s: %v", filter, err)
			continue
		}
		if got := f.matchNote(note); got != want {
			t.Errorf("%s: got %t, want %t", filter, got, want)
		}
	}
	for _, filter := range []string{`resource.uri="x"`, `dependencyPackageName="x"`, `resourceUrl:*`} {
		if f, err := new(Service).noteFilter(filter); KindOf(err) != InvalidArgument {
			t.Errorf("%s: got %v and error %v, want a refusal: notes have none", filter, f, err)
		}
	}
	if (*filter)(nil).matchNote(note) != true || (*filter)(nil).matchOccurrence(nil) != true {
		t.Error("the empty filter does not match everything")
	}
}

func TestFilterOfV1AsksForKindsThatItsPackageLacks(t *testing.T) {
	t.Parallel()
	for _, filter := range []string{`kind="AI_SKILL_ANALYSIS"`, `kind=14`, `has_prefix(kind, "AI_")`} {
		f, err := v1Filter(filter)
		if err != nil {
			t.Fatal(err)
		}
		if !f.matchOccurrence(&grafeas.Occurrence{Kind: KindAISkillAnalysis}) || f.matchOccurrence(testRow()) {
			t.Errorf("%s does not tell the kinds apart", filter)
		}
	}
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
		row := &grafeas.Occurrence{ResourceUri: uri}
		for _, value := range values {
			for text, want := range map[string]bool{
				`has_prefix(resourceUrl, "` + value + `")`: anySpelling(all, strings.HasPrefix, value),
				`has_suffix(resourceUrl, "` + value + `")`: anySpelling(all, strings.HasSuffix, value),
				`resourceUrl = "` + value + `"`:            anySpelling(all, func(a, b string) bool { return a == b }, value),
			} {
				for text, want := range map[string]bool{text: want, "NOT " + text: !want} {
					f, err := v1Filter(text)
					if err != nil {
						t.Fatal(err)
					}
					if got := f.matchOccurrence(row); got != want {
						t.Errorf("%s on %q: got %t, want %t", text, uri, got, want)
					}
				}
			}
		}
	}
}
