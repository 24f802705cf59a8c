package signature

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
)

// The types of ASCII armour (RFC 9580 §6.2).
const (
	armorPublicKey  = "PGP PUBLIC KEY BLOCK"
	armorPrivateKey = "PGP PRIVATE KEY BLOCK"
	armorMessage    = "PGP MESSAGE"
	armorSignature  = "PGP SIGNATURE"
	armorCleartext  = "PGP SIGNED MESSAGE"
)

const armorBegin = "-----BEGIN "

// unarmor returns the OpenPGP packets in input, and the type of their armour or
// "". The forms in use: ASCII armour; base64 of armour, which Kritis 0.2.1 and
// its AttestationAuthority use; armour that lost its first and last lines, which
// Binary Authorization takes; and plain binary packets.
//
// A checksum line is skipped, as RFC 9580 wants: the signature is the check.
func unarmor(input []byte) (packets []byte, kind string, err error) {
	text := bytes.TrimSpace(input)
	switch {
	case len(text) == 0:
		return nil, "", fmt.Errorf("%w: it is empty", ErrMalformed)
	case input[0]&0x80 != 0: // every packet begins so, and no text does
		return input, "", nil
	case bytes.HasPrefix(text, []byte(armorBegin)):
		return unarmorBlock(text)
	}
	packets, err = decodeArmorLines(splitLines(text))
	if err != nil {
		return nil, "", fmt.Errorf("%w; ASCII armour begins with -----BEGIN PGP", err)
	}
	if inner := bytes.TrimSpace(packets); bytes.HasPrefix(inner, []byte(armorBegin)) {
		return unarmorBlock(inner)
	}
	return packets, "", nil
}

// unarmorBlock decodes one armoured block that stands alone.
func unarmorBlock(text []byte) (packets []byte, kind string, err error) {
	lines := splitLines(text)
	kind, ok := strings.CutSuffix(strings.TrimPrefix(lines[0], armorBegin), "-----")
	if !ok {
		return nil, "", fmt.Errorf("%w: first line %q of the armour", ErrMalformed, clip(lines[0]))
	}
	if kind == armorCleartext {
		return nil, kind, fmt.Errorf("%w: clear-signed messages do not cover the exact bytes; use gpg --armor --sign", ErrUnsupported)
	}
	end := "-----END " + kind + "-----"
	for i, line := range lines[1:] {
		if line != end {
			if strings.HasPrefix(line, "-----") {
				break
			}
			continue
		}
		if rest := lines[i+2:]; len(rest) > 0 {
			return nil, kind, fmt.Errorf("%w: text after %q; give one block", ErrMalformed, clip(end))
		}
		packets, err = decodeArmorLines(lines[1 : i+1])
		return packets, kind, err
	}
	return nil, kind, fmt.Errorf("%w: the armour has no line %q", ErrMalformed, clip(end))
}

// splitLines returns the lines of text without their ends and the white space
// around them, which indentation in YAML adds.
func splitLines(text []byte) []string {
	var lines []string
	for line := range strings.Lines(string(text)) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

// decodeArmorLines decodes the lines between BEGIN and END: headers, base64 and
// perhaps a checksum. The empty line after the headers is not insisted on, since
// no base64 has a colon.
func decodeArmorLines(lines []string) ([]byte, error) {
	var body strings.Builder
	for i, line := range lines {
		isHeader := body.Len() == 0 && strings.Contains(line, ":")
		isChecksum := i == len(lines)-1 && len(line) == 5 && line[0] == '='
		if !isHeader && !isChecksum {
			body.WriteString(line)
		}
	}
	packets, err := base64.StdEncoding.DecodeString(body.String())
	if err != nil {
		return nil, fmt.Errorf("%w: neither ASCII armour nor base64: %w", ErrMalformed, err)
	}
	if len(packets) == 0 {
		return nil, fmt.Errorf("%w: there is nothing in it", ErrMalformed)
	}
	return packets, nil
}

// enarmor returns packets in ASCII armour without a line end after the last
// line. It has a checksum, which old readers look for.
func enarmor(kind string, packets []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := armor.EncodeWithChecksumOption(&b, kind, nil, true)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(packets); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}
