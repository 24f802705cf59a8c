package signature

import (
	"context"
	"crypto"
	"crypto/rsa"
	"fmt"
)

// A RemoteSign signs with a key that is somewhere else, until ctx ends. message is
// the digest by opts.HashFunc, or the whole payload when that is 0. Its error must
// not tell secrets: it is shown to whoever asked for the signature.
type RemoteSign func(ctx context.Context, message []byte, opts crypto.SignerOpts) ([]byte, error)

// NewRemoteSigner returns a Signer over a private key that is reached by sign and
// whose public half is key. alg must fit the key; id is as in [ParsePKIXPublicKey].
// What sign returns is verified before anybody sees it. sign must be safe for
// concurrent use.
func NewRemoteSigner(key crypto.PublicKey, alg Algorithm, id string, sign RemoteSign) (Signer, error) {
	if sign == nil {
		return nil, fmt.Errorf("making a signer %q: %w: there is nothing to sign with", clip(id), ErrUnsuitable)
	}
	public, err := newPKIXPublicKey(key, alg, id)
	if err != nil {
		return nil, fmt.Errorf("making a signer %q: %w", clip(id), err)
	}
	d, _ := alg.details()
	return &remoteSigner{public: public, details: d, remote: sign}, nil
}

type remoteSigner struct {
	public  *PublicKey
	details details
	remote  RemoteSign
}

func (s *remoteSigner) KeyID() string         { return s.public.id }
func (s *remoteSigner) PublicKey() *PublicKey { return s.public }

func (s *remoteSigner) Sign(ctx context.Context, payload []byte) ([]byte, error) {
	err := checkSignable(ctx, payload)
	var sig []byte
	if err == nil {
		sig, err = s.remote(ctx, s.details.message(payload), s.details.options())
	}
	if err == nil {
		sig, err = checked(s.public, payload, sig)
	}
	if err != nil {
		return nil, fmt.Errorf("signing with key %q: %w", s.public.id, err)
	}
	return sig, nil
}

// message returns what is signed in payload's place: its digest, or itself.
func (d details) message(payload []byte) []byte {
	if d.hash == 0 {
		return payload
	}
	return d.digest(payload)
}

// options are those of [crypto.Signer].
func (d details) options() crypto.SignerOpts {
	if d.scheme == schemePSS {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: d.hash}
	}
	return d.hash
}
