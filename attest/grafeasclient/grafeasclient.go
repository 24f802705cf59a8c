// Package grafeasclient reaches the metadata server of an attestor that runs alone,
// whichever it is: Gatehouse's, or another that speaks Grafeas v1 over gRPC; Google's
// Container Analysis; or any that serves the REST API of Grafeas v1 or v1beta1, as the
// server of the Grafeas project does.
//
//	client, err := grafeasclient.Open(ctx, config.Grafeas)
//	defer client.Close()
//	options.Store = client
//
// All of them look like a client of Grafeas v1. One connection serves the process.
package grafeasclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"google.golang.org/api/option"
	gtransport "google.golang.org/api/transport/grpc"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/metadata/transfer"
)

const (
	googleEndpoint = "containeranalysis.googleapis.com:443"
	googleScope    = "https://www.googleapis.com/auth/cloud-platform"

	// maxReceived is more than the 4 MiB of gRPC's default: a page of occurrences may be
	// larger.
	maxReceived = 64 << 20

	// connectTime bounds the search for credentials.
	connectTime = 30 * time.Second
)

// A Client is what attestors and checks ask of a metadata server.
type Client interface {
	CreateNote(ctx context.Context, req *grafeas.CreateNoteRequest, opts ...grpc.CallOption) (*grafeas.Note, error)
	GetNote(ctx context.Context, req *grafeas.GetNoteRequest, opts ...grpc.CallOption) (*grafeas.Note, error)
	CreateOccurrence(ctx context.Context, req *grafeas.CreateOccurrenceRequest, opts ...grpc.CallOption) (*grafeas.Occurrence, error)
	ListOccurrences(ctx context.Context, req *grafeas.ListOccurrencesRequest, opts ...grpc.CallOption) (*grafeas.ListOccurrencesResponse, error)
	ListNoteOccurrences(ctx context.Context, req *grafeas.ListNoteOccurrencesRequest, opts ...grpc.CallOption) (*grafeas.ListNoteOccurrencesResponse, error)
	Close() error
}

// Open returns a client of the server that a configuration names. It connects at its
// first call.
func Open(ctx context.Context, c attest.GrafeasConfig) (Client, error) {
	client, err := open(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("reaching the metadata server: %w", err)
	}
	return client, nil
}

func open(ctx context.Context, c attest.GrafeasConfig) (Client, error) {
	switch {
	case c.Server != "":
		return dial(c)
	case c.Client == attest.ClientGrafeasOS:
		return NewREST(c.Hostname, c.Version)
	}
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	conn, err := gtransport.Dial(ctx, option.WithEndpoint(googleEndpoint), option.WithScopes(googleScope),
		option.WithGRPCDialOption(grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReceived))))
	if err != nil {
		return nil, fmt.Errorf("%s, with the application default credentials: %w", googleEndpoint, err)
	}
	return overGRPC{grafeas.NewGrafeasClient(conn), conn}, nil
}

// overGRPC is a client with its connection.
type overGRPC struct {
	grafeas.GrafeasClient
	conn *grpc.ClientConn
}

func (c overGRPC) Close() error { return c.conn.Close() }

func dial(c attest.GrafeasConfig) (Client, error) {
	u, err := url.Parse(c.Server)
	if err != nil || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, errors.New("gatehouse.metadata server: want https://HOST:PORT, or http://HOST:PORT on loopback")
	}
	port := u.Port()
	if port == "" {
		port = u.Scheme // gRPC knows services by name
	}
	conn, err := transfer.Server{
		Address: net.JoinHostPort(u.Hostname(), port), TLS: u.Scheme == "https",
		CAFile: c.CAFile, TokenFile: c.TokenFile, CertFile: c.CertFile, KeyFile: c.KeyFile,
	}.Connect()
	if err != nil {
		return nil, err
	}
	return overGRPC{grafeas.NewGrafeasClient(conn), conn}, nil
}
