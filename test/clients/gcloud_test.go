package clients

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// gcloudTerms and gcloudAnd join as gcloud joins: each term in parentheses.
func gcloudTerms(field string, values ...string) string {
	var terms []string
	for _, v := range values {
		terms = append(terms, fmt.Sprintf(`(%s = "%s")`, field, v))
	}
	return strings.Join(terms, " OR ")
}

func gcloudAnd(filters ...string) string {
	var terms []string
	for _, f := range filters {
		if f != "" {
			terms = append(terms, "("+f+")")
		}
	}
	return strings.Join(terms, " AND ")
}

// gcloudPrefixes asks for a repository with and without the scheme.
func gcloudPrefixes(repository string) string {
	return fmt.Sprintf(`has_prefix(resourceUrl, "https://%s@") OR has_prefix(resourceUrl, "%s@")`, repository, repository)
}

const gcloudRepository = "europe-docker.pkg.dev/shop/images/web"

func gcloudDigest(n int) string { return fmt.Sprintf("sha256:%064x", n) }

// gcloudList asks as gcloud's library asks, 1000 at a time, and returns resource
// and kind of each occurrence.
func gcloudList(t *testing.T, g *gatehouse, version, filter string) []string {
	t.Helper()
	var found []string
	for token := ""; ; {
		query := url.Values{"alt": {"json"}, "filter": {filter}, "pageSize": {"1000"}}
		if token != "" {
			query.Set("pageToken", token)
		}
		var page struct {
			Occurrences []struct {
				Kind        string
				ResourceURI string
				Resource    struct{ URI string }
			}
			NextPageToken string
		}
		if err := json.Unmarshal(g.send(t, "GET", "/"+version+"/projects/shop/occurrences?"+query.Encode(), "", 200), &page); err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Occurrences {
			found = append(found, o.Kind+" "+o.ResourceURI+o.Resource.URI)
		}
		if token = page.NextPageToken; token == "" {
			slices.Sort(found)
			return found
		}
	}
}

func TestGcloudFilters(t *testing.T) {
	t.Parallel()
	g := start(t)
	kinds := map[string]int{"VULNERABILITY": 0, "BUILD": 1, "IMAGE": 2, "PACKAGE": 3, "DEPLOYMENT": 4, "DISCOVERY": 5, "SBOM_REFERENCE": 11}
	repositories := []string{"https://" + gcloudRepository, gcloudRepository, "https://" + gcloudRepository + "-other", "https://www.googleapis.com/compute/projects/shop/zones/z/instances/i"}
	var all []string // of gcloudRepository, with and without the scheme
	for kind, i := range kinds {
		g.send(t, "POST", "/v1/projects/shop/notes?noteId="+strings.ToLower(kind), "{"+v1Kinds[i].note+"}", 200)
		var batch []string
		for r, repository := range repositories {
			for n := range 8 {
				uri := repository + "@" + gcloudDigest(n)
				if r < 2 {
					all = append(all, kind+" "+uri)
				}
				batch = append(batch, fmt.Sprintf(`{"resourceUri": %q, "noteName": "projects/shop/notes/%s", %s}`, uri, strings.ToLower(kind), v1Kinds[i].details))
			}
		}
		g.send(t, "POST", "/v1/projects/shop/occurrences:batchCreate", `{"occurrences": [`+strings.Join(batch, ",")+`]}`, 200)
	}
	// A resource is the same with and without the scheme.
	pick := func(keep func(kind, image string) bool) []string {
		var want []string
		for _, o := range all {
			if kind, uri, _ := strings.Cut(o, " "); keep(kind, strings.TrimPrefix(uri, "https://")) {
				want = append(want, o)
			}
		}
		slices.Sort(want)
		return want
	}
	byDefault := []string{"BUILD", "IMAGE", "DISCOVERY", "SBOM_REFERENCE"}
	var six, sixURLs []string
	for n := range 6 {
		six = append(six, gcloudRepository+"@"+gcloudDigest(n))
		sixURLs = append(sixURLs, "https://"+six[n])
	}
	for name, test := range map[string]struct {
		filter string
		want   []string
	}{
		"a repository, by default": {
			gcloudAnd(gcloudPrefixes(gcloudRepository), gcloudTerms("kind", byDefault...)),
			pick(func(kind, _ string) bool { return slices.Contains(byDefault, kind) }),
		},
		"a repository, of all kinds": {gcloudAnd(gcloudPrefixes(gcloudRepository)), pick(func(string, string) bool { return true })},
		"six images at a time": {
			gcloudAnd(gcloudAnd(gcloudPrefixes(gcloudRepository), gcloudTerms("kind", byDefault...)), gcloudTerms("resourceUrl", sixURLs...)),
			pick(func(kind, image string) bool {
				return slices.Contains(byDefault, kind) && slices.Contains(six, image)
			}),
		},
		"an image, both spellings": {
			gcloudAnd(gcloudTerms("kind", "VULNERABILITY", "DISCOVERY"), gcloudTerms("resourceUrl", sixURLs[3], six[3])),
			pick(func(kind, image string) bool {
				return (kind == "VULNERABILITY" || kind == "DISCOVERY") && image == six[3]
			}),
		},
		"a filter of the user's": {
			gcloudAnd(gcloudPrefixes(gcloudRepository), `createTime>"2019-04-10T00:00:00Z"`, gcloudTerms("kind", "BUILD")),
			pick(func(kind, _ string) bool { return kind == "BUILD" }),
		},
		"an image of old": {
			`resource_url = "` + sixURLs[0] + `"`,
			pick(func(_, image string) bool { return image == six[0] }),
		},
		"vulnerabilities of machines, of old": {
			`kind = "PACKAGE_VULNERABILITY" AND has_prefix(resource_url,"https://www.googleapis.com/compute/")`, machines("VULNERABILITY", repositories[3]),
		},
		"packages of a machine, of old": {
			`kind = "PACKAGE_MANAGER" AND has_prefix(resource_url, "https://www.googleapis.com/compute/projects/shop/zones/")`, machines("PACKAGE", repositories[3]),
		},
		"packages that are depended on": {
			gcloudAnd(`dependencyPackageName="p"`, gcloudTerms("resourceUrl", sixURLs[1])),
			pick(func(kind, image string) bool { return kind == "PACKAGE" && image == six[1] }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			if len(test.want) == 0 {
				t.Fatal("the test expects nothing")
			}
			for _, version := range []string{"v1", "v1beta1"} {
				if diff := cmp.Diff(test.want, gcloudList(t, g, version, test.filter)); diff != "" {
					t.Errorf("%s, filter %s (-want +got):\n%s", version, test.filter, diff)
				}
			}
		})
	}
	t.Run("the summary of an image", func(t *testing.T) {
		query := url.Values{"alt": {"json"}, "filter": {gcloudTerms("resourceUrl", sixURLs[0])}}
		for _, version := range []string{"v1", "v1beta1"} {
			text := string(g.send(t, "GET", "/"+version+"/projects/shop/occurrences:vulnerabilitySummary?"+query.Encode(), "", 200))
			if !strings.Contains(text, `"severity":"HIGH"`) || !strings.Contains(text, `"totalCount":"2"`) || strings.Contains(text, six[1]) {
				t.Errorf("%s: %s", version, text)
			}
		}
	})
}

// machines are the eight that the test has made.
func machines(kind, repository string) []string {
	var want []string
	for n := range 8 {
		want = append(want, kind+" "+repository+"@"+gcloudDigest(n))
	}
	return want
}
