package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/attest/kritissigner"
	"github.com/gatehouse-dev/gatehouse/identity"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/internal/strictyaml"
	"github.com/gatehouse-dev/gatehouse/notify/pager"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
)

// Config is everything that a server is told. Its YAML form is the file given
// with --config; each field's comment is its manual.
type Config struct {
	// Data is the folder for everything that is kept: the store, the audit log,
	// the CA and keys. Required. One server at a time may use it.
	Data string `yaml:"data"`
	// Role is the part to run: "" is all of them; "admission" the gate alone, which
	// follows the metadata service that Admission.Feed names, and needs no store and no
	// keys; "attestor" the attestor alone, which files with the metadata server that its
	// own configuration names; "controller" what keeps a Kubernetes cluster and the
	// metadata service together, and alone writes there.
	Role Role `yaml:"role"`
	// Project is the project whose policy this gate enforces and whose notes the
	// attestor writes. Default "default".
	Project string `yaml:"project"`
	// Cluster is LOCATION.NAME of the cluster whose reviews are answered; cluster
	// admission rules are chosen by it.
	Cluster string `yaml:"cluster"`
	// IstioTrustDomain is the trust domain of the cluster's mesh, which Istio
	// identities begin with; rules for Istio identities need it.
	IstioTrustDomain string `yaml:"istioTrustDomain"`
	// InsecureNoAuth allows listeners that do not authenticate their callers on
	// other addresses than loopback.
	InsecureNoAuth bool `yaml:"insecureNoAuth"`

	Store     StoreConfig     `yaml:"store"`
	Metadata  MetadataConfig  `yaml:"metadata"`
	Identity  identity.Config `yaml:"identity"`
	Attestor  AttestorConfig  `yaml:"attestor"`
	Admission AdmissionConfig `yaml:"admission"`
	Ops       OpsConfig       `yaml:"ops"`

	// Audit says how the record is kept.
	Audit        AuditConfig        `yaml:"audit"`
	BreakGlass   BreakGlassConfig   `yaml:"breakGlass"`
	KritisSigner KritisSignerConfig `yaml:"kritisSigner"`
	Mutate       MutateConfig       `yaml:"mutate"`
	Controller   ControllerConfig   `yaml:"controller"`
	// Registry is how registries are reached, by the attestor's checks.
	Registry resolve.Settings `yaml:"registry"`
	// Tracing says where OpenTelemetry traces go.
	Tracing TracingConfig `yaml:"tracing"`
	// Notify says who is told of what must not stay unnoticed.
	Notify pager.Config `yaml:"notify"`
}

// MetadataConfig is the Grafeas API.
type MetadataConfig struct {
	// Address to listen on: HOST:PORT, or unix:///path, a socket that only the
	// server's user can connect to. Default 127.0.0.1:8080; port 0 picks a free one.
	Address string `yaml:"address"`
	// TLS, with HTTP/1.1 and HTTP/2 on the one port.
	TLS TLSConfig `yaml:"tls"`
}

// TLSConfig is the TLS of the metadata listener; the zero TLSConfig is none.
type TLSConfig struct {
	// CertFile and KeyFile are the serving certificate, watched for changes.
	CertFile string `yaml:"certFile"`
	KeyFile  string `yaml:"keyFile"`
	// ClientCAFile has the certificates that client certificates are issued by;
	// identity.mtls needs it.
	ClientCAFile string `yaml:"clientCAFile"`
}

// AttestorConfig is Voucher's API, and ours beside it.
type AttestorConfig struct {
	// Address to listen on. Default 127.0.0.1, at the port that ConfigFile names
	// ([server] port) or 8000; all addresses when the role is attestor and callers have
	// to log in.
	Address string `yaml:"address"`
	// ConfigFile is a configuration file of Voucher's (TOML, YAML or JSON), watched for
	// changes. Without it the attestor runs the checks nobody and snakeoil, and signs
	// with a development key made at first start.
	ConfigFile string `yaml:"configFile"`
	// Port and Timeout are used in place of those of ConfigFile, unless they are 0: the
	// flags of voucher_server.
	Port    int           `yaml:"-"`
	Timeout time.Duration `yaml:"-"`
}

