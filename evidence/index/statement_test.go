package index_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/evidence/index"
	"github.com/gatehouse-dev/gatehouse/image"
	"github.com/gatehouse-dev/gatehouse/signature"
)

// listed returns what a list of occurrences says of digest 1, with the key trusted
// under all notes.
func listed(t *testing.T, s signature.Signer, occurrences ...*grafeas.Occurrence) evidence.Image {
	t.Helper()
	keys := []*signature.PublicKey{s.PublicKey()}
	trust := index.Trust{note: keys, dsseNote: keys, buildNote: keys}
	return index.FromOccurrences(t.Context(), occurrences, trust, refs(t, "reg.test/app@"+digest(1).String())).Images[digest(1)]
}

func facts(img evidence.Image) int {
	return len(img.Attestations) + len(img.Uploads) + len(img.Provenances)
}

// refused checks that occurrences make no fact, and that it is said why.
func refused(t *testing.T, img evidence.Image, reason string) {
	t.Helper()
	if facts(img) != 0 {
		t.Errorf("accepted: %+v", img)
	}
	if len(img.Rejected) != 1 || !strings.Contains(img.Rejected[0].Reason, reason) {
		t.Errorf("rejections %+v, want one with %q", img.Rejected, reason)
	}
}

func TestTypesOfPayload(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	for typ, cosign := range map[string]bool{signature.TypeAtomic: false, signature.TypeBinauthz: false, signature.TypeCosign: true} {
		payload := signature.NewPayload("reg.test/app", digest(1), typ)
		for name, o := range map[string]*grafeas.Occurrence{
			"signature": occurrenceOf(t, s, note, digest(1), payload),
			"envelope":  dsse(digest(1), sealed(t, s, signature.PayloadTypeSimpleSigning, payload)),
		} {
			img := listed(t, s, o)
			if len(img.Attestations) != 1 || img.Attestations[0].Cosign != cosign || img.Attestations[0].Repository != "reg.test/app" {
				t.Errorf("%s of type %q: %+v", name, typ, img)
			}
		}
	}
}

func TestJWTsCountWithinTheirBoundsAndForNoRepository(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	img := listed(t, s, jwts(digest(1), jwt(t, s, digest(1), map[string]any{"nbf": 1_790_000_000, "exp": 1_790_003_600})))
	if len(img.Attestations) != 1 || len(img.Rejected) != 0 {
		t.Fatalf("got %+v", img)
	}
	a := img.Attestations[0]
	if !a.NotBefore.Equal(time.Unix(1_790_000_000, 0)) || !a.NotAfter.Equal(time.Unix(1_790_003_600, 0)) || a.Repository != "" || a.Cosign || a.Note != note {
		t.Errorf("got %+v", a)
	}
	// A token that ended in 1970 is not one without an end.
	img = listed(t, s, jwts(digest(1), jwt(t, s, digest(1), map[string]any{"exp": 0})))
	if len(img.Attestations) == 1 && img.Attestations[0].NotAfter.IsZero() {
		t.Errorf("got %+v", img)
	}
	refused(t, listed(t, s, jwts(digest(1), jwt(t, s, digest(2), nil))), "what was signed is "+digest(2).String())
	refused(t, listed(t, s, jwts(digest(1), jwt(t, newSigner(t), digest(1), nil))), "not one of the attestor's")
	refused(t, listed(t, s, jwts(digest(1), jwt(t, s, digest(1), nil)+"x")), "")
	refused(t, listed(t, s, jwts(digest(1), "nonsense")), "cannot be read")

	good := jwt(t, s, digest(1), nil)
	many := jwts(digest(1), good, good, good)
	if img := listed(t, s, many); len(img.Attestations) != 1 {
		t.Errorf("one token three times: %+v", img)
	}
	late := jwts(digest(1), "x", "x", "x", "x", "x", "x", "x", "x", good)
	if img := listed(t, s, late); len(img.Attestations) != 0 {
		t.Errorf("the ninth token was looked at: %+v", img)
	}
}

