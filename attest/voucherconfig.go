package attest

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/snakeoil"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
)

// maxTimeout is the longest server.timeout, in seconds: a day.
const maxTimeout = 24 * 60 * 60

// LoadVoucherConfig reads a configuration file of Voucher in TOML. Beside
// Voucher's keys it knows those of a table of our own:
//
//	[gatehouse]
//	strict = false            # success needs attestations; groups need checks
//	create_notes = true       # create notes that do not exist
//	form = "simple-signing"   # or "jwt" or "dsse", for PEM keys and those of Cloud KMS
//	unscored = "fail"         # or the severity unscored vulnerabilities count as
//	scan_wait = 50            # seconds to wait for a scan; 0 not to wait
//	platforms = []            # of multi-platform images; none means all
//	metadata_projects = []    # what the checks read, instead of binauth_project
//	                          # and the image's Google Cloud project
//
//	[gatehouse.keys.diy]      # the key that signs for the check diy
//	file = "diy.key"          # PEM or OpenPGP, beside the configuration file
//	algorithm = ""            # for PEM: such as "ECDSA_P256_SHA256"
//	id = ""                   # for PEM: the key id
//	passphrase_file = ""      # for OpenPGP
//
//	[gatehouse.trusted_keys.diy.old]  # a public key that Verify believes too
//	file = "diy-2024.pub"
//	algorithm = "ECDSA_P256_SHA256"
//
// The configuration is validated whole, and the error lists all that is wrong,
// with lines. A key that no one knows, and one of Voucher's that Gatehouse
// does nothing with, is a warning.
func LoadVoucherConfig(file string) (*Config, []Warning, error) {
	data, err := bounded.ReadFile(file, maxFile)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return ParseVoucherConfig(file, data)
}

// ParseVoucherConfig is [LoadVoucherConfig] of what is in the file.
func ParseVoucherConfig(file string, data []byte) (*Config, []Warning, error) {
	doc, root, err := parseDocument(file, data)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the configuration: %w", err)
	}
	c := &Config{
		DryRun:          root.flag("dryrun", false),
		Project:         root.text("binauth_project"),
		FailOn:          root.text("failon"),
		ValidRepos:      root.texts("valid_repos"),
		TrustedBuilders: root.texts("trusted_builder_identities"),
		TrustedProjects: root.texts("trusted_projects"),
	}
	readWords(root)
	readServer(root, c)
	readMetadata(root, c)
	readGroups(root, c)
	readGatehouse(root, c)
	readRepositories(root.table("repository"), root.table("gatehouse").table("repository"), c)
	readLater(root)
	root.finish()
	wrong := doc.problems
	if len(wrong) == 0 {
		// What was refused has its zero value, which would be reported again.
		wrong = doc.locate(c.problems())
	}
	if len(wrong) > 0 {
		return nil, doc.warnings, fmt.Errorf("reading the configuration: %w", errors.Join(wrong...))
	}
	return c, doc.warnings, nil
}

// readWords reads the keys that are one of some words.
func readWords(root *section) {
	switch s := root.text("scanner"); s {
	case "", "metadata":
	case "gca", "g":
		root.warn("scanner", "%q is an old name of \"metadata\"", s)
	default:
		root.problem("scanner", "%q is not a scanner; the one there is reads what scanners have filed: \"metadata\"", s)
	}
	switch s := root.text("signer"); s {
	case "", "pgp":
	case "kms":
		root.warn("signer", "%q has no effect yet: keys are read from files, see gatehouse.keys", s)
	default:
		root.problem("signer", "%q is not a signer: want \"pgp\"", s)
	}
	if ours, _ := root.values["gatehouse"].(map[string]any); !root.has("failon") && ours["snakeoil"] == nil {
		root.doc.warn(nil, "failon is not set, and so the check snakeoil is not active")
	}
}

func readServer(root *section, c *Config) {
	s := root.table("server")
	c.Server = ServerConfig{
		Port:         s.number("port", DefaultPort, 1, 65535),
		Timeout:      time.Duration(s.number("timeout", int(DefaultTimeout/time.Second), 1, maxTimeout)) * time.Second,
		RequireAuth:  s.flag("require_auth", false),
		Username:     s.text("username"),
		PasswordHash: s.text("password"),
	}
	s.finish()
}

