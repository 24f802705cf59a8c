package kritissigner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/kritis"
)

const (
	// The scan is looked for after a second, and then ever more seldom: Kritis
	// doubles the time without end, and so overlooks the scan for minutes.
	firstInterval = time.Second
	lastInterval  = 15 * time.Second

	// maxViolations bounds those that a report names.
	maxViolations = 1000
	// maxNotes bounds the discovery notes that are read; an image has a few scanners.
	maxNotes = 32
)

// Kritis' words for a scan that will not finish, in Grafeas' own.
const (
	scanFailed      = "FINISHED_FAILED"
	scanUnsupported = "FINISHED_UNSUPPORTED"
)

// check waits for the scan and judges what it found.
func (s *Signer) check(ctx context.Context, ref image.Reference, r *Report) error {
	r.Policy = s.Policy.Name
	projects := s.scanProjects(ref)
	if len(projects) == 0 {
		return errors.New("it is not told whose scans are believed: name a project")
	}
	metadata, err := check.NewGrafeas(s.Store, projects...)
	if err != nil {
		return err
	}
	known, err := s.await(ctx, scanReader{store: s.Store, metadata: metadata, ref: ref, projects: projects})
	if err != nil {
		return err
	}
	rules := s.Policy.Compile(kritis.Options{ScanProjects: projects})
	limits, ok := rules.Rules[0].Checks[0].Condition.(policy.Vulnerabilities)
	if !ok {
		return errors.New("the policy has no limits")
	}
	r.Scans = scannedIn(known)
	r.Violations = violations(limits, known, ref)
	facts := evidence.Facts{Images: map[image.Digest]evidence.Image{ref.Digest(): known}}
	d := decide.Decide(decide.Request{Images: []decide.ImageUse{{Text: ref.String()}}}, policy.Set{rules}, facts, s.Now())
	r.Passed = d.Verdict == decide.ALLOW && len(r.Violations) == 0
	if !r.Passed && len(r.Violations) == 0 {
		return errors.New(d.Images[0].Reasons[0].Message)
	}
	return nil
}

func (s *Signer) scanProjects(ref image.Reference) []string {
	projects := slices.Clone(s.ScanProjects)
	if p := check.ProjectOf(ref); s.ImageProject && p != "" && !slices.Contains(projects, p) {
		projects = append(projects, p)
	}
	return projects
}

// await returns what is known of the image as soon as its scans have finished.
func (s *Signer) await(ctx context.Context, reader scanReader) (evidence.Image, error) {
	waiting := ctx
	if s.Timeout > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, s.Timeout)
		defer cancel()
	}
	last := ""
	for interval := firstInterval; ; interval = min(2*interval, lastInterval) {
		await := s.Watch()
		known, state, err := reader.read(waiting)
		over := ctx.Err() == nil && waiting.Err() != nil
		switch {
		case over && last != "":
			return evidence.Image{}, s.late(last)
		case over:
			return evidence.Image{}, s.late("what is known of it could not be read in that time")
		case err != nil:
			return evidence.Image{}, err
		case state == "":
			return known, nil
		case s.Timeout < 0:
			return evidence.Image{}, fmt.Errorf("the scan of the image has not finished: %s", state)
		}
		last = state
		s.Waiting(state)
		if err := await(waiting, interval); err != nil {
			if ctx.Err() == nil && errors.Is(waiting.Err(), context.DeadlineExceeded) {
				return evidence.Image{}, s.late(last)
			}
			return evidence.Image{}, fmt.Errorf("waiting for the scan: %w; %s", err, state)
		}
	}
}

func (s *Signer) late(state string) error {
	return fmt.Errorf("the scan of the image has not finished within %s: %s: %w", s.Timeout, state, context.DeadlineExceeded)
}

// scanReader reads what scans say of one image.
type scanReader struct {
	store    Store
	metadata *check.Grafeas
	ref      image.Reference
	projects []string
}

// read returns what is known of the image, and what is still to be waited for, or
// "". A scan that has come to an end without success is an error.
func (c scanReader) read(ctx context.Context) (known evidence.Image, waitingFor string, err error) {
	before, err := c.list(ctx, grafeas.NoteKind_DISCOVERY)
	if err != nil {
		return evidence.Image{}, "", err
	}
	notes, err := c.notes(ctx, before)
	if err != nil {
		return evidence.Image{}, "", err
	}
	if waitingFor, err = stateOf(c.facts(ctx, before, notes)); waitingFor != "" || err != nil {
		return evidence.Image{}, c.in(waitingFor), err
	}
	found, err := c.list(ctx, grafeas.NoteKind_VULNERABILITY)
	if err != nil {
		return evidence.Image{}, "", err
	}
	after, err := c.list(ctx, grafeas.NoteKind_DISCOVERY)
	if err != nil {
		return evidence.Image{}, "", err
	}
	if !slices.Equal(versions(before), versions(after)) {
		return evidence.Image{}, "another scan began or ended while it was read", nil
	}
	known = c.facts(ctx, append(found, before...), notes)
	waitingFor, err = stateOf(known)
	return known, c.in(waitingFor), err
}