func TestUploads(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	img := listed(t, s, uploaded(t, s, digest(1), "2026-11-30T05:00:00.5+02:00"))
	if len(img.Uploads) != 1 || !img.Uploads[0].Time.Equal(time.Date(2026, 11, 30, 3, 0, 0, 5e8, time.UTC)) || img.Uploads[0].Note != dsseNote ||
		img.Uploads[0].Fingerprint != s.PublicKey().Fingerprint() || len(img.Attestations)+len(img.Provenances) != 0 {
		t.Errorf("got %+v", img)
	}
	// Of those by one key in one place the earliest is told.
	img = listed(t, s, uploaded(t, s, digest(1), "2026-11-30T05:00:00Z"), uploaded(t, s, digest(1), "2026-11-01T05:00:00Z"), uploaded(t, s, digest(1), "2026-11-02T05:00:00Z"))
	if len(img.Uploads) != 1 || img.Uploads[0].Time.Day() != 1 {
		t.Errorf("got %+v", img)
	}
	record := func(predicate string, about ...image.Digest) *grafeas.Occurrence {
		return dsse(digest(1), sealed(t, s, signature.PayloadTypeInToto, inToto(uploadType, predicate, about...)))
	}
	for name, predicate := range map[string]string{
		"none":                   `null`,
		"without the time":       `{}`,
		"the time is null":       `{"uploadTime":null}`,
		"seconds since 1970":     `{"uploadTime":1790000000}`,
		"a day":                  `{"uploadTime":"2026-11-30"}`,
		"no time zone":           `{"uploadTime":"2026-11-30T05:00:00"}`,
		"a comma":                `{"uploadTime":"2026-11-30T05:00:00,5Z"}`,
		"the time twice":         `{"uploadTime":"2026-11-30T05:00:00Z","uploadTime":"2026-11-29T05:00:00Z"}`,
		"in other letters":       `{"UploadTime":"2026-11-30T05:00:00Z"}`,
		"with what is not known": `{"uploadTime":"2026-11-30T05:00:00Z","expires":"2026-12-01T00:00:00Z"}`,
		"a list":                 `[]`,
	} {
		t.Run(name, func(t *testing.T) { refused(t, listed(t, s, record(predicate, digest(1))), "is signed") })
	}
	t.Run("beside a build", func(t *testing.T) {
		o := uploaded(t, s, digest(1), "2026-11-30T05:00:00Z")
		refused(t, listed(t, s, buildOf(digest(1), o.GetDsseAttestation().GetEnvelope())), uploadType)
	})
}

// TestB8UnknownTypesAreNoEvidence: what a trusted key has signed counts as nothing
// but the kinds of statement that are known.
func TestB8UnknownTypesAreNoEvidence(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	payload := bytes.Replace(signature.NewPayload("reg.test/app", digest(1), signature.TypeAtomic), []byte(signature.TypeAtomic), []byte("rollout hint"), 1)
	statement := func(predicateType string) *grafeas.Occurrence {
		return dsse(digest(1), sealed(t, s, signature.PayloadTypeInToto, inToto(predicateType, `{"uploadTime":"2026-11-30T05:00:00Z"}`, digest(1))))
	}
	for name, o := range map[string]*grafeas.Occurrence{
		"payload":                         occurrenceOf(t, s, note, digest(1), payload),
		"payload in an envelope":          dsse(digest(1), sealed(t, s, signature.PayloadTypeSimpleSigning, payload)),
		"predicate":                       statement("https://spdx.dev/Document"),
		"predicate of another upload":     statement(uploadType + "/"),
		"predicate of another version":    statement("https://gatehouse.dev/upload/v2"),
		"predicate in other letters":      statement("https://gatehouse.dev/Upload/v1"),
		"predicate with a space":          statement(uploadType + " "),
		"provenance of another version":   statement("https://slsa.dev/provenance/v2"),
		"provenance of a version between": statement("https://slsa.dev/provenance/v1.1"),
		"envelope":                        dsse(digest(1), sealed(t, s, "application/octet-stream", []byte("x"))),
		"no type":                         statement(""),
	} {
		t.Run(name, func(t *testing.T) { refused(t, listed(t, s, o), "") })
	}
}

