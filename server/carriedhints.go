package server

import (
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-dev/gatehouse/policy/objects"
)

// carriedHints are the rollout hints that objects carry, as occurrences of their notes. No
// occurrence that is filed has the name of one.
func carriedHints(list []*objects.Object) []*grafeas.Occurrence {
	var all []*grafeas.Occurrence
	for _, h := range objects.Hints(list) {
		attestation := &grafeas.AttestationOccurrence{SerializedPayload: h.Payload}
		for _, s := range h.Signatures {
			attestation.Signatures = append(attestation.Signatures, &grafeas.Signature{PublicKeyId: s.KeyID, Signature: s.Signature})
		}
		all = append(all, &grafeas.Occurrence{
			Name: h.Ref.String(), NoteName: h.Note, ResourceUri: h.ResourceURI, Kind: grafeas.NoteKind_ATTESTATION,
			CreateTime: timestamppb.New(h.Filed), Details: &grafeas.Occurrence_Attestation{Attestation: attestation},
		})
	}
	return all
}
