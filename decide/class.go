package decide

import "slices"

// A Class says in one word what a decision rests on, for those who count decisions: there
// are few of them, and nothing that anybody wrote is in them.
type Class uint8

// The classes. The zero Class is that of a denial for a reason that has no other.
const (
	ClassOther Class = iota
	ClassAllowed
	ClassExempt
	ClassNoImages
	ClassAlwaysDeny
	// ClassNotAttested is an image about which no attestation was found,
	// ClassAttestationRefused one with attestations of which none counts: by a key that is
	// not trusted, with a signature that is wrong, expired, of another repository; and
	// ClassKeyUnusable an attestor whose attestations nothing could satisfy.
	ClassNotAttested
	ClassAttestationRefused
	ClassKeyUnusable
	ClassTagNotDigest
	ClassInvalidReference
	// ClassPolicyIncomplete is a policy without a rule, an attestor or a check that is needed.
	ClassPolicyIncomplete
	ClassUnavailable
	ClassNoPolicy
	ClassVulnerable
	ClassNotScanned
	// ClassExpired is an image that is too old, or of which nobody knows how old it is.
	ClassExpired
	ClassNotTrusted
	ClassNotBuilt
	ClassNotHinted
	classes
)

var classNames = [classes]string{
	"other", "allowed", "exempt", "no_images", "always_deny", "not_attested", "attestation_refused", "key_unusable", "tag_not_digest",
	"invalid_reference", "policy_incomplete", "evidence_unavailable", "no_policy", "vulnerable", "not_scanned", "expired", "not_trusted", "not_built", "not_hinted",
}

// String returns the name of the class, such as "not_attested".
func (c Class) String() string {
	if c >= classes {
		return classNames[ClassOther]
	}
	return classNames[c]
}

// Classes returns all classes; that at i has the value i.
func Classes() []Class {
	all := make([]Class, classes)
	for i := range all {
		all[i] = Class(i)
	}
	return all
}

var codeClasses = map[Code]Class{
	CodeAlwaysDeny: ClassAlwaysDeny, CodeNotAttested: ClassNotAttested, CodeNoDigest: ClassTagNotDigest, CodeInvalidReference: ClassInvalidReference,
	CodeAttestorMissing: ClassPolicyIncomplete, CodeNoRule: ClassPolicyIncomplete, CodeNoCheck: ClassPolicyIncomplete,
	CodeEvidenceUnavailable: ClassUnavailable, CodeNoPolicy: ClassNoPolicy, CodeVulnerable: ClassVulnerable, CodeNotScanned: ClassNotScanned,
	CodeScanTruncated: ClassNotScanned, CodeStale: ClassExpired, CodeUploadUnknown: ClassExpired, CodeNotTrusted: ClassNotTrusted, CodeNotBuilt: ClassNotBuilt,
	CodeNotHinted: ClassNotHinted, CodeUnhinted: ClassNotHinted,
}

// Class returns what the verdict rests on, whatever overrides it: that of the first reason
// of the first image that has the verdict.
func (d *Decision) Class() Class {
	if d.Verdict == ALLOW {
		return d.classOfAllowed()
	}
	for i := range d.Images {
		img := &d.Images[i]
		if img.Verdict != d.Verdict {
			continue
		}
		for j := range img.Reasons {
			if img.Reasons[j].Verdict == d.Verdict {
				return img.Reasons[j].class()
			}
		}
	}
	return ClassOther
}

func (d *Decision) classOfAllowed() Class {
	switch {
	case len(d.Images) == 0:
		return ClassNoImages
	case slices.ContainsFunc(d.Images, func(i ImageDecision) bool { return i.Exemption == "" }):
		return ClassAllowed
	}
	return ClassExempt
}

func (r *Reason) class() Class {
	c := codeClasses[r.Code]
	if c != ClassNotAttested || len(r.Details) == 0 {
		return c
	}
	if r.Details[0] == noUsableKey {
		return ClassKeyUnusable
	}
	return ClassAttestationRefused
}
