package attest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/gatehouse-dev/gatehouse/check"
)

const (
	// DefaultPort is Voucher's.
	DefaultPort = 8000
	// DefaultTimeout is Voucher's.
	DefaultTimeout = 240 * time.Second

	// AllGroup is the group that always exists.
	AllGroup = "all"
)

// A Config says what an attestor requires, trusts and signs with.
type Config struct {
	// DryRun runs checks and attests nothing.
	DryRun bool
	// Project holds the notes and the attestations (binauth_project).
	Project string
	// MetadataProjects hold what the checks read. When there are none it is
	// Project and, as with Voucher, the Google Cloud project of the image.
	MetadataProjects []string
	// GrafeasHostname is where the metadata server is, when it is not ours.
	GrafeasHostname string

	ValidRepos      []string // for diy
	TrustedBuilders []string // for provenance
	TrustedProjects []string // for provenance
	// FailOn is the severity that fails an image in snakeoil, as a word. While
	// it is empty, that check is not active.
	FailOn string
	// Unscored is the severity that snakeoil takes unscored vulnerabilities
	// for, as a word; "" and "fail" mean that they fail the image.
	Unscored string
	// ScanWait is how long snakeoil waits for a scan; 0 means its default, and
	// less than 0 not at all.
	ScanWait time.Duration
	// Platforms are those of an index that the checks look at, as
	// [resolve.ParsePlatform] reads them; none means all.
	Platforms []string

	// Repositories are the organisations that build from source code hosts, by
	// alias ([repository.<alias>]).
	Repositories map[string]Repository
	// Settings are those of the checks that Voucher's keys do not tell.
	Settings CheckSettings

	// Groups are the names of the checks of each group.
	Groups map[string][]string
	Server ServerConfig

	// Keys are the private keys that sign, by the name of the check.
	Keys map[string]KeyFile
	// TrustedKeys are public keys that are believed besides, by the name of the
	// check.
	TrustedKeys map[string][]KeyFile

	// Strict calls a request a success only when every check is attested too,
	// and refuses groups without checks.
	Strict bool
	// CreateNotes creates notes that do not exist.
	CreateNotes bool
	// Form is how attestations are signed and filed, as ParseForm reads it.
	Form string
}

// ServerConfig is about the HTTP face of an attestor.
type ServerConfig struct {
	Port        int
	Timeout     time.Duration // of one request
	RequireAuth bool
	Username    string
	// PasswordHash is the bcrypt hash of the password.
	PasswordHash string
}

// A KeyFile is a file with a key: an armoured OpenPGP key, or a key in PEM.
type KeyFile struct {
	File string
	// Algorithm is how a PEM key signs, as signature.ParseAlgorithm reads it.
	// It may be left out for a private key.
	Algorithm string
	// ID is what a PEM key is called; "" means by its digest.
	ID string
	// PassphraseFile has the passphrase of an OpenPGP private key.
	PassphraseFile string
}

// A Warning is something in a configuration file that has no effect, or not
// the one it may seem to have.
type Warning struct {
	File string
	Line int // 0 when it is about no line
	Text string
}

// String returns FILE:LINE: TEXT.
func (w Warning) String() string {
	if w.Line == 0 {
		return w.File + ": " + w.Text
	}
	return fmt.Sprintf("%s:%d: %s", w.File, w.Line, w.Text)
}

// A problem is something wrong with a configuration, under the key it is about.
type problem struct {
	key string
	err error
}

func (p problem) Error() string { return p.err.Error() }
func (p problem) Unwrap() error { return p.err }

// problems gathers what is wrong.
type problems []error

func (ps *problems) add(key string, err error) {
	if err != nil {
		*ps = append(*ps, problem{key, err})
	}
}

// about reports whether something is wrong with a key.
func (ps *problems) about(key string) bool {
	return slices.ContainsFunc(*ps, func(err error) bool {
		var p problem
		return errors.As(err, &p) && p.key == key
	})
}

func (ps *problems) addf(key, format string, args ...any) { ps.add(key, fmt.Errorf(format, args...)) }

// Validate reports all that is wrong with the configuration. Files are not
// read; [Config.Options] does that.
func (c *Config) Validate() error { return errors.Join(c.problems()...) }

