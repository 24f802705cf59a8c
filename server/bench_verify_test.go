package server

import (
	"context"
	"crypto/rand"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	verifiedImage    = "reg.test/shop/web@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	verifiedNote     = "projects/p/notes/vetted"
	verifiedAttestor = "projects/p/attestors/vetted"
)

// verifying is evidence of one attestation, whose signature is verified each time.
type verifying struct {
	occurrences []*grafeas.Occurrence
	trust       index.Trust
}

func (v verifying) Collect(ctx context.Context, refs []image.Reference) evidence.Facts {
	return index.FromOccurrences(ctx, v.occurrences, v.trust, refs)
}

// runVerifying is the gate with such evidence.
func runVerifying(ctx context.Context, dir string, ready func(Addresses) error) error {
	facts, key, err := newVerifying(ctx)
	if err != nil {
		return err
	}
	log, err := audit.Open(filepath.Join(dir, "audit"), discard())
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	rules := (&policy.Ruleset{
		Name:      "projects/p/policy",
		Rules:     []policy.Rule{{ID: "default admission rule", Evaluation: policy.RequireChecks, Checks: []policy.Check{{Condition: policy.Attested{Attestor: verifiedAttestor}}}}},
		Attestors: map[string]policy.Attestor{verifiedAttestor: {Name: verifiedAttestor, Note: verifiedNote, Keys: []policy.Key{{ID: key.ID(), Fingerprint: key.Fingerprint()}}}},
	}).Build()
	gate, err := admission.NewGate(admission.Options{
		Rules: func() policy.Set { return policy.Set{rules} }, Evidence: facts, Recorder: log,
		Now: time.Now, Logger: discard(), Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		return err
	}
	ca, err := testCA(filepath.Join(dir, "tls"))
	if err != nil {
		return err
	}
	l, err := listen(ctx, "verifying", "127.0.0.1:0", discard())
	if err != nil {
		return err
	}
	harden(l.server, admissionTLS(ca.Certificate))
	l.server.Handler = recovered(gateHandler(gate), discard())
	if err := ready(Addresses{Admission: l.addr(), CA: ca.BundlePath()}); err != nil {
		return err
	}
	return l.serve(ctx.Done())
}

func newVerifying(ctx context.Context) (verifying, *signature.PublicKey, error) {
	pem, err := signature.GeneratePKIX(signature.ECDSAP256SHA256, rand.Reader)
	if err != nil {
		return verifying{}, nil, err
	}
	signer, err := signature.ParsePKIXSigner(pem, signature.ECDSAP256SHA256, "")
	if err != nil {
		return verifying{}, nil, err
	}
	ref, err := image.Parse(verifiedImage)
	if err != nil {
		return verifying{}, nil, err
	}
	payload := signature.NewPayload("reg.test/shop/web", ref.Digest(), signature.TypeBinauthz)
	sig, err := signer.Sign(ctx, payload)
	if err != nil {
		return verifying{}, nil, err
	}
	return verifying{
		trust: index.Trust{verifiedNote: {signer.PublicKey()}},
		occurrences: []*grafeas.Occurrence{{
			Name: "projects/p/occurrences/1", ResourceUri: "https://" + verifiedImage, NoteName: verifiedNote, Kind: grafeas.NoteKind_ATTESTATION,
			Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
				SerializedPayload: payload, Signatures: []*grafeas.Signature{{Signature: sig, PublicKeyId: signer.KeyID()}},
			}},
		}},
	}, signer.PublicKey(), nil
}
