package objects_test

import (
	"encoding/json"
	"testing"

	"github.com/gatehouse-dev/gatehouse/policy/hints"
)

// hintSigner is a signer of projects/p/notes/hints with a key.
func hintSigner(t *testing.T, pem string) []hints.Signer {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"hintSigners": []any{map[string]any{
		"name": "projects/p/hintSigners/release", "noteReference": "projects/p/notes/hints",
		"publicKeys": []any{map[string]any{"pkixPublicKey": map[string]any{"publicKeyPem": pem, "signatureAlgorithm": "ECDSA_P256_SHA256"}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	list, found := hints.Parse("signers", raw)
	if list == nil {
		t.Fatal(found)
	}
	return list
}
