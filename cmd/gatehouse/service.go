package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/gatehouse-dev/gatehouse/metadata/transfer"
	"github.com/gatehouse-dev/gatehouse/policy/admin/adminclient"
)

// defaultMetadata is where the metadata API listens that was told nothing.
const defaultMetadata = "127.0.0.1:8080"

// serviceFlags say which service holds the policies, and how to get in.
type serviceFlags struct {
	server  transfer.Server
	url     string
	project string
	timeout time.Duration
}

func (s *serviceFlags) bind(c *cobra.Command) {
	address := os.Getenv(envPrefix + "METADATA")
	if address == "" {
		address = defaultMetadata
	}
	f := c.Flags()
	f.StringVar(&s.url, "metadata", address, "the service: HOST:PORT or URL; "+envPrefix+"METADATA sets the default")
	f.StringVar(&s.project, "project", "default", "project")
	connectionFlags(f, &s.server)
	f.DurationVar(&s.timeout, "timeout", transfer.DefaultTimeout, "how long to wait for the answer")
}

// connect returns a client, and a context that ends when it takes too long.
func (s *serviceFlags) connect(ctx context.Context) (*adminclient.Client, context.Context, context.CancelFunc, error) {
	client, base, err := s.http()
	if err != nil {
		return nil, nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	return adminclient.New(base, client), ctx, cancel, nil
}

// http returns a client that brings credentials, and the base of the service's addresses.
func (s *serviceFlags) http() (client *http.Client, base string, err error) {
	address, found := strings.CutPrefix(s.url, "https://")
	if s.server.TLS = s.server.TLS || found; !found {
		address = strings.TrimPrefix(address, "http://")
	}
	s.server.Address = strings.TrimSuffix(address, "/")
	return s.server.HTTP()
}

// run connects and runs fn. What the service refuses is a no, and said.
func (s *serviceFlags) run(c *cobra.Command, fn func(context.Context, *adminclient.Client) error) error {
	client, ctx, cancel, err := s.connect(c.Context())
	if err != nil {
		return err
	}
	defer cancel()
	err = fn(ctx, client)
	if s.missing(err) {
		err = fmt.Errorf("%w; name another with --project, or create it with POST /v1/projects", err)
	}
	return refusedIsNo(c, err)
}

// missing reports whether the service refused because it has no such project.
func (s *serviceFlags) missing(err error) bool {
	return err != nil && strings.Contains(err.Error(), fmt.Sprintf("project %q does not exist", "projects/"+s.project))
}

func refusedIsNo(c *cobra.Command, err error) error {
	switch adminclient.StatusOf(err) {
	case "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "ABORTED":
		_, printErr := fmt.Fprintf(c.ErrOrStderr(), "gatehouse: %s\n", printable(err.Error()))
		return errors.Join(errNo, printErr)
	}
	return err
}

// head is what every document says of itself.
type head struct {
	Name       string `json:"name"`
	ETag       string `json:"etag"`
	UpdateTime string `json:"updateTime"`
}

func headOf(content []byte) (head, error) {
	var h head
	if err := json.Unmarshal(content, &h); err != nil {
		return h, fmt.Errorf("reading the service's answer: %w", err)
	}
	return h, nil
}

// written tells what was written.
func written(c *cobra.Command, output format, content []byte, what string) error {
	if output == formatJSON {
		_, err := c.OutOrStdout().Write(content)
		return err
	}
	h, err := headOf(content)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s %s, etag %s\n", printable(h.Name), what, printable(h.ETag))
	return err
}