// in says where scans were looked for, if there are none.
func (c scanReader) in(state string) string {
	if state == noScan {
		return state + " in project " + strings.Join(c.projects, ", ")
	}
	return state
}

func (c scanReader) list(ctx context.Context, kind grafeas.NoteKind) ([]*grafeas.Occurrence, error) {
	return c.metadata.Occurrences(ctx, c.ref, kind)
}

// notes reads what the analyses look for. One that cannot be read, as those of
// Google's scanner, is taken for one that looks for vulnerabilities.
func (c scanReader) notes(ctx context.Context, discoveries []*grafeas.Occurrence) ([]*grafeas.Note, error) {
	var notes []*grafeas.Note
	seen := map[string]bool{}
	for _, o := range discoveries {
		name := o.GetNoteName()
		if seen[name] {
			continue
		}
		seen[name] = true
		if len(seen) > maxNotes {
			return nil, fmt.Errorf("more than %d scanners say something of the image", maxNotes)
		}
		n, err := c.store.GetNote(ctx, &grafeas.GetNoteRequest{Name: name})
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("reading the note %q of a scanner: %w", name, ctx.Err())
		case err == nil && n.GetName() == name:
			notes = append(notes, n)
		}
	}
	return notes, nil
}

func (c scanReader) facts(ctx context.Context, occurrences []*grafeas.Occurrence, notes []*grafeas.Note) evidence.Image {
	facts := index.FromOccurrences(ctx, occurrences, nil, []image.Reference{c.ref}, notes...)
	return facts.Images[c.ref.Digest()]
}

const noScan = "no scan of it is known"

// stateOf returns what is to be waited for until all scans have finished, and an
// error if one has ended otherwise.
func stateOf(known evidence.Image) (waitingFor string, err error) {
	if known.State != evidence.Known {
		return "", fmt.Errorf("what is known of the image could not be read: %s", known.Err)
	}
	finished := false
	for i := range known.Scans {
		switch scan := &known.Scans[i]; {
		case scan.Finished:
			finished = true
		case scan.Status == scanFailed:
			return "", fmt.Errorf("the scan in project %q failed (%s): scan the image again", scan.Project, scan.Status)
		case scan.Status == scanUnsupported:
			return "", fmt.Errorf("the scanner in project %q does not support the image (%s): scan it with another, or have somebody who may sign it with --mode %s", scan.Project, scan.Status, BypassAndSign)
		case scan.Status != "":
			waitingFor = fmt.Sprintf("the scan in project %q is %s", scan.Project, scan.Status)
		}
	}
	if !finished && waitingFor == "" {
		return noScan, nil
	}
	return waitingFor, nil
}

// versions tells whether discoveries have changed.
func versions(discoveries []*grafeas.Occurrence) []string {
	list := make([]string, 0, len(discoveries))
	for _, o := range discoveries {
		list = append(list, fmt.Sprintf("%s %d %d %s", o.GetName(), o.GetUpdateTime().GetSeconds(), o.GetUpdateTime().GetNanos(), o.GetDiscovery().GetAnalysisStatus()))
	}
	slices.Sort(list)
	return list
}

func scannedIn(known evidence.Image) []string {
	var projects []string
	for i := range known.Scans {
		if s := &known.Scans[i]; s.Finished && !slices.Contains(projects, s.Project) {
			projects = append(projects, s.Project)
		}
	}
	slices.Sort(projects)
	return projects
}

// violations say what is beyond the limits, in Kritis' words, the worst first.
func violations(limits policy.Vulnerabilities, known evidence.Image, ref image.Reference) []string {
	var found []evidence.Finding
	for i := range known.Scans {
		for _, f := range known.Scans[i].Findings {
			if _, bad := decide.Violates(limits, f); bad {
				found = append(found, f)
			}
		}
	}
	slices.SortFunc(found, func(a, b evidence.Finding) int {
		return cmp.Or(cmp.Compare(rank(b), rank(a)), cmp.Compare(a.Note, b.Note), cmp.Compare(len(kindOf(a)), len(kindOf(b))))
	})
	found = slices.Compact(found)
	var list []string
	for i, f := range found {
		if i == maxViolations {
			return append(list, fmt.Sprintf("and %d more", len(found)-i))
		}
		list = append(list, describe(limits, f, ref))
	}
	return list
}

// rank orders severities: none at all is the worst.
func rank(f evidence.Finding) int {
	if f.Severity == 0 {
		return int(policy.AllowAll)
	}
	return f.Severity
}

func kindOf(f evidence.Finding) string {
	if f.Fixable {
		return "CVE"
	}
	return "unfixable CVE"
}

func describe(limits policy.Vulnerabilities, f evidence.Finding, ref image.Reference) string {
	most, what := limits.MaxUnfixable, "unfixable"
	if f.Fixable {
		most, what = limits.MaxFixable, "fixable"
	}
	if most == policy.BlockAll {
		return fmt.Sprintf("found %s %s in %s which isn't in allowlist, violating max %s severity %s", kindOf(f), f.Note, ref, what, most)
	}
	return fmt.Sprintf("found %s %s in %s, which has severity %s exceeding max %s severity %s", kindOf(f), f.Note, ref, grafeas.Severity(f.Severity), what, most) //nolint:gosec // 0 to 5
}
