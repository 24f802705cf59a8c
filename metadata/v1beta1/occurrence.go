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
	"github.com/gatehouse-dev/gatehouse/metadata"
)

// occurrenceCommon are the fields that occurrences of both versions have, and
// hold alike. The URI of the resource, which is one of them too, has a place of
// its own in each.
var occurrenceCommon = []protoreflect.Name{"name", "note_name", "kind", "remediation", "create_time", "update_time"}

// OccurrenceFrom returns the occurrence as it is stored. Its kind is what its
// details make it.
func OccurrenceFrom(o *grafeasbeta.Occurrence) *grafeas.Occurrence {
	if o == nil {
		return nil
	}
	stored := occurrenceFrom(o)
	back := occurrenceTo(stored)
	back.Kind = o.GetKind() // it is the details', whatever the sender said
	if !proto.Equal(back, o) {
		keepOccurrence(stored, o)
	}
	return stored
}

// keepOccurrence keeps the occurrence in the stored one, without what that holds
// anyway.
func keepOccurrence(stored *grafeas.Occurrence, o *grafeasbeta.Occurrence) {
	original := details(o, occurrenceCommon)
	if proto.Equal(o.GetEnvelope(), envelopeTo(stored.GetEnvelope())) {
		original.Envelope = nil
	}
	if proto.Equal(o.GetResource(), resourceTo(stored.GetResourceUri())) {
		original.Resource = nil
	} else {
		original.Resource.Uri = ""
	}
	keep(stored, original)
}

// OccurrenceTo returns the stored occurrence as v1beta1 shows it.
func OccurrenceTo(o *grafeas.Occurrence) *grafeasbeta.Occurrence {
	if o == nil {
		return nil
	}
	view := occurrenceTo(o)
	var original grafeasbeta.Occurrence
	if !kept(o, &original) {
		return view
	}
	if original.Envelope != nil && proto.Equal(envelopeFrom(original.Envelope), o.GetEnvelope()) {
		view.Envelope = nil // the original's is the same, and more
	} else {
		original.Envelope = nil
	}
	view.Details = nil
	proto.Merge(view, &original)
	return view
}

func resourceTo(uri string) *grafeasbeta.Resource {
	if uri == "" {
		return nil
	}
	return &grafeasbeta.Resource{Uri: uri}
}

func envelopeTo(e *grafeas.Envelope) *common.Envelope {
	if e == nil {
		return nil
	}
	return copied(&common.Envelope{}, e)
}

func envelopeFrom(e *common.Envelope) *grafeas.Envelope {
	if e == nil {
		return nil
	}
	return copied(&grafeas.Envelope{}, e)
}

// occurrenceFrom puts into v1 what it has a place for.
func occurrenceFrom(o *grafeasbeta.Occurrence) *grafeas.Occurrence {
	stored := &grafeas.Occurrence{}
	copyCommon(stored, o, occurrenceCommon)
	stored.ResourceUri = o.GetResource().GetUri()
	stored.Envelope = envelopeFrom(o.GetEnvelope())
	stored.Kind = grafeas.NoteKind_NOTE_KIND_UNSPECIFIED
	member := typeOf(o, "details")
	for _, k := range kinds {
		if k.occurrence == member && member != "" {
			stored.Kind = k.v1
		}
	}
	detailsFrom(stored, o)
	return stored
}

func detailsFrom(stored *grafeas.Occurrence, o *grafeasbeta.Occurrence) {
	switch d := o.GetDetails().(type) {
	case *grafeasbeta.Occurrence_Vulnerability:
		stored.Details = &grafeas.Occurrence_Vulnerability{Vulnerability: vulnerabilityFrom(d.Vulnerability)}
	case *grafeasbeta.Occurrence_Build:
		stored.Details = &grafeas.Occurrence_Build{Build: copied(&grafeas.BuildOccurrence{}, d.Build)}
	case *grafeasbeta.Occurrence_DerivedImage:
		stored.Details = &grafeas.Occurrence_Image{Image: copied(&grafeas.ImageOccurrence{}, d.DerivedImage.GetDerivedImage())}
	case *grafeasbeta.Occurrence_Installation:
		stored.Details = &grafeas.Occurrence_Package{Package: copied(&grafeas.PackageOccurrence{}, d.Installation.GetInstallation())}
	case *grafeasbeta.Occurrence_Deployment:
		stored.Details = &grafeas.Occurrence_Deployment{
			Deployment: copied(&grafeas.DeploymentOccurrence{}, d.Deployment.GetDeployment())}
	case *grafeasbeta.Occurrence_Discovered:
		stored.Details = &grafeas.Occurrence_Discovery{
			Discovery: copied(&grafeas.DiscoveryOccurrence{}, d.Discovered.GetDiscovered())}
	case *grafeasbeta.Occurrence_Attestation:
		stored.Details = &grafeas.Occurrence_Attestation{Attestation: attestationFrom(d.Attestation.GetAttestation())}
	case *grafeasbeta.Occurrence_SbomReference:
		stored.Details = &grafeas.Occurrence_SbomReference{SbomReference: copied(&grafeas.SBOMReferenceOccurrence{}, d.SbomReference)}
	case *grafeasbeta.Occurrence_Secret:
		stored.Details = &grafeas.Occurrence_Secret{Secret: copied(&grafeas.SecretOccurrence{}, d.Secret)}
	case *grafeasbeta.Occurrence_AiSkillAnalysis:
		setAISkill(stored, metadata.AISkillOccurrenceField, d.AiSkillAnalysis)
	}
}

