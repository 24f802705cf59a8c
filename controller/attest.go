package controller

import (
	"context"
	"slices"
	"time"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/internal/kube"
)

const (
	// maxAttestations is how many images a pass asks to have attested.
	maxAttestations = 16
	// attestAgain is when one is asked for again that is not attested by then.
	attestAgain = 10 * time.Minute
)

// An Attestor attests images elsewhere, where the keys are: the controller has none.
type Attestor interface {
	// Signs reports whether it does so for an AttestationAuthority.
	Signs(authority kube.Key) bool
	// Attest has an image checked, and attested for the authority if it passes.
	Attest(ctx context.Context, authority kube.Key, ref image.Reference) error
}

// An attestation is one that an ImageSecurityPolicy asks for.
type attestation struct {
	authority kube.Key
	ref       image.Reference
}

// wanted are the attestations that the policies of a namespace ask for: of images that a
// policy lets in because of what scans have found, which names one authority and a secret
// to sign with, as it had to for Kritis to attest them. The images are those of pods that
// are there, all of whose images all policies allow. So nothing is attested that is on a
// list of exceptions, or in a pod that was denied or only tried out, or let in by breaking
// glass.
func (c *Controller) wanted(namespace string, list []held, decided []decisions, pods []*pod) []attestation {
	if c.Attestor == nil {
		return nil
	}
	allowed := map[string]bool{}
	for _, p := range pods {
		if !slices.ContainsFunc(p.images, func(text string) bool { return !allows(decided, text) }) {
			for _, text := range p.images {
				allowed[text] = true
			}
		}
	}
	var all []attestation
	for i, h := range list {
		authority := kube.Key{Namespace: namespace, Name: h.signsFor}
		if h.signsFor == "" || !c.Attestor.Signs(authority) {
			continue
		}
		for text, scanned := range decided[i].scanned {
			attested := decided[i].attested[text]
			if !allowed[text] || !byScan(scanned) || attested.Verdict != decide.DENY {
				continue
			}
			if ref, err := image.Parse(text); err == nil {
				all = append(all, attestation{authority, ref})
			}
		}
	}
	return all
}

// byScan reports whether an image is let in by what scans have found, and nothing else.
func byScan(d *decide.ImageDecision) bool {
	return d.Verdict == decide.ALLOW && slices.ContainsFunc(d.Reasons, func(r decide.Reason) bool { return r.Code == decide.CodeScanned })
}

// attest asks for attestations, each once in a while.
func (w *writing) attest(ctx context.Context, wanted []attestation) {
	now := w.Now()
	for _, a := range wanted {
		key := a.authority.Namespace + "/" + a.authority.Name + " " + a.ref.String()
		if now.Before(w.asked[key]) || w.attestations == maxAttestations {
			continue
		}
		w.asked[key] = now.Add(attestAgain)
		w.attestations++
		w.write("attestation", a.authority.Namespace, a.authority.Name, func() error {
			err := w.Attestor.Attest(ctx, a.authority, a.ref)
			if err == nil {
				w.Logger.Info("an image that an ImageSecurityPolicy lets in was attested", "namespace", a.authority.Namespace, "authority", a.authority.Name, "image", a.ref.String())
			}
			return err
		})
	}
}

// forgetAsked drops what may be asked for again.
func (c *Controller) forgetAsked() {
	now := c.Now()
	for key, until := range c.asked {
		if !now.Before(until) {
			delete(c.asked, key)
		}
	}
}
