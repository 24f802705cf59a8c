package googletoken_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/attest/voucherclient/googletoken"
)

// jwt is a token that nobody verifies here.
func jwt(claims map[string]any) string {
	claims["exp"] = time.Now().Add(time.Hour).Unix()
	body, _ := json.Marshal(claims)
	enc := base64.RawURLEncoding
	return enc.EncodeToString([]byte(`{"alg":"none"}`)) + "." + enc.EncodeToString(body) + "." + enc.EncodeToString([]byte("x"))
}

// A service account whose token endpoint is on this machine.
func TestTokensAreThoseOfTheDefaultCredentials(t *testing.T) {
	var asked []string
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assertion := strings.Split(r.FormValue("assertion"), ".")
		if len(assertion) != 3 {
			http.Error(w, "no assertion", http.StatusBadRequest)
			return
		}
		claims, _ := base64.RawURLEncoding.DecodeString(assertion[1])
		asked = append(asked, string(claims))
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"id_token": jwt(map[string]any{"aud": "x"}), "access_token": "access", "token_type": "Bearer", "expires_in": 3600})
	}))
	t.Cleanup(tokens.Close)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	account, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "ci@p.iam.gserviceaccount.com", "private_key_id": "1", "token_uri": tokens.URL,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(file, account, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)

	var got string
	attestor := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get("Authorization") }))
	t.Cleanup(attestor.Close)
	for about, make := range map[string]func(context.Context, string) (*http.Client, error){"idtoken": googletoken.IDToken, "default-access-token": googletoken.FromAccessToken} {
		got, asked = "", nil
		client, err := make(t.Context(), attestor.URL)
		if err != nil {
			t.Errorf("%s: %v", about, err)
			continue
		}
		resp, err := client.Get(attestor.URL)
		if err != nil {
			t.Errorf("%s: %v", about, err)
			continue
		}
		_ = resp.Body.Close()
		if len(strings.Split(strings.TrimPrefix(got, "Bearer "), ".")) != 3 {
			t.Errorf("%s: the attestor is shown %q", about, got)
		}
		if about == "idtoken" && !strings.Contains(strings.Join(asked, ""), `"target_audience":"`+attestor.URL+`"`) {
			t.Errorf("%s: asked for %v", about, asked)
		}
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file+"x")
	if _, err := googletoken.IDToken(t.Context(), attestor.URL); err == nil {
		t.Error("without credentials: no error")
	}
}
