package snakeoil_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/checktest"
	"github.com/gatehouse-dev/gatehouse/check/snakeoil"
	"github.com/gatehouse-dev/gatehouse/image"
)

type (
	status   = grafeas.DiscoveryOccurrence_AnalysisStatus
	severity = grafeas.Severity
)

const (
	pending     = grafeas.DiscoveryOccurrence_PENDING
	scanning    = grafeas.DiscoveryOccurrence_SCANNING
	success     = grafeas.DiscoveryOccurrence_FINISHED_SUCCESS
	failed      = grafeas.DiscoveryOccurrence_FINISHED_FAILED
	unsupported = grafeas.DiscoveryOccurrence_FINISHED_UNSUPPORTED
)

// metadata answers each question for discoveries with the next of its lists,
// and at last with the last. There is news each three seconds.
type metadata struct {
	discoveries [][]*grafeas.Occurrence
	vulns       []*grafeas.Occurrence
	err         map[grafeas.NoteKind]error
	asked       int
	news        func(context.Context) error
}

func (m *metadata) Occurrences(ctx context.Context, _ image.Reference, kind grafeas.NoteKind) ([]*grafeas.Occurrence, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := m.err[kind]; err != nil {
		return nil, err
	}
	if kind == grafeas.NoteKind_VULNERABILITY {
		return m.vulns, nil
	}
	if len(m.discoveries) == 0 {
		return nil, nil
	}
	m.asked++
	return m.discoveries[min(m.asked, len(m.discoveries))-1], nil
}

// Note knows scanners, but for "sbom", which makes SBOMs, and "lost", which is not there.
func (m *metadata) Note(_ context.Context, name string) (*grafeas.Note, error) {
	if name == "lost" {
		return nil, nil
	}
	kind := grafeas.NoteKind_VULNERABILITY
	if name == "sbom" {
		kind = grafeas.NoteKind_SBOM_REFERENCE
	}
	return &grafeas.Note{Type: &grafeas.Note_Discovery{Discovery: &grafeas.DiscoveryNote{AnalysisKind: kind}}}, nil
}

