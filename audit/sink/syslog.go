package sink

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/audit/deliver"
)

const (
	transportTLS = "tls"
	transportTCP = "tcp"
	transportUDP = "udp"

	defaultFacility = "authpriv"
	defaultAppName  = "gatehouse"
	// defaultSDID has the number that RFC 5612 keeps for documentation: who has an
	// enterprise number of his own may put his there.
	defaultSDID = "gatehouse@32473"

	// Octets of a message. RFC 5424 has all receivers take 480 and wants 2048; over UDP an
	// IPv6 packet of 1280 bytes passes everywhere.
	defaultStreamSize = 64 << 10
	defaultPacketSize = 1180
	minMessage        = 480
	maxMessage        = 1 << 20
	maxPacket         = 65_507

	// What was written lately is written again on a new connection: syslog does not answer,
	// and the peer may have lost it with the old one.
	lately      = 30 * time.Second
	latelyBytes = 256 << 10
)

// Syslog is a receiver of RFC 5424's messages. None of them is answered: what a receiver
// loses that goes down is sent again as far as it was sent in the last half minute.
type Syslog struct {
	// Address is HOST:PORT. Port 6514 is usual for TLS, 601 for TCP and 514 for UDP.
	Address string `yaml:"address"`
	// Transport is "tls" (default; RFC 5425), "tcp" (RFC 6587, octet counting), or "udp"
	// (RFC 5426), where what gets lost is lost.
	Transport string `yaml:"transport"`
	TLS       `yaml:",inline"`
	// Facility is a name of RFC 5424's, such as "local0". Default "authpriv".
	Facility string `yaml:"facility"`
	// Hostname and AppName say who sends. Default: the machine's, and "gatehouse".
	Hostname string `yaml:"hostname"`
	AppName  string `yaml:"appName"`
	// SDID names the structured data: NAME@ENTERPRISENUMBER. Default "gatehouse@32473".
	SDID string `yaml:"sdID"`
	// MaxSize bounds a message, in octets. Default 65536, over UDP 1180.
	MaxSize int `yaml:"maxSize"`
	// Format of the message after the structured data.
	Format Format `yaml:"format"`
}

// facilities are in the order of their numbers.
var facilities = [...]string{
	"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
	"ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
}

func (c *Syslog) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if host, port, err := net.SplitHostPort(c.Address); err != nil || host == "" || port == "" {
		bad("address %q: want HOST:PORT", c.Address)
	}
	if !slices.Contains([]string{"", transportTLS, transportTCP, transportUDP}, c.Transport) {
		bad("transport %q: want %q, %q or %q", c.Transport, transportTLS, transportTCP, transportUDP)
	}
	if c.Transport != "" && c.Transport != transportTLS && c.TLS != (TLS{}) {
		bad("transport %q has no TLS: leave caFile, certFile and keyFile out", c.Transport)
	}
	if c.Facility != "" && !slices.Contains(facilities[:], c.Facility) {
		bad("facility %q: want one of %s", c.Facility, strings.Join(facilities[:], ", "))
	}
	if c.Hostname != "" && headerField(c.Hostname, 255) != c.Hostname || c.AppName != "" && headerField(c.AppName, 48) != c.AppName {
		bad("hostname and appName: want visible ASCII, of at most 255 and 48 characters")
	}
	if id := cmp.Or(c.SDID, defaultSDID); !isSDID(id) {
		bad("sdID %q: want NAME@ENTERPRISENUMBER", id)
	}
	if most := map[bool]int{true: maxPacket, false: maxMessage}[c.Transport == transportUDP]; c.MaxSize != 0 && (c.MaxSize < minMessage || c.MaxSize > most) {
		bad("maxSize %d: want %d to %d", c.MaxSize, minMessage, most)
	}
	return errors.Join(append(errs, c.TLS.validate())...)
}

func isSDID(id string) bool {
	name, number, _ := strings.Cut(id, "@")
	return isToken(name) && number != "" && len(id) <= 32 && strings.Trim(number, "0123456789.") == ""
}

func (c *Syslog) format() Format { return c.Format }

