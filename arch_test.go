package gatehouse_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/gatehouse-dev/gatehouse/"

// arrows says which of our packages each package may import. A package that is
// not listed may not exist: add it here, with the arrows it needs, and to the
// picture in DESIGN.md.
var arrows = map[string][]string{
	"image":            {},
	"image/resolve":    {"internal/bounded", "image"},
	"signature":        {"image"},
	"signature/signer": {"signature"},

	"metadata":              {},
	"metadata/internal/*":   {"metadata"},
	"metadata/memory":       {"metadata", "metadata/internal/*"},
	"metadata/sqlite":       {"metadata", "metadata/internal/*"},
	"metadata/postgres":     {"metadata", "metadata/internal/*"},
	"metadata/metadatatest": {"metadata", "api/*"},
	"metadata/grafeasapi/*": {"metadata"},
	"metadata/v1beta1":      {"metadata", "api/*"},
	"metadata/grafeasapi":   {"internal/bounded", "metadata", "metadata/v1beta1", "metadata/grafeasapi/*", "api/*"},
	"metadata/transfer":     {"internal/bounded", "metadata", "metadata/v1beta1", "api/*"},
	"api/*":                 {"api/*"},
	"internal/strictyaml":   {"policy/document"},
	"internal/bounded":      {},
	"internal/durable":      {},
	"internal/ownca":        {"internal/bounded", "internal/durable"},
	"internal/junit":        {},
	"internal/kube":         {},
	"internal/clusterca":    {"internal/kube", "internal/ownca"},
	"internal/limit":        {},
	"internal/keyed":        {},
	"internal/gen/*":        {},

	"policy":          {"image"},
	"policy/document": {},
	"policy/names":    {"policy"},
	"policy/keys":     {"signature", "policy", "policy/document"},
	"policy/binauthz": {"image", "signature", "policy", "policy/document", "policy/keys", "policy/names"},

	"policy/platform":            {"image", "signature", "policy", "policy/document", "policy/keys", "policy/names", "policy/platform/constraint"},
	"policy/platform/constraint": {"policy"},
	"policy/platform/evaluate":   {"policy", "policy/platform", "decide"},

	"policy/hints":             {"image", "signature", "policy", "policy/document", "policy/keys", "policy/names"},
	"policy/kritis":            {"image", "signature", "policy", "policy/document", "policy/keys", "policy/names"},
	"policy/objects":           {"hint", "image", "signature", "policy", "policy/document", "policy/keys", "policy/names", "policy/binauthz", "policy/platform", "policy/hints", "policy/kritis"},
	"policy/bundle":            {"signature", "policy", "policy/*"},
	"policy/admin":             {"image", "metadata", "evidence/index", "decide", "policy", "policy/keys", "policy/binauthz", "policy/bundle", "policy/document", "policy/names", "policy/objects", "policy/platform"},
	"policy/admin/objectsapi":  {"metadata", "metadata/grafeasapi", "policy/admin", "policy/objects"},
	"policy/admin/binauthzapi": {"metadata", "metadata/grafeasapi", "policy/admin", "signature"},
	"policy/admin/adminclient": {},

	"policy/suite":   {"internal/junit", "image", "policy", "policy/*", "evidence", "decide"},
	"policy/suggest": {"image", "policy", "policy/*", "evidence", "decide"},
	"evidence":       {"image"},
	"evidence/index": {"image", "signature", "metadata", "evidence", "hint"},
	"hint":           {"image"},
	"decide":         {"image", "hint", "policy", "evidence"},

	"check":                {"image", "image/resolve", "metadata"},
	"check/*":              {"image", "image/resolve", "signature", "metadata", "policy/platform/constraint", "check", "check/*"},
	"attest":               {"internal/bounded", "internal/keyed", "attest/secretfile", "image", "image/resolve", "signature", "signature/signer", "check", "check/*", "policy", "policy/keys", "evidence/index", "decide"},
	"attest/attesttest":    {},
	"attest/secretfile":    {"internal/bounded"},
	"attest/grafeasclient": {"attest", "metadata/transfer", "metadata/v1beta1", "api/*"},
	"attest/door":          {"internal/limit", "attest"},
	"attest/voucherapi":    {"internal/bounded", "image", "attest", "attest/door"},
	"attest/checksapi":     {"internal/bounded", "image", "check", "attest", "attest/door"},
	"attest/voucherclient": {"image", "check", "attest"},
	"attest/kritissigner": {"internal/bounded", "internal/keyed", "image", "signature", "signature/signer", "check", "policy", "policy/document", "policy/kritis",
		"evidence", "evidence/index", "decide", "attest"},
	"attest/kritisapi": {"internal/bounded", "image", "metadata", "attest/kritissigner"},

	"attest/voucherclient/googletoken": {},

	"feed":            {"metadata", "metadata/grafeasapi", "api/*"},
	"feed/feedclient": {"metadata", "api/*"},
	"feed/lastgood":   {"internal/bounded", "internal/sealed", "metadata", "evidence/index", "feed/feedclient"},
	"internal/sealed": {},

	"admission/resource":       {},
	"tags":                     {"image"},
	"tags/manifest":            {"image", "admission/resource", "policy/document"},
	"admission":                {"admission/resource", "internal/bounded", "image", "policy", "policy/names", "evidence", "decide", "audit", "breakglass"},
	"admission/imageverifier":  {"admission", "decide", "image", "internal/bounded", "internal/strictyaml"},
	"controller":               {"internal/kube", "image", "policy", "policy/document", "policy/kritis", "policy/objects", "evidence", "decide", "admission"},
	"breakglass":               {"internal/durable", "image", "signature", "metadata", "policy/document", "policy/keys", "decide", "audit"},
	"breakglass/breakglassapi": {"metadata", "metadata/grafeasapi", "audit", "breakglass", "api/*"},
	"breakglass/relay":         {"internal/bounded", "internal/durable", "audit", "breakglass", "api/*"},
	"identity":                 {"internal/bounded", "internal/limit", "metadata"},
	"audit":                    {"decide", "metadata"},
	// Follows the audit logs behind their writers, whatever the place that they go to.
	"audit/deliver": {"internal/bounded", "internal/durable", "decide", "audit", "notify"},
	// The only one that knows how those places are spoken to.
	"audit/sink": {"internal/bounded", "internal/kube", "decide", "audit", "audit/deliver", "notify"},
	"notify":     {},
	// The only one that knows how receivers are spoken to.
	"notify/pager": {"internal/bounded", "notify"},

	"server": {"internal/bounded", "internal/strictyaml", "internal/durable", "internal/ownca", "internal/kube", "internal/clusterca", "hint", "controller",
		"image", "image/resolve", "signature", "metadata", "metadata/sqlite", "metadata/postgres", "metadata/grafeasapi", "policy", "policy/*",
		"evidence", "evidence/index", "decide", "attest", "attest/voucherapi", "attest/checksapi", "attest/door", "attest/grafeasclient", "attest/kritissigner", "attest/kritisapi", "signature/signer", "check", "audit", "audit/deliver", "audit/sink", "admission", "breakglass", "breakglass/*", "identity",
		"feed", "feed/*", "notify", "notify/pager",
	},
	"deploy/chart":             {},
	"install":                  {"deploy/chart", "internal/kube"},
	"doctor":                   {"internal/clusterca", "internal/kube", "policy/admin/adminclient", "policy/bundle", "policy/document"},
	"cmd/internal/terminal":    {},
	"cmd/internal/resolvetags": {"internal/bounded", "image", "image/resolve", "admission/resource", "tags", "tags/manifest", "cmd/internal/terminal"},
	"cmd/kubectl-resolve_tags": {"cmd/internal/resolvetags"},
	"cmd/gatehouse": {
		"cmd/internal/resolvetags", "cmd/internal/terminal", "internal/bounded", "internal/durable", "admission/imageverifier",
		"image", "policy", "policy/*", "signature", "evidence", "evidence/index", "metadata/transfer", "decide",
		"admission", "image/resolve", "attest", "attest/kritissigner", "attest/voucherclient", "attest/voucherclient/googletoken", "audit", "audit/deliver", "audit/sink", "breakglass", "hint", "identity", "server", "conformance", "doctor", "internal/clusterca", "internal/ownca", "internal/kube", "install", "notify", "notify/pager",
	},

	"deploy/monitoring": {}, // tests of what is there

	// It asks gates from outside, and knows nothing of ours.
	"conformance": {"internal/junit", "image", "gatetest/review"},

	"release": {"internal/bounded", "signature"},

	// The public test kit and what shows the product to people may use all of it.
	"gatetest/*": {"*"},
	"examples/*": {"*"},
}

