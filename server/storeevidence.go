package server

import (
	"context"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

const (
	// maxMissedRows and maxMissedBytes bound what is read of the store for the images
	// that one question is about.
	maxMissedRows  = 50_000
	maxMissedBytes = 32 << 20
)

// storeEvidence is the evidence of a gate beside its store: from memory; and what there
// is no room for there, from the store.
type storeEvidence struct {
	*index.Index
	service *metadata.Service
	lookups lookups
}

func newStoreEvidence(x *index.Index, service *metadata.Service) *storeEvidence {
	e := &storeEvidence{Index: x, service: service}
	e.lookups.ask = e.ask
	return e
}

// Refresh reads what a decision lacks, if it may be that it was dropped.
func (e *storeEvidence) Refresh(ctx context.Context, d *decide.Decision, facts evidence.Facts) (evidence.Facts, bool) {
	if _, some := e.Cold(); !some {
		return facts, false
	}
	return e.lookups.Refresh(ctx, d, facts)
}

// ask reads what the store has about digests, and verifies it.
func (e *storeEvidence) ask(ctx context.Context, digests []image.Digest) (map[image.Digest]evidence.Image, error) {
	q := metadata.Question{Statements: index.StatementKinds(), MaxRows: maxMissedRows}
	q.Notes, q.Projects, q.Scans = e.Asks()
	for _, d := range digests {
		q.Digests = append(q.Digests, d.String())
	}
	var occurrences []*grafeas.Occurrence
	var summaries []*metadata.Summary
	size := 0
	err := e.service.About(ctx, q, func(o *grafeas.Occurrence) error {
		if size += proto.Size(o); size > maxMissedBytes {
			return metadata.Errorf(metadata.ResourceExhausted, "there is more about the images than is read at once: %d bytes", maxMissedBytes)
		}
		occurrences = append(occurrences, o)
		return nil
	}, func(found *metadata.Summary, _ string) error {
		summaries = append(summaries, found)
		return nil
	})
	if err != nil {
		return nil, err
	}
	scanners, err := e.scanners(ctx, summaries)
	if err != nil {
		return nil, err
	}
	return e.About(digests, occurrences, summaries, scanners), nil
}

// scanners reads the notes that say what scans looked for.
func (e *storeEvidence) scanners(ctx context.Context, summaries []*metadata.Summary) ([]*grafeas.Note, error) {
	read := make(map[string]bool)
	var notes []*grafeas.Note
	for _, s := range summaries {
		for _, scan := range s.Scans {
			if read[scan.Note] {
				continue
			}
			read[scan.Note] = true
			n, err := e.service.Note(ctx, scan.Note)
			if metadata.KindOf(err) == metadata.NotFound {
				continue // gone with the scan
			}
			if err != nil {
				return nil, err
			}
			notes = append(notes, n)
		}
	}
	return notes, nil
}