func (c *Config) problems() problems {
	_, wrong := c.checks(checkFiles{})
	// Without one New fails: whoever reads the file may have another to give.
	if strings.ContainsAny(c.Project, "/\" ") {
		wrong.addf("binauth_project", "binauth_project: %q is not the id of a project; it holds the notes and attestations", c.Project)
	}
	for _, p := range c.MetadataProjects {
		if p == "" || strings.ContainsAny(p, "/\" ") {
			wrong.addf("gatehouse.metadata_projects", "metadata_projects: %q is not the id of a project", p)
		}
	}
	if _, err := ParseForm(c.Form); err != nil {
		wrong.addf("gatehouse.form", "form: %w", err)
	}
	for _, group := range slices.Sorted(maps.Keys(c.Groups)) {
		c.groupProblems(&wrong, group)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Keys)) {
		c.Keys[name].problems(&wrong, "gatehouse.keys."+name, name)
	}
	for _, name := range slices.Sorted(maps.Keys(c.TrustedKeys)) {
		for _, k := range c.TrustedKeys[name] {
			k.problems(&wrong, "gatehouse.trusted_keys."+name, name)
		}
	}
	for _, k := range slices.Concat(c.Settings.BuildKeys, c.Settings.SBOMKeys) {
		if k.File == "" {
			wrong.addf("gatehouse", "a key of gatehouse.builds.keys or gatehouse.sbom.keys has no file")
		}
	}
	c.Server.problems(&wrong)
	return wrong
}

func (k KeyFile) problems(wrong *problems, key, name string) {
	if !known(name) {
		wrong.addf(key, "%s: there is no check %q", key, name)
	}
	if k.File == "" {
		wrong.addf(key, "%s: file, with the key, is not set", key)
	}
	if _, err := k.algorithm(); err != nil {
		wrong.addf(key, "%s: %w", key, err)
	}
}

func (s ServerConfig) problems(wrong *problems) {
	if s.Port < 1 || s.Port > 65535 {
		wrong.addf("server.port", "server.port: %d is not a port", s.Port)
	}
	if s.Timeout <= 0 {
		wrong.addf("server.timeout", "server.timeout: %v is not a time to answer in", s.Timeout)
	}
	if !s.RequireAuth {
		return
	}
	if s.Username == "" || s.PasswordHash == "" {
		wrong.addf("server.require_auth", "server.require_auth: username and password must be set, or no one gets in")
	} else if _, err := bcrypt.Cost([]byte(s.PasswordHash)); err != nil {
		// The cause would quote the password.
		wrong.addf("server.password", "server.password: it is not a bcrypt hash; make one with \"htpasswd -nB USER\"")
	}
}

// Options makes what an [Authority] is made from, all but Registry, Metadata,
// Store and Logger. It reads the key files.
func (c *Config) Options() (Options, error) {
	if err := c.Validate(); err != nil {
		return Options{}, err
	}
	checks, err := c.Checks()
	if err != nil {
		return Options{}, err
	}
	signers, err := c.signers()
	if err != nil {
		return Options{}, err
	}
	trusted, err := c.trustedKeys()
	if err != nil {
		return Options{}, err
	}
	form, err := ParseForm(c.Form)
	if err != nil {
		return Options{}, err
	}
	return Options{
		Form:    form,
		Project: c.Project, Checks: checks, Groups: c.Groups, Signers: signers, TrustedKeys: trusted,
		DryRun: c.DryRun, Strict: c.Strict, CreateNotes: c.CreateNotes,
	}, nil
}

// Metadata returns what the checks read, from a metadata server.
func (c *Config) Metadata(lister check.Lister) (*check.Grafeas, error) {
	if len(c.MetadataProjects) > 0 {
		return check.NewGrafeas(lister, c.MetadataProjects...)
	}
	g, err := check.NewGrafeas(lister, c.Project)
	if err != nil {
		return nil, err
	}
	return g.WithImageProject(), nil
}

// ApplyVoucherEnvironment changes the configuration by the variables of the
// environment that Voucher knows: IS_CLOUDRUN=true, where Cloud Run asks who
// the caller is, turns authentication off, and VOUCHER_TARGET_OS and
// VOUCHER_TARGET_ARCH name the platform that is looked at.
func (c *Config) ApplyVoucherEnvironment(getenv func(string) string) {
	if getenv("IS_CLOUDRUN") == "true" {
		c.Server.RequireAuth = false
	}
	os, arch := getenv("VOUCHER_TARGET_OS"), getenv("VOUCHER_TARGET_ARCH")
	if os == "" && arch == "" {
		return
	}
	if os == "" {
		os = "linux"
	}
	if arch == "" {
		arch = "amd64"
	}
	c.Platforms = []string{os + "/" + arch}
}
