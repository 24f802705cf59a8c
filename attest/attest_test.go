package attest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gatehouse-dev/gatehouse/attest"
	"github.com/gatehouse-dev/gatehouse/attest/attesttest"
	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	digest  = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	another = "sha256:fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
	app     = "registry.example/team/app"
)

func mustParse(t *testing.T, s string) image.Reference {
	t.Helper()
	ref, err := image.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func pkixSigner(t *testing.T) signature.Signer {
	t.Helper()
	key, err := signature.GeneratePKIX("ECDSA_P256_SHA256", rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.ParsePKIXSigner(key, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func pgpSigner(t *testing.T) signature.Signer {
	t.Helper()
	key, err := signature.GeneratePGP("made for tests", time.Now().Add(-time.Hour), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signature.ParsePGPSigner(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func passing(name string) check.Check {
	return check.Check{Name: name, Run: func(context.Context, *check.Input) (check.Result, error) { return check.Pass(), nil }}
}

func failing(name, reason string) check.Check {
	return check.Check{Name: name, Run: func(context.Context, *check.Input) (check.Result, error) { return check.Fail("%s", reason), nil }}
}

type noRegistry struct{ check.Registry }

func (noRegistry) Configs(context.Context, image.Reference, ...resolve.Platform) ([]resolve.Config, error) {
	return nil, errors.New("no registry")
}

// newAuthority returns an authority over a store, with the two checks "good"
// and "bad", and a signer for each in the options.
func newAuthority(t *testing.T, store attest.Store, change func(*attest.Options)) *attest.Authority {
	t.Helper()
	lister, ok := store.(check.Lister)
	if !ok {
		lister = &attesttest.Store{}
	}
	metadata, err := check.NewGrafeas(lister, "p")
	if err != nil {
		t.Fatal(err)
	}
	o := attest.Options{
		Project: "p", Checks: []check.Check{passing("good"), failing("bad", "it is bad")},
		Groups:   map[string][]string{"all": {"bad", "good"}, "empty": {}, "partial": {"good", "approved", "is_us"}},
		Registry: noRegistry{}, Metadata: metadata, Store: store, CreateNotes: true,
	}
	if change != nil {
		change(&o)
	}
	a, err := attest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func signing(name string, s signature.Signer) func(*attest.Options) {
	return func(o *attest.Options) { o.Signers = map[string]signature.Signer{name: s} }
}

func checkImage(t *testing.T, a *attest.Authority, ref, name string) attest.Response {
	t.Helper()
	r, err := a.Check(t.Context(), mustParse(t, ref), name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func verifyImage(t *testing.T, a *attest.Authority, ref, name string) attest.Response {
	t.Helper()
	r, err := a.Verify(t.Context(), mustParse(t, ref), name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAttestationIsStoredAndVerifies(t *testing.T) {
	t.Parallel()
	for about, s := range map[string]signature.Signer{"PKIX": pkixSigner(t), "PGP": pgpSigner(t)} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			store := &attesttest.Store{}
			a := newAuthority(t, store, signing("good", s))
			const ref = app + ":v1@" + digest
			got := checkImage(t, a, ref, "all")

			const body = `{"critical":{"identity":{"docker-reference":"` + app + `"},"image":{"docker-manifest-digest":"` + digest + `"},"type":"Google cloud binauthz container signature"}}`
			stored := store.Occurrences()
			if len(stored) != 1 {
				t.Fatalf("%d occurrences are stored, want 1", len(stored))
			}
			sig := stored[0].GetAttestation().GetSignatures()[0].GetSignature()
			want := attest.Response{Image: ref, Results: []attest.Result{
				{Name: "bad", Error: "it is bad"},
				{Name: "good", Success: true, Attested: true, Details: &attest.Details{
					CheckName: "good", Body: body, Signature: string(sig), KeyID: s.KeyID(), SignatureBase64: base64.StdEncoding.EncodeToString(sig),
				}},
			}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("response (-want +got):\n%s", diff)
			}

			o := stored[0]
			if o.GetResourceUri() != "https://"+app+"@"+digest || o.GetNoteName() != "projects/p/notes/good" || !strings.HasPrefix(o.GetName(), "projects/p/occurrences/") || o.GetKind() != grafeas.NoteKind_ATTESTATION {
				t.Errorf("stored %v", o)
			}
			if got := string(o.GetAttestation().GetSerializedPayload()); got != body {
				t.Errorf("B8: the payload stored is %q, want %q", got, body)
			}
			if id := o.GetAttestation().GetSignatures()[0].GetPublicKeyId(); id != s.KeyID() {
				t.Errorf("the key id stored is %q", id)
			}
			if n := store.Note("projects/p/notes/good"); n.GetAttestation().GetHint().GetHumanReadableName() != "good" {
				t.Errorf("the note stored is %v", n)
			}

			verified := verifyImage(t, a, app+"@"+digest, "good")
			wantVerified := attest.Response{Image: app + "@" + digest, Success: true, Results: []attest.Result{
				{Name: "good", Success: true, Attested: true, Details: &attest.Details{CheckName: "good", Body: body, VerifiedKeyID: s.PublicKey().ID()}},
			}}
			if diff := cmp.Diff(wantVerified, verified); diff != "" {
				t.Errorf("B2: verified (-want +got):\n%s", diff)
			}
			if r := verifyImage(t, a, ref, "all"); r.Success || r.Results[0].Success || !r.Results[1].Success {
				t.Errorf("a group with a check that is not attested: %+v", r)
			}
		})
	}
}

func TestB11_ABinarySignatureSurvivesJSON(t *testing.T) {
	t.Parallel()
	s := pkixSigner(t)
	store := &attesttest.Store{}
	raw, err := json.Marshal(checkImage(t, newAuthority(t, store, signing("good", s)), app+"@"+digest, "good"))
	if err != nil {
		t.Fatal(err)
	}
	var r attest.Response
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	sig, err := base64.StdEncoding.DecodeString(r.Results[0].Details.SignatureBase64)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PublicKey().Verify([]byte(r.Results[0].Details.Body), sig); err != nil {
		t.Errorf("the signature in the answer: %v", err)
	}
}

// The outcomes of one check, in Voucher's JSON.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	s := pkixSigner(t)
	const zero = `"details":{"CheckName":"","Body":"","Signature":"","KeyID":""}`
	for about, row := range map[string]struct {
		check  check.Check
		change func(*attest.Options)
		want   string
	}{
		"passed, no key for the check": {passing("c"), signing("other", s), `{"name":"c","error":"no signing entity exists for check","success":true,"attested":false,` + zero + `}`},
		"passed, no keys":              {passing("c"), nil, `{"name":"c","error":"cannot create attestations, keyring is empty","success":true,"attested":false,` + zero + `}`},
		"passed, dry run":              {passing("c"), func(o *attest.Options) { o.DryRun = true }, `{"name":"c","success":true,"attested":false}`},
		"failed with a reason":         {failing("c", "why <not>"), signing("c", s), `{"name":"c","error":"why \u003cnot\u003e","success":false,"attested":false}`},
		"failed without reason": {check.Check{Name: "c", Run: func(context.Context, *check.Input) (check.Result, error) { return check.Result{}, nil }},
			signing("c", s), `{"name":"c","success":false,"attested":false}`},
		"could not tell": {check.Check{Name: "c", Run: func(context.Context, *check.Input) (check.Result, error) {
			return check.Pass(), errors.New("no answer")
		}}, signing("c", s), `{"name":"c","error":"no answer","success":false,"attested":false}`},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			store := &attesttest.Store{}
			a := newAuthority(t, store, func(o *attest.Options) {
				if row.change != nil {
					row.change(o)
				}
				o.Checks = append(o.Checks, row.check)
			})
			got, err := json.Marshal(checkImage(t, a, app+"@"+digest, "c").Results[0])
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != row.want {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
			if n := len(store.Occurrences()); n != 0 {
				t.Errorf("%d attestations are stored, want none", n)
			}
		})
	}
}

func TestAStoreThatFailsIsAnErrorWithTheSignature(t *testing.T) {
	t.Parallel()
	store := &attesttest.Store{Fail: func(context.Context, string) error { return status.Error(codes.Unavailable, "store is down") }}
	got := checkImage(t, newAuthority(t, store, signing("good", pkixSigner(t))), app+"@"+digest, "good").Results[0]
	if !got.Success || got.Attested || !strings.Contains(got.Error, "store is down") || got.Details.SignatureBase64 == "" || got.Details.KeyID == "" {
		t.Errorf("got %+v", got)
	}
}

func TestASignerThatFailsOrLiesAttestsNothing(t *testing.T) {
	t.Parallel()
	for about, s := range map[string]lyingSigner{
		"fails": {Signer: pkixSigner(t), err: errors.New("no hardware")},
		"lies":  {Signer: pkixSigner(t), sig: []byte("signature")},
	} {
		store := &attesttest.Store{}
		got := checkImage(t, newAuthority(t, store, signing("good", s)), app+"@"+digest, "good").Results[0]
		if got.Attested || got.Error == "" || got.Details != nil || len(store.Occurrences()) != 0 {
			t.Errorf("a signer that %s: got %+v", about, got)
		}
	}
}

type lyingSigner struct {
	signature.Signer
	sig []byte
	err error
}

func (l lyingSigner) Sign(context.Context, []byte) ([]byte, error) { return l.sig, l.err }

func TestB3_AnEmptyGroupPassesNothing(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, &attesttest.Store{}, nil)
	for about, r := range map[string]attest.Response{
		"checked":  checkImage(t, a, app+"@"+digest, "empty"),
		"verified": verifyImage(t, a, app+"@"+digest, "empty"),
	} {
		got, err := json.Marshal(r)
		if want := `{"image":"` + app + "@" + digest + `","success":false,"results":[]}`; err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v; want %s", about, got, err, want)
		}
	}
}

func TestStrict(t *testing.T) {
	t.Parallel()
	strict := func(change func(*attest.Options)) *attest.Authority {
		return newAuthority(t, &attesttest.Store{}, func(o *attest.Options) {
			o.Strict = true
			change(o)
		})
	}
	const ref = app + "@" + digest
	if r := checkImage(t, newAuthority(t, &attesttest.Store{}, nil), ref, "good"); !r.Success {
		t.Errorf("not strict, passed and not attested: %+v", r)
	}
	if r := checkImage(t, strict(func(*attest.Options) {}), ref, "good"); r.Success || !r.Results[0].Success {
		t.Errorf("strict, passed and not attested: %+v", r)
	}
	if r := checkImage(t, strict(signing("good", pkixSigner(t))), ref, "good"); !r.Success {
		t.Errorf("strict, attested: %+v", r)
	}
	if r := checkImage(t, strict(func(o *attest.Options) { o.DryRun = true }), ref, "good"); !r.Success {
		t.Errorf("strict, dry run: %+v", r)
	}
	var inactive *attest.NotActiveError
	if _, err := strict(func(*attest.Options) {}).Check(t.Context(), mustParse(t, ref), "empty"); !errors.As(err, &inactive) {
		t.Errorf("strict, a group without checks: err = %v", err)
	}
}

func TestNamesThatAreNotActive(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, &attesttest.Store{}, nil)
	for name, want := range map[string]string{
		"nope":    `check or group "nope" is not active: required check(s) are not registered: nope`,
		"Good":    `check or group "Good" is not active: required check(s) are not registered: Good`,
		"partial": `check or group "partial" is not active: required check(s) are not registered: approved, is_us`,
	} {
		_, err := a.Check(t.Context(), mustParse(t, app+"@"+digest), name)
		var inactive *attest.NotActiveError
		if !errors.As(err, &inactive) || err.Error() != want {
			t.Errorf("err = %v, want %v", err, want)
		}
	}
	if diff := cmp.Diff([]string{"all", "bad", "empty", "good", "partial"}, a.Names()); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

func TestAReferenceWithoutDigestIsRefused(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, &attesttest.Store{}, nil)
	if _, err := a.Check(t.Context(), mustParse(t, app+":v1"), "good"); !errors.Is(err, image.ErrNoDigest) {
		t.Errorf("Check: err = %v", err)
	}
	if _, err := a.Verify(t.Context(), mustParse(t, app+":v1"), "good"); !errors.Is(err, image.ErrNoDigest) {
		t.Errorf("Verify: err = %v", err)
	}
}

func TestNotes(t *testing.T) {
	t.Parallel()
	t.Run("are not created where that is off, and the error says what to do", func(t *testing.T) {
		a := newAuthority(t, &attesttest.Store{}, func(o *attest.Options) {
			signing("good", pkixSigner(t))(o)
			o.CreateNotes = false
		})
		got := checkImage(t, a, app+"@"+digest, "good").Results[0]
		if got.Attested || !strings.Contains(got.Error, `create the note "projects/p/notes/good"`) {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("are created by several at once", func(t *testing.T) {
		store := &attesttest.Store{}
		a := newAuthority(t, store, signing("good", pkixSigner(t)))
		ref := mustParse(t, app+"@"+digest)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if r, err := a.Check(t.Context(), ref, "good"); err != nil || !r.Results[0].Attested {
					t.Errorf("got %+v, %v", r, err)
				}
			})
		}
		wg.Wait()
	})
	t.Run("that cannot be created are an error", func(t *testing.T) {
		store := &attesttest.Store{Fail: func(_ context.Context, method string) error {
			if method == "CreateNote" {
				return status.Error(codes.PermissionDenied, "not yours")
			}
			return nil
		}}
		got := checkImage(t, newAuthority(t, store, signing("good", pkixSigner(t))), app+"@"+digest, "good").Results[0]
		if got.Attested || !strings.Contains(got.Error, "creating the note") || !strings.Contains(got.Error, "not yours") {
			t.Errorf("got %+v", got)
		}
	})
}

func TestB9_AnAttestationThatExistsCountsWhenItIsOurs(t *testing.T) {
	t.Parallel()
	ours, theirs := pkixSigner(t), pkixSigner(t)
	const ref = app + "@" + digest
	store := &attesttest.Store{Unique: true}
	first := newAuthority(t, store, signing("good", ours))
	if r := checkImage(t, first, ref, "good"); !r.Results[0].Attested {
		t.Fatalf("the first time: %+v", r)
	}
	got := checkImage(t, first, ref, "good").Results[0]
	if !got.Attested || got.Error != "" || got.Details.Signature != "" || got.Details.SignatureBase64 != "" || got.Details.CheckName != "good" {
		t.Errorf("the second time: %+v", got)
	}
	// The key that is only trusted is not the one that was asked to sign.
	other := newAuthority(t, store, func(o *attest.Options) {
		signing("good", theirs)(o)
		o.TrustedKeys = map[string][]*signature.PublicKey{"good": {ours.PublicKey()}}
	})
	got = checkImage(t, other, ref, "good").Results[0]
	if got.Attested || !got.Success || !strings.Contains(got.Error, "is not ours") || !strings.Contains(got.Error, "not one of the attestor's") {
		t.Errorf("with another key: %+v", got)
	}
	if r := verifyImage(t, other, ref, "good"); !r.Success {
		t.Errorf("verified by the trusted key: %+v", r)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	s, eve := pkixSigner(t), pkixSigner(t)
	payload := func(repo, d string) []byte {
		return signature.NewPayload(repo, mustParse(t, app+"@"+d).Digest(), signature.TypeBinauthz)
	}
	attestation := func(t *testing.T, key signature.Signer, id string, signed, filed []byte) *grafeas.Occurrence {
		t.Helper()
		sig, err := key.Sign(t.Context(), signed)
		if err != nil {
			t.Fatal(err)
		}
		return &grafeas.Occurrence{
			Kind: grafeas.NoteKind_ATTESTATION, NoteName: "projects/p/notes/good", ResourceUri: "https://" + app + "@" + digest,
			Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
				SerializedPayload: filed, Signatures: []*grafeas.Signature{{Signature: sig, PublicKeyId: id}},
			}},
		}
	}
	mine := payload(app, digest)
	good := attestation(t, s, s.KeyID(), mine, mine)
	elsewhere := func(change func(*grafeas.Occurrence)) *grafeas.Occurrence {
		o := attestation(t, s, s.KeyID(), mine, mine)
		change(o)
		return o
	}
	eves := attestation(t, eve, s.KeyID(), mine, mine).GetAttestation()
	many := elsewhere(func(o *grafeas.Occurrence) {
		a := o.GetAttestation()
		a.Signatures = []*grafeas.Signature{eves.GetSignatures()[0]}
		for range 40 {
			a.Signatures = append(a.Signatures, a.GetSignatures()[0])
		}
	})
	for about, row := range map[string]struct {
		stored []*grafeas.Occurrence
		ok     bool
		why    string
	}{
		"a good one":                            {[]*grafeas.Occurrence{good}, true, ""},
		"a good one behind others":              {[]*grafeas.Occurrence{attestation(t, eve, s.KeyID(), mine, mine), many, {}, good}, true, ""},
		"none":                                  {nil, false, ""},
		"B10: another key under our id":         {[]*grafeas.Occurrence{attestation(t, eve, s.KeyID(), mine, mine)}, false, "does not verify"},
		"B10: an unknown key":                   {[]*grafeas.Occurrence{attestation(t, eve, eve.KeyID(), mine, mine)}, false, "not one of the attestor's"},
		"B10: a payload that was not signed":    {[]*grafeas.Occurrence{attestation(t, s, s.KeyID(), payload(app, another), mine)}, false, "does not verify"},
		"B10: a payload about another image":    {[]*grafeas.Occurrence{attestation(t, s, s.KeyID(), payload(app, another), payload(app, another))}, false, "but what was signed is"},
		"B10: a payload about another repo":     {[]*grafeas.Occurrence{attestation(t, s, s.KeyID(), payload(app+"2", digest), payload(app+"2", digest))}, false, "and the image is of"},
		"B10: a signed text of another kind":    {[]*grafeas.Occurrence{attestation(t, s, s.KeyID(), []byte("hello"), []byte("hello"))}, false, "an unexpected message was signed"},
		"B10: no signature":                     {[]*grafeas.Occurrence{elsewhere(func(o *grafeas.Occurrence) { o.GetAttestation().Signatures = nil })}, false, "no signature that can be checked"},
		"B4: no attestation in it":              {[]*grafeas.Occurrence{elsewhere(func(o *grafeas.Occurrence) { o.Details = nil })}, false, "a signature that can be checked"},
		"too many signatures":                   {[]*grafeas.Occurrence{many}, false, "does not verify"},
		"B1: filed under another image":         {[]*grafeas.Occurrence{elsewhere(func(o *grafeas.Occurrence) { o.ResourceUri = "https://" + app + "@" + another })}, false, ""},
		"B1: filed under another note":          {[]*grafeas.Occurrence{elsewhere(func(o *grafeas.Occurrence) { o.NoteName = "projects/p/notes/bad" })}, false, ""},
		"B1: filed as another kind":             {[]*grafeas.Occurrence{elsewhere(func(o *grafeas.Occurrence) { o.Kind = grafeas.NoteKind_BUILD })}, false, ""},
		"B1: filed under a note of another's":   {[]*grafeas.Occurrence{elsewhere(func(o *grafeas.Occurrence) { o.NoteName = "projects/q/notes/good" })}, false, ""},
		"filed under the image, spelled oddly":  {[]*grafeas.Occurrence{elsewhere(func(o *grafeas.Occurrence) { o.ResourceUri = app + ":v1@" + digest })}, true, ""},
		"many bad ones are told in short (B10)": {[]*grafeas.Occurrence{many, many, many, many, many}, false, "more that do not count"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			// The server ignores filters, so that nothing rests on them.
			store := &attesttest.Store{IgnoreFilter: true}
			store.Add("p", row.stored...)
			got := verifyImage(t, newAuthority(t, store, signing("good", s)), app+"@"+digest, "good")
			r := got.Results[0]
			if got.Success != row.ok || r.Success != row.ok || r.Attested != row.ok || (r.Details != nil) != row.ok {
				t.Errorf("got %+v", r)
			}
			if !strings.Contains(r.Error, row.why) || (row.why == "") != (r.Error == "") {
				t.Errorf("error = %q, want %q in it", r.Error, row.why)
			}
		})
	}
	t.Run("B10: an error of the store is told", func(t *testing.T) {
		store := &attesttest.Store{Fail: func(context.Context, string) error { return status.Error(codes.Unavailable, "store is down") }}
		got := verifyImage(t, newAuthority(t, store, signing("good", s)), app+"@"+digest, "good").Results[0]
		if got.Success || !strings.Contains(got.Error, "store is down") {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("a check without keys has nothing valid", func(t *testing.T) {
		store := &attesttest.Store{}
		store.Add("p", good)
		got := verifyImage(t, newAuthority(t, store, nil), app+"@"+digest, "good").Results[0]
		if got.Success || !strings.Contains(got.Error, "no public keys") {
			t.Errorf("got %+v", got)
		}
	})
}

func TestB12_ACheckThatWaitsLeavesTimeToAttestTheOthers(t *testing.T) {
	t.Parallel()
	s := pkixSigner(t)
	synctest.Test(t, func(t *testing.T) {
		store := &attesttest.Store{}
		a := newAuthority(t, store, func(o *attest.Options) {
			signing("good", s)(o)
			o.Checks = append(o.Checks, check.Check{Name: "slow", Run: func(ctx context.Context, _ *check.Input) (check.Result, error) {
				<-ctx.Done()
				return check.Fail("not finished"), nil
			}})
			o.Groups["both"] = []string{"slow", "good"}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		got, err := a.Check(ctx, mustParse(t, app+"@"+digest), "both")
		if err != nil || got.Results[0].Error != "not finished" || !got.Results[1].Attested {
			t.Errorf("got %+v, %v", got, err)
		}
		if ctx.Err() != nil {
			t.Error("the answer came after the deadline")
		}
	})
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	store := &attesttest.Store{}
	metadata, err := check.NewGrafeas(store, "p")
	if err != nil {
		t.Fatal(err)
	}
	good := func() attest.Options {
		return attest.Options{Project: "p", Registry: noRegistry{}, Metadata: metadata, Store: store}
	}
	if _, err := attest.New(good()); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	for about, change := range map[string]func(*attest.Options){
		"no project":          func(o *attest.Options) { o.Project = "" },
		"a path as project":   func(o *attest.Options) { o.Project = "projects/p" },
		"no store":            func(o *attest.Options) { o.Store = nil },
		"no registry":         func(o *attest.Options) { o.Registry = nil },
		"no metadata":         func(o *attest.Options) { o.Metadata = nil },
		"two checks of one":   func(o *attest.Options) { o.Checks = []check.Check{passing("a"), passing("a")} },
		"a check not a check": func(o *attest.Options) { o.Checks = []check.Check{{Name: "a"}} },
		"a group's name":      func(o *attest.Options) { o.Groups = map[string][]string{"A/b": nil} },
		"a nil signer":        func(o *attest.Options) { o.Signers = map[string]signature.Signer{"a": nil} },
	} {
		o := good()
		change(&o)
		if _, err := attest.New(o); err == nil {
			t.Errorf("%s: no error", about)
		}
	}
}

func TestLogTellsResultsAndNoKeys(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	a := newAuthority(t, &attesttest.Store{}, func(o *attest.Options) {
		signing("good", pkixSigner(t))(o)
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	checkImage(t, a, app+"@"+digest, "all")
	for _, want := range []string{"check=good", "attested=true", "it is bad", digest} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log.String())
		}
	}
}

// The interfaces are what Google's gRPC client is.
var (
	_ attest.Store     = grafeas.GrafeasClient(nil)
	_ check.Lister     = grafeas.GrafeasClient(nil)
	_ check.Registry   = (*resolve.Resolver)(nil)
	_ signature.Signer = lyingSigner{}
)
