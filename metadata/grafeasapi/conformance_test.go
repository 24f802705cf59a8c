package grafeasapi_test

import (
	"path/filepath"
	"testing"

	"google.golang.org/grpc"

	postgreskit "github.com/gatehouse-dev/gatehouse/gatetest/postgres"
	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/grafeasapi"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
	"github.com/gatehouse-dev/gatehouse/metadata/metadatatest"
	"github.com/gatehouse-dev/gatehouse/metadata/postgres"
	"github.com/gatehouse-dev/gatehouse/metadata/sqlite"
)

// TestConformance runs the suite of whole services over gRPC, on each store.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(testing.TB) metadata.Store{
		"memory": func(testing.TB) metadata.Store { return memory.New() },
		"sqlite": func(t testing.TB) metadata.Store {
			s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "metadata.db"), sqlite.Options{})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		"postgres": func(t testing.TB) metadata.Store {
			s, err := postgres.Open(t.Context(), postgreskit.Database(t), postgres.Options{MaxConnections: 2})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			metadatatest.RunAPI(t, func(t testing.TB) grpc.ClientConnInterface {
				return startOn(t, open(t), nil, grafeasapi.Options{}).conn
			})
		})
	}
}