func (m *metadata) Watch(...image.Reference) check.Watch {
	if m.news != nil {
		return m.news
	}
	return func(ctx context.Context) error {
		select {
		case <-time.After(3 * time.Second):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func discovery(note string, at int64, s status) *grafeas.Occurrence {
	return &grafeas.Occurrence{
		NoteName: note, Kind: grafeas.NoteKind_DISCOVERY, UpdateTime: &timestamppb.Timestamp{Seconds: at},
		Details: &grafeas.Occurrence_Discovery{Discovery: &grafeas.DiscoveryOccurrence{
			AnalysisStatus: s, AnalysisStatusError: &rpcstatus.Status{Message: map[status]string{failed: "no space left"}[s]},
		}},
	}
}

func vuln(name string, effective, own severity) *grafeas.Occurrence {
	return &grafeas.Occurrence{
		NoteName: "projects/goog-vulnz/notes/" + name, Kind: grafeas.NoteKind_VULNERABILITY,
		Details: &grafeas.Occurrence_Vulnerability{Vulnerability: &grafeas.VulnerabilityOccurrence{EffectiveSeverity: effective, Severity: own}},
	}
}

func run(t *testing.T, m check.Metadata, s snakeoil.Settings) (check.Result, error) {
	t.Helper()
	return runContext(t.Context(), t, m, s)
}

func runContext(ctx context.Context, t *testing.T, m check.Metadata, s snakeoil.Settings) (check.Result, error) {
	t.Helper()
	c, err := snakeoil.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return c.Run(ctx, &check.Input{Image: checktest.Ref(t, checktest.Image), Metadata: m})
}

// at returns settings that fail an image at a severity.
func at(severity snakeoil.Severity) snakeoil.Settings {
	return snakeoil.Settings{Fixable: severity, Unfixable: severity}
}

var done = [][]*grafeas.Occurrence{{discovery("scan", 1, success)}}

func TestB7_ACleanImagePasses(t *testing.T) {
	t.Parallel()
	got, err := run(t, &metadata{discoveries: done}, at(snakeoil.Negligible))
	if err != nil || !got.Passed() {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestSeveritiesInVouchersOrder(t *testing.T) {
	t.Parallel()
	order := []struct {
		severity severity
		word     snakeoil.Severity
	}{
		{grafeas.Severity_MINIMAL, snakeoil.Negligible}, {grafeas.Severity_LOW, snakeoil.Low}, {grafeas.Severity_MEDIUM, snakeoil.Medium},
		{grafeas.Severity_SEVERITY_UNSPECIFIED, snakeoil.Unknown}, {grafeas.Severity_HIGH, snakeoil.High}, {grafeas.Severity_CRITICAL, snakeoil.Critical},
	}
	for i, found := range order {
		for j, failOn := range order {
			s := at(failOn.word)
			s.Unscored = snakeoil.Unknown
			got, err := run(t, &metadata{discoveries: done, vulns: []*grafeas.Occurrence{vuln("CVE-1", found.severity, 0)}}, s)
			if err != nil || got.Passed() != (i < j) {
				t.Errorf("%v at failon = %v: passed = %v, %v", found.word, failOn.word, got.Passed(), err)
			}
			if want := fmt.Sprintf("vulnernable to 1 vulnerabilities: CVE-1 (%s)", found.word); !got.Passed() && got.Reason() != want {
				t.Errorf("reason = %q, want %q", got.Reason(), want)
			}
		}
	}
}

func TestB3_AnUnscoredVulnerabilityFailsUnlessSettingsSayHowBadItIs(t *testing.T) {
	t.Parallel()
	m := &metadata{discoveries: done, vulns: []*grafeas.Occurrence{vuln("CVE-1", 0, 0)}}
	for unscored, want := range map[snakeoil.Severity]bool{0: false, snakeoil.Unknown: true, snakeoil.Low: true, snakeoil.High: true, snakeoil.Critical: false} {
		s := at(snakeoil.Critical)
		s.Unscored = unscored
		got, err := run(t, m, s)
		if err != nil || got.Passed() != want {
			t.Errorf("unscored = %q: got %+v, %v; want passed = %v", unscored, got, err, want)
		}
	}
}

func TestTheEffectiveSeverityCountsAndThenTheVulnerabilitysOwn(t *testing.T) {
	t.Parallel()
	s := at(snakeoil.High)
	for about, row := range map[string]struct {
		v    *grafeas.Occurrence
		want string
	}{
		"effective below its own": {vuln("CVE-1", grafeas.Severity_LOW, grafeas.Severity_CRITICAL), ""},
		"effective above its own": {vuln("CVE-1", grafeas.Severity_HIGH, grafeas.Severity_LOW), "(high)"},
		"its own only":            {vuln("CVE-1", 0, grafeas.Severity_CRITICAL), "(critical)"},
		"B4: no details at all":   {&grafeas.Occurrence{NoteName: "CVE-1"}, "(unknown)"},
		"B4: no record at all":    {nil, "(unknown)"},
	} {
		got, err := run(t, &metadata{discoveries: done, vulns: []*grafeas.Occurrence{row.v}}, s)
		if err != nil || got.Passed() != (row.want == "") || !strings.Contains(got.Reason(), row.want) {
			t.Errorf("%s: got %+v, %v", about, got, err)
		}
	}
}

func TestVulnerabilitiesAreListedOnceTheWorstFirst(t *testing.T) {
	t.Parallel()
	m := &metadata{discoveries: done, vulns: []*grafeas.Occurrence{
		vuln("CVE-3", grafeas.Severity_HIGH, 0), vuln("CVE-2", grafeas.Severity_HIGH, 0), vuln("CVE-9", grafeas.Severity_HIGH, 0),
		vuln("CVE-2", grafeas.Severity_HIGH, 0), vuln("CVE-9", grafeas.Severity_CRITICAL, 0), vuln("CVE-9", grafeas.Severity_HIGH, 0), vuln("CVE-1", grafeas.Severity_LOW, 0),
	}}
	got, err := run(t, m, at(snakeoil.High))
	const want = "vulnernable to 3 vulnerabilities: CVE-9 (critical), CVE-2 (high), CVE-3 (high)"
	if err != nil || got.Reason() != want {
		t.Errorf("got %q, %v; want %q", got.Reason(), err, want)
	}
	m.vulns = nil
	for i := range 1000 {
		m.vulns = append(m.vulns, vuln(fmt.Sprintf("CVE-%04d", i), grafeas.Severity_HIGH, 0))
	}
	got, err = run(t, m, at(snakeoil.High))
	if err != nil || !strings.HasPrefix(got.Reason(), "vulnernable to 1000 vulnerabilities: CVE-0000 (high), ") || !strings.HasSuffix(got.Reason(), "CVE-0099 (high), and 900 more") {
		t.Errorf("got %q, %v", got.Reason(), err)
	}
}

func TestDiscoveries(t *testing.T) {
	t.Parallel()
	const unfinished, broken = "discoveries have not finished processing: ", "discoveries have failed: "
	for about, row := range map[string]struct {
		found []*grafeas.Occurrence
		want  []string // parts of the reason; none means that it passes
	}{
		"none":                                  {nil, []string{unfinished, "no scan of the image is known"}},
		"a pending one":                         {[]*grafeas.Occurrence{discovery("a", 1, pending)}, []string{unfinished, `scan "a" is PENDING, as of 1970-01-01T00:00:01Z`}},
		"a running one":                         {[]*grafeas.Occurrence{discovery("a", 1, scanning)}, []string{unfinished, `scan "a" is SCANNING`}},
		"B4: one without details":               {[]*grafeas.Occurrence{{}, nil}, []string{unfinished, "does not say how it stands"}},
		"B12: a failed one is final":            {[]*grafeas.Occurrence{discovery("a", 1, failed)}, []string{broken, `scan "a" is FINISHED_FAILED`, "no space left", "scan the image again"}},
		"B12: an unsupported one is final":      {[]*grafeas.Occurrence{discovery("a", 1, unsupported)}, []string{broken, `scan "a" is FINISHED_UNSUPPORTED`, "a scanner that supports it"}},
		"one failed and one unsupported":        {[]*grafeas.Occurrence{discovery("a", 1, failed), discovery("b", 1, unsupported)}, []string{broken, `"a"`, "scan the image again"}},
		"one scanner done, another not":         {[]*grafeas.Occurrence{discovery("a", 1, success), discovery("b", 2, scanning)}, []string{unfinished, `scan "b" is SCANNING`}},
		"one scanner done, another failed":      {[]*grafeas.Occurrence{discovery("a", 1, failed), discovery("b", 2, success)}, []string{broken, `"a"`}},
		"one scanner done, another not for it":  {[]*grafeas.Occurrence{discovery("a", 1, unsupported), discovery("b", 2, success)}, nil},
		"one scanner failed, another running":   {[]*grafeas.Occurrence{discovery("a", 1, failed), discovery("b", 2, scanning)}, []string{unfinished, `"b"`}},
		"a scan after a failed one":             {[]*grafeas.Occurrence{discovery("a", 2, success), discovery("a", 1, failed)}, nil},
		"a scan again, after one with success":  {[]*grafeas.Occurrence{discovery("a", 1, success), discovery("a", 2, scanning)}, []string{unfinished, "SCANNING"}},
		"of two at one time not the successful": {[]*grafeas.Occurrence{discovery("a", 1, success), discovery("a", 1, scanning)}, []string{unfinished, "SCANNING"}},
		"an analysis of another kind":           {[]*grafeas.Occurrence{discovery("sbom", 1, success)}, []string{unfinished, "no scan of the image is known"}},
		"one pending beside a scan":             {[]*grafeas.Occurrence{discovery("sbom", 1, pending), discovery("a", 1, success)}, nil},
		"one whose note is lost":                {[]*grafeas.Occurrence{discovery("lost", 1, success)}, []string{unfinished, `its note "lost" cannot be read`, "scan_notes"}},
		"Google's own":                          {[]*grafeas.Occurrence{discovery("projects/goog-analysis/notes/PACKAGE_VULNERABILITY", 1, success)}, nil},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			m := &metadata{discoveries: [][]*grafeas.Occurrence{row.found}}
			s := at(snakeoil.High)
			s.MaxWait = -1
			got, err := run(t, m, s)
			if err != nil || got.Passed() != (row.want == nil) {
				t.Errorf("got %+v, %v; want reason %q", got, err, row.want)
			}
			for _, want := range row.want {
				if !strings.Contains(got.Reason(), want) {
					t.Errorf("reason = %q, want %q in it", got.Reason(), want)
				}
			}
			if m.asked > 1 {
				t.Errorf("looked %d times without waiting, want once", m.asked)
			}
		})
	}
}

func TestScanNotesStandInPlaceOfWhatNotesSay(t *testing.T) {
	t.Parallel()
	for note, want := range map[string]bool{"lost": true, "a": false} {
		s := at(snakeoil.High)
		s.MaxWait, s.Scans.Notes = -1, []string{"lost"}
		got, err := run(t, &metadata{discoveries: [][]*grafeas.Occurrence{{discovery(note, 1, success)}}}, s)
		if err != nil || got.Passed() != want {
			t.Errorf("%s: got %+v, %v", note, got, err)
		}
	}
}

func TestB12_WaitingEndsWithTheScan(t *testing.T) {
	t.Parallel()
	for _, end := range []status{success, failed, unsupported} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			m := &metadata{discoveries: [][]*grafeas.Occurrence{nil, {discovery("a", 1, pending)}, {discovery("a", 2, end)}}}
			got, err := run(t, m, at(snakeoil.High))
			if err != nil || got.Passed() != (end == success) {
				t.Errorf("%v: got %+v, %v", end, got, err)
			}
			if took := time.Since(start); took != 6*time.Second {
				t.Errorf("%v: waited %v, want until the second news", end, took)
			}
		})
	}
}

