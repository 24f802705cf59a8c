package metadata

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/grafeas/v1"
)

// maxProblems is how many faults one error lists.
const maxProblems = 20

// problems gathers what is wrong with a message, so that its sender can mend all
// of it at once.
type problems struct {
	list []string
	more int
}

func (p *problems) add(format string, args ...any) {
	if len(p.list) == maxProblems {
		p.more++
		return
	}
	p.list = append(p.list, fmt.Sprintf(format, args...))
}

// require adds "path is required" unless ok.
func (p *problems) require(ok bool, path string, args ...any) {
	if !ok {
		p.add(path+" is required", args...)
	}
}

// err returns nil, or all problems as one InvalidArgument.
func (p *problems) err(title string) error { return p.errOf(InvalidArgument, title) }

// errOf returns nil, or all problems as one error of the kind.
func (p *problems) errOf(kind Kind, title string) error {
	if len(p.list) == 0 {
		return nil
	}
	list := strings.Join(p.list, ", ")
	if p.more > 0 {
		list += fmt.Sprintf(", and %d more", p.more)
	}
	return Errorf(kind, "%s: [%s]", title, list)
}

// validateNote applies the rules of the dialect.
func (s *Service) validateNote(n *grafeas.Note) error {
	if s.dialect.ValidateNote != nil {
		return s.dialect.ValidateNote(n)
	}
	return validateNote(n)
}

// validateOccurrence applies the rules of the dialect, and those of any.
func (s *Service) validateOccurrence(o *grafeas.Occurrence) error {
	if !validResourceURI(o.GetResourceUri()) {
		return Errorf(InvalidArgument, "occurrence is invalid: [the resource URI must be one line of at most %d bytes]", maxURI)
	}
	if s.dialect.ValidateOccurrence != nil {
		return s.dialect.ValidateOccurrence(o)
	}
	return validateOccurrence(o)
}

func validateNote(n *grafeas.Note) error {
	var p problems
	if noteKind(n) == grafeas.NoteKind_NOTE_KIND_UNSPECIFIED {
		p.add("type is required: set one that this version of Grafeas knows")
	}
	switch t := n.GetType().(type) {
	case *grafeas.Note_Attestation:
		if hint := t.Attestation.GetHint(); hint != nil {
			p.require(hint.GetHumanReadableName() != "", "attestation.hint.human_readable_name")
		}
	case *grafeas.Note_Build:
		p.require(t.Build.GetBuilderVersion() != "", "build.builder_version")
	case *grafeas.Note_Deployment:
		p.resourceURIs(t.Deployment.GetResourceUri())
	case *grafeas.Note_Discovery:
		p.require(t.Discovery.GetAnalysisKind() != 0, "discovery.analysis_kind")
	case *grafeas.Note_Image:
		p.require(t.Image.GetResourceUrl() != "", "image.resource_url")
		p.fingerprint(t.Image.GetFingerprint())
	case *grafeas.Note_Package:
		p.packageNote(t.Package)
	case *grafeas.Note_Vulnerability:
		p.vulnerabilityNote(t.Vulnerability)
	}
	return p.err("note is invalid")
}

func validateOccurrence(o *grafeas.Occurrence) error {
	var p problems
	p.require(o.GetResourceUri() != "", "resource_uri")
	if occurrenceKind(o) == grafeas.NoteKind_NOTE_KIND_UNSPECIFIED {
		p.add("details is required: set one that this version of Grafeas knows")
	}
	switch d := o.GetDetails().(type) {
	case *grafeas.Occurrence_Attestation:
		p.attestation(d.Attestation)
	case *grafeas.Occurrence_Build:
		p.build(d.Build)
	case *grafeas.Occurrence_Deployment:
		p.require(d.Deployment.GetDeployTime() != nil, "deployment.deploy_time")
	case *grafeas.Occurrence_Image:
		p.fingerprint(d.Image.GetFingerprint())
		for i, layer := range d.Image.GetLayerInfo() {
			p.require(layer.GetDirective() != "", "image.layer_info[%d].directive", i)
		}
	case *grafeas.Occurrence_Package:
		p.packageOccurrence(d.Package)
	case *grafeas.Occurrence_Vulnerability:
		p.vulnerability(d.Vulnerability)
	}
	return p.err("occurrence is invalid")
}

func (p *problems) attestation(a *grafeas.AttestationOccurrence) {
	if len(a.GetSerializedPayload()) == 0 && len(a.GetJwts()) == 0 {
		p.add("attestation.serialized_payload or attestation.jwts is required")
	}
	for i, s := range a.GetSignatures() {
		p.require(s.GetPublicKeyId() != "", "attestation.signatures[%d].public_key_id", i)
		p.require(len(s.GetSignature()) > 0, "attestation.signatures[%d].signature", i)
	}
}

