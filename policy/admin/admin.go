// Package admin keeps policies and attestors, checks them, and remembers who
// changed what.
//
// It is Binary Authorization's API without a transport: package binauthzapi serves
// it over gRPC and REST. What it keeps are documents of the metadata store, each in
// the form of the REST API v1, and every version of each for ever. They have the
// names that the API gives them:
//
//	projects/P/policy                   what is required in P's clusters
//	projects/P/attestors/A              who may attest, by which keys
//	projects/P/platforms/L/policies/X   a platform policy
//	locations/L/policy                  the system policy, if the built-in one is replaced
//
// [Service] names the caller in every call. The metadata service beneath asks
// whether he may and writes the audit record, as for its own methods, in one
// function.
//
// What is promised:
//   - A document is valid by the rules of package binauthz when it is written, and
//     every attestor that it names exists at that moment. One that a policy names
//     is only deleted by force; that policy then denies what it asks him for.
//   - Of two writers who have read the same version and send its etag, one wins and
//     the other gets ABORTED. Who sends no etag, wins over the version he may not
//     have seen.
//   - A write that returned without an error is durable and in the change feed, by
//     which [Follow] takes it to a gate.
package admin

import (
	"context"
	"errors"
	"time"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// Options configure a Service. The zero Options are good.
type Options struct {
	// Files are what a gate in this process takes policy from instead of the store.
	Files Files
	// Evaluate answers for evaluations of platform policies; without it they are
	// UNIMPLEMENTED.
	Evaluate Evaluator
}

// Files win over what is stored, for the gate that was given them. Writes of what
// they win over are refused with FAILED_PRECONDITION, since they would do nothing.
type Files struct {
	// Project is the id of the project that the gate enforces the policies of.
	Project string
	// Policies are its policies, of whatever language.
	Policies []string
	// Attestors are all attestors that the gate knows, of whatever project.
	Attestors []string
	// System is the system policy.
	System string
}

// An Evaluator evaluates a platform policy for a Kubernetes object, both JSON, and
// returns the answer of the API, JSON too. It calls may for each project whose
// evidence the policy looks at, and tells nothing of it unless that returns nil.
type Evaluator func(ctx context.Context, policy Version, resource []byte, may func(project string) error) ([]byte, error)

// A Service is Binary Authorization's API. It is safe for concurrent use.
type Service struct {
	svc  *metadata.Service
	opts Options
}

// New returns a Service over the documents of a metadata service.
func New(svc *metadata.Service, opts Options) (*Service, error) {
	if svc == nil {
		return nil, errors.New("starting the policy service: no metadata service")
	}
	return &Service{svc: svc, opts: opts}, nil
}

// Metadata returns the service beneath, whose methods serve access policies of
// policies and attestors too.
func (s *Service) Metadata() *metadata.Service { return s.svc }

// A Version is one version of a document.
type Version struct {
	// Name is that of the document, such as "projects/p/policy".
	Name string
	// Content is JSON in the form of the REST API v1, on one line with sorted keys.
	// It is empty in a version that deletes the document.
	Content []byte
	// ETag is that of Content, in the double quotes that belong to it.
	ETag string
	// Revision counts the versions from 1; it is 0 for what was never written and
	// is there all the same.
	Revision uint64
	// Author wrote it at Time, and said Comment.
	Author  string
	Time    time.Time
	Comment string
}

// Deleted reports whether the version deletes the document.
func (v Version) Deleted() bool { return len(v.Content) == 0 }

// A Page is one page of versions. There are more if NextPageToken is not empty.
type Page struct {
	Versions      []Version
	NextPageToken string
}

// A Change is what somebody wants written.
type Change struct {
	// Body is the document, JSON or YAML. What it says of name and updateTime is
	// ignored. If it has an etag, that must be the one of the version in force.
	Body []byte
	// Comment goes into the history.
	Comment string
}