// AdmissionConfig is the webhook.
type AdmissionConfig struct {
	// Address to listen on, with TLS. Default 127.0.0.1:8443.
	Address string `yaml:"address"`
	// PolicyFiles are policies (YAML or JSON): Binary Authorization's, platform
	// policies, objects of Kritis. All of them must allow. They are watched. Without
	// any those that are stored for Project count, and without those the gate lets
	// everything in, says so, and records it.
	PolicyFiles []string `yaml:"policyFiles"`
	// AttestorsFiles are lists of Binary Authorization attestors; they are watched.
	// Without any the attestors are those that are stored, and those that the
	// development attestor signs for.
	AttestorsFiles []string `yaml:"attestorsFiles"`
	// BuildersFiles say whose provenance platform policies may trust; they are watched.
	BuildersFiles []string `yaml:"buildersFiles"`
	// HintSignersFiles say whose rollout hints count, and what is required by them; they
	// are watched.
	HintSignersFiles []string `yaml:"hintSignersFiles"`
	// MatchRepository demands of attestations for Binary Authorization policies that
	// they name the repository of the image, as Kritis does; the digest alone does
	// otherwise, as in Binary Authorization.
	MatchRepository bool `yaml:"matchRepository"`
	// PlatformDryRun records what platform policies deny, and lets it in.
	PlatformDryRun bool `yaml:"platformDryRun"`
	// ClusterObjects has objects of the cluster count, those that are filed for its name,
	// beside whatever else is in force: all must allow. Default true.
	ClusterObjects bool `yaml:"clusterObjects"`
	// Kritis says what objects of Kritis mean, in the words of
	// [bundle.KritisOptions].
	Kritis []string `yaml:"kritis"`
	// SystemPolicyFile is used in place of the built-in system policy, which is what
	// globalPolicyEvaluationMode puts before a policy's own; it is watched.
	SystemPolicyFile string `yaml:"systemPolicyFile"`
	// Templates says what happens to a workload whose pods would be refused:
	// "deny" (default) refuses it at once, "warn" lets it in with a warning.
	Templates admission.TemplateMode `yaml:"templates"`
	// Resources are custom resources whose images are reviewed, besides pods and the
	// workload kinds.
	Resources []admission.Resource `yaml:"resources"`
	// MaxConnections and MaxRequests bound what is served at the same time; a client
	// address may have as many as are left free. Default 4096 and 1024.
	MaxConnections int `yaml:"maxConnections"`
	MaxRequests    int `yaml:"maxRequests"`
	// MaxStatements bounds the statements that are kept in memory; 0 is no bound.
	MaxStatements int `yaml:"maxStatements"`
	// CertFile and KeyFile are the serving certificate, watched for changes. Without them
	// a CA of the server's own issues one, and looks after itself.
	CertFile string `yaml:"certFile"`
	KeyFile  string `yaml:"keyFile"`
	// CADir is the folder of that CA, which several gates may share. Default: tls in Data.
	CADir string `yaml:"caDir"`
	// Hosts are further names and addresses that a certificate of that CA is for.
	Hosts []string `yaml:"hosts"`
	// DrainDelay is how long the gate goes on to answer after it was told to stop, while
	// it says that it is not ready: whoever sends it requests has to notice.
	DrainDelay time.Duration `yaml:"drainDelay"`
	// DrainTimeout is how long after that connections may stay open on which nobody asks.
	// An API server closes them after 90 s; to do it for it could fail the request that it
	// has just sent. Without DrainDelay they are closed at once. Default 100s.
	DrainTimeout time.Duration `yaml:"drainTimeout"`
	// Feed is the metadata service of a gate that runs alone, and of a controller.
	Feed FeedConfig `yaml:"feed"`
}

