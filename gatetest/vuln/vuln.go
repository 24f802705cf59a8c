// Package vuln finds known vulnerabilities in Go programs, from records in the
// OSV format, for demonstrations and tests that need a true finding without a
// network. It is no scanner: it knows Go modules only, and the records it is given.
//
//	modules, err := vuln.ModulesOf("web")            // what the linker wrote into the program
//	records, err := vuln.ReadRecords(os.DirFS("osv")) // one record a file
//	findings, err := vuln.Match(modules, records)
package vuln

import (
	"cmp"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// StandardLibrary is the path under which records name Go's standard library.
const StandardLibrary = "stdlib"

// A Module is a Go module, or the standard library, in a program.
type Module struct {
	Path    string
	Version string // "v1.2.3", or "(devel)" when the program was built from a checkout
}

func (m Module) String() string { return m.Path + "@" + m.Version }

// ModulesOf returns the modules that the Go program at path was built from,
// itself and the standard library among them, sorted by path. A replaced module
// is named as what replaced it.
func ModulesOf(path string) ([]Module, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the modules of %q: %w", path, err)
	}
	modules := []Module{{Path: StandardLibrary, Version: goVersion(info.GoVersion)}}
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		for m.Replace != nil {
			m = m.Replace
		}
		if m.Path != "" {
			modules = append(modules, Module{Path: m.Path, Version: m.Version})
		}
	}
	slices.SortFunc(modules, func(a, b Module) int { return cmp.Compare(a.Path, b.Path) })
	return modules, nil
}

// goVersion turns "go1.26.8" into "v1.26.8" and "go1.27rc1" into "v1.27.0-rc1".
func goVersion(toolchain string) string {
	version, _, _ := strings.Cut(strings.TrimPrefix(toolchain, "go"), " ")
	for _, stage := range []string{"rc", "beta"} {
		if release, n, ok := strings.Cut(version, stage); ok {
			return "v" + release + ".0-" + stage + "." + n
		}
	}
	if v := "v" + version; semver.IsValid(v) {
		return v
	}
	return "(devel)"
}

// A Finding is a known vulnerability of a module in a program.
type Finding struct {
	ID           string   // of the record, such as "GO-2021-0113"
	CVE          string   // "" if it has none
	Aliases      []string // all other ids
	Summary      string
	Module       Module
	FixedVersion string // the lowest that is not affected, "" if there is none yet
	Severity     Severity
}

// A Severity is how bad a vulnerability is. The zero value says that the record
// does not tell; records of the Go vulnerability database never do.
type Severity struct {
	Level  string // "LOW", "MODERATE", "MEDIUM", "HIGH" or "CRITICAL", as the source says
	Vector string // CVSS, such as "CVSS:3.1/AV:N/…"
}

// Match returns the vulnerabilities of the modules, sorted by id and module.
// Findings come with an error when a record names a module whose version cannot
// be compared: whether that one is affected is not known.
func Match(modules []Module, records []*Record) ([]Finding, error) {
	byPath := map[string][]Module{}
	for _, m := range modules {
		byPath[m.Path] = append(byPath[m.Path], m)
	}
	var findings []Finding
	var unknown []error
	for _, r := range records {
		if r.Withdrawn {
			continue
		}
		for _, a := range r.affected {
			for _, m := range byPath[a.module] {
				if !semver.IsValid(m.Version) {
					unknown = append(unknown, fmt.Errorf("matching %s with %q: version %q cannot be compared", m.Path, r.ID, m.Version))
					continue
				}
				if a.covers(m.Version) {
					findings = append(findings, r.finding(m, a))
				}
			}
		}
	}
	slices.SortFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Module.Path, b.Module.Path), semver.Compare(a.Module.Version, b.Module.Version))
	})
	// A record may list a module more than once, for several packages of it.
	findings = slices.CompactFunc(findings, func(a, b Finding) bool { return a.ID == b.ID && a.Module == b.Module })
	return findings, errors.Join(unknown...)
}

func (r *Record) finding(m Module, a affected) Finding {
	f := Finding{
		ID: r.ID, Aliases: r.Aliases, Summary: r.Summary, Severity: r.Severity,
		Module: m, FixedVersion: a.fixedAfter(m.Version),
	}
	for _, id := range append([]string{r.ID}, r.Aliases...) {
		if strings.HasPrefix(id, "CVE-") {
			f.CVE = id
			break
		}
	}
	return f
}

// ReadRecords parses every file named *.json at the top of fsys.
func ReadRecords(fsys fs.FS) ([]*Record, error) {
	names, err := fs.Glob(fsys, "*.json")
	if err != nil {
		return nil, fmt.Errorf("reading vulnerability records: %w", err)
	}
	records := make([]*Record, 0, len(names))
	for _, name := range names {
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, fmt.Errorf("reading vulnerability records: %w", err)
		}
		record, err := ParseRecord(data)
		if err != nil {
			return nil, fmt.Errorf("reading vulnerability record %q: %w", name, err)
		}
		records = append(records, record)
	}
	return records, nil
}
