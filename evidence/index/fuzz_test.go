package index

import (
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-dev/gatehouse/signature"
)

// FuzzProvenance: whatever a signed predicate holds, what is read of it is bounded, and
// no source is told that is not among the materials.
func FuzzProvenance(f *testing.F) {
	f.Add(provenanceV01, []byte(`{"builder":{"id":"b"},"recipe":{"type":"https://cloudbuild.googleapis.com/CloudBuildYaml@v0.1","definedInMaterial":"0","entryPoint":"x"},"materials":[{"uri":"https://h/r","digest":{"sha1":"1"}}]}`))
	f.Add(provenanceV02, []byte(`{"builder":{"id":"b"},"invocation":{"configSource":{"uri":"git+https://h/r@x","entryPoint":"x"}},"materials":[{"uri":"git+https://h/r"}]}`))
	f.Add(provenanceV1, []byte(`{"buildDefinition":{"externalParameters":{"workflow":{"repository":"https://h/r","path":"x"}},"resolvedDependencies":[{"uri":"git+https://h/r@x"}]},"runDetails":{"builder":{"id":"b"}}}`))
	f.Fuzz(func(t *testing.T, predicateType string, predicate []byte) {
		if provenanceReaders(predicateType) == nil {
			return
		}
		p, err := parseProvenance(signature.Statement{PredicateType: predicateType, Predicate: predicate})
		if err != nil {
			return
		}
		switch {
		case p.builder == "" || len(p.builder) > maxURI || len(p.source) > maxURI:
			t.Errorf("builder of %d bytes, source of %d", len(p.builder), len(p.source))
		case p.configBased && p.source == "":
			t.Error("built from a configuration in no source")
		}
		b, err := provenanceReaders(predicateType)(predicate)
		if err != nil {
			t.Fatal(err)
		}
		among := p.source == ""
		for _, m := range b.materials {
			among = among || repositoryOf(m.URI) == p.source
		}
		if !among {
			t.Errorf("source %q is none of the materials %v", p.source, b.materials)
		}
	})
}

// FuzzUpload: what is read as a time is one that RFC 3339 can write, and is read the
// same when it is written so.
func FuzzUpload(f *testing.F) {
	f.Add([]byte(`{"uploadTime":"2026-11-30T05:00:00Z"}`))
	f.Add([]byte(`{"uploadTime":"2026-11-30T05:00:00.123456789+02:00"}`))
	f.Fuzz(func(t *testing.T, predicate []byte) {
		at, err := parseUpload(predicate)
		if err != nil || at.Year() < 0 || at.Year() > 9999 { // at the edges in UTC
			return
		}
		again, err := parseUpload([]byte(`{"uploadTime":"` + at.Format(time.RFC3339Nano) + `"}`))
		if err != nil || !again.Equal(at) {
			t.Errorf("%s: %v, %v", predicate, again, err)
		}
	})
}

// FuzzProjectOf: a project is told of what can be the name of an occurrence alone.
func FuzzProjectOf(f *testing.F) {
	for _, name := range []string{"projects/p/occurrences/o", "projects/p/locations/l/occurrences/o", "projects/p/notes/n", "projects/p", "projects//occurrences/o", ""} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		p := projectOf(name)
		if p == "" {
			return
		}
		parts := strings.Split(name, "/")
		ok := (len(parts) == 4 && parts[2] == "occurrences" || len(parts) == 6 && parts[2] == "locations" && parts[4] == "occurrences") &&
			parts[0] == "projects" && p == "projects/"+parts[1] && parts[1] != "" && parts[len(parts)-1] != ""
		if !ok {
			t.Errorf("project of %q is %q", name, p)
		}
		if n := nameOf(name); n.project() != p || n.String() != name {
			t.Errorf("kept as %q in %q", n, n.project())
		}
	})
}
