package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/identity"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
)

// auditAPIDir is the folder of the log of calls, beside that of decisions.
const auditAPIDir = "audit-api"

// openIdentity reads who may call the metadata API.
func (p *parts) openIdentity() (err error) {
	internal := append(attestorRules(p.attestorConfig.Project), kritisRules(p.cfg.KritisSigner)...)
	p.identity, err = identity.Open(p.cfg.Identity, identity.Options{Logger: p.logger, Internal: internal})
	return err
}

// attestorRules are what the server's own attestor may do: read what is known of
// images, wherever it is filed, and attest in its own project.
func attestorRules(project string) []identity.Rule {
	return []identity.Rule{
		{Caller: identity.ReservedCaller, Project: "*", Roles: []string{"viewer"}},
		{Caller: identity.ReservedCaller, Project: project, Permissions: []metadata.Permission{
			metadata.NotesCreate, metadata.NotesAttachOccurrence, metadata.OccurrencesCreate,
		}},
	}
}

// openCalls opens the log of calls to the metadata API.
func (p *parts) openCalls() (metadata.Recorder, error) {
	lost := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "gatehouse_audit_api_lost_total",
		Help: "Calls to the metadata API that could not be recorded because the audit log did not keep up.",
	})
	if err := p.registry.Register(lost); err != nil {
		return nil, err
	}
	log, err := audit.Open(filepath.Join(p.cfg.Data, auditAPIDir), p.logger)
	if err != nil {
		return nil, err
	}
	p.onClose(log.Close)
	return audit.NewCalls(log, p.logger, lost.Inc), nil
}

// connectInProcess returns a connection to the metadata API for the attestor,
// which is a client of it like any other, so that it can move to a machine of its
// own. While it is here it calls through memory: nobody else can reach that
// listener, so that to come from it is proof enough of who calls, and neither the
// TLS of the public one nor its address matters.
func (p *parts) connectInProcess() (*grpc.ClientConn, error) {
	handler, closeHandler := grafeasapi.NewHandler(p.service, grafeasapi.Options{
		Logger: p.logger,
		Identify: func(*http.Request) (metadata.Caller, error) {
			return metadata.Caller{Name: identity.ReservedCaller}, nil
		},
	})
	const buffer = 1 << 20
	memory := bufconn.Listen(buffer)
	server := &http.Server{Handler: handler, Protocols: clearProtocols(), ReadHeaderTimeout: readHeaderTimeout}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(memory) }()
	p.onClose(func() error {
		closeHandler()
		err := server.Close()
		if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, fmt.Errorf("serving metadata in process: %w", served))
		}
		return err
	})
	conn, err := grpc.NewClient("passthrough:///in-process",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return memory.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("connecting the attestor to the metadata API: %w", err)
	}
	p.onClose(conn.Close)
	return conn, nil
}

// clearProtocols are those of a listener without TLS: gRPC speaks HTTP/2.
func clearProtocols() *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return protocols
}

// tlsProtocols are those of a listener with TLS.
func tlsProtocols() *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return protocols
}
