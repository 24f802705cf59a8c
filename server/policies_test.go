package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/admission"
	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
	"github.com/gatehouse-dev/gatehouse/policy/admin"
	"github.com/gatehouse-dev/gatehouse/policy/bundle"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// sightless is a source that cannot read scans on demand.
type sightless struct {
	*metadata.Service
	blind atomic.Bool
}

func (s *sightless) ProjectSummaries(ctx context.Context, project string, fn func(*metadata.Summary) error) (uint64, error) {
	if s.blind.Load() {
		return 0, errors.New("the store is away")
	}
	return s.Service.ProjectSummaries(ctx, project, fn)
}

// kept is what keeps policies in force, with its parts.
type kept struct {
	*policies
	t      *testing.T
	source *sightless
	index  *index.Index
}

func keep(t *testing.T, files ...string) *kept {
	t.Helper()
	svc, err := metadata.NewService(t.Context(), memory.New(), metadata.Options{Authorizer: metadata.InsecureAllowAll(), Projects: []string{"default"}, Logger: discard()})
	if err != nil {
		t.Fatal(err)
	}
	k := &kept{t: t, source: &sightless{Service: svc}}
	k.index = index.New(k.source, discard())
	ctx, cancel := context.WithCancel(t.Context())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return k.index.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		if err := group.Wait(); err != nil {
			t.Error(err)
		}
	})
	cfg := testConfig(t, func(c *Config) { c.Admission.PolicyFiles = files })
	if k.policies, err = newPolicies(cfg, "", svc, k.index, discard(), prometheus.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	return k
}

// decide decides on an image by what is in force.
func (k *kept) decide(ref string) decide.Decision {
	k.t.Helper()
	images := []decide.ImageUse{{Container: "main", Text: ref}}
	ctx, cancel := context.WithTimeout(k.t.Context(), 20*time.Second)
	defer cancel()
	facts := k.index.Collect(ctx, admission.References(images))
	return decide.Decide(decide.Request{Namespace: "shop", Images: images}, k.current(), facts, time.Now())
}

