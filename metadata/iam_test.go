package metadata_test

import (
	"context"
	"errors"
	"testing"

	"cloud.google.com/go/iam/apiv1/iampb"
	"google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

// Access policies give what the authorizer does not, on the one note or
// occurrence that they are of, and to nobody else.
func TestAccessPoliciesGrant(t *testing.T) {
	t.Parallel()
	bob, nobody := metadata.Caller{Name: "bob"}, metadata.Caller{}
	svc := newService(t, metadata.Options{
		Authorizer: metadata.AuthorizerFunc(func(_ context.Context, c metadata.Caller, p metadata.Permission, _ string) error {
			if c == alice || p == metadata.OccurrencesCreate {
				return nil
			}
			return errors.New("no rule gives it")
		}),
	})
	ctx := t.Context()
	const one, other = "projects/provider/notes/attester", "projects/provider/notes/other"
	for _, id := range []string{"attester", "other"} {
		must[*grafeas.Note](t)(svc.CreateNote(ctx, alice, "projects/provider", id, attestationNote()))
	}
	grant := func(resource, role string, members ...string) {
		t.Helper()
		must[*iampb.Policy](t)(svc.SetIamPolicy(ctx, alice, resource, &iampb.Policy{Bindings: []*iampb.Binding{{Role: role, Members: members}}}))
	}
	attach := func(c metadata.Caller, note, payload string) error {
		o := attestation("r", payload)
		o.NoteName = note
		_, err := svc.CreateOccurrence(ctx, c, "projects/p", o)
		return err
	}
	wantKind(t, attach(bob, one, "1"), metadata.PermissionDenied, "notes.attachOccurrence")
	grant(one, "roles/containeranalysis.notes.attacher", "user:bob")
	if err := attach(bob, one, "1"); err != nil {
		t.Errorf("whom the policy lets attach: %v", err)
	}
	wantKind(t, attach(bob, other, "1"), metadata.PermissionDenied, other)
	wantKind(t, attach(metadata.Caller{Name: "bobby"}, one, "2"), metadata.PermissionDenied, "bobby")
	wantKind(t, attach(nobody, one, "2"), metadata.PermissionDenied, one)
	_, err := svc.UpdateNote(ctx, bob, one, nil)
	wantKind(t, err, metadata.PermissionDenied, "notes.update")
	_, err = svc.SetIamPolicy(ctx, bob, one, &iampb.Policy{})
	wantKind(t, err, metadata.PermissionDenied, "notes.setIamPolicy")

	grant(one, "notes.attacher", "allAuthenticatedUsers")
	wantKind(t, attach(nobody, one, "2"), metadata.PermissionDenied, one)
	if err := attach(metadata.Caller{Name: "bobby"}, one, "2"); err != nil {
		t.Errorf("an authenticated caller: %v", err)
	}
	grant(one, "notes.attacher", "allUsers")
	if err := attach(nobody, one, "3"); err != nil {
		t.Errorf("a caller without a name: %v", err)
	}
	grant(one, "notes.viewer", "user:bob")
	wantKind(t, attach(bob, one, "4"), metadata.PermissionDenied, one)

	// A policy of an occurrence is about that one.
	o := must[*grafeas.Occurrence](t)(svc.CreateOccurrence(ctx, alice, "projects/p", attestation("r", "5")))
	_, err = svc.GetOccurrence(ctx, bob, o.GetName())
	wantKind(t, err, metadata.PermissionDenied, "occurrences.get")
	grant(o.GetName(), "occurrences.viewer", "serviceAccount:bob")
	if _, err := svc.GetOccurrence(ctx, bob, o.GetName()); err != nil {
		t.Error(err)
	}
	have, err := svc.TestIamPermissions(ctx, bob, o.GetName(), []string{"containeranalysis.occurrences.get", "containeranalysis.occurrences.delete"})
	if err != nil || len(have) != 1 || have[0] != "containeranalysis.occurrences.get" {
		t.Errorf("bob has %v, %v", have, err)
	}
	// A policy dies with its note, and does not come back with its name.
	grant(other, "notes.viewer", "user:bob")
	if err := svc.DeleteNote(ctx, alice, other); err != nil {
		t.Fatal(err)
	}
	must[*grafeas.Note](t)(svc.CreateNote(ctx, alice, "projects/provider", "other", attestationNote()))
	_, err = svc.GetNote(ctx, bob, other)
	wantKind(t, err, metadata.PermissionDenied, "notes.get")
}

func TestProjectsThatAlwaysExist(t *testing.T) {
	t.Parallel()
	svc := newService(t, metadata.Options{Projects: []string{"kritis"}})
	if err := svc.GetProject(t.Context(), alice, "projects/kritis"); err != nil {
		t.Error(err)
	}
	wantKind(t, svc.CreateProject(t.Context(), alice, "projects/kritis"), metadata.AlreadyExists, "projects/kritis")
	wantKind(t, svc.DeleteProject(t.Context(), alice, "projects/kritis"), metadata.FailedPrecondition, "always exists")
}
