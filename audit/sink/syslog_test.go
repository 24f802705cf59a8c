package sink_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/octetcounting"
	"github.com/leodido/go-syslog/v4/rfc5424"

	"github.com/gatehouse-dev/gatehouse/audit/deliver"
	"github.com/gatehouse-dev/gatehouse/audit/sink"
	"github.com/gatehouse-dev/gatehouse/decide"
)

// receiver takes connections, and gives the messages on them as a parser of others reads
// them.
type receiver struct {
	listener net.Listener
	conns    chan net.Conn
	messages chan *rfc5424.SyslogMessage
}

func newReceiver(t testing.TB, address string, config *tls.Config) *receiver {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if config != nil {
		listener = tls.NewListener(listener, config)
	}
	r := &receiver{listener: listener, conns: make(chan net.Conn, 10), messages: make(chan *rfc5424.SyslogMessage, 5000)}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			r.conns <- conn
			go r.parse(t, conn)
		}
	}()
	t.Cleanup(func() { _ = listener.Close() })
	return r
}

func (r *receiver) parse(t testing.TB, conn io.Reader) {
	octetcounting.NewParser(syslog.WithMaxMessageLength(1<<20), syslog.WithListener(func(result *syslog.Result) {
		if result.Error != nil {
			if !strings.Contains(result.Error.Error(), "EOF") && result.Message != nil {
				t.Errorf("a message is wrong: %v", result.Error)
			}
			return
		}
		if m, ok := result.Message.(*rfc5424.SyslogMessage); ok {
			r.messages <- m
		}
	})).Parse(conn)
}

func (r *receiver) next(t *testing.T) *rfc5424.SyslogMessage {
	t.Helper()
	select {
	case m := <-r.messages:
		return m
	case <-time.After(20 * time.Second):
		t.Fatal("no message has come")
		return nil
	}
}

func params(m *rfc5424.SyslogMessage) map[string]string {
	return (*m.StructuredData)["gatehouse@32473"]
}

func TestSyslogMessagesAreWhatAParserReads(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, "127.0.0.1:0", nil)
	s := open(t, sink.Config{Syslog: &sink.Syslog{Address: r.listener.Addr().String(), Transport: "tcp"}}, options(nil))
	e := decision(t, "1", "web", decide.BreakGlass)
	send(t, s, e, decision(t, "2", "web", ""))
	m := r.next(t)
	if *m.Facility != 10 || *m.Severity != 1 || *m.Hostname != "gate-1.example" || *m.Appname != "gatehouse" || *m.MsgID != "DECISION" || *m.ProcID != fmt.Sprint(os.Getpid()) ||
		!m.Timestamp.Equal(when) || *m.Message != `{"log":"decisions",`+string(e.Line[1:]) {
		t.Errorf("message %+v", m)
	}
	if diff := cmp.Diff(map[string]string{
		"id": "1", "log": "decisions", "allowed": "true", "verdict": "DENY", "override": "BREAK_GLASS", "breakGlass": "label image-policy.k8s.io/break-glass",
		"policy": "shop", "namespace": "shop", "resource": "pods", "name": "web", "user": "alice", "operation": "CREATE",
	}, params(m)); diff != "" {
		t.Errorf("structured data (-want +got):\n%s", diff)
	}
	if m := r.next(t); *m.Severity != 4 || params(m)["id"] != "2" {
		t.Errorf("a denial is %+v", m)
	}
}

func TestNastyNamesAreOneMessageEach(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, "127.0.0.1:0", nil)
	s := open(t, sink.Config{Syslog: &sink.Syslog{Address: r.listener.Addr().String(), Transport: "tcp"}}, options(nil))
	send(t, s, append(nastyEntries(t), decision(t, "4", "web", ""))...)
	for _, id := range []string{"1", "2", "3", "4"} {
		m := r.next(t)
		if params(m)["id"] != id {
			t.Errorf("id %q, want %q", params(m)["id"], id)
		}
		if text := *m.Message; strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) || !json.Valid([]byte(text)) {
			t.Errorf("message %q", text)
		}
	}
}

