package identity

import (
	"errors"
	"fmt"
	"math"
)

// Config is the section "identity" of the server's configuration. The zero Config
// asks nobody who they are.
type Config struct {
	// MTLS accepts client certificates, verified against metadata.tls.clientCAFile.
	// While no other method is configured, every connection must have one.
	MTLS bool `yaml:"mtls"`
	// BearerTokensFile has the hash of each caller's token. It is watched.
	BearerTokensFile string `yaml:"bearerTokensFile"`
	// BasicUsersFile has users and the bcrypt hashes of their passwords. It is
	// watched.
	BasicUsersFile string `yaml:"basicUsersFile"`
	// Kubernetes takes tokens of service accounts.
	Kubernetes KubernetesConfig `yaml:"kubernetes"`
	// Rules say what callers may do. What none gives is refused.
	Rules []Rule `yaml:"rules"`
	// RequestsPerSecond is how often each caller may ask, and each remote address
	// while callers are not asked who they are. 0 means as often as they like.
	RequestsPerSecond float64 `yaml:"requestsPerSecond"`
	// Burst is how many requests may come at once. Default RequestsPerSecond,
	// rounded up.
	Burst int `yaml:"burst"`
}

// Enabled reports whether callers have to prove who they are.
func (c Config) Enabled() bool { return c.MTLS || c.Secrets() }

// Secrets reports whether callers send secrets, which need TLS on a network.
func (c Config) Secrets() bool {
	return c.BearerTokensFile != "" || c.BasicUsersFile != "" || c.Kubernetes.Enabled
}

// Validate returns everything that is wrong with c. It reads no file.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch {
	case c.Enabled() && len(c.Rules) == 0:
		bad(`identity: callers are asked who they are and no rules say what they may do: add rules, such as {caller: "ci@shop", project: "shop", roles: [occurrences.editor, notes.attacher]}`)
	case !c.Enabled() && len(c.Rules) > 0:
		bad("identity: there are rules and no way to tell callers: give bearerTokensFile, basicUsersFile, kubernetes or mtls: true")
	}
	if err := c.Kubernetes.validate(); err != nil {
		errs = append(errs, err)
	}
	if _, err := compileRules(c.Rules, nil); err != nil {
		errs = append(errs, err)
	}
	const fewest, mostPerSecond = 0.01, 1e6
	switch rate := c.RequestsPerSecond; {
	case math.IsNaN(rate) || rate < 0 || rate > 0 && rate < fewest || rate > mostPerSecond:
		bad("identity: requestsPerSecond %g: want 0 (no limit), or a number from %g to %g", rate, fewest, mostPerSecond)
	case rate == 0 && c.Burst != 0:
		bad("identity: burst %d without requestsPerSecond limits nothing: give both or neither", c.Burst)
	case c.Burst < 0 || c.Burst > mostPerSecond:
		bad("identity: burst %d: want a number from 1 to %g", c.Burst, mostPerSecond)
	}
	return errors.Join(errs...)
}

func (c Config) burst() int {
	if c.Burst > 0 {
		return c.Burst
	}
	return max(1, int(math.Ceil(c.RequestsPerSecond)))
}
