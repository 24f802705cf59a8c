package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/decide"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// A readStore counts the reads of occurrences, and fails them when it is broken.
type readStore struct {
	metadata.Store
	reads  atomic.Int64
	broken atomic.Bool
}

func (c *readStore) Occurrences(ctx context.Context, q metadata.OccurrenceQuery) ([]*grafeas.Occurrence, bool, error) {
	c.reads.Add(1)
	if c.broken.Load() {
		return nil, false, errors.New("the disk is gone")
	}
	return c.Store.Occurrences(ctx, q)
}

func testSigner(t *testing.T) signature.Signer {
	t.Helper()
	private, err := signature.GeneratePKIX(signature.ECDSAP256SHA256, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.ParsePKIXSigner(private, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestADecisionIsTheSameWhateverThereIsRoomFor in memory: what was dropped is read of the
// store, and what is there is not.
func TestADecisionIsTheSameWhateverThereIsRoomFor(t *testing.T) {
	t.Parallel()
	const images, bound = 120, 40
	store := &readStore{Store: memory.New()}
	t.Cleanup(func() { _ = store.Close() })
	svc, err := metadata.NewService(t.Context(), store, metadata.Options{Authorizer: metadata.InsecureAllowAll()})
	if err != nil {
		t.Fatal(err)
	}
	signers := []signature.Signer{testSigner(t), testSigner(t)}
	caller := metadata.Caller{Name: "ci"}
	var attestors []map[string]any
	for i, s := range signers {
		id := fmt.Sprintf("a%d", i)
		if _, err := svc.CreateNote(t.Context(), caller, "projects/p", id, &grafeas.Note{Type: &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{}}}); err != nil {
			t.Fatal(err)
		}
		attestors = append(attestors, map[string]any{"name": "projects/p/attestors/" + id, "userOwnedGrafeasNote": map[string]any{
			"noteReference": "projects/p/notes/" + id, "publicKeys": []any{map[string]any{"id": s.KeyID(), "pkixPublicKey": map[string]any{
				"publicKeyPem": s.PublicKey().Marshal(), "signatureAlgorithm": "ECDSA_P256_SHA256",
			}}},
		}})
	}
	dir := t.TempDir()
	write := func(name string, value any) string {
		text, err := json.Marshal(value)
		path := filepath.Join(dir, name)
		if err == nil {
			err = os.WriteFile(path, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	cfg := testConfig(t, func(c *Config) {
		c.Project = "p"
		c.Admission.PolicyFiles = []string{write("policy.json", map[string]any{"defaultAdmissionRule": map[string]any{
			"evaluationMode": "REQUIRE_ATTESTATION", "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG", "requireAttestationsBy": []string{"projects/p/attestors/a0", "projects/p/attestors/a1"},
		}})}
		c.Admission.AttestorsFiles = []string{write("attestors.json", map[string]any{"attestors": attestors})}
	})
	follow := func(bound int) (*storeEvidence, func(refs ...image.Reference) decide.Verdict) {
		x := index.New(svc, discard())
		x.Bound(bound)
		p, err := newPolicies(cfg, "", svc, x, discard(), prometheus.NewRegistry())
		if err == nil {
			err = p.load(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- x.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		e := newStoreEvidence(x, svc)
		return e, func(refs ...image.Reference) decide.Verdict {
			req := decide.Request{}
			for i, r := range refs {
				req.Images = append(req.Images, decide.ImageUse{Container: fmt.Sprint(i), Text: r.String()})
			}
			facts := e.Collect(t.Context(), refs)
			d := decide.Decide(req, p.current(), facts, time.Now())
			if fresh, asked := e.Refresh(t.Context(), &d, facts); asked {
				d = decide.Decide(req, p.current(), fresh, time.Now())
			}
			return d.Verdict
		}
	}
	whole, all := follow(0)
	part, some := follow(bound)
	rng := rand.New(rand.NewPCG(1, 2))
	var live []*grafeas.Occurrence
	ref := func(i int) image.Reference {
		r, err := image.Parse("reg.test/app@" + image.DigestOf([]byte(fmt.Sprint(i))).String())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	verdicts := make(map[decide.Verdict]int)
	for range 600 {
		i, by := rng.IntN(images), rng.IntN(2)
		if rng.IntN(8) == 0 && len(live) > 0 {
			n := rng.IntN(len(live))
			if err := svc.DeleteOccurrence(t.Context(), caller, live[n].GetName()); err != nil {
				t.Fatal(err)
			}
			live = append(live[:n], live[n+1:]...)
		} else {
			payload := signature.NewPayload("reg.test/app", ref(i).Digest(), signature.TypeBinauthz)
			sig, err := signers[by].Sign(t.Context(), payload)
			if err != nil {
				t.Fatal(err)
			}
			o, err := svc.CreateOccurrence(t.Context(), caller, "projects/p", &grafeas.Occurrence{
				ResourceUri: ref(i).String(), NoteName: fmt.Sprintf("projects/p/notes/a%d", by),
				Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
					SerializedPayload: payload, Signatures: []*grafeas.Signature{{Signature: sig, PublicKeyId: signers[by].KeyID()}},
				}},
			})
			if err != nil && metadata.KindOf(err) != metadata.AlreadyExists {
				t.Fatal(err)
			} else if err == nil {
				live = append(live, o)
			}
		}
		j := rng.IntN(images)
		want, got := all(ref(j)), some(ref(j))
		verdicts[want]++
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("image %d (-whole +part):\n%s", j, d)
		}
	}
	if verdicts[decide.ALLOW] < 50 || verdicts[decide.DENY] < 50 {
		t.Errorf("verdicts %v: want both", verdicts)
	}
	before, cold := part.Cold()
	if n := part.Statements(); !cold || n > 2*bound || whole.Statements() <= 2*bound {
		t.Errorf("%d statements of %d, cold before %v", n, whole.Statements(), before)
	}
	// What is in memory is not read, and what is not is.
	reads := map[bool]int{}
	for i := range images {
		facts := part.Collect(t.Context(), []image.Reference{ref(i)})
		warm := len(facts.Images[ref(i).Digest()].Attestations) == 2
		was := store.reads.Load()
		if got := some(ref(i)); (got == decide.ALLOW) != (all(ref(i)) == decide.ALLOW) {
			t.Errorf("image %d: %v", i, got)
		}
		if read := store.reads.Load() != was; read == warm {
			t.Errorf("image %d: in memory %t, read %t", i, warm, read)
		} else {
			reads[read]++
		}
	}
	if reads[true] == 0 || reads[false] == 0 {
		t.Errorf("read of the store, or not: %v", reads)
	}
	// While the store does not answer, what may be there is not denied but unknown.
	store.broken.Store(true)
	indeterminate := 0
	for i := range images {
		switch some(ref(i)) {
		case decide.INDETERMINATE:
			indeterminate++
		case decide.DENY:
			t.Errorf("image %d is denied by what cannot be known", i)
		}
	}
	if indeterminate == 0 {
		t.Error("nothing was unknown while the store was broken")
	}
}