func TestSyslogOverTLSKnowsItsPeer(t *testing.T) {
	t.Parallel()
	web := httptest.NewTLSServer(nil) // for its certificate
	t.Cleanup(web.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newReceiver(t, "127.0.0.1:0", &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12})
	c := &sink.Syslog{Address: r.listener.Addr().String(), TLS: sink.TLS{CAFile: ca}}
	send(t, open(t, sink.Config{Syslog: c}, options(nil)), decision(t, "1", "web", ""))
	if m := r.next(t); params(m)["id"] != "1" {
		t.Errorf("message %+v", m)
	}
	c.CAFile = ""
	if err := open(t, sink.Config{Syslog: c}, options(nil)).Send(t.Context(), nastyEntries(t)); err == nil {
		t.Error("a peer that nobody vouches for was believed")
	}
}

func TestAReceiverThatGoesAndComesBackGetsAll(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, "127.0.0.1:0", nil)
	address := r.listener.Addr().String()
	s := open(t, sink.Config{Syslog: &sink.Syslog{Address: address, Transport: "tcp"}}, options(nil))
	send(t, s, decision(t, "1", "web", ""))
	r.next(t)
	_ = r.listener.Close()
	_ = (<-r.conns).Close()
	// Until it is noticed, messages go where nobody reads them; then there is an error.
	sent := 1
	for deadline := time.Now().Add(20 * time.Second); ; {
		if err := s.Send(t.Context(), []deliver.Entry{decision(t, fmt.Sprint(sent+1), "web", "")}); err != nil {
			break
		}
		sent++
		if time.Now().After(deadline) {
			t.Fatal("nobody noticed that the receiver has gone")
		}
	}
	back := newReceiver(t, address, nil)
	send(t, s, decision(t, fmt.Sprint(sent+1), "web", ""))
	for i := 1; i <= sent+1; i++ { // what was sent lately comes again, under the same ids
		if id := params(back.next(t))["id"]; id != fmt.Sprint(i) {
			t.Errorf("id %q, want %d", id, i)
		}
	}
}

func TestAMessageThatIsTooLongSaysThatItIsCut(t *testing.T) {
	t.Parallel()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s := open(t, sink.Config{Syslog: &sink.Syslog{Address: conn.LocalAddr().String(), Transport: "udp"}}, options(nil))
	long := nastyEntries(t)
	small := decision(t, "small", "web", "")
	small.Line = []byte(`{"id":"small"}`)
	for _, e := range append(long, small) {
		send(t, s, e)
		packet := make([]byte, 70000)
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, _, err := conn.ReadFrom(packet)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := rfc5424.NewParser().Parse(packet[:n])
		if err != nil {
			t.Fatalf("%q: %v", packet[:n], err)
		}
		m := parsed.(*rfc5424.SyslogMessage)
		cut := params(m)["truncated"] == "true"
		if n > 1180 || params(m)["id"] != e.ID || cut == json.Valid([]byte(*m.Message)) || cut == (e.ID == "small") {
			t.Errorf("%d octets, truncated %v: %q", n, cut, packet[:n])
		}
	}
}

func TestASyslogReceiverThatDoesNotReadHoldsUpNobodyForEver(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	s := open(t, sink.Config{Syslog: &sink.Syslog{Address: listener.Addr().String(), Transport: "tcp", MaxSize: 1 << 20}}, options(nil))
	large := decision(t, "1", "web", "")
	large.Line = []byte(`{"id":"` + strings.Repeat("x", 1<<19) + `"}`)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	for ctx.Err() == nil {
		if err = s.Send(ctx, []deliver.Entry{large, large, large, large}); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("it took what nobody reads")
	}
}

func FuzzAMessageIsOneMessage(f *testing.F) {
	f.Add(nasty, "web")
	f.Add("]", "\\\"")
	f.Fuzz(func(t *testing.T, name, user string) {
		e := decision(t, "1", name, "")
		r := *e.Decision
		r.User = user
		text, err := sink.EncodeForTest(entryOf(t, deliver.Decisions, r))
		if err != nil {
			t.Fatal(err)
		}
		m, err := rfc5424.NewParser().Parse(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if got := params(m.(*rfc5424.SyslogMessage)); got["id"] != "1" || got["namespace"] != "shop" {
			t.Errorf("%q has the parameters %v", text, got)
		}
	})
}
