package cel_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/cel"
	"github.com/gatehouse-dev/gatehouse/check/checktest"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
)

func now() time.Time { return time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC) }

func inputs(t *testing.T) (*checktest.Metadata, *checktest.Registry) {
	t.Helper()
	m := &checktest.Metadata{
		List: []*grafeas.Occurrence{
			checktest.Build("https://github.com/my-org/app", checktest.Commit),
			{NoteName: "projects/p/notes/scan", Kind: grafeas.NoteKind_DISCOVERY, Details: &grafeas.Occurrence_Discovery{Discovery: &grafeas.DiscoveryOccurrence{AnalysisStatus: grafeas.DiscoveryOccurrence_FINISHED_SUCCESS}}},
			{NoteName: "projects/p/notes/CVE-1", Kind: grafeas.NoteKind_VULNERABILITY, Details: &grafeas.Occurrence_Vulnerability{Vulnerability: &grafeas.VulnerabilityOccurrence{
				Severity: grafeas.Severity_HIGH, CvssScore: 7.5, PackageIssue: []*grafeas.VulnerabilityOccurrence_PackageIssue{{
					AffectedPackage: "openssl", FixedVersion: &grafeas.Version{Kind: grafeas.Version_NORMAL, FullName: "3.0.2"},
				}},
			}}},
		},
		Notes: map[string]*grafeas.Note{"projects/p/notes/scan": {Type: &grafeas.Note_Discovery{Discovery: &grafeas.DiscoveryNote{AnalysisKind: grafeas.NoteKind_VULNERABILITY}}}},
	}
	r := &checktest.Registry{Images: map[string][]resolve.Config{checktest.Image: {
		{Platform: resolve.Platform{OS: "linux", Architecture: "amd64"}, User: "1000", Env: []string{"HOME=/", "X"}, Labels: map[string]string{"team": "a"}, Ports: []string{"8080/tcp"}, Created: now().Add(-time.Hour)},
		{Platform: resolve.Platform{OS: "linux", Architecture: "arm64"}, User: "1001"},
	}}}
	return m, r
}

func run(t *testing.T, expression string, m check.Metadata, r check.Registry) (check.Result, error) {
	t.Helper()
	c, err := cel.New(cel.Settings{Name: "ours", Expression: expression, Message: "ask the platform team", Now: now})
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "cel_ours" {
		t.Errorf("it is called %q", c.Name)
	}
	return checktest.Run(t, c, m, r)
}

func TestExpressions(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]string{ // parts of the reason; "" means that it passes
		`image.registry == "registry.example" && image.path.startsWith("team/") && image.digest.startsWith("sha256:")`: "",
		`config.user != "0" && config.platform.os == "linux"`:                                                          "",
		`config.user == "1001"`: `the expression is false on linux/amd64: config.user == "1001"`,
		`config.user == "1000"`: `the expression is false on linux/arm64: config.user == "1000"; ask the platform team`,
		`config.platform.architecture != "amd64" || (config.env.HOME == "/" && config.env.X == "" && config.labels.team == "a" && "8080/tcp" in config.ports)`: "",
		`!has(config.created) || now - config.created < duration("2h")`:                                                                                        "",
		`config.labels.team == "a"`: "the expression cannot be evaluated on linux/arm64: no such key: team; ask the platform team",
		`builds.exists(b, b.builder == "ci@example" && b.source.url.contains("my-org"))`:             "",
		`builds.exists(b, b.keyId != "")`:                                                            "the expression is false: builds.exists",
		`scans.all(s, s.status == "FINISHED_SUCCESS") && size(scans) == 1`:                           "",
		`vulnerabilities.all(v, v.severity != "CRITICAL" && v.cvss < 8.0)`:                           "",
		`vulnerabilities.exists(v, v.id == "CVE-1" && v.fixable && v.packages[0].name == "openssl")`: "",
		`vulnerabilities.all(v, v.severity != "HIGH")`:                                               "the expression is false",
	} {
		m, r := inputs(t)
		got, err := run(t, expression, m, r)
		if err != nil || got.Passed() != (want == "") || !strings.Contains(got.Reason(), want) {
			t.Errorf("%s: got %+v, %v; want %q", expression, got, err, want)
		}
	}
}

func TestWhatCostsTooMuchFails(t *testing.T) {
	t.Parallel()
	m, r := inputs(t)
	for range 9 {
		m.List = append(m.List, m.List...)
	}
	got, err := run(t, `vulnerabilities.all(a, vulnerabilities.all(b, a.id == b.id))`, m, r)
	if err != nil || got.Passed() || !strings.Contains(got.Reason(), "cost limit exceeded") {
		t.Errorf("got %+v, %v", got, err)
	}
	for range 5 {
		m.List = append(m.List, m.List...)
	}
	if _, err := run(t, `size(vulnerabilities) == 0`, m, r); err == nil || !strings.Contains(err.Error(), "more than the 10000") {
		t.Errorf("err = %v", err)
	}
}

func TestOnlyWhatIsNamedIsRead(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	m := &checktest.Metadata{Err: map[grafeas.NoteKind]error{grafeas.NoteKind_BUILD: down, grafeas.NoteKind_DISCOVERY: down, grafeas.NoteKind_VULNERABILITY: down}}
	r := &checktest.Registry{Err: down}
	if got, err := run(t, `image.tag == ""`, m, r); err != nil || !got.Passed() {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, expression := range []string{`size(builds) == 0`, `size(scans) == 0`, `size(vulnerabilities) == 0`, `config.user == ""`} {
		if got, err := run(t, expression, m, r); !errors.Is(err, down) || got.Passed() {
			t.Errorf("%s: got %+v, %v", expression, got, err)
		}
	}
	if _, err := run(t, `config.user == ""`, m, &checktest.Registry{Images: map[string][]resolve.Config{checktest.Image: {}}}); err == nil {
		t.Error("an image without configurations: no error")
	}
}

func TestTheDeadlineIsHonoured(t *testing.T) {
	t.Parallel()
	c, err := cel.New(cel.Settings{Name: "x", Expression: `[1,2,3,4,5,6,7,8].all(a, [1,2,3,4,5,6,7,8].all(b, [1,2,3,4,5,6,7,8].all(c, a + b + c > 0)))`})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m, r := inputs(t)
	if got, err := c.Run(ctx, &check.Input{Image: checktest.Ref(t, checktest.Image), Metadata: m, Registry: r}); !errors.Is(err, context.Canceled) || got.Passed() {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestB5_ExpressionsAreCompiledAtStart(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]string{
		"": "it is empty", "image.": "at character", "image.tag": "must be true or false", "img.tag == \"\"": "undeclared reference",
		`image.tag.matches(config.labels.x)`: "must be written out", strings.Repeat("!", 5000) + "true": "more than the 4096",
	} {
		if _, err := cel.New(cel.Settings{Name: "x", Expression: expression}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: err = %v, want %q", expression, err, want)
		}
	}
	if _, err := cel.New(cel.Settings{Name: "A/B", Expression: "true"}); err == nil {
		t.Error("a name that is none: no error")
	}
}
