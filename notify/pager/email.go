package pager

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/gatehouse-dev/gatehouse/notify"
)

// Email is mail, by SMTP.
type Email struct {
	// Server is HOST:PORT of the mail server.
	Server string `yaml:"server"`
	// TLS is "starttls" (default), "implicit", or "insecure-none", which needs no word
	// on loopback.
	TLS  string   `yaml:"tls"`
	From string   `yaml:"from"`
	To   []string `yaml:"to"`
	// Username and PasswordFile say who sends, if the server asks.
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"passwordFile"`
	// CAFile has the certificates that the server's is issued by; those of the system if
	// it is empty.
	CAFile string `yaml:"caFile"`
}

// The values of Email.TLS.
const (
	startTLS    = "starttls"
	implicitTLS = "implicit"
	noTLS       = "insecure-none"
)

const (
	maxRecipients = 50
	maxSubject    = 200
)

func (e *Email) validate() error {
	var errs []error
	if _, _, err := e.address(); err != nil {
		errs = append(errs, err)
	}
	switch e.TLS {
	case "", startTLS, implicitTLS, noTLS:
	default:
		errs = append(errs, fmt.Errorf("tls %q: want %s, %s or %s", e.TLS, startTLS, implicitTLS, noTLS))
	}
	errs = append(errs, checkAddress("from", e.From))
	if len(e.To) == 0 || len(e.To) > maxRecipients {
		errs = append(errs, fmt.Errorf("to: want 1 to %d addresses", maxRecipients))
	}
	for i, to := range e.To {
		errs = append(errs, checkAddress(fmt.Sprintf("to[%d]", i), to))
	}
	if (e.Username == "") != (e.PasswordFile == "") {
		errs = append(errs, errors.New("want username and passwordFile, or neither"))
	}
	if e.Username != "" && e.mode() == noTLS {
		errs = append(errs, errors.New("a password needs TLS: starttls or implicit"))
	}
	return errors.Join(errs...)
}

// mode is how the connection is protected. A server on loopback that is told nothing has
// no certificate, as a rule.
func (e *Email) mode() string {
	if e.TLS != "" {
		return e.TLS
	}
	if host, _, err := e.address(); err == nil && isLoopback(host) && e.Username == "" && e.CAFile == "" {
		return noTLS
	}
	return startTLS
}

func (e *Email) address() (host string, port int, err error) {
	host, text, err := net.SplitHostPort(e.Server)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil || host == "" || port < 1 || port > 65535 {
		return "", 0, fmt.Errorf("server %q: want HOST:PORT, such as mail.example:587", e.Server)
	}
	return host, port, nil
}

func (e *Email) open() (notify.Receiver, error) {
	r := &email{*e}
	_, err := r.options(defaultTimeout)
	return r, err
}

type email struct{ Email }

// options read the files that are named.
func (e *email) options(timeout time.Duration) ([]mail.Option, error) {
	_, port, err := e.address()
	if err != nil {
		return nil, err
	}
	config, err := tlsConfig(e.CAFile)
	if err != nil {
		return nil, err
	}
	host, _, _ := e.address() // it is HOST:PORT
	config.ServerName = host
	options := []mail.Option{mail.WithPort(port), mail.WithTimeout(timeout), mail.WithTLSConfig(config)}
	switch e.mode() {
	case implicitTLS:
		options = append(options, mail.WithSSL())
	case noTLS:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if e.Username != "" {
		password, err := secretFile(e.PasswordFile).read()
		if err != nil {
			return nil, err
		}
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(e.Username), mail.WithPassword(password))
	}
	return options, nil
}

// Send mails a page.
func (e *email) Send(ctx context.Context, p notify.Page) error {
	timeout := defaultTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = max(time.Until(deadline), time.Millisecond)
	}
	options, err := e.options(timeout)
	if err != nil {
		return err
	}
	host, _, err := e.address()
	if err != nil {
		return err
	}
	client, err := mail.NewClient(host, options...)
	if err != nil {
		return &notify.FinalError{Err: err}
	}
	msg, err := e.message(p)
	if err != nil {
		return &notify.FinalError{Err: err, Content: true}
	}
	return smtpError(client.DialAndSendWithContext(ctx, msg))
}

// smtpError judges an error by the answer's code: 4xx is worth another try, 5xx not.
func smtpError(err error) error {
	if err == nil {
		return nil
	}
	plain := errors.New(notify.Line(err.Error(), 2*maxExcerpt))
	var sent *mail.SendError
	if !errors.As(err, &sent) {
		return plain
	}
	switch code := sent.ErrorCode(); {
	case code == 552 || code == 554:
		return &notify.FinalError{Err: plain, Content: true}
	case code >= 500:
		return &notify.FinalError{Err: plain}
	}
	return plain
}

// message is text alone: there is no markup to escape from.
func (e *email) message(p notify.Page) (*mail.Msg, error) {
	m := mail.NewMsg(mail.WithEncoding(mail.EncodingQP))
	if err := m.From(e.From); err != nil {
		return nil, err
	}
	if err := m.To(e.To...); err != nil {
		return nil, err
	}
	m.Subject("[gatehouse] " + clip(subject(p), maxSubject))
	m.SetDate()
	m.SetMessageIDWithValue(p.ID() + "@gatehouse.invalid") // the same when it comes twice
	m.SetGenHeader("Auto-Submitted", "auto-generated")
	m.SetGenHeader("X-Gatehouse-Severity", string(p.Severity()))
	if p.Severity() == notify.Critical {
		m.SetImportance(mail.ImportanceUrgent)
	}
	body := []string{p.Headline(), ""}
	body = append(body, lines(p)...)
	for _, l := range links(p, maxListed) {
		body = append(body, "", l.Text+": "+l.URL)
	}
	m.SetBodyString(mail.TypeTextPlain, strings.Join(body, "\r\n")+"\r\n")
	return m, nil
}
