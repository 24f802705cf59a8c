package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestTheReferenceConfigurationIsWhatTheCodeDoes(t *testing.T) {
	t.Parallel()
	var got Config
	if err := got.LoadFile("../docs/gatehouse.yaml"); err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	want.Data = "/var/lib/gatehouse"
	if diff := cmp.Diff(got, want, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
}

func TestConfigurationThatIsRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"unknown field":     {"data: d\nadmision: {}\n", "line 2"},
		"wrong case":        {"Data: d\n", "field Data not found"},
		"duplicate field":   {"data: d\ndata: e\n", "line 2"},
		"wrong type":        {"data: [d]\n", "line 1"},
		"two documents":     {"data: d\n---\ndata: e\n", "more than one"},
		"no data":           {"project: p\n", "--data"},
		"open listener":     {"data: d\nmetadata: {address: \"0.0.0.0:8080\"}\n", "not on loopback"},
		"every address":     {"data: d\nops: {address: \":9090\"}\n", "not on loopback"},
		"no port":           {"data: d\nops: {address: localhost}\n", "HOST:PORT"},
		"project with /":    {"data: d\nproject: projects/p\n", "project id"},
		"cluster":           {"data: d\ncluster: prod\n", "LOCATION.NAME"},
		"templates":         {"data: d\nadmission: {templates: ignore}\n", "templates"},
		"key without cert":  {"data: d\nadmission: {keyFile: k}\n", "both or neither"},
		"several at a time": {"project: p/q\ncluster: prod\n", "LOCATION.NAME"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "gatehouse.yaml")
			if err := os.WriteFile(file, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg := DefaultConfig()
			err := cfg.LoadFile(file)
			if err == nil {
				err = cfg.Validate()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q in it", err, tc.want)
			}
		})
	}
}