// TestB9EvidenceOfAnotherSubject: a statement counts for the digests that it names,
// under whatever it is filed, and for no other: not for the index of a manifest, nor
// for the manifests of an index.
func TestB9EvidenceOfAnotherSubject(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	provenance := func(about ...image.Digest) *grafeas.Envelope {
		return sealed(t, s, signature.PayloadTypeInToto, inToto(provenanceType, `{"runDetails":{"builder":{"id":"b"}}}`, about...))
	}
	for name, about := range map[string][]image.Digest{
		"another":                 {digest(2)},
		"several others":          {digest(2), digest(3)},
		"the index, not its part": {digest(9)},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, listed(t, s, dsse(digest(1), provenance(about...))), "none of the subjects")
			refused(t, listed(t, s, buildOf(digest(1), provenance(about...))), "none of the subjects")
		})
	}
	t.Run("none at all", func(t *testing.T) { refused(t, listed(t, s, dsse(digest(1), provenance())), "is signed") })
	t.Run("one of several", func(t *testing.T) {
		if img := listed(t, s, dsse(digest(1), provenance(digest(2), digest(1), digest(3)))); len(img.Provenances) != 1 {
			t.Errorf("got %+v", img)
		}
	})
	t.Run("filed under another", func(t *testing.T) {
		if img := listed(t, s, dsse(digest(2), provenance(digest(1)))); facts(img)+len(img.Rejected) != 0 {
			t.Errorf("got %+v", img)
		}
	})
	t.Run("in another repository", func(t *testing.T) {
		o := occurrence(t, s, note, digest(1), digest(1))
		o.ResourceUri = "https://mirror.test/x/y@" + digest(1).String()
		if img := listed(t, s, o); len(img.Attestations) != 1 || img.Attestations[0].Repository != "reg.test/app" {
			t.Errorf("it tells the repository that was signed, and not where it is filed: %+v", img)
		}
	})
	t.Run("another algorithm", func(t *testing.T) {
		body := bytes.ReplaceAll(provenance(digest(1)).GetPayload(), []byte(`"sha256"`), []byte(`"sha512"`))
		refused(t, listed(t, s, dsse(digest(1), sealed(t, s, signature.PayloadTypeInToto, body))), "none of the subjects")
	})
	t.Run("in upper case", func(t *testing.T) {
		hex := digest(1).String()[len("sha256:"):]
		body := bytes.ReplaceAll(provenance(digest(1)).GetPayload(), []byte(hex), []byte(strings.ToUpper(hex)))
		refused(t, listed(t, s, dsse(digest(1), sealed(t, s, signature.PayloadTypeInToto, body))), "is signed")
	})
	t.Run("twice", func(t *testing.T) { // two readers might read two digests
		hex := digest(1).String()[len("sha256:"):]
		body := bytes.Replace(provenance(digest(2)).GetPayload(), []byte(`{"sha256":`), []byte(`{"sha256":"`+hex+`","sha256":`), 1)
		refused(t, listed(t, s, dsse(digest(1), sealed(t, s, signature.PayloadTypeInToto, body))), "is signed")
	})
}

