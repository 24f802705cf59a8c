// Package sink has the places that audit records are handed on to: files, collectors of
// OpenTelemetry logs, syslog, and Kubernetes Events; and their configuration. Package
// deliver brings them there.
//
// Names and reasons in records were chosen by strangers. A record stays one line, and one
// record, wherever it arrives: in JSON what is not to be seen is escaped, in syslog all
// that is not ASCII is too, and Events get plain text.
package sink

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit/deliver"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
)

// A Config is one sink. Exactly one of its kinds is given.
type Config struct {
	Name string `yaml:"name"`
	// Records are of the logs that the sink gets: decisions, calls, runs. Default: all that
	// the filters below leave.
	Records []deliver.Log `yaml:"records"`
	// Verdicts, OnlyBreakGlass and Namespaces select decisions, and with one of them the
	// sink gets nothing else. Namespaces are names, in which * stands for any text.
	Verdicts       []string `yaml:"verdicts"`
	OnlyBreakGlass bool     `yaml:"onlyBreakGlass"`
	Namespaces     []string `yaml:"namespaces"`
	// From is where a new sink begins: "beginning" of the logs (default), or "now".
	From string `yaml:"from"`
	// Timeout ends a try. Default 10s.
	Timeout time.Duration `yaml:"timeout"`

	File             *File             `yaml:"file"`
	OTLP             *OTLP             `yaml:"otlp"`
	Syslog           *Syslog           `yaml:"syslog"`
	KubernetesEvents *KubernetesEvents `yaml:"kubernetesEvents"`
}

const (
	fromBeginning = "beginning"
	fromNow       = "now"

	maxName    = 40
	maxTimeout = 5 * time.Minute
	// maxSecret and maxCA bound files that are named, in bytes.
	maxSecret = 16 << 10
	maxCA     = 1 << 20
)

// Options are what sinks need beside their configuration.
type Options struct {
	Place Place
	// Stdout is standard output, for a file called "-".
	Stdout io.Writer
	Now    func() time.Time
	Logger *slog.Logger
}

// kind is one of the places.
type kind interface {
	validate() error
	// format is how records are written there, "" if that cannot be chosen.
	format() Format
	// open reads the files that are named. Nobody is called yet.
	open(o Options) (deliver.Sink, error)
}

// kinds are those that are given, by their names in the configuration.
func (c *Config) kinds() map[string]kind {
	given := map[string]kind{}
	if c.File != nil {
		given["file"] = c.File
	}
	if c.OTLP != nil {
		given["otlp"] = c.OTLP
	}
	if c.Syslog != nil {
		given["syslog"] = c.Syslog
	}
	if c.KubernetesEvents != nil {
		given["kubernetesEvents"] = c.KubernetesEvents
	}
	return given
}

// Kind is what the sink is, such as "syslog"; "" if that is not one thing.
func (c *Config) Kind() string {
	given := c.kinds()
	if len(given) != 1 {
		return ""
	}
	for name := range given {
		return name
	}
	return ""
}

// Validate returns all that is wrong with sinks.
func Validate(all []Config) error {
	var errs []error
	var names []string
	for i := range all {
		c := &all[i]
		if slices.Contains(names, c.Name) {
			errs = append(errs, fmt.Errorf("audit.sinks: there are two called %q", c.Name))
		}
		names = append(names, c.Name)
		if err := c.validate(); err != nil {
			errs = append(errs, fmt.Errorf("audit.sinks: %q: %w", c.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (c *Config) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Name == "" || len(c.Name) > maxName || strings.Trim(c.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		bad("name: want 1 to %d lower case letters, digits and -", maxName)
	}
	for _, log := range c.Records {
		if !slices.Contains(deliver.Logs(), log) {
			bad("records: %q: want some of %v", log, deliver.Logs())
		}
	}
	for _, v := range c.Verdicts {
		if new(decide.Verdict).UnmarshalText([]byte(v)) != nil {
			bad("verdicts: %q: want ALLOW, DENY or INDETERMINATE", v)
		}
	}
	for _, n := range c.Namespaces {
		if _, err := path.Match(n, ""); err != nil || n == "" {
			bad("namespaces: %q: want a name, in which * stands for any text", n)
		}
	}
	if filter := c.Filter(); filter.AboutDecisions() && slices.ContainsFunc(c.Records, func(l deliver.Log) bool { return l != deliver.Decisions }) {
		bad("records: verdicts, onlyBreakGlass and namespaces select decisions: leave the others out, or make them a sink of their own")
	}
	if c.From != "" && c.From != fromBeginning && c.From != fromNow {
		bad("from %q: want %q or %q", c.From, fromBeginning, fromNow)
	}
	if c.Timeout < 0 || c.Timeout > maxTimeout {
		bad("timeout %s: want a time of at most %s", c.Timeout, maxTimeout)
	}
	given := c.kinds()
	if len(given) != 1 {
		bad("give exactly one of file, otlp, syslog and kubernetesEvents")
	}
	for name, k := range given {
		if err := k.validate(); err != nil {
			bad("%s: %w", name, err)
		}
		switch format := k.format(); {
		case !format.known():
			bad("%s: format %q: want %q or %q", name, format, Gatehouse, Google)
		case format == Google && slices.ContainsFunc(c.Records, func(l deliver.Log) bool { return l != deliver.Decisions }):
			bad("%s: format %q has decisions only: leave the other records out", name, format)
		}
	}
	return errors.Join(errs...)
}

// Filter selects the records that the sink gets.
func (c *Config) Filter() deliver.Filter {
	f := deliver.Filter{Logs: c.Records, Verdicts: c.Verdicts, OnlyBreakGlass: c.OnlyBreakGlass, Namespaces: c.Namespaces}
	for _, k := range c.kinds() {
		if _, events := k.(*KubernetesEvents); len(f.Logs) == 0 && (events || k.format() == Google) {
			f.Logs = []deliver.Log{deliver.Decisions}
		}
	}
	return f
}

// FromNow reports whether a new sink leaves out what is there already.
func (c *Config) FromNow() bool { return c.From == fromNow }

// Open returns the sink. Nobody is called yet.
func (c *Config) Open(o Options) (deliver.Sink, error) {
	for name, k := range c.kinds() {
		s, err := k.open(o)
		if err != nil {
			return nil, fmt.Errorf("audit.sinks: %q: %s: %w", c.Name, name, err)
		}
		return s, nil
	}
	return nil, fmt.Errorf("audit.sinks: %q is of no kind", c.Name)
}

// TLS is how a peer proves who it is, and Gatehouse to it.
type TLS struct {
	// CAFile has the certificates that the peer's is issued by; those of the system if it
	// is empty.
	CAFile string `yaml:"caFile"`
	// CertFile and KeyFile are a client certificate. They are read for each connection.
	CertFile string `yaml:"certFile"`
	KeyFile  string `yaml:"keyFile"`
}

func (t TLS) validate() error {
	if (t.CertFile == "") != (t.KeyFile == "") {
		return errors.New("certFile and keyFile: give both or neither")
	}
	return nil
}

func (t TLS) config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CertFile != "" {
		if _, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile); err != nil {
			return nil, fmt.Errorf("reading the client certificate: %w", err)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
			return &pair, err
		}
	}
	if t.CAFile == "" {
		return config, nil
	}
	pem, err := bounded.ReadFile(t.CAFile, maxCA)
	if err != nil {
		return nil, fmt.Errorf("reading caFile: %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading caFile: there is no certificate in %s", t.CAFile)
	}
	return config, nil
}

// onLoopback reports whether a host is this machine.
func onLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
