package memory_test

import (
	"testing"

	"github.com/gatehouse-dev/gatehouse/metadata"
	"github.com/gatehouse-dev/gatehouse/metadata/memory"
	"github.com/gatehouse-dev/gatehouse/metadata/metadatatest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	metadatatest.Run(t, func(testing.TB) metadata.Store { return memory.New() })
}