// TestB10OneThingIsNotTakenForAnother: bytes that were signed as one thing do not
// count as another.
func TestB10OneThingIsNotTakenForAnother(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	payload := signature.NewPayload("reg.test/app", digest(1), signature.TypeBinauthz)
	statement := inToto(uploadType, `{"uploadTime":"2026-11-30T05:00:00Z"}`, digest(1))
	retyped := func(env *grafeas.Envelope, payloadType string) *grafeas.Envelope {
		env.PayloadType = payloadType
		return env
	}
	raw, err := s.Sign(t.Context(), payload)
	if err != nil {
		t.Fatal(err)
	}
	both := []byte(strings.Replace(string(statement), `{"_type"`, `{"critical":{"identity":{"docker-reference":"reg.test/app"},"image":{"docker-manifest-digest":"`+digest(1).String()+`"},"type":"`+signature.TypeBinauthz+`"},"_type"`, 1))
	for name, tc := range map[string]struct {
		occurrence *grafeas.Occurrence
		reason     string
	}{
		"a payload as a statement":                 {dsse(digest(1), sealed(t, s, signature.PayloadTypeInToto, payload)), "unexpected message"},
		"a statement as a payload":                 {dsse(digest(1), sealed(t, s, signature.PayloadTypeSimpleSigning, statement)), "unexpected message"},
		"a statement in place of a payload":        {occurrenceOf(t, s, note, digest(1), statement), "unexpected message"},
		"what is both, as another thing":           {dsse(digest(1), sealed(t, s, "application/json", both)), "unexpected message"},
		"a payload whose type was changed":         {dsse(digest(1), retyped(sealed(t, s, "text/plain", payload), signature.PayloadTypeSimpleSigning)), "does not verify"},
		"a statement whose type was changed":       {dsse(digest(1), retyped(sealed(t, s, "text/plain", statement), signature.PayloadTypeInToto)), "does not verify"},
		"a signature outside of an envelope in it": {dsse(digest(1), &grafeas.Envelope{Payload: payload, PayloadType: signature.PayloadTypeSimpleSigning, Signatures: []*grafeas.EnvelopeSignature{{Keyid: s.KeyID(), Sig: raw}}}), "does not verify"},
		"a signature of an envelope outside of it": {func() *grafeas.Occurrence {
			o := occurrenceOf(t, s, note, digest(1), payload)
			o.GetAttestation().Signatures[0].Signature = sealed(t, s, signature.PayloadTypeSimpleSigning, payload).GetSignatures()[0].GetSig()
			return o
		}(), "does not verify"},
		"what an envelope covers as a payload": {occurrenceOf(t, s, note, digest(1), signature.PAE(signature.PayloadTypeSimpleSigning, payload)), "unexpected message"},
		"a payload beside a build":             {buildOf(digest(1), sealed(t, s, signature.PayloadTypeSimpleSigning, payload)), "is no provenance"},
		"a type in other letters":              {dsse(digest(1), sealed(t, s, strings.ToUpper(signature.PayloadTypeInToto), statement)), "unexpected message"},
		"a type with a parameter":              {dsse(digest(1), sealed(t, s, signature.PayloadTypeInToto+"; charset=utf-8", statement)), "unexpected message"},
		"a JWT in place of a payload":          {occurrenceOf(t, s, note, digest(1), []byte(jwt(t, s, digest(1), nil))), "unexpected message"},
		"a kind that its details are not of": {func() *grafeas.Occurrence {
			o := occurrenceOf(t, s, note, digest(1), payload)
			o.Kind = grafeas.NoteKind_DISCOVERY
			return o
		}(), "-"},
	} {
		t.Run(name, func(t *testing.T) {
			img := listed(t, s, tc.occurrence)
			if tc.reason == "-" {
				if facts(img)+len(img.Rejected)+len(img.Scans) != 0 {
					t.Errorf("got %+v", img)
				}
				return
			}
			refused(t, img, tc.reason)
		})
	}
	t.Run("what is both, as what it was signed as", func(t *testing.T) {
		img := listed(t, s, dsse(digest(1), sealed(t, s, signature.PayloadTypeInToto, both)))
		if len(img.Uploads) != 1 || len(img.Attestations) != 0 {
			t.Errorf("as a statement: %+v", img)
		}
		img = listed(t, s, dsse(digest(1), sealed(t, s, signature.PayloadTypeSimpleSigning, both)))
		if len(img.Uploads) != 0 || len(img.Attestations) != 1 {
			t.Errorf("as a payload: %+v", img)
		}
	})
	t.Run("what the occurrence says of itself", func(t *testing.T) {
		o := dsse(digest(1), sealed(t, s, signature.PayloadTypeInToto, inToto("https://spdx.dev/Document", `{}`, digest(1))))
		o.GetDsseAttestation().DecodedPayload = &grafeas.DSSEAttestationOccurrence_Statement{Statement: &grafeas.InTotoStatement{PredicateType: provenanceType}}
		o.Envelope = provenanceV1(t, s, digest(1), "https://github.com/org/app")
		refused(t, listed(t, s, o), "spdx")
	})
}

