package attest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
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
	// BuildProject holds builds that the projects above do not
	// (build_detail_fallback_project).
	BuildProject string
	// Grafeas is the metadata server of an attestor that runs alone.
	Grafeas GrafeasConfig

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

	// Secrets are the files with Voucher's secrets.
	Secrets SecretFiles
	// Signer is what signs: SignerPGP, with the keys of Keys and those in the secrets,
	// or SignerKMS, with those of KMSKeys, which win over Keys.
	Signer  string
	KMSKeys []KMSKey
	// KMSEndpoint is HOST:PORT of a regional or private endpoint of Cloud KMS, or
	// http://HOST:PORT on this machine; "" is Google's.
	KMSEndpoint string
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
	// CloudRun is set where Cloud Run asks who the caller is before it lets him in.
	CloudRun bool
	// Callers are further users, by name.
	Callers map[string]CallerConfig
	// RequestsPerMinute is how often each caller may ask, on the average, and Burst how
	// often at once; 0 is as often as he likes.
	RequestsPerMinute, Burst int
	// ConcurrentPerCaller is how many requests of one caller are worked on at once; 0
	// is half of all that are.
	ConcurrentPerCaller int
}

// A CallerConfig is a user of an attestor.
type CallerConfig struct {
	// PasswordHash is the bcrypt hash of the password.
	PasswordHash string
	// May are the checks and groups that he may ask for; none means all.
	May []string
}

// The values of Config.Signer.
const (
	SignerPGP = "pgp"
	SignerKMS = "kms"
)

// GrafeasConfig says which metadata server an attestor files with and reads from. One
// that runs with the metadata service in one process uses that.
type GrafeasConfig struct {
	// Client is ClientContainerAnalysis, Google's service, which an empty one means,
	// or ClientGrafeasOS, the REST API of the server at Hostname. Server is used
	// before either.
	Client string
	// Hostname and Version are put together to the URL of the REST API, such as
	// http://grafeas:8080/ and v1beta1/.
	Hostname, Version string
	// Server is Gatehouse's metadata service, or any that speaks Grafeas v1 over gRPC:
	// https://HOST:PORT, or http://HOST:PORT on loopback.
	Server string
	// CAFile has the certificates that the server's is issued by; TokenFile a bearer
	// token; CertFile and KeyFile a client certificate.
	CAFile, TokenFile, CertFile, KeyFile string
}

// The values of GrafeasConfig.Client.
const (
	ClientContainerAnalysis = "containeranalysis"
	ClientGrafeasOS         = "grafeasos"
)

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
	if strings.ContainsAny(c.BuildProject, "/\" ") {
		wrong.addf("containeranalysis.build_detail_fallback_project", "build_detail_fallback_project: %q is not the id of a project", c.BuildProject)
	}
	if _, err := ParseForm(c.Form); err != nil {
		wrong.addf("gatehouse.form", "form: %w", err)
	}
	for _, group := range slices.Sorted(maps.Keys(c.Groups)) {
		c.groupProblems(&wrong, group)
	}
	c.kmsProblems(&wrong)
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
	// The cause would quote the password.
	const noHash = "it is not a bcrypt hash; make one with \"htpasswd -nB USER\""
	for _, name := range slices.Sorted(maps.Keys(s.Callers)) {
		if _, err := bcrypt.Cost([]byte(s.Callers[name].PasswordHash)); err != nil {
			wrong.addf("gatehouse.callers."+name+".password", "gatehouse.callers.%s: password: "+noHash, clip(name))
		}
		if name == s.Username {
			wrong.addf("gatehouse.callers."+name, "gatehouse.callers.%s: server.username is called so", clip(name))
		}
	}
	switch {
	case len(s.Callers) > 0 && !s.RequireAuth && !s.CloudRun:
		wrong.addf("gatehouse.callers", "gatehouse.callers has no effect without server.require_auth = true")
	case !s.RequireAuth:
	case s.Username == "" && s.PasswordHash == "" && len(s.Callers) > 0:
	case s.Username == "" || s.PasswordHash == "":
		wrong.addf("server.require_auth", "server.require_auth: username and password must be set, or no one gets in")
	default:
		if _, err := bcrypt.Cost([]byte(s.PasswordHash)); err != nil {
			wrong.addf("server.password", "server.password: "+noHash)
		}
	}
}

// Options makes what an [Authority] is made from, all but Registry, Metadata,
// Store and Logger. It reads the key files and the secrets.
func (c *Config) Options() (Options, error) {
	if err := c.Validate(); err != nil {
		return Options{}, err
	}
	secrets, err := c.Secrets.Load(context.Background(), os.Getenv)
	if err != nil {
		return Options{}, err
	}
	checks, err := c.withLogins(secrets).Checks()
	if err != nil {
		return Options{}, err
	}
	signers, err := c.signers()
	if err != nil {
		return Options{}, err
	}
	if err := c.addSecretSigners(signers, secrets); err != nil {
		return Options{}, err
	}
	platforms, err := c.platforms()
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
		Form:      form,
		Platforms: platforms,
		Project:   c.Project, Checks: checks, Groups: c.Groups, Signers: signers, TrustedKeys: trusted,
		DryRun: c.DryRun, Strict: c.Strict, CreateNotes: c.CreateNotes,
	}, nil
}

// platforms are those of an index that count.
func (c *Config) platforms() ([]resolve.Platform, error) {
	var platforms []resolve.Platform
	for _, s := range c.Platforms {
		p, err := resolve.ParsePlatform(s)
		if err != nil {
			return nil, fmt.Errorf("platforms: %w", err)
		}
		platforms = append(platforms, p)
	}
	return platforms, nil
}

// Files are the files that the configuration names, whose change is one of the
// configuration.
func (c *Config) Files() []string {
	files := []string{c.Secrets.EJSONFile, c.Secrets.SOPSFile}
	for _, name := range slices.Sorted(maps.Keys(c.Keys)) {
		files = append(files, c.Keys[name].File, c.Keys[name].PassphraseFile)
	}
	for _, name := range slices.Sorted(maps.Keys(c.TrustedKeys)) {
		for _, k := range c.TrustedKeys[name] {
			files = append(files, k.File)
		}
	}
	for _, k := range append(slices.Clone(c.Settings.BuildKeys), c.Settings.SBOMKeys...) {
		files = append(files, k.File)
	}
	for _, alias := range slices.Sorted(maps.Keys(c.Repositories)) {
		files = append(files, c.Repositories[alias].TokenFile)
	}
	return slices.DeleteFunc(files, func(file string) bool { return file == "" })
}

// Metadata returns what the checks read, from a metadata server.
func (c *Config) Metadata(lister check.Lister) (*check.Grafeas, error) {
	var more []string
	if c.BuildProject != "" {
		more = append(more, c.BuildProject)
	}
	if len(c.MetadataProjects) > 0 {
		return check.NewGrafeas(lister, append(more, c.MetadataProjects...)...)
	}
	g, err := check.NewGrafeas(lister, append(more, c.Project)...)
	if err != nil {
		return nil, err
	}
	return g.WithImageProject(), nil
}
