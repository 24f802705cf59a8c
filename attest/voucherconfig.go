package attest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/snakeoil"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
)

// maxTimeout is the longest server.timeout, in seconds: a day.
const maxTimeout = 24 * 60 * 60

// LoadVoucherConfig reads a configuration file of Voucher: TOML, YAML or JSON, as its
// name says. Beside Voucher's keys it knows those of a table of our own:
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
//	kms_endpoint = ""         # of Cloud KMS, where it is not Google's
//	requests_per_minute = 0   # of each caller, on the average; 0 is no limit
//	burst = 0                 # of each caller at once; 0 is a minute's
//	concurrent_per_caller = 0 # requests of one caller worked on; 0 is half of all
//
//	[gatehouse.callers.ci]    # a user beside server.username
//	password = "$2y$…"        # a bcrypt hash
//	may = []                  # checks and groups that he may ask for; none means all
//
//	[gatehouse.metadata]      # of an attestor that runs alone
//	server = "https://gatehouse:8080"
//	ca_file = ""              # and token_file, cert_file, key_file
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
	return LoadVoucherConfigOver(file, nil)
}

// LoadVoucherConfigOver is [LoadVoucherConfig] with what the environment says over what
// the file does, as in Voucher; each such key is a warning. See
// [Config.ApplyVoucherEnvironment] for what else it says.
func LoadVoucherConfigOver(file string, env Getenv) (*Config, []Warning, error) {
	data, err := bounded.ReadFile(file, maxFile)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return parseVoucherConfig(file, data, env)
}

// ParseVoucherConfig is [LoadVoucherConfig] of what is in the file.
func ParseVoucherConfig(file string, data []byte) (*Config, []Warning, error) {
	return parseVoucherConfig(file, data, nil)
}

// FindVoucherConfig returns the configuration file that Voucher reads when it is told
// none: config.toml, or another format, in /etc/voucher, HOME/.voucher, ./config or
// the working directory.
func FindVoucherConfig(home string) (string, error) {
	folders := []string{"/etc/voucher", filepath.Join(home, ".voucher"), "config", "."}
	for _, folder := range folders {
		for _, format := range []string{"json", "toml", "yaml", "yml"} {
			file := filepath.Join(folder, "config."+format)
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
				return file, nil
			}
		}
	}
	return "", fmt.Errorf("there is no configuration: give --config FILE, or put config.toml, config.yaml or config.json in one of %s", strings.Join(folders, ", "))
}

