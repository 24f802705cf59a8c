package monitoring_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const runbooks = "../../docs/runbooks"

type rule struct {
	Alert       string            `yaml:"alert"`
	Record      string            `yaml:"record"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func rules(t *testing.T) (alerts, records []rule) {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	decode(t, "alerts.yaml", &file)
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Alert != "" {
				alerts = append(alerts, r)
			} else {
				records = append(records, r)
			}
		}
	}
	return alerts, records
}

func decode(t *testing.T, path string, to any) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dec := yaml.NewDecoder(f)
	dec.KnownFields(true)
	if err := dec.Decode(to); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatal("promtool is not in PATH; install prometheus")
	}
	if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestTheRulesAreValidAndFireWhenTheyShall(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", "alerts.yaml")
	promtool(t, "test", "rules", "alerts_test.yaml")
}

// TestEachAlertIsTriedOut: once when it is to fire, and once when it is not.
func TestEachAlertIsTriedOut(t *testing.T) {
	t.Parallel()
	var file struct {
		Files    []string `yaml:"rule_files"`
		Interval string   `yaml:"evaluation_interval"`
		Tests    []struct {
			Name     string `yaml:"name"`
			Interval string `yaml:"interval"`
			Input    []any  `yaml:"input_series"`
			Alerts   []struct {
				Name     string `yaml:"alertname"`
				Time     string `yaml:"eval_time"`
				Expected []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	decode(t, "alerts_test.yaml", &file)
	fires, quiet := make(map[string]bool), make(map[string]bool)
	for _, test := range file.Tests {
		for _, a := range test.Alerts {
			if len(a.Expected) > 0 {
				fires[a.Name] = true
			} else if len(test.Input) > 0 {
				quiet[a.Name] = true
			}
		}
	}
	alerts, _ := rules(t)
	for _, a := range alerts {
		if !fires[a.Alert] || !quiet[a.Alert] {
			t.Errorf("%s: tried out firing %v, and not firing %v", a.Alert, fires[a.Alert], quiet[a.Alert])
		}
	}
}

func TestEachAlertHasARunbook(t *testing.T) {
	t.Parallel()
	const at = "https://github.com/gatehouse-dev/gatehouse/blob/main/docs/runbooks/"
	alerts, _ := rules(t)
	known := make(map[string]bool)
	for _, a := range alerts {
		if known[a.Alert] {
			t.Errorf("%s is there twice", a.Alert)
		}
		known[a.Alert] = true
		if s := a.Labels["severity"]; s != "warning" && s != "critical" {
			t.Errorf("%s has severity %q", a.Alert, s)
		}
		if a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%s lacks a summary or a description", a.Alert)
		}
		if url := a.Annotations["runbook_url"]; url != at+a.Alert+".md" {
			t.Errorf("%s has the runbook %q", a.Alert, url)
		}
		text, err := os.ReadFile(filepath.Join(runbooks, a.Alert+".md"))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, part := range []string{"# " + a.Alert + "\n", "\nSeverity: " + a.Labels["severity"] + ".", "\n## Meaning\n", "\n## Impact\n", "\n## Diagnosis\n", "\n## Mend\n"} {
			if !strings.Contains(string(text), part) {
				t.Errorf("the runbook of %s lacks %q", a.Alert, strings.TrimSpace(part))
			}
		}
	}
	pages, err := filepath.Glob(filepath.Join(runbooks, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		if !known[strings.TrimSuffix(filepath.Base(p), ".md")] {
			t.Errorf("%s is of no alert", p)
		}
	}
}

// The links of runbooks lead somewhere.
func TestTheLinksOfRunbooksLeadSomewhere(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob(filepath.Join(runbooks, "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatal(len(pages), err)
	}
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	for _, p := range pages {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(runbooks, to[1])); err != nil {
				t.Errorf("%s: %v", p, err)
			}
		}
	}
}

// A listedMetric is a row of docs/metrics.md.
type listedMetric struct {
	kind   string
	labels []string
}

func metrics(t *testing.T) map[string]listedMetric {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]listedMetric)
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) >= 5 && strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			all[strings.Trim(cells[1], " `")] = listedMetric{strings.TrimSpace(cells[2]), strings.Split(strings.NewReplacer("`", "", " ", "").Replace(cells[3]), ",")}
		}
	}
	if len(all) < 10 {
		t.Fatalf("docs/metrics.md lists %d metrics", len(all))
	}
	return all
}

var (
	selector = regexp.MustCompile(`(?:[a-z]+:)?(gatehouse_[a-z0-9_]+|voucher_[a-z0-9_]+|process_[a-z0-9_]+|go_[a-z0-9_]+)(:[a-z0-9_]+)?(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)\s*"`)
)

