package attest

// A KMSKey is a version of a key of Google's Cloud KMS that signs for a check.
type KMSKey struct {
	Check string
	// Path is projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N.
	Path string
	// Algorithm is how what is signed is hashed: SHA256, SHA384 or SHA512. It must be
	// the key's, and may be left out.
	Algorithm string
}
