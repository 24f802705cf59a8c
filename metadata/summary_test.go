package metadata_test

import (
	"testing"

	"google.golang.org/genproto/googleapis/grafeas/v1"

	"github.com/gatehouse-dev/gatehouse/metadata"
)

func TestFindsVulnerabilities(t *testing.T) {
	for kind, want := range map[grafeas.NoteKind]bool{
		grafeas.NoteKind_VULNERABILITY: true, grafeas.NoteKind_DISCOVERY: true,
		grafeas.NoteKind_NOTE_KIND_UNSPECIFIED: false, grafeas.NoteKind_SECRET: false, grafeas.NoteKind_SBOM_REFERENCE: false,
		grafeas.NoteKind_PACKAGE: false, metadata.KindSBOM: false, metadata.KindAISkillAnalysis: false, 99: false,
	} {
		n := &grafeas.Note{Type: &grafeas.Note_Discovery{Discovery: &grafeas.DiscoveryNote{AnalysisKind: kind}}}
		if got := metadata.FindsVulnerabilities(n); got != want {
			t.Errorf("kind %s: %t", kind, got)
		}
	}
	if metadata.FindsVulnerabilities(&grafeas.Note{Type: &grafeas.Note_Vulnerability{}}) || metadata.FindsVulnerabilities(nil) {
		t.Error("a note that is of no discovery counts")
	}
}
