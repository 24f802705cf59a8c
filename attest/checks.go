package attest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/age"
	"github.com/gatehouse-dev/gatehouse/check/approved"
	"github.com/gatehouse-dev/gatehouse/check/base"
	"github.com/gatehouse-dev/gatehouse/check/builds"
	"github.com/gatehouse-dev/gatehouse/check/cel"
	"github.com/gatehouse-dev/gatehouse/check/diy"
	"github.com/gatehouse-dev/gatehouse/check/hosts"
	"github.com/gatehouse-dev/gatehouse/check/hosts/github"
	"github.com/gatehouse-dev/gatehouse/check/hosts/gitlab"
	"github.com/gatehouse-dev/gatehouse/check/nobody"
	"github.com/gatehouse-dev/gatehouse/check/org"
	"github.com/gatehouse-dev/gatehouse/check/provenance"
	"github.com/gatehouse-dev/gatehouse/check/sbom"
	"github.com/gatehouse-dev/gatehouse/check/scans"
	"github.com/gatehouse-dev/gatehouse/check/snakeoil"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/signature"
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
	// TokenFile has a token, when Auth has none.
	TokenFile string
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

// A CheckDoc is a check, as it is before it is configured, and what it says about itself.
type CheckDoc struct {
	// Name is that of the check; what stands in capitals in it, the configuration says.
	Name string `json:"name"`
	check.Doc
}

// CheckDocs returns all checks there are, in the order of their names.
func CheckDocs() []CheckDoc {
	return []CheckDoc{
		{age.Name, age.Doc()},
		{approved.Name, approved.Doc()},
		{base.Name, base.Doc()},
		{cel.Prefix + "NAME", cel.Doc("NAME")},
		{diy.Name, diy.Doc()},
		{org.Prefix + "ALIAS", org.Doc("ALIAS")},
		{nobody.Name, nobody.Doc()},
		{provenance.Name, provenance.Doc()},
		{sbom.Name, sbom.Doc()},
		{snakeoil.Name, snakeoil.Doc()},
	}
}

// FindCheckDoc returns what a check of this name says about itself: also one that the
// configuration makes, such as is_acme.
func FindCheckDoc(name string) (CheckDoc, bool) {
	for prefix, doc := range map[string]func(string) check.Doc{org.Prefix: org.Doc, cel.Prefix: cel.Doc} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" {
			return CheckDoc{name, doc(rest)}, true
		}
	}
	for _, d := range CheckDocs() {
		if d.Name == name {
			return d, true
		}
	}
	return CheckDoc{}, false
}

// Checks makes the checks that the configuration allows for. It reads files of keys and
// tokens.
func (c *Config) Checks() ([]check.Check, error) {
	var files checkFiles
	var err error
	if files.builds, err = publicKeys("gatehouse.builds.keys", c.Settings.BuildKeys); err != nil {
		return nil, err
	}
	if files.sboms, err = publicKeys("gatehouse.sbom.keys", c.Settings.SBOMKeys); err != nil {
		return nil, err
	}
	files.tokens = map[string]string{}
	for _, alias := range slices.Sorted(maps.Keys(c.Repositories)) {
		file := c.Repositories[alias].TokenFile
		if file == "" {
			continue
		}
		text, err := bounded.ReadFile(file, maxFile)
		if err != nil {
			return nil, fmt.Errorf("reading the token of repository %q: %w", alias, err)
		}
		files.tokens[alias] = strings.TrimSpace(string(text))
	}
	checks, wrong := c.checks(files)
	return checks, errors.Join(wrong...)
}

// checkFiles are what files hold that the checks need.
type checkFiles struct {
	builds, sboms []*signature.PublicKey
	tokens        map[string]string // by alias
}

