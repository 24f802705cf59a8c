package approved

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-dev/gatehouse/check/builds"
	"github.com/gatehouse-dev/gatehouse/check/hosts"
)

// A judge looks at one request that came to the commit that was built.
type judge struct {
	Settings
	build    builds.Build
	repo     builds.Repository
	request  hosts.Request
	evidence []string
}

// whole returns why the request does not make the build an approved one, or "".
func (j *judge) whole(ctx context.Context, host hosts.Host, defaultBranch string) (string, error) {
	r := j.request
	branches := j.Branches
	if len(branches) == 0 {
		branches = []string{defaultBranch}
	}
	if !slices.Contains(branches, r.Branch) {
		return fmt.Sprintf("%s: %s was merged into %q, and what counts is %s", notProduction, r.Name, builds.Clip(r.Branch), names(branches)), nil
	}
	branch, err := host.Branch(ctx, j.repo, r.Branch, j.build.Source.Commit)
	if err != nil {
		return "", err
	}
	switch {
	case !branch.Has:
		return fmt.Sprintf("%s: %q of %s does not have commit %s any more", notProduction, builds.Clip(r.Branch), j.repo, j.build.Source.Commit), nil
	case !branch.Protected:
		return j.unprotected(branch), nil
	case r.Merged.After(j.build.Time().Add(clockSkew)):
		return fmt.Sprintf("%s: %s was merged at %s, after the build of %s", notMerged, r.Name, stamp(r.Merged), stamp(j.build.Time())), nil
	}
	if why := j.approvals(branch); why != "" {
		return why, nil
	}
	if why := j.green(branch); why != "" {
		return fmt.Sprintf("%s: of %s, %s", notGreen, r.Name, why), nil
	}
	j.evidence = append([]string{
		j.build.String(),
		fmt.Sprintf("commit %s of %s is signed, and on its protected branch %q", j.build.Source.Commit, j.repo, r.Branch),
		fmt.Sprintf("%s was merged at %s", r.Name, stamp(r.Merged)),
	}, j.evidence...)
	return "", nil
}

func (j *judge) unprotected(b hosts.Branch) string {
	why := cmp.Or(b.Why, "whoever may write there may push to it without a review")
	return fmt.Sprintf("branch %q of %s is not protected: %s; protect it, so that changes need a request and a review", builds.Clip(j.request.Branch), j.repo, why)
}

// approvals returns who is missing, or "". Of each person the last word before the merge
// counts, and once.
func (j *judge) approvals(branch hosts.Branch) string {
	r := j.request
	last := map[string]hosts.Review{}
	for _, v := range r.Reviews {
		if !v.At.After(r.Merged) {
			last[v.By] = v
		}
	}
	var approvers, refusers, ignored []string
	for by, v := range last {
		switch {
		case v.Verdict == hosts.Refuses:
			refusers = append(refusers, by)
		case v.Verdict != hosts.Approves:
		case by == "":
			ignored = append(ignored, "somebody who is gone")
		case by == r.Author:
			ignored = append(ignored, by+", who made the change")
		case !v.Counts:
			ignored = append(ignored, by+", who may not write to the repository")
		case j.FreshApprovals && v.Commit != r.Head:
			ignored = append(ignored, by+", who has not seen its last commit")
		default:
			approvers = append(approvers, by)
		}
	}
	for _, v := range r.Reviews {
		if v.Verdict == hosts.Approves && v.At.After(r.Merged) {
			ignored = append(ignored, v.By+", who came after the merge")
		}
	}
	need := max(j.MinApprovals, branch.Approvals, r.Required)
	if len(refusers) == 0 && len(approvers) >= need {
		slices.Sort(approvers)
		j.evidence = append(j.evidence, fmt.Sprintf("approved by %s; %d needed", names(approvers), need))
		return ""
	}
	text := fmt.Sprintf("%s: %s has %d, needs %d", notApproved, r.Name, len(approvers), need)
	if len(approvers) > 0 {
		text += "; approved by " + names(approvers)
	}
	if len(refusers) > 0 {
		text += "; changes are asked for by " + names(refusers)
	}
	if len(ignored) > 0 {
		text += "; not counted: " + names(ignored)
	}
	return text
}

// green returns which status check of the request is not green, or "".
func (j *judge) green(branch hosts.Branch) string {
	required := slices.DeleteFunc(slices.Clone(branch.Runs), func(name string) bool { return slices.Contains(j.Ignored, name) })
	for _, name := range required {
		if !slices.ContainsFunc(j.request.Runs, func(r hosts.Run) bool { return r.Name == name }) {
			return fmt.Sprintf("check %q, which the protection of the branch requires, did not run", builds.Clip(name))
		}
	}
	ended := cmp.Or(j.build.Finished, j.build.Time()).Add(clockSkew)
	counted := 0
	for _, r := range j.request.Runs {
		if slices.Contains(j.Ignored, r.Name) {
			continue
		}
		name := builds.Clip(r.Name)
		must := len(required) == 0 || slices.Contains(required, r.Name)
		switch {
		case r.State == hosts.Failed:
			return fmt.Sprintf("check %q has failed", name)
		case must && r.State != hosts.Passed:
			return fmt.Sprintf("check %q has not ended", name)
		case must && r.At.After(ended):
			return fmt.Sprintf("check %q was green at %s only, after the build of %s", name, stamp(r.At), stamp(ended.Add(-clockSkew)))
		}
		counted++
	}
	if counted == 0 {
		return "there are no status checks; run CI on requests"
	}
	j.evidence = append(j.evidence, fmt.Sprintf("%d status checks, green", counted))
	return ""
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
