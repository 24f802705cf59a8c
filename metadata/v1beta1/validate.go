package v1beta1

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/grafeas/v1"

	grafeasbeta "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/attestation"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/build"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/image"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/pkg"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/provenance"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/vulnerability"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// problems are a message's, with the paths that its fields have in v1beta1.
type problems struct{ metadata.Problems }

// ValidateNote applies the rules of v1beta1 to a stored note, or those of v1 if
// it holds what only v1 knows and so cannot have been written through v1beta1.
func ValidateNote(n *grafeas.Note) error {
	if !noteHeld(n) {
		return metadata.ValidateNote(n)
	}
	var p problems
	var original grafeasbeta.Note
	if metadata.HasOriginal(n) && !kept(n, &original) {
		p.Add("it has text that is not UTF-8")
	}
	p.note(NoteTo(n))
	return p.Err("note is invalid")
}

// ValidateOccurrence is [ValidateNote] for an occurrence.
func ValidateOccurrence(o *grafeas.Occurrence) error {
	if !occurrenceHeld(o) {
		return metadata.ValidateOccurrence(o)
	}
	var p problems
	var original grafeasbeta.Occurrence
	if metadata.HasOriginal(o) && !kept(o, &original) {
		p.Add("it has text that is not UTF-8")
	}
	p.occurrence(OccurrenceTo(o))
	return p.Err("occurrence is invalid")
}

func (p *problems) note(n *grafeasbeta.Note) {
	if n.GetType() == nil {
		p.Add("type is required: set one that this version of Grafeas knows")
	}
	switch t := n.GetType().(type) {
	case *grafeasbeta.Note_AttestationAuthority:
		if hint := t.AttestationAuthority.GetHint(); hint != nil {
			p.Require(hint.GetHumanReadableName() != "", "attestation_authority.hint.human_readable_name")
		}
	case *grafeasbeta.Note_Build:
		p.Require(t.Build.GetBuilderVersion() != "", "build.builder_version")
		if t.Build.GetSignature() != nil {
			p.Require(len(t.Build.GetSignature().GetSignature()) > 0, "build.signature.signature")
		}
	case *grafeasbeta.Note_Deployable:
		uris := t.Deployable.GetResourceUri()
		p.Require(len(uris) > 0, "deployable.resource_uri")
		p.texts(uris, "deployable.resource_uri")
	case *grafeasbeta.Note_Discovery:
		p.Require(t.Discovery.GetAnalysisKind() != 0, "discovery.analysis_kind")
	case *grafeasbeta.Note_BaseImage:
		p.Require(t.BaseImage.GetResourceUrl() != "", "base_image.resource_url")
		p.fingerprint(t.BaseImage.GetFingerprint(), "base_image.fingerprint")
	case *grafeasbeta.Note_Package:
		p.packageNote(t.Package)
	case *grafeasbeta.Note_Vulnerability:
		p.vulnerabilityNote(t.Vulnerability)
	}
}

func (p *problems) occurrence(o *grafeasbeta.Occurrence) {
	p.Require(o.GetResource() != nil, "resource")
	p.Require(o.GetResource() == nil || o.GetResource().GetUri() != "", "resource.uri")
	p.Require(o.GetNoteName() != "", "note_name")
	if o.GetDetails() == nil {
		p.Add("details is required: set one that this version of Grafeas knows")
	}
	switch d := o.GetDetails().(type) {
	case *grafeasbeta.Occurrence_Attestation:
		p.attestation(d.Attestation.GetAttestation())
	case *grafeasbeta.Occurrence_Build:
		p.build(d.Build)
	case *grafeasbeta.Occurrence_Deployment:
		p.Require(d.Deployment.GetDeployment() != nil, "deployment.deployment")
		p.Require(d.Deployment.GetDeployment() == nil || d.Deployment.GetDeployment().GetDeployTime() != nil, "deployment.deployment.deploy_time")
	case *grafeasbeta.Occurrence_Discovered:
		p.Require(d.Discovered.GetDiscovered() != nil, "discovered.discovered")
	case *grafeasbeta.Occurrence_DerivedImage:
		p.derivedImage(d.DerivedImage.GetDerivedImage())
	case *grafeasbeta.Occurrence_Installation:
		p.installation(d.Installation.GetInstallation())
	case *grafeasbeta.Occurrence_Vulnerability:
		p.vulnerability(d.Vulnerability)
	}
}

// texts demands that none of a list is empty.
func (p *problems) texts(list []string, path string) {
	for i, s := range list {
		p.Require(s != "", "%s[%d]", path, i)
	}
}

func (p *problems) attestation(a *attestation.Attestation) {
	switch s := a.GetSignature().(type) {
	case nil:
		if a == nil {
			p.Require(false, "attestation.attestation")
			return
		}
		p.Add("attestation.attestation.pgp_signed_attestation or attestation.attestation.generic_signed_attestation is required")
	case *attestation.Attestation_PgpSignedAttestation:
		p.Require(s.PgpSignedAttestation.GetSignature() != "", "attestation.attestation.pgp_signed_attestation.signature")
	case *attestation.Attestation_GenericSignedAttestation:
		at := "attestation.attestation.generic_signed_attestation"
		// A signature of OpenPGP may hold its payload: that is how Kritis signs.
		if len(s.GenericSignedAttestation.GetSerializedPayload()) == 0 && len(s.GenericSignedAttestation.GetSignatures()) == 0 {
			p.Add("%s.serialized_payload or %s.signatures is required", at, at)
		}
		for i, sig := range s.GenericSignedAttestation.GetSignatures() {
			p.Require(sig.GetPublicKeyId() != "", "%s.signatures[%d].public_key_id", at, i)
			p.Require(len(sig.GetSignature()) > 0, "%s.signatures[%d].signature", at, i)
		}
	}
}

