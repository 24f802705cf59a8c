package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/bundle"
	"github.com/gatehouse-dev/gatehouse/policy/suite"
)

// formatJUnit is a further format of policy test.
const formatJUnit = "junit"

func policyTestCommand() *cobra.Command {
	var output string
	var least int
	c := &cobra.Command{
		Use:   "test [--output text|json|junit] DIR|FILE...",
		Short: "Run cases with expected verdicts, and tell what they do not cover",
		Long: `Run the cases in suites: YAML or JSON files with a list "cases", alone or anywhere in
a folder. A suite names its policies and attestors by paths from its own folder; a
case names images or an object, says what is known of them, and what the verdict
should be. See docs/policy-test.md.

Neither a cluster nor a registry nor keys are needed: "attestedBy" says that an
attestor has attested an image.

Exit status: 0 all cases pass, 1 one fails or less is covered than --coverage asks,
2 error.`,
		Example: `  gatehouse policy test ./policies
  gatehouse policy test --output junit ./policies > report.xml`,
		Args: cobra.MinimumNArgs(1),
	}
	f := c.Flags()
	f.StringVarP(&output, "output", "o", string(formatText), "output format: text, json or junit")
	f.IntVar(&least, "coverage", 0, "least percentage of rules, checks and exemptions that must be tried")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json", formatJUnit}, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
	c.RunE = func(c *cobra.Command, args []string) error {
		if !slices.Contains([]string{string(formatText), string(formatJSON), formatJUnit}, output) {
			return fmt.Errorf("--output %q: want text, json or junit", output)
		}
		if least < 0 || least > 100 {
			return fmt.Errorf("--coverage %d: want 0 to 100", least)
		}
		suites, err := readSuites(c, args)
		if err != nil {
			return err
		}
		report := suite.Run(suites, &suiteWorld{command: c, loaded: map[*suite.Suite]*bundle.Bundle{}}, time.Now)
		if err := printReport(c.OutOrStdout(), report, output); err != nil {
			return err
		}
		if covered := percent(report); report.Failed == 0 && covered < least {
			_, err := fmt.Fprintf(c.ErrOrStderr(), "gatehouse: %d %% is covered, and --coverage asks for %d %%\n", covered, least)
			return errors.Join(err, errNo)
		}
		switch {
		case slices.ContainsFunc(report.Suites, func(s suite.SuiteReport) bool { return s.Error != "" }):
			return errFound
		case report.Failed > 0:
			return errNo
		}
		return nil
	}
	return c
}

// readSuites finds and parses the suites. A file that is named must be one; in a
// folder other files are passed over.
func readSuites(c *cobra.Command, args []string) ([]*suite.Suite, error) {
	var suites []*suite.Suite
	bad := false
	for _, arg := range args {
		paths, folder, err := suitePaths(arg)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			data, err := readInput(c, path)
			if err != nil {
				return nil, err
			}
			s, found, ok := suite.Parse(path, data)
			switch {
			case !ok && !folder:
				return nil, fmt.Errorf("%s has no list \"cases\"", path)
			case !ok, folder && s == nil && !strings.Contains(string(data), "cases"):
				continue
			}
			if err := printDiagnostics(c.ErrOrStderr(), found); err != nil {
				return nil, err
			}
			bad = bad || s == nil
			suites = append(suites, s)
		}
	}
	switch {
	case bad:
		return nil, errFound
	case len(suites) == 0:
		return nil, fmt.Errorf("no suite in %s: a suite is a YAML or JSON file with a list \"cases\"", strings.Join(args, ", "))
	}
	return suites, nil
}

func suitePaths(arg string) (paths []string, folder bool, err error) {
	info, err := os.Stat(arg)
	if arg == "-" || (err == nil && !info.IsDir()) {
		return []string{arg}, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	err = filepath.WalkDir(arg, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)) {
			paths = append(paths, path)
		}
		return err
	})
	return paths, true, err
}

// suiteWorld loads what suites name, from their folders.
type suiteWorld struct {
	command *cobra.Command
	loaded  map[*suite.Suite]*bundle.Bundle
}

func beside(s *suite.Suite, paths []string) []string {
	var list []string
	for _, path := range paths {
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(s.File), path)
		}
		list = append(list, path)
	}
	return list
}

func (w *suiteWorld) Policies(s *suite.Suite) (policy.Set, error) {
	in := policyInput{policies: beside(s, s.Policies), attestors: beside(s, s.Attestors), builders: beside(s, s.Builders), kritis: s.Kritis, matchRepository: s.MatchRepository, platformDryRun: s.PlatformDryRun, project: s.Project}
	if s.SystemPolicy != "" {
		in.system = beside(s, []string{s.SystemPolicy})[0]
	}
	if len(in.policies) == 0 {
		return nil, errors.New("it names no policies")
	}
	sources, err := in.sources(w.command)
	if err != nil {
		return nil, err
	}
	loaded, found := bundle.Load(sources)
	if err := found.Err(); err != nil {
		return nil, err
	}
	w.loaded[s] = loaded
	return loaded.Set, nil
}

func (w *suiteWorld) Object(s *suite.Suite, path string, place suite.Place) (decide.Request, error) {
	return readRequest(w.command, beside(s, []string{path})[0], admission.Place{Cluster: place.Cluster, TrustDomain: place.TrustDomain})
}

func (w *suiteWorld) Facts(s *suite.Suite, refs []image.Reference) (evidence.Facts, error) {
	var all []filed
	for _, path := range beside(s, s.Occurrences) {
		list, err := readOccurrences(w.command, path)
		if err != nil {
			return evidence.Facts{}, err
		}
		all = append(all, list...)
	}
	return index.FromOccurrences(w.command.Context(), occurrencesOf(all), w.loaded[s].Keys, refs), nil
}

func percent(r *suite.Report) int {
	if len(r.Coverage) == 0 {
		return 100
	}
	return 100 * r.Covered / len(r.Coverage)
}

func printReport(w io.Writer, r *suite.Report, output string) error {
	switch output {
	case string(formatJSON):
		return printJSON(w, r)
	case formatJUnit:
		data, err := r.JUnit()
		if err == nil {
			_, err = w.Write(data)
		}
		return err
	}
	var b strings.Builder
	for _, s := range r.Suites {
		for i := range s.Cases {
			mark := "ok  "
			if !s.Cases[i].Passed {
				mark = "FAIL"
			}
			fmt.Fprintf(&b, "%s %s: %s\n", mark, s.Cases[i].Source, printable(s.Cases[i].Name))
		}
	}
	for _, f := range r.Failures() {
		b.WriteString("\n" + printableLines(f) + "\n")
	}
	if uncovered := r.Uncovered(); len(uncovered) > 0 {
		b.WriteString("\nnot covered:\n")
		for _, u := range uncovered {
			b.WriteString("  " + printable(u) + "\n")
		}
	}
	fmt.Fprintf(&b, "\n%d passed, %d failed; %d of %d rules, checks and exemptions covered (%d %%)\n", r.Passed, r.Failed, r.Covered, len(r.Coverage), percent(r))
	_, err := io.WriteString(w, b.String())
	return err
}

func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return strings.Join(lines, "\n")
}
