package index_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-dev/gatehouse/evidence"
	"github.com/gatehouse-dev/gatehouse/signature"
)

const (
	slsaV01 = "https://slsa.dev/provenance/v0.1"
	slsaV02 = "https://slsa.dev/provenance/v0.2"
	slsaV1  = "https://slsa.dev/provenance/v1"
)

// TestProvenance reads what builders write, in the forms that are in use, and shows
// which source is believed.
func TestProvenance(t *testing.T) {
	t.Parallel()
	const (
		cloudBuild = "https://cloudbuild.googleapis.com/GoogleHostedWorker"
		repo       = "https://github.com/org/app"
		commit     = `{"sha1":"01ce393d04eb6df2a7b2b3e95d4126e687afb7ae"}`
		tool       = `{"uri":"gcr.io/cloud-builders/docker@sha256:d048af25a6f8945fa77e3aa679e49a8f8a8011f0050aab0364034e58f445a434","digest":{"sha256":"d048af25a6f8945fa77e3aa679e49a8f8a8011f0050aab0364034e58f445a434"}}`
		task       = `{"uri":"oci://gcr.io/tekton/task","digest":{"sha256":"d048af25a6f8945fa77e3aa679e49a8f8a8011f0050aab0364034e58f445a434"}}`
	)
	v01 := func(recipe, materials string) string {
		return fmt.Sprintf(`{"builder":{"id":%q},"recipe":%s,"materials":[%s],"metadata":{"buildStartedOn":"2022-09-06T17:54:10Z"}}`, cloudBuild, recipe, materials)
	}
	v02 := func(source, materials string) string {
		return fmt.Sprintf(`{"builder":{"id":%q},"buildType":"x","invocation":{"configSource":%s},"materials":[%s]}`, cloudBuild, source, materials)
	}
	v1 := func(parameters, dependencies string) string {
		return fmt.Sprintf(`{"buildDefinition":{"buildType":"x","externalParameters":%s,"resolvedDependencies":[%s]},"runDetails":{"builder":{"id":%q}}}`, parameters, dependencies, cloudBuild)
	}
	git := func(uri string) string { return fmt.Sprintf(`{"uri":%q,"digest":%s}`, uri, commit) }
	const archive = `{"uri":"gs://bucket/source/1.tgz#1663616635134845","digest":{"sha256":"9c4e7e28bef5c9ffabea170a40bfb6e286e170100c0eb02d7e06c7dd8c2238e4"}}`

	for name, test := range map[string]struct {
		predicateType, predicate string
		source                   string
		configBased              bool
	}{
		"0.1 by Cloud Build of a repository": {slsaV01, v01(`{"type":"https://cloudbuild.googleapis.com/CloudBuildYaml@v0.1","entryPoint":"cloudbuild.yaml"}`, git(repo)), repo, true},
		"0.1 by Cloud Build of before":       {slsaV01, v01(`{"type":"https://cloudbuild.googleapis.com/GoogleHostedWorker@v0.2","entryPoint":"cloudbuild.yaml"}`, `{"uri":"`+repo+`/commit/fbbb98765e85ad464302dc5977968104d36e455e"}`), repo, true},
		"0.1 by Cloud Build of an archive":   {slsaV01, v01(`{"type":"https://cloudbuild.googleapis.com/CloudBuildSteps@v0.1","definedInMaterial":"-1"}`, archive), "gs://bucket/source/1.tgz", false},
		"0.1 with an index":                  {slsaV01, v01(`{"type":"x","definedInMaterial":1,"entryPoint":"build.sh"}`, git("git+https://github.com/org/lib")+","+git("git+"+repo+"@refs/heads/main")), repo, true},
		"0.1 with an index beyond":           {slsaV01, v01(`{"type":"x","definedInMaterial":2,"entryPoint":"build.sh"}`, git("git+https://github.com/org/lib")+","+git("git+"+repo)), "", false},
		"0.1 without one":                    {slsaV01, v01(`{"type":"x","entryPoint":"build.sh"}`, git("git+"+repo)), repo, false},
		"0.2 by GitHub":                      {slsaV02, v02(`{"uri":"git+`+repo+`@refs/tags/v1","digest":`+commit+`,"entryPoint":".github/workflows/release.yml"}`, git("git+"+repo+"@refs/tags/v1")), repo, true},
		"0.2 by Tekton":                      {slsaV02, v02(`{}`, task+","+git("git+"+repo+".git")), repo, false},
		"0.2 without a file":                 {slsaV02, v02(`{"uri":"git+`+repo+`"}`, git("git+"+repo)), repo, false},
		"0.2 of what was not fetched":        {slsaV02, v02(`{"uri":"git+`+repo+`","entryPoint":"x"}`, git("git+https://evil.test/org/app")), "", false},
		"0.2 of several":                     {slsaV02, v02(`{}`, git("git+"+repo)+","+git("git+https://github.com/org/lib")), "", false},
		"0.2 of an archive and a library":    {slsaV02, v02(`{}`, archive+","+git("git+"+repo)), "", false},
		"0.2 of nothing":                     {slsaV02, v02(`{}`, ""), "", false},
		"1 by Cloud Build":                   {slsaV1, v1(`{"buildConfigSource":{"path":"cloudbuild.yaml","ref":"refs/heads/main","repository":"git+`+repo+`"},"substitutions":{}}`, git("git+"+repo+"@refs/heads/main")+","+tool), repo, true},
		"1 by Cloud Build, another spelling": {slsaV1, v1(`{"buildConfigSource":{"path":"cloudbuild.yaml","repository":"`+repo+`"}}`, tool+","+git("git+"+repo+"@@refs/heads/main")), repo, true},
		"1 by GitHub":                        {slsaV1, v1(`{"workflow":{"ref":"refs/heads/main","repository":"`+repo+`","path":".github/workflows/release.yml"}}`, git("git+"+repo+"@refs/heads/main")), repo, true},
		"1 of what was not fetched":          {slsaV1, v1(`{"buildConfigSource":{"path":"cloudbuild.yaml","repository":"git+`+repo+`"}}`, git("git+"+repo+"-wrong@refs/heads/main")), "", false},
		"1 with a parameter alone":           {slsaV1, v1(`{"workflow":{"repository":"`+repo+`","path":"x"}}`, ""), "", false},
		"1 of steps in the request":          {slsaV1, v1(`{}`, git("git+"+repo)+","+tool), repo, false},
		"1 of a repository that looks alike": {slsaV1, v1(`{}`, git("git+"+repo+"/commit/evil")), repo + "/commit/evil", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSigner(t)
			body := inToto(test.predicateType, test.predicate, digest(1))
			env := sealed(t, s, signature.PayloadTypeInToto, body)
			for name, img := range map[string]evidence.Image{"build": listed(t, s, buildOf(digest(1), env)), "DSSE attestation": listed(t, s, dsse(digest(1), env))} {
				if len(img.Provenances) != 1 {
					t.Fatalf("as a %s: %+v", name, img)
				}
				p := img.Provenances[0]
				if p.Builder != cloudBuild || p.Source != test.source || p.ConfigBased != test.configBased || !bytes.Equal(p.Statement, body) {
					t.Errorf("as a %s: builder %q, source %q, config-based %t", name, p.Builder, p.Source, p.ConfigBased)
				}
			}
		})
	}
}