// pure packages decide and verify: whatever they come to import, however far
// away, none of it may reach a network, a database or the machine.
var (
	pure = []string{"image", "policy", "evidence", "decide", "signature", "policy/binauthz", "policy/document", "policy/names", "policy/keys",
		"policy/platform", "policy/platform/constraint", "policy/platform/evaluate", "policy/kritis", "policy/objects", "policy/bundle", "policy/suggest", "admission/resource", "tags", "tags/manifest"}
	impure = []string{
		"net/http", "os/exec", "database/sql", "log/syslog", "net/rpc", "net/smtp",
		"google.golang.org/grpc", "google.golang.org/genproto", "modernc.org/sqlite",
		"github.com/google/go-containerregistry", "github.com/prometheus/client_golang", "go.opentelemetry.io",
	}
	// messages are what CEL has of Google's generated code: an expression as a
	// message, and nothing that calls anybody.
	messages = []string{"google.golang.org/genproto/googleapis/api/expr/v1alpha1", "google.golang.org/genproto/googleapis/rpc/status"}
)

// onlyIn says which packages may import a module that is kept behind a fence.
var onlyIn = map[string][]string{
	"cel.dev/cel-go":                      {"policy/platform/constraint"},
	"filippo.io/age":                      {"attest/secretfile"},
	"github.com/Shopify/ejson":            {"attest/secretfile"},
	"github.com/sigstore/sigstore":        {"signature/signer"},
	"google.golang.org/api":               {"signature/signer", "attest/grafeasclient", "attest/voucherclient/googletoken"},
	"github.com/google/go-github":         {"check/hosts/github"},
	"gitlab.com/gitlab-org/api/client-go": {"check/hosts/gitlab"},
	"k8s.io/client-go":                    {"internal/kube"},
	"sigs.k8s.io/yaml":                    {"install"},
	"github.com/PagerDuty/go-pagerduty":   {"notify/pager"},
	"github.com/slack-go/slack":           {"notify/pager"},
	"github.com/atc0005/go-teams-notify":  {"notify/pager"},
	"github.com/wneessen/go-mail":         {"notify/pager"},
	"github.com/standard-webhooks":        {"notify/pager"},
	"go.opentelemetry.io/otel":            {"server", "admission", "attest"},
	"go.opentelemetry.io/otel/sdk":        {"server"},
	"go.opentelemetry.io/otel/exporters":  {"server"},
	"go.opentelemetry.io/contrib":         {"server"},
	"go.opentelemetry.io/proto":           {"audit/sink"},
}

