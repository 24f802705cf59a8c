package index_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/proto"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const digests = 5

// A maker makes occurrences at random, of all kinds that are read, most of which do
// not count.
type maker struct {
	t       *testing.T
	rng     *rand.Rand
	signers []signature.Signer
	made    int
}

func (m *maker) signer() signature.Signer { return m.signers[m.rng.IntN(len(m.signers))] }

func (m *maker) digest() image.Digest { return digest(m.rng.IntN(digests)) }

func (m *maker) parent() string {
	return []string{"projects/p", "projects/p/locations/eu", "projects/q", "projects/q/locations/us"}[m.rng.IntN(4)]
}

// about returns the digest mostly, and another now and then.
func (m *maker) about(d image.Digest) image.Digest {
	if m.rng.IntN(5) == 0 {
		return m.digest()
	}
	return d
}

func (m *maker) occurrence() *grafeas.Occurrence {
	m.made++
	d := m.digest()
	var o *grafeas.Occurrence
	switch m.rng.IntN(10) {
	case 0, 1, 2:
		types := []string{signature.TypeAtomic, signature.TypeBinauthz, signature.TypeCosign, "unknown"}
		repository := fmt.Sprintf("reg.test/app%d", m.rng.IntN(2))
		s := m.signer()
		o = occurrenceOf(m.t, s, []string{note, other}[m.rng.IntN(2)], d, signature.NewPayload(repository, m.about(d), types[m.rng.IntN(len(types))]))
		for range m.rng.IntN(3) { // by others too, or forged
			o.GetAttestation().Signatures = append(o.GetAttestation().Signatures,
				occurrenceOf(m.t, m.signer(), note, d, o.GetAttestation().GetSerializedPayload()).GetAttestation().GetSignatures()...)
		}
	case 3:
		o = jwts(d, jwt(m.t, m.signer(), m.about(d), map[string]any{"exp": 1_800_000_000 + m.rng.IntN(2)}), jwt(m.t, m.signer(), d, nil))
	case 4:
		o = uploaded(m.t, m.signer(), m.about(d), time.Unix(1_790_000_000+m.rng.Int64N(100), 0).UTC().Format(time.RFC3339))
		o.ResourceUri = uri(d)
	case 5:
		o = buildOf(d, provenanceV1(m.t, m.signer(), m.about(d), fmt.Sprintf("https://github.com/org/app%d", m.rng.IntN(2))))
	case 6:
		o = dsse(d, provenanceV1(m.t, m.signer(), m.about(d), "https://github.com/org/app"))
	case 7:
		o = discovered(d, []string{"scan", "otherscan", "sbom"}[m.rng.IntN(3)], grafeas.DiscoveryOccurrence_AnalysisStatus(m.rng.IntN(6)))
	default:
		o = vulnerability(d, m.rng.IntN(5), grafeas.Severity(m.rng.IntN(6)), m.rng.IntN(2) == 0)
	}
	if m.rng.IntN(3) == 0 {
		o.ResourceUri = "http://mirror.test/other@" + d.String()
	}
	return o
}

// trust trusts some keys under some notes and in some projects.
func (m *maker) trust() index.Trust {
	trust := index.Trust{}
	for _, name := range []string{note, other, dsseNote, buildNote, "projects/p", "projects/q"} {
		for _, s := range m.signers {
			if m.rng.IntN(3) == 0 {
				trust[name] = append(trust[name], s.PublicKey())
			}
		}
	}
	return trust
}

func (m *maker) refs() []image.Reference {
	var texts []string
	for i := range digests {
		texts = append(texts, "reg.test/app@"+digest(i).String())
	}
	return refs(m.t, texts...)
}

