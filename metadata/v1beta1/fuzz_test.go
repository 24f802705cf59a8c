package v1beta1_test

import (
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	grafeasbeta "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1"
	"github.com/gatehouse-dev/gatehouse/metadata/metadatatest"
	"github.com/gatehouse-dev/gatehouse/metadata/v1beta1"
)

// FuzzNote: what v1beta1 writes comes back as it was, and what v1 writes is
// either held by v1beta1 whole, or left alone.
func FuzzNote(f *testing.F) {
	for _, member := range metadatatest.Members(&grafeasbeta.Note{}, "type") {
		n := metadatatest.Filled(&grafeasbeta.Note{}, member, 0)
		addUnknown(n.ProtoReflect())
		f.Add(encode(f, n))
	}
	for _, member := range metadatatest.Members(&grafeas.Note{}, "type") {
		f.Add(encode(f, metadatatest.Filled(&grafeas.Note{}, member, 0)))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var sent grafeasbeta.Note
		if proto.Unmarshal(raw, &sent) == nil {
			stored := through(t, v1beta1.NoteFrom(&sent), &grafeas.Note{})
			sent.Kind = v1beta1.KindTo(stored.GetKind())
			if got := v1beta1.NoteTo(stored); !proto.Equal(got, &sent) {
				t.Errorf("%v\ncame back as\n%v", &sent, got)
			}
		}
		var current grafeas.Note
		if proto.Unmarshal(raw, &current) == nil {
			got, err := v1beta1.UpdateNote(&current, func(n *grafeasbeta.Note) (*grafeasbeta.Note, error) { return n, nil })
			if err != nil || !proto.Equal(got, &current) {
				t.Errorf("an update of nothing made of\n%v\nthis: %v\n%v", &current, err, got)
			}
		}
	})
}

// FuzzOccurrence is FuzzNote for occurrences.
func FuzzOccurrence(f *testing.F) {
	for _, member := range metadatatest.Members(&grafeasbeta.Occurrence{}, "details") {
		o := metadatatest.Filled(&grafeasbeta.Occurrence{}, member, 0)
		addUnknown(o.ProtoReflect())
		f.Add(encode(f, o))
	}
	for _, member := range metadatatest.Members(&grafeas.Occurrence{}, "details") {
		f.Add(encode(f, metadatatest.Filled(&grafeas.Occurrence{}, member, 0)))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var sent grafeasbeta.Occurrence
		if proto.Unmarshal(raw, &sent) == nil {
			stored := through(t, v1beta1.OccurrenceFrom(&sent), &grafeas.Occurrence{})
			sent.Kind = v1beta1.KindTo(stored.GetKind())
			if got := v1beta1.OccurrenceTo(stored); !proto.Equal(got, &sent) {
				t.Errorf("%v\ncame back as\n%v", &sent, got)
			}
		}
		var current grafeas.Occurrence
		if proto.Unmarshal(raw, &current) == nil {
			got, err := v1beta1.UpdateOccurrence(&current, func(o *grafeasbeta.Occurrence) (*grafeasbeta.Occurrence, error) { return o, nil })
			if err != nil || !proto.Equal(got, &current) {
				t.Errorf("an update of nothing made of\n%v\nthis: %v\n%v", &current, err, got)
			}
		}
	})
}

func encode(f *testing.F, m proto.Message) []byte {
	f.Helper()
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	return raw
}