func TestB12_WaitingEndsWithTheTimeForIt(t *testing.T) {
	t.Parallel()
	endless := func() *metadata {
		return &metadata{discoveries: [][]*grafeas.Occurrence{{discovery("a", 1, scanning)}}}
	}
	for about, row := range map[string]struct {
		wait, deadline, want time.Duration
	}{
		"of the settings": {5 * time.Second, time.Minute, 5 * time.Second},
		"of the request":  {0, 4 * time.Second, 4 * time.Second},
		"by default":      {0, time.Hour, snakeoil.DefaultMaxWait},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), row.deadline)
			defer cancel()
			start := time.Now()
			s := at(snakeoil.High)
			s.MaxWait = row.wait
			got, err := runContext(ctx, t, endless(), s)
			if err != nil || !strings.HasPrefix(got.Reason(), `discoveries have not finished processing: scan "a" is SCANNING`) {
				t.Errorf("%s: got %+v, %v", about, got, err)
			}
			if took := time.Since(start); took != row.want {
				t.Errorf("%s: waited %v, want %v", about, took, row.want)
			}
		})
	}
	for about, news := range map[string]func(context.CancelFunc) func(context.Context) error{
		"of a caller that has gone is an error": func(cancel context.CancelFunc) func(context.Context) error {
			return func(ctx context.Context) error { cancel(); return ctx.Err() }
		},
		"of a feed that has broken is an error": func(context.CancelFunc) func(context.Context) error {
			return func(context.Context) error { return context.Canceled }
		},
	} {
		t.Run(about, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			m := endless()
			m.news = news(cancel)
			if _, err := runContext(ctx, t, m, at(snakeoil.High)); !errors.Is(err, context.Canceled) {
				t.Errorf("err = %v", err)
			}
		})
	}
}