// TestB10AmbiguousJSON: names that are repeated, at whatever depth, and what follows
// after the end make a statement of nothing.
func TestB10AmbiguousJSON(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	good := string(inToto(provenanceType, `{"runDetails":{"builder":{"id":"b"}}}`, digest(1)))
	for name, body := range map[string]string{
		"type":       strings.Replace(good, `"predicateType"`, `"predicateType":"https://spdx.dev/Document","predicateType"`, 1),
		"predicate":  strings.Replace(good, `"predicate":`, `"predicate":{},"predicate":`, 1),
		"subject":    strings.Replace(good, `"subject"`, `"subject":[],"subject"`, 1),
		"builder":    strings.Replace(good, `"id":"b"`, `"id":"a","id":"b"`, 1),
		"not read":   strings.Replace(good, `"id":"b"`, `"id":"b","x":{"y":[{"z":1,"z":2}]}`, 1),
		"afterwards": good + good,
		"no UTF-8":   strings.Replace(good, `"b"`, "\"b\xff\"", 1),
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, listed(t, s, dsse(digest(1), sealed(t, s, signature.PayloadTypeInToto, []byte(body)))), "is signed")
		})
	}
	if img := listed(t, s, dsse(digest(1), sealed(t, s, signature.PayloadTypeInToto, []byte(good)))); len(img.Provenances) != 1 {
		t.Errorf("without any of it: %+v", img)
	}
}

// TestB13JunkPushesOutNothing files ten thousand attestations of one digest that do
// not count, before and after one that does and one that explains, by strangers and
// as copies of good ones: what is kept stays small, and what counts and what explains
// is told.
func TestB13JunkPushesOutNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	stranger := newSigner(t)
	trust := index.Trust{note: {f.signer.PublicKey()}, "projects/p": {f.signer.PublicKey()}}
	x := f.start(trust)
	const half = 5000
	good := occurrence(t, f.signer, note, digest(1), digest(1))
	junk := func(from int) {
		var batch []*grafeas.Occurrence
		for i := range half {
			var o *grafeas.Occurrence
			switch i % 4 {
			case 0: // garbage under a trusted key's name
				o = &grafeas.Occurrence{Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
					SerializedPayload: fmt.Append(nil, from, i),
					Signatures:        []*grafeas.Signature{{PublicKeyId: f.signer.KeyID(), Signature: []byte("x")}},
				}}}
			case 1: // garbage under other names
				o = &grafeas.Occurrence{Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
					SerializedPayload: fmt.Append(nil, from, i),
					Signatures:        []*grafeas.Signature{{PublicKeyId: fmt.Sprint(i), Signature: []byte("x")}},
				}}}
			case 2: // a good attestation again, and a bit of garbage
				o = occurrenceLike(good)
				o.GetAttestation().Signatures = append(o.GetAttestation().Signatures, &grafeas.Signature{PublicKeyId: fmt.Sprint(from, i), Signature: []byte("x")})
			case 3: // garbage in an envelope
				o = &grafeas.Occurrence{Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
					SerializedPayload: fmt.Append(nil, from, i), Jwts: []*grafeas.Jwt{{CompactJwt: "junk"}},
				}}}
			}
			o.ResourceUri, o.NoteName = uri(digest(1)), []string{note, other}[i/4%2]
			if batch = append(batch, o); len(batch) == 1000 {
				if _, err := f.BatchCreateOccurrences(t.Context(), caller, "projects/p", batch); err != nil {
					t.Fatal(err)
				}
				batch = nil
			}
		}
	}
	junk(0)
	f.create(occurrence(t, f.signer, other, digest(1), digest(1)))
	explains := f.create(occurrence(t, f.signer, note, digest(1), digest(2)))
	junk(half)
	f.create(occurrence(t, stranger, note, digest(1), digest(1)))

	for name, x := range map[string]*index.Index{"followed": x, "read": f.start(trust)} {
		img := collect(t, x, digest(1))
		found := false
		for _, r := range img.Rejected {
			found = found || r.Occurrence == explains.GetName()
		}
		if !found {
			t.Errorf("%s: the rejection that explains is not told: %+v", name, img.Rejected)
		}
		// One for the trusted note, one for the project.
		if len(img.Attestations) != 2 || len(img.Rejected) > 8 {
			t.Errorf("%s: %d attestations and %d rejections", name, len(img.Attestations), len(img.Rejected))
		}
	}
}

