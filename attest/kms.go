package attest

import (
	"context"
	"errors"
	"fmt"

	"github.com/gatehouse-dev/gatehouse/signature"
	"github.com/gatehouse-dev/gatehouse/signature/signer"
)

// A KMSKey is a version of a key of Google's Cloud KMS that signs for a check.
type KMSKey struct {
	Check string
	// Path is projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N.
	Path string
	// Algorithm is how what is signed is hashed: SHA256, SHA384 or SHA512. It must be
	// the key's, and may be left out.
	Algorithm string
}

// Validate returns what is wrong with the key, without asking Cloud KMS.
func (k KMSKey) Validate() error {
	_, pathErr := signer.ParseGoogleName(k.Path)
	_, hashErr := signer.ParseDigest(k.Algorithm)
	return errors.Join(pathErr, hashErr)
}

// OpenKMS adds a signer for each key, in place of what signs for its check by now.
// The signers need the connection that is returned: close it when they have done.
// A key that cannot be opened is an error, and there is no connection then.
func (o *Options) OpenKMS(ctx context.Context, google signer.GoogleOptions, keys ...KMSKey) (*signer.Google, error) {
	for _, k := range keys {
		if err := k.Validate(); err != nil {
			return nil, fmt.Errorf("the signing key of check %q: %w", k.Check, err)
		}
	}
	conn, err := signer.DialGoogle(ctx, google)
	if err != nil {
		return nil, err
	}
	opened := map[string]signature.Signer{}
	for _, k := range keys {
		if opened[k.Check] != nil {
			err = errors.New("there is another for the check already")
		} else {
			opened[k.Check], err = conn.Signer(ctx, k.Path, k.Algorithm)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("the signing key of check %q: %w", k.Check, err), conn.Close())
		}
	}
	if o.Signers == nil {
		o.Signers = map[string]signature.Signer{}
	}
	for check, s := range opened {
		o.Signers[check] = s
	}
	return conn, nil
}