func fixableBy(o *grafeas.Occurrence, pkg, version string) *grafeas.Occurrence {
	o.GetVulnerability().PackageIssue = []*grafeas.VulnerabilityOccurrence_PackageIssue{{
		AffectedPackage: pkg, FixedVersion: &grafeas.Version{Kind: grafeas.Version_NORMAL, FullName: version},
	}}
	return o
}

func TestFixableAndUnfixableHaveThresholdsOfTheirOwn(t *testing.T) {
	t.Parallel()
	m := &metadata{discoveries: done, vulns: []*grafeas.Occurrence{
		fixableBy(vuln("CVE-1", grafeas.Severity_HIGH, 0), "openssl", "3.0.2"), vuln("CVE-2", grafeas.Severity_HIGH, 0),
	}}
	for about, row := range map[string]struct {
		fixable, unfixable snakeoil.Severity
		want               string
	}{
		"neither":        {snakeoil.Critical, snakeoil.Never, ""},
		"fixable only":   {snakeoil.High, snakeoil.Never, "vulnernable to 1 vulnerabilities: CVE-1 (high); update openssl to 3.0.2 for CVE-1"},
		"unfixable only": {snakeoil.Never, snakeoil.Low, "vulnernable to 1 vulnerabilities: CVE-2 (high)"},
		"both":           {snakeoil.High, snakeoil.High, "vulnernable to 2 vulnerabilities: CVE-1 (high), CVE-2 (high); update openssl to 3.0.2 for CVE-1"},
	} {
		got, err := run(t, m, snakeoil.Settings{Fixable: row.fixable, Unfixable: row.unfixable})
		if err != nil || got.Passed() != (row.want == "") || got.Reason() != row.want {
			t.Errorf("%s: got %+v, %v; want %q", about, got, err, row.want)
		}
	}
}

