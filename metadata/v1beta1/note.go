package v1beta1

import (
	"google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	grafeasbeta "github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/aiskillanalysis"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/attestation"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/build"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/common"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/deployment"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/discovery"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/image"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/pkg"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/sbom"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/secret"
	"github.com/gatehouse-dev/gatehouse/api/grafeas/v1beta1/vex"
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// noteCommon are the fields that notes of both versions have, and hold alike.
var noteCommon = []protoreflect.Name{
	"name", "short_description", "long_description", "kind", "expiration_time",
	"create_time", "update_time", "related_note_names",
}

// NoteFrom returns the note as it is stored. Its kind is what its type makes it.
func NoteFrom(n *grafeasbeta.Note) *grafeas.Note {
	if n == nil {
		return nil
	}
	stored := noteFrom(n)
	back := noteTo(stored)
	back.Kind = n.GetKind() // it is the type's, whatever the sender said
	if !proto.Equal(back, n) {
		keepNote(stored, n)
	}
	return stored
}

// keepNote keeps the note in the stored one, without what that holds anyway.
func keepNote(stored *grafeas.Note, n *grafeasbeta.Note) {
	original := details(n, noteCommon)
	if sameEach(n.GetRelatedUrl(), copiedEach[*grafeas.RelatedUrl, common.RelatedUrl](stored.GetRelatedUrl())) {
		original.RelatedUrl = nil
	}
	keep(stored, original)
}

// NoteTo returns the stored note as v1beta1 shows it.
func NoteTo(n *grafeas.Note) *grafeasbeta.Note {
	if n == nil {
		return nil
	}
	view := noteTo(n)
	var original grafeasbeta.Note
	if !kept(n, &original) {
		return view
	}
	urls := copiedEach[*common.RelatedUrl, grafeas.RelatedUrl](original.GetRelatedUrl())
	if len(urls) > 0 && sameEach(urls, n.GetRelatedUrl()) {
		view.RelatedUrl = nil // the original's are the same, and more
	} else {
		original.RelatedUrl = nil
	}
	view.Type = nil
	proto.Merge(view, &original)
	return view
}

// noteFrom puts into v1 what it has a place for.
func noteFrom(n *grafeasbeta.Note) *grafeas.Note {
	stored := &grafeas.Note{}
	copyCommon(stored, n, noteCommon)
	stored.RelatedUrl = copiedEach[*common.RelatedUrl, grafeas.RelatedUrl](n.GetRelatedUrl())
	stored.Kind = grafeas.NoteKind_NOTE_KIND_UNSPECIFIED
	member := typeOf(n, "type")
	for _, k := range kinds {
		if k.note == member {
			stored.Kind = k.v1
		}
	}
	noteTypeFrom(stored, n)
	return stored
}

func noteTypeFrom(stored *grafeas.Note, n *grafeasbeta.Note) {
	switch t := n.GetType().(type) {
	case *grafeasbeta.Note_Vulnerability:
		stored.Type = &grafeas.Note_Vulnerability{Vulnerability: vulnerabilityNoteFrom(t.Vulnerability)}
	case *grafeasbeta.Note_Build:
		stored.Type = &grafeas.Note_Build{Build: copied(&grafeas.BuildNote{}, t.Build)}
	case *grafeasbeta.Note_BaseImage:
		stored.Type = &grafeas.Note_Image{Image: copied(&grafeas.ImageNote{}, t.BaseImage)}
	case *grafeasbeta.Note_Package:
		stored.Type = &grafeas.Note_Package{Package: copied(&grafeas.PackageNote{}, t.Package)}
	case *grafeasbeta.Note_Deployable:
		stored.Type = &grafeas.Note_Deployment{Deployment: copied(&grafeas.DeploymentNote{}, t.Deployable)}
	case *grafeasbeta.Note_Discovery:
		stored.Type = &grafeas.Note_Discovery{Discovery: copied(&grafeas.DiscoveryNote{}, t.Discovery)}
	case *grafeasbeta.Note_AttestationAuthority:
		stored.Type = &grafeas.Note_Attestation{Attestation: copied(&grafeas.AttestationNote{}, t.AttestationAuthority)}
	case *grafeasbeta.Note_VulnerabilityAssessment:
		stored.Type = &grafeas.Note_VulnerabilityAssessment{
			VulnerabilityAssessment: copied(&grafeas.VulnerabilityAssessmentNote{}, t.VulnerabilityAssessment)}
	case *grafeasbeta.Note_SbomReference:
		stored.Type = &grafeas.Note_SbomReference{SbomReference: copied(&grafeas.SBOMReferenceNote{}, t.SbomReference)}
	case *grafeasbeta.Note_Secret:
		stored.Type = &grafeas.Note_Secret{Secret: copied(&grafeas.SecretNote{}, t.Secret)}
	case *grafeasbeta.Note_AiSkillAnalysis:
		setAISkill(stored, metadata.AISkillNoteField, t.AiSkillAnalysis)
	}
}

// noteTo takes from v1 what v1beta1 has a place for.
func noteTo(n *grafeas.Note) *grafeasbeta.Note {
	view := &grafeasbeta.Note{}
	copyCommon(view, n, noteCommon)
	view.RelatedUrl = copiedEach[*grafeas.RelatedUrl, common.RelatedUrl](n.GetRelatedUrl())
	view.Kind = KindTo(n.GetKind())
	noteTypeTo(view, n)
	return view
}

func noteTypeTo(view *grafeasbeta.Note, n *grafeas.Note) {
	switch t := n.GetType().(type) {
	case *grafeas.Note_Vulnerability:
		view.Type = &grafeasbeta.Note_Vulnerability{Vulnerability: vulnerabilityNoteTo(t.Vulnerability)}
	case *grafeas.Note_Build:
		view.Type = &grafeasbeta.Note_Build{Build: copied(&build.Build{}, t.Build)}
	case *grafeas.Note_Image:
		view.Type = &grafeasbeta.Note_BaseImage{BaseImage: copied(&image.Basis{}, t.Image)}
	case *grafeas.Note_Package:
		view.Type = &grafeasbeta.Note_Package{Package: copied(&pkg.Package{}, t.Package)}
	case *grafeas.Note_Deployment:
		view.Type = &grafeasbeta.Note_Deployable{Deployable: copied(&deployment.Deployable{}, t.Deployment)}
	case *grafeas.Note_Discovery:
		view.Type = &grafeasbeta.Note_Discovery{Discovery: copied(&discovery.Discovery{}, t.Discovery)}
	case *grafeas.Note_Attestation:
		view.Type = &grafeasbeta.Note_AttestationAuthority{AttestationAuthority: copied(&attestation.Authority{}, t.Attestation)}
	case *grafeas.Note_VulnerabilityAssessment:
		view.Type = &grafeasbeta.Note_VulnerabilityAssessment{
			VulnerabilityAssessment: copied(&vex.VulnerabilityAssessmentNote{}, t.VulnerabilityAssessment)}
	case *grafeas.Note_SbomReference:
		view.Type = &grafeasbeta.Note_SbomReference{SbomReference: copied(&sbom.SBOMReferenceNote{}, t.SbomReference)}
	case *grafeas.Note_Secret:
		view.Type = &grafeasbeta.Note_Secret{Secret: copied(&secret.SecretNote{}, t.Secret)}
	case nil:
		var a aiskillanalysis.AISkillAnalysisNote
		if aiSkill(n, metadata.AISkillNoteField, &a) {
			view.Type = &grafeasbeta.Note_AiSkillAnalysis{AiSkillAnalysis: &a}
		}
	}
}