// FeedConfig is how a gate reaches its metadata service.
type FeedConfig struct {
	// Server is https://HOST:PORT, or unix:///path, or http://HOST:PORT on loopback.
	Server string `yaml:"server"`
	// CAFile has the certificates that the server's is issued by; those of the system if
	// it is empty. It is read for each connection.
	CAFile string `yaml:"caFile"`
	// CertFile and KeyFile are the client certificate; they are watched. TokenFile has a
	// bearer token, and is read for each call. Either says who this gate is.
	CertFile  string `yaml:"certFile"`
	KeyFile   string `yaml:"keyFile"`
	TokenFile string `yaml:"tokenFile"`
	// Gate is what the server calls this gate. Default: the name of the machine.
	Gate string `yaml:"gate"`
	// CopyInterval is how often the copy on the local disk is replaced, if there is
	// something new. Default 30s.
	CopyInterval time.Duration `yaml:"copyInterval"`
	// MaxSilence is how long decisions rest on what is in memory, or in the copy, after
	// the service was last heard; 0 is as long as it takes.
	MaxSilence time.Duration `yaml:"maxSilence"`
}

// A Role is the part of Gatehouse that a server runs.
type Role string

// The roles.
const (
	AllRoles       Role = ""
	AdmissionRole  Role = "admission"
	MutateRole     Role = "mutate"
	AttestorRole   Role = "attestor"
	ControllerRole Role = "controller"
)

// OpsConfig is health, metrics and profiles.
type OpsConfig struct {
	// Address to listen on. Default 127.0.0.1:9090.
	Address string `yaml:"address"`
	// InsecureNoAuth lets whoever reaches another address than loopback ask for health and
	// metrics, as kubelets and Prometheus have to. There are no profiles there.
	InsecureNoAuth bool `yaml:"insecureNoAuth"`
}

// DefaultConfig returns the configuration of a server that is told nothing.
func DefaultConfig() Config {
	return Config{
		Project:  "default",
		Metadata: MetadataConfig{Address: "127.0.0.1:8080"},
		Identity: identity.Config{Kubernetes: identity.DefaultKubernetes()},
		Admission: AdmissionConfig{
			Address: "127.0.0.1:8443", ClusterObjects: true, Templates: admission.DenyTemplates,
			DrainTimeout: defaultDrainTimeout, MaxConnections: defaultMaxConnections, MaxRequests: admission.DefaultMaxRequests,
			MaxStatements: defaultMaxStatements,
			Feed:          FeedConfig{CopyInterval: defaultCopyInterval},
		},
		Mutate:       MutateConfig{Pin: admission.PinPods},
		Controller:   defaultController(),
		Ops:          OpsConfig{Address: "127.0.0.1:9090"},
		Audit:        defaultAudit(),
		Tracing:      TracingConfig{Protocol: grpcProtocol, Ratio: defaultTracingRatio},
		BreakGlass:   defaultBreakGlass(),
		KritisSigner: KritisSignerConfig{VulnzTimeout: kritissigner.DefaultTimeout},
		Notify:       pager.DefaultConfig(),
	}
}

// maxConfig bounds a configuration file.
const maxConfig = 1 << 20

// LoadFile overlays c with the file at path. A field that Config does not have
// is an error that names its line.
func (c *Config) LoadFile(path string) error {
	data, err := bounded.ReadFile(path, maxConfig)
	if err != nil {
		return fmt.Errorf("reading configuration: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading configuration: %w; docs/gatehouse.yaml has every setting", strictyaml.Explain(path, err, c))
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading configuration %s: more than one YAML document", path)
	}
	return nil
}

