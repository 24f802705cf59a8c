package kritissigner_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-dev/gatehouse/attest/attesttest"
	"github.com/gatehouse-dev/gatehouse/attest/kritissigner"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/policy/kritis"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	project  = "scans"
	note     = "projects/attest/notes/vulnz"
	scanNote = "projects/scans/notes/scanner"

	success     = grafeas.DiscoveryOccurrence_FINISHED_SUCCESS
	failed      = grafeas.DiscoveryOccurrence_FINISHED_FAILED
	unsupported = grafeas.DiscoveryOccurrence_FINISHED_UNSUPPORTED
	scanning    = grafeas.DiscoveryOccurrence_SCANNING
	pending     = grafeas.DiscoveryOccurrence_PENDING
)

func policyOf(t *testing.T, requirements string) *kritis.VulnzSigningPolicy {
	t.Helper()
	objects, found := kritis.Parse("policy.yaml", []byte("apiVersion: kritis.grafeas.io/v1beta1\nkind: VulnzSigningPolicy\nmetadata: {name: release-gate}\nspec:\n  imageVulnerabilityRequirements: {"+requirements+"}\n"))
	if objects == nil {
		t.Fatal(found.Err())
	}
	return &objects.VulnzSigningPolicies[0]
}

func parse(t *testing.T, s string) image.Reference {
	t.Helper()
	ref, err := image.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func web(t *testing.T) image.Reference {
	return parse(t, "registry.example/shop/web@"+image.DigestOf([]byte("web")).String())
}

func newKey(t *testing.T) signature.Signer {
	t.Helper()
	text, err := signature.GeneratePKIX(signature.ECDSAP256SHA256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.ParsePKIXSigner(text, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newSigner(t *testing.T, store kritissigner.Store, change func(*kritissigner.Options)) *kritissigner.Signer {
	t.Helper()
	o := kritissigner.Options{
		Store: store, Policy: policyOf(t, "maximumFixableSeverity: LOW, maximumUnfixableSeverity: HIGH"), ScanProjects: []string{project},
		Timeout: -1, Key: newKey(t), Note: note,
	}
	if change != nil {
		change(&o)
	}
	s, err := kritissigner.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func discovery(ref image.Reference, noteName string, at int64, s grafeas.DiscoveryOccurrence_AnalysisStatus) *grafeas.Occurrence {
	return &grafeas.Occurrence{
		ResourceUri: ref.ResourceURI(), NoteName: noteName, Kind: grafeas.NoteKind_DISCOVERY,
		UpdateTime: &timestamppb.Timestamp{Seconds: at},
		Details:    &grafeas.Occurrence_Discovery{Discovery: &grafeas.DiscoveryOccurrence{AnalysisStatus: s}},
	}
}

func vulnerability(ref image.Reference, cve string, severity grafeas.Severity, fixable bool) *grafeas.Occurrence {
	issue := &grafeas.VulnerabilityOccurrence_PackageIssue{AffectedPackage: "p", FixedVersion: &grafeas.Version{Kind: grafeas.Version_MAXIMUM}}
	if fixable {
		issue.FixedVersion = &grafeas.Version{Kind: grafeas.Version_NORMAL, Name: "2"}
	}
	return &grafeas.Occurrence{
		ResourceUri: ref.ResourceURI(), NoteName: "projects/goog-vulnz/notes/" + cve, Kind: grafeas.NoteKind_VULNERABILITY,
		Details: &grafeas.Occurrence_Vulnerability{Vulnerability: &grafeas.VulnerabilityOccurrence{
			EffectiveSeverity: severity, PackageIssue: []*grafeas.VulnerabilityOccurrence_PackageIssue{issue},
		}},
	}
}

func attestations(store *attesttest.Store) []*grafeas.Occurrence {
	return slices.DeleteFunc(store.Occurrences(), func(o *grafeas.Occurrence) bool { return o.GetAttestation() == nil })
}

func run(t *testing.T, s *kritissigner.Signer, m kritissigner.Mode, ref image.Reference) kritissigner.Report {
	t.Helper()
	r, err := s.Run(t.Context(), m, ref)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAnImageWithinThePolicyIsSigned(t *testing.T) {
	t.Parallel()
	ref := web(t)
	store := &attesttest.Store{}
	store.Add(project, discovery(ref, scanNote, 1, success), vulnerability(ref, "CVE-1", grafeas.Severity_LOW, true), vulnerability(ref, "CVE-2", grafeas.Severity_HIGH, false))
	key := newKey(t)
	s := newSigner(t, store, func(o *kritissigner.Options) { o.Key = key })
	r := run(t, s, kritissigner.CheckAndSign, ref)
	if !r.Passed || !r.Signed || r.Existing || r.Policy != "release-gate" || !slices.Equal(r.Scans, []string{project}) {
		t.Fatalf("got %+v", r)
	}
	got := attestations(store)
	if len(got) != 1 || got[0].GetName() != r.Attestation {
		t.Fatalf("stored %v, told %q", got, r.Attestation)
	}
	if got[0].GetNoteName() != note || got[0].GetResourceUri() != ref.ResourceURI() || !strings.HasPrefix(got[0].GetName(), "projects/attest/") {
		t.Errorf("filed as %v", got[0])
	}
	const want = `{"critical":{"identity":{"docker-reference":"registry.example/shop/web"},"image":{"docker-manifest-digest":"%s"},"type":"atomic container signature"}}`
	a := got[0].GetAttestation()
	if text := fmt.Sprintf(want, ref.Digest()); string(a.GetSerializedPayload()) != text {
		t.Errorf("payload %s, want %s", a.GetSerializedPayload(), text)
	}
	if id := a.GetSignatures()[0].GetPublicKeyId(); id != key.KeyID() {
		t.Errorf("key id %q", id)
	}
	if _, err := key.PublicKey().Verify(a.GetSerializedPayload(), a.GetSignatures()[0].GetSignature()); err != nil {
		t.Error(err)
	}
	// The note is made at its first use.
	if n := store.Note(note); n.GetAttestation().GetHint().GetHumanReadableName() != "vulnz" {
		t.Errorf("the note is %v", n)
	}
	// Once more changes nothing.
	if again := run(t, s, kritissigner.CheckAndSign, ref); !again.Existing || !again.Signed || again.Attestation != r.Attestation || len(attestations(store)) != 1 {
		t.Errorf("again: %+v", again)
	}
}

func TestAnImageThatIsAskedForManyTimesIsSignedOnce(t *testing.T) {
	t.Parallel()
	ref := web(t)
	synctest.Test(t, func(t *testing.T) {
		store := &attesttest.Store{Fail: func(_ context.Context, method string) error {
			if method == "CreateOccurrence" {
				time.Sleep(time.Second) // in the bubble: all others have got as far as they can
			}
			return nil
		}}
		s := newSigner(t, store, nil)
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				if r, err := s.Run(t.Context(), kritissigner.BypassAndSign, ref); err != nil || !r.Signed {
					t.Errorf("got %+v, %v", r, err)
				}
			})
		}
		all.Wait()
		if n := len(attestations(store)); n != 1 {
			t.Errorf("there are %d attestations", n)
		}
	})
}

func TestDockerHubIsSpelledAsKritisDoes(t *testing.T) {
	t.Parallel()
	ref := parse(t, "nginx@"+image.DigestOf([]byte("nginx")).String())
	store := &attesttest.Store{}
	s := newSigner(t, store, nil)
	run(t, s, kritissigner.BypassAndSign, ref)
	if payload := string(attestations(store)[0].GetAttestation().GetSerializedPayload()); !strings.Contains(payload, `"docker-reference":"index.docker.io/library/nginx"`) {
		t.Errorf("payload %s", payload)
	}
	if r := run(t, s, kritissigner.BypassAndSign, ref); !r.Existing {
		t.Errorf("its own attestation is not found: %+v", r)
	}
}

func TestWhatIsFoundIsNamed(t *testing.T) {
	t.Parallel()
	ref := web(t)
	for about, row := range map[string]struct {
		requirements string
		want         []string
	}{
		"of both kinds, the worst first": {"maximumFixableSeverity: LOW, maximumUnfixableSeverity: HIGH", []string{
			"found CVE projects/goog-vulnz/notes/CVE-0 in %s, which has severity SEVERITY_UNSPECIFIED exceeding max fixable severity LOW",
			"found unfixable CVE projects/goog-vulnz/notes/CVE-5 in %s, which has severity CRITICAL exceeding max unfixable severity HIGH",
			"found CVE projects/goog-vulnz/notes/CVE-4 in %s, which has severity HIGH exceeding max fixable severity LOW",
		}},
		"by default": {"", []string{
			"found CVE projects/goog-vulnz/notes/CVE-0 in %s, which has severity SEVERITY_UNSPECIFIED exceeding max fixable severity CRITICAL",
		}},
		"when nothing may be found": {"maximumFixableSeverity: BLOCK_ALL, allowlistCVEs: [projects/goog-vulnz/notes/CVE-0, projects/goog-vulnz/notes/CVE-4]", []string{
			"found CVE projects/goog-vulnz/notes/CVE-1 in %s which isn't in allowlist, violating max fixable severity BLOCK_ALL",
		}},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			store := &attesttest.Store{}
			store.Add(project, discovery(ref, scanNote, 1, success),
				vulnerability(ref, "CVE-1", grafeas.Severity_LOW, true), vulnerability(ref, "CVE-4", grafeas.Severity_HIGH, true), vulnerability(ref, "CVE-4", grafeas.Severity_HIGH, true),
				vulnerability(ref, "CVE-3", grafeas.Severity_HIGH, false), vulnerability(ref, "CVE-5", grafeas.Severity_CRITICAL, false), vulnerability(ref, "CVE-0", 0, true))
			s := newSigner(t, store, func(o *kritissigner.Options) { o.Policy = policyOf(t, row.requirements) })
			r := run(t, s, kritissigner.CheckAndSign, ref)
			var want []string
			for _, w := range row.want {
				want = append(want, fmt.Sprintf(w, ref))
			}
			if diff := cmp.Diff(want, r.Violations); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
			if r.Passed || r.Signed || len(attestations(store)) != 0 {
				t.Errorf("it is signed: %+v", r)
			}
		})
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	ref := web(t)
	good := func() *attesttest.Store {
		store := &attesttest.Store{}
		store.Add(project, discovery(ref, scanNote, 1, success))
		return store
	}
	t.Run("check-only signs nothing, and needs neither note nor key", func(t *testing.T) {
		t.Parallel()
		store := good()
		s := newSigner(t, store, func(o *kritissigner.Options) { o.Key, o.Note = nil, "" })
		if r := run(t, s, kritissigner.CheckOnly, ref); !r.Passed || r.Signed || len(attestations(store)) != 0 {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("bypass-and-sign does not look at scans, and needs no policy", func(t *testing.T) {
		t.Parallel()
		store := &attesttest.Store{}
		s := newSigner(t, store, func(o *kritissigner.Options) { o.Policy = nil })
		if r := run(t, s, kritissigner.BypassAndSign, ref); r.Passed || !r.Signed || len(attestations(store)) != 1 || store.Calls("ListOccurrences") != 0 {
			t.Errorf("got %+v", r)
		}
	})
	for about, row := range map[string]struct {
		mode   kritissigner.Mode
		change func(*kritissigner.Options)
		want   string
	}{
		"no policy":    {kritissigner.CheckAndSign, func(o *kritissigner.Options) { o.Policy = nil }, "needs a VulnzSigningPolicy"},
		"no note":      {kritissigner.BypassAndSign, func(o *kritissigner.Options) { o.Note = "" }, "needs the note"},
		"no key":       {kritissigner.CheckAndSign, func(o *kritissigner.Options) { o.Key = nil }, "needs a key"},
		"no mode":      {"", nil, "is not one of"},
		"another mode": {"sign", nil, "is not one of"},
		"no projects":  {kritissigner.CheckOnly, func(o *kritissigner.Options) { o.ScanProjects = nil }, "name a project"},
	} {
		t.Run(about+" is an error", func(t *testing.T) {
			t.Parallel()
			store := good()
			r, err := newSigner(t, store, row.change).Run(t.Context(), row.mode, ref)
			if err == nil || !strings.Contains(err.Error(), row.want) || r.Signed || len(attestations(store)) != 0 {
				t.Errorf("got %+v, %v; want an error with %q", r, err, row.want)
			}
		})
	}
	t.Run("an image without digest is an error", func(t *testing.T) {
		t.Parallel()
		for _, m := range []kritissigner.Mode{kritissigner.CheckOnly, kritissigner.CheckAndSign, kritissigner.BypassAndSign} {
			if _, err := newSigner(t, good(), nil).Run(t.Context(), m, parse(t, "registry.example/shop/web:1")); !errors.Is(err, kritissigner.ErrNoDigest) {
				t.Errorf("%s: %v", m, err)
			}
		}
	})
	for name, bad := range map[string]func(*kritissigner.Options){
		"a note of three segments": func(o *kritissigner.Options) { o.Note = "projects/p/notes" },
		"a note without project":   func(o *kritissigner.Options) { o.Note = "projects//notes/n" },
		"a project with a slash":   func(o *kritissigner.Options) { o.Project = "projects/p" },
		"no store":                 func(o *kritissigner.Options) { o.Store = nil },
	} {
		o := kritissigner.Options{Store: good()}
		bad(&o)
		if _, err := kritissigner.New(o); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// Kritis B24: whether there is an attestation was asked without looking at it.
func TestOnlyAnAttestationThatVerifiesMakesAnotherNeedless(t *testing.T) {
	t.Parallel()
	ref := web(t)
	key, thief := newKey(t), newKey(t)
	signed := func(by signature.Signer, id string, payload []byte) *grafeas.Occurrence {
		sig, err := by.Sign(t.Context(), payload)
		if err != nil {
			t.Fatal(err)
		}
		return &grafeas.Occurrence{
			ResourceUri: ref.ResourceURI(), NoteName: note, Kind: grafeas.NoteKind_ATTESTATION,
			Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
				SerializedPayload: payload, Signatures: []*grafeas.Signature{{Signature: sig, PublicKeyId: id}},
			}},
		}
	}
	good := signature.NewPayload(ref.Repository(), ref.Digest(), signature.TypeAtomic)
	for about, row := range map[string]struct {
		there    *grafeas.Occurrence
		existing bool
	}{
		"ours":                        {signed(key, key.KeyID(), good), true},
		"of Binary Authorization's":   {signed(key, key.KeyID(), signature.NewPayload(ref.Repository(), ref.Digest(), signature.TypeBinauthz)), true},
		"of another key":              {signed(thief, thief.KeyID(), good), false},
		"of another key under our id": {signed(thief, key.KeyID(), good), false},
		"about another image":         {signed(key, key.KeyID(), signature.NewPayload(ref.Repository(), image.DigestOf([]byte("other")), signature.TypeAtomic)), false},
		"about another repository":    {signed(key, key.KeyID(), signature.NewPayload("registry.example/evil", ref.Digest(), signature.TypeAtomic)), false},
		"without details":             {&grafeas.Occurrence{ResourceUri: ref.ResourceURI(), NoteName: note, Kind: grafeas.NoteKind_ATTESTATION}, false},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			store := &attesttest.Store{}
			store.Add("attest", proto.CloneOf(row.there))
			r := run(t, newSigner(t, store, func(o *kritissigner.Options) { o.Key = key }), kritissigner.BypassAndSign, ref)
			if !r.Signed || r.Existing != row.existing {
				t.Errorf("got %+v, want existing %v", r, row.existing)
			}
			// What is not ours stays: it may be that of another attestor.
			if store.Calls("DeleteOccurrence") != 0 {
				t.Error("something was deleted")
			}
		})
	}
}

func TestOverwrite(t *testing.T) {
	t.Parallel()
	ref := web(t)
	key := newKey(t)
	for about, unique := range map[string]bool{"where there may be several": false, "where the server takes one": true} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			store := &attesttest.Store{Unique: unique}
			change := func(overwrite bool, k signature.Signer) func(*kritissigner.Options) {
				return func(o *kritissigner.Options) { o.Key, o.Overwrite = k, overwrite }
			}
			first := run(t, newSigner(t, store, change(false, key)), kritissigner.BypassAndSign, ref)
			second := run(t, newSigner(t, store, change(true, key)), kritissigner.BypassAndSign, ref)
			if second.Existing || second.Attestation == first.Attestation || !slices.Equal(second.Replaced, []string{first.Attestation}) {
				t.Errorf("got %+v", second)
			}
			if got := attestations(store); len(got) != 1 || got[0].GetName() != second.Attestation {
				t.Errorf("left are %v", got)
			}
		})
	}
	t.Run("another's in the way is told, and replaced when that is asked for", func(t *testing.T) {
		t.Parallel()
		store := &attesttest.Store{Unique: true}
		first := run(t, newSigner(t, store, nil), kritissigner.BypassAndSign, ref)
		r, err := newSigner(t, store, nil).Run(t.Context(), kritissigner.BypassAndSign, ref)
		if err == nil || !strings.Contains(err.Error(), "does not verify with the key") || r.Signed {
			t.Fatalf("got %+v, %v", r, err)
		}
		r = run(t, newSigner(t, store, func(o *kritissigner.Options) { o.Overwrite = true }), kritissigner.BypassAndSign, ref)
		if !r.Signed || !slices.Equal(r.Replaced, []string{first.Attestation}) {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("the old one is deleted after the new one is there", func(t *testing.T) {
		t.Parallel()
		store := &attesttest.Store{}
		run(t, newSigner(t, store, func(o *kritissigner.Options) { o.Key = key }), kritissigner.BypassAndSign, ref)
		store.Fail = func(_ context.Context, method string) error {
			if method == "DeleteOccurrence" {
				return status.Error(codes.Unavailable, "down")
			}
			return nil
		}
		_, err := newSigner(t, store, func(o *kritissigner.Options) { o.Key, o.Overwrite = key, true }).Run(t.Context(), kritissigner.BypassAndSign, ref)
		if err == nil || len(attestations(store)) != 2 {
			t.Errorf("got %v, and there are %d", err, len(attestations(store)))
		}
	})
}

func TestAnErrorIsNotAPass(t *testing.T) {
	t.Parallel()
	ref := web(t)
	for _, method := range []string{"ListOccurrences", "ListNoteOccurrences", "CreateOccurrence", "CreateNote"} {
		store := &attesttest.Store{}
		store.Add(project, discovery(ref, scanNote, 1, success))
		store.Fail = func(_ context.Context, m string) error {
			if m == method {
				return status.Error(codes.Internal, "broken")
			}
			return nil
		}
		if r, err := newSigner(t, store, nil).Run(t.Context(), kritissigner.CheckAndSign, ref); err == nil || r.Signed {
			t.Errorf("%s fails: got %+v, %v", method, r, err)
		}
	}
}

// More is found than is kept: what is not looked at may be worse than what is.
func TestAScanThatIsNotReadWholeIsNoPass(t *testing.T) {
	t.Parallel()
	ref := web(t)
	store := &attesttest.Store{PageSize: 500}
	store.Add(project, discovery(ref, scanNote, 1, success))
	for i := range 1200 {
		store.Add(project, vulnerability(ref, fmt.Sprintf("CVE-%d", i), grafeas.Severity_MINIMAL, true))
	}
	r, err := newSigner(t, store, nil).Run(t.Context(), kritissigner.CheckAndSign, ref)
	if err == nil || r.Signed || r.Passed || !strings.Contains(err.Error(), "More vulnerabilities were found") {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestScansOfOthersDoNotCount(t *testing.T) {
	t.Parallel()
	ref, other := web(t), parse(t, "registry.example/shop/other@"+image.DigestOf([]byte("web")).String())
	for about, add := range map[string]func(*attesttest.Store){
		"of another project":    func(s *attesttest.Store) { s.Add("evil", discovery(ref, scanNote, 1, success)) },
		"of another repository": func(s *attesttest.Store) { s.Add(project, discovery(other, scanNote, 1, success)) },
		"of an analysis for something else": func(s *attesttest.Store) {
			name := "projects/scans/notes/sbom"
			if _, err := s.CreateNote(t.Context(), &grafeas.CreateNoteRequest{Parent: "projects/scans", NoteId: "sbom", Note: &grafeas.Note{
				Type: &grafeas.Note_Discovery{Discovery: &grafeas.DiscoveryNote{AnalysisKind: grafeas.NoteKind_BUILD}},
			}}); err != nil {
				t.Fatal(err)
			}
			s.Add(project, discovery(ref, name, 1, success))
		},
		"that are not there": func(*attesttest.Store) {},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			store := &attesttest.Store{IgnoreFilter: true}
			add(store)
			r, err := newSigner(t, store, nil).Run(t.Context(), kritissigner.CheckAndSign, ref)
			if err == nil || r.Signed || !strings.Contains(err.Error(), "no scan of it is known in project scans") {
				t.Errorf("got %+v, %v", r, err)
			}
		})
	}
	t.Run("those of the image's project do, if that is asked for", func(t *testing.T) {
		t.Parallel()
		ref := parse(t, "gcr.io/shop/web@"+image.DigestOf([]byte("web")).String())
		store := &attesttest.Store{}
		store.Add("shop", discovery(ref, scanNote, 1, success))
		s := newSigner(t, store, func(o *kritissigner.Options) { o.ScanProjects, o.ImageProject = nil, true })
		if r := run(t, s, kritissigner.CheckAndSign, ref); !r.Signed || !strings.HasPrefix(r.Attestation, "projects/shop/") {
			t.Errorf("got %+v", r)
		}
	})
}

func TestScansThatEndOtherwise(t *testing.T) {
	t.Parallel()
	ref := web(t)
	for about, row := range map[string]struct {
		found []*grafeas.Occurrence
		want  string // of the error; "" passes
	}{
		"failed":                         {[]*grafeas.Occurrence{discovery(ref, scanNote, 1, failed)}, "failed (FINISHED_FAILED)"},
		"unsupported":                    {[]*grafeas.Occurrence{discovery(ref, scanNote, 1, unsupported)}, "does not support the image"},
		"failed, and again with success": {[]*grafeas.Occurrence{discovery(ref, scanNote, 1, failed), discovery(ref, scanNote, 2, success)}, ""},
		"with success, and again":        {[]*grafeas.Occurrence{discovery(ref, scanNote, 1, success), discovery(ref, scanNote, 2, scanning)}, "has not finished: the scan in project \"scans\" is SCANNING"},
		"of two scanners one":            {[]*grafeas.Occurrence{discovery(ref, scanNote, 1, success), discovery(ref, scanNote+"2", 1, pending)}, "is PENDING"},
		"without a state":                {[]*grafeas.Occurrence{discovery(ref, scanNote, 1, 0)}, "has not finished"},
		"without details":                {[]*grafeas.Occurrence{{ResourceUri: ref.ResourceURI(), NoteName: scanNote, Kind: grafeas.NoteKind_DISCOVERY}}, "no scan of it is known"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			store := &attesttest.Store{}
			store.Add(project, row.found...)
			r, err := newSigner(t, store, nil).Run(t.Context(), kritissigner.CheckAndSign, ref)
			if row.want == "" {
				if err != nil || !r.Signed {
					t.Errorf("got %+v, %v", r, err)
				}
				return
			}
			if err == nil || r.Signed || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %+v, %v; want an error with %q", r, err, row.want)
			}
		})
	}
}

// Kritis B26: a scan that nobody knows of was waited for without end, and in a loop
// that did not rest.
func TestWaitingEnds(t *testing.T) {
	t.Parallel()
	ref := web(t)
	waiting := func(o *kritissigner.Options) { o.Timeout = 5 * time.Minute }
	t.Run("with the scan", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			store := &attesttest.Store{}
			store.Add(project, discovery(ref, scanNote, 1, pending))
			name := store.Occurrences()[0].GetName()
			time.AfterFunc(10*time.Second, func() {
				store.Change(name, func(m proto.Message) { m.(*grafeas.Occurrence).GetDiscovery().AnalysisStatus = success })
			})
			start := time.Now()
			r := run(t, newSigner(t, store, waiting), kritissigner.CheckAndSign, ref)
			if took := time.Since(start); !r.Signed || took < 10*time.Second || took > 25*time.Second {
				t.Errorf("got %+v after %s", r, took)
			}
		})
	})
	t.Run("with the scan, at once when there is news", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			store := &attesttest.Store{}
			store.Add(project, discovery(ref, scanNote, 1, pending))
			name := store.Occurrences()[0].GetName()
			news := make(chan struct{})
			time.AfterFunc(90*time.Millisecond, func() {
				store.Change(name, func(m proto.Message) { m.(*grafeas.Occurrence).GetDiscovery().AnalysisStatus = success })
				close(news)
			})
			start := time.Now()
			r := run(t, newSigner(t, store, func(o *kritissigner.Options) {
				waiting(o)
				o.Watch = func() func(context.Context, time.Duration) error {
					return func(context.Context, time.Duration) error { <-news; return nil }
				}
			}), kritissigner.CheckAndSign, ref)
			if took := time.Since(start); !r.Signed || took != 90*time.Millisecond {
				t.Errorf("got %+v after %s", r, took)
			}
		})
	})
	for about, store := range map[string]*attesttest.Store{"with the time, when no scan is known": {}, "with the time, when the scan goes on": {}, "with the time, when the server hangs": {Fail: func(ctx context.Context, method string) error {
		if method == "ListOccurrences" {
			<-ctx.Done()
			return status.FromContextError(ctx.Err()).Err()
		}
		return nil
	}}} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if strings.Contains(about, "goes on") {
					store.Add(project, discovery(ref, scanNote, 1, scanning))
				}
				start := time.Now()
				r, err := newSigner(t, store, waiting).Run(t.Context(), kritissigner.CheckAndSign, ref)
				if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || r.Signed || took != 5*time.Minute {
					t.Errorf("got %+v, %v after %s", r, err, took)
				}
				if !strings.Contains(err.Error(), "has not finished within 5m0s: ") {
					t.Errorf("it does not say why: %v", err)
				}
				if n := store.Calls("ListOccurrences"); n > 100 {
					t.Errorf("the server was asked %d times", n)
				}
			})
		})
	}
	t.Run("with the caller", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		s := newSigner(t, &attesttest.Store{}, func(o *kritissigner.Options) {
			waiting(o)
			o.Watch = func() func(context.Context, time.Duration) error {
				return func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() }
			}
		})
		if _, err := s.Run(ctx, kritissigner.CheckAndSign, ref); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// A new scan that begins while the old one is read must not give a verdict on a part