func newKey(t *testing.T) signature.Signer {
	t.Helper()
	pem, err := signature.GeneratePKIX(signature.ECDSAP256SHA256, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.ParsePKIXSigner(pem, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// signedBy is a platform policy that asks for an attestation by a key, and then more.
func signedBy(t *testing.T, s signature.Signer, more string) string {
	t.Helper()
	pem, err := json.Marshal(s.PublicKey().Marshal())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"gkePolicy": {"checkSets": [{"checks": [{"simpleSigningAttestationCheck": {"attestationAuthenticators": [
		{"pkixPublicKeySet": {"pkixPublicKeys": [{"publicKeyPem": %s, "signatureAlgorithm": "ECDSA_P256_SHA256"}]}}]}}%s]}]}}`, pem, more)
}

// attest files an attestation of an image by a key.
func (k *kept) attest(s signature.Signer, ref image.Reference) {
	k.t.Helper()
	ctx, caller := k.t.Context(), metadata.Caller{Name: "ci"}
	if _, err := k.source.CreateNote(ctx, caller, "projects/default", "n", &grafeas.Note{
		Type: &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{Hint: &grafeas.AttestationNote_Hint{HumanReadableName: "n"}}},
	}); err != nil {
		k.t.Fatal(err)
	}
	payload := signature.NewPayload(ref.Repository(), ref.Digest(), signature.TypeBinauthz)
	sig, err := s.Sign(ctx, payload)
	if err != nil {
		k.t.Fatal(err)
	}
	if _, err := k.source.CreateOccurrence(ctx, caller, "projects/default", &grafeas.Occurrence{
		ResourceUri: "https://" + ref.String(), NoteName: "projects/default/notes/n",
		Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
			SerializedPayload: payload, Signatures: []*grafeas.Signature{{PublicKeyId: s.KeyID(), Signature: sig}},
		}},
	}); err != nil {
		k.t.Fatal(err)
	}
}

// TestAPolicyThatIsTriedAgainTakesNothingFromTheOneInForce: as long as evidence for the
// new one cannot be read, the one of before decides as it did.
func TestAPolicyThatIsTriedAgainTakesNothingFromTheOneInForce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "policy.json")
	before, after := newKey(t), newKey(t)
	write(t, file, signedBy(t, before, ""))
	k := keep(t, file)
	if err := k.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ref := mustParse(t, "reg.test/shop/web@"+image.DigestOf([]byte("web")).String())
	k.attest(before, ref)
	if d := k.decide(ref.String()); !d.Allowed {
		t.Fatalf("attested, and denied: %s", decide.Message(d))
	}
	k.source.blind.Store(true)
	write(t, file, signedBy(t, after, `, {"vulnerabilityCheck": {"maximumFixableSeverity": "LOW", "maximumUnfixableSeverity": "HIGH"}}`))
	for range 3 {
		if err := k.load(t.Context()); err == nil || !strings.Contains(err.Error(), "the store is away") {
			t.Fatalf("got %v", err)
		}
		if d := k.decide(ref.String()); !d.Allowed {
			t.Fatalf("the policy of before denies what it has allowed: %s", decide.Message(d))
		}
	}
	k.source.blind.Store(false)
	if err := k.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := k.decide(ref.String()); d.Allowed {
		t.Error("the new policy is not in force")
	}
}

// TestTheFirstPolicyDeniesUntilItsEvidenceCanBeRead: there are no rules of before that
// could go on, and to have none is to let everything in.
func TestTheFirstPolicyDeniesUntilItsEvidenceCanBeRead(t *testing.T) {
	t.Parallel()
	k := keep(t)
	if err := k.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := k.decide("reg.test/x"); !d.Allowed || d.Override != decide.NoPolicy {
		t.Fatalf("without a policy: %+v", d)
	}
	k.source.blind.Store(true)
	k.files.policies = []string{write(t, filepath.Join(t.TempDir(), "policy.json"), signedBy(t, newKey(t), `, {"vulnerabilityCheck": {"maximumFixableSeverity": "LOW", "maximumUnfixableSeverity": "HIGH"}}`))}
	err := k.load(t.Context())
	if err == nil {
		t.Fatal("the store is not away")
	}
	k.failed(err)
	if d := k.decide("reg.test/x"); d.Allowed {
		t.Error("the first policy is not in force, and everything is let in")
	}
	// At its start a server has not begun to answer, and an error ends it.
	again := keep(t, k.files.policies...)
	again.source.blind.Store(true)
	if err := again.start(t.Context()); err == nil {
		t.Error("the server starts without the evidence for its policy")
	}
}

// TestNoTextOfAPolicyIsKept: files of Kritis may have Secrets in them, of which
// nothing is kept once they were read.
func TestNoTextOfAPolicyIsKept(t *testing.T) {
	t.Parallel()
	k := keep(t, write(t, filepath.Join(t.TempDir(), "policy.json"), allowsAll))
	if err := k.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if known := k.known(); len(known.Policies) > 0 || len(k.stored.Policies) > 0 {
		t.Errorf("kept %+v and %+v", known.Policies, k.stored.Policies)
	}
}

// TestAServerStartsWithStoredAttestorsThatItCannotRead: they can only be mended through
// it, also where the policy is in a file.
func TestAServerStartsWithStoredAttestorsThatItCannotRead(t *testing.T) {
	t.Parallel()
	const attestor = "projects/default/attestors/a"
	k := keep(t, write(t, filepath.Join(t.TempDir(), "policy.json"), requiring(attestor)))
	store := damaged{k.source.Service, attestor}
	k.store = store
	if err := k.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := k.decide("reg.test/x"); d.Allowed || !strings.Contains(d.Rule, "cannot be enforced") {
		t.Errorf("got %+v", d)
	}
	// A file that cannot be enforced is the operator's, who is there.
	k = keep(t, write(t, filepath.Join(t.TempDir(), "policy.json"), "{}"))
	k.store = store
	if err := k.start(t.Context()); err == nil {
		t.Error("a broken file is not an error")
	}
}

// damaged is a store with a document that nothing can read.
type damaged struct {
	admin.Source
	name string
}

func (s damaged) Document(ctx context.Context, name string) (*metadata.Document, error) {
	if name == s.name {
		return &metadata.Document{Name: name, Revision: 1, Content: []byte(`{"userOwnedGrafeasNote": {"noteReference": "of another time"}}`)}, nil
	}
	return s.Source.Document(ctx, name)
}

// counting counts how often documents are read.
type counting struct {
	admin.Source
	reads atomic.Int64
}

func (s *counting) Document(ctx context.Context, name string) (*metadata.Document, error) {
	s.reads.Add(1)
	return s.Source.Document(ctx, name)
}

// TestAnEvaluationIsBounded: whoever may write occurrences can file as many about an
// image as he likes, and large ones.
func TestAnEvaluationIsBounded(t *testing.T) {
	t.Parallel()
	k, ref := keep(t), mustParse(t, "reg.test/shop/web@"+image.DigestOf([]byte("web")).String())
	ctx, caller := t.Context(), metadata.Caller{Name: "ci"}
	if _, err := k.source.CreateNote(ctx, caller, "projects/default", "secret", &grafeas.Note{Type: &grafeas.Note_Secret{Secret: &grafeas.SecretNote{}}}); err != nil {
		t.Fatal(err)
	}
	file := func(o *grafeas.Occurrence) {
		t.Helper()
		o.ResourceUri = "https://" + ref.String()
		if _, err := k.source.CreateOccurrence(ctx, caller, "projects/default", o); err != nil {
			t.Fatal(err)
		}
	}
	e := newEvaluator(k.source.Service, admission.Place{}, func() bundle.Sources { return bundle.Sources{Project: "default"} })
	e.maxBytes = 4 << 10
	version := admin.Version{Name: "projects/default/platforms/gke/policies/x", Content: []byte(signedBy(t, newKey(t), ""))}
	pod := fmt.Appendf(nil, `{"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "main", "image": %q}]}}`, ref)
	evaluate := func(ctx context.Context) error {
		_, err := e.evaluate(ctx, version, pod, func(string) error { return nil })
		return err
	}
	// What no check looks at is not read.
	file(&grafeas.Occurrence{NoteName: "projects/default/notes/secret", Remediation: strings.Repeat("x", 8<<10), Details: &grafeas.Occurrence_Secret{Secret: &grafeas.SecretOccurrence{}}})
	k.attest(newKey(t), ref)
	if err := evaluate(ctx); err != nil {
		t.Error(err)
	}
	for i := range 8 {
		file(&grafeas.Occurrence{NoteName: "projects/default/notes/n", Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
			SerializedPayload: bytes.Repeat([]byte{byte(i)}, 1<<10), Signatures: []*grafeas.Signature{{PublicKeyId: "k", Signature: []byte("s")}},
		}}})
	}
	if err := evaluate(ctx); metadata.KindOf(err) != metadata.ResourceExhausted {
		t.Errorf("more than is read: %v", err)
	}
	// It waits its turn, and not for ever.
	for range maxEvaluations {
		e.turns <- struct{}{}
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if err := evaluate(over); metadata.KindOf(err) != metadata.Unavailable {
		t.Errorf("while others are evaluated: %v", err)
	}
}

func mustParse(t *testing.T, text string) image.Reference {
	t.Helper()
	ref, err := image.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// TestWhatHasNotChangedIsNotReadAgain: files are looked at twice a second.
func TestWhatHasNotChangedIsNotReadAgain(t *testing.T) {
	t.Parallel()
	file := write(t, filepath.Join(t.TempDir(), "policy.json"), requiring("projects/default/attestors/a"))
	k := keep(t, file)
	store := &counting{Source: k.source}
	k.store = store
	for range 3 {
		if err := k.load(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	once := store.reads.Load()
	write(t, file, requiring("projects/default/attestors/b"))
	if err := k.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if twice := store.reads.Load(); once == 0 || twice != 2*once {
		t.Errorf("%d documents were read at first, and %d in all", once, twice)
	}
}
