package postgres_test

import (
	"testing"

	kit "github.com/gatehouse-dev/gatehouse/gatetest/postgres"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/metadatatest"
	"github.com/gatehouse-dev/gatehouse/metadata/postgres"
)

func open(t testing.TB, connString string, opts postgres.Options) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), connString, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	t.Parallel()
	metadatatest.Run(t, func(t testing.TB) metadata.Store {
		return open(t, kit.Database(t), postgres.Options{})
	})
	// A database has no folder: each folder of the suite stands for one.
	databases := map[string]string{}
	metadatatest.RunDurable(t, func(t testing.TB, dir string) metadata.Store {
		if databases[dir] == "" {
			databases[dir] = kit.Database(t)
		}
		return open(t, databases[dir], postgres.Options{})
	})
}