type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func TestImportArrows(t *testing.T) {
	for _, p := range list(t) {
		from, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours {
			continue
		}
		allowed, known := lookup(from)
		if !known {
			t.Errorf("package %s has no arrows: add it to the table in arch_test.go", from)
			continue
		}
		for _, imp := range p.Imports {
			to, ours := strings.CutPrefix(imp, module)
			if ours && !slices.ContainsFunc(allowed, func(pattern string) bool { return matches(pattern, to) }) {
				t.Errorf("%s imports %s, against the arrows of the design", from, to)
			}
		}
	}
}

// TestNoArrowIsUnused: what a package does not need, nobody should take for granted.
// The rows of several packages are for those to come, too.
func TestNoArrowIsUnused(t *testing.T) {
	imports := map[string][]string{}
	for _, p := range list(t) {
		imports[strings.TrimPrefix(p.ImportPath, module)] = p.Imports
	}
	for from, allowed := range arrows {
		if strings.HasSuffix(from, "*") {
			continue
		}
		if _, found := imports[from]; !found {
			t.Errorf("there is no package %s", from)
		}
		for _, pattern := range allowed {
			if !slices.ContainsFunc(imports[from], func(imp string) bool { return matches(pattern, strings.TrimPrefix(imp, module)) }) {
				t.Errorf("%s does not import %s", from, pattern)
			}
		}
	}
}

func TestPurePackagesReachNothing(t *testing.T) {
	packages := list(t)
	for _, name := range pure {
		i := slices.IndexFunc(packages, func(p listed) bool { return p.ImportPath == module+name })
		if i < 0 {
			t.Errorf("there is no package %s", name)
			continue
		}
		for _, dep := range packages[i].Deps {
			for _, banned := range impure {
				if within(dep, banned) && !slices.Contains(messages, dep) {
					t.Errorf("%s depends on %s, and so is not pure", name, dep)
				}
			}
		}
	}
}

func TestFencedModulesStayBehindTheirFence(t *testing.T) {
	for _, p := range list(t) {
		for _, imp := range p.Imports {
			for fenced, in := range onlyIn {
				if within(imp, fenced) && !slices.Contains(in, strings.TrimPrefix(p.ImportPath, module)) {
					t.Errorf("%s imports %s, which only %s may", p.ImportPath, imp, strings.Join(in, ", "))
				}
			}
		}
	}
}

// within reports whether a package is the other or below it.
func within(pkg, other string) bool { return pkg == other || strings.HasPrefix(pkg, other+"/") }

func TestOnlyCommandsAndTheKitUseTheServer(t *testing.T) {
	for _, p := range list(t) {
		if slices.Contains(p.Imports, module+"server") &&
			!strings.HasPrefix(p.ImportPath, module+"cmd/") && !strings.HasPrefix(p.ImportPath, module+"gatetest/") {
			t.Errorf("%s imports server", p.ImportPath)
		}
	}
}

// lookup finds the most specific row for a package.
func lookup(pkg string) (allowed []string, known bool) {
	best := ""
	for pattern := range arrows {
		if matches(pattern, pkg) && len(pattern) > len(best) {
			best = pattern
		}
	}
	return arrows[best], best != ""
}

func matches(pattern, pkg string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(pkg, prefix)
	}
	return pattern == pkg
}

func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Deps", "./...")
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		t.Fatalf("go list: %v\n%s", err, exit.Stderr)
	}
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}
