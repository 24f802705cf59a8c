package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	oneDigest  = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	goodClaims = `{"sub":"container:digest:` + oneDigest + `","aud":"//binaryauthorization.googleapis.com"}`
)

// encodeURL is base64url without padding.
func encodeURL(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// jwtHeaderFor is the header that VerifyJWT wants for the pool's key.
func jwtHeaderFor(t testing.TB, alg Algorithm) string {
	t.Helper()
	d, _ := alg.details()
	return fmt.Sprintf(`{"typ":"JWT","alg":%q,"kid":%q}`, d.jws, pkixSignerFor(t, alg).KeyID())
}

// poolKey is the private key behind the pool's signer.
func poolKey(t testing.TB, alg Algorithm) crypto.Signer {
	t.Helper()
	block, _ := pem.Decode(pool.pem(t, alg))
	key, err := parsePKCS8(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(crypto.Signer)
}

// jwsSignature signs input in the form of JSON Web Signatures.
func jwsSignature(t testing.TB, key crypto.Signer, alg Algorithm, input []byte) []byte {
	t.Helper()
	d, _ := alg.details()
	message, opts := input, crypto.SignerOpts(d.hash)
	if d.hash != 0 {
		message = d.digest(input)
	}
	if d.scheme == schemePSS {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: d.hash}
	}
	if ec, ok := key.(*ecdsa.PrivateKey); ok {
		r, s, err := ecdsa.Sign(rand.Reader, ec, message)
		if err != nil {
			t.Fatal(err)
		}
		size := (ec.Curve.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	}
	sig, err := key.Sign(rand.Reader, message, opts)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// signJWT makes a token with the pool's key from a header and claims as they are.
func signJWT(t testing.TB, alg Algorithm, header, claims string) string {
	t.Helper()
	input := encodeURL([]byte(header)) + "." + encodeURL([]byte(claims))
	return input + "." + encodeURL(jwsSignature(t, poolKey(t, alg), alg, []byte(input)))
}

func goodJWT(t testing.TB, alg Algorithm) string {
	t.Helper()
	return signJWT(t, alg, jwtHeaderFor(t, alg), goodClaims)
}

func wantJWTRefused(t *testing.T, k *PublicKey, token string, want error) {
	t.Helper()
	p, err := k.VerifyJWT(token)
	if !errors.Is(err, want) || p != (Payload{}) {
		t.Errorf("VerifyJWT = %+v, %v; want %v", p, err, want)
	}
}

func TestVerifyJWTByEveryAlgorithm(t *testing.T) {
	t.Parallel()
	for _, alg := range PKIXAlgorithms() {
		t.Run(string(alg), func(t *testing.T) {
			t.Parallel()
			k, token := pkixSignerFor(t, alg).PublicKey(), goodJWT(t, alg)
			want := Payload{Digest: mustDigest(t, oneDigest), Type: TypeJWT}
			got, err := k.VerifyJWT(token)
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("VerifyJWT = %+v, want %+v", got, want)
			}
			if id, err := JWTKeyID(token); err != nil || id != k.ID() {
				t.Errorf("JWTKeyID = %q, %v; want %q", id, err, k.ID())
			}
			parts := strings.Split(token, ".")
			sig, err := decodeBase64URL(parts[2])
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range []int{0, len(sig) / 2, len(sig) - 1} {
				altered := append([]byte{}, sig...)
				altered[at] ^= 1
				wantJWTRefused(t, k, parts[0]+"."+parts[1]+"."+encodeURL(altered), ErrNotVerified)
			}
			wantJWTRefused(t, k, parts[0]+"."+parts[1]+"."+encodeURL(sig[1:]), ErrNotVerified)
			wantJWTRefused(t, k, parts[0]+"."+parts[1]+"."+encodeURL(append(sig, 0)), ErrNotVerified)
			wantJWTRefused(t, k, parts[0]+"."+parts[1]+".", ErrNotVerified)
			other := encodeURL([]byte(strings.Replace(goodClaims, "1111", "2222", 1)))
			wantJWTRefused(t, k, parts[0]+"."+other+"."+parts[2], ErrNotVerified)
		})
	}
}

// The examples of RFC 7515 §A.3 (ES256) and RFC 8037 §A.4 (EdDSA). They are no
// attestations; only the signatures are checked.
func TestJWSKnownAnswers(t *testing.T) {
	t.Parallel()
	decode := func(s string) []byte {
		t.Helper()
		b, err := decodeBase64URL(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	p256, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), join([]byte{4},
		decode("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"), decode("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0")))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		key        crypto.PublicKey
		alg        Algorithm
		input, sig string
	}{
		{
			p256, ECDSAP256SHA256,
			"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
			"DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
		},
		{
			ed25519.PublicKey(decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")), Ed25519,
			"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
			"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
		},
	} {
		k, err := newPKIXPublicKey(tt.key, tt.alg, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := k.verifyJWS([]byte(tt.input), decode(tt.sig)); err != nil {
			t.Errorf("%s: %v", tt.alg, err)
		}
		if err := k.verifyJWS([]byte(tt.input+"x"), decode(tt.sig)); err == nil {
			t.Errorf("%s: an altered input verifies", tt.alg)
		}
		if _, err := k.VerifyJWT(tt.input + "." + tt.sig); !errors.Is(err, ErrNotVerified) {
			t.Errorf("%s: the example counts as an attestation: %v", tt.alg, err)
		}
	}
}

func TestVerifyJWTReadsItsTimes(t *testing.T) {
	t.Parallel()
	k := pkixSignerFor(t, Ed25519).PublicKey()
	at := func(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }
	for claims, want := range map[string]struct{ notBefore, notAfter time.Time }{
		``:                             {},
		`,"exp":2000`:                  {time.Time{}, at(2000)},
		`,"nbf":1000`:                  {at(1000), time.Time{}},
		`,"iat":1500`:                  {at(1500), time.Time{}},
		`,"iat":1500,"nbf":1000`:       {at(1000), time.Time{}},
		`,"exp":2000,"nbf":1000`:       {at(1000), at(2000)},
		`,"exp":2000.9,"nbf":1000.1`:   {at(1001), at(2000)},
		`,"exp":2e3,"nbf":0`:           {at(0), at(2000)},
		`,"exp":253402300799`:          {time.Time{}, at(253402300799)},
		`,"iss":"x","jti":[1],"x":{}`:  {},
		`,"attestation":"e30","exp":9`: {time.Time{}, at(9)},
	} {
		p, err := k.VerifyJWT(signJWT(t, Ed25519, jwtHeaderFor(t, Ed25519), goodClaims[:len(goodClaims)-1]+claims+"}"))
		if err != nil {
			t.Errorf("%s: %v", claims, err)
			continue
		}
		if got := (struct{ notBefore, notAfter time.Time }{p.NotBefore, p.NotAfter}); got != want {
			t.Errorf("%s: %v, want %v", claims, got, want)
		}
	}
	for _, claims := range []string{
		`"exp":null`, `"nbf":null`, `"iat":null`, `"exp":"2000"`, `"exp":[2000]`, `"exp":{}`, `"exp":true`, `"nbf":"x"`, `"nbf":1,"iat":"x"`,
		`"exp":-1`, `"exp":1e300`, `"exp":253402300800`, `"nbf":-0.5`, `"iat":1e12`,
		`"exp":1000,"nbf":1000`, `"exp":1000,"nbf":1001`, `"exp":1000,"iat":2000`, `"exp":1,"exp":2000`, `"exp":NaN`, `"exp":01`,
	} {
		token := signJWT(t, Ed25519, jwtHeaderFor(t, Ed25519), goodClaims[:len(goodClaims)-1]+","+claims+"}")
		if p, err := k.VerifyJWT(token); !errors.Is(err, ErrMalformed) || p != (Payload{}) {
			t.Errorf("%s: %+v, %v; want ErrMalformed", claims, p, err)
		}
	}
}

func TestVerifyJWTRefusesOtherClaims(t *testing.T) {
	t.Parallel()
	k := pkixSignerFor(t, Ed25519).PublicKey()
	const sub, aud = `"sub":"container:digest:` + oneDigest + `"`, `"aud":"//binaryauthorization.googleapis.com"`
	verify := func(claims string) error {
		_, err := k.VerifyJWT(signJWT(t, Ed25519, jwtHeaderFor(t, Ed25519), claims))
		return err
	}
	for _, good := range []string{
		`{` + sub + `,` + aud + `}`,
		"{\n " + aud + ",\n " + sub + "\n}\n",
		`{` + sub + `,"aud":["https://other.example.com","//binaryauthorization.googleapis.com"]}`,
	} {
		if err := verify(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for claims, want := range map[string]error{
		`{` + aud + `}`:                         ErrMalformed,
		`{` + sub + `}`:                         ErrMalformed,
		`{}`:                                    ErrMalformed,
		``:                                      ErrMalformed,
		`null`:                                  ErrMalformed,
		`[{` + sub + `,` + aud + `}]`:           ErrMalformed,
		`{` + sub + `,` + aud + `}{}`:           ErrMalformed,
		`{` + sub + `,` + aud + `,}`:            ErrMalformed,
		`{` + sub + `,` + sub + `,` + aud + `}`: ErrMalformed,
		`{` + sub + `,` + aud + `,"aud":"x"}`:   ErrMalformed,
		`{` + sub + `,` + aud + `,"x":{"a":1,"a":2}}`:                                   ErrMalformed,
		`{` + sub + `,` + aud + `,"x":"` + "\xff" + `"}`:                                ErrMalformed,
		`{"Sub":"x",` + aud + `}`:                                                       ErrMalformed,
		`{"sub":null,` + aud + `}`:                                                      ErrMalformed,
		`{"sub":["container:digest:` + oneDigest + `"],` + aud + `}`:                    ErrMalformed,
		`{"sub":"",` + aud + `}`:                                                        ErrWrongType,
		`{"sub":"` + oneDigest + `",` + aud + `}`:                                       ErrWrongType,
		`{"sub":"Container:digest:` + oneDigest + `",` + aud + `}`:                      ErrWrongType,
		`{"sub":"user:alice",` + aud + `}`:                                              ErrWrongType,
		`{"sub":"container:digest:sha256:` + strings.Repeat("A", 64) + `",` + aud + `}`: ErrMalformed,
		`{"sub":"container:digest:sha512:` + strings.Repeat("1", 64) + `",` + aud + `}`: ErrMalformed,
		`{"sub":"container:digest:` + oneDigest + `1",` + aud + `}`:                     ErrMalformed,
		`{"sub":"container:digest:` + oneDigest + ` ",` + aud + `}`:                     ErrMalformed,
		`{` + sub + `,"aud":"//binaryauthorization.googleapis.com/"}`:                   ErrWrongType,
		`{` + sub + `,"aud":"https://binaryauthorization.googleapis.com"}`:              ErrWrongType,
		`{` + sub + `,"aud":"//BinaryAuthorization.googleapis.com"}`:                    ErrWrongType,
		`{` + sub + `,"aud":""}`:                                                        ErrWrongType,
		`{` + sub + `,"aud":[]}`:                                                        ErrWrongType,
		`{` + sub + `,"aud":["x"]}`:                                                     ErrWrongType,
		`{` + sub + `,"aud":null}`:                                                      ErrMalformed,
		`{` + sub + `,"aud":["//binaryauthorization.googleapis.com",null]}`:             ErrMalformed,
		`{` + sub + `,"aud":["//binaryauthorization.googleapis.com",["x"]]}`:            ErrMalformed,
		`{` + sub + `,"aud":[["//binaryauthorization.googleapis.com"]]}`:                ErrMalformed,
		`{` + sub + `,"aud":{"a":"//binaryauthorization.googleapis.com"}}`:              ErrMalformed,
	} {
		err := verify(claims)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", claims, err, want)
		}
		// It was signed: that is another fault than a forged signature.
		if errors.Is(err, ErrNotVerified) {
			t.Errorf("%s: %v says that the signature is bad", claims, err)
		}
	}
}

func TestVerifyJWTRefusesOtherHeaders(t *testing.T) {
	t.Parallel()
	k := pkixSignerFor(t, ECDSAP256SHA256).PublicKey()
	good := jwtHeaderFor(t, ECDSAP256SHA256)
	for _, typ := range []string{"jwt", "Jwt"} {
		if _, err := k.VerifyJWT(signJWT(t, ECDSAP256SHA256, strings.Replace(good, `"JWT"`, `"`+typ+`"`, 1), goodClaims)); err != nil {
			t.Errorf("typ %q: %v", typ, err)
		}
	}
	with := func(member string) string { return good[:len(good)-1] + "," + member + "}" }
	replaced := func(old, with string) string { return strings.Replace(good, old, with, 1) }
	for name, tt := range map[string]struct {
		header string
		want   error
	}{
		"empty":               {"", ErrMalformed},
		"empty object":        {"{}", ErrWrongType},
		"null":                {"null", ErrWrongType},
		"list":                {"[]", ErrMalformed},
		"two":                 {good + good, ErrMalformed},
		"no typ":              {replaced(`"typ":"JWT",`, ``), ErrWrongType},
		"typ null":            {replaced(`"JWT"`, `null`), ErrWrongType},
		"typ of another kind": {replaced(`"JWT"`, `"at+jwt"`), ErrWrongType},
		"typ JOSE":            {replaced(`"JWT"`, `"JOSE"`), ErrWrongType},
		"typ a number":        {replaced(`"JWT"`, `1`), ErrMalformed},
		"no alg":              {replaced(`"alg":"ES256",`, ``), ErrUnsupported},
		"alg in lower case":   {replaced(`"ES256"`, `"es256"`), ErrUnsupported},
		"alg ES256K":          {replaced(`"ES256"`, `"ES256K"`), ErrUnsupported},
		"alg a list":          {replaced(`"ES256"`, `["ES256"]`), ErrMalformed},
		"no kid":              {`{"typ":"JWT","alg":"ES256"}`, ErrMalformed},
		"kid null":            {`{"typ":"JWT","alg":"ES256","kid":null}`, ErrMalformed},
		"kid empty":           {`{"typ":"JWT","alg":"ES256","kid":""}`, ErrMalformed},
		"kid of another key":  {`{"typ":"JWT","alg":"ES256","kid":"other"}`, ErrWrongKey},
		"kid too long":        {`{"typ":"JWT","alg":"ES256","kid":"` + strings.Repeat("k", maxKeyID+1) + `"}`, ErrMalformed},
		"typ twice":           {with(`"typ":"JWT"`), ErrMalformed},
		"alg twice":           {with(`"alg":"none"`), ErrMalformed},
		"kid twice":           {with(`"kid":"other"`), ErrMalformed},
		"alg twice, escaped":  {with(`"al\u0067":"none"`), ErrMalformed},
		"crit":                {with(`"crit":["exp"]`), ErrUnsupported},
		"crit, empty":         {with(`"crit":[]`), ErrUnsupported},
		"jwk":                 {with(`"jwk":{"kty":"EC"}`), ErrUnsupported},
		"jku":                 {with(`"jku":"https://evil.example.com/keys"`), ErrUnsupported},
		"x5u":                 {with(`"x5u":"https://evil.example.com/cert"`), ErrUnsupported},
		"x5c":                 {with(`"x5c":["MII"]`), ErrUnsupported},
		"x5t":                 {with(`"x5t":"AA"`), ErrUnsupported},
		"b64":                 {with(`"b64":false`), ErrUnsupported},
		"zip":                 {with(`"zip":"DEF"`), ErrUnsupported},
		"enc":                 {with(`"enc":"A128GCM"`), ErrUnsupported},
		"Alg":                 {with(`"Alg":"none"`), ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token := signJWT(t, ECDSAP256SHA256, tt.header, goodClaims)
			wantJWTRefused(t, k, token, tt.want)
			wantJWTRefused(t, k, token, ErrNotVerified)
		})
	}
}

func TestVerifyJWTRefusesAlgNone(t *testing.T) {
	t.Parallel()
	for _, alg := range []Algorithm{ECDSAP256SHA256, RSAPKCS12048SHA256, Ed25519, MLDSA65} {
		k := pkixSignerFor(t, alg).PublicKey()
		for _, none := range []string{"none", "None", "NONE", "nOnE", ""} {
			header := fmt.Sprintf(`{"typ":"JWT","alg":%q,"kid":%q}`, none, k.ID())
			input := encodeURL([]byte(header)) + "." + encodeURL([]byte(goodClaims))
			wantJWTRefused(t, k, input+".", ErrUnsupported)
			wantJWTRefused(t, k, input+".AA", ErrUnsupported)
			wantJWTRefused(t, k, input, ErrMalformed)
			wantJWTRefused(t, k, signJWT(t, alg, header, goodClaims), ErrUnsupported)
		}
	}
}

// The public half of a key is no secret: a token authenticated with it as one
// proves nothing.
func TestVerifyJWTRefusesAPublicKeyAsAnHMACSecret(t *testing.T) {
	t.Parallel()
	for _, alg := range []Algorithm{RSAPKCS12048SHA256, ECDSAP256SHA256} {
		k := pkixSignerFor(t, alg).PublicKey()
		block, _ := pem.Decode([]byte(k.Marshal()))
		for _, secret := range [][]byte{[]byte(k.Marshal()), block.Bytes} {
			for _, word := range []string{"HS256", "HS384", "HS512", "RS256"} {
				header := fmt.Sprintf(`{"typ":"JWT","alg":%q,"kid":%q}`, word, k.ID())
				input := encodeURL([]byte(header)) + "." + encodeURL([]byte(goodClaims))
				mac := hmac.New(sha256.New, secret)
				mac.Write([]byte(input))
				wantJWTRefused(t, k, input+"."+encodeURL(mac.Sum(nil)), ErrNotVerified)
			}
		}
	}
}

func TestVerifyJWTRefusesAnotherAlgorithmThanTheKeys(t *testing.T) {
	t.Parallel()
	algorithms := []Algorithm{RSAPSS2048SHA256, RSAPKCS12048SHA256, ECDSAP256SHA256, ECDSAP384SHA384, ECDSAP521SHA512, Ed25519, MLDSA65}
	for _, of := range algorithms {
		k := pkixSignerFor(t, of).PublicKey()
		for _, by := range algorithms {
			if of == by {
				continue
			}
			// An honest token by the other algorithm that claims to be by k.
			d, _ := by.details()
			header := fmt.Sprintf(`{"typ":"JWT","alg":%q,"kid":%q}`, d.jws, k.ID())
			wantJWTRefused(t, k, signJWT(t, by, header, goodClaims), ErrUnsuitable)
			// And one that claims k's algorithm as well.
			wantJWTRefused(t, k, signJWT(t, by, jwtHeaderFor(t, of), goodClaims), ErrNotVerified)
		}
	}
}

func TestVerifyJWTForgedKeyID(t *testing.T) {
	t.Parallel()
	k := pkixSignerFor(t, ECDSAP256SHA256).PublicKey()
	thief, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	input := encodeURL([]byte(jwtHeaderFor(t, ECDSAP256SHA256))) + "." + encodeURL([]byte(goodClaims))
	forged := input + "." + encodeURL(jwsSignature(t, thief, ECDSAP256SHA256, []byte(input)))
	wantJWTRefused(t, k, forged, ErrNotVerified)
	if id, err := JWTKeyID(forged); err != nil || id != k.ID() {
		t.Errorf("JWTKeyID = %q, %v: a hint says what the token says", id, err)
	}
}

// ECDSA signatures in JWTs are two numbers of fixed length, not DER.
func TestVerifyJWTRefusesOtherSignatureForms(t *testing.T) {
	t.Parallel()
	k := pkixSignerFor(t, ECDSAP256SHA256).PublicKey()
	input := encodeURL([]byte(jwtHeaderFor(t, ECDSAP256SHA256))) + "." + encodeURL([]byte(goodClaims))
	der := mustSign(t, pkixSignerFor(t, ECDSAP256SHA256), []byte(input))
	wantJWTRefused(t, k, input+"."+encodeURL(der), ErrNotVerified)
	raw := jwsSignature(t, poolKey(t, ECDSAP256SHA256), ECDSAP256SHA256, []byte(input))
	wantNotVerified(t, k, []byte(input), raw)
	padded := join([]byte{0}, raw[:32], []byte{0}, raw[32:])
	wantJWTRefused(t, k, input+"."+encodeURL(padded), ErrNotVerified)
	wantJWTRefused(t, k, input+"."+encodeURL(make([]byte, 64)), ErrNotVerified)

	// The salt of PSS is as long as the digest.
	k = pkixSignerFor(t, RSAPSS2048SHA256).PublicKey()
	input = encodeURL([]byte(jwtHeaderFor(t, RSAPSS2048SHA256))) + "." + encodeURL([]byte(goodClaims))
	d, _ := RSAPSS2048SHA256.details()
	salted, err := rsa.SignPSS(rand.Reader, poolKey(t, RSAPSS2048SHA256).(*rsa.PrivateKey), crypto.SHA256, d.digest([]byte(input)), &rsa.PSSOptions{SaltLength: 8})
	if err != nil {
		t.Fatal(err)
	}
	wantJWTRefused(t, k, input+"."+encodeURL(salted), ErrNotVerified)
}

func TestVerifyJWTRefusesOtherEncodings(t *testing.T) {
	t.Parallel()
	k, token := pkixSignerFor(t, Ed25519).PublicKey(), goodJWT(t, Ed25519)
	parts := strings.Split(token, ".")
	// An Ed25519 signature has 64 bytes, so four bits of its last character are spare.
	last := token[len(token)-1]
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	spare := token[:len(token)-1] + string(alphabet[strings.IndexByte(alphabet, last)|1])
	for name, token := range map[string]string{
		"empty":               "",
		"dots":                "..",
		"one part":            parts[0],
		"two parts":           parts[0] + "." + parts[1],
		"four parts":          token + ".AAAA",
		"encrypted, five":     token + ".AAAA.AAAA",
		"padding":             token + "==",
		"spare bits":          spare,
		"line end after":      token + "\n",
		"line end inside":     token[:40] + "\n" + token[40:],
		"CR inside":           token[:40] + "\r" + token[40:],
		"space":               token + " ",
		"standard base64":     parts[0] + "." + parts[1] + "." + strings.Repeat("+/", 43),
		"JSON serialisation":  `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"longer than allowed": parts[0] + "." + strings.Repeat("A", MaxJWT) + "." + parts[2],
	} {
		wantJWTRefused(t, k, token, ErrMalformed)
		if _, err := JWTKeyID(token); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: JWTKeyID: %v, want ErrMalformed", name, err)
		}
	}
}

func TestOnlyPKIXKeysVerifyJWTs(t *testing.T) {
	t.Parallel()
	pgp := pgpSignerFor(t).PublicKey()
	header := fmt.Sprintf(`{"typ":"JWT","alg":"EdDSA","kid":%q}`, pgp.ID())
	wantJWTRefused(t, pgp, signJWT(t, Ed25519, header, goodClaims), ErrUnsupported)
	wantJWTRefused(t, new(PublicKey), goodJWT(t, Ed25519), ErrNotVerified)
	wantJWTRefused(t, nil, goodJWT(t, Ed25519), ErrNotVerified)
}

func TestMemoRemembersJWTs(t *testing.T) {
	t.Parallel()
	s := pkixSignerFor(t, RSAPSS2048SHA256)
	k, token, memo := s.PublicKey(), goodJWT(t, RSAPSS2048SHA256), NewMemo(10)
	want, err := k.VerifyJWT(token)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got, err := memo.VerifyJWT(k, token)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b Payload) bool { return a == b })); diff != "" {
			t.Errorf("through the memo (-want +got):\n%s", diff)
		}
	}
	if memo.Len() != 1 {
		t.Errorf("the memo holds %d verdicts, want 1", memo.Len())
	}
	// The same key under another id: what is remembered of its signature does not
	// make the token name it.
	renamed, err := ParsePKIXPublicKey(k.Marshal(), RSAPSS2048SHA256, "renamed")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := memo.VerifyJWT(renamed, token); !errors.Is(err, ErrWrongKey) {
		t.Errorf("under another id: %v, want ErrWrongKey", err)
	}
	bad := token[:len(token)-8] + "AAAAAAAA"
	for range 2 {
		if _, err := memo.VerifyJWT(k, bad); !errors.Is(err, ErrNotVerified) {
			t.Errorf("%v, want ErrNotVerified", err)
		}
	}
	var none *Memo
	if _, err := none.VerifyJWT(k, token); err != nil {
		t.Errorf("without a memo: %v", err)
	}
	if _, err := memo.VerifyJWT(nil, token); !errors.Is(err, ErrNotVerified) {
		t.Errorf("without a key: %v", err)
	}
}

// A signature that is good for Verify may not be good in a token, and the memo
// must not mix them up.
func TestMemoKeepsFormsApart(t *testing.T) {
	t.Parallel()
	k, memo := pkixSignerFor(t, RSAPSS2048SHA256).PublicKey(), NewMemo(10)
	input := encodeURL([]byte(jwtHeaderFor(t, RSAPSS2048SHA256))) + "." + encodeURL([]byte(goodClaims))
	d, _ := RSAPSS2048SHA256.details()
	block, _ := pem.Decode(pool.pem(t, RSAPSS2048SHA256))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := rsa.SignPSS(rand.Reader, key.(*rsa.PrivateKey), crypto.SHA256, d.digest([]byte(input)), &rsa.PSSOptions{SaltLength: 8})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := memo.Verify(k, []byte(input), sig); err != nil {
		t.Fatal(err)
	}
	if _, err := memo.VerifyJWT(k, input+"."+encodeURL(sig)); !errors.Is(err, ErrNotVerified) {
		t.Errorf("a salt of another length in a token: %v, want ErrNotVerified", err)
	}
}
