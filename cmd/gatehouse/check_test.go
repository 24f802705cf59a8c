package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestACheckThatTheAttestorDoesNotHave: a denial suggests 'gatehouse check' for every
// attestor, and not all of them are Gatehouse's.
func TestACheckThatTheAttestorDoesNotHave(t *testing.T) {
	t.Parallel()
	attestor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `check or group "ci" is not active`, http.StatusNotFound)
	}))
	t.Cleanup(attestor.Close)
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"check", "--server", attestor.URL, "--check", "ci", "reg.test/web@sha256:" + strings.Repeat("a", 64)}, nil, &stdout, &stderr)
	if code != exitUnknown || !strings.Contains(stderr.String(), `"ci" is not active; what this attestor does not check is attested by whoever has the key`) {
		t.Errorf("exit status %d: %s", code, &stderr)
	}
}
