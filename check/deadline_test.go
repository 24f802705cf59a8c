package check_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	grafeas "google.golang.org/genproto/googleapis/grafeas/v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gatehouse-dev/gatehouse/attest/attesttest"
	"github.com/gatehouse-dev/gatehouse/check"
	"github.com/gatehouse-dev/gatehouse/check/age"
	"github.com/gatehouse-dev/gatehouse/check/approved"
	"github.com/gatehouse-dev/gatehouse/check/base"
	"github.com/gatehouse-dev/gatehouse/check/builds"
	"github.com/gatehouse-dev/gatehouse/check/cel"
	"github.com/gatehouse-dev/gatehouse/check/checktest"
	"github.com/gatehouse-dev/gatehouse/check/diy"
	"github.com/gatehouse-dev/gatehouse/check/hosts"
	"github.com/gatehouse-dev/gatehouse/check/hosts/github"
	"github.com/gatehouse-dev/gatehouse/check/hosts/gitlab"
	"github.com/gatehouse-dev/gatehouse/check/nobody"
	"github.com/gatehouse-dev/gatehouse/check/org"
	"github.com/gatehouse-dev/gatehouse/check/provenance"
	"github.com/gatehouse-dev/gatehouse/check/sbom"
	"github.com/gatehouse-dev/gatehouse/check/snakeoil"
	"github.com/gatehouse-dev/gatehouse/image/resolve"
)

// hung is a server that accepts requests and never answers.
func hung(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(s.Close)
	return s
}

// made returns a check, which must have been made.
func made(t *testing.T) func(check.Check, error) check.Check {
	return func(c check.Check, err error) check.Check {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}

// TestB12_WhateverHangsIsNamedInTime: a check that waits for something that does not
// answer ends with the request, and says what that was.
func TestB12_WhateverHangsIsNamedInTime(t *testing.T) {
	t.Parallel()
	registry, git := hung(t), hung(t)
	host := strings.TrimPrefix(registry.URL, "http://")
	ref := mustParse(t, host+"/team/app@"+digest)
	gh, err := github.New("github.com", git.URL, github.Auth{})
	if err != nil {
		t.Fatal(err)
	}
	gl, err := gitlab.New("gitlab.com", git.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	set := hosts.Set{{Alias: "us", Host: "github.com", Path: "my-org", Of: gh}, {Alias: "lab", Host: "gitlab.com", Path: "my-org", Of: gl}}

	// Metadata that is there, and metadata of a server that hangs.
	from := func(url string) check.Metadata {
		o := checktest.Build(url, checktest.Commit)
		o.GetBuild().GetProvenance().BuiltArtifacts[0].Checksum = digest
		o.GetBuild().GetProvenance().EndTime = timestamppb.Now()
		scanning := &grafeas.Occurrence{NoteName: "projects/p/notes/scanner-9", Kind: grafeas.NoteKind_DISCOVERY,
			Details: &grafeas.Occurrence_Discovery{Discovery: &grafeas.DiscoveryOccurrence{AnalysisStatus: grafeas.DiscoveryOccurrence_SCANNING}}}
		return &checktest.Metadata{List: []*grafeas.Occurrence{o, scanning}, Notes: map[string]*grafeas.Note{
			"projects/p/notes/scanner-9": {Type: &grafeas.Note_Discovery{Discovery: &grafeas.DiscoveryNote{AnalysisKind: grafeas.NoteKind_VULNERABILITY}}},
		}}
	}
	silent, err := check.NewGrafeas(&attesttest.Store{Fail: func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }}, "p-silent")
	if err != nil {
		t.Fatal(err)
	}
	must := made(t)
	const mute = `in project "p-silent": the metadata server did not answer in time`
	slow := "registry " + host + " did not answer in time"
	for about, row := range map[string]struct {
		c    check.Check
		m    check.Metadata
		want string
	}{
		"diy, the registry":        {must(diy.New(diy.Settings{ValidRepos: []string{host}})), from(""), slow},
		"nobody, the registry":     {nobody.New(nobody.Settings{}), from(""), slow},
		"sbom, the registry":       {sbom.New(sbom.Settings{}), from(""), slow},
		"base, the registry":       {must(base.New(base.Settings{Allowed: []string{host}})), from(""), slow},
		"cel, the registry":        {must(cel.New(cel.Settings{Name: "x", Expression: `config.user != ""`})), from(""), slow},
		"cel, the metadata":        {must(cel.New(cel.Settings{Name: "x", Expression: `size(builds) > 0`})), silent, mute},
		"provenance, the metadata": {must(provenance.New(provenance.Settings{Builders: []string{"b"}})), silent, mute},
		"age, the metadata":        {must(age.New(age.Settings{MaxBuild: time.Hour})), silent, mute},
		"snakeoil, the metadata":   {must(snakeoil.New(snakeoil.Settings{Fixable: snakeoil.High, Unfixable: snakeoil.High})), silent, mute},
		"snakeoil, the scanner":    {must(snakeoil.New(snakeoil.Settings{Fixable: snakeoil.High, Unfixable: snakeoil.High})), from(""), `scan "projects/p/notes/scanner-9" is SCANNING`},
		"approved, GitHub":         {must(approved.New(approved.Settings{Hosts: set})), from("https://github.com/my-org/app"), "asking github.com about github.com/my-org/app: it did not answer in time"},
		"approved, GitLab":         {must(approved.New(approved.Settings{Hosts: set})), from("https://gitlab.com/my-org/app"), "asking gitlab.com about gitlab.com/my-org/app: it did not answer in time"},
		"is_us, GitHub":            {must(org.New(set[0], builds.Reader{})), from("https://github.com/my-org/app"), "asking github.com about github.com/my-org/app: it did not answer in time"},
		"is_lab, GitLab":           {must(org.New(set[1], builds.Reader{})), from("https://gitlab.com/my-org/app"), "asking gitlab.com about gitlab.com/my-org/app: it did not answer in time"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			// The grace is so long that a check which has to be left behind is one that
			// does not listen.
			runner := check.Runner{Grace: 10 * time.Second}
			got := runner.Run(ctx, &check.Input{Image: ref, Registry: resolve.New(), Metadata: row.m}, []check.Check{row.c})[0]
			text := got.Result.Reason()
			if got.Err != nil {
				text = got.Err.Error()
			}
			if got.Result.Passed() || !strings.Contains(text, row.want) {
				t.Errorf("it says %q, want %q in it", text, row.want)
			}
			if got.Elapsed > 5*time.Second {
				t.Errorf("it took %v", got.Elapsed)
			}
		})
	}
}