func parseVoucherConfig(file string, data []byte, env Getenv) (*Config, []Warning, error) {
	doc, root, err := parseDocument(file, data, env)
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
	readWords(root, c)
	readServer(root, c)
	readMetadata(root, c)
	readSecrets(root, c)
	readKMSKeys(root, c)
	readGroups(root, c)
	readGatehouse(root, c)
	readRepositories(root.table("repository"), root.table("gatehouse").table("repository"), c)
	readLater(root)
	root.finish()
	if env != nil {
		c.ApplyVoucherEnvironment(env)
	}
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
func readWords(root *section, c *Config) {
	switch s := root.text("scanner"); s {
	case "", "metadata":
	case "gca", "g":
		root.warn("scanner", "%q is an old name of \"metadata\"", s)
	case "clair", "c":
		root.problem("scanner", "%q: Clair is not supported; have a scanner file what it finds, and write \"metadata\"", s)
	default:
		root.problem("scanner", "%q is not a scanner; the one there is reads what scanners have filed: \"metadata\"", s)
	}
	switch s := root.text("signer"); s {
	case "", SignerPGP:
		c.Signer = SignerPGP
	case SignerKMS:
		c.Signer = SignerKMS
	default:
		root.problem("signer", "%q is not a signer: want \"pgp\" or \"kms\"", s)
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
	case "", ClientContainerAnalysis, ClientGrafeasOS:
		c.Grafeas.Client = s
	default: // Voucher takes what it does not know for the default
		root.problem("metadata_client", "%q is not a metadata client: want %q or %q", s, ClientContainerAnalysis, ClientGrafeasOS)
	}
	google := root.table("containeranalysis")
	c.BuildProject = google.text("build_detail_fallback_project")
	google.finish()
	s := root.table("grafeasos")
	c.Grafeas.Hostname, c.Grafeas.Version = s.text("hostname"), s.text("version")
	for _, key := range []string{"vul_project", "vuln_project"} {
		if s.has(key) {
			s.warn(key, "has no effect and is not needed: vulnerabilities are called by the last part of their note's name")
		}
	}
	s.finish()
	if c.Grafeas.Client == ClientGrafeasOS && c.Grafeas.Hostname == "" {
		root.warn("metadata_client", "%q needs grafeasos.hostname, unless the attestor runs with its own metadata service", ClientGrafeasOS)
	}
}

// readSecrets reads where the secrets are. Their files are found from the working
// directory, as Voucher finds them.
func readSecrets(root *section, c *Config) {
	ejson := root.table("ejson")
	c.Secrets.EJSONKeyDir, c.Secrets.EJSONFile = ejson.text("dir"), ejson.text("secrets")
	ejson.finish()
	sops := root.table("sops")
	c.Secrets.SOPSFile = sops.text("file")
	sops.finish()
	switch {
	case (c.Secrets.EJSONKeyDir == "") != (c.Secrets.EJSONFile == ""):
		root.warn("ejson", "has no effect: it takes both dir, the folder of the keys, and secrets, the file")
		c.Secrets.EJSONKeyDir, c.Secrets.EJSONFile = "", ""
	case c.Secrets.EJSONFile != "" && c.Secrets.SOPSFile != "":
		root.warn("sops", "has no effect, as ejson is used")
		c.Secrets.SOPSFile = ""
	}
}

func readKMSKeys(root *section, c *Config) {
	for _, s := range root.tables("kms_keys") {
		k := KMSKey{Check: strings.ToLower(s.text("check")), Path: s.text("path"), Algorithm: s.text("algo")}
		s.finish()
		c.KMSKeys = append(c.KMSKeys, k)
	}
	if len(c.KMSKeys) > 0 && c.Signer != SignerKMS {
		root.warn("kms_keys", "has no effect: signer is not \"kms\"")
	}
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
	const many = 1_000_000
	c.Server.RequestsPerMinute = s.number("requests_per_minute", 0, 0, many)
	c.Server.Burst = s.number("burst", 0, 0, many)
	c.Server.ConcurrentPerCaller = s.number("concurrent_per_caller", 0, 0, many)
	callers := s.table("callers")
	for _, name := range callers.keys() {
		caller := callers.table(name)
		if c.Server.Callers == nil {
			c.Server.Callers = map[string]CallerConfig{}
		}
		c.Server.Callers[name] = CallerConfig{PasswordHash: caller.text("password"), May: caller.texts("may")}
		caller.finish()
	}
	c.KMSEndpoint = s.text("kms_endpoint")
	readServerOfMetadata(s.table("metadata"), c)
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

func readServerOfMetadata(s *section, c *Config) {
	g := &c.Grafeas
	g.Server, g.CAFile, g.TokenFile = s.text("server"), s.beside("ca_file"), s.beside("token_file")
	g.CertFile, g.KeyFile = s.beside("cert_file"), s.beside("key_file")
	if (g.CertFile == "") != (g.KeyFile == "") {
		s.problem("cert_file", "cert_file and key_file: give both or neither")
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

// readLater knows Voucher's keys that are about what Gatehouse does otherwise.
func readLater(root *section) {
	for _, key := range []string{"repositories"} {
		if root.has(key) {
			root.warn(key, "has no effect yet")
		}
	}
	for _, key := range []string{"metrics", "statsd", "opentelemetry"} {
		if root.has(key) {
			root.warn(key, "has no effect: metrics are for Prometheus, under /metrics of the ops address")
		}
	}
	if root.has("pubsub") {
		root.warn("pubsub", "has no effect: there is no subscriber")
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