// checkSelectors says which metrics and labels of an expression do not exist.
func checkSelectors(known map[string]listedMetric, records []rule, expr string) (wrong []string) {
	for _, found := range selector.FindAllStringSubmatch(expr, -1) {
		if found[2] != "" { // what a rule records
			if !slices.ContainsFunc(records, func(r rule) bool { return r.Record == found[0] }) {
				wrong = append(wrong, found[0]+" is recorded by no rule")
			}
			continue
		}
		name := found[1]
		if strings.HasPrefix(name, "process_") || strings.HasPrefix(name, "go_") { // of others
			continue
		}
		m, ok := known[name]
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			if base, cut := strings.CutSuffix(name, suffix); cut && known[base].kind == "histogram" {
				m, ok = known[base], true
			}
		}
		if !ok {
			wrong = append(wrong, name+" does not exist")
		}
		for _, l := range matcher.FindAllStringSubmatch(found[3], -1) {
			if l[1] != "job" && l[1] != "instance" && !slices.Contains(m.labels, l[1]) {
				wrong = append(wrong, name+" has no label "+l[1])
			}
		}
	}
	return wrong
}

func TestTheRulesAreOfMetricsThatExist(t *testing.T) {
	t.Parallel()
	known := metrics(t)
	alerts, records := rules(t)
	for _, r := range slices.Concat(alerts, records) {
		for _, w := range checkSelectors(known, records, r.Expr) {
			t.Errorf("%s%s: %s", r.Alert, r.Record, w)
		}
	}
	if got := checkSelectors(known, nil, `rate(gatehouse_nothing_total{job="x"}[5m]) + gatehouse_policy_stale{who="y"}`); len(got) != 2 {
		t.Errorf("a metric and a label that do not exist are not found: %q", got)
	}
}

type panel struct {
	ID         int    `json:"id"`
	Type       string `json:"type"`
	Title      string `json:"title"`
	Datasource *struct {
		Type, UID string
	} `json:"datasource"`
	GridPos struct{ H, W, X, Y int } `json:"gridPos"`
	Targets []struct {
		RefID        string `json:"refId"`
		Expr         string `json:"expr"`
		LegendFormat string `json:"legendFormat"`
		Datasource   struct{ UID string }
	} `json:"targets"`
}

type dashboard struct {
	Title         string `json:"title"`
	UID           string `json:"uid"`
	SchemaVersion int    `json:"schemaVersion"`
	Panels        []panel
	Annotations   struct {
		List []struct{ Name, Expr string }
	}
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
}

func read(t *testing.T) dashboard {
	t.Helper()
	text, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTheDashboardIsLaidOutWell(t *testing.T) {
	t.Parallel()
	d := read(t)
	if d.Title == "" || d.UID == "" || d.SchemaVersion < 36 || len(d.Templating.List) < 1 || d.Templating.List[0].Type != "datasource" {
		t.Errorf("title %q, uid %q, schema %d, variables %v", d.Title, d.UID, d.SchemaVersion, d.Templating.List)
	}
	at := make(map[[2]int]string)
	ids := make(map[int]bool)
	for _, p := range d.Panels {
		g := p.GridPos
		if ids[p.ID] || p.ID < 1 || p.Title == "" || g.W < 1 || g.H < 1 || g.X < 0 || g.Y < 0 || g.X+g.W > 24 {
			t.Errorf("panel %d %q at %+v", p.ID, p.Title, g)
		}
		ids[p.ID] = true
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, taken := at[[2]int{x, y}]; taken {
					t.Fatalf("panel %q overlaps %q", p.Title, other)
				}
				at[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource == nil || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("panel %q is not of the chosen data source, or asks nothing", p.Title)
		}
		refs := make(map[string]bool)
		for _, target := range p.Targets {
			if refs[target.RefID] || target.RefID == "" || target.Datasource.UID != "${datasource}" {
				t.Errorf("panel %q: target %+v", p.Title, target)
			}
			refs[target.RefID] = true
		}
	}
}

// TestTheDashboardAsksForWhatThereIs has promtool parse each expression, as one that a rule
// records.
func TestTheDashboardAsksForWhatThereIs(t *testing.T) {
	t.Parallel()
	known, d := metrics(t), read(t)
	_, records := rules(t)
	var asked []rule
	add := func(of, expr string) {
		for _, w := range checkSelectors(known, records, expr) {
			t.Errorf("%q: %s", of, w)
		}
		expr = strings.NewReplacer("$__rate_interval", "5m", "$job", ".*").Replace(expr)
		if strings.Contains(expr, "$") {
			t.Errorf("%q uses a variable that is not known: %s", of, expr)
		}
		asked = append(asked, rule{Record: fmt.Sprintf("panel:target:%d", len(asked)), Expr: expr})
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			add(p.Title, target.Expr)
		}
	}
	for _, a := range d.Annotations.List {
		add(a.Name, a.Expr)
	}
	for _, v := range d.Templating.List {
		for _, w := range checkSelectors(known, nil, v.Definition) {
			t.Errorf("variable %s: %s", v.Name, w)
		}
	}
	var lines strings.Builder
	lines.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for _, r := range asked {
		fmt.Fprintf(&lines, "  - record: %s\n    expr: %q\n", r.Record, r.Expr)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}
