package attest

import (
	"errors"
	"fmt"

	"github.com/gatehouse-dev/gatehouse/internal/bounded"
)

// A ClientConfig is the configuration file of Voucher's client.
type ClientConfig struct {
	Server, Username, Password string
	Check, Auth                string
	// Timeout is in seconds; 0 when the file does not say it.
	Timeout int
}

// LoadClientConfig reads a configuration file of Voucher's client: TOML, YAML or JSON, as
// its name says. What the environment says in SERVER, USERNAME, PASSWORD, TIMEOUT, CHECK
// and AUTH wins over it, as with Voucher. hostname is the old name of server.
func LoadClientConfig(file string, env Getenv) (ClientConfig, error) {
	const reading = "reading the client's configuration: %w"
	data, err := bounded.ReadFile(file, maxFile)
	if err != nil {
		return ClientConfig{}, fmt.Errorf(reading, err)
	}
	doc, root, err := parseDocument(file, data, nil)
	if err != nil {
		return ClientConfig{}, fmt.Errorf(reading, err)
	}
	for _, key := range []string{"server", "username", "password", "check", "auth"} {
		if value := env(upper(key)); value != "" {
			root.values[key] = value
		}
	}
	if value := env("TIMEOUT"); value != "" {
		n, ok := integer(value)
		if !ok {
			return ClientConfig{}, fmt.Errorf(reading, errors.New("the environment variable TIMEOUT is not a number of seconds"))
		}
		root.values["timeout"] = n
	}
	c := ClientConfig{
		Server: root.text("server"), Username: root.text("username"), Password: root.text("password"), Check: root.text("check"), Auth: root.text("auth"),
		Timeout: root.number("timeout", 0, 0, maxTimeout),
	}
	if old := root.text("hostname"); c.Server == "" {
		c.Server = old
	}
	if len(doc.problems) > 0 {
		return ClientConfig{}, fmt.Errorf(reading, errors.Join(doc.problems...))
	}
	return c, nil
}
