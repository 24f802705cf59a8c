package admin_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"cloud.google.com/go/iam/apiv1/iampb"
	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
	"github.com/gatehouse-dev/gatehouse/policy/admin"
)

// A foreteller remembers what was foretold, and what the policy was then.
type foreteller struct {
	svc  *metadata.Service
	fail error
	said []string
	done []metadata.CallRecord
}

func (f *foreteller) Record(_ context.Context, c metadata.CallRecord) { f.done = append(f.done, c) }

func (f *foreteller) Intend(ctx context.Context, c metadata.CallRecord, edits []metadata.PolicyEdit) (string, error) {
	for _, e := range edits {
		revision := uint64(0)
		if d, err := f.svc.Document(ctx, e.Name); err == nil {
			revision = d.Revision
		}
		f.said = append(f.said, fmt.Sprintf("%s by %s: %s from revision %d to %d, access %v", c.Method, c.Caller.Name, e.Name, revision, e.Revision, e.Access))
	}
	return "intent-1", f.fail
}

func TestAChangeIsOnRecordBeforeItIsMade(t *testing.T) {
	t.Parallel()
	store, f := memory.New(), &foreteller{}
	t.Cleanup(func() { _ = store.Close() })
	var err error
	if f.svc, err = metadata.NewService(t.Context(), store, metadata.Options{Authorizer: metadata.InsecureAllowAll(), Projects: []string{"p"}, Recorder: f}); err != nil {
		t.Fatal(err)
	}
	svc, err := admin.New(f.svc, admin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const name = "projects/p/policy"
	v := ok[admin.Version](t)(svc.UpdatePolicy(t.Context(), ann, name, change(denyAll)))
	if _, err := f.svc.SetIamPolicy(t.Context(), ann, name, &iampb.Policy{Bindings: []*iampb.Binding{{Role: "roles/binaryauthorization.policyViewer", Members: []string{"user:bob"}}}}); err != nil {
		t.Fatal(err)
	}
	ok[admin.Version](t)(svc.GetPolicy(t.Context(), ann, name))
	if diff := cmp.Diff(f.said, []string{
		"UpdatePolicy by ann: projects/p/policy from revision 0 to 1, access false", "SetIamPolicy by ann: projects/p/policy from revision 1 to 0, access true",
	}); diff != "" {
		t.Error(diff)
	}
	if len(f.done) != 3 || f.done[0].Intent != "intent-1" || f.done[2].Intent != "" {
		t.Errorf("recorded: %+v", f.done)
	}

	f.fail = errors.New("no room")
	_, err = svc.Rollback(t.Context(), ann, name, 1, "", "")
	wantKind(t, err, metadata.Unavailable, "on record", "no room")
	_, err = svc.UpdatePolicy(t.Context(), ann, name, change(denyAll))
	wantKind(t, err, metadata.Unavailable, "on record")
	if now := ok[admin.Version](t)(svc.GetPolicy(t.Context(), ann, name)); now.Revision != v.Revision {
		t.Errorf("what could not be recorded was changed: revision %d", now.Revision)
	}
}

func TestAnEditNamesTheVersionThatItMakes(t *testing.T) {
	t.Parallel()
	store := memory.New()
	t.Cleanup(func() { _ = store.Close() })
	var edits []metadata.PolicyEdit
	svc, err := metadata.NewService(t.Context(), store, metadata.Options{
		Authorizer: metadata.InsecureAllowAll(), Projects: []string{"p"}, Recorder: intend(func(e []metadata.PolicyEdit) { edits = append(edits, e...) }),
	})
	if err != nil {
		t.Fatal(err)
	}
	policies, err := admin.New(svc, admin.Options{})
	if err != nil {
		t.Fatal(err)
	}
	v := ok[admin.Version](t)(policies.UpdatePolicy(t.Context(), ann, "projects/p/policy", change(denyAll)))
	sum := sha256.Sum256(v.Content)
	want := []metadata.PolicyEdit{{Name: "projects/p/policy", Revision: 1, Version: hex.EncodeToString(sum[:])}}
	if diff := cmp.Diff(edits, want); diff != "" {
		t.Error(diff)
	}
}

type intend func([]metadata.PolicyEdit)

func (intend) Record(context.Context, metadata.CallRecord) {}

func (f intend) Intend(_ context.Context, _ metadata.CallRecord, edits []metadata.PolicyEdit) (string, error) {
	f(edits)
	return "", nil
}