// Validate returns everything that is wrong with c.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Role == AttestorRole {
		return c.validateAttestorAlone()
	}
	if c.Data == "" {
		bad("no data folder: give --data DIR")
	}
	if c.Project == "" || strings.ContainsAny(c.Project, "/ \t\r\n") {
		bad("project %q: want a project id, such as \"default\"", c.Project)
	}
	if c.Cluster != "" {
		if err := binauthz.CheckCluster(c.Cluster); err != nil {
			bad("cluster %q: %w", c.Cluster, err)
		}
	}
	if c.IstioTrustDomain != "" {
		if err := binauthz.CheckTrustDomain(c.IstioTrustDomain); err != nil {
			bad("istioTrustDomain %q: %w", c.IstioTrustDomain, err)
		}
	}
	errs = append(errs,
		c.validateRole(),
		c.Store.validate(),
		c.validateMetadataAddress(),
		c.validateTLS(),
		c.Identity.Validate(),
		c.validateAddress("admission", c.Admission.Address, true),
		c.validateAddress("ops", c.Ops.Address, c.Ops.InsecureNoAuth),
		c.validateKritisSigner(),
		c.Audit.validate(c.Data),
		c.BreakGlass.validate(),
		c.Tracing.validate(),
		c.Notify.Validate(),
	)
	if c.Attestor.Address != "" {
		// Whether it authenticates is known when its own configuration is read.
		errs = append(errs, c.validateAddress("attestor", c.Attestor.Address, c.Attestor.ConfigFile != ""))
	}
	switch c.Admission.Templates {
	case admission.DenyTemplates, admission.WarnTemplates:
	default:
		bad("admission templates %q: want %q or %q", c.Admission.Templates, admission.DenyTemplates, admission.WarnTemplates)
	}
	if _, err := admission.NewResources(c.Admission.Resources); err != nil {
		bad("admission: %w", err)
	}
	if c.Admission.MaxConnections < 2 || c.Admission.MaxRequests < 2 {
		bad("admission maxConnections and maxRequests: want at least 2, of which a client may have half")
	}
	errs = append(errs, c.Mutate.validate(), c.Controller.validate(c.InsecureNoAuth))
	if n := c.Admission.MaxStatements; n != 0 && n < minStatements {
		bad("admission maxStatements %d: want 0 or at least %d", n, minStatements)
	}
	if (c.Admission.CertFile == "") != (c.Admission.KeyFile == "") {
		bad("admission certFile and keyFile: give both or neither")
	}
	if c.Admission.DrainDelay < 0 || c.Admission.DrainTimeout < 0 {
		bad("admission.drainDelay and admission.drainTimeout are times, such as 10s")
	}
	if c.Admission.CertFile != "" && c.Admission.CADir != "" {
		bad("admission certFile and caDir: with a certificate there is no CA; leave one of them out")
	}
	return errors.Join(errs...)
}

// caDir is the folder of the CA of the server's own.
func (c *Config) caDir() string {
	if c.Admission.CADir != "" {
		return c.Admission.CADir
	}
	return CADir(c.Data)
}

// CADir is where a server keeps its CA unless it is told otherwise.
func CADir(data string) string { return filepath.Join(data, "tls") }

func (c *Config) place() admission.Place {
	return admission.Place{Cluster: c.Cluster, TrustDomain: c.IstioTrustDomain}
}

// validateAddress keeps listeners that serve whoever reaches them on loopback.
func (c *Config) validateAddress(name, addr string, guarded bool) error {
	if _, ok := unixPath(addr); ok { // SplitHostPort takes it for a host called unix
		return fmt.Errorf("%s address %q: want HOST:PORT; only the metadata API listens at sockets", name, addr)
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s address %q: want HOST:PORT: %w", name, addr, err)
	}
	if !guarded && !isLoopback(host) && !c.InsecureNoAuth {
		return fmt.Errorf("%s address %q is not on loopback and its callers are not authenticated: use 127.0.0.1, or --insecure-no-auth behind something that authenticates", name, addr)
	}
	return nil
}

// validateMetadataAddress lets authenticated callers in from anywhere, but not
// with secrets that everybody on the way can read.
func (c *Config) validateMetadataAddress() error {
	addr := c.Metadata.Address
	if path, ok := unixPath(addr); ok {
		if err := checkUnixPath(path); err != nil {
			return fmt.Errorf("metadata address: %w", err)
		}
		return nil
	}
	if err := c.validateAddress("metadata", addr, c.Identity.Enabled()); err != nil {
		return err
	}
	if host, _, err := net.SplitHostPort(addr); err == nil && !isLoopback(host) && c.Identity.Secrets() && c.Metadata.TLS.CertFile == "" && !c.InsecureNoAuth {
		return fmt.Errorf("metadata address %q is not on loopback, and tokens and passwords would be sent in the clear: give metadata.tls certFile and keyFile, or --insecure-no-auth behind something that speaks TLS", addr)
	}
	return nil
}

// isLoopback is false for an empty host, which listens everywhere.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
