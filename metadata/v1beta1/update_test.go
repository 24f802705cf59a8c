package v1beta1_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	grafeasbeta "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/common"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/pkg"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/metadatatest"
	"github.com/gatehouse-dev/gatehouse/metadata/v1beta1"
)

// TestCommonUpdatesLoseNothing updates messages as v1 writes them: every kind,
// all fields set, and unknown ones in all places.
func TestCommonUpdatesLoseNothing(t *testing.T) {
	for _, strange := range []bool{false, true} {
		for _, member := range metadatatest.Members(&grafeas.Note{}, "type") {
			current := metadatatest.Filled(&grafeas.Note{}, member, 1)
			if strange {
				addUnknown(current.ProtoReflect())
			}
			want := proto.CloneOf(current)
			want.ShortDescription = "changed"
			got, err := v1beta1.UpdateNote(current, func(n *grafeasbeta.Note) (*grafeasbeta.Note, error) {
				n.ShortDescription = "changed"
				return n, nil
			})
			if err != nil {
				t.Fatalf("note %s: %v", member, err)
			}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("note %s (strange %t) lost something (-want +got):\n%s", member, strange, diff)
			}
		}
		for _, member := range metadatatest.Members(&grafeas.Occurrence{}, "details") {
			current := metadatatest.Filled(&grafeas.Occurrence{}, member, 1)
			if strange {
				addUnknown(current.ProtoReflect())
			}
			want := proto.CloneOf(current)
			want.Remediation = "changed"
			got, err := v1beta1.UpdateOccurrence(current, func(o *grafeasbeta.Occurrence) (*grafeasbeta.Occurrence, error) {
				o.Remediation = "changed"
				return o, nil
			})
			if err != nil {
				t.Fatalf("occurrence %s: %v", member, err)
			}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("occurrence %s (strange %t) lost something (-want +got):\n%s", member, strange, diff)
			}
		}
	}
}

