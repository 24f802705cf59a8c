// Package org is the check is_<alias>: that the image was built from a repository of the
// organisation that the configuration calls so.
//
// The repository is the one that a record of the build names, and whose it is its host
// says: one that was given away since is its new owner's.
package org

import (
	"context"
	"errors"
	"fmt"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/builds"
	"github.com/gatehouse-dev/gatehouse/check/hosts"
)

// Prefix is what the names of the checks begin with.
const Prefix = "is_"

// New returns the check for an organisation. records reads how images were built.
func New(o hosts.Organization, records builds.Reader) (check.Check, error) {
	c := check.Check{Name: Prefix + o.Alias, Doc: Doc(o.Alias), Run: func(ctx context.Context, in *check.Input) (check.Result, error) {
		return run(ctx, in, o, records)
	}}
	if err := c.Validate(); err != nil {
		return check.Check{}, fmt.Errorf("repository %q: %w", o.Alias, err)
	}
	return c, nil
}

// Doc is what the check for an alias says about itself.
func Doc(alias string) check.Doc {
	return check.Doc{
		Title:  fmt.Sprintf("The image was built from a repository of %s", alias),
		Proves: fmt.Sprintf("A record of the build names a repository on the host of repository.%[1]s.org-url, and that host says that it belongs to that organisation, which is not a person. Names are compared in any case, as hosts do. What was built from it, and whether that was approved, the check does not look at.", alias),
		Needs:  []string{"BUILD occurrences", "the source code host: GitHub or GitLab, with a token or a GitHub App for private repositories"},
		Settings: []check.Setting{
			{Key: fmt.Sprintf("repository.%s.org-url", alias), Text: "the organisation, such as https://github.com/my-org"},
			{Key: fmt.Sprintf("gatehouse.repository.%s", alias), Text: "kind (github or gitlab) and api_url of a host of one's own, and token_file", Default: "as for github.com and gitlab.com"},
			builds.KeysSetting(),
		},
		Fixes: []check.Fix{
			{Failure: builds.None, Do: "have the builder record its provenance for this digest, with the repository"},
			{Failure: "it was built from R, which belongs to O", Do: "build it from a repository of the organisation, or ask another check: each alias has one"},
			{Failure: "not found, or not to be seen with the credentials given", Do: "give the token or the app access to the repository"},
		},
	}
}

func run(ctx context.Context, in *check.Input, o hosts.Organization, records builds.Reader) (check.Result, error) {
	found, err := records.Read(ctx, in)
	if err != nil {
		return check.Result{}, err
	}
	if len(found.Builds) == 0 {
		return check.Fail("%s", found.Why()), nil
	}
	if o.Path == "" {
		return check.Fail("org-url of repository %q names the host %s and no organisation; add it, as in https://%s/my-org", o.Alias, o.Host, o.Host), nil
	}
	var reasons []string
	var failed error
	for _, b := range found.Builds {
		reason, err := foreign(ctx, b, o)
		switch {
		case err != nil:
			failed = err
		case reason == "":
			return check.Pass(b.String(), fmt.Sprintf("built from %s, which belongs to %s/%s", builds.Clip(b.Source.URL), o.Host, o.Path)), nil
		default:
			reasons = append(reasons, reason)
		}
	}
	if failed != nil {
		return check.Result{}, failed // another build may be the good one
	}
	return check.Fail("%s", found.Why(reasons...)), nil
}

// foreign returns why the source of a build is not the organisation's, or "".
func foreign(ctx context.Context, b builds.Build, o hosts.Organization) (string, error) {
	if b.Source.URL == "" {
		return "build metadata does not tell which one repository was built", nil
	}
	repo, err := builds.ParseRepository(b.Source.URL)
	if err != nil {
		return err.Error(), nil //nolint:nilerr // it is the image's fault
	}
	if repo.Host != o.Host {
		return fmt.Sprintf("it was built from %s, which is not on %s", repo, o.Host), nil
	}
	if o.Of == nil {
		return "", fmt.Errorf("no repository client configured for check %q", Prefix+o.Alias)
	}
	owner, err := o.Of.Owner(ctx, repo)
	switch {
	case errors.Is(err, hosts.ErrNotFound):
		return err.Error(), nil
	case err != nil:
		return "", err
	case !o.Has(owner.Path):
		return fmt.Sprintf("it was built from %s, which belongs to %q and not to %q", repo, builds.Clip(owner.Path), o.Path), nil
	case !owner.Organization:
		return fmt.Sprintf("%q, whom %s belongs to, is a person and no organisation", builds.Clip(owner.Path), repo), nil
	}
	return "", nil
}
