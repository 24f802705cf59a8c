// Package signer signs with keys that never come to this machine: whoever holds
// them is sent the digest of a payload, and answers a signature.
//
//	kms, err := signer.DialGoogle(ctx, signer.GoogleOptions{})
//	defer kms.Close()
//	s, err := kms.Signer(ctx, "projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/1", "")
//	sig, err := s.Sign(ctx, payload)
//
// A Signer of this package is a [signature.Signer] like those of keys in files, and
// what it returns has been verified with the key's public half. A key service that
// does not answer is an error within [GoogleOptions.Timeout], or the deadline of the
// caller if that is sooner, and the error names the service and the key.
package signer
