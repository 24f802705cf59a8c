package imageverifier

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/internal/strictyaml"
)

// A Config says how a node finds out. docs/image-verifier.md has its YAML form.
type Config struct {
	// Gates are asked in order, until one answers.
	Gates []Gate `yaml:"gates"`
	// Copy is what is decided by when no gate answers.
	Copy Copy `yaml:"copy"`
	// Node is what this node is called in records. Default: the name of the machine.
	Node string `yaml:"node"`
	// UnknownNamespace says how a pull is judged of which the namespace is not known:
	// "anywhere" (default) by whether policy would let the image in somewhere, "nowhere" as
	// in a namespace that no rule names.
	UnknownNamespace Namespace `yaml:"unknownNamespace"`
	// OnUnavailable is what an image gets that nobody could judge: "deny" (default) or
	// "allow".
	OnUnavailable Fallback `yaml:"onUnavailable"`
	// Exempt are patterns, as in Binary Authorization's policies, of images that are pulled
	// without asking. Default: the sandbox image registry.k8s.io/pause:*, without which no
	// pod starts.
	Exempt []string `yaml:"exempt"`
	// BreakGlassFile has, a line each, the digest or the name of an image that is pulled
	// against policy, and why. Whoever may write it is root on the node.
	BreakGlassFile string `yaml:"breakGlassFile"`
	// AuditDir is where is recorded what was decided without a gate. Without it that is only
	// said on standard error.
	AuditDir string `yaml:"auditDir"`
	// Timeout bounds everything. Default 9s: containerd gives a verifier 10s, and then
	// fails without a reason.
	Timeout time.Duration `yaml:"timeout"`
}

// A Gate answers at POST URL/image-pull.
type Gate struct {
	// URL is https://HOST:PORT.
	URL string `yaml:"url"`
	// CAFile has what its certificate is issued by; by default the system's.
	CAFile string `yaml:"caFile"`
	// ServerName is the name in its certificate, if it is not the host in URL.
	ServerName string `yaml:"serverName"`
	// Timeout is how long it is waited for. Default 2s.
	Timeout time.Duration `yaml:"timeout"`
}

// A Copy is what a gate of the admission role keeps on this node's disk.
type Copy struct {
	// Config is the configuration file of that gate; "" is no copy.
	Config string `yaml:"config"`
	// MaxAge is how old the copy may be. Default 24h.
	MaxAge time.Duration `yaml:"maxAge"`
}

// A Namespace says how an unknown one is judged.
type Namespace string

// A Fallback is what an image gets that nobody could judge.
type Fallback string

// The words of a Config.
const (
	Anywhere Namespace = "anywhere"
	Nowhere  Namespace = "nowhere"

	Deny  Fallback = "deny"
	Allow Fallback = "allow"
)

const (
	maxConfig          = 256 << 10
	maxGates           = 10
	defaultTimeout     = 9 * time.Second
	defaultGateTimeout = 2 * time.Second
	defaultMaxAge      = 24 * time.Hour
)

// LoadConfig reads a configuration, strictly, and fills in what it leaves out.
func LoadConfig(path string) (Config, error) {
	data, err := bounded.ReadFile(path, maxConfig)
	if err != nil {
		return Config{}, fmt.Errorf("reading the configuration of the image verifier: %w", err)
	}
	c, err := parseConfig(data)
	if err != nil {
		return Config{}, fmt.Errorf("reading the configuration of the image verifier: %w", strictyaml.Explain(path, err, c))
	}
	return c, nil
}

func parseConfig(data []byte) (Config, error) {
	c := Config{
		UnknownNamespace: Anywhere, OnUnavailable: Deny, Timeout: defaultTimeout,
		Copy: Copy{MaxAge: defaultMaxAge}, Exempt: []string{"registry.k8s.io/pause:*"},
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return c, err
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return c, errors.New("it has more than one YAML document")
	}
	for i := range c.Gates {
		if c.Gates[i].Timeout == 0 {
			c.Gates[i].Timeout = defaultGateTimeout
		}
	}
	return c, c.validate()
}

func (c *Config) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Gates) == 0 && c.Copy.Config == "" {
		bad("give gates, or a copy, or both: otherwise nobody could judge anything")
	}
	if len(c.Gates) > maxGates {
		bad("%d gates, more than %d", len(c.Gates), maxGates)
	}
	for i, g := range c.Gates {
		if u, err := url.Parse(g.URL); err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			bad("gates[%d].url %q: want https://HOST:PORT", i, g.URL)
		}
		if g.Timeout < 0 {
			bad("gates[%d].timeout %v: want a time, such as 2s", i, g.Timeout)
		}
	}
	if c.UnknownNamespace != Anywhere && c.UnknownNamespace != Nowhere {
		bad("unknownNamespace %q: want %s or %s", c.UnknownNamespace, Anywhere, Nowhere)
	}
	if c.OnUnavailable != Deny && c.OnUnavailable != Allow {
		bad("onUnavailable %q: want %s or %s", c.OnUnavailable, Deny, Allow)
	}
	if c.Timeout <= 0 || c.Copy.MaxAge <= 0 {
		bad("timeout and copy.maxAge are times, such as 9s and 24h")
	}
	for _, text := range c.Exempt {
		if _, err := image.ParseBinauthzPattern(text); err != nil {
			bad("exempt: %w", err)
		}
	}
	return errors.Join(errs...)
}
