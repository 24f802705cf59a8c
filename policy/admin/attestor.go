package admin

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/policy/binauthz"
	"github.com/gatehouse-dev/gatehouse/policy/keys"
)

// CreateAttestor stores a new attestor under a project, "projects/P".
func (s *Service) CreateAttestor(ctx context.Context, caller metadata.Caller, parent, id string, change Change) (Version, error) {
	return metadata.Do(ctx, s.svc, caller, "CreateAttestor", parent+"/attestors/"+id, func(c *metadata.Call) (Version, error) {
		project, err := projectOf(parent)
		if err != nil {
			return Version{}, err
		}
		if err := c.Need(ctx, metadata.AttestorsCreate, parent); err != nil {
			return Version{}, err
		}
		if err := c.Project(ctx, project); err != nil {
			return Version{}, err
		}
		if err := checkAttestorID(id); err != nil {
			return Version{}, err
		}
		return s.put(ctx, c, place{kind: attestorKind, project: project}, parent+"/attestors/"+id, create, change)
	})
}

// GetAttestor returns an attestor.
func (s *Service) GetAttestor(ctx context.Context, caller metadata.Caller, name string) (Version, error) {
	return s.get(ctx, caller, "GetAttestor", attestorKind, name)
}

// get returns a document that has to be there.
func (s *Service) get(ctx context.Context, caller metadata.Caller, method string, k *kind, name string) (Version, error) {
	return metadata.Do(ctx, s.svc, caller, method, name, func(c *metadata.Call) (Version, error) {
		if _, err := k.of(name); err != nil {
			return Version{}, err
		}
		if err := c.Need(ctx, k.get, name); err != nil {
			return Version{}, err
		}
		return found(ctx, c, name, k)
	})
}

// UpdateAttestor replaces an attestor, whose note stays the same.
func (s *Service) UpdateAttestor(ctx context.Context, caller metadata.Caller, name string, change Change) (Version, error) {
	return s.update(ctx, caller, "UpdateAttestor", attestorKind, name, change)
}

// update replaces a document that has to be there.
func (s *Service) update(ctx context.Context, caller metadata.Caller, method string, k *kind, name string, change Change) (Version, error) {
	return metadata.Do(ctx, s.svc, caller, method, name, func(c *metadata.Call) (Version, error) {
		p, err := k.of(name)
		if err != nil {
			return Version{}, err
		}
		if err := c.Need(ctx, k.update, name); err != nil {
			return Version{}, err
		}
		// Whether it is there comes first: what is not cannot be changed.
		if _, err := found(ctx, c, name, k); err != nil {
			return Version{}, err
		}
		return s.put(ctx, c, p, name, replace, change)
	})
}

// ListAttestors returns a page of a project's attestors, in the order of their
// names. A project that does not exist is an InvalidArgument, as with Google.
func (s *Service) ListAttestors(ctx context.Context, caller metadata.Caller, parent string, pageSize int32, pageToken string) (Page, error) {
	return metadata.Do(ctx, s.svc, caller, "ListAttestors", parent, func(c *metadata.Call) (Page, error) {
		project, err := projectOf(parent)
		if err != nil {
			return Page{}, err
		}
		if err := c.Need(ctx, metadata.AttestorsList, parent); err != nil {
			return Page{}, err
		}
		if err := c.Project(ctx, project); err != nil {
			if metadata.KindOf(err) == metadata.NotFound {
				err = metadata.Errorf(metadata.InvalidArgument, "%w", err)
			}
			return Page{}, err
		}
		return list(ctx, c, metadata.List{Method: "ListAttestors", Parent: parent, PageSize: pageSize, PageToken: pageToken}, parent+"/attestors/")
	})
}

// list returns a page of the documents of a collection.
func list(ctx context.Context, c *metadata.Call, l metadata.List, prefix string) (Page, error) {
	size, after, err := c.Page(l)
	if err != nil {
		return Page{}, err
	}
	rows, more, err := c.Store().Documents(ctx, metadata.DocumentQuery{Prefix: prefix, After: after, Limit: size})
	if err != nil {
		return Page{}, err
	}
	page, err := pageOf(rows)
	if err == nil && more {
		page.NextPageToken = c.NextPageToken(l, rows[len(rows)-1].Name)
	}
	return page, err
}

func pageOf(rows []*metadata.Document) (Page, error) {
	var page Page
	for _, d := range rows {
		v, err := versionOf(d)
		if err != nil {
			return Page{}, err
		}
		page.Versions = append(page.Versions, v)
	}
	return page, nil
}

