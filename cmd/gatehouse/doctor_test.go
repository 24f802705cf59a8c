package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestADoctorWhoSawNothingDoesNotSayThatAllIsWell(t *testing.T) {
	t.Parallel()
	nowhere := filepath.Join(t.TempDir(), "kubeconfig")
	for args, want := range map[string]string{
		"--only store": "nothing was looked at",
		"--only api-server --kubeconfig " + nowhere:    "no such file",
		"--only webhook,store --kubeconfig " + nowhere: "nothing was looked at",
	} {
		var out strings.Builder
		if code := run(t.Context(), append([]string{"doctor"}, strings.Fields(args)...), nil, &out, &out); code != exitUnknown || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %d\n%s", args, code, out.String())
		}
	}
}