func readMetadata(root *section, c *Config) {
	switch s := root.text("metadata_client"); s {
	case "grafeasos", "":
	case "containeranalysis":
		root.warn("metadata_client", "%q has no effect yet: Gatehouse's own metadata is used, or what grafeasos.hostname names", s)
	default:
		root.problem("metadata_client", "%q is not a metadata client: want \"grafeasos\"", s)
	}
	s := root.table("grafeasos")
	c.GrafeasHostname = s.text("hostname")
	for _, key := range []string{"version", "vul_project", "vuln_project"} {
		if s.has(key) {
			s.warn(key, "has no effect and is not needed")
		}
	}
	s.finish()
}

func readGroups(root *section, c *Config) {
	c.Groups = map[string][]string{AllGroup: readGroup(root.table("checks"))}
	required := root.table("required")
	for _, name := range required.keys() {
		if err := check.ValidateName(name); err != nil {
			required.problem(name, "%v", err)
			continue
		}
		c.Groups[name] = readGroup(required.table(name))
	}
}

func readGroup(s *section) []string {
	names := []string{}
	for _, name := range s.keys() {
		if !s.flag(name, false) {
			continue
		}
		names = append(names, name)
	}
	return names
}

func readGatehouse(root *section, c *Config) {
	s := root.table("gatehouse")
	c.Strict = s.flag("strict", false)
	c.CreateNotes = s.flag("create_notes", true)
	c.Form = s.text("form")
	c.Unscored = s.text("unscored")
	c.Platforms = s.texts("platforms")
	c.MetadataProjects = s.texts("metadata_projects")
	c.ScanWait = time.Duration(s.number("scan_wait", int(snakeoil.DefaultMaxWait/time.Second), 0, maxTimeout)) * time.Second
	if c.ScanWait == 0 {
		c.ScanWait = -1 // not to wait, as zero of a Config means the default
	}
	readChecks(s, c)
	_ = s.table("repository") // readRepositories does
	c.Keys = map[string]KeyFile{}
	keys := s.table("keys")
	for _, name := range keys.keys() {
		c.Keys[name] = readKey(keys.table(name), true)
	}
	c.TrustedKeys = map[string][]KeyFile{}
	trusted := s.table("trusted_keys")
	for _, name := range trusted.keys() {
		labels := trusted.table(name)
		for _, label := range labels.keys() {
			c.TrustedKeys[name] = append(c.TrustedKeys[name], readKey(labels.table(label), false))
		}
	}
	s.finish()
}

// beside returns the file that a key names, which is found from the folder of the
// configuration.
func (s *section) beside(key string) string {
	file := s.text(key)
	if file == "" || filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(filepath.Dir(s.doc.file), file)
}

func readKey(s *section, private bool) KeyFile {
	k := KeyFile{File: s.beside("file"), Algorithm: s.text("algorithm"), ID: s.text("id")}
	if private {
		k.PassphraseFile = s.beside("passphrase_file")
	}
	s.finish()
	return k
}

// readLater knows Voucher's keys that are about what Gatehouse does not do.
func readLater(root *section) {
	for _, key := range []string{"ejson", "sops", "repositories", "kms_keys", "metrics", "statsd", "opentelemetry", "pubsub", "containeranalysis"} {
		if root.has(key) {
			root.warn(key, "has no effect yet")
		}
	}
	if root.has("image_project") {
		root.warn("image_project", "has no effect, as in Voucher")
	}
	if root.has("clair") {
		root.warn("clair", "has no effect: Clair is not supported")
	}
}

// locate puts the place in front of the problems of a configuration.
func (d *document) locate(wrong problems) []error {
	located := make([]error, 0, len(wrong))
	for _, err := range wrong {
		var p problem
		if errors.As(err, &p) {
			err = fmt.Errorf("%s: %w", d.place(p.key), err)
		}
		located = append(located, err)
	}
	return located
}
