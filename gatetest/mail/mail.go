// Package mail starts SMTP servers for tests, in process, on free ports of 127.0.0.1:
// with or without TLS, and asking for a password or not.
package mail

import (
	"bytes"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"io"
	"net"
	netmail "net/mail"
	"sync/atomic"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

const (
	maxMessage = 1 << 20
	// maxWaiting is how many messages may wait to be read by the test.
	maxWaiting = 1000
)

// Options configure a Server. The zero Options are those of one that asks for nothing.
type Options struct {
	// TLS has the certificate for STARTTLS, which is demanded then; or, with Implicit,
	// for the whole connection.
	TLS      *tls.Config
	Implicit bool
	// Username and Password are demanded, if they are given.
	Username, Password string
}

// A Server takes mail.
type Server struct {
	addr     string
	opts     Options
	messages chan Message
	refuse   atomic.Pointer[smtp.SMTPError]
}

// A Message is one that the server has taken.
type Message struct {
	From string
	To   []string
	// Raw is what was sent, header and body.
	Raw []byte
}

// Start starts a server for a test and stops it when the test ends.
func Start(t testing.TB, opts Options) *Server {
	t.Helper()
	s, stop, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return s
}

// New starts a server, which ends when stop is called.
func New(opts Options) (s *Server, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // nothing that could take long
	if err != nil {
		return nil, nil, err
	}
	s = &Server{addr: l.Addr().String(), opts: opts, messages: make(chan Message, maxWaiting)}
	server := smtp.NewServer(s)
	server.Domain, server.MaxMessageBytes = "localhost", maxMessage
	server.ErrorLog = discard{}
	if opts.Implicit {
		l = tls.NewListener(l, opts.TLS)
	} else {
		server.TLSConfig = opts.TLS
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(l) }() // ends with Close
	return s, func() { _ = server.Close(); <-ended }, nil
}

// Addr is HOST:PORT of the server.
func (s *Server) Addr() string { return s.addr }

// Messages gives each message that was taken.
func (s *Server) Messages() <-chan Message { return s.messages }

// Refuse makes the server answer every message with the code, until it is called with 0.
func (s *Server) Refuse(code int) {
	if code == 0 {
		s.refuse.Store(nil)
		return
	}
	s.refuse.Store(&smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 0, 0}, Message: "not now"})
}

// Parse parses a message.
func (m Message) Parse() (*netmail.Message, error) {
	return netmail.ReadMessage(bytes.NewReader(m.Raw))
}

// NewSession begins the conversation of a connection.
func (s *Server) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &session{server: s, conn: c, authenticated: s.opts.Username == ""}, nil
}

type session struct {
	server        *Server
	conn          *smtp.Conn
	authenticated bool
	message       Message
}

func (s *session) AuthMechanisms() []string {
	if s.server.opts.Username == "" {
		return nil
	}
	return []string{sasl.Plain}
}

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, username, password string) error {
		want := s.server.opts
		if subtle.ConstantTimeCompare([]byte(username+"\x00"+password), []byte(want.Username+"\x00"+want.Password)) == 0 {
			return smtp.ErrAuthFailed
		}
		s.authenticated = true
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if _, encrypted := s.conn.TLSConnectionState(); s.server.opts.TLS != nil && !encrypted {
		return &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "Must issue a STARTTLS command first"}
	}
	if !s.authenticated {
		return smtp.ErrAuthRequired
	}
	s.message = Message{From: from}
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.message.To = append(s.message.To, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if refusal := s.server.refuse.Load(); refusal != nil {
		return refusal
	}
	s.message.Raw = raw
	select {
	case s.server.messages <- s.message:
		return nil
	default:
		return errors.New("nobody reads the mail")
	}
}

func (s *session) Reset()        { s.message = Message{} }
func (s *session) Logout() error { return nil }

type discard struct{}

func (discard) Printf(string, ...any) {}
func (discard) Println(...any)        {}