// DeleteAttestor deletes an attestor. One that a policy names stays, unless it is
// to go by force: that policy then denies what it asks him for.
func (s *Service) DeleteAttestor(ctx context.Context, caller metadata.Caller, name string, force bool) error {
	_, err := metadata.Do(ctx, s.svc, caller, "DeleteAttestor", name, func(c *metadata.Call) (struct{}, error) {
		p, err := attestorKind.of(name)
		if err != nil {
			return struct{}{}, err
		}
		if err := c.Need(ctx, metadata.AttestorsDelete, name); err != nil {
			return struct{}{}, err
		}
		if err := s.opts.Files.refuse(p, name); err != nil {
			return struct{}{}, err
		}
		err = remove(ctx, c, name, attestorKind, "", force)
		if metadata.KindOf(err) == metadata.FailedPrecondition {
			err = metadata.Errorf(metadata.FailedPrecondition, "%w: take it out there first, or delete it with force=true, after which what asks for it is denied", err)
		}
		return struct{}{}, err
	})
	return err
}

// A Validation says whether an attestation is one of an attestor's.
type Validation struct {
	Verified bool
	// DenialReason says why not.
	DenialReason string
}

// ValidateAttestation reports whether an attestation, which need not be stored,
// would count now as one of the attestor's: it is to be filed under the note, which
// must be his, and about the resource, whose digest must be what was signed.
func (s *Service) ValidateAttestation(ctx context.Context, caller metadata.Caller, attestor string, attestation *grafeas.AttestationOccurrence, note, resourceURI string) (Validation, error) {
	return metadata.Do(ctx, s.svc, caller, "ValidateAttestationOccurrence", attestor, func(c *metadata.Call) (Validation, error) {
		if _, err := attestorKind.of(attestor); err != nil {
			return Validation{}, err
		}
		if err := c.Need(ctx, metadata.AttestorsVerifyImageAttested, attestor); err != nil {
			return Validation{}, err
		}
		var p metadata.Problems
		p.Require(attestation != nil, "attestation")
		p.Require(note != "", "occurrenceNote")
		p.Require(resourceURI != "", "occurrenceResourceUri")
		if err := p.Err("request is invalid"); err != nil {
			return Validation{}, err
		}
		v, err := found(ctx, c, attestor, attestorKind)
		if err != nil {
			return Validation{}, err
		}
		a, err := storedAttestor(v)
		if err != nil {
			return Validation{}, err
		}
		return verify(ctx, a, attestation, note, resourceURI, c.Now()), nil
	})
}

// verify asks the code that verifies and decides for gates.
func verify(ctx context.Context, a *binauthz.Attestor, attestation *grafeas.AttestationOccurrence, note, uri string, now time.Time) Validation {
	ref, err := image.ParseResourceURI(uri)
	switch {
	case note != a.Note:
		return refused(fmt.Sprintf("occurrenceNote is %q, and the note of the attestor is %q", clip(note), a.Note))
	case err != nil:
		return refused(fmt.Sprintf("occurrenceResourceUri names no image by digest: %v", err))
	case len(a.Keys) == 0:
		return refused("the attestor has no public keys")
	}
	facts := index.FromOccurrences(ctx, []*grafeas.Occurrence{{
		ResourceUri: uri, NoteName: note, Kind: grafeas.NoteKind_ATTESTATION, Details: &grafeas.Occurrence_Attestation{Attestation: attestation},
	}}, index.Trust{a.Note: a.Keys}, []image.Reference{ref})
	required := &policy.Ruleset{
		Rules:     []policy.Rule{{Evaluation: policy.RequireChecks, Checks: []policy.Check{{Condition: policy.Attested{Attestor: a.Name}}}}},
		Attestors: map[string]policy.Attestor{a.Name: {Name: a.Name, Note: a.Note, Keys: keys.Compile(a.Keys)}},
	}
	d := decide.Decide(decide.Request{Images: []decide.ImageUse{{Text: ref.String()}}}, policy.Set{required}, facts, now)
	if d.Verdict == decide.ALLOW {
		return Validation{Verified: true}
	}
	if details := d.Images[0].Reasons[0].Details; len(details) > 0 {
		return refused(details[0])
	}
	return refused("no signature was made by a key of the attestor")
}

func refused(reason string) Validation { return Validation{DenialReason: reason} }
