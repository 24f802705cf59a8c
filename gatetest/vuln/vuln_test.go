package vuln_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/gatetest/registry"
	"github.com/gatehouse-dev/gatehouse/gatetest/vuln"
)

const images = "../../examples/images"

// build builds one of the example programs.
func build(t *testing.T, name string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	if err := registry.BuildGo(t.Context(), filepath.Join(images, name), out); err != nil {
		t.Fatal(err)
	}
	return out
}

func exampleRecords(t *testing.T) []*vuln.Record {
	t.Helper()
	records, err := vuln.ReadRecords(os.DirFS(filepath.Join(images, "osv")))
	if err != nil {
		t.Fatal(err)
	}
	return records
}

func TestVulnerableProgramIsFound(t *testing.T) {
	t.Parallel()
	modules, err := vuln.ModulesOf(build(t, "vulnerable"))
	if err != nil {
		t.Fatal(err)
	}
	text := vuln.Module{Path: "golang.org/x/text", Version: "v0.3.6"}
	if !slices.Contains(modules, text) {
		t.Errorf("modules %v lack %v", modules, text)
	}
	if !slices.ContainsFunc(modules, func(m vuln.Module) bool {
		return m.Path == vuln.StandardLibrary && strings.HasPrefix(m.Version, "v1.")
	}) {
		t.Errorf("modules %v lack the standard library", modules)
	}
	got, err := vuln.Match(modules, exampleRecords(t))
	if err != nil {
		t.Fatal(err)
	}
	want := []vuln.Finding{{
		ID:           "GO-2021-0113",
		CVE:          "CVE-2021-38561",
		Aliases:      []string{"CVE-2021-38561", "GHSA-ppp9-7jff-5vj2"},
		Summary:      "Out-of-bounds read in golang.org/x/text/language",
		Module:       text,
		FixedVersion: "v0.3.7",
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestFixedProgramIsClean(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"good", "root"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			modules, err := vuln.ModulesOf(build(t, name))
			if err != nil {
				t.Fatal(err)
			}
			findings, err := vuln.Match(modules, exampleRecords(t))
			if err != nil || len(findings) != 0 {
				t.Errorf("findings %v, error %v; want none", findings, err)
			}
		})
	}
}

func TestModulesOfWhatIsNotAGoProgram(t *testing.T) {
	t.Parallel()
	if modules, err := vuln.ModulesOf("vuln.go"); err == nil {
		t.Errorf("got modules %v, want an error", modules)
	}
}

