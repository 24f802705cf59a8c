package signature

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/image"
)

const goodStatement = `{"_type":"https://in-toto.io/Statement/v1",` +
	`"subject":[{"name":"registry.example.com/shop/cart","digest":{"sha256":"1111111111111111111111111111111111111111111111111111111111111111"}}],` +
	`"predicateType":"https://slsa.dev/provenance/v1","predicate":{"a":1}}`

func encodeStd(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// envelopeBy signs body as a payloadType with each signer.
func envelopeBy(t testing.TB, payloadType string, body []byte, signers ...Signer) []byte {
	t.Helper()
	var sigs []string
	for _, s := range signers {
		sigs = append(sigs, fmt.Sprintf(`{"keyid":%q,"sig":%q}`, s.KeyID(), encodeStd(mustSign(t, s, PAE(payloadType, body)))))
	}
	return envelopeOf(payloadType, body, strings.Join(sigs, ","))
}

// envelopeOf writes an envelope around what may be its signatures.
func envelopeOf(payloadType string, body []byte, signatures string) []byte {
	return fmt.Appendf(nil, `{"payloadType":%q,"payload":%q,"signatures":[%s]}`, payloadType, encodeStd(body), signatures)
}

func mustEnvelope(t testing.TB, text []byte) *Envelope {
	t.Helper()
	e, err := ParseEnvelope(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func mustMessage(t testing.TB, payloadType, body string) Message {
	t.Helper()
	s := pkixSignerFor(t, Ed25519)
	m, err := s.PublicKey().VerifyEnvelope(mustEnvelope(t, envelopeBy(t, payloadType, []byte(body), s)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func wantEnvelopeRefused(t *testing.T, k *PublicKey, text []byte, want error) {
	t.Helper()
	m, err := k.VerifyEnvelope(mustEnvelope(t, text))
	if !errors.Is(err, want) || !errors.Is(err, ErrNotVerified) || m.PayloadType() != "" || m.Body() != nil {
		t.Errorf("VerifyEnvelope = %+v, %v; want nothing, %v and ErrNotVerified", m, err, want)
	}
}

// The example of DSSE's protocol, and the edges of its lengths.
func TestPAE(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ typ, body, want string }{
		{"http://example.com/HelloWorld", "hello world", "DSSEv1 29 http://example.com/HelloWorld 11 hello world"},
		{"", "", "DSSEv1 0  0 "},
		{"é", "\x00", "DSSEv1 2 é 1 \x00"},
	} {
		if got := string(PAE(tt.typ, []byte(tt.body))); got != tt.want {
			t.Errorf("PAE(%q, %q) = %q, want %q", tt.typ, tt.body, got, tt.want)
		}
	}
	// What moves between type and body changes the encoding.
	if string(PAE("a", []byte("b 1 c"))) == string(PAE("a 5 b", []byte("c"))) {
		t.Error("two messages have one encoding")
	}
}

func TestVerifyEnvelopeByEveryAlgorithm(t *testing.T) {
	t.Parallel()
	for _, alg := range PKIXAlgorithms() {
		t.Run(string(alg), func(t *testing.T) {
			t.Parallel()
			s := pkixSignerFor(t, alg)
			e := mustEnvelope(t, envelopeBy(t, PayloadTypeInToto, []byte(goodStatement), s))
			m, err := s.PublicKey().VerifyEnvelope(e)
			if err != nil {
				t.Fatal(err)
			}
			if string(m.Body()) != goodStatement || m.PayloadType() != PayloadTypeInToto {
				t.Errorf("%q of type %q", m.Body(), m.PayloadType())
			}
		})
	}
}

func TestVerifyEnvelopeForms(t *testing.T) {
	t.Parallel()
	s := pkixSignerFor(t, ECDSAP256SHA256)
	body := []byte(goodStatement + "\n\xfb\xff") // has both - and _ in base64url
	sig := mustSign(t, s, PAE("t", body))
	url := base64.URLEncoding.EncodeToString
	other := fmt.Sprintf(`{"keyid":%q,"sig":"AAAA"}`, "other")
	ours := fmt.Sprintf(`{"keyid":%q,"sig":%q}`, s.KeyID(), encodeStd(sig))
	for name, text := range map[string]string{
		"no key id":        string(envelopeOf("t", body, fmt.Sprintf(`{"sig":%q}`, encodeStd(sig)))),
		"empty key id":     string(envelopeOf("t", body, fmt.Sprintf(`{"keyid":"","sig":%q}`, encodeStd(sig)))),
		"base64url":        fmt.Sprintf(`{"payloadType":"t","payload":%q,"signatures":[{"sig":%q}]}`, url(body), url(sig)),
		"members unknown":  fmt.Sprintf(`{"x":[1],"signatures":[{"cert":"x","sig":%q}],"payload":%q,"payloadType":"t"}`, encodeStd(sig), encodeStd(body)),
		"after another's":  string(envelopeOf("t", body, other+","+ours)),
		"before another's": string(envelopeOf("t", body, ours+","+other)),
		"after a bad one":  string(envelopeOf("t", body, fmt.Sprintf(`{"keyid":%q,"sig":"AAAA"},`, s.KeyID())+ours)),
	} {
		m, err := s.PublicKey().VerifyEnvelope(mustEnvelope(t, []byte(text)))
		if err != nil || string(m.Body()) != string(body) {
			t.Errorf("%s: %q, %v", name, m.Body(), err)
		}
	}
}

func TestVerifyEnvelopeRefuses(t *testing.T) {
	t.Parallel()
	s, other := pkixSignerFor(t, ECDSAP256SHA256), pkixSignerFor(t, ECDSAP384SHA384)
	k, body := s.PublicKey(), []byte(goodStatement)
	sig := func(s Signer, over []byte) string { return encodeStd(mustSign(t, s, over)) }
	by := func(id, sig string) string { return fmt.Sprintf(`{"keyid":%q,"sig":%q}`, id, sig) }
	pae := PAE(PayloadTypeInToto, body)
	for name, tt := range map[string]struct {
		text []byte
		want error
	}{
		"forged key id":              {envelopeOf(PayloadTypeInToto, body, by(k.ID(), sig(other, pae))), errAltered},
		"another key":                {envelopeBy(t, PayloadTypeInToto, body, other), ErrWrongKey},
		"ours under another id":      {envelopeOf(PayloadTypeInToto, body, by("other", sig(s, pae))), ErrWrongKey},
		"another key without id":     {envelopeOf(PayloadTypeInToto, body, by("", sig(other, pae))), errAltered},
		"another body":               {envelopeOf(PayloadTypeInToto, []byte(strings.Replace(goodStatement, "1111", "2222", 1)), by(k.ID(), sig(s, pae))), errAltered},
		"another type":               {envelopeOf(PayloadTypeSimpleSigning, body, by(k.ID(), sig(s, pae))), errAltered},
		"body signed without a type": {envelopeOf(PayloadTypeInToto, body, by(k.ID(), sig(s, body))), errAltered},
		"body is the encoding":       {envelopeOf(PayloadTypeInToto, pae, by(k.ID(), sig(s, pae))), errAltered},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantEnvelopeRefused(t, k, tt.text, tt.want)
		})
	}
	good := mustEnvelope(t, envelopeBy(t, PayloadTypeInToto, body, s))
	for name, tt := range map[string]struct {
		key  *PublicKey
		e    *Envelope
		want error
	}{
		"no envelope":   {k, nil, ErrMalformed},
		"zero envelope": {k, new(Envelope), ErrMalformed},
		"no key":        {nil, good, errNoKey},
		"zero key":      {new(PublicKey), good, errNoKey},
		"OpenPGP key":   {pgpSignerFor(t).PublicKey(), good, ErrUnsupported},
	} {
		if m, err := tt.key.VerifyEnvelope(tt.e); !errors.Is(err, tt.want) || !errors.Is(err, ErrNotVerified) || m.Body() != nil {
			t.Errorf("%s: %+v, %v; want %v", name, m, err, tt.want)
		}
	}
}

func TestParseEnvelopeRefuses(t *testing.T) {
	t.Parallel()
	const good = `{"payloadType":"t","payload":"AAAA","signatures":[{"keyid":"k","sig":"AAAA"}]}`
	mustEnvelope(t, []byte(good))
	change := func(old, with string) string {
		t.Helper()
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the envelope", old)
		}
		return strings.Replace(good, old, with, 1)
	}
	many := strings.Repeat(`{"sig":"AAAA"},`, maxEnvelopeSignatures)
	mustEnvelope(t, []byte(change(`{"keyid":"k","sig":"AAAA"}`, many[:len(many)-1])))
	for name, text := range map[string]string{
		"empty":                    "",
		"null":                     "null",
		"list":                     "[" + good + "]",
		"two":                      good + good,
		"text after":               good + "x",
		"no payloadType":           change(`"payloadType":"t",`, ``),
		"payloadType null":         change(`"t"`, `null`),
		"payloadType a number":     change(`"t"`, `1`),
		"payloadType too long":     change(`"t"`, `"`+strings.Repeat("t", maxPayloadType+1)+`"`),
		"payloadType twice":        change(`"payload":`, `"payloadType":"t","payload":`),
		"PayloadType":              change(`payloadType`, `PayloadType`),
		"no payload":               change(`"payload":"AAAA",`, ``),
		"payload empty":            change(`"payload":"AAAA"`, `"payload":""`),
		"payload twice":            change(`"payload":`, `"payload":"AAAA","payload":`),
		"payload twice, escaped":   change(`"payload":`, `"paylo\u0061d":"AAAA","payload":`),
		"payload an object":        change(`"payload":"AAAA"`, `"payload":{}`),
		"payload no base64":        change(`"payload":"AAAA"`, `"payload":"A"`),
		"payload unpadded":         change(`"payload":"AAAA"`, `"payload":"AA"`),
		"payload with line ends":   change(`"payload":"AAAA"`, `"payload":"AA\nAA"`),
		"payload, spare bits":      change(`"payload":"AAAA"`, `"payload":"AB=="`),
		"payload, two alphabets":   change(`"payload":"AAAA"`, `"payload":"+-AA"`),
		"no signatures":            change(`,"signatures":[{"keyid":"k","sig":"AAAA"}]`, ``),
		"signatures empty":         change(`{"keyid":"k","sig":"AAAA"}`, ``),
		"signatures null":          change(`[{"keyid":"k","sig":"AAAA"}]`, `null`),
		"signatures an object":     change(`[{"keyid":"k","sig":"AAAA"}]`, `{"keyid":"k","sig":"AAAA"}`),
		"signatures twice":         change(`"signatures"`, `"signatures":[],"signatures"`),
		"signature null":           change(`{"keyid":"k","sig":"AAAA"}`, `null`),
		"signature a string":       change(`{"keyid":"k","sig":"AAAA"}`, `"AAAA"`),
		"sig missing":              change(`,"sig":"AAAA"`, ``),
		"sig empty":                change(`"sig":"AAAA"`, `"sig":""`),
		"sig twice":                change(`"sig":"AAAA"`, `"sig":"AAAA","sig":"BBBB"`),
		"sig too long":             change(`"sig":"AAAA"`, `"sig":"`+strings.Repeat("AAAA", maxEnvelopeSignature/3+1)+`"`),
		"keyid a number":           change(`"k"`, `1`),
		"keyid too long":           change(`"k"`, `"`+strings.Repeat("k", maxKeyID+1)+`"`),
		"keyid twice":              change(`"keyid":"k"`, `"keyid":"k","keyid":"l"`),
		"invalid UTF-8":            change(`"k"`, "\"\xff\""),
		"a signature too many":     change(`{"keyid":"k","sig":"AAAA"}`, many+`{"sig":"AAAA"}`),
		"deep":                     change(`{"keyid"`, `{"x":`+strings.Repeat("[", 20000)+strings.Repeat("]", 20000)+`,"keyid"`),
		"larger than any envelope": good + strings.Repeat(" ", MaxEnvelope),
		"larger than a statement":  change(`"payload":"AAAA"`, `"payload":"`+strings.Repeat("AAAA", MaxStatement/3+1)+`"`),
	} {
		if e, err := ParseEnvelope([]byte(text)); !errors.Is(err, ErrMalformed) || e != nil {
			t.Errorf("%s: %+v, %v; want ErrMalformed", name, e, err)
		}
	}
}

func TestReadStatement(t *testing.T) {
	t.Parallel()
	one := mustDigest(t, oneDigest)
	for name, tt := range map[string]struct {
		body string
		want Statement
	}{
		"version 1": {goodStatement, Statement{
			Type: StatementV1, Subjects: []Subject{{"registry.example.com/shop/cart", one}},
			PredicateType: "https://slsa.dev/provenance/v1", Predicate: []byte(`{"a":1}`),
		}},
		"version 0.1": {strings.Replace(goodStatement, "/v1", "/v0.1", 1), Statement{
			Type: StatementV01, Subjects: []Subject{{"registry.example.com/shop/cart", one}},
			PredicateType: "https://slsa.dev/provenance/v1", Predicate: []byte(`{"a":1}`),
		}},
		"several subjects, no predicate": {
			`{"predicateType":"p","x":1,"subject":[{"digest":{"gitCommit":"abc"},"uri":"x"},{"name":"b","digest":{"sha512":"00","sha256":"` + oneDigest[7:] + `"}}],"_type":"https://in-toto.io/Statement/v1"}`,
			Statement{Type: StatementV1, Subjects: []Subject{{}, {"b", one}}, PredicateType: "p"},
		},
	} {
		got, err := mustMessage(t, PayloadTypeInToto, tt.body).Statement()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b image.Digest) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if !got.About(one) || got.About(mustDigest(t, zeroDigest)) || got.About(image.Digest{}) {
			t.Errorf("%s: it is about the wrong images", name)
		}
	}
	if (Statement{}).About(one) || (Statement{Subjects: []Subject{{}}}).About(image.Digest{}) {
		t.Error("a statement about nothing is about an image")
	}
}

func TestReadStatementRefuses(t *testing.T) {
	t.Parallel()
	change := func(old, with string) string {
		t.Helper()
		if !strings.Contains(goodStatement, old) {
			t.Fatalf("%q is not in the statement", old)
		}
		return strings.Replace(goodStatement, old, with, 1)
	}
	const subject = `{"name":"registry.example.com/shop/cart","digest":{"sha256":"1111111111111111111111111111111111111111111111111111111111111111"}}`
	const sum = `"1111111111111111111111111111111111111111111111111111111111111111"`
	for name, tt := range map[string]struct {
		body string
		want error
	}{
		"null":                        {"null", ErrWrongType},
		"list":                        {"[" + goodStatement + "]", ErrMalformed},
		"two":                         {goodStatement + goodStatement, ErrMalformed},
		"simple signing":              {string(testPayload()), ErrWrongType},
		"no _type":                    {change(`"_type":"https://in-toto.io/Statement/v1",`, ``), ErrWrongType},
		"_type null":                  {change(`"https://in-toto.io/Statement/v1"`, `null`), ErrWrongType},
		"_type of version 2":          {change(`Statement/v1`, `Statement/v2`), ErrWrongType},
		"_type in other case":         {change(`Statement/v1`, `statement/v1`), ErrWrongType},
		"_type of a link":             {change(`https://in-toto.io/Statement/v1`, `link`), ErrWrongType},
		"_type twice":                 {change(`"_type"`, `"_type":"x","_type"`), ErrMalformed},
		"no subject":                  {change(`"subject":[`+subject+`],`, ``), ErrMalformed},
		"subjects empty":              {change(subject, ``), ErrMalformed},
		"subjects null":               {change(`[`+subject+`]`, `null`), ErrMalformed},
		"subjects an object":          {change(`[`+subject+`]`, subject), ErrMalformed},
		"subject null":                {change(subject, `null`), ErrMalformed},
		"subject twice":               {change(`"subject"`, `"subject":[],"subject"`), ErrMalformed},
		"subjects too many":           {change(subject, strings.Repeat(subject+",", maxSubjects)+subject), ErrMalformed},
		"no digest":                   {change(`,"digest":{"sha256":`+sum+`}`, ``), ErrMalformed},
		"digest null":                 {change(`{"sha256":`+sum+`}`, `null`), ErrMalformed},
		"digest a string":             {change(`{"sha256":`+sum+`}`, sum), ErrMalformed},
		"digest twice":                {change(`"digest"`, `"digest":{},"digest"`), ErrMalformed},
		"sha256 twice":                {change(`"sha256"`, `"sha256":`+sum+`,"sha256"`), ErrMalformed},
		"sha256 null":                 {change(sum, `null`), ErrMalformed},
		"sha256 a list":               {change(sum, `[`+sum+`]`), ErrMalformed},
		"sha256 in upper case":        {change(sum, `"`+strings.Repeat("A", 64)+`"`), ErrMalformed},
		"sha256 with a prefix":        {change(sum, `"`+oneDigest+`"`), ErrMalformed},
		"sha256 short":                {change(sum, `"11"`), ErrMalformed},
		"name a number":               {change(`"registry.example.com/shop/cart"`, `1`), ErrMalformed},
		"name too long":               {change(`registry.example.com/shop/cart`, strings.Repeat("n", maxName+1)), ErrMalformed},
		"no predicateType":            {change(`"predicateType":"https://slsa.dev/provenance/v1",`, ``), ErrMalformed},
		"predicateType null":          {change(`"https://slsa.dev/provenance/v1"`, `null`), ErrMalformed},
		"predicateType twice":         {change(`"predicateType"`, `"predicateType":"x","predicateType"`), ErrMalformed},
		"predicateType too long":      {change(`https://slsa.dev/provenance/v1`, strings.Repeat("p", maxName+1)), ErrMalformed},
		"predicate null":              {change(`{"a":1}`, `null`), ErrMalformed},
		"predicate a list":            {change(`{"a":1}`, `[]`), ErrMalformed},
		"predicate twice":             {change(`"predicate":`, `"predicate":{},"predicate":`), ErrMalformed},
		"names repeated in predicate": {change(`{"a":1}`, `{"b":[{"a":1,"a":2}]}`), ErrMalformed},
		"deep predicate":              {change(`{"a":1}`, `{"a":`+strings.Repeat("[", 20000)+strings.Repeat("]", 20000)+`}`), ErrMalformed},
		"invalid UTF-8":               {change(`{"a":1}`, "{\"a\":\"\xff\"}"), ErrMalformed},
	} {
		s, err := readStatement([]byte(tt.body))
		if !errors.Is(err, tt.want) || s.PredicateType != "" {
			t.Errorf("%s: %+v, %v; want %v", name, s, err, tt.want)
		}
	}
}

// A body is read only as what it was signed as.
func TestPayloadTypeConfusionIsRefused(t *testing.T) {
	t.Parallel()
	payload := string(testPayload())
	for _, typ := range []string{
		"application/vnd.in-toto+JSON", "application/vnd.in-toto+json ", "application/vnd.in-toto.provenance+dsse",
		"application/json", "text/plain", PayloadTypeSimpleSigning,
	} {
		if s, err := mustMessage(t, typ, goodStatement).Statement(); !errors.Is(err, ErrWrongType) || s.PredicateType != "" {
			t.Errorf("a statement signed as %q: %+v, %v; want ErrWrongType", typ, s, err)
		}
	}
	for _, typ := range []string{PayloadTypeInToto, "application/json", "application/vnd.dev.cosign.simplesigning.v2+json"} {
		if p, err := mustMessage(t, typ, payload).Payload(); !errors.Is(err, ErrWrongType) || p != (Payload{}) {
			t.Errorf("a payload signed as %q: %+v, %v; want ErrWrongType", typ, p, err)
		}
	}
	if _, err := mustMessage(t, PayloadTypeSimpleSigning, goodStatement).Payload(); err == nil {
		t.Error("a statement is read as a payload")
	}
	if _, err := mustMessage(t, PayloadTypeInToto, payload).Statement(); !errors.Is(err, ErrWrongType) {
		t.Errorf("a payload is read as a statement: %v", err)
	}
	if _, err := (Message{}).Payload(); !errors.Is(err, ErrWrongType) {
		t.Errorf("the zero message is a payload: %v", err)
	}
	if _, err := (Message{}).Statement(); !errors.Is(err, ErrWrongType) {
		t.Errorf("the zero message is a statement: %v", err)
	}
}

func TestSimpleSigningInAnEnvelope(t *testing.T) {
	t.Parallel()
	d := mustDigest(t, oneDigest)
	p, err := mustMessage(t, PayloadTypeSimpleSigning, string(NewPayload("r.example.com/a", d, TypeCosign))).Payload()
	if want := (Payload{Repository: "r.example.com/a", Digest: d, Type: TypeCosign}); err != nil || p != want {
		t.Errorf("%+v, %v; want %+v", p, err, want)
	}

	// As gcloud signs with --pae-encode-payload: over the encoding, without an envelope.
	s := pkixSignerFor(t, ECDSAP256SHA256)
	pae := PAE(PayloadTypeSimpleSigning, testPayload())
	sig := mustSign(t, s, pae)
	if _, err := s.PublicKey().Verify(pae, sig); err != nil {
		t.Error(err)
	}
	wantNotVerified(t, s.PublicKey(), testPayload(), sig)
}
