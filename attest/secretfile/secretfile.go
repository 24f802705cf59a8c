// Package secretfile decrypts the files that Voucher's secrets are kept in: ejson, and
// sops in JSON.
//
//	text, err := secretfile.DecryptEJSON("secrets.production.ejson", "/opt/ejson/keys")
//	text, err := secretfile.DecryptSOPS(ctx, "secrets.enc.json", os.Getenv)
//
// What is returned is JSON. Errors never quote what is in a file.
//
// A sops file is decrypted here when it was encrypted to an age key of this user. The
// library of sops would bring the client libraries of three clouds with it, twice the
// size of all else; files under their keys, or PGP's, are given to the sops command,
// which must be installed then.
package secretfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/Shopify/ejson"

	"github.com/gatehouse-dev/gatehouse/internal/bounded"
)

// maxFile bounds a file of secrets, in bytes.
const maxFile = 4 << 20

// DecryptEJSON decrypts an ejson file with the private key in the folder, which is in a
// file called by the public key that the ejson file names.
func DecryptEJSON(file, keyDir string) ([]byte, error) {
	data, err := bounded.ReadFile(file, maxFile)
	if err != nil {
		return nil, fmt.Errorf("decrypting secrets: %w", err)
	}
	var text bytes.Buffer
	if err := ejson.Decrypt(bytes.NewReader(data), &text, keyDir, ""); err != nil {
		return nil, fmt.Errorf("decrypting secrets: %q, with the keys in %q: %w", file, keyDir, careful(err))
	}
	return text.Bytes(), nil
}

// careful returns what of an error of ejson quotes no content: the rest may show a part
// of a key.
func careful(err error) error {
	if path := (*fs.PathError)(nil); errors.As(err, &path) || strings.Contains(err.Error(), "no such file") {
		return errors.New("there is no key for it; the folder needs a file called like its _public_key")
	}
	return errors.New("it is not ejson, or does not decrypt with the key that is there")
}