func (p *problems) build(b *build.Details) {
	if b.GetProvenance() == nil && b.GetInTotoSlsaProvenanceV1() == nil {
		p.Add("build.provenance or build.in_toto_slsa_provenance_v1 is required")
	}
	v := b.GetProvenance()
	if v == nil {
		return // SLSA provenance alone will do
	}
	p.Require(v.GetId() != "", "build.provenance.id")
	for i, c := range v.GetCommands() {
		p.Require(c.GetName() != "", "build.provenance.commands[%d].name", i)
	}
	files := v.GetSourceProvenance().GetFileHashes()
	for _, file := range slices.Sorted(maps.Keys(files)) {
		at := fmt.Sprintf("build.provenance.source_provenance.file_hashes[%q]", clip(file))
		p.Require(len(files[file].GetFileHash()) > 0, "%s.file_hash", at)
		for i, h := range files[file].GetFileHash() {
			p.Require(h.GetType() != provenance.Hash_HASH_TYPE_UNSPECIFIED, "%s.file_hash[%d].type", at, i)
			p.Require(len(h.GetValue()) > 0, "%s.file_hash[%d].value", at, i)
		}
	}
}

func (p *problems) fingerprint(f *image.Fingerprint, at string) {
	if f == nil {
		p.Require(false, "%s", at)
		return
	}
	p.Require(f.GetV1Name() != "", "%s.v1_name", at)
	p.Require(len(f.GetV2Blob()) > 0, "%s.v2_blob", at)
	p.texts(f.GetV2Blob(), at+".v2_blob")
}

func (p *problems) derivedImage(d *image.Derived) {
	const at = "derived_image.derived_image"
	if d == nil {
		p.Require(false, at)
		return
	}
	p.fingerprint(d.GetFingerprint(), at+".fingerprint")
	for i, layer := range d.GetLayerInfo() {
		p.Require(layer.GetDirective() != image.Layer_DIRECTIVE_UNSPECIFIED, "%s.layer_info[%d].directive", at, i)
	}
}

func (p *problems) packageNote(n *pkg.Package) {
	p.Require(n.GetName() != "", "package.name")
	for i, d := range n.GetDistribution() {
		p.Require(d.GetCpeUri() != "", "package.distribution[%d].cpe_uri", i)
		p.version(d.GetLatestVersion(), fmt.Sprintf("package.distribution[%d].latest_version", i))
	}
}

func (p *problems) installation(o *pkg.Installation) {
	const at = "installation.installation"
	if o == nil {
		p.Require(false, at)
		return
	}
	p.Require(o.GetName() != "", at+".name")
	p.Require(len(o.GetLocation()) > 0, at+".location")
	for i, l := range o.GetLocation() {
		p.Require(l.GetCpeUri() != "", "%s.location[%d].cpe_uri", at, i)
		p.version(l.GetVersion(), fmt.Sprintf("%s.location[%d].version", at, i))
	}
}

// version demands of a version, if there is one, a kind that says how to read it.
func (p *problems) version(v *pkg.Version, path string) {
	switch {
	case v == nil:
	case v.GetKind() == pkg.Version_VERSION_KIND_UNSPECIFIED:
		p.Require(false, "%s.kind", path)
	case v.GetKind() == pkg.Version_NORMAL:
		p.Require(v.GetName() != "", "%s.name", path)
	}
}

func (p *problems) vulnerabilityNote(v *vulnerability.Vulnerability) {
	for i, d := range v.GetDetails() {
		at := fmt.Sprintf("vulnerability.details[%d]", i)
		p.Require(d.GetCpeUri() != "", "%s.cpe_uri", at)
		p.Require(d.GetPackage() != "", "%s.package", at)
		p.version(d.GetMinAffectedVersion(), at+".min_affected_version")
		p.version(d.GetMaxAffectedVersion(), at+".max_affected_version")
		p.fixedLocation(d.GetFixedLocation(), at+".fixed_location")
	}
}

func (p *problems) vulnerability(v *vulnerability.Details) {
	p.Require(len(v.GetPackageIssue()) > 0, "vulnerability.package_issue")
	for i, issue := range v.GetPackageIssue() {
		at := fmt.Sprintf("vulnerability.package_issue[%d]", i)
		if issue.GetAffectedLocation() == nil {
			p.Require(false, "%s.affected_location", at)
		} else {
			p.location(issue.GetAffectedLocation(), at+".affected_location")
		}
		p.fixedLocation(issue.GetFixedLocation(), at+".fixed_location")
	}
}

// fixedLocation demands that what fixes is told whole. With version MAXIMUM
// nothing does: v1 says so without a package.
func (p *problems) fixedLocation(l *vulnerability.VulnerabilityLocation, at string) {
	if l != nil && l.GetVersion().GetKind() != pkg.Version_MAXIMUM {
		p.location(l, at)
	}
}

func (p *problems) location(l *vulnerability.VulnerabilityLocation, at string) {
	p.Require(l.GetCpeUri() != "", "%s.cpe_uri", at)
	p.Require(l.GetPackage() != "", "%s.package", at)
	p.Require(l.GetVersion() != nil, "%s.version", at)
	p.version(l.GetVersion(), at+".version")
}

// clip shortens a part of a request before it goes into an error.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
