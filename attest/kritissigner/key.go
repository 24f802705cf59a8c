package kritissigner

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/gatehouse-dev/gatehouse/internal/bounded"
	"github.com/gatehouse-dev/gatehouse/policy/document"
	"github.com/gatehouse-dev/gatehouse/policy/kritis"
	"github.com/gatehouse-dev/gatehouse/signature"
	"github.com/gatehouse-dev/gatehouse/signature/signer"
)

const maxSecret = 64 << 10

// ErrNoKey means that a KeyConfig names no key.
var ErrNoKey = errors.New("no key is given")

// A KeyConfig says which key signs. Of several the first counts, as in Kritis: that of
// Cloud KMS, then the OpenPGP key, then the PKIX key.
type KeyConfig struct {
	// KMSKeyName is a version of a key of Google's Cloud KMS, and KMSDigestAlg what it
	// signs: SHA256, SHA384, SHA512, or "" for what the key prescribes.
	KMSKeyName, KMSDigestAlg string
	KMS                      signer.GoogleOptions
	// PGPPrivateKey is a file with one armoured key, and PGPPassphrase, or the first
	// line of PGPPassphraseFile, what unlocks it.
	PGPPrivateKey, PGPPassphrase, PGPPassphraseFile string
	// PKIXPrivateKey is a PEM file, and PKIXAlg an algorithm as
	// [signature.ParseAlgorithm] reads it, or "" for the usual one of the key.
	PKIXPrivateKey, PKIXAlg string
}

// Open returns the signer, and what to call when it is not needed any more. It is
// [ErrNoKey] if no key is given.
func (k KeyConfig) Open(ctx context.Context) (s signature.Signer, done func() error, err error) {
	done = func() error { return nil }
	switch {
	case k.KMSKeyName != "":
		return k.openKMS(ctx)
	case k.PGPPrivateKey != "":
		if s, err = k.openPGP(); err != nil {
			err = fmt.Errorf("file %q: %w", k.PGPPrivateKey, err)
		}
	case k.PKIXPrivateKey != "":
		if s, err = k.openPKIX(); err != nil {
			err = fmt.Errorf("file %q: %w", k.PKIXPrivateKey, err)
		}
	default:
		err = ErrNoKey
	}
	if err != nil {
		return nil, nil, err
	}
	return s, done, nil
}

func (k KeyConfig) openKMS(ctx context.Context) (signature.Signer, func() error, error) {
	if _, err := signer.ParseGoogleName(k.KMSKeyName); err != nil {
		return nil, nil, err
	}
	conn, err := signer.DialGoogle(ctx, k.KMS)
	if err != nil {
		return nil, nil, err
	}
	s, err := conn.Signer(ctx, k.KMSKeyName, k.KMSDigestAlg)
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return s, conn.Close, nil
}

func (k KeyConfig) openPGP() (signature.Signer, error) {
	text, err := bounded.ReadFile(k.PGPPrivateKey, signature.MaxKey)
	if err != nil {
		return nil, err
	}
	passphrase := []byte(k.PGPPassphrase)
	if k.PGPPassphraseFile != "" {
		if len(passphrase) > 0 {
			return nil, errors.New("give its passphrase, or the file with it, and not both")
		}
		if passphrase, err = bounded.ReadFile(k.PGPPassphraseFile, maxSecret); err != nil {
			return nil, fmt.Errorf("reading its passphrase: %w", err)
		}
		passphrase = bytes.TrimRight(passphrase, "\r\n")
	}
	signers, err := signature.ParsePGPSigners(text, passphrase)
	if err != nil {
		return nil, err
	}
	if len(signers) != 1 {
		return nil, fmt.Errorf("there are %d keys in it: which one signs? give a file with one", len(signers))
	}
	return signers[0], nil
}

func (k KeyConfig) openPKIX() (signature.Signer, error) {
	text, err := bounded.ReadFile(k.PKIXPrivateKey, signature.MaxKey)
	if err != nil {
		return nil, err
	}
	var alg signature.Algorithm
	if k.PKIXAlg != "" {
		if alg, err = signature.ParseAlgorithm(k.PKIXAlg); err != nil {
			return nil, err
		}
	}
	return signature.ParsePKIXSigner(text, alg, "")
}

// LoadPolicy reads a file with one VulnzSigningPolicy, and what there is to warn of.
// A field that is not known, or a severity that is none, is an error: Kritis had the
// default in its place, and nobody knew.
func LoadPolicy(file string) (*kritis.VulnzSigningPolicy, document.Diagnostics, error) {
	data, err := bounded.ReadFile(file, kritis.MaxText)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the policy: %w", err)
	}
	return ParsePolicy(file, data)
}

// ParsePolicy is [LoadPolicy] for what is in the file.
func ParsePolicy(file string, data []byte) (*kritis.VulnzSigningPolicy, document.Diagnostics, error) {
	objects, found := kritis.Parse(file, data)
	if objects == nil {
		return nil, nil, fmt.Errorf("reading the policy: %w", found.Err())
	}
	if n := len(objects.VulnzSigningPolicies); n != 1 {
		return nil, nil, fmt.Errorf("reading the policy: %s holds %d objects of kind VulnzSigningPolicy, want one", file, n)
	}
	return &objects.VulnzSigningPolicies[0], found, nil
}