func publicKeys(key string, files []KeyFile) ([]*signature.PublicKey, error) {
	var keys []*signature.PublicKey
	for _, f := range files {
		k, err := f.publicKey()
		if err != nil {
			return nil, fmt.Errorf("reading a key of %s: %w", key, err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// A maker makes the checks of a configuration, and gathers what is wrong with it.
type maker struct {
	*Config
	files     checkFiles
	platforms []resolve.Platform
	records   builds.Reader
	scans     scans.Reader
	wrong     problems
	made      []check.Check
}

func (c *Config) checks(files checkFiles) ([]check.Check, problems) {
	m := &maker{Config: c, files: files, records: builds.Reader{Keys: files.builds}, scans: scans.Reader{Notes: c.Settings.ScanNotes}}
	for _, s := range c.Platforms {
		p, err := resolve.ParsePlatform(s)
		m.wrong.add("gatehouse.platforms", err)
		m.platforms = append(m.platforms, p)
	}
	m.take("valid_repos")(diy.New(diy.Settings{ValidRepos: c.ValidRepos}))
	m.made = append(m.made, nobody.New(nobody.Settings{Platforms: m.platforms, Numeric: c.Settings.NumericUsers}))
	m.take("trusted_builder_identities")(provenance.New(provenance.Settings{Builders: c.TrustedBuilders, Projects: c.TrustedProjects, Records: m.records}))
	m.made = append(m.made, sbom.New(sbom.Settings{Keys: files.sboms, Platforms: m.platforms}))
	m.snakeoil()
	m.source()
	if c.Settings.MaxBuildAge != 0 || c.Settings.MaxScanAge != 0 {
		m.take("gatehouse.age")(age.New(age.Settings{MaxBuild: c.Settings.MaxBuildAge, MaxScan: c.Settings.MaxScanAge, Records: m.records, Scans: m.scans}))
	}
	if len(c.Settings.Bases) > 0 {
		m.take("gatehouse.base.allowed")(base.New(base.Settings{Allowed: c.Settings.Bases, Platforms: m.platforms, Records: m.records}))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Settings.Expressions)) {
		e := c.Settings.Expressions[name]
		made, err := cel.New(cel.Settings{Name: name, Expression: e.Text, Message: e.Message, Platforms: m.platforms, Records: m.records, Scans: m.scans})
		if err != nil {
			err = fmt.Errorf("gatehouse.cel.%s: %w", name, err)
		}
		m.take("gatehouse.cel."+name)(made, err)
	}
	if len(m.wrong) > 0 {
		return nil, m.wrong
	}
	return m.made, nil
}

// take returns what takes a check, or what is wrong with the key that it is made from.
func (m *maker) take(key string) func(check.Check, error) {
	return func(c check.Check, err error) {
		m.wrong.add(key, err)
		m.made = append(m.made, c)
	}
}

// scanned reports whether snakeoil is active.
func (c *Config) scanned() bool {
	return c.FailOn != "" || c.Settings.FailOnFixable != "" || c.Settings.FailOnUnfixable != ""
}

func (m *maker) snakeoil() {
	if !m.scanned() {
		return
	}
	s := snakeoil.Settings{MaxWait: m.ScanWait, Scans: m.scans, Allowed: map[string]snakeoil.Allowed{}}
	var err error
	if m.Unscored != "" && m.Unscored != "fail" {
		if s.Unscored, err = snakeoil.ParseSeverity(m.Unscored); err != nil {
			m.wrong.addf("gatehouse.unscored", "unscored: %w, or fail", err)
		}
	}
	s.Fixable = m.threshold("gatehouse.snakeoil.failon_fixable", m.Settings.FailOnFixable)
	s.Unfixable = m.threshold("gatehouse.snakeoil.failon_unfixable", m.Settings.FailOnUnfixable)
	for _, a := range m.Settings.Allowed {
		until := time.Time{}
		if a.Expires != "" {
			if until, err = time.Parse(time.DateOnly, a.Expires); err != nil {
				m.wrong.addf("gatehouse.snakeoil.allow", "gatehouse.snakeoil.allow: expires %q of %q: want a day as 2026-12-31", clip(a.Expires), clip(a.ID))
			}
		}
		if _, ok := s.Allowed[a.ID]; ok {
			m.wrong.addf("gatehouse.snakeoil.allow", "gatehouse.snakeoil.allow: %q is there twice", clip(a.ID))
		}
		s.Allowed[a.ID] = snakeoil.Allowed{Reason: a.Reason, Until: until}
	}
	if len(m.wrong) > 0 {
		return
	}
	m.take("gatehouse.snakeoil.allow")(snakeoil.New(s))
}

// threshold reads the severity that fails an image, of a key of ours or else of failon.
func (m *maker) threshold(key, word string) snakeoil.Severity {
	if word == "" {
		if m.FailOn == "" {
			m.wrong.addf("gatehouse.snakeoil", "failon is not set, and so both failon_fixable and failon_unfixable have to be")
			return 0
		}
		s, err := snakeoil.ParseSeverity(m.FailOn)
		if err != nil && !m.wrong.about("failon") { // which stands for two thresholds
			m.wrong.addf("failon", "failon: %w", err)
		}
		return s
	}
	s, err := snakeoil.ParseThreshold(word)
	if err != nil {
		m.wrong.addf(key, "%s: %w", key, err)
	}
	return s
}

// source makes the checks that ask source code hosts.
func (m *maker) source() {
	var set hosts.Set
	for _, alias := range slices.Sorted(maps.Keys(m.Repositories)) {
		o, err := m.Repositories[alias].organization(alias, m.files.tokens[alias])
		if err != nil {
			m.wrong.add("repository."+alias, err)
			continue
		}
		set = append(set, o)
		m.take("repository." + alias)(org.New(o, m.records))
	}
	m.take("gatehouse.approved.min_approvals")(approved.New(approved.Settings{
		Hosts: set, Records: m.records, Branches: m.Settings.Branches, MinApprovals: m.Settings.MinApprovals,
		FreshApprovals: m.Settings.FreshApprovals, Ignored: m.Settings.IgnoredRuns,
	}))
}

// organization returns the organisation and the host that is asked about it.
func (r Repository) organization(alias, token string) (hosts.Organization, error) {
	o, err := hosts.ParseURL(alias, r.OrgURL)
	if err != nil {
		return hosts.Organization{}, err
	}
	switch {
	case token != "" && r.Auth != (RepositoryAuth{}):
		return hosts.Organization{}, fmt.Errorf("repository %q: a token_file is given, and the secrets have %s for it too; take one away", alias, r.Auth)
	case r.Auth.Username != "" || r.Auth.Password != "":
		return hosts.Organization{}, fmt.Errorf("repository %q: unsupported auth type: userpassword; no host takes them for its API any more: use a token", alias)
	case token == "":
		token = r.Auth.Token
	}
	app := github.App{ID: r.Auth.AppID, Installation: r.Auth.InstallationID, PrivateKey: r.Auth.PrivateKey}
	switch r.kind(o.Host) {
	case "github":
		o.Of, err = github.New(o.Host, r.APIURL, github.Auth{Token: token, App: app})
	case "gitlab":
		if app != (github.App{}) {
			return hosts.Organization{}, fmt.Errorf("repository %q: GitLab has no apps; use a token", alias)
		}
		o.Of, err = gitlab.New(o.Host, r.APIURL, token)
	default:
		err = fmt.Errorf("it is not known what %q is; set gatehouse.repository.%s.kind to \"github\" or \"gitlab\"", o.Host, alias)
	}
	if err != nil {
		return hosts.Organization{}, fmt.Errorf("repository %q: %w", alias, err)
	}
	return o, nil
}

func (r Repository) kind(host string) string {
	switch {
	case r.Kind != "":
		return r.Kind
	case host == "github.com":
		return "github"
	case host == "gitlab.com":
		return "gitlab"
	}
	return ""
}

// known reports whether a check of this name can be in a configuration.
func known(name string) bool {
	_, ok := FindCheckDoc(name)
	return ok && name == strings.ToLower(name)
}

// missing says which setting a check lacks, without which it is not active, or "".
func (c *Config) missing(name string) string {
	alias, isOrg := strings.CutPrefix(name, org.Prefix)
	label, isCEL := strings.CutPrefix(name, cel.Prefix)
	switch {
	case name == snakeoil.Name && !c.scanned():
		return "failon, the lowest severity that fails an image"
	case name == age.Name && c.Settings.MaxBuildAge == 0 && c.Settings.MaxScanAge == 0:
		return "gatehouse.age.max_build_days or max_scan_days"
	case name == base.Name && len(c.Settings.Bases) == 0:
		return "gatehouse.base.allowed, the base images that are allowed"
	case isOrg && c.Repositories[alias] == Repository{}:
		return "repository." + alias + ".org-url, the organisation"
	case isCEL && c.Settings.Expressions[label] == Expression{}:
		return "gatehouse.cel." + label + ".expression"
	}
	return ""
}

func (c *Config) groupProblems(wrong *problems, group string) {
	key := "required." + group
	wrong.add(key, check.ValidateName(group))
	for _, name := range c.Groups[group] {
		member := key + "." + name
		if group == AllGroup {
			member = "checks." + name
		}
		if !known(name) {
			wrong.addf(member, "group %q: there is no check %q; there are %s", group, name, checkNames())
		} else if needs := c.missing(name); needs != "" {
			wrong.addf(member, "group %q: %s needs %s", group, name, needs)
		}
	}
}

func checkNames() string {
	var names []string
	for _, d := range CheckDocs() {
		names = append(names, d.Name)
	}
	return strings.Join(names, ", ")
}
