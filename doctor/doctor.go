// Package doctor finds what is misconfigured between a cluster, its webhooks, their
// certificates, the store, the keys and the clocks, and says the mend. It changes nothing:
// what it tries in a cluster is a server-side dry run.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

// A Result is what came of a check.
type Result string

// The results, from the best to the worst.
const (
	OK Result = "ok"
	// Skipped was not asked for: what it looks at was not named, or is not there.
	Skipped Result = "skipped"
	Warning Result = "warning"
	// Unknown could not be told.
	Unknown Result = "unknown"
	Problem Result = "problem"
)

// A Finding is one thing that a check has to say.
type Finding struct {
	Check  string `json:"check"`
	Result Result `json:"result"`
	// Message is what is so, and Mend what to do about it, "" if nothing has to be done.
	Message string `json:"message"`
	Mend    string `json:"mend,omitempty"`
}

// A Check looks at one thing.
type Check struct {
	// Name is what --only takes, and Doc what it looks at.
	Name, Doc string
	run       func(context.Context, *patient) []Finding
}

// Options say what to look at. The zero Options look at nothing.
type Options struct {
	// Kube is the cluster's API server; KubeError says why there is none.
	Kube      *kube.Client
	KubeError error
	// Namespace is where Gatehouse is, and Name what the names of its objects begin with.
	Namespace, Name string
	// TrialNamespace is where a pod is tried. Default: default, or the first one that the
	// webhook looks at.
	TrialNamespace string
	// Service is the base of the metadata API, such as https://gatehouse.example:8080, and
	// HTTP the client that proves who asks. Service "" is not looked at.
	Service string
	HTTP    *http.Client
	Project string
	// Ops are bases of the addresses of health and metrics. Without any the pods are asked
	// through the API server.
	Ops []string
	// Config is a server's configuration, nil if it is not looked at.
	Config *Configuration
	// Data is a data folder on this machine, "" if it is not looked at.
	Data string
	// Now is the clock.
	Now func() time.Time
	// Dial connects to the gate; nil is the network's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// A Configuration is what a check needs of a server's.
type Configuration struct {
	// File is its path, and Err what is wrong with it, nil if nothing is.
	File string
	Err  error
	// AccessReviews says that break-glass asks the API server who may, and TokenReviews that
	// callers may prove who they are by tokens of Kubernetes.
	AccessReviews, TokenReviews bool
}

// Checks are all checks, in the order in which they are made.
func Checks() []Check {
	return []Check{
		{"config", "the configuration file is one that a server starts with", checkConfig},
		{"api-server", "the Kubernetes API server answers, and is one that is supported", checkAPIServer},
		{"webhook", "the webhook configuration is there, and armed", checkWebhook},
		{"rules", "the webhook is asked about pods, ephemeral containers and workloads", checkRules},
		{"failure-policy", "pods are refused while the webhook is away, and there is time for an answer", checkFailurePolicy},
		{"exemptions", "which namespaces and objects the webhook is not asked about", checkExemptions},
		{"other-webhooks", "which other webhooks look at pods", checkOtherWebhooks},
		{"certificate", "the roots in the webhook configuration verify what the gate serves", checkCertificate},
		{"roots", "when the roots end, and that all have the same", checkRoots},
		{"trial", "a pod with an image that nobody has attested is refused, by Gatehouse", checkTrial},
		{"gates", "enough gates are ready, on different nodes, with a disruption budget", checkGates},
		{"controller", "a controller holds the lease", checkController},
		{"metadata", "the metadata service answers, and tells its policy", checkMetadata},
		{"attestors", "attestors that the policy names have usable keys, and their notes are there", checkAttestors},
		{"feed", "gates follow the metadata service", checkFeed},
		{"clocks", "the clocks of this machine, the API server and the metadata service agree", checkClocks},
		{"delegation", "those who have to ask the API server who may, or who calls, are allowed to", checkDelegation},
		{"store", "the data folder has room", checkStore},
	}
}

// A patient is what is looked at, as far as several checks have to know.
type patient struct {
	Options
	configuration *registered // nil until it was read
	readError     error
}

// Examine makes the checks that are named, or all, and returns what they find.
func Examine(ctx context.Context, o Options, only []string) ([]Finding, error) {
	checks := Checks()
	for _, name := range only {
		if !slices.ContainsFunc(checks, func(c Check) bool { return c.Name == name }) {
			return nil, fmt.Errorf("there is no check %q: want %s", name, strings.Join(names(checks), ", "))
		}
	}
	p := &patient{Options: o}
	var all []Finding
	for _, c := range checks {
		if len(only) > 0 && !slices.Contains(only, c.Name) {
			continue
		}
		for _, f := range c.run(ctx, p) {
			f.Check = c.Name
			all = append(all, f)
		}
		if err := context.Cause(ctx); err != nil {
			return all, err
		}
	}
	return all, nil
}

func names(checks []Check) []string {
	all := make([]string, len(checks))
	for n, c := range checks {
		all[n] = c.Name
	}
	return all
}

// Worst returns the worst result of findings.
func Worst(findings []Finding) Result {
	order := []Result{OK, Skipped, Warning, Unknown, Problem}
	worst := OK
	for _, f := range findings {
		if slices.Index(order, f.Result) > slices.Index(order, worst) {
			worst = f.Result
		}
	}
	return worst
}

func ok(format string, args ...any) Finding {
	return Finding{Result: OK, Message: fmt.Sprintf(format, args...)}
}

func warning(mend, format string, args ...any) Finding {
	return Finding{Result: Warning, Message: fmt.Sprintf(format, args...), Mend: mend}
}

func problem(mend, format string, args ...any) Finding {
	return Finding{Result: Problem, Message: fmt.Sprintf(format, args...), Mend: mend}
}

func unknown(mend, format string, args ...any) Finding {
	return Finding{Result: Unknown, Message: fmt.Sprintf(format, args...), Mend: mend}
}

func skipped(mend, format string, args ...any) []Finding {
	return []Finding{{Result: Skipped, Message: fmt.Sprintf(format, args...), Mend: mend}}
}

// noCluster returns a finding when there is no cluster to look at. Why is for one check to
// tell.
func (p *patient) noCluster() []Finding {
	if p.Kube != nil {
		return nil
	}
	return skipped("give --kubeconfig FILE or --context NAME", "there is no cluster to look at (see api-server)")
}

// asked is what becomes of an error of the API server.
func asked(what string, err error) Finding {
	var e *kube.Error
	if errors.As(err, &e) && e.Code == http.StatusForbidden {
		return unknown("run it as somebody who may: docs/doctor.md has a ClusterRole", "%s may not be read: %s", what, e.Message)
	}
	return unknown("", "%s could not be read: %v", what, err)
}

func checkConfig(_ context.Context, p *patient) []Finding {
	switch {
	case p.Config == nil:
		return skipped("give --config FILE to have it checked", "no configuration file is named")
	case p.Config.Err != nil:
		return []Finding{problem("mend what it says; docs/gatehouse.yaml has every setting", "a server does not start with %s: %v", p.Config.File, p.Config.Err)}
	}
	return []Finding{ok("%s is valid", p.Config.File)}
}

// counted is a number of things.
func counted(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return strconv.Itoa(n) + " " + of + "s"
}