func TestAllowedVulnerabilities(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	m := &metadata{discoveries: done, vulns: []*grafeas.Occurrence{vuln("CVE-1", grafeas.Severity_HIGH, 0)}}
	for about, row := range map[string]struct {
		allowed map[string]snakeoil.Allowed
		want    string
	}{
		"for good":          {map[string]snakeoil.Allowed{"CVE-1": {Reason: "not reachable"}}, ""},
		"for now":           {map[string]snakeoil.Allowed{"CVE-1": {Reason: "not reachable", Until: now.Add(time.Second)}}, ""},
		"until this moment": {map[string]snakeoil.Allowed{"CVE-1": {Reason: "not reachable", Until: now}}, "vulnernable to 1 vulnerabilities: CVE-1 (high); CVE-1 (high) was allowed until 2026-06-01: not reachable"},
		"another":           {map[string]snakeoil.Allowed{"CVE-11": {Reason: "r"}, "cve-1": {Reason: "r"}}, "vulnernable to 1 vulnerabilities: CVE-1 (high)"},
	} {
		s := at(snakeoil.High)
		s.Allowed, s.Now = row.allowed, func() time.Time { return now }
		got, err := run(t, m, s)
		if err != nil || got.Passed() != (row.want == "") || got.Reason() != row.want {
			t.Errorf("%s: got %+v, %v; want %q", about, got, err, row.want)
		}
		if row.want == "" && !strings.Contains(strings.Join(got.Evidence(), "\n"), "CVE-1 (high) is allowed") {
			t.Errorf("%s: evidence %q", about, got.Evidence())
		}
	}
	for id, a := range map[string]snakeoil.Allowed{"": {Reason: "r"}, "projects/p/notes/CVE-1": {Reason: "r"}, "CVE-1": {Reason: " "}} {
		s := at(snakeoil.High)
		s.Allowed = map[string]snakeoil.Allowed{id: a}
		if _, err := snakeoil.New(s); err == nil {
			t.Errorf("allowing %q for %q: no error", id, a.Reason)
		}
	}
}

func TestAnErrorIsNotAPass(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	for _, kind := range []grafeas.NoteKind{grafeas.NoteKind_DISCOVERY, grafeas.NoteKind_VULNERABILITY} {
		got, err := run(t, &metadata{discoveries: done, err: map[grafeas.NoteKind]error{kind: down}}, at(snakeoil.High))
		if !errors.Is(err, down) || got.Passed() {
			t.Errorf("%v: got %+v, %v", kind, got, err)
		}
	}
}

func TestB5_SettingsAreCheckedWhenTheCheckIsMade(t *testing.T) {
	t.Parallel()
	if _, err := snakeoil.New(snakeoil.Settings{}); err == nil || !strings.Contains(err.Error(), "failon") {
		t.Errorf("without failon: err = %v", err)
	}
	if _, err := snakeoil.ParseSeverity("High"); err == nil || !strings.Contains(err.Error(), `severity "High" doesn't exist`) {
		t.Errorf("err = %v", err)
	}
	if s, err := snakeoil.ParseThreshold("never"); err != nil || s != snakeoil.Never {
		t.Errorf("got %v, %v", s, err)
	}
	if _, err := snakeoil.ParseSeverity("never"); err == nil {
		t.Error("never is a severity")
	}
	if s, err := snakeoil.ParseSeverity("critical"); err != nil || s != snakeoil.Critical {
		t.Errorf("got %v, %v", s, err)
	}
}
