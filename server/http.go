package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// idleTimeout is longer than the 90 s that an API server keeps idle
	// connections, so that it is never the gate that hangs up under a request.
	idleTimeout = 120 * time.Second

	readHeaderTimeout = 10 * time.Second
	// readTimeout is how long a request may take to arrive where answers are
	// quick; an API server waits for 30 s at most.
	readTimeout    = 30 * time.Second
	maxHeaderBytes = 64 << 10

	// A connection to the metadata API that says nothing is asked whether it is there:
	// gates keep theirs for hours, and may be gone without a word.
	pingAfter, pingWithin = 20 * time.Second, 10 * time.Second

	// drainTimeout is how long running requests may take after a stop signal; at the webhook
	// that is reviewTimeout.
	drainTimeout = 10 * time.Second
)

// A listener is a bound socket and the server for it.
type listener struct {
	name   string
	logger *slog.Logger
	net    net.Listener
	server *http.Server
	// drainWithin bounds running requests after stop.
	drainWithin time.Duration
	// linger is how long connections may stay open after stop on which nobody asks; they
	// are closed at once if it is 0. See [listener.serve].
	linger time.Duration
	open   connections
	// ended is closed when it no longer serves.
	ended chan struct{}
}

// listen binds addr, so that a port in use is known before anything is served.
func listen(ctx context.Context, name, addr string, logger *slog.Logger) (*listener, error) {
	var ln net.Listener
	var err error
	if path, ok := unixPath(addr); ok {
		ln, err = listenUnix(ctx, path)
	} else {
		ln, err = (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("listening for %s: %w", name, err)
	}
	l := &listener{name: name, logger: logger, net: ln, drainWithin: drainTimeout, open: connections{none: make(chan struct{}, 1)}, ended: make(chan struct{}), server: &http.Server{
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(logger.With("listener", name).Handler(), slog.LevelDebug),
	}}
	l.server.ConnState = l.open.changed
	return l, nil
}

// connections counts those that are open.
type connections struct {
	n    atomic.Int64
	none chan struct{} // told when there are none any more
}

// changed is for [http.Server].
func (c *connections) changed(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		c.n.Add(1)
	case http.StateClosed, http.StateHijacked:
		if c.n.Add(-1) == 0 {
			select {
			case c.none <- struct{}{}:
			default: // told already
			}
		}
	}
}

// gone returns when there are none, or the time is over.
func (c *connections) gone(within time.Duration) {
	late := time.NewTimer(within)
	defer late.Stop()
	for c.n.Load() > 0 {
		select {
		case <-c.none:
		case <-late.C:
			return
		}
	}
}

// addr is where it listens, in the form that it was configured in.
func (l *listener) addr() string {
	if a := l.net.Addr(); a.Network() == "unix" {
		return unixScheme + a.String()
	}
	return l.net.Addr().String()
}

// serve runs until stop is closed, then lets running requests end.
//
// To hang up on a client that says nothing is no harm, unless it begins to ask just then:
// its request may be on the way, and HTTP/1.1 has no way to say that it was not read. So
// a listener that lingers takes no new connections, hangs up after each answer
// ([lastAnswers]), and leaves the others to their clients, which close them in time.
func (l *listener) serve(stop <-chan struct{}) error {
	defer close(l.ended)
	served := make(chan error, 1)
	go func() { served <- l.accept() }()
	select {
	case err := <-served:
		return fmt.Errorf("serving %s: %w", l.name, err)
	case <-stop:
	}
	if l.linger > 0 {
		_ = l.net.Close() // accept tells whether that was so
		if err := <-served; !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("serving %s: %w", l.name, err)
		}
		l.open.gone(l.linger)
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.drainWithin)
	defer cancel()
	switch err := l.server.Shutdown(ctx); {
	case errors.Is(err, context.DeadlineExceeded):
		// Whoever has not finished by now is hung up on.
		l.logger.Warn("requests were still running at the end", "listener", l.name, "waited", l.drainWithin)
		return l.server.Close()
	case err != nil:
		return fmt.Errorf("draining %s: %w", l.name, err)
	}
	return nil
}

// accept serves connections until the server, or what it listens at, is closed.
func (l *listener) accept() error {
	if l.server.TLSConfig != nil {
		return l.server.ServeTLS(l.net, "", "")
	}
	return l.server.Serve(l.net)
}

// opsHandler serves health, readiness, metrics and profiles. A server that is ready may
// have something to say all the same.
func opsHandler(ready func() (note string, err error), registry *prometheus.Registry, profiles bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		note, err := ready()
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		if note != "" {
			note = ": " + note
		}
		_, _ = fmt.Fprintf(w, "ok%s\n", note)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry, EnableOpenMetrics: true}))
	if profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// sameSite refuses what web pages of others send. Whoever works on this machine
// has a browser that reaches loopback too, and a page can make it post, or reach
// it under a name of its own that resolves to loopback. A listener on loopback
// that asks nobody who they are therefore answers to its own names only.
func sameSite(next http.Handler, loopbackOnly bool) http.Handler {
	guarded := http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if loopbackOnly && !isLoopbackHost(r.Host) {
			http.Error(w, fmt.Sprintf("this listener is for this machine: ask it as 127.0.0.1 or localhost, not as %.100q", r.Host), http.StatusMisdirectedRequest)
			return
		}
		guarded.ServeHTTP(w, r)
	})
}

// isLoopbackHost reads a Host header: a name or an address, with or without a port.
func isLoopbackHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	return isLoopback(host)
}

// lastAnswers hangs up after each answer while the server drains, so that whoever comes
// again looks for another one. Connections on which nobody asks are left alone: to close
// one just when a request is on its way would fail that request.
func lastAnswers(next http.Handler, draining *atomic.Bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&lastAnswer{w, draining}, r)
	})
}

// A lastAnswer looks when it is written: the request may have come before.
type lastAnswer struct {
	http.ResponseWriter
	draining *atomic.Bool
}

// WriteHeader implements [http.ResponseWriter].
func (w *lastAnswer) WriteHeader(status int) {
	w.mark()
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *lastAnswer) Write(p []byte) (int, error) {
	w.mark() // without effect after the header
	return w.ResponseWriter.Write(p)
}

func (w *lastAnswer) mark() {
	if w.draining.Load() {
		w.Header().Set("Connection", "close")
	}
}

// Unwrap is for [http.ResponseController].
func (w *lastAnswer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// recovered turns a panic of one request into an error of that request.
func recovered(next http.Handler, logger *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler { //nolint:errorlint // a sentinel panic value, compared as net/http does
					panic(p)
				}
				logger.Error("panic while answering a request", "path", r.URL.Path, "panic", fmt.Sprint(p))
				http.Error(w, "internal error", http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}