// TestProvenanceThatTellsNothing is signed, and refused.
func TestProvenanceThatTellsNothing(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	for name, tc := range map[string][2]string{
		"no builder":           {slsaV1, `{}`},
		"builder of no id":     {slsaV02, `{"builder":{}}`},
		"builder in a list":    {slsaV02, `{"builder":[{"id":"b"}]}`},
		"builder of 0.2 in 1":  {slsaV1, `{"builder":{"id":"b"}}`},
		"a long id":            {slsaV02, `{"builder":{"id":"` + strings.Repeat("b", 2049) + `"}}`},
		"a long source":        {slsaV02, `{"builder":{"id":"b"},"materials":[{"uri":"git+https://h/` + strings.Repeat("b", 2049) + `"}]}`},
		"an index that is not": {slsaV01, `{"builder":{"id":"b"},"recipe":{"definedInMaterial":"one"}}`},
		"too many materials":   {slsaV02, `{"builder":{"id":"b"},"materials":[` + strings.Repeat(`{},`, 4096) + `{}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			body := inToto(tc[0], tc[1], digest(1))
			refused(t, listed(t, s, dsse(digest(1), sealed(t, s, signature.PayloadTypeInToto, body))), "tells of no build")
		})
	}
}

// TestAnUnsignedBuildIsNoProvenance, and is no reason to complain: most builds are not
// signed.
func TestAnUnsignedBuildIsNoProvenance(t *testing.T) {
	t.Parallel()
	if img := listed(t, newSigner(t), buildOf(digest(1), nil)); facts(img)+len(img.Rejected) != 0 {
		t.Errorf("got %+v", img)
	}
}
