package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/policy"
)

func policyExplainCommand() *cobra.Command {
	var in policyInput
	var namespace, account, object string
	c := &cobra.Command{
		Use:   "explain --policy FILE [--namespace NS] [--service-account NAME] [IMAGE...]",
		Short: "Tell what applies to a pod, and what its images still need",
		Long: `Tell which rule of each policy applies to a cluster, a namespace and a service
account, and why that one; and for each image which exemption covers it, or what each
check and each attestor says, what would have to be true, and what to do next.

Occurrences are the evidence; without them nothing is attested, and what is told is
what an image would need.

Exit status: 0 the pod may run, 1 it may not, 2 error.`,
		Example: `  gatehouse policy explain --policy policy.yaml --attestors attestors.json --namespace shop reg.example/shop/web@sha256:…
  gatehouse policy explain --policy policy.yaml --object pod.yaml`,
	}
	in.bind(c)
	f := c.Flags()
	f.StringVarP(&namespace, "namespace", "n", "default", "namespace of the pod")
	f.StringVar(&account, "service-account", "default", "service account of the pod")
	f.StringVar(&object, "object", "", "take pod and images from the file of a Kubernetes object or an AdmissionReview")
	output := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		request := requestFor(args, namespace, account, in.place)
		if object != "" {
			if len(args) > 0 || f.Changed("namespace") || f.Changed("service-account") {
				return errors.New("--object says which pod; leave out images, --namespace and --service-account")
			}
			var err error
			if request, err = readRequest(c, object, in.place); err != nil {
				return err
			}
		}
		loaded, decision, err := in.decide(c, request)
		if err != nil {
			return err
		}
		e := explain(request, loaded.Set, decision)
		e.asked = object != "" || len(args) > 0
		if *output == formatJSON {
			err = printJSON(c.OutOrStdout(), e)
		} else {
			err = e.print(c.OutOrStdout())
		}
		if err == nil && !decision.Allowed {
			return errNo
		}
		return err
	}
	return c
}

// explanation is what applies to a request, and the decision on it.
type explanation struct {
	Cluster        string          `json:"cluster,omitempty"`
	Namespace      string          `json:"namespace"`
	ServiceAccount string          `json:"serviceAccount"`
	Policies       []appliedPolicy `json:"policies"`
	Decision       decide.Decision `json:"decision"`

	asked bool // about an image
}

// appliedPolicy is what one policy says about the pod.
type appliedPolicy struct {
	Policy        string         `json:"policy"`
	Dialect       policy.Dialect `json:"dialect"`
	Source        string         `json:"source,omitempty"`
	Rule          string         `json:"rule,omitempty"`
	Because       string         `json:"because"`
	Evaluation    string         `json:"evaluation,omitempty"`
	DryRun        bool           `json:"dryRun,omitempty"`
	OnUnavailable string         `json:"onUnavailable,omitempty"`
	Checks        []string       `json:"checks,omitempty"`
	Exemptions    int            `json:"exemptions"`
}

func explain(request decide.Request, set policy.Set, d decide.Decision) explanation {
	pod := decide.ScopeOf(request)
	_, account, _ := strings.Cut(pod.ServiceAccount, ":")
	e := explanation{Cluster: pod.Cluster, Namespace: pod.Namespace, ServiceAccount: account, Decision: d, Policies: []appliedPolicy{}}
	for _, a := range set.Applies(pod) {
		p := appliedPolicy{Policy: a.Ruleset.Name, Dialect: a.Ruleset.Dialect, Source: a.Ruleset.Source, Because: a.Because, Exemptions: len(a.Ruleset.Exempt)}
		if r := a.Rule; r != nil {
			p.Rule, p.Evaluation, p.DryRun, p.OnUnavailable = r.ID, r.Evaluation.String(), r.DryRun || waived(a.Ruleset, pod, d), unavailableWord(r.OnUnavailable)
			p.Exemptions += len(r.Exempt)
			if r.File != "" {
				p.Source = r.File
			}
			if r.Line > 0 {
				p.Source += ":" + strconv.Itoa(r.Line)
			}
			for i := range r.Checks {
				p.Checks = append(p.Checks, checkWord(&r.Checks[i]))
			}
		}
		e.Policies = append(e.Policies, p)
	}
	return e
}

// waived reports whether an exemption lets in, for a time, what the policy denies.
func waived(r *policy.Ruleset, pod policy.Scope, d decide.Decision) bool {
	_, ok := r.Waives(pod.Namespace, d.Time)
	return ok
}

