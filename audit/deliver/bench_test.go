package deliver_test

import (
	"encoding/json"
	"testing"

	"github.com/gatehouse-dev/gatehouse/audit"
	"github.com/gatehouse-dev/gatehouse/audit/deliver"
	"github.com/gatehouse-dev/gatehouse/decide"
)

// BenchmarkParse reads a record of an image with two reasons.
func BenchmarkParse(b *testing.B) {
	d := decide.Decision{Verdict: decide.DENY, Summary: "not attested", Deciding: decide.Deciding{Policy: "shop", Rule: "default", PolicyVersion: "abc"}}
	reason := decide.Reason{Code: decide.CodeNotAttested, Attestor: "projects/shop/attestors/qa", Message: "Image registry.example/web denied by attestor projects/shop/attestors/qa: No attestations found", Next: "gatehouse explain"}
	d.Images = []decide.ImageDecision{{Image: "registry.example/web", Reasons: []decide.Reason{reason, reason}}}
	line, err := json.Marshal(audit.Record{ID: audit.NewID(), Event: "admission", Operation: "CREATE", Resource: "pods", Namespace: "shop", Name: "web", User: "alice", Decision: &d})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := deliver.Parse(deliver.Decisions, line); err != nil {
			b.Fatal(err)
		}
	}
}
