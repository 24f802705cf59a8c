package server

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/policy/admin"
	"github.com/gatehouse-dev/gatehouse/policy/bundle"
	"github.com/gatehouse-dev/gatehouse/policy/platform"
	"github.com/gatehouse-dev/gatehouse/policy/platform/evaluate"
)

const (
	// maxEvaluated and maxEvaluatedBytes bound the occurrences that one evaluation
	// reads, which are in memory at once: whoever may write occurrences can add as
	// many about an image as the store takes.
	maxEvaluated      = 100_000
	maxEvaluatedBytes = 128 << 20
	// maxEvaluations bounds how many run at a time; others wait their turn. Each
	// verifies signatures, and the gate of this process needs the processor too.
	maxEvaluations = 2
)

// An evaluator answers for the evaluate method of platform policies. The policy need
// not be in force, and so its evidence is read from the store and verified anew.
type evaluator struct {
	service *metadata.Service
	place   admission.Place
	// known returns the texts that the gate knows, of attestors and builders too.
	known func() bundle.Sources
	now   func() time.Time
	turns chan struct{} // of maxEvaluations
	// maxBytes is maxEvaluatedBytes.
	maxBytes int
}

func newEvaluator(service *metadata.Service, place admission.Place, known func() bundle.Sources) *evaluator {
	return &evaluator{service: service, place: place, known: known, now: time.Now, turns: make(chan struct{}, maxEvaluations), maxBytes: maxEvaluatedBytes}
}

func (e *evaluator) evaluate(ctx context.Context, v admin.Version, resource []byte, may func(project string) error) ([]byte, error) {
	request, err := admission.ReadRequest(resource, e.place)
	if err != nil {
		return nil, metadata.Errorf(metadata.InvalidArgument, "request is invalid: [resource: %w]", err)
	}
	text, found := platform.ParsePolicy(v.Name, v.Content)
	if text == nil {
		return nil, metadata.Errorf(metadata.FailedPrecondition, "the stored policy is not valid any more: %w", found.Err())
	}
	text.Name = v.Name
	sources := e.known()
	sources.Project, sources.PlatformDryRun = projectOf(v.Name), false
	sources.Objects, sources.Compiler = nil, nil
	sources.Policies = []bundle.File{{Name: v.Name, Data: v.Content}}
	loaded, found := bundle.Load(sources)
	if loaded == nil {
		return nil, metadata.Errorf(metadata.FailedPrecondition, "the policy cannot be evaluated: %w", found.Err())
	}
	for _, project := range loaded.Set.Projects() {
		if err := may(project); err != nil {
			return nil, err
		}
	}
	select {
	case e.turns <- struct{}{}:
		defer func() { <-e.turns }()
	case <-ctx.Done():
		return nil, metadata.Errorf(metadata.Unavailable, "other policies were being evaluated: %w", ctx.Err())
	}
	facts, err := e.facts(ctx, loaded, admission.References(request.Images))
	if err != nil {
		return nil, err
	}
	loaded.Set[0].Name = v.Name
	response, err := evaluate.Evaluate(text, []evaluate.Pod{{
		Name: nameOf(resource), Request: request, Decision: decide.Decide(request, loaded.Set, facts, e.now()),
	}})
	if err != nil {
		return nil, metadata.Errorf(metadata.Internal, "%w", err)
	}
	return json.Marshal(response)
}

// facts reads what the projects that the policy looks into have about the images.
func (e *evaluator) facts(ctx context.Context, loaded *bundle.Bundle, refs []image.Reference) (evidence.Facts, error) {
	var digests []string
	for _, r := range refs {
		if d := r.Digest(); !d.IsZero() {
			digests = append(digests, d.String())
		}
	}
	var all []*grafeas.Occurrence
	size := 0
	for _, project := range loaded.Set.Projects() {
		err := e.service.SubjectOccurrences(ctx, project, digests, index.Kinds(), func(o *grafeas.Occurrence) error {
			if size += proto.Size(o); len(all) == maxEvaluated || size > e.maxBytes {
				return metadata.Errorf(metadata.ResourceExhausted, "more than %d occurrences about the images, or more than %d bytes", maxEvaluated, e.maxBytes)
			}
			all = append(all, o)
			return nil
		})
		if err != nil {
			return evidence.Facts{}, err
		}
	}
	notes, err := e.scanners(ctx, all)
	if err != nil {
		return evidence.Facts{}, err
	}
	return index.FromOccurrences(ctx, all, loaded.Keys, refs, notes...), nil
}

// scanners reads the notes of discoveries, which say what was looked for.
func (e *evaluator) scanners(ctx context.Context, occurrences []*grafeas.Occurrence) ([]*grafeas.Note, error) {
	read := map[string]bool{}
	var notes []*grafeas.Note
	for _, o := range occurrences {
		if o.GetDiscovery() == nil || read[o.GetNoteName()] {
			continue
		}
		read[o.GetNoteName()] = true
		n, err := e.service.Note(ctx, o.GetNoteName())
		if metadata.KindOf(err) == metadata.NotFound { // deleted since, and says nothing
			n, err = &grafeas.Note{Name: o.GetNoteName(), Type: &grafeas.Note_Discovery{Discovery: &grafeas.DiscoveryNote{}}}, nil
		}
		if err != nil {
			return nil, err
		}
		notes = append(notes, n)
	}
	return notes, nil
}

// projectOf returns the id of the project in projects/P/platforms/L/policies/X.
func projectOf(name string) string {
	_, rest, _ := strings.Cut(name, "/")
	id, _, _ := strings.Cut(rest, "/")
	return id
}

// nameOf returns the name of an object, or of the pod in a review.
func nameOf(resource []byte) string {
	var object struct {
		Metadata struct {
			Name         string `json:"name"`
			GenerateName string `json:"generateName"`
		} `json:"metadata"`
	}
	if json.Unmarshal(resource, &object) != nil {
		return "" // ReadRequest has said what is wrong with it
	}
	if object.Metadata.Name == "" {
		return object.Metadata.GenerateName
	}
	return object.Metadata.Name
}
