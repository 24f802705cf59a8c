package attest

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// attest signs the statement that the image passed the check and files it,
// unless there is one of ours already: many kinds of signature differ each time,
// and every check of an image would leave another. The details are set, as far
// as they are known, with an error too: Voucher's are.
func (a *Authority) attest(ctx context.Context, ref image.Reference, name string) (*Details, error) {
	if len(a.Signers) == 0 {
		return &Details{}, ErrNoKeys
	}
	signer, ok := a.Signers[name]
	if !ok {
		return &Details{}, ErrNoKey
	}
	unlock, err := a.attesting.Lock(ctx, ref.ResourceURI()+" "+name)
	if err != nil {
		return nil, fmt.Errorf("attesting that %q passed %q: waiting for another request that does so: %w", ref, name, err)
	}
	defer unlock()
	if details := a.existing(ctx, ref, name, signer); details != nil {
		return details, nil
	}
	payload := signature.NewPayload(ref.Name(), ref.Digest(), signature.TypeBinauthz)
	sealed, err := a.Form.Seal(ctx, signer, ref, payload, a.now())
	if err != nil {
		return nil, fmt.Errorf("attesting that %q passed %q: %w", ref, name, err)
	}
	details := &Details{
		CheckName: name, Body: string(sealed.Body), KeyID: signer.KeyID(),
		Signature: string(sealed.Signature), SignatureBase64: base64.StdEncoding.EncodeToString(sealed.Signature),
	}
	sealed.Occurrence.NoteName = a.note(name)
	err = a.file(ctx, sealed.Occurrence)
	if status.Code(err) == codes.AlreadyExists {
		details.Signature, details.SignatureBase64 = "", ""
		err = a.confirm(ctx, ref, name, signer)
	}
	if err != nil {
		return details, fmt.Errorf("filing the attestation that %q passed %q: %w", ref, name, err)
	}
	return details, nil
}

// existing returns the details of the attestation that the signer has made
// before, without its signature, or nil. When the store does not tell, another
// attestation does no harm.
func (a *Authority) existing(ctx context.Context, ref image.Reference, name string, signer signature.Signer) *Details {
	if deadline, ok := ctx.Deadline(); ok {
		// What is left is for signing and filing.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	v, err := a.find(ctx, ref, name, []*signature.PublicKey{signer.PublicKey()})
	if err != nil {
		a.Logger.DebugContext(ctx, "looking for an earlier attestation", "check", name, "image", ref.String(), "error", err)
		return nil
	}
	if v.keyID == "" {
		return nil
	}
	return &Details{CheckName: name, Body: string(v.signed), KeyID: signer.KeyID()}
}

// sign signs, and makes sure that what a signer may have answered is a signature of
// ours over this payload before it is filed.
func sign(ctx context.Context, signer signature.Signer, payload []byte) ([]byte, error) {
	sig, err := signer.Sign(ctx, payload)
	if err != nil {
		return nil, err // it names the key
	}
	if _, err := signer.PublicKey().Verify(payload, sig); err != nil {
		return nil, fmt.Errorf("signing with key %q: what the signer returned is not its signature: %w", signer.KeyID(), err)
	}
	return sig, nil
}

// file stores an occurrence and, where it may, the note that is missing.
func (a *Authority) file(ctx context.Context, o *grafeas.Occurrence) error {
	note := a.Form.NewNote(o.GetNoteName(), fmt.Sprintf("Images that passed the check %q", noteID(o.GetNoteName())))
	if !a.CreateNotes {
		note = nil
	}
	_, created, err := File(ctx, a.Store, "projects/"+a.Project, o, note)
	if created {
		a.Logger.InfoContext(ctx, "created a note", "note", o.GetNoteName())
	}
	if status.Code(err) == codes.NotFound && !a.CreateNotes {
		return fmt.Errorf("%w; create the note %q, or set create_notes = true", err, o.GetNoteName())
	}
	return err
}

// noteID returns N of projects/P/notes/N.
func noteID(name string) string {
	_, id, _ := strings.Cut(name, "/notes/")
	return id
}

// File stores an attestation in a project, parent, and returns it as it was stored.
// When its note does not exist and note is one, that is created, which is told. An
// error has the code of the server's.
func File(ctx context.Context, store Store, parent string, o *grafeas.Occurrence, note *grafeas.Note) (stored *grafeas.Occurrence, created bool, err error) {
	req := &grafeas.CreateOccurrenceRequest{Parent: parent, Occurrence: o}
	stored, err = store.CreateOccurrence(ctx, req)
	if status.Code(err) != codes.NotFound || note == nil {
		return stored, false, err
	}
	if created, err = createNote(ctx, store, note); err != nil {
		return nil, false, err
	}
	stored, err = store.CreateOccurrence(ctx, req)
	return stored, created, err
}

// createNote creates a note. Another attestor may do so at the same time.
func createNote(ctx context.Context, store Store, note *grafeas.Note) (created bool, err error) {
	parent, id, _ := strings.Cut(note.GetName(), "/notes/")
	_, err = store.CreateNote(ctx, &grafeas.CreateNoteRequest{Parent: parent, NoteId: id, Note: note})
	switch status.Code(err) {
	case codes.OK:
		return true, nil
	case codes.AlreadyExists:
		return false, nil
	}
	return false, fmt.Errorf("creating the note %q: %w", note.GetName(), err)
}

// confirm looks at the attestation that is there already: only one of ours
// makes another needless.
func (a *Authority) confirm(ctx context.Context, ref image.Reference, name string, signer signature.Signer) error {
	v, err := a.find(ctx, ref, name, []*signature.PublicKey{signer.PublicKey()})
	switch {
	case err != nil:
		return fmt.Errorf("there is one already, which could not be read: %w", err)
	case v.keyID == "":
		return fmt.Errorf("there is one already under the note %q that is not ours: %s; delete it, so that this one can take its place", a.note(name), v.why())
	}
	return nil
}
