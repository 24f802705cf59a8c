package server

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/policy"
)

const (
	defaultMaxConnections = 4096
	// defaultMaxStatements takes about 1.5 GB; fewer than minStatements would be dropped and
	// read again all the time.
	defaultMaxStatements = 10_000_000
	minStatements        = 1000

	// defaultDrainTimeout is longer than the 90 s that an API server keeps a connection
	// which it does not use.
	defaultDrainTimeout = 100 * time.Second

	// reviewTimeout is how long a review may take, from the first byte of its header to
	// the last of its answer: an API server waits for 30 s at most. Whoever is slower at
	// sending or at reading is hung up on.
	reviewTimeout = 35 * time.Second
)

// buildGate gives the admission listener its handler and its TLS.
func (p *parts) buildGate(facts admission.Evidence, rules func() policy.Set) error {
	a := p.cfg.Admission
	resources, err := admission.NewResources(a.Resources)
	if err != nil {
		return err
	}
	gate, err := admission.NewGate(admission.Options{
		Rules: rules, Evidence: facts, Recorder: p.glass.log,
		AllowUnrecorded: p.cfg.Audit.OnUnwritable == AllowUnrecorded, RefuseUnrecorded: p.cfg.Audit.OrdinaryOnUnwritable == RefuseUnrecorded,
		Warden: p.glass.warden, Broken: p.glass.broken, KritisBreakGlass: p.cfg.BreakGlass.Kritis,
		Place: p.cfg.place(), Templates: a.Templates, Resources: resources, Limits: admission.Limits{MaxRequests: a.MaxRequests},
		Now: time.Now, Logger: p.logger, Registry: p.registry,
	})
	if err != nil {
		return err
	}
	p.glass.decides(facts, rules)
	config, err := p.admissionTLS()
	if err != nil {
		return err
	}
	p.admissionTLSConfig = config
	guarded, err := newGuardedListener(p.admission.net, a.MaxConnections, p.registry)
	if err != nil {
		return err
	}
	p.admission.net = guarded
	p.admission.server.Handler = recovered(lastAnswers(gateHandler(gate), &p.draining), p.logger)
	harden(p.admission.server, config)
	p.admission.drainWithin = reviewTimeout
	if a.DrainDelay > 0 { // there are others that clients can go to
		p.admission.linger = a.DrainTimeout
	}
	return nil
}

// gateHandler has the paths that API servers are told.
func gateHandler(gate *admission.Gate) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/validate", gate)
	mux.Handle("/image-pull", gate.ImagePulls())
	mux.Handle("/imagereview", gate.ImageReviews())
	mux.Handle("/imagereview/{"+admission.ClusterPathValue+"}", gate.ImageReviews())
	return mux
}

// harden makes a server one for webhooks: HTTP/1.1 only, since API servers speak
// nothing else to them, and with bounds on how long a request may take.
func harden(s *http.Server, config *tls.Config) {
	s.TLSConfig = config
	s.Protocols = new(http.Protocols)
	s.Protocols.SetHTTP1(true) // NextProtos alone would not do: net/http adds h2 to it
	s.ReadTimeout, s.WriteTimeout = readTimeout, reviewTimeout
}

func admissionTLS(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate, NextProtos: []string{"http/1.1"}}
}

// A guardedListener hangs up on whoever has more connections than his share, before
// a byte is read.
type guardedListener struct {
	net.Listener
	shares  *bounded.Shares
	refused prometheus.Counter
}

func newGuardedListener(l net.Listener, connections int, registry prometheus.Registerer) (net.Listener, error) {
	g := &guardedListener{Listener: l, shares: bounded.NewShares(int64(connections)), refused: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "gatehouse_admission_connections_refused_total",
		Help: "Connections to the webhook that were hung up on because their source had too many.",
	})}
	return g, registry.Register(g.refused)
}

// Accept returns the next connection that is within the share of its source.
func (l *guardedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := bounded.Source(conn.RemoteAddr().String())
		if l.shares.Acquire(source, 1) == bounded.Granted {
			return &sharedConn{Conn: conn, release: sync.OnceFunc(func() { l.shares.Release(source, 1) })}, nil
		}
		l.refused.Inc()
		_ = conn.Close() // there is nobody to tell
	}
}

// A sharedConn gives its share back when it is closed.
type sharedConn struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (c *sharedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