func unavailableWord(u policy.OnUnavailable) string {
	switch {
	case u.Warn:
		return "warn"
	case u.LastAllowedWithin > 0:
		return "allowIfLastAllowedWithin " + u.LastAllowedWithin.String()
	}
	return "deny"
}

func checkWord(c *policy.Check) string {
	if a, ok := c.Condition.(policy.Attested); ok {
		return "an attestation by " + a.Attestor
	}
	return strings.TrimSpace(c.Type + " " + c.Name)
}

// print writes the explanation for a person, in two columns that fit a terminal:
// labels, and next to them text that is broken between words.
func (e *explanation) print(w io.Writer) error {
	var p page
	cluster := e.Cluster
	if cluster == "" {
		cluster = "any that no rule names"
	}
	p.line("pod", "namespace "+e.Namespace+", service account "+e.ServiceAccount, "cluster "+cluster)
	for _, a := range e.Policies {
		p.gap()
		p.line("policy", a.Policy)
		if a.Rule == "" {
			p.line("  rule", "none: "+a.Because)
			continue
		}
		p.line("  rule", a.Rule+", since "+a.Because)
		p.line("  at", a.Source)
		p.line("  demands", a.demands()...)
		p.line("  otherwise", a.otherwise())
		if a.Exemptions > 0 {
			p.line("  exempt", "what "+counted(a.Exemptions, "pattern covers", "patterns cover"))
		}
	}
	for i := range e.Decision.Images {
		p.gap()
		p.image(&e.Decision.Images[i])
	}
	p.gap()
	if e.asked {
		p.line("verdict", e.Decision.Verdict.String()+", "+e.Decision.Summary)
	} else {
		p.line("verdict", "none, since no image is named: add an IMAGE, as a pod would write it")
	}
	_, err := io.WriteString(w, p.String())
	return err
}

const (
	// pageWidth is how wide a terminal is at least.
	pageWidth = 80
	// textColumn is where text begins, two after the longest label.
	textColumn = 13
)

// A page is lines of labels and text.
type page struct{ strings.Builder }

func (p *page) gap() { p.WriteString("\n") }

// line writes a label and its texts, each on lines of its own.
func (p *page) line(label string, texts ...string) {
	for _, text := range texts {
		for _, part := range wrapped(printable(text), pageWidth-textColumn) {
			fmt.Fprintf(p, "%-*s%s\n", textColumn, label, part)
			label = ""
		}
	}
}

// command writes what is to be run or written as it is: a line that is broken cannot
// be copied.
func (p *page) command(label, text string) {
	fmt.Fprintf(p, "%-*s%s\n", textColumn, label, printable(text))
}

// wrapped breaks text between words into lines of at most width characters. A word
// that is longer, as digests and keys are, has a line of its own.
func wrapped(text string, width int) []string {
	var lines []string
	line, n := "", 0
	for _, word := range strings.Fields(text) {
		length := utf8.RuneCountInString(word)
		switch {
		case n == 0:
			line, n = word, length
		case n+1+length > width:
			lines = append(lines, line)
			line, n = word, length
		default:
			line, n = line+" "+word, n+1+length
		}
	}
	return append(lines, line)
}

func (p *page) image(id *decide.ImageDecision) {
	p.command("image", id.Image)
	p.line("  verdict", id.Verdict.String())
	// Image and digest stand above and need not be repeated.
	again := []string{"Image " + id.Image + " denied", "denied"}
	if !id.Digest.IsZero() {
		again = append(again, "of "+id.Digest.String(), "of its digest")
	}
	short := strings.NewReplacer(again...)
	for i := range id.Reasons {
		r := &id.Reasons[i]
		p.line("  "+strings.ToLower(r.Verdict.String()), short.Replace(r.Message))
		for _, more := range []struct{ label, text string }{
			{"policy", r.Policy}, {"at", r.Source}, {"by key", r.KeyID}, {"in", r.Occurrence},
		} {
			if more.text != "" {
				p.line("    "+more.label, more.text)
			}
		}
		for _, d := range r.Details {
			p.line("    found", d)
		}
		if r.Verdict != decide.ALLOW && r.Required != "" {
			p.line("    needs", short.Replace(r.Required))
		}
		switch {
		case strings.HasPrefix(r.Next, "gatehouse "):
			p.command("    next", r.Next)
		case r.Next != "":
			p.line("    next", r.Next)
		}
	}
}

func (p *appliedPolicy) demands() []string {
	if len(p.Checks) == 0 {
		return []string{p.Evaluation}
	}
	return p.Checks
}

func (p *appliedPolicy) otherwise() string {
	text := "deny"
	if p.DryRun {
		text = "let in and record (dry run)"
	}
	return text + "; when evidence cannot be read: " + p.OnUnavailable
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
