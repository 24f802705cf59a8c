package v1beta1_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/reflect/protoreflect"

	grafeasbeta "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/metadatatest"
	"github.com/gatehouse-dev/gatehouse/metadata/v1beta1"
)

// The two tests below say which fields of each kind one version has and the
// other cannot hold. docs/grafeas-kinds.md tells people the same: change both.

func TestWhatV1Beta1DoesNotShow(t *testing.T) {
	lost := map[string]bool{}
	for variant := range 20 {
		for _, member := range metadatatest.Members(&grafeas.Note{}, "type") {
			n := metadatatest.Filled(&grafeas.Note{}, member, variant)
			missing(lost, "note", n.ProtoReflect(), v1beta1.NoteFrom(v1beta1.NoteTo(n)).ProtoReflect())
		}
		for _, member := range metadatatest.Members(&grafeas.Occurrence{}, "details") {
			o := metadatatest.Filled(&grafeas.Occurrence{}, member, variant)
			missing(lost, "occurrence", o.ProtoReflect(), v1beta1.OccurrenceFrom(v1beta1.OccurrenceTo(o)).ProtoReflect())
		}
	}
	want := []string{
		"note.compliance",
		"note.discovery.analysis_kind",
		"note.dsse_attestation",
		"note.package.distribution.latest_version.full_name",
		"note.package.version.full_name",
		"note.upgrade",
		"note.vulnerability.details.affected_version_end.full_name",
		"note.vulnerability.details.affected_version_start.full_name",
		"note.vulnerability.details.fixed_version.full_name",
		"occurrence.attestation.jwts",
		"occurrence.build.intoto_provenance",
		"occurrence.build.intoto_statement",
		"occurrence.build.provenance.source_provenance.file_hashes.file_hash.type",
		"occurrence.compliance",
		"occurrence.discovery.archive_time",
		"occurrence.discovery.cpe",
		"occurrence.discovery.vulnerability_attestation",
		"occurrence.dsse_attestation",
		"occurrence.image.layer_info.directive",
		"occurrence.package.location.version.full_name",
		"occurrence.package.version.full_name",
		"occurrence.secret.locations.file_location.layer_details",
		"occurrence.secret.locations.file_location.line_number",
		"occurrence.upgrade",
		"occurrence.vulnerability.fix_available",
		"occurrence.vulnerability.package_issue.affected_version.full_name",
		"occurrence.vulnerability.package_issue.file_location",
		"occurrence.vulnerability.package_issue.fix_available",
		"occurrence.vulnerability.package_issue.fixed_version.full_name",
		"occurrence.vulnerability.risk",
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(lost))); diff != "" {
		t.Errorf("fields of v1 that v1beta1 does not show (-want +got):\n%s", diff)
	}
}

func TestWhatV1CannotHold(t *testing.T) {
	lost := map[string]bool{}
	for variant := range 20 {
		for _, member := range metadatatest.Members(&grafeasbeta.Note{}, "type") {
			n := metadatatest.Filled(&grafeasbeta.Note{}, member, variant)
			stored := v1beta1.NoteFrom(n)
			metadata.StripOriginal(stored)
			missing(lost, "note", n.ProtoReflect(), v1beta1.NoteTo(stored).ProtoReflect())
		}
		for _, member := range metadatatest.Members(&grafeasbeta.Occurrence{}, "details") {
			o := metadatatest.Filled(&grafeasbeta.Occurrence{}, member, variant)
			stored := v1beta1.OccurrenceFrom(o)
			metadata.StripOriginal(stored)
			missing(lost, "occurrence", o.ProtoReflect(), v1beta1.OccurrenceTo(stored).ProtoReflect())
		}
	}
	want := []string{
		"note.build.signature",
		"note.discovery.analysis_kind",
		"note.intoto",
		"note.sbom",
		"note.spdx_file",
		"note.spdx_package",
		"note.spdx_relationship",
		"note.vulnerability.cvss_v3.attack_complexity",
		"note.vulnerability.cvss_v3.attack_requirements",
		"note.vulnerability.cvss_v3.authentication",
		"note.vulnerability.cvss_v3.availability_impact",
		"note.vulnerability.cvss_v3.confidentiality_impact",
		"note.vulnerability.cvss_v3.exploit_maturity",
		"note.vulnerability.cvss_v3.integrity_impact",
		"note.vulnerability.cvss_v3.subsequent_system_availability_impact",
		"note.vulnerability.cvss_v3.subsequent_system_confidentiality_impact",
		"note.vulnerability.cvss_v3.subsequent_system_integrity_impact",
		"note.vulnerability.cvss_v3.user_interaction",
		"note.vulnerability.cvss_v3.vulnerable_system_availability_impact",
		"note.vulnerability.cvss_v3.vulnerable_system_confidentiality_impact",
		"note.vulnerability.cvss_v3.vulnerable_system_integrity_impact",
		"note.vulnerability.cwe",
		"occurrence.attestation.attestation.generic_signed_attestation.content_type",
		"occurrence.attestation.attestation.pgp_signed_attestation",
		"occurrence.discovered.discovered.last_analysis_time",
		"occurrence.intoto",
		"occurrence.resource.content_hash",
		"occurrence.resource.name",
		"occurrence.sbom",
		"occurrence.spdx_file",
		"occurrence.spdx_package",
		"occurrence.spdx_relationship",
		"occurrence.vulnerability.package_issue.severity_name",
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(lost))); diff != "" {
		t.Errorf("fields of v1beta1 that v1 cannot hold (-want +got):\n%s", diff)
	}
}

// missing adds the paths of what a has and b has not, or has otherwise.
func missing(lost map[string]bool, path string, a, b protoreflect.Message) {
	a.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := path + "." + string(f.Name())
		switch {
		case !b.Has(f):
			lost[at] = true
		case f.IsMap() && f.MapValue().Message() != nil:
			v.Map().Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
				missing(lost, at, v.Message(), b.Get(f).Map().Get(key).Message())
				return true
			})
		case f.IsList() && f.Message() != nil:
			for i := range v.List().Len() {
				missing(lost, at, v.List().Get(i).Message(), b.Get(f).List().Get(i).Message())
			}
		case !f.IsMap() && !f.IsList() && f.Message() != nil:
			missing(lost, at, v.Message(), b.Get(f).Message())
		case !v.Equal(b.Get(f)):
			lost[at] = true
		}
		return true
	})
}