func (p *problems) build(b *grafeas.BuildOccurrence) {
	if b.GetProvenance() == nil && b.GetIntotoProvenance() == nil &&
		b.GetIntotoStatement() == nil && b.GetInTotoSlsaProvenanceV1() == nil {
		p.add("build.provenance, build.intoto_provenance, build.intoto_statement or build.in_toto_slsa_provenance_v1 is required")
	}
	v := b.GetProvenance()
	if v == nil {
		return
	}
	p.require(v.GetId() != "", "build.provenance.id")
	for i, c := range v.GetCommands() {
		p.require(c.GetName() != "", "build.provenance.commands[%d].name", i)
	}
	files := v.GetSourceProvenance().GetFileHashes()
	for _, file := range slices.Sorted(maps.Keys(files)) {
		at := fmt.Sprintf("build.provenance.source_provenance.file_hashes[%q]", clip(file))
		hashes := files[file].GetFileHash()
		p.require(len(hashes) > 0, "%s.file_hash", at)
		for i, h := range hashes {
			p.require(h.GetType() != "", "%s.file_hash[%d].type", at, i)
			p.require(len(h.GetValue()) > 0, "%s.file_hash[%d].value", at, i)
		}
	}
}

func (p *problems) resourceURIs(uris []string) {
	p.require(len(uris) > 0, "deployment.resource_uri")
	for i, uri := range uris {
		p.require(uri != "", "deployment.resource_uri[%d]", i)
	}
}

func (p *problems) fingerprint(f *grafeas.Fingerprint) {
	if f == nil {
		p.require(false, "image.fingerprint")
		return
	}
	p.require(f.GetV1Name() != "", "image.fingerprint.v1_name")
	p.require(len(f.GetV2Blob()) > 0, "image.fingerprint.v2_blob")
	for i, blob := range f.GetV2Blob() {
		p.require(blob != "", "image.fingerprint.v2_blob[%d]", i)
	}
}

func (p *problems) packageNote(n *grafeas.PackageNote) {
	p.require(n.GetName() != "", "package.name")
	for i, d := range n.GetDistribution() {
		p.require(d.GetCpeUri() != "", "package.distribution[%d].cpe_uri", i)
		p.versionIfSet(d.GetLatestVersion(), fmt.Sprintf("package.distribution[%d].latest_version", i))
	}
}

func (p *problems) packageOccurrence(o *grafeas.PackageOccurrence) {
	p.require(o.GetName() != "", "package.name")
	p.require(len(o.GetLocation()) > 0, "package.location")
	for i, l := range o.GetLocation() {
		p.require(l.GetCpeUri() != "", "package.location[%d].cpe_uri", i)
		p.versionIfSet(l.GetVersion(), fmt.Sprintf("package.location[%d].version", i))
	}
}

func (p *problems) versionIfSet(v *grafeas.Version, path string) {
	if v != nil {
		p.version(v, path)
	}
}

// version demands a version whose kind says how to read it.
func (p *problems) version(v *grafeas.Version, path string) {
	switch {
	case v == nil:
		p.require(false, "%s", path)
	case v.GetKind() == grafeas.Version_VERSION_KIND_UNSPECIFIED:
		p.require(false, "%s.kind", path)
	case v.GetKind() == grafeas.Version_NORMAL:
		p.require(v.GetName() != "", "%s.name", path)
	}
}

func (p *problems) vulnerabilityNote(n *grafeas.VulnerabilityNote) {
	p.require(len(n.GetDetails()) > 0, "vulnerability.details")
	for i, d := range n.GetDetails() {
		at := fmt.Sprintf("vulnerability.details[%d]", i)
		p.require(d.GetAffectedCpeUri() != "", "%s.affected_cpe_uri", at)
		p.require(d.GetAffectedPackage() != "", "%s.affected_package", at)
		p.versionIfSet(d.GetAffectedVersionStart(), at+".affected_version_start")
		p.versionIfSet(d.GetAffectedVersionEnd(), at+".affected_version_end")
		p.versionIfSet(d.GetFixedVersion(), at+".fixed_version")
		p.fix(d.GetFixedVersion(), d.GetFixedCpeUri(), d.GetFixedPackage(), at)
	}
}

func (p *problems) vulnerability(o *grafeas.VulnerabilityOccurrence) {
	p.require(len(o.GetPackageIssue()) > 0, "vulnerability.package_issue")
	for i, issue := range o.GetPackageIssue() {
		at := fmt.Sprintf("vulnerability.package_issue[%d]", i)
		p.require(issue.GetAffectedCpeUri() != "", "%s.affected_cpe_uri", at)
		p.require(issue.GetAffectedPackage() != "", "%s.affected_package", at)
		p.version(issue.GetAffectedVersion(), at+".affected_version")
		p.version(issue.GetFixedVersion(), at+".fixed_version")
		p.fix(issue.GetFixedVersion(), issue.GetFixedCpeUri(), issue.GetFixedPackage(), at)
	}
}

// fix demands that a version that fixes says of what.
func (p *problems) fix(v *grafeas.Version, cpe, pkg, at string) {
	if v.GetKind() != grafeas.Version_NORMAL {
		return // MAXIMUM says that there is no fix
	}
	p.require(cpe != "", "%s.fixed_cpe_uri", at)
	p.require(pkg != "", "%s.fixed_package", at)
}