// ranged returns a record whose one range has these events.
func ranged(t *testing.T, events string) []*vuln.Record {
	t.Helper()
	record, err := vuln.ParseRecord([]byte(`{"id": "T-1", "affected": [{"package": {"ecosystem": "Go", "name": "m"},
		"ranges": [{"type": "SEMVER", "events": [` + events + `]}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	return []*vuln.Record{record}
}

func TestMatchRanges(t *testing.T) {
	t.Parallel()
	const twoRanges = `{"introduced": "0"}, {"fixed": "1.2.0"}, {"introduced": "1.4.0"}, {"fixed": "1.5.0"}`
	for _, test := range []struct {
		name, events, version string
		affected              bool
		fixed                 string
	}{
		{"from the beginning", twoRanges, "v0.0.0-20200101000000-abcdefabcdef", true, "v1.2.0"},
		{"below the fix", twoRanges, "v1.1.9", true, "v1.2.0"},
		{"a prerelease of the fix", twoRanges, "v1.2.0-rc.1", true, "v1.2.0"},
		{"the fix", twoRanges, "v1.2.0", false, ""},
		{"between", twoRanges, "v1.3.7", false, ""},
		{"introduced again", twoRanges, "v1.4.0", true, "v1.5.0"},
		{"above all", twoRanges, "v2.0.0+incompatible", false, ""},
		{"in any order", `{"fixed": "1.2.0"}, {"introduced": "1.0.0"}`, "v1.1.0", true, "v1.2.0"},
		{"the last affected", `{"introduced": "1.0.0"}, {"last_affected": "1.1.0"}`, "v1.1.0", true, ""},
		{"after the last affected", `{"introduced": "1.0.0"}, {"last_affected": "1.1.0"}`, "v1.1.1", false, ""},
		{"never fixed", `{"introduced": "0"}`, "v9.9.9", true, ""},
		{"numbers, not text", `{"introduced": "0"}, {"fixed": "1.10.0"}`, "v1.9.0", true, "v1.10.0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			findings, err := vuln.Match([]vuln.Module{{Path: "m", Version: test.version}, {Path: "other", Version: test.version}}, ranged(t, test.events))
			if err != nil {
				t.Fatal(err)
			}
			if got := len(findings) == 1; got != test.affected {
				t.Fatalf("findings %v; want affected = %v", findings, test.affected)
			}
			if test.affected && findings[0].FixedVersion != test.fixed {
				t.Errorf("fixed in %q, want %q", findings[0].FixedVersion, test.fixed)
			}
		})
	}
}

func TestMatchSaysWhatItCannotTell(t *testing.T) {
	t.Parallel()
	records := ranged(t, `{"introduced": "0"}`)
	if _, err := vuln.Match([]vuln.Module{{Path: "m", Version: "(devel)"}}, records); err == nil {
		t.Error("a module without a version was passed over in silence")
	}
	if _, err := vuln.Match([]vuln.Module{{Path: "other", Version: "(devel)"}}, records); err != nil {
		t.Errorf("a module that no record names: %v", err)
	}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	module := []vuln.Module{{Path: "m", Version: "v1.0.0"}}
	match := func(t *testing.T, record string) []vuln.Finding {
		t.Helper()
		r, err := vuln.ParseRecord([]byte(record))
		if err != nil {
			t.Fatal(err)
		}
		findings, err := vuln.Match(module, []*vuln.Record{r})
		if err != nil {
			t.Fatal(err)
		}
		return findings
	}
	t.Run("that are withdrawn find nothing", func(t *testing.T) {
		t.Parallel()
		if f := match(t, `{"id": "T", "withdrawn": "2024-01-01T00:00:00Z", "affected": [{"package": {"ecosystem": "Go", "name": "m"}, "versions": ["1.0.0"]}]}`); len(f) != 0 {
			t.Errorf("found %v", f)
		}
	})
	t.Run("of other ecosystems find nothing", func(t *testing.T) {
		t.Parallel()
		if f := match(t, `{"id": "T", "affected": [{"package": {"ecosystem": "npm", "name": "m"}, "versions": ["1.0.0"]}]}`); len(f) != 0 {
			t.Errorf("found %v", f)
		}
	})
	t.Run("give the severity they have, once", func(t *testing.T) {
		t.Parallel()
		const affected = `{"package": {"ecosystem": "Go", "name": "m"}, "versions": ["1.0.0"], "ranges": [{"type": "GIT", "events": [{"introduced": "abc"}]}]}`
		got := match(t, `{"id": "T", "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}],
			"database_specific": {"severity": "HIGH"}, "affected": [`+affected+`, `+affected+`]}`)
		want := []vuln.Finding{{ID: "T", Module: module[0], Severity: vuln.Severity{Level: "HIGH", Vector: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestParseRecordRefuses(t *testing.T) {
	t.Parallel()
	affected := func(events string) string {
		return `{"id": "T", "affected": [{"package": {"ecosystem": "Go", "name": "m"}, "ranges": [{"type": "SEMVER", "events": [` + events + `]}]}]}`
	}
	for _, test := range []struct{ name, record, want string }{
		{"no JSON", `id: T`, "parsing"},
		{"no id", `{}`, "no id"},
		{"a repeated member", `{"id": "T", "id": "U"}`, "duplicate"},
		{"a time that is none", `{"id": "T", "withdrawn": "yes"}`, "withdrawn"},
		{"a version that is none", affected(`{"introduced": "one"}`), "semantic version"},
		{"fixed in 0", affected(`{"fixed": "0x"}`), "semantic version"},
		{"an unknown event", affected(`{"mended": "1.0.0"}`), "unknown event"},
		{"too much", `{"id": "` + strings.Repeat("x", 4<<20) + `"}`, "more than"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := vuln.ParseRecord([]byte(test.record))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %.200v, want an error with %q", err, test.want)
			}
		})
	}
}

func FuzzParseRecord(f *testing.F) {
	data, err := os.ReadFile(filepath.Join(images, "osv", "GO-2021-0113.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"id": "T", "affected": [{"package": {"ecosystem": "Go", "name": "m"}, "versions": ["1"], "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}, {"last_affected": "1.0.0"}]}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		record, err := vuln.ParseRecord(data)
		if err != nil {
			return
		}
		findings, err := vuln.Match([]vuln.Module{{Path: "m", Version: "v1.0.0"}, {Path: "golang.org/x/text", Version: "v0.3.6"}}, []*vuln.Record{record})
		if err != nil {
			t.Fatalf("matching comparable versions: %v", err)
		}
		for _, finding := range findings {
			if finding.ID != record.ID || finding.FixedVersion == finding.Module.Version {
				t.Errorf("finding %+v of record %q", finding, record.ID)
			}
		}
	})
}