// stored lists what a service has.
func stored(t *testing.T, svc *metadata.Service) []*grafeas.Occurrence {
	t.Helper()
	var all []*grafeas.Occurrence
	for _, project := range []string{"p", "q"} {
		if _, err := svc.ProjectOccurrences(t.Context(), project, metadata.AllKinds, func(o *grafeas.Occurrence) error {
			all = append(all, o)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestFeedStoreAndListSayTheSame: whether the index has followed occurrences as they
// came, or read them from the store when their keys became trusted, or is given them
// in a list in whatever order, the facts are the same to the last byte.
func TestFeedStoreAndListSayTheSame(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			m := &maker{t: t, rng: rand.New(rand.NewPCG(seed, 1))}
			for range 4 {
				m.signers = append(m.signers, newSigner(t))
			}
			f := newCoarseFixture(t)
			f.createNotes()
			trust := m.trust()
			followed := f.startAll(trust, "p", "q")
			changed := f.startAll(m.trust(), "q")
			looked := f.start(trust)
			var live []*grafeas.Occurrence
			churn := seed%2 == 1
			for i := range 150 {
				if i == 70 {
					if err := changed.SetTrust(t.Context(), m.trust()); err != nil {
						t.Fatal(err)
					}
				}
				switch n := m.rng.IntN(6); {
				case i%50 == 49:
					f.lookFor([]string{"scan", "otherscan"}[m.rng.IntN(2)], []grafeas.NoteKind{grafeas.NoteKind_VULNERABILITY, grafeas.NoteKind_SECRET}[m.rng.IntN(2)])
				case churn && n == 0 && len(live) > 0:
					i := m.rng.IntN(len(live))
					f.delete(live[i])
					live = slices.Delete(live, i, i+1)
				case churn && n == 1 && len(live) > 0:
					f.reword(live[m.rng.IntN(len(live))], m)
				default:
					o, err := f.CreateOccurrence(t.Context(), caller, m.parent(), m.occurrence())
					if metadata.KindOf(err) == metadata.AlreadyExists {
						continue
					} else if err != nil {
						t.Fatal(err)
					}
					live = append(live, o)
				}
			}
			read := f.startAll(trust, "p", "q")
			if err := changed.SetTrust(t.Context(), trust); err != nil {
				t.Fatal(err)
			}
			if err := changed.SetTrust(t.Context(), trust); err != nil { // forget those of before
				t.Fatal(err)
			}
			if err := changed.SetScope(t.Context(), []string{"q", "p"}); err != nil {
				t.Fatal(err)
			}
			for _, err := range []error{looked.SetScope(t.Context(), []string{"p", "q"}), looked.KeepStatements(t.Context(), index.DefaultStatements)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			list := stored(t, f.Service)
			notes := f.scanners()
			want := index.FromOccurrences(t.Context(), list, trust, m.refs(), notes...).Images
			m.rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
			count(t, want)
			for name, got := range map[string]map[image.Digest]evidence.Image{
				"the list in another order":      index.FromOccurrences(t.Context(), list, trust, m.refs(), notes...).Images,
				"the feed":                       followed.Collect(t.Context(), m.refs()).Images,
				"the store":                      read.Collect(t.Context(), m.refs()).Images,
				"statements that came to matter": looked.Collect(t.Context(), m.refs()).Images,
				"after changes of trust":         changed.Collect(t.Context(), m.refs()).Images,
			} {
				want := want
				if name == "after changes of trust" || churn && (name == "the feed" || name == "statements that came to matter") {
					// What was rejected is not looked at again when other rejections go, or
					// when keys do.
					got, want = withoutRejected(got), withoutRejected(want)
				}
				if d := cmp.Diff(want, got, cmp.AllowUnexported(image.Digest{})); d != "" {
					t.Errorf("%s (-list +got):\n%s", name, d)
				}
			}
		})
	}
}

// newCoarseFixture is newFixture with a clock that stands still half of the time, so
// that times do not tell occurrences apart.
func newCoarseFixture(t *testing.T) fixture {
	t.Helper()
	f := newFixture(t)
	calls := 0
	store := memory.New()
	t.Cleanup(func() { _ = store.Close() })
	svc, err := metadata.NewService(t.Context(), store, metadata.Options{Authorizer: metadata.InsecureAllowAll(), Clock: func() time.Time {
		calls++
		return time.Unix(1_790_000_000+int64(calls/20), 0)
	}})
	if err != nil {
		t.Fatal(err)
	}
	f.Service = svc
	for _, id := range []string{"vetted", "other"} {
		if _, err := svc.CreateNote(t.Context(), caller, "projects/p", id, &grafeas.Note{Type: &grafeas.Note_Attestation{Attestation: &grafeas.AttestationNote{}}}); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// reword updates an occurrence to say what another of its kind says.
func (f fixture) reword(o *grafeas.Occurrence, m *maker) {
	f.t.Helper()
	for {
		next := m.occurrence()
		if fmt.Sprintf("%T", next.GetDetails()) != fmt.Sprintf("%T", o.GetDetails()) {
			continue
		}
		_, err := f.UpdateOccurrence(f.t.Context(), caller, o.GetName(), func(current *grafeas.Occurrence) (*grafeas.Occurrence, error) {
			changed := proto.CloneOf(current)
			changed.Details, changed.Envelope = next.Details, next.Envelope
			return changed, nil
		})
		if err != nil && metadata.KindOf(err) != metadata.AlreadyExists {
			f.t.Fatal(err)
		}
		return
	}
}

// count makes sure that there is something of each to compare.
func count(t *testing.T, images map[image.Digest]evidence.Image) {
	t.Helper()
	var n [5]int
	for _, img := range images {
		n[0] += len(img.Attestations)
		n[1] += len(img.Uploads)
		n[2] += len(img.Provenances)
		n[3] += len(img.Rejected)
		n[4] += len(img.Scans)
	}
	t.Logf("%d attestations, %d uploads, %d provenances, %d rejections, %d scans", n[0], n[1], n[2], n[3], n[4])
	if n[0] == 0 || n[3] == 0 || n[4] == 0 || n[1]+n[2] == 0 {
		t.Error("there is nothing to compare")
	}
}

func withoutRejected(images map[image.Digest]evidence.Image) map[image.Digest]evidence.Image {
	copied := make(map[image.Digest]evidence.Image)
	for d, img := range images {
		img.Rejected = nil
		copied[d] = img
	}
	return copied
}
