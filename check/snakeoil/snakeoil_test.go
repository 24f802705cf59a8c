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
// and at last with the last.
type metadata struct {
	check.Metadata
	discoveries [][]*grafeas.Occurrence
	vulns       []*grafeas.Occurrence
	err         map[grafeas.NoteKind]error
	asked       int
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
	return c.Run(ctx, &check.Input{Metadata: m})
}

var done = [][]*grafeas.Occurrence{{discovery("scan", 1, success)}}

func TestB7_ACleanImagePasses(t *testing.T) {
	t.Parallel()
	got, err := run(t, &metadata{discoveries: done}, snakeoil.Settings{FailOn: snakeoil.Negligible})
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
			s := snakeoil.Settings{FailOn: failOn.word, Unscored: snakeoil.Unknown}
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
		got, err := run(t, m, snakeoil.Settings{FailOn: snakeoil.Critical, Unscored: unscored})
		if err != nil || got.Passed() != want {
			t.Errorf("unscored = %q: got %+v, %v; want passed = %v", unscored, got, err, want)
		}
	}
}

func TestTheEffectiveSeverityCountsAndThenTheVulnerabilitysOwn(t *testing.T) {
	t.Parallel()
	s := snakeoil.Settings{FailOn: snakeoil.High}
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
	got, err := run(t, m, snakeoil.Settings{FailOn: snakeoil.High})
	const want = "vulnernable to 3 vulnerabilities: CVE-9 (critical), CVE-2 (high), CVE-3 (high)"
	if err != nil || got.Reason() != want {
		t.Errorf("got %q, %v; want %q", got.Reason(), err, want)
	}
	m.vulns = nil
	for i := range 1000 {
		m.vulns = append(m.vulns, vuln(fmt.Sprintf("CVE-%04d", i), grafeas.Severity_HIGH, 0))
	}
	got, err = run(t, m, snakeoil.Settings{FailOn: snakeoil.High})
	if err != nil || !strings.HasPrefix(got.Reason(), "vulnernable to 1000 vulnerabilities: CVE-0000 (high), ") || !strings.HasSuffix(got.Reason(), "CVE-0099 (high), and 900 more") {
		t.Errorf("got %q, %v", got.Reason(), err)
	}
}

func TestDiscoveries(t *testing.T) {
	t.Parallel()
	const unfinished = "discoveries have not finished processing"
	for about, row := range map[string]struct {
		found  []*grafeas.Occurrence
		reason string // empty means that it passes
	}{
		"none":                                  {nil, unfinished},
		"a pending one":                         {[]*grafeas.Occurrence{discovery("a", 1, pending)}, unfinished},
		"a running one":                         {[]*grafeas.Occurrence{discovery("a", 1, scanning)}, unfinished},
		"B4: one without details":               {[]*grafeas.Occurrence{{}, nil}, unfinished},
		"B12: a failed one is final":            {[]*grafeas.Occurrence{discovery("a", 1, failed)}, "discoveries have failed: the scan failed: no space left; scan the image again"},
		"B12: an unsupported one is final":      {[]*grafeas.Occurrence{discovery("a", 1, unsupported)}, "discoveries have failed: the scanner does not support this image; scan it with a scanner that supports it, or take the check snakeoil out for this image"},
		"one failed and one unsupported":        {[]*grafeas.Occurrence{discovery("a", 1, failed), discovery("b", 1, unsupported)}, "discoveries have failed: the scan failed: no space left; the scanner does not support this image; scan the image again"},
		"one scanner done, another not":         {[]*grafeas.Occurrence{discovery("a", 1, success), discovery("b", 2, scanning)}, ""},
		"one scanner done, another failed":      {[]*grafeas.Occurrence{discovery("a", 1, failed), discovery("b", 2, success)}, ""},
		"one scanner failed, another running":   {[]*grafeas.Occurrence{discovery("a", 1, failed), discovery("b", 2, scanning)}, unfinished},
		"a scan after a failed one":             {[]*grafeas.Occurrence{discovery("a", 2, success), discovery("a", 1, failed)}, ""},
		"a scan again, after one with success":  {[]*grafeas.Occurrence{discovery("a", 1, success), discovery("a", 2, scanning)}, unfinished},
		"of two at one time not the successful": {[]*grafeas.Occurrence{discovery("a", 1, success), discovery("a", 1, scanning)}, unfinished},
	} {
		t.Run(about, func(t *testing.T) {
			m := &metadata{discoveries: [][]*grafeas.Occurrence{row.found}}
			got, err := run(t, m, snakeoil.Settings{FailOn: snakeoil.High, MaxWait: -1})
			if err != nil || got.Passed() != (row.reason == "") || got.Reason() != row.reason {
				t.Errorf("got %+v, %v; want reason %q", got, err, row.reason)
			}
			if m.asked != 1 {
				t.Errorf("looked %d times without waiting, want once", m.asked)
			}
		})
	}
}

func TestB12_WaitingEndsWithTheScan(t *testing.T) {
	t.Parallel()
	for _, end := range []status{success, failed, unsupported} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			m := &metadata{discoveries: [][]*grafeas.Occurrence{nil, {discovery("a", 1, pending)}, {discovery("a", 2, end)}}}
			got, err := run(t, m, snakeoil.Settings{FailOn: snakeoil.High, Interval: 3 * time.Second})
			if err != nil || got.Passed() != (end == success) {
				t.Errorf("%v: got %+v, %v", end, got, err)
			}
			if took := time.Since(start); took != 6*time.Second {
				t.Errorf("%v: waited %v, want two intervals", end, took)
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
		s        snakeoil.Settings
		deadline time.Duration
		want     time.Duration
	}{
		"of the settings": {snakeoil.Settings{MaxWait: 5 * time.Second, Interval: 2 * time.Second}, time.Minute, 4 * time.Second},
		"of the request":  {snakeoil.Settings{}, 3 * time.Second, 3 * time.Second},
		"by default":      {snakeoil.Settings{}, time.Hour, snakeoil.DefaultMaxWait},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), row.deadline)
			defer cancel()
			start := time.Now()
			row.s.FailOn = snakeoil.High
			got, err := runContext(ctx, t, endless(), row.s)
			if err != nil || got.Reason() != "discoveries have not finished processing" {
				t.Errorf("%s: got %+v, %v", about, got, err)
			}
			if took := time.Since(start); took != row.want {
				t.Errorf("%s: waited %v, want %v", about, took, row.want)
			}
		})
	}
	t.Run("of a caller that has gone is an error", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := runContext(ctx, t, endless(), snakeoil.Settings{FailOn: snakeoil.High, Wait: func(ctx context.Context, _ time.Duration) error {
			cancel()
			return ctx.Err()
		}})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("err = %v", err)
		}
	})
}

func TestAnErrorIsNotAPass(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	for _, kind := range []grafeas.NoteKind{grafeas.NoteKind_DISCOVERY, grafeas.NoteKind_VULNERABILITY} {
		got, err := run(t, &metadata{discoveries: done, err: map[grafeas.NoteKind]error{kind: down}}, snakeoil.Settings{FailOn: snakeoil.High})
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
	if s, err := snakeoil.ParseSeverity("critical"); err != nil || s != snakeoil.Critical {
		t.Errorf("got %v, %v", s, err)
	}
}
