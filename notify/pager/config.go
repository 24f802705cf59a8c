// Package pager has the receivers of pages: Alertmanager, PagerDuty, Opsgenie, Slack,
// Microsoft Teams, e-mail, and a signed webhook; and their configuration.
//
// Every text in a page may have been chosen by a stranger to deceive whoever reads it.
// The outbox makes it one line without control characters; each receiver writes it so
// that it is text, and no link, mention or markup, where it is shown: Slack as
// plain_text, Teams with its Markdown escaped, mail without HTML. Alertmanager,
// PagerDuty and Opsgenie hand on what they get to others, whose language is not known:
// there < and > become ‹ and ›, and links of Markdown are broken.
package pager

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/notify"
)

// Config is the section "notify" of the server's configuration. The zero Config tells
// nobody of anything.
type Config struct {
	Receivers []Receiver     `yaml:"receivers"`
	Routes    []notify.Route `yaml:"routes"`
	// MaxMessages and MaxBytes bound what waits to be delivered.
	MaxMessages int   `yaml:"maxMessages"`
	MaxBytes    int64 `yaml:"maxBytes"`
}

// DefaultConfig is one without receivers.
func DefaultConfig() Config {
	return Config{MaxMessages: notify.DefaultMaxMessages, MaxBytes: notify.DefaultMaxBytes}
}

// A Receiver is one way to people. Exactly one of its kinds is given.
type Receiver struct {
	Name string `yaml:"name"`
	// Timeout ends a try. Default 10s.
	Timeout time.Duration `yaml:"timeout"`

	Alertmanager *Alertmanager `yaml:"alertmanager"`
	PagerDuty    *PagerDuty    `yaml:"pagerduty"`
	Opsgenie     *Opsgenie     `yaml:"opsgenie"`
	Slack        *Slack        `yaml:"slack"`
	Teams        *Teams        `yaml:"teams"`
	Email        *Email        `yaml:"email"`
	Webhook      *Webhook      `yaml:"webhook"`
}

const (
	defaultTimeout = 10 * time.Second
	maxTimeout     = time.Minute
	// minMessages and minBytes leave room for one page.
	minMessages = 256
	minBytes    = 1 << 20
	// maxSecret bounds the files with secrets, in bytes.
	maxSecret = 16 << 10
	maxCA     = 1 << 20
)

// kind is one of the ways to people.
type kind interface {
	validate() error
	// open reads the files that are named.
	open() (notify.Receiver, error)
}

// kinds are those that are given, by their names in the configuration.
func (r Receiver) kinds() map[string]kind {
	given := map[string]kind{}
	if r.Alertmanager != nil {
		given["alertmanager"] = r.Alertmanager
	}
	if r.PagerDuty != nil {
		given["pagerduty"] = r.PagerDuty
	}
	if r.Opsgenie != nil {
		given["opsgenie"] = r.Opsgenie
	}
	if r.Slack != nil {
		given["slack"] = r.Slack
	}
	if r.Teams != nil {
		given["teams"] = r.Teams
	}
	if r.Email != nil {
		given["email"] = r.Email
	}
	if r.Webhook != nil {
		given["webhook"] = r.Webhook
	}
	return given
}

// Kind is what the receiver is, such as "slack"; "" if that is not one thing.
func (r Receiver) Kind() string {
	given := r.kinds()
	if len(given) != 1 {
		return ""
	}
	for name := range given {
		return name
	}
	return ""
}

// Validate returns everything that is wrong with c. It reads no file.
func (c Config) Validate() error {
	var errs []error
	var names []string
	for i, r := range c.Receivers {
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("notify: receivers[%d] (%q): %w", i, r.Name, fmt.Errorf(format, args...)))
		}
		if r.Name == "" || len(r.Name) > 40 || strings.Trim(strings.ToLower(r.Name), "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
			bad("want a name of at most 40 letters, digits, and any of ._-")
		}
		for _, other := range names {
			if other == r.Name {
				bad("another receiver has this name")
			}
		}
		names = append(names, r.Name)
		if r.Timeout < 0 || r.Timeout > maxTimeout {
			bad("timeout %v: want at most %v", r.Timeout, maxTimeout)
		}
		if r.Kind() == "" {
			bad("want one of alertmanager, pagerduty, opsgenie, slack, teams, email and webhook")
		}
		for name, k := range r.kinds() {
			if err := k.validate(); err != nil {
				bad("%s: %w", name, err)
			}
		}
	}
	if len(c.Receivers) > 0 && len(c.Routes) == 0 {
		errs = append(errs, errors.New("notify: there are receivers and no routes to them: give routes, such as {name: all, receivers: [FIRST, NEXT]}"))
	}
	if c.MaxMessages != 0 && c.MaxMessages < minMessages || c.MaxBytes != 0 && c.MaxBytes < minBytes {
		errs = append(errs, fmt.Errorf("notify: maxMessages %d and maxBytes %d: want at least %d and %d", c.MaxMessages, c.MaxBytes, minMessages, minBytes))
	}
	return errors.Join(append(errs, notify.CheckRoutes(c.Routes, names))...)
}

// Open makes the receivers, by name. It reads the files that they name, and connects to
// nobody.
func (c Config) Open() (map[string]notify.Receiver, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	all := map[string]notify.Receiver{}
	var errs []error
	for _, r := range c.Receivers {
		for kind, k := range r.kinds() {
			opened, err := k.open()
			if err != nil {
				errs = append(errs, fmt.Errorf("notify: receiver %q: %s: %w", r.Name, kind, err))
				continue
			}
			timeout := r.Timeout
			if timeout == 0 {
				timeout = defaultTimeout
			}
			all[r.Name] = timed{opened, timeout}
		}
	}
	return all, errors.Join(errs...)
}

// secretFile is the path of a file with a secret, which is read for each use.
type secretFile string

func (f secretFile) read() (string, error) {
	raw, err := bounded.ReadFile(string(f), maxSecret)
	if err != nil {
		return "", fmt.Errorf("reading a secret: %w", err)
	}
	secret := string(bytes.TrimSpace(raw))
	if secret == "" || strings.ContainsFunc(secret, func(r rune) bool { return r < ' ' }) {
		return "", fmt.Errorf("reading a secret: %s does not have one line", string(f))
	}
	return secret, nil
}

func required(name, value string) error {
	if value == "" {
		return fmt.Errorf("want %s", name)
	}
	return nil
}

// checkURL refuses what pages would go to in the clear.
func checkURL(name, text string, insecure bool) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("%s: want https://HOST[:PORT][/PATH]", name) // what it is may be a secret
	case u.User != nil:
		return fmt.Errorf("%s: a password does not belong into a URL", name)
	case u.Scheme == "http" && !isLoopback(u.Hostname()) && !insecure:
		return fmt.Errorf("%s is not on loopback, and pages would be sent in the clear: use https, or insecureHTTP: true", name)
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func checkAddress(name, text string) error {
	if _, err := mail.ParseAddress(text); err != nil {
		return fmt.Errorf("%s %q: want a mail address", name, text)
	}
	return nil
}
