package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/metadatatest"
	"github.com/gatehouse-dev/gatehouse/metadata/sqlite"
)

func open(t testing.TB, dir string) metadata.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(dir, "metadata.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	t.Parallel()
	metadatatest.Run(t, func(t testing.TB) metadata.Store { return open(t, t.TempDir()) })
	metadatatest.RunDurable(t, open)
}