func TestUpdatesOfDetails(t *testing.T) {
	addURI := func(n *grafeasbeta.Note) (*grafeasbeta.Note, error) {
		n.GetDeployable().ResourceUri = append(n.GetDeployable().ResourceUri, "added")
		return n, nil
	}
	t.Run("reach what v1 wrote, if v1beta1 holds it all", func(t *testing.T) {
		got, err := v1beta1.UpdateNote(metadatatest.Filled(&grafeas.Note{}, "deployment", 0), addURI)
		if err != nil {
			t.Fatal(err)
		}
		if uris := got.GetDeployment().GetResourceUri(); len(uris) != 3 || uris[2] != "added" {
			t.Errorf("stored URIs %q", uris)
		}
	})
	t.Run("are refused where something would be lost", func(t *testing.T) {
		current := metadatatest.Filled(&grafeas.Note{}, "deployment", 0)
		addUnknown(current.GetDeployment().ProtoReflect())
		_, err := v1beta1.UpdateNote(current, addURI)
		if metadata.KindOf(err) != metadata.FailedPrecondition || !strings.Contains(err.Error(), "update it through v1") {
			t.Errorf("error %v, want one of kind FAILED_PRECONDITION that tells the way out", err)
		}
	})
	t.Run("are refused where v1 added what is unknown to what v1beta1 wrote", func(t *testing.T) {
		current := v1beta1.NoteFrom(metadatatest.Filled(&grafeasbeta.Note{}, "intoto", 0))
		change := func(n *grafeasbeta.Note) (*grafeasbeta.Note, error) {
			n.GetIntoto().StepName = "other"
			return n, nil
		}
		if _, err := v1beta1.UpdateNote(current, change); err != nil {
			t.Fatal(err)
		}
		r := current.ProtoReflect()
		r.SetUnknown(metadata.AppendField(r.GetUnknown(), 99, []byte("new in v1")))
		if _, err := v1beta1.UpdateNote(current, change); metadata.KindOf(err) != metadata.FailedPrecondition {
			t.Errorf("error %v, want one of kind FAILED_PRECONDITION", err)
		}
	})
	t.Run("are refused where v1 has a kind that v1beta1 has not", func(t *testing.T) {
		_, err := v1beta1.UpdateNote(metadatatest.Filled(&grafeas.Note{}, "upgrade", 0), func(n *grafeasbeta.Note) (*grafeasbeta.Note, error) {
			n.Type = &grafeasbeta.Note_Package{Package: &pkg.Package{Name: "p"}}
			return n, nil
		})
		if metadata.KindOf(err) != metadata.FailedPrecondition {
			t.Errorf("error %v, want one of kind FAILED_PRECONDITION", err)
		}
	})
	t.Run("are made to what v1beta1 itself wrote", func(t *testing.T) {
		current := v1beta1.OccurrenceFrom(metadatatest.Filled(&grafeasbeta.Occurrence{}, "discovered", 0))
		got, err := v1beta1.UpdateOccurrence(current, func(o *grafeasbeta.Occurrence) (*grafeasbeta.Occurrence, error) {
			o.GetDiscovered().Discovered.LastAnalysisTime = nil
			return o, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		view := v1beta1.OccurrenceTo(got)
		if view.GetDiscovered().GetDiscovered().GetLastAnalysisTime() != nil {
			t.Error("the change is not there")
		}
		if view.GetResource().GetContentHash() == nil {
			t.Error("the rest is gone")
		}
	})
	t.Run("of occurrences are refused where something would be lost", func(t *testing.T) {
		_, err := v1beta1.UpdateOccurrence(metadatatest.Filled(&grafeas.Occurrence{}, "attestation", 0), func(o *grafeasbeta.Occurrence) (*grafeasbeta.Occurrence, error) {
			o.GetAttestation().GetAttestation().GetGenericSignedAttestation().SerializedPayload = []byte("other")
			return o, nil
		})
		if metadata.KindOf(err) != metadata.FailedPrecondition {
			t.Errorf("error %v, want one of kind FAILED_PRECONDITION: v1's JWTs would be lost", err)
		}
	})
	t.Run("of envelopes and addresses are of what both versions hold", func(t *testing.T) {
		got, err := v1beta1.UpdateOccurrence(metadatatest.Filled(&grafeas.Occurrence{}, "upgrade", 0), func(o *grafeasbeta.Occurrence) (*grafeasbeta.Occurrence, error) {
			o.Envelope = &common.Envelope{PayloadType: "new"}
			o.Resource.Uri = "new"
			return o, nil
		})
		if err != nil || got.GetEnvelope().GetPayloadType() != "new" || got.GetResourceUri() != "new" || got.GetUpgrade() == nil {
			t.Errorf("got %v, %v", got, err)
		}
		note, err := v1beta1.UpdateNote(metadatatest.Filled(&grafeas.Note{}, "upgrade", 0), func(n *grafeasbeta.Note) (*grafeasbeta.Note, error) {
			n.RelatedUrl = nil
			return n, nil
		})
		if err != nil || len(note.GetRelatedUrl()) != 0 || note.GetUpgrade() == nil {
			t.Errorf("got %v, %v", note, err)
		}
	})
}

func TestUpdatesThatFail(t *testing.T) {
	broken := errors.New("no")
	_, err := v1beta1.UpdateNote(&grafeas.Note{}, func(*grafeasbeta.Note) (*grafeasbeta.Note, error) { return nil, broken })
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want the one of the change", err)
	}
	_, err = v1beta1.UpdateOccurrence(&grafeas.Occurrence{}, func(*grafeasbeta.Occurrence) (*grafeasbeta.Occurrence, error) { return nil, broken })
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want the one of the change", err)
	}
	_, err = v1beta1.UpdateNote(&grafeas.Note{}, func(*grafeasbeta.Note) (*grafeasbeta.Note, error) { return nil, nil })
	if metadata.KindOf(err) != metadata.InvalidArgument {
		t.Errorf("error %v, want one of kind INVALID_ARGUMENT", err)
	}
	_, err = v1beta1.UpdateOccurrence(&grafeas.Occurrence{}, func(*grafeasbeta.Occurrence) (*grafeasbeta.Occurrence, error) { return nil, nil })
	if metadata.KindOf(err) != metadata.InvalidArgument {
		t.Errorf("error %v, want one of kind INVALID_ARGUMENT", err)
	}
}

func TestTheViewOfAnUpdateIsACopy(t *testing.T) {
	current := metadatatest.Filled(&grafeas.Occurrence{}, "deployment", 0)
	before := proto.CloneOf(current)
	_, err := v1beta1.UpdateOccurrence(current, func(o *grafeasbeta.Occurrence) (*grafeasbeta.Occurrence, error) {
		o.CreateTime.Seconds++
		o.GetDeployment().GetDeployment().DeployTime.Seconds++
		o.GetEnvelope().Payload[0] ^= 1
		return o, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(before, current) {
		t.Error("the change reached into the stored message")
	}
}
