package attest

import (
	"strings"
	"time"
)

// maxDays is the greatest age, in days, that can be asked for: ten years.
const maxDays = 3660

// readChecks reads what the checks are told in our own keys, of the table gatehouse:
//
//	[gatehouse.snakeoil]
//	failon_fixable = "low"       # instead of failon: what an update of a package fixes
//	failon_unfixable = "never"   # and the rest
//	scan_notes = []              # the notes whose discoveries are scans
//	[[gatehouse.snakeoil.allow]]
//	id = "CVE-2021-20305"
//	reason = "not reachable: nettle is only used by wget"
//	expires = "2026-12-31"
//
//	[gatehouse.nobody]
//	numeric = false              # refuse users by name
//
//	[gatehouse.builds.keys.ci]   # builders: as a key of trusted_keys
//	[gatehouse.sbom.keys.ci]     # makers of SBOMs
//
//	[gatehouse.approved]
//	branches = []                # none means the default branch of each repository
//	min_approvals = 1
//	fresh_approvals = false
//	ignored_checks = []
//
//	[gatehouse.repository.us]    # beside repository.us
//	kind = "github"              # or gitlab, of a host of one's own
//	api_url = ""
//	token_file = "github.token"  # beside the configuration file
//
//	[gatehouse.age]
//	max_build_days = 90
//	max_scan_days = 7
//
//	[gatehouse.base]
//	allowed = ["registry.example/base"]
//
//	[gatehouse.cel.ours]         # the check cel_ours
//	expression = 'config.labels.team != ""'
//	message = "label it with its team"
func readChecks(s *section, c *Config) {
	readSnakeoil(s.table("snakeoil"), &c.Settings)
	nobody := s.table("nobody")
	c.Settings.NumericUsers = nobody.flag("numeric", false)
	nobody.finish()
	c.Settings.BuildKeys = readKeySet(s.table("builds"))
	c.Settings.SBOMKeys = readKeySet(s.table("sbom"))
	readApproved(s.table("approved"), &c.Settings)
	readAge(s.table("age"), &c.Settings)
	base := s.table("base")
	c.Settings.Bases = base.texts("allowed")
	base.finish()
	readExpressions(s.table("cel"), &c.Settings)
}

func readSnakeoil(s *section, to *CheckSettings) {
	to.FailOnFixable, to.FailOnUnfixable = s.text("failon_fixable"), s.text("failon_unfixable")
	to.ScanNotes = s.texts("scan_notes")
	for _, a := range s.tables("allow") {
		to.Allowed = append(to.Allowed, AllowedVulnerability{ID: a.text("id"), Reason: a.text("reason"), Expires: a.text("expires")})
		a.finish()
	}
	s.finish()
}

// readKeySet reads the table keys of a check, by label.
func readKeySet(s *section) []KeyFile {
	var files []KeyFile
	keys := s.table("keys")
	for _, label := range keys.keys() {
		files = append(files, readKey(keys.table(label), false))
	}
	s.finish()
	return files
}

func readApproved(s *section, to *CheckSettings) {
	const many = 100
	to.Branches = s.texts("branches")
	if s.has("min_approvals") {
		to.MinApprovals = s.number("min_approvals", 1, 1, many)
	}
	to.FreshApprovals = s.flag("fresh_approvals", false)
	to.IgnoredRuns = s.texts("ignored_checks")
	s.finish()
}

func readAge(s *section, to *CheckSettings) {
	const day = 24 * time.Hour
	to.MaxBuildAge = time.Duration(s.number("max_build_days", 0, 0, maxDays)) * day
	to.MaxScanAge = time.Duration(s.number("max_scan_days", 0, 0, maxDays)) * day
	s.finish()
}

func readExpressions(s *section, to *CheckSettings) {
	for _, name := range s.keys() {
		e := s.table(name)
		if to.Expressions == nil {
			to.Expressions = map[string]Expression{}
		}
		to.Expressions[name] = Expression{Text: e.text("expression"), Message: e.text("message")}
		e.finish()
	}
}

// readRepositories reads Voucher's tables of organisations, and what ours say beside
// them.
func readRepositories(voucher, ours *section, c *Config) {
	for _, alias := range voucher.keys() {
		s := voucher.table(alias)
		if c.Repositories == nil {
			c.Repositories = map[string]Repository{}
		}
		c.Repositories[alias] = Repository{OrgURL: s.text("org-url")}
		s.finish()
	}
	for _, alias := range ours.keys() {
		s := ours.table(alias)
		r, ok := c.Repositories[alias]
		if !ok {
			ours.problem(alias, "there is no repository.%s, which says what it is about", alias)
		}
		r.Kind, r.APIURL, r.TokenFile = strings.ToLower(s.text("kind")), s.text("api_url"), s.beside("token_file")
		s.finish()
		if ok {
			c.Repositories[alias] = r
		}
	}
}