// of either.
func TestAScanThatChangesWhileItIsReadIsReadAgain(t *testing.T) {
	t.Parallel()
	ref := web(t)
	synctest.Test(t, func(t *testing.T) {
		store := &attesttest.Store{}
		store.Add(project, discovery(ref, scanNote, 1, success), vulnerability(ref, "CVE-1", grafeas.Severity_CRITICAL, true))
		d, v := store.Occurrences()[0].GetName(), store.Occurrences()[1]
		lists := 0
		store.Fail = func(_ context.Context, method string) error {
			if method != "ListOccurrences" {
				return nil
			}
			lists++
			if lists == 2 { // between discoveries and vulnerabilities: the scanner begins anew, and deletes what it found
				store.Change(d, func(m proto.Message) {
					m.(*grafeas.Occurrence).GetDiscovery().AnalysisStatus, m.(*grafeas.Occurrence).UpdateTime = scanning, &timestamppb.Timestamp{Seconds: 2}
				})
				store.Change(v.GetName(), proto.Reset)
				time.AfterFunc(20*time.Second, func() {
					store.Change(d, func(m proto.Message) {
						m.(*grafeas.Occurrence).GetDiscovery().AnalysisStatus, m.(*grafeas.Occurrence).UpdateTime = success, &timestamppb.Timestamp{Seconds: 3}
					})
					store.Add(project, v)
				})
			}
			return nil
		}
		r := run(t, newSigner(t, store, func(o *kritissigner.Options) { o.Timeout = time.Minute }), kritissigner.CheckAndSign, ref)
		if r.Signed || len(r.Violations) != 1 {
			t.Errorf("got %+v", r)
		}
	})
}
