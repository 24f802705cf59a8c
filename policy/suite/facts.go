package suite

import (
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
)

// addEvidence adds to the facts what a case says in words. What it names must be
// there: a case that trusts a key nobody knows would prove nothing.
func addEvidence(facts *evidence.Facts, list []Evidence, set policy.Set, project string, now time.Time) error {
	for i := range list {
		e := &list[i]
		d, err := digestOf(e.Image)
		if err != nil {
			return fmt.Errorf("line %d: evidence: %w", e.Line, err)
		}
		if facts.Images == nil {
			facts.Images = map[image.Digest]evidence.Image{}
		}
		img := facts.Images[d]
		if err := e.addTo(&img, set, project, now); err != nil {
			return fmt.Errorf("line %d: evidence: %w", e.Line, err)
		}
		facts.Images[d] = img
	}
	return nil
}

func digestOf(text string) (image.Digest, error) {
	if strings.HasPrefix(text, "sha256:") {
		return image.ParseDigest(text)
	}
	ref, err := image.ParseDigested(text)
	return ref.Digest(), err
}

func (e *Evidence) addTo(img *evidence.Image, set policy.Set, project string, now time.Time) error {
	img.State = evidence.Known
	if e.Unavailable != "" {
		img.State, img.Err = evidence.Unavailable, e.Unavailable
	}
	ref, _ := image.Parse(e.Image) // a digest alone has no repository
	repository := ""
	if !ref.Digest().IsZero() {
		repository = ref.Repository()
	}
	for _, name := range e.AttestedBy {
		a, ok := attestorOf(set, name)
		if !ok || len(a.Keys) == 0 {
			return fmt.Errorf("attestedBy: no policy requires an attestor %q that has keys", name)
		}
		img.Attestations = append(img.Attestations, evidence.Attestation{
			Origin:     origin(a.Note, projectOf(a.Note), a.Keys[0], now),
			Repository: repository,
		})
	}
	for _, s := range e.SignedBy {
		k, ok := keyOf(set, s.Key)
		if !ok {
			return fmt.Errorf("signedBy: no check of a policy trusts a key %q", s.Key)
		}
		img.Attestations = append(img.Attestations, evidence.Attestation{
			Origin: origin("", or(s.Project, project), k, now), Repository: repository, Cosign: s.Cosign,
		})
	}
	for _, s := range e.Scans {
		img.Scans = append(img.Scans, s.fact(project))
	}
	if !e.Uploaded.IsZero() {
		k, in, ok := recorderOf(set)
		if !ok {
			return fmt.Errorf("uploaded: no check of a policy asks for it, or nobody may record it")
		}
		img.Uploads = append(img.Uploads, evidence.Upload{Origin: origin("", in, k, now), Time: e.Uploaded})
	}
	for _, b := range e.BuiltBy {
		builder, ok := builderOf(set, b.Builder)
		if !ok || len(builder.Keys) == 0 || len(builder.IDs) == 0 {
			return fmt.Errorf("builtBy: no check of a policy trusts a builder %q that has keys", b.Builder)
		}
		img.Provenances = append(img.Provenances, evidence.Provenance{
			Origin: origin("", or(b.Project, project), builder.Keys[0], now), Builder: builder.IDs[0], Source: b.Source, ConfigBased: b.ConfigBased, Statement: []byte("{}"),
		})
	}
	return nil
}

func (s Scanned) fact(project string) evidence.Scan {
	scan := evidence.Scan{Project: or(s.Project, project), Finished: !s.Unfinished}
	if s.Unfinished {
		scan.Status = "SCANNING"
	}
	for _, f := range s.Findings {
		note := f.Vulnerability
		if !strings.Contains(note, "/") {
			note = "projects/" + scan.Project + "/notes/" + note
		}
		scan.Findings = append(scan.Findings, evidence.Finding{Note: note, Severity: f.Severity, Fixable: f.Fixable})
	}
	return scan
}

func origin(note, project string, k policy.Key, now time.Time) evidence.Origin {
	return evidence.Origin{Note: note, Project: project, Occurrence: "projects/" + project + "/occurrences/case", KeyID: k.ID, Fingerprint: k.Fingerprint, Created: now}
}

func projectOf(note string) string {
	parts := strings.Split(note, "/")
	if len(parts) < 2 {
		return ""
	}
	return parts[1]
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func attestorOf(set policy.Set, name string) (policy.Attestor, bool) {
	for r := range set.Rulesets() {
		if a, ok := r.Attestors[name]; ok {
			return a, true
		}
	}
	return policy.Attestor{}, false
}

func keyOf(set policy.Set, id string) (key policy.Key, ok bool) {
	for c := range set.Conditions() {
		signed, is := c.(policy.SignedBy)
		if !is {
			continue
		}
		for _, s := range signed.Signers {
			for _, k := range s.Keys {
				if k.ID == id {
					key, ok = k, true
				}
			}
		}
	}
	return key, ok
}

func recorderOf(set policy.Set) (key policy.Key, project string, ok bool) {
	for c := range set.Conditions() {
		fresh, is := c.(policy.Fresh)
		if !is || len(fresh.Projects) == 0 {
			continue
		}
		for _, s := range fresh.Recorders {
			if len(s.Keys) > 0 && !ok {
				key, project, ok = s.Keys[0], fresh.Projects[0], true
			}
		}
	}
	return key, project, ok
}

func builderOf(set policy.Set, name string) (builder policy.Builder, ok bool) {
	for c := range set.Conditions() {
		built, is := c.(policy.BuiltBy)
		if !is {
			continue
		}
		for _, r := range built.Rules {
			if r.Builder.Name == name {
				builder, ok = r.Builder, true
			}
		}
	}
	return builder, ok
}