// occurrenceTo takes from v1 what v1beta1 has a place for.
func occurrenceTo(o *grafeas.Occurrence) *grafeasbeta.Occurrence {
	view := &grafeasbeta.Occurrence{}
	copyCommon(view, o, occurrenceCommon)
	view.Resource = resourceTo(o.GetResourceUri())
	view.Envelope = envelopeTo(o.GetEnvelope())
	view.Kind = KindTo(o.GetKind())
	detailsTo(view, o)
	return view
}

func detailsTo(view *grafeasbeta.Occurrence, o *grafeas.Occurrence) {
	switch d := o.GetDetails().(type) {
	case *grafeas.Occurrence_Vulnerability:
		view.Details = &grafeasbeta.Occurrence_Vulnerability{Vulnerability: vulnerabilityTo(d.Vulnerability)}
	case *grafeas.Occurrence_Build:
		view.Details = &grafeasbeta.Occurrence_Build{Build: copied(&build.Details{}, d.Build)}
	case *grafeas.Occurrence_Image:
		view.Details = &grafeasbeta.Occurrence_DerivedImage{
			DerivedImage: &image.Details{DerivedImage: copied(&image.Derived{}, d.Image)}}
	case *grafeas.Occurrence_Package:
		view.Details = &grafeasbeta.Occurrence_Installation{
			Installation: &pkg.Details{Installation: copied(&pkg.Installation{}, d.Package)}}
	case *grafeas.Occurrence_Deployment:
		view.Details = &grafeasbeta.Occurrence_Deployment{
			Deployment: &deployment.Details{Deployment: copied(&deployment.Deployment{}, d.Deployment)}}
	case *grafeas.Occurrence_Discovery:
		view.Details = &grafeasbeta.Occurrence_Discovered{
			Discovered: &discovery.Details{Discovered: copied(&discovery.Discovered{}, d.Discovery)}}
	case *grafeas.Occurrence_Attestation:
		view.Details = &grafeasbeta.Occurrence_Attestation{Attestation: &attestation.Details{Attestation: attestationTo(d.Attestation)}}
	case *grafeas.Occurrence_SbomReference:
		view.Details = &grafeasbeta.Occurrence_SbomReference{SbomReference: copied(&sbom.SBOMReferenceOccurrence{}, d.SbomReference)}
	case *grafeas.Occurrence_Secret:
		view.Details = &grafeasbeta.Occurrence_Secret{Secret: copied(&secret.SecretOccurrence{}, d.Secret)}
	case nil:
		var a aiskillanalysis.AISkillAnalysisOccurrence
		if aiSkill(o, metadata.AISkillOccurrenceField, &a) {
			view.Details = &grafeasbeta.Occurrence_AiSkillAnalysis{AiSkillAnalysis: &a}
		}
	}
}

// attestationFrom gives both forms of an attestation the one of v1. An OpenPGP
// message holds its payload itself, and is taken so by who verifies it.
func attestationFrom(a *attestation.Attestation) *grafeas.AttestationOccurrence {
	stored := &grafeas.AttestationOccurrence{}
	switch s := a.GetSignature().(type) {
	case *attestation.Attestation_PgpSignedAttestation:
		stored.Signatures = []*grafeas.Signature{{
			Signature:   []byte(s.PgpSignedAttestation.GetSignature()),
			PublicKeyId: s.PgpSignedAttestation.GetPgpKeyId(),
		}}
	case *attestation.Attestation_GenericSignedAttestation:
		copied(stored, s.GenericSignedAttestation)
	}
	return stored
}

func attestationTo(a *grafeas.AttestationOccurrence) *attestation.Attestation {
	return &attestation.Attestation{Signature: &attestation.Attestation_GenericSignedAttestation{
		GenericSignedAttestation: copied(&attestation.GenericSignedAttestation{}, a),
	}}
}
