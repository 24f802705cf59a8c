package image_test

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/image"
)

func TestParseDigestKeepsText(t *testing.T) {
	t.Parallel()
	d, err := image.ParseDigest(digestA)
	if err != nil {
		t.Fatal(err)
	}
	if d.String() != digestA || d.IsZero() {
		t.Errorf("got %q (zero: %v)", d, d.IsZero())
	}
	if other, err := image.ParseDigest(digestB); err != nil || other == d {
		t.Errorf("two digests are equal, or: %v", err)
	}
}

func TestParseDigestRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                   "must begin",
		hexA:                                 "must begin",
		"sha1:" + hexA:                       "must begin",
		"Sha256:" + hexA:                     "must begin",
		"sha256:":                            "0 characters",
		"sha256:" + hexA[1:]:                 "63 characters",
		"sha256:" + hexA + "0":               "65 characters",
		"sha256:" + strings.ToUpper(hexA):    "lower-case",
		"sha256:" + hexA[1:] + "g":           "position 70",
		"sha256:" + hexA[1:] + "\n":          "lower-case",
		" " + digestA:                        "must begin",
		"sha256:" + strings.Repeat("x", 1e6): "1000000 characters",
	} {
		d, err := image.ParseDigest(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseDigest(%.40q): error %v does not say %q", text, err, want)
		}
		if !d.IsZero() {
			t.Errorf("ParseDigest(%.40q) failed and returned a digest", text)
		}
		if err != nil && len(err.Error()) > 400 {
			t.Errorf("ParseDigest(%.40q): error of %d bytes", text, len(err.Error()))
		}
	}
}

func TestZeroDigestIsNotTheDigestOfZeros(t *testing.T) {
	t.Parallel()
	var zero image.Digest
	zeros, err := image.ParseDigest("sha256:" + strings.Repeat("0", 64))
	if err != nil {
		t.Fatal(err)
	}
	if zero == zeros || zeros.IsZero() || !zero.IsZero() || zero.String() != "" || image.DigestFromSum(zero.Sum()) != zeros {
		t.Error("the zero Digest and the digest of 64 zeros are mixed up")
	}
}

func TestDigestOfItsSum(t *testing.T) {
	t.Parallel()
	d, sum := image.DigestOf([]byte("x")), sha256.Sum256([]byte("x"))
	if d.Sum() != sum || image.DigestFromSum(sum) != d {
		t.Errorf("the sum of %s is %x, and the digest of that %s", d, d.Sum(), image.DigestFromSum(d.Sum()))
	}
}

func TestDigestOfEmptyContent(t *testing.T) {
	t.Parallel()
	const want = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // FIPS 180-4, empty message
	if got := image.DigestOf(nil).String(); got != want {
		t.Errorf("DigestOf(nil) = %s, want %s", got, want)
	}
}

func TestDigestInJSON(t *testing.T) {
	t.Parallel()
	type doc struct {
		D image.Digest `json:"d,omitzero"`
	}
	for text, ok := range map[string]bool{`{"d":"` + digestA + `"}`: true, `{}`: true, `{"d":"sha256:x"}`: false} {
		var got doc
		if err := json.Unmarshal([]byte(text), &got); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		} else if out, err := json.Marshal(got); ok && (err != nil || string(out) != text) {
			t.Errorf("%s came back as %s (%v)", text, out, err)
		}
	}
	var empty doc
	if err := json.Unmarshal([]byte(`{"d":""}`), &empty); err != nil || !empty.D.IsZero() {
		t.Errorf("empty text gives %v (%v), want the zero Digest", empty.D, err)
	}
}
