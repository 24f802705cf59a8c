package signature

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-dev/gatehouse/image"
)

const zeroDigest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

func mustDigest(t testing.TB, s string) image.Digest {
	t.Helper()
	d, err := image.ParseDigest(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestNewPayloadIsByteForByteThatOfKritisAndVoucher(t *testing.T) {
	t.Parallel()
	d := mustDigest(t, zeroDigest)
	for _, tt := range []struct{ repository, typ, want string }{
		{
			"gcr.io/image/digest", TypeAtomic,
			`{"critical":{"identity":{"docker-reference":"gcr.io/image/digest"},"image":{"docker-manifest-digest":"` + zeroDigest + `"},"type":"atomic container signature"}}`,
		},
		{
			"gcr.io/test/image/we/are/testing", TypeBinauthz,
			`{"critical":{"identity":{"docker-reference":"gcr.io/test/image/we/are/testing"},"image":{"docker-manifest-digest":"` + zeroDigest + `"},"type":"Google cloud binauthz container signature"}}`,
		},
		{
			"a<b>&c", "t",
			`{"critical":{"identity":{"docker-reference":"a\u003cb\u003e\u0026c"},"image":{"docker-manifest-digest":"` + zeroDigest + `"},"type":"t"}}`,
		},
	} {
		if diff := cmp.Diff(tt.want, string(NewPayload(tt.repository, d, tt.typ))); diff != "" {
			t.Errorf("NewPayload(%q) (-want +got):\n%s", tt.repository, diff)
		}
	}
}

func TestParsePayloadReadsWhatOthersWrite(t *testing.T) {
	t.Parallel()
	d := mustDigest(t, zeroDigest)
	want := Payload{Repository: "gcr.io/p/i", Digest: d, Type: TypeBinauthz}
	for name, text := range map[string]string{
		"ours":   string(NewPayload("gcr.io/p/i", d, TypeBinauthz)),
		"gcloud": "{\n  \"critical\": {\n    \"identity\": {\n      \"docker-reference\": \"gcr.io/p/i\"\n    },\n    \"image\": {\n      \"docker-manifest-digest\": \"" + zeroDigest + "\"\n    },\n    \"type\": \"" + TypeBinauthz + "\"\n  }\n}\n",
		"type first, extras": `{"optional":{"timestamp":1234,"creator":"x","deep":{"a":[1,null,{"b":true}]}},"critical":{"type":"` + TypeBinauthz +
			`","extra":[],"image":{"docker-manifest-digest":"` + zeroDigest + `","more":1},"identity":{"docker-reference":"gcr.io/p/i"}},"new":null}`,
		"optional null": `{"critical":{"identity":{"docker-reference":"gcr.io/p/i"},"image":{"docker-manifest-digest":"` + zeroDigest + `"},"type":"` + TypeBinauthz + `"},"optional":null}`,
	} {
		got, err := ParsePayload([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

func TestParsePayloadKnowsItsTypesInAnyASCIICase(t *testing.T) {
	t.Parallel()
	for _, want := range []string{TypeBinauthz, TypeAtomic, TypeCosign} {
		for _, typ := range []string{want, strings.ToUpper(want), strings.ToLower(want)} {
			p, err := ParsePayload(NewPayload("r", mustDigest(t, zeroDigest), typ))
			if err != nil || p.Type != want {
				t.Errorf("type %q: %+v, %v; want type %q", typ, p, err, want)
			}
		}
	}
	// The spelling on Google's pages about continuous validation.
	p, err := ParsePayload(NewPayload("r", mustDigest(t, zeroDigest), "Google Cloud BinAuthz container signature"))
	if err != nil || p.Type != TypeBinauthz {
		t.Errorf("%+v, %v", p, err)
	}
}

// A key that also signs other things must not admit images by them.
func TestParsePayloadRefusesOtherTypes(t *testing.T) {
	t.Parallel()
	for name, typ := range map[string]string{
		"empty":             "",
		"other word":        "signed release notes",
		"JWT":               TypeJWT,
		"space before":      " " + TypeAtomic,
		"space after":       TypeAtomic + " ",
		"NUL after":         TypeAtomic + "\x00",
		"prefix":            TypeCosign[:len(TypeCosign)-1],
		"longer":            TypeCosign + "s",
		"two words at once": TypeAtomic + "," + TypeCosign,
		// Both fold to ASCII letters in Unicode, and so to a known word.
		"long s":        strings.Replace(TypeCosign, "s", "\u017f", 1),
		"no-break":      strings.Replace(TypeAtomic, " ", "\u00a0", 1),
		"Cyrillic o":    strings.Replace(TypeAtomic, "o", "\u043e", 1),
		"5,000 letters": strings.Repeat("a", 5000),
	} {
		p, err := ParsePayload(NewPayload("r", mustDigest(t, zeroDigest), typ))
		if !errors.Is(err, ErrWrongType) || p != (Payload{}) {
			t.Errorf("%s: %+v, %v; want ErrWrongType", name, p, err)
		}
		if err != nil && len(err.Error()) > 500 {
			t.Errorf("%s: the error of %d bytes repeats its input", name, len(err.Error()))
		}
	}
	for name, text := range map[string]string{
		"missing":           `{"critical":{"image":{"docker-manifest-digest":"` + zeroDigest + `"}}}`,
		"null":              `{"critical":{"image":{"docker-manifest-digest":"` + zeroDigest + `"},"type":null}}`,
		"other key's case":  `{"critical":{"image":{"docker-manifest-digest":"` + zeroDigest + `"},"Type":"` + TypeAtomic + `"}}`,
		"outside critical":  `{"critical":{"image":{"docker-manifest-digest":"` + zeroDigest + `"}},"type":"` + TypeAtomic + `"}`,
		"in-toto statement": `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"00"}}],"critical":{"image":{"docker-manifest-digest":"` + zeroDigest + `"}}}`,
	} {
		if p, err := ParsePayload([]byte(text)); !errors.Is(err, ErrWrongType) {
			t.Errorf("%s: %+v, %v; want ErrWrongType", name, p, err)
		}
	}
}

func TestASCIIFoldingIsNotUnicodeFolding(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"JWT", "jwt", true}, {"aZ09-", "Az09-", true}, {"", "", true},
		{"k", "\u212a", false}, {"s", "\u017f", false}, {"[", "{", false}, {"@", "`", false}, {"a", "ab", false},
	} {
		if got := equalFoldASCII(tt.a, tt.b); got != tt.want {
			t.Errorf("equalFoldASCII(%q, %q) = %v", tt.a, tt.b, got)
		}
	}
}

func TestParsePayloadRefuses(t *testing.T) {
	t.Parallel()
	critical := func(digest string) string {
		return `{"critical":{"identity":{"docker-reference":"r"},"image":{"docker-manifest-digest":` + digest + `},"type":"` + TypeAtomic + `"}}`
	}
	good := critical(`"` + zeroDigest + `"`)
	if _, err := ParsePayload([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty":                      "",
		"no JSON":                    "hello",
		"null":                       "null",
		"list":                       "[" + good + "]",
		"no digest":                  `{"critical":{}}`,
		"empty object":               `{}`,
		"null digest":                critical("null"),
		"number digest":              critical("7"),
		"upper-case digest":          critical(`"sha256:` + strings.Repeat("A", 64) + `"`),
		"short digest":               critical(`"sha256:123"`),
		"sha512 digest":              critical(`"sha512:` + strings.Repeat("0", 64) + `"`),
		"bare digest":                critical(`"` + strings.Repeat("0", 64) + `"`),
		"upper-case key":             strings.Replace(good, `"critical"`, `"Critical"`, 1),
		"upper-case inner key":       strings.Replace(good, "docker-manifest-digest", "Docker-Manifest-Digest", 1),
		"repeated critical":          good[:len(good)-1] + `,"critical":{}}`,
		"repeated digest":            critical(`"` + zeroDigest + `","docker-manifest-digest":"` + zeroDigest + `"`),
		"repeated key, escaped":      critical(`"` + zeroDigest + `","docker-manifest-diges\u0074":"` + zeroDigest + `"`),
		"repeated key in optional":   good[:len(good)-1] + `,"optional":{"a":1,"a":2}}`,
		"two values":                 good + good,
		"text after":                 good + "x",
		"byte order mark":            "\ufeff" + good,
		"invalid UTF-8":              strings.Replace(good, `"r"`, "\"\xff\"", 1),
		"deep optional":              good[:len(good)-1] + `,"optional":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`,
		"longer than any signature":  good + strings.Repeat(" ", MaxPayload),
		"critical is a list":         `{"critical":[]}`,
		"cut short":                  good[:len(good)-2],
		"trailing comma":             strings.Replace(good, `signature"}`, `signature",}`, 1),
		"two types":                  strings.Replace(good, `"type"`, `"type":"x","type"`, 1),
		"type is a list":             strings.Replace(good, `"type":`, `"type":[`, 1)[:len(good)-1] + `]}}`,
		"type is a number":           strings.Replace(good, `"`+TypeAtomic+`"`, `1`, 1),
		"digest in mixed case":       critical(`"sha256:` + strings.Repeat("0", 63) + `A"`),
		"digest with a space":        critical(`"` + zeroDigest + ` "`),
		"digest with a fullwidth 0":  critical(`"sha256:` + strings.Repeat("0", 61) + `\uff10"`),
		"NUL after":                  good + "\x00",
		"lone surrogate":             strings.Replace(good, `"r"`, `"\ud800"`, 1),
		"docker-reference is a list": strings.Replace(good, `"r"`, `["r"]`, 1),
	} {
		if p, err := ParsePayload([]byte(text)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v; want ErrMalformed", name, p, err)
		}
	}
}
