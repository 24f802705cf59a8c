package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/gatetest/postgres"
	"github.com/gatehouse-dev/gatehouse/gatetest/review"
)

// Two servers on one database: what the attestor of one has signed, the gate of
// the other lets in, and both survive a restart.
func TestTwoServersShareADatabase(t *testing.T) {
	t.Parallel()
	connection := write(t, filepath.Join(t.TempDir(), "connection"), postgres.Database(t)+"\n")
	shared := func(cfg *Config) {
		cfg.Store.Postgres.ConnectionFile = connection
		cfg.Admission.PolicyFiles = []string{write(t, filepath.Join(t.TempDir(), "policy.yaml"), enforced)}
	}
	firstConfig := testConfig(t, shared)
	first := start(t, firstConfig)
	// The other trusts the key of the first one's attestor.
	second := start(t, testConfig(t, func(cfg *Config) {
		shared(cfg)
		cfg.Admission.AttestorsFiles = []string{attestorsPath(firstConfig.Data)}
	}))
	ref := push(t, "65532")
	pod := review.Pod("shop", "web").Image("app", ref.String()).Review()
	if allowed, _ := second.ask(pod); allowed {
		t.Fatal("an image without attestations was let in")
	}
	first.check(ref, "nobody", true)
	// It learns of the other's writes soon, and not at once.
	for deadline := time.Now().Add(30 * time.Second); ; {
		allowed, message := second.ask(pod)
		if allowed {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the other server's gate goes on refusing the image: %s", message)
		}
	}
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	again := start(t, firstConfig)
	if allowed, message := again.ask(pod); !allowed {
		t.Errorf("after a restart: %s", message)
	}
	if _, err := os.Stat(filepath.Join(firstConfig.Data, "metadata.db")); err == nil {
		t.Error("there is a SQLite store beside the database")
	}
}

func TestStoresThatAreRefused(t *testing.T) {
	t.Parallel()
	const secret = "made-for-tests"
	for _, test := range []struct{ name, text, want string }{
		{"an empty file", "\n", "is empty"},
		{"no connection string", "postgres://gate:" + secret + "@%zz/", "connection string cannot be read"},
		{"nobody listens", "postgres://gate:" + secret + "@127.0.0.1:1/gatehouse", "127.0.0.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t, func(cfg *Config) {
				cfg.Store.Postgres.ConnectionFile = write(t, filepath.Join(t.TempDir(), "connection"), test.text)
			})
			err := Run(t.Context(), cfg, discard(), func(Addresses) error { return nil })
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), secret) {
				t.Errorf("got error %v, want %q and no secret", err, test.want)
			}
		})
	}
}