func occurrenceLike(o *grafeas.Occurrence) *grafeas.Occurrence {
	a := o.GetAttestation()
	return &grafeas.Occurrence{Details: &grafeas.Occurrence_Attestation{Attestation: &grafeas.AttestationOccurrence{
		SerializedPayload: a.GetSerializedPayload(), Signatures: append([]*grafeas.Signature{}, a.GetSignatures()...),
	}}}
}

// TestB14WhatOneOccurrenceMayCost: counts and sizes end what is looked at, and what is
// not looked at does not count.
func TestB14WhatOneOccurrenceMayCost(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	t.Run("signatures", func(t *testing.T) {
		o := occurrence(t, s, note, digest(1), digest(1))
		good := o.GetAttestation().GetSignatures()[0]
		o.GetAttestation().Signatures = nil
		for range 32 {
			o.GetAttestation().Signatures = append(o.GetAttestation().Signatures, &grafeas.Signature{PublicKeyId: "x", Signature: []byte("x")})
		}
		o.GetAttestation().Signatures = append(o.GetAttestation().Signatures, good)
		if img := listed(t, s, o); facts(img) != 0 || len(img.Rejected) != 1 {
			t.Errorf("got %+v", img)
		}
	})
	t.Run("signatures of an envelope", func(t *testing.T) {
		o := uploaded(t, s, digest(1), "2026-11-30T05:00:00Z")
		env := o.GetDsseAttestation().GetEnvelope()
		for range 16 {
			env.Signatures = append(env.Signatures, &grafeas.EnvelopeSignature{Keyid: "x", Sig: []byte("x")})
		}
		refused(t, listed(t, s, o), "cannot be read")
	})
	t.Run("keys for signatures that name none", func(t *testing.T) {
		o := uploaded(t, s, digest(1), "2026-11-30T05:00:00Z")
		env := o.GetDsseAttestation().GetEnvelope()
		env.Signatures[0].Keyid = ""
		if img := listed(t, s, o); len(img.Uploads) != 1 {
			t.Errorf("one key, one signature: %+v", img)
		}
		for range 15 {
			env.Signatures = append([]*grafeas.EnvelopeSignature{{Sig: []byte("x")}}, env.Signatures...)
		}
		var keys []*signature.PublicKey
		for range 5 {
			keys = append(keys, newSigner(t).PublicKey())
		}
		img := index.FromOccurrences(t.Context(), []*grafeas.Occurrence{o}, index.Trust{dsseNote: append(keys, s.PublicKey())}, refs(t, "reg.test/app@"+digest(1).String())).Images[digest(1)]
		if len(img.Uploads) != 0 || len(img.Rejected) != 1 {
			t.Errorf("more than 64 tries: %+v", img)
		}
	})
	t.Run("size of a statement", func(t *testing.T) {
		pad := func(n int) *grafeas.Occurrence {
			body := inToto(provenanceType, `{"runDetails":{"builder":{"id":"b"}}}`, digest(1))
			body = append(body, bytes.Repeat([]byte(" "), n-len(body))...)
			// The signer signs no more than a payload may have.
			return dsse(digest(1), &grafeas.Envelope{Payload: body, PayloadType: signature.PayloadTypeInToto, Signatures: []*grafeas.EnvelopeSignature{{Keyid: s.KeyID(), Sig: []byte("x")}}})
		}
		refused(t, listed(t, s, pad(256<<10)), "does not verify")
		refused(t, listed(t, s, pad(256<<10+1)), "are not looked at")
	})
}