func (c *Syslog) open(o Options) (deliver.Sink, error) {
	s := &syslogSink{
		address: c.Address, packets: c.Transport == transportUDP, now: o.Now,
		message: message{
			facility: slices.Index(facilities[:], cmp.Or(c.Facility, defaultFacility)), host: cmp.Or(c.Hostname, headerField(o.Place.Host, 255)),
			app: cmp.Or(c.AppName, defaultAppName), process: strconv.Itoa(os.Getpid()), sdID: cmp.Or(c.SDID, defaultSDID),
			size: c.MaxSize, format: c.Format, place: o.Place,
		},
	}
	if s.size == 0 {
		s.size = defaultStreamSize
		if s.packets {
			s.size = defaultPacketSize
		}
	}
	if c.Transport == "" || c.Transport == transportTLS {
		config, err := c.config()
		if err != nil {
			return nil, err
		}
		s.tls = config
	}
	return s, nil
}

// A frame is a message that was written.
type frame struct {
	at   time.Time
	text []byte
}

type syslogSink struct {
	message
	address string
	packets bool
	tls     *tls.Config // nil: without
	now     func() time.Time

	conn net.Conn      // nil: to be made
	over chan struct{} // closed when the peer has ended conn
	sent []frame       // lately
}

// Send writes each record as a message.
func (s *syslogSink) Send(ctx context.Context, entries []deliver.Entry) error {
	frames := make([][]byte, 0, len(entries))
	for _, e := range entries {
		text, err := s.encode(e)
		if err != nil {
			return &deliver.RefusedError{Err: err}
		}
		if !s.packets {
			text = append(strconv.AppendInt(nil, int64(len(text)), 10), append([]byte{' '}, text...)...)
		}
		frames = append(frames, text)
	}
	err := s.write(ctx, frames)
	if err != nil {
		err = errors.Join(fmt.Errorf("sending to syslog at %s: %w", s.address, err), s.hangUp())
	}
	return err
}

func (s *syslogSink) write(ctx context.Context, frames [][]byte) error {
	if s.conn != nil {
		select {
		case <-s.over: // a peer that says something says that it goes
			_ = s.hangUp() // it is broken
		default:
		}
	}
	if s.conn == nil {
		if err := s.dial(ctx); err != nil {
			return err
		}
	}
	deadline, _ := ctx.Deadline()
	if err := s.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	if s.packets {
		for _, f := range frames {
			if _, err := s.conn.Write(f); err != nil {
				return err
			}
		}
		return nil
	}
	if _, err := s.conn.Write(slices.Concat(frames...)); err != nil {
		return err
	}
	s.remember(frames)
	return nil
}

// remember keeps what was written lately.
func (s *syslogSink) remember(frames [][]byte) {
	now := s.now()
	for _, f := range frames {
		s.sent = append(s.sent, frame{now, f})
	}
	s.forget(now)
}

func (s *syslogSink) forget(now time.Time) {
	size, first := 0, len(s.sent)
	for first > 0 && now.Sub(s.sent[first-1].at) < lately && size+len(s.sent[first-1].text) <= latelyBytes {
		first--
		size += len(s.sent[first].text)
	}
	s.sent = slices.Clone(s.sent[first:])
}

// dial connects, and writes again what the peer may have lost with the last connection.
func (s *syslogSink) dial(ctx context.Context) error {
	var dialer net.Dialer
	var conn net.Conn
	var err error
	switch {
	case s.packets:
		conn, err = dialer.DialContext(ctx, "udp", s.address)
	case s.tls != nil:
		conn, err = (&tls.Dialer{NetDialer: &dialer, Config: s.tls}).DialContext(ctx, "tcp", s.address)
	default:
		conn, err = dialer.DialContext(ctx, "tcp", s.address)
	}
	if err != nil {
		return err
	}
	s.conn = conn
	if s.packets {
		s.over = nil
		return nil
	}
	over := make(chan struct{})
	s.over = over
	go func() {
		_, _ = conn.Read(make([]byte, 1)) // whatever comes
		close(over)
	}()
	s.forget(s.now())
	again := make([][]byte, 0, len(s.sent))
	for _, f := range s.sent {
		again = append(again, f.text)
	}
	deadline, _ := ctx.Deadline()
	if err := conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	_, err = conn.Write(slices.Concat(again...))
	return err
}

func (s *syslogSink) hangUp() error {
	if s.conn == nil {
		return nil
	}
	conn := s.conn
	s.conn = nil
	if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Close ends the connection.
func (s *syslogSink) Close() error { return s.hangUp() }
