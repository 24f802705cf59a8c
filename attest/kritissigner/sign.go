package kritissigner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// noteDescription is what Kritis writes into the notes that it makes.
const noteDescription = "Image Policy Security Attestor"

const pageSize = 100

// sign makes sure that the image has an attestation by the key. A new one is filed
// before those that it replaces are deleted, so that the image is never without, unless
// the server takes only one: then the order is the other way, and to be cut short in
// between leaves an image that is not attested.
func (s *Signer) sign(ctx context.Context, ref image.Reference, r *Report) error {
	r.Note, r.KeyID = s.Note, s.Key.KeyID()
	unlock, err := s.signing.Lock(ctx, ref.ResourceURI())
	if err != nil {
		return fmt.Errorf("waiting for another request that does so: %w", err)
	}
	defer unlock()
	there, err := s.list(ctx, ref)
	if err != nil {
		return err
	}
	ours := s.ours(ctx, ref, there)
	if len(ours) > 0 && !s.Overwrite {
		r.Signed, r.Existing, r.Attestation = true, true, ours[0]
		return nil
	}
	payload := signature.NewPayload(ref.Repository(), ref.Digest(), signature.TypeAtomic)
	sealed, err := s.Form.Seal(ctx, s.Key, ref, payload, s.Now())
	if err != nil {
		return err // it names the key
	}
	occurrence := sealed.Occurrence
	occurrence.NoteName = s.Note
	stored, err := s.file(ctx, ref, occurrence)
	if status.Code(err) == codes.AlreadyExists {
		// The server takes one attestation under a note, and there is one already.
		if stored, err = s.fileInPlace(ctx, ref, occurrence, r); err == nil && stored == nil {
			return nil
		}
		ours = nil
	}
	if err != nil {
		return fmt.Errorf("filing the attestation under the note %q: %w", s.Note, err)
	}
	r.Signed, r.Attestation = true, stored.GetName()
	return s.remove(ctx, slices.DeleteFunc(ours, func(name string) bool { return name == stored.GetName() }), r)
}

// fileInPlace files an attestation where the server takes only one under a note. If
// the one there turns out to be ours, which another may have just made, there is
// nothing to do and nothing stored.
func (s *Signer) fileInPlace(ctx context.Context, ref image.Reference, o *grafeas.Occurrence, r *Report) (*grafeas.Occurrence, error) {
	there, err := s.list(ctx, ref)
	if err != nil {
		return nil, err
	}
	if ours := s.ours(ctx, ref, there); len(ours) > 0 && !s.Overwrite {
		r.Signed, r.Existing, r.Attestation = true, true, ours[0]
		return nil, nil
	}
	if !s.Overwrite {
		return nil, errors.New("there is one already that does not verify with the key, and the server takes only one; look at it, and replace it with --overwrite")
	}
	names := make([]string, 0, len(there))
	for _, o := range there {
		names = append(names, o.GetName())
	}
	if err := s.remove(ctx, names, r); err != nil {
		return nil, err
	}
	return s.file(ctx, ref, o)
}

func (s *Signer) file(ctx context.Context, ref image.Reference, o *grafeas.Occurrence) (*grafeas.Occurrence, error) {
	stored, created, err := attest.File(ctx, s.Store, "projects/"+s.projectOf(ref), o, s.Form.NewNote(s.Note, noteDescription))
	if created {
		s.Logger.InfoContext(ctx, "created a note", "note", s.Note)
	}
	return stored, err
}

func (s *Signer) projectOf(ref image.Reference) string {
	if s.Project != "" {
		return s.Project
	}
	if p := check.ProjectOf(ref); p != "" {
		return p
	}
	return strings.Split(s.Note, "/")[1]
}

func (s *Signer) remove(ctx context.Context, names []string, r *Report) error {
	for _, name := range names {
		_, err := s.Store.DeleteOccurrence(ctx, &grafeas.DeleteOccurrenceRequest{Name: name})
		if err != nil && status.Code(err) != codes.NotFound {
			return fmt.Errorf("deleting the attestation %q that was there before: %w", name, err)
		}
		s.Logger.InfoContext(ctx, "deleted an attestation that is replaced", "attestation", name)
		r.Replaced = append(r.Replaced, name)
	}
	return nil
}

// list returns the attestations of the image under the note, whoever made them.
func (s *Signer) list(ctx context.Context, ref image.Reference) ([]*grafeas.Occurrence, error) {
	listed, err := check.List(ctx, func(ctx context.Context, token string) ([]*grafeas.Occurrence, string, error) {
		resp, err := s.Store.ListNoteOccurrences(ctx, &grafeas.ListNoteOccurrencesRequest{
			Name: s.Note, Filter: check.Filter(ref, s.Form.Kind()), PageSize: pageSize, PageToken: token,
		})
		return resp.GetOccurrences(), resp.GetNextPageToken(), err
	})
	if err != nil {
		return nil, fmt.Errorf("listing the attestations under the note %q: %w", s.Note, err)
	}
	return slices.DeleteFunc(listed, func(o *grafeas.Occurrence) bool {
		return o.GetNoteName() != s.Note || !check.About(o, ref, s.Form.Kind())
	}), nil
}

// ours returns the names of the attestations that are about the image and its
// repository and verify with the key, as the gate would find them.
func (s *Signer) ours(ctx context.Context, ref image.Reference, there []*grafeas.Occurrence) []string {
	public := s.Key.PublicKey()
	facts := index.FromOccurrences(ctx, there, index.Trust{s.Note: {public}}, []image.Reference{ref})
	var names []string
	known := facts.Images[ref.Digest()]
	for i := range known.Attestations {
		a := &known.Attestations[i]
		named := a.Repository == ref.Repository() || s.Form == attest.JWT && a.Repository == ""
		if a.Fingerprint == public.Fingerprint() && named && a.ValidAt(s.Now()) && !slices.Contains(names, a.Occurrence) {
			names = append(names, a.Occurrence)
		}
	}
	slices.Sort(names)
	return names
}