// TestOneRejectionAnOccurrence: of what was wrong with its signatures, that which
// came nearest is told.
func TestOneRejectionAnOccurrence(t *testing.T) {
	t.Parallel()
	s, stranger := newSigner(t), newSigner(t)
	o := occurrence(t, stranger, note, digest(1), digest(2))
	wrong := occurrence(t, s, note, digest(1), digest(2)).GetAttestation()
	o.GetAttestation().SerializedPayload = wrong.GetSerializedPayload()
	o.GetAttestation().Signatures = append(o.GetAttestation().Signatures, wrong.GetSignatures()[0], &grafeas.Signature{PublicKeyId: s.KeyID(), Signature: []byte("x")})
	refused(t, listed(t, s, o), "what was signed is")
}

// TestManyKeysThatSayTheSame each make a fact, however many they are and in whatever
// order they come.
func TestManyKeysThatSayTheSame(t *testing.T) {
	t.Parallel()
	var keys []*signature.PublicKey
	var list []*grafeas.Occurrence
	for range 40 {
		s := newSigner(t)
		keys = append(keys, s.PublicKey())
		list = append(list, occurrence(t, s, note, digest(1), digest(1)), occurrence(t, s, note, digest(1), digest(1)))
	}
	ref := refs(t, "reg.test/app@"+digest(1).String())
	img := index.FromOccurrences(t.Context(), list, index.Trust{note: keys}, ref).Images[digest(1)]
	if len(img.Attestations) != len(keys) {
		t.Errorf("%d attestations by %d keys", len(img.Attestations), len(keys))
	}
	slices.Reverse(list)
	if d := cmp.Diff(img, index.FromOccurrences(t.Context(), list, index.Trust{note: keys}, ref).Images[digest(1)]); d != "" {
		t.Errorf("in another order (-want +got):\n%s", d)
	}
}

// TestForgedKeyIDs: the id in a signature is a hint, and whose key it is shows in
// whether it verifies.
func TestForgedKeyIDs(t *testing.T) {
	t.Parallel()
	s, stranger := newSigner(t), newSigner(t)
	env := uploaded(t, stranger, digest(1), "2026-11-30T05:00:00Z")
	env.GetDsseAttestation().GetEnvelope().Signatures[0].Keyid = s.KeyID()
	refused(t, listed(t, s, env), "does not verify")
	env.GetDsseAttestation().GetEnvelope().Signatures[0].Keyid = ""
	refused(t, listed(t, s, env), "does not verify")
	own := uploaded(t, s, digest(1), "2026-11-30T05:00:00Z")
	own.GetDsseAttestation().GetEnvelope().Signatures[0].Keyid = stranger.KeyID()
	refused(t, listed(t, s, own), "not one of the attestor's")
}

func TestFactsAreTheCallers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.createNotes()
	x := f.startAll(index.Trust{"projects/p": {f.signer.PublicKey()}}, "p")
	f.attest(digest(1))
	f.create(buildOf(digest(1), provenanceV1(t, f.signer, digest(1), "https://github.com/org/app")))
	f.create(vulnerability(digest(1), 1, grafeas.Severity_HIGH, true))
	want := collect(t, x, digest(1))
	got := collect(t, x, digest(1))
	got.Attestations[0].Repository = "changed"
	clear(got.Provenances[0].Statement)
	got.Scans[0].Findings[0].Severity = 0
	if d := cmp.Diff(want, collect(t, x, digest(1))); d != "" {
		t.Errorf("who reads facts can change them (-before +after):\n%s", d)
	}
}
