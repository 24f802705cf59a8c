package server

import (
	"net/http"

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
	log, err := p.openAudit(auditCalls)
	if err != nil {
		return nil, err
	}
	return audit.NewCalls(log, audit.CallOptions{AllowUnrecorded: p.cfg.Audit.OnUnwritable == AllowUnrecorded, Logger: p.logger}), nil
}

// connectInProcess returns a client of the metadata API for the attestor,
// which is a client of it like any other, so that it can move to a machine of its
// own. While it is here it calls the server itself: nobody else has that
// client, so that to come by it is proof enough of who calls, and neither the
// TLS of the public listener nor its address matters.
func (p *parts) connectInProcess() *grafeasapi.InProcess {
	client := grafeasapi.NewInProcess(p.service, metadata.Caller{Name: identity.ReservedCaller}, grafeasapi.Options{Logger: p.logger})
	p.onClose(client.Close)
	return client
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
