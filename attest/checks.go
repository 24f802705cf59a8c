package attest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/diy"
	"github.com/gatehouse-dev/gatehouse/check/nobody"
	"github.com/gatehouse-dev/gatehouse/check/provenance"
	"github.com/gatehouse-dev/gatehouse/check/snakeoil"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
)

// A Repository is an organisation on a source code host, and how that is asked.
type Repository struct {
	// OrgURL is the organisation, such as "https://github.com/my-org", or the host
	// alone (org-url).
	OrgURL string
	Auth   RepositoryAuth
	// Kind is "github" or "gitlab". It may be left out for github.com and gitlab.com.
	Kind string
	// APIURL is where the API is; "" means where hosts of this kind have it.
	APIURL string
}

// RepositoryAuth is how Gatehouse proves to a source code host who it is, as Voucher's
// secrets have it: a token, or a GitHub App. String and formatting do not tell it.
type RepositoryAuth struct {
	Token string // token
	// Username and Password are those of an account. No host takes them any more.
	Username, Password string
	AppID              string // _app_id
	InstallationID     string // _installation_id
	PrivateKey         string // private_key, in PEM
}

// String says what there is, and no secret.
func (a RepositoryAuth) String() string {
	switch {
	case a.Token != "":
		return "a token"
	case a.AppID != "":
		return fmt.Sprintf("GitHub App %q", a.AppID)
	case a.Username != "":
		return "a password"
	}
	return "nothing"
}

// Format keeps secrets out of whatever a Config is printed in.
func (a RepositoryAuth) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(a.String())) }

// CheckSettings are what the checks are told in Gatehouse's own keys, gatehouse.<check>.
type CheckSettings struct {
	// FailOnFixable and FailOnUnfixable stand instead of FailOn for vulnerabilities
	// that a package update would fix, and for others: a severity, or "never".
	FailOnFixable, FailOnUnfixable string
	// Allowed are vulnerabilities that do not fail an image in snakeoil.
	Allowed []AllowedVulnerability
	// ScanNotes are the notes whose discoveries are scans for vulnerabilities. With
	// none, the analysisKind of each note tells.
	ScanNotes []string

	// NumericUsers has nobody refuse users by name.
	NumericUsers bool

	// BuildKeys verify provenance. With any, a build counts only as one has signed it.
	BuildKeys []KeyFile

	// Branches are those that approved takes; none means the default branch.
	Branches []string
	// MinApprovals is how many people have to approve, at least; 0 means 1.
	MinApprovals int
	// FreshApprovals counts approvals of what was merged only, and not of what the
	// request was before.
	FreshApprovals bool
	// IgnoredRuns are the names of status checks that need not be green.
	IgnoredRuns []string

	// SBOMKeys verify SBOMs. With any, an SBOM counts only as one has signed it.
	SBOMKeys []KeyFile

	// MaxBuildAge and MaxScanAge are how old a build and a scan may be for the check
	// age; 0 means any age. Without either that check is not active.
	MaxBuildAge, MaxScanAge time.Duration

	// Bases are the images that base allows. Without any it is not active.
	Bases []string

	// Expressions make a check cel_NAME each.
	Expressions map[string]Expression
}

// An AllowedVulnerability does not fail an image, until it expires.
type AllowedVulnerability struct {
	ID, Reason string
	// Expires is the day, as YYYY-MM-DD, from which it no longer counts, in UTC; ""
	// means never.
	Expires string
}

// An Expression is what a check cel_NAME asks, in CEL.
type Expression struct {
	Text string
	// Message says what to do when it is false.
	Message string
}

// Checks makes the checks that the configuration allows for.
func (c *Config) Checks() ([]check.Check, error) {
	checks, wrong := c.checks()
	return checks, errors.Join(wrong...)
}

func (c *Config) checks() ([]check.Check, problems) {
	var wrong problems
	d, err := diy.New(diy.Settings{ValidRepos: c.ValidRepos})
	wrong.add("valid_repos", err)
	var platforms []resolve.Platform
	for _, s := range c.Platforms {
		p, err := resolve.ParsePlatform(s)
		wrong.add("gatehouse.platforms", err)
		platforms = append(platforms, p)
	}
	n := nobody.New(nobody.Settings{Platforms: platforms})
	p, err := provenance.New(provenance.Settings{Builders: c.TrustedBuilders, Projects: c.TrustedProjects})
	wrong.add("trusted_builder_identities", err)
	checks := []check.Check{d, n, p}
	if c.FailOn != "" {
		s, err := c.snakeoil(&wrong)
		wrong.add("failon", err)
		checks = append(checks, s)
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return checks, nil
}

func (c *Config) snakeoil(wrong *problems) (check.Check, error) {
	s := snakeoil.Settings{MaxWait: c.ScanWait}
	var err error
	if c.Unscored != "" && c.Unscored != "fail" {
		if s.Unscored, err = snakeoil.ParseSeverity(c.Unscored); err != nil {
			wrong.addf("gatehouse.unscored", "unscored: %w, or fail", err)
		}
	}
	if s.FailOn, err = snakeoil.ParseSeverity(c.FailOn); err != nil {
		return check.Check{}, fmt.Errorf("failon: %w", err)
	}
	return snakeoil.New(s)
}

// known reports whether a check of this name can be in a configuration.
func known(name string) bool {
	switch name {
	case diy.Name, nobody.Name, provenance.Name, snakeoil.Name:
		return true
	}
	return laterCheck(name)
}

// laterCheck reports whether Voucher has a check of this name that Gatehouse
// does not have. A group that has one cannot be asked for.
func laterCheck(name string) bool {
	return slices.Contains([]string{"approved", "sbom"}, name) || strings.HasPrefix(name, "is_")
}

func (c *Config) groupProblems(wrong *problems, group string) {
	key := "required." + group
	wrong.add(key, check.ValidateName(group))
	for _, name := range c.Groups[group] {
		member := key + "." + name
		if group == AllGroup {
			member = "checks." + name
		}
		switch {
		case !known(name):
			wrong.addf(member, "group %q: there is no check %q; there are diy, nobody, provenance and snakeoil", group, name)
		case name == snakeoil.Name && c.FailOn == "":
			wrong.addf(member, "group %q: snakeoil needs failon, the lowest severity that fails an image", group)
		}
	}
}
